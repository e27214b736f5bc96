"""What bounding one block of boxes has established so far."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bounds.ball import BoundBall
from bounds.kernels.base import Kernels
from bounds.plan import Plan
from bounds.relax.base import Relaxation
from bounds.relax.relu import ReluRelaxation

if TYPE_CHECKING:
    from bounds.methods.edge_slopes import EdgeLines
    from bounds.methods.row_choices import RowChoices


class Stopped(Exception):
    """Bounding was abandoned because ``should_stop`` said so; nothing was concluded."""


@dataclass(slots=True)
class Tape:
    """Bounds of a block of ``D`` boxes.

    Attributes:
        centre, radius: ``D d``, a ball around each box in working precision.
        reach: ``d``, the largest |x| in any box of the block.
        relaxations: one per nonlinear step, as far as the pass has come.
        error: per slot of a step the vector e (``n``): a row ``a`` at that slot pays ``|a| . e``
            for all rounding between this slot and its operands (own, and the network's when asked).
            Rectifiers have none.
        magnitude: per slot with several readers, or between two nonlinear steps, the largest |value|
            (``n``): sums and products of rows there pay ``u |a| . magnitude``.
        eta: cost of underflows in one backward pass.
        outputs: per output slot ``(lo, hi)``.
        ends: ``D d`` twice, the boxes' ends in working precision, rounded outwards.
        columns: the inputs that forms have columns for (int64; none without a forward pass).
        ball: where given, every point of interest lies in this ball as well as in its box.
        rows: parameters of rows of intermediate bounds, where they were improved and are to be kept.
        edges: by index of a rectifier upper lines with a slope for every edge, of some elements on some
            boxes.
        should_stop: polled at every step of a backward pass, which then raises :class:`Stopped`.
    """

    plan: Plan
    centre: Any
    radius: Any
    reach: Any
    relaxations: list[Relaxation] = field(default_factory=list[Relaxation])
    error: dict[int, Any] = field(default_factory=dict[int, Any])
    magnitude: dict[int, Any] = field(default_factory=dict[int, Any])
    eta: Any = 0.0
    outputs: dict[int, tuple[Any, Any]] = field(default_factory=dict[int, tuple[Any, Any]])
    refined_rows: int = 0  # those that would have cost too much included
    refined_work: float = 0.0  # multiply-adds of all these rows, once
    columns: Any = ()
    ends: tuple[Any, Any] = ()  # type: ignore[assignment]
    known_reaches: dict[int, Any] = field(default_factory=dict[int, Any])
    ball: BoundBall | None = None
    rows: RowChoices | None = None
    edges: dict[int, EdgeLines] = field(default_factory=dict[int, "EdgeLines"])
    should_stop: Callable[[], bool] = lambda: False

    @property
    def kernels(self) -> Kernels:
        """Backend and precision."""
        return self.plan.kernels

    @property
    def reaches(self) -> dict[int, Any]:
        """Per slot that is an operand the largest |value| in any box (``n``); for tapes that are complete."""
        if self.known_reaches:
            return self.known_reaches
        k, found = self.kernels, self.known_reaches
        for step, relaxation in zip(self.plan.nonlinear, self.relaxations, strict=False):
            for slot, (lo, hi) in zip(step.sources, relaxation.intervals, strict=True):
                reach = k.max0(k.maximum(abs(lo), abs(hi)))
                found[slot] = reach if slot not in found else k.maximum(reach, found[slot])
        return found

    @property
    def relus(self) -> list[ReluRelaxation]:
        """The rectifiers' relaxations, in order."""
        return [r for r in self.relaxations if isinstance(r, ReluRelaxation)]

    def __len__(self) -> int:
        return len(self.centre)
