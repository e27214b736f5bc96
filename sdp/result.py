"""What every method returns, in one type."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from bounds.graph import Array, Graph
from sdp.chain import Chain
from sdp.prepare import Prepared
from sdp.region import Region


@dataclass(frozen=True, slots=True)
class Certified:
    """One proved problem: a row's, or the whole output's.

    Attributes:
        upper: the proved bound.
        multipliers: one positive vector per step (none for the norm product).
        weights: ``outputs`` weights of the squared output differences.
        diagonal: for L-infinity inputs what was proved to dominate, up to scale.
        claimed: what the method itself said, in plain floating point (NaN: nothing). Evidence of nothing.
    """

    upper: float
    multipliers: tuple[Array, ...] = ()
    weights: Array | None = None
    diagonal: Array | None = None
    claimed: float = float("nan")


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the elements of a chain are in the model's graph.

    Attributes:
        relus, scalars: sizes of the model's own rectifier and scalar nodes, in order.
        merged: rectifier (by number) that needs no multipliers -> the one it equals or opposes, and the sign.
        places: per step, per element: ("relus" or "scalars", number of the node, number of the element).
        products: the model multiplies tensors (a certificate has no place for that).
    """

    relus: tuple[int, ...]
    scalars: tuple[int, ...]
    merged: Mapping[int, tuple[int, int]]
    places: tuple[tuple[tuple[str, int, int], ...], ...]
    products: bool


def elements_of(graph: Graph, prepared: Prepared, chain: Chain) -> Layout:
    """The layout of a chain read from a graph."""
    numbers = {n.id: ("relus", i) for i, n in enumerate(graph.relus)}
    numbers |= {n.id: ("scalars", i) for i, n in enumerate(graph.scalars)}
    products = bool(graph.products)
    places = (
        ()
        if products
        else tuple(
            tuple((*numbers[prepared.origin[node]], i) for node, i in step.names) for step in chain.steps
        )
    )
    merged = {numbers[a][1]: (numbers[b][1], sign) for a, (b, sign) in prepared.merged.items()}
    sizes = tuple(n.size for n in graph.relus), tuple(n.size for n in graph.scalars)
    return Layout(*sizes, merged, places, products)


@dataclass(frozen=True, slots=True)
class LipschitzBound:
    """A Lipschitz constant from both sides.

    Attributes:
        upper: a proved bound: ``|f(x) - f(y)| <= upper |x - y|`` over the reals for every x, y (of the
        region). lower: the largest Jacobian norm found (0 if not asked for).
        method: what found the multipliers.
        seconds: time taken, the lower bound excluded.
        certified: whether ``upper`` is proved with all rounding paid for (always, where one is returned).
        norm, output_norm: "1", "2" or "inf".
        rows: per problem (one, or one per output row) what was proved.
        elements: nonlinear elements.
        local: whether the bound is for a region.
        notes: remarks for people.
        layout: where the multipliers belong in the model, for certificates.
        region, combinations: those asked for.
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
    layout: Layout | None = None
    region: Region | None = None
    combinations: Array | None = None

    @property
    def multipliers(self) -> tuple[tuple[Array, ...], ...]:
        """The multipliers of every problem."""
        return tuple(row.multipliers for row in self.rows)

    @property
    def ratio(self) -> float:
        """Upper over lower: 1 is exact."""
        return self.upper / self.lower if self.lower > 0 else float("inf")
