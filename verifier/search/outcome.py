"""How the search of one case ended, and who watches it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bounds.methods.bounder import Effort
from bounds.methods.operand_bounder import OperandBounder
from bounds.methods.tape import Tape
from verifier.conclude import Sat
from verifier.search.frontier import Frontier
from verifier.verdict import UnknownReason

Watch = Callable[[int, int, float, float | None], None]
"""Called with (bounded, open, closed fraction, worst bound) after every block."""


@dataclass(slots=True)
class Left:
    """What a search has open: between two blocks, all there is to go on from.

    Attributes:
        levels: the open subproblems; one level where inputs are split.
        block: size of the next block; effort: what boxes below the root get (None: the root's).
        root: bounds of the whole box, for those who explain.
        bounder, anchor_node: where operands are split, and the node whose intermediate bounds are inherited.
    """

    levels: list[Frontier[Any]]
    block: int = 1
    effort: Effort | None = None
    root: Tape | None = None
    bounder: OperandBounder | None = None
    anchor_node: int = -1


@dataclass(slots=True)
class Outcome:
    """How the search of one case ended: ``sat`` set, or ``reason`` set, or everything settled.

    Attributes:
        sat: a concluded violation.
        reason: why it stopped with subproblems open.
        bounded: subproblems bounded; leaves: of these settled.
        closed: fraction of the box proved.
        worst: least lower bound still open.
        left: what is open, None before the search has begun.
    """

    sat: Sat | None = None
    reason: UnknownReason = UnknownReason.NONE
    bounded: int = 0
    leaves: int = 0
    closed: float = 0.0
    worst: float | None = None
    left: Left | None = None


def combined(a: Outcome, b: Outcome) -> Outcome:
    """How the searches of two sets of cases ended together."""
    worst = [w for w in (a.worst, b.worst) if w is not None]
    return Outcome(
        sat=a.sat or b.sat,
        # the first reason stands: a later case that was settled does not settle an earlier one
        reason=a.reason if a.reason is not UnknownReason.NONE else b.reason,
        bounded=a.bounded + b.bounded,
        leaves=a.leaves + b.leaves,
        closed=a.closed + b.closed,
        worst=min(worst) if worst else None,
    )


def worse(a: float | None, b: float | None) -> bool:
    """Whether a bound is below another; none at all is the worst."""
    return b is not None and (a is None or a < b)
