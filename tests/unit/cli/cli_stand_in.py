"""A stand-in for the engine: the command line is tested without any search."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from verifier.report.model import Report, Stats
from verifier.verdict import Semantics, Status, UnknownReason, Witness

VNNLIB1 = """(declare-const X_0 Real)
(declare-const X_1 Real)
(declare-const Y_0 Real)
(assert (>= X_0 0)) (assert (<= X_0 1))
(assert (>= X_1 -1)) (assert (<= X_1 1))
(assert (>= Y_0 0.5))
"""

UNSAT = Report(
    Status.UNSAT,
    UnknownReason.NONE,
    Semantics.REAL,
    None,
    Stats(domains=7, leaves=4, seconds=0.25, phases={"load": 0.05, "search": 0.2}),
    lower_bound=0.125,
    closed_fraction=1.0,
    input_names=("X_0", "X_1"),
    output_names=("Y_0",),
    strategy="input splits",
    version="0.1.0",
)
SAT = dataclasses.replace(
    UNSAT,
    status=Status.SAT,
    closed_fraction=0.0,
    lower_bound=None,
    witness=Witness(
        (Fraction(1, 2), Fraction(float.fromhex("0x1.99999ap-4"))),  # 0.5 and the float32 nearest to 0.1
        (Fraction(3, 4),),
        0,
        0,
        "replayed",
        (("onnxruntime", "1.20"),),
    ),
)
TIMED_OUT = dataclasses.replace(
    UNSAT, status=Status.TIMED_OUT, reason=UnknownReason.TIMEOUT, closed_fraction=0.5, lower_bound=-0.25
)


@dataclass
class Engine:
    """What the stand-in answers, and what it was asked."""

    answer: Report | Exception = UNSAT
    calls: list[dict[str, Any]] = field(default_factory=list)

    def verify(self, model: Any, property: Any, **rest: Any) -> Report:
        """Takes the place of ``verifier.api.verify``."""
        self.calls.append({"model": model, "property": property, **rest})
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer
