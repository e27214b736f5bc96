"""What the bounding rule works on: boxes, intervals, affine forms, rows, and their free choices.

Shapes: ``D`` boxes of a block, ``R`` packed rows, ``n`` elements of a node, ``N`` rectified elements,
``M`` scalar ones, ``P`` products. Operands are numbered as in the format: of rectified elements, of scalar
ones, left ones of products, right ones.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from verifier.check.arithmetic import Arithmetic
from verifier.check.network import Adjoint, Array, Chain, Kind, Network, Node, Take

if TYPE_CHECKING:
    from verifier.check.nonlinear import Relaxed

Interval: TypeAlias = tuple[Array, Array]


@dataclass(frozen=True, slots=True)
class Affine:
    """An affine node prepared for bounding: maps, absolute maps, and coefficients of its errors."""

    terms: tuple[tuple[int, Chain, Chain], ...]
    bias: Array | None
    absolute_bias: Array | None
    ours: Any  # relative rounding error of our own arithmetic at this node
    model: Any  # relative error of the model: inexact weights, float32 rounding
    floor: Any  # absolute part of the latter
    blind: bool  # nothing is known about the model's rounding
    signs: tuple[int, ...]  # of all weights of each term, where every term has one
    moves: bool  # nothing but a movement of data: exact


@dataclass(frozen=True, slots=True)
class Form:
    """``z(x)`` lies in ``G x + g +- rho`` on each box; ``reach = |G| max|x|``; G is (D, free inputs, n)."""

    rows: Array
    centre: Array
    radius: Array
    reach: Array


class Cost:
    """What a row with coefficients A pays at a node: ``|A| . each[box]``, at most ``|A| . peak``."""

    def __init__(self, each: Array) -> None:
        self.each, self.peak = each, each.max(axis=0)


@dataclass(slots=True)
class State:
    """Everything known about one block of boxes; lists run over nodes, arrays are (D, n).

    ``split`` (D,) says whether operands are split on the way to a box. Only there may nothing at all
    satisfy the conditions of the region; ``empty`` (D,) is where that was found.
    """

    split: Array
    empty: Array
    low: list[Array] = field(default_factory=list[Array])
    high: list[Array] = field(default_factory=list[Array])
    mag: list[Array] = field(default_factory=list[Array])
    pad: list[Cost | None] = field(default_factory=list["Cost | None"])
    floor: list[Any] = field(default_factory=list[Any])  # what underflow of coefficients can cost
    forms: list[Form] = field(default_factory=list[Form])
    relaxed: dict[int, Relaxed] = field(default_factory=dict[int, "Relaxed"])
    operands: dict[int, list[Interval]] = field(default_factory=dict[int, "list[Interval]"])

    def settled(self, low: Array, high: Array) -> Interval:
        """Intervals (D, n) with ``low <= high``, for which no point is left where they had crossed.

        Both ends are bounds of a value for every point of the region; if they cross, it has no points. Where
        no operand is split, there are points, and intervals that cross are a defect that must prove nothing.
        """
        if not self.split.any():
            return low, high
        crossed = np.asarray(low > high, bool) & self.split[:, None]
        self.empty |= crossed.any(axis=1)
        return np.where(crossed, high, low), high


@dataclass(slots=True)
class Rows:
    """R packed rows: coefficients per node (R, n), constants and errors (R,), and each row's box."""

    parts: dict[int, Array]
    constant: Array
    error: Array
    box: Array


@dataclass(frozen=True, slots=True)
class Choices:
    """Free choices of rows or boxes, one line each.

    Attributes:
        slopes: (R, N) integers, lower slopes of rectifiers in 128ths.
        lines: (R, 2 M) float64, lower, then upper slopes of scalar elements.
        mixes: (R, 2 P) integers, mixtures of lower, then upper planes of products in 128ths.
    """

    slopes: Array
    lines: Array
    mixes: Array

    def __getitem__(self, which: Any) -> Choices:
        return Choices(self.slopes[which], self.lines[which], self.mixes[which])


@dataclass(frozen=True, slots=True)
class Marks:
    """Elements to be bounded backwards: (D, N), (D, M), and (D, 2 P), left operands, then right ones."""

    rectifiers: Array
    scalars: Array
    products: Array

    def of(self, kind: Kind) -> Array:
        """Those of one kind of node."""
        return {Kind.RELU: self.rectifiers, Kind.SCALAR: self.scalars, Kind.PRODUCT: self.products}[kind]


class Layout:
    """Where nonlinear nodes have their columns in :class:`Choices` and :class:`Marks`, and their operands."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.total = {kind: network.elements(kind) for kind in Kind}
        self.start: dict[int, int] = {}
        slots: list[tuple[int, int, int]] = []  # first number, node, which of its operands
        for kind in (Kind.RELU, Kind.SCALAR, Kind.PRODUCT):
            at = 0
            for i in network.of(kind):
                self.start[i] = at
                at += network.nodes[i].size
                slots += [(self.first(i, k), i, k) for k in range(len(network.nodes[i].operands))]
        self.slots = sorted(slots)
        self._first = np.array([first for first, _, _ in self.slots], np.int64)
        tensors = [self.tensor(network.nodes[i].operands[k]) for _, i, k in self.slots]
        self._tensor = np.array(tensors, np.int64)

    def first(self, i: int, k: int) -> int:
        """The number of the first element of operand k of node i."""
        kind, before = self.network.nodes[i].kind, 0
        if kind is not Kind.RELU:
            before += self.total[Kind.RELU]
        if kind is Kind.PRODUCT:
            before += self.total[Kind.SCALAR] + k * self.total[Kind.PRODUCT]
        return before + self.start[i]

    def tensor(self, i: int) -> int:
        """The node that node i is a reshape of: the same tensor."""
        node = self.network.nodes[i]
        while _reshapes(node):
            ((i, _),) = node.terms
            node = self.network.nodes[i]
        return i

    def slot(self, operand: Array) -> tuple[Array, Array]:
        """Which of ``slots`` operands lie in, and their places there."""
        slot = np.searchsorted(self._first, operand, side="right") - 1
        return slot, operand - self._first[slot]

    def locate(self, operand: Array) -> tuple[Array, Array]:
        """The tensors of operands, and which elements of them they are."""
        slot, element = self.slot(operand)
        return self._tensor[slot], element

    def part(self, i: int, array: Array, half: int = 0) -> Array:
        """The columns of node i; ``half`` 1 stands for the second half of an array of two."""
        node = self.network.nodes[i]
        at = self.start[i] + half * self.total[node.kind]
        return array[:, at : at + node.size]


def _reshapes(node: Node) -> bool:
    plain = node.kind is Kind.AFFINE and node.bias is None and not node.error and not node.roundings
    return plain and len(node.terms) == 1 and not node.terms[0][1]


def forward(chain: Chain, x: Array) -> Array:
    """The chain applied to the last axis."""
    for m in chain:
        x = m.forward(x)
    return x


def backward(chain: Chain, a: Array) -> Array:
    """Rows over the chain's results as rows over what it reads."""
    for m in reversed(chain):
        a = m.backward(a)
    return a


def unbounded(x: Array) -> Array:
    """Where there is no bound; in either arithmetic infinities are floats."""
    return np.asarray(np.abs(x) == np.inf, bool)


def weigh(a: Array, cost: Array, used: Array | None = None) -> Array:
    """``sum |a| cost`` row by row, where 0 times no bound is 0; ``used`` says what is not 0 (``a != 0``)."""
    open_ = unbounded(cost)
    if not open_.any():
        return np.abs(a) @ cost if cost.ndim == 1 else dot(np.abs(a), cost)
    used = np.asarray(a != 0, bool) if used is None else used
    known = np.abs(a) * np.where(open_, 0, cost)
    return known.sum(axis=1) + np.where((used & open_).any(axis=1), np.inf, 0.0)


def sign_of(chain: Chain) -> int:
    """1 or -1 if all weights of a chain are of one sign (or 0), else 0."""
    sign = 1
    for m in chain:
        while isinstance(m, Adjoint):
            m = m.inner
        if not isinstance(m, Take):
            sign *= 1 if np.all(m.weight >= 0) else -1 if np.all(m.weight <= 0) else 0
    return sign


def indicator(chain: Chain) -> Chain:
    """The chain with 1 for every weight that is not 0."""
    return tuple(m.with_weights(lambda w: np.asarray(w != 0, np.float64)) for m in chain)


def dot(a: Array, b: Array) -> Array:
    """Row by row; any order of summation is allowed."""
    return np.einsum("rn,rn->r", a, b)


def middle(to: Arithmetic, low: Array, high: Array) -> tuple[Array, Array]:
    """A centre and a radius that covers the interval, whatever rounding did to the centre."""
    half = to.array(np.array(0.5))[()]
    mid = low * half + high * half
    rad = np.maximum(high - mid, mid - low)
    return mid, rad * (1 + 4 * to.u) + to.tiny


def without_nan(to: Arithmetic, low: Array, high: Array) -> tuple[Array, Array]:
    """A NaN says nothing: as an infinity it stays harmless, and proves nothing either."""
    if to.exact:
        return low, high
    return np.where(np.isnan(low), -np.inf, low), np.where(np.isnan(high), np.inf, high)
