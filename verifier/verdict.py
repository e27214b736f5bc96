"""Verdicts: three values, the reason when unknown, and the two places that may build the sure ones.

``unsat`` and ``sat`` live in :mod:`verifier.conclude`; nothing else constructs them.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from fractions import Fraction


class Semantics(enum.Enum):
    """What an ``unsat`` is a statement about (docs/explanation/soundness.md)."""

    REAL = "real"
    FLOAT32 = "float32"


class Status(enum.Enum):
    """The word on the first line of standard output."""

    SAT = "sat"
    UNSAT = "unsat"
    UNKNOWN = "unknown"
    TIMED_OUT = "timed-out"


class UnknownReason(enum.Enum):
    """Why nothing was decided; the value is a sentence for a user."""

    NONE = ""
    TIMEOUT = "the time limit was reached; raise --timeout"
    DOMAINS = "the domain limit was reached; raise --max-domains"
    MEMORY = "the memory limit was reached; raise --memory"
    CANCELLED = "the run was cancelled"
    UNBOUNDED = "some inputs have no bounds: only counterexamples were looked for; bound every input"
    ROUNDING = "the float32 rounding of some operators is not modelled; ask with --semantics real"
    PART = "this part of a search in shards is proved; all of its parts together decide"
    PRECISION = "the open regions are too small for floating-point splitting"


@dataclass(frozen=True, slots=True)
class Witness:
    """A violating input, confirmed.

    Attributes:
        x: exact flat input values, inside the property's box without tolerance.
        y: exact flat outputs as recomputed by onnxruntime at ``float32`` x (the printed ones).
        case, disjunct: which part of the property it violates.
        kind: "replayed" (onnxruntime's own outputs violate it) or "rigorous" (the exact outputs
            over the reals violate it; onnxruntime's rounding hides it, or the box holds no float32
            point).
        versions: name -> version of what confirmed it.
    """

    x: tuple[Fraction, ...]
    y: tuple[Fraction, ...]
    case: int
    disjunct: int
    kind: str
    versions: tuple[tuple[str, str], ...]
