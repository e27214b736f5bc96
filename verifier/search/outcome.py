"""How the search of one case ended, and who watches it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from verifier.conclude import Sat
from verifier.verdict import UnknownReason

Watch = Callable[[int, int, float, float | None], None]
"""Called with (bounded, open, closed fraction, worst bound) after every block."""


@dataclass(slots=True)
class Outcome:
    """How the search of one case ended: ``sat`` set, or ``reason`` set, or everything settled.

    Attributes:
        sat: a concluded violation.
        reason: why it stopped with subproblems open.
        bounded: subproblems bounded; leaves: of these settled.
        closed: fraction of the box proved.
        worst: least lower bound still open.
    """

    sat: Sat | None = None
    reason: UnknownReason = UnknownReason.NONE
    bounded: int = 0
    leaves: int = 0
    closed: float = 0.0
    worst: float | None = None
