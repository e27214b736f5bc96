"""The report of one query: values only. Emitters print it and compute nothing."""

from __future__ import annotations

from dataclasses import dataclass, field

from verifier.verdict import Semantics, Status, UnknownReason, Witness


@dataclass(frozen=True, slots=True)
class Stats:
    """Counters of a run; ``phases`` maps a phase name to seconds."""

    domains: int = 0
    leaves: int = 0
    settled_float64: int = 0
    settled_exact: int = 0
    seconds: float = 0.0
    phases: dict[str, float] = field(default_factory=dict[str, float])


@dataclass(frozen=True, slots=True)
class Range:
    """An input's range in a region."""

    name: str
    lower: float
    upper: float


@dataclass(frozen=True, slots=True)
class Region:
    """An open part of the search.

    Attributes:
        bound: its proved lower bound (positive would be proved), None when there is none.
        share: its share of the input volume, or of the tree of operand splits.
        case: input box of the property, from 0.
        ranges: the inputs that vary most in it.
        hidden: how many more inputs vary.
        splits: where operands were split, what holds in the region, in words.
    """

    bound: float | None
    share: float
    case: int
    ranges: tuple[Range, ...] = ()
    hidden: int = 0
    splits: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Sample:
    """How far a search was at a point in time (see :class:`verifier.report.progress.Progress`)."""

    seconds: float
    domains: int
    open: int
    closed_fraction: float
    lower_bound: float | None


@dataclass(frozen=True, slots=True)
class Cell:
    """A node of the search tree as a rectangle: left end and width are shares of the whole."""

    depth: int
    left: float
    width: float
    closed: bool
    split: bool


@dataclass(frozen=True, slots=True)
class Picture:
    """What a picture of a run shows: samples over time, rectangles of the tree, and how many nodes it has."""

    samples: tuple[Sample, ...]
    cells: tuple[Cell, ...]
    nodes: int


@dataclass(frozen=True, slots=True)
class Report:
    """What ``verifier.verify`` returns.

    Attributes:
        status, reason: the verdict and, when unknown, why.
        semantics: level of an ``unsat``.
        witness: for ``sat``.
        lower_bound: the worst proved lower bound over open leaves (positive would be proved), or None.
        closed_fraction: fraction proved so far, of the input volume or of the tree of operand splits (1.0
        for unsat).
        certificate: path of the certificate written, or "".
        model, property: paths as given; ``model_sha256``, ``property_sha256`` their digests.
        input_names, output_names: flat element names as the property writes them (X_0, Y_0, ...).
        strategy: one line for people: how the engine went about it.
        explanation: the same in several lines: why this strategy.
        hardest: the worst open part, when undecided.
        advice: what would help, when undecided; the most promising first.
        resumed: path of the checkpoint that the run began from, or "".
        checkpoint: path of the checkpoint that was left, or "".
        picture: if asked for.
        notes: remarks a user should read (e.g. "input set is empty").
    """

    status: Status
    reason: UnknownReason
    semantics: Semantics
    witness: Witness | None
    stats: Stats
    lower_bound: float | None = None
    closed_fraction: float = 0.0
    certificate: str = ""
    model: str = ""
    property: str = ""
    model_sha256: str = ""
    property_sha256: str = ""
    input_names: tuple[str, ...] = ()
    output_names: tuple[str, ...] = ()
    strategy: str = ""
    explanation: tuple[str, ...] = ()
    hardest: Region | None = None
    advice: tuple[str, ...] = ()
    resumed: str = ""
    checkpoint: str = ""
    picture: Picture | None = None
    notes: tuple[str, ...] = ()
    seed: int = 0
    version: str = ""
