"""What bounding one block of boxes has established so far."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from bounds.ball import BoundBall
from bounds.kernels.base import Kernels
from bounds.plan import Plan


@dataclass(slots=True)
class ReluRelaxation:
    """The relaxation of one rectifier on every box of a block.

    ``lower z <= relu(z) <= upper z + offset`` on ``[lo, hi]``; all arrays ``D n``. ``ambiguous`` marks
    ``lo < 0 < hi``; elsewhere both lines are the function itself. ``spread`` (``D d n``, optional) is the
    absolute sensitivity of z to each input over the box, from the forward pass. ``refined`` (``D n``
    bool) marks elements of z that were bounded backwards.
    """

    lo: Any
    hi: Any
    lower: Any
    upper: Any
    offset: Any
    ambiguous: Any
    spread: Any = None
    refined: Any = None


class Stopped(Exception):
    """Bounding was abandoned because ``should_stop`` said so; nothing was concluded."""


@dataclass(slots=True)
class Tape:
    """Bounds of a block of ``D`` boxes.

    Attributes:
        centre, radius: ``D d``, a ball around each box in working precision.
        reach: ``d``, the largest |x| in any box of the block.
        relus: one relaxation per rectifier, as far as the pass has come.
        error: per slot of an affine step the vector e (``n``): a row ``a`` at that slot pays ``|a| . e``
            for all rounding between this slot and its operands (own, and the network's when asked).
        magnitude: per slot with several readers the largest |value| (``n``): sums of rows there pay
            ``u |a| . magnitude``.
        eta: cost of underflows in one backward pass.
        outputs: per output slot ``(lo, hi)``.
        ball: where given, every point of interest lies in this ball as well as in its box.
        should_stop: polled at every step of a backward pass, which then raises :class:`Stopped`.
    """

    plan: Plan
    centre: Any
    radius: Any
    reach: Any
    relus: list[ReluRelaxation] = field(default_factory=list[ReluRelaxation])
    error: dict[int, Any] = field(default_factory=dict[int, Any])
    magnitude: dict[int, Any] = field(default_factory=dict[int, Any])
    eta: Any = 0.0
    outputs: dict[int, tuple[Any, Any]] = field(default_factory=dict[int, tuple[Any, Any]])
    refined_rows: int = 0
    ball: BoundBall | None = None
    should_stop: Callable[[], bool] = lambda: False

    @property
    def kernels(self) -> Kernels:
        """Backend and precision."""
        return self.plan.kernels

    def __len__(self) -> int:
        return len(self.centre)
