"""What every method returns, in one type."""

from __future__ import annotations

from dataclasses import dataclass, field

from bounds.graph import Array


@dataclass(frozen=True, slots=True)
class Certified:
    """One proved problem: a row's, or the whole output's.

    Attributes:
        upper: the proved bound.
        multipliers: one positive vector per step (none for the norm product).
        weights: ``outputs`` weights of the squared output differences.
        diagonal: for L-infinity inputs what was proved to dominate, up to scale.
    """

    upper: float
    multipliers: tuple[Array, ...] = ()
    weights: Array | None = None
    diagonal: Array | None = None


@dataclass(frozen=True, slots=True)
class LipschitzBound:
    """A Lipschitz constant from both sides.

    Attributes:
        upper: a proved bound: ``|f(x) - f(y)| <= upper |x - y|`` over the reals for every x, y (of the region).
        lower: the largest Jacobian norm found (0 if not asked for).
        method: what found the multipliers.
        seconds: time taken, the lower bound excluded.
        certified: whether ``upper`` is proved with all rounding paid for (always, where one is returned).
        norm, output_norm: "1", "2" or "inf".
        rows: per problem (one, or one per output row) what was proved.
        elements: nonlinear elements.
        local: whether the bound is for a region.
        notes: remarks for people.
    """

    upper: float
    lower: float
    method: str
    seconds: float
    certified: bool
    norm: str
    output_norm: str
    rows: tuple[Certified, ...]
    elements: int
    local: bool = False
    notes: tuple[str, ...] = field(default=())

    @property
    def multipliers(self) -> tuple[tuple[Array, ...], ...]:
        """The multipliers of every problem."""
        return tuple(row.multipliers for row in self.rows)

    @property
    def ratio(self) -> float:
        """Upper over lower: 1 is exact."""
        return self.upper / self.lower if self.lower > 0 else float("inf")
