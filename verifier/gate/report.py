"""The report of a gate run: values only. Emitters print it and compute nothing."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


class Outcome(enum.Enum):
    """What came of a requirement or of one question of it."""

    HOLDS = "holds"
    VIOLATED = "violated"
    INCONCLUSIVE = "inconclusive"
    ERROR = "error"


class Unknown(enum.Enum):
    """What an inconclusive requirement does to the exit code."""

    FAIL = "fail"
    WARN = "warn"
    PASS = "pass"  # noqa: S105 - no password


class GateExit(enum.IntEnum):
    """Exit codes of ``verify gate``; the worst of all requirements counts, errors first."""

    HOLDS = 0
    VIOLATED = 1
    ERROR = 2
    INCONCLUSIVE = 3


@dataclass(frozen=True, slots=True)
class Rule:
    """A kind of alert, by its stable id."""

    id: str
    name: str
    text: str
    level: str


RULES: Mapping[Outcome, Rule] = {
    Outcome.VIOLATED: Rule("SB001", "Violated", "A requirement is violated, which is confirmed", "error"),
    Outcome.INCONCLUSIVE: Rule("SB002", "Inconclusive", "It is neither proved nor refuted", "warning"),
    Outcome.ERROR: Rule("SB003", "Unusable", "A requirement could not be looked at", "error"),
}
CACHE_RULE = Rule(
    "SB004", "CertificateRejected", "A kept certificate does not prove what it is kept for", "warning"
)


@dataclass(frozen=True, slots=True)
class Counterexample:
    """A confirmed violating input.

    Attributes:
        question: which question it answers ("sample 17", a property file).
        inputs: flat, in the units of the data (network inputs where there is no data).
        original: the sample it was made from, or ().
        shape: of the input, () when it is flat.
        outputs: of the network, as onnxruntime computes them.
        label, winner: right and found output, -1 where that is no question.
        confirmed: how: "replayed" by onnxruntime, "rigorous" over the reals.
        certificate: file that ``verify check`` accepts, or "".
        text: the essence, one sentence.
    """

    question: str
    inputs: tuple[float, ...]
    original: tuple[float, ...]
    shape: tuple[int, ...]
    outputs: tuple[float, ...]
    label: int
    winner: int
    confirmed: str
    certificate: str
    text: str


@dataclass(frozen=True, slots=True)
class Question:
    """One question of a requirement, answered.

    Attributes:
        name: "sample 17", a property file, ...
        outcome: of this question.
        message: why it is undecided or unusable, "" otherwise.
        source: "proved", "cache" (its certificate was re-checked), "clean" (bounds at the point) or "".
        seconds: spent on it now. domains: subproblems bounded now.
        certificate: file, or "".
        file, line: where it is stated, if not where its requirement is.
    """

    name: str
    outcome: Outcome
    message: str = ""
    source: str = ""
    seconds: float = 0.0
    domains: int = 0
    certificate: str = ""
    file: str = ""
    line: int = 0


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """Certified accuracy at a radius: proved share, and what it can at most be."""

    radius: str
    value: float
    lower: float
    upper: float
    certified: int
    broken: int
    open: int


@dataclass(frozen=True, slots=True)
class ClassRow:
    """The samples of one label at the required radius; ``correct``: at the point itself."""

    label: int
    samples: int
    correct: int
    certified: int
    broken: int
    open: int


@dataclass(frozen=True, slots=True)
class HardSample:
    """A sample that is not certified at the required radius, the hardest first."""

    name: str
    label: int
    outcome: Outcome
    text: str


@dataclass(frozen=True, slots=True)
class Alert:
    """Something a person should look at.

    Attributes:
        rule: of the table above. level: "error", "warning" or "note", by the policy for unknowns.
        message: one sentence with the essence.
        file, line: in the repository, POSIX, relative to where the run was started.
        related: a second file (the network), or "".
        fingerprint: stays the same while the requirement keeps its id.
        requirement, question: whose it is.
    """

    rule: Rule
    level: str
    message: str
    file: str
    line: int
    related: str
    fingerprint: str
    requirement: str
    question: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """What came of one requirement.

    Attributes:
        id, kind, about: as stated. model: path of its network.
        file, line: where it is stated.
        required: what is required, one sentence.
        outcome: what came of it. message: what was found, one sentence.
        value, upper: the figure found (a proved bound of it) and what it can at most be; "" if none.
        seconds: spent on it.
        questions, counterexamples: see there; of many counterexamples the first few.
        curve, classes, hardest: for certified accuracy.
        notes: remarks.
        settings: what the figure depends on, for baselines. measured: the figures, exact, as text.
    """

    id: str
    kind: str
    about: str
    model: str
    file: str
    line: int
    required: str
    outcome: Outcome
    message: str
    value: str = ""
    upper: str = ""
    seconds: float = 0.0
    questions: tuple[Question, ...] = ()
    counterexamples: tuple[Counterexample, ...] = ()
    curve: tuple[CurvePoint, ...] = ()
    classes: tuple[ClassRow, ...] = ()
    hardest: tuple[HardSample, ...] = ()
    notes: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])
    measured: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def reused(self) -> int:
        """Questions answered by re-checked certificates."""
        return sum(q.source == "cache" for q in self.questions)


@dataclass(frozen=True, slots=True)
class ModelFact:
    """A network that requirements speak about."""

    name: str
    path: str
    sha256: str


@dataclass(frozen=True, slots=True)
class GateReport:
    """A whole run.

    Attributes:
        config: the file, as named.
        outcome: the worst of all requirements. exit_code: what the program ends with.
        unknown: the policy that made the exit code.
        findings, alerts, models: see there.
        reused: questions answered by re-checked certificates. proved: answered afresh.
        rejected: cached certificates that did not prove what they are kept for.
        seconds: in all. seed, version, versions: for repeating it.
        notes: remarks on the run as such.
    """

    config: str
    outcome: Outcome
    exit_code: GateExit
    unknown: Unknown
    findings: tuple[Finding, ...]
    alerts: tuple[Alert, ...]
    models: tuple[ModelFact, ...]
    reused: int
    proved: int
    rejected: int
    seconds: float
    seed: int
    version: str
    versions: Mapping[str, str]
    notes: tuple[str, ...] = ()

    def count(self, outcome: Outcome) -> int:
        """Requirements with this outcome."""
        return sum(f.outcome is outcome for f in self.findings)
