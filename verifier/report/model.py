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
    notes: tuple[str, ...] = ()
    seed: int = 0
    version: str = ""
