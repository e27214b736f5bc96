"""Networks as affine maps, rectifiers, functions of one variable, and products; nothing else.

A :class:`Node` is the input, ``relu(z)`` or ``f(z)`` of one node, the elementwise product of two, or
``sum_k L_k(z_k) + b`` over other nodes, where each ``L_k`` is a short chain of the linear maps below. All
vectors are flat; every map acts on the last axis of a batch, forwards (``L x``) and backwards (``A L``).
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np

from bounds.errors import LimitExceeded, ModelInvalid, ModelUnsupported
from verifier.check.functions import Function

Array: TypeAlias = "np.ndarray[Any, Any]"
MAX_ELEMENTS = 1 << 29  # of any one tensor
MAX_NODES = 100_000


class Take:
    """``y[i] = x[index[i]]``, and 0 where ``index[i]`` is -1: every movement of data."""

    def __init__(self, index: Array, size: int) -> None:
        self.index = np.asarray(index, np.int64).reshape(-1)
        self.inputs, self.outputs = size, self.index.size
        self.blank = np.flatnonzero(self.index < 0)
        self._used = np.flatnonzero(self.index >= 0)
        target = self.index[self._used]
        counts = np.bincount(target, minlength=size) if target.size else np.zeros(size, np.int64)
        self._order: Array | None = None
        repeats = int(counts.max(initial=0))
        if repeats > 1:  # used more than once: backwards they are added up, grouped by target
            self._order = self._used[np.argsort(target, kind="stable")]
            self._targets = np.flatnonzero(counts)
            self._starts = np.cumsum(counts[self._targets]) - counts[self._targets]
        self.roundings = repeats if repeats > 1 else 0

    def forward(self, x: Array) -> Array:
        y = np.take(x, self.index, axis=-1)
        y[..., self.blank] = 0
        return y

    def backward(self, a: Array) -> Array:
        out = np.zeros((*a.shape[:-1], self.inputs), a.dtype)
        if self._order is None:
            out[..., self.index[self._used]] = a[..., self._used]
        else:
            out[..., self._targets] = np.add.reduceat(a[..., self._order], self._starts, axis=-1)
        return out

    def with_weights(self, function: Callable[[Array], Array]) -> Take:
        del function
        return self


class Scale:
    """``y[i] = weight[i] x[i]``."""

    roundings = 1

    def __init__(self, weight: Array) -> None:
        self.weight = weight.reshape(-1)
        self.inputs = self.outputs = self.weight.size

    def forward(self, x: Array) -> Array:
        return x * self.weight

    backward = forward

    def with_weights(self, function: Callable[[Array], Array]) -> Scale:
        return Scale(function(self.weight))


class Dense:
    """``y[g, p] = weight[g] x[g, p]`` for groups ``g`` (their own matrix) and positions ``p`` (shared)."""

    def __init__(self, weight: Array, positions: int = 1) -> None:
        self.weight, self.positions = weight, positions
        groups, rows, columns = weight.shape
        self.inputs, self.outputs = groups * positions * columns, groups * positions * rows
        self.roundings = max(rows, columns)

    def forward(self, x: Array) -> Array:
        return self._apply(x, np.swapaxes(self.weight, 1, 2))

    def backward(self, a: Array) -> Array:
        return self._apply(a, self.weight)

    def _apply(self, x: Array, weight: Array) -> Array:
        groups, length = weight.shape[:2]
        if groups == 1:
            y = x.reshape(-1, length) @ weight[0]
        else:
            y = np.matmul(x.reshape(-1, groups, self.positions, length), weight)
        return y.reshape(*x.shape[:-1], groups * self.positions * weight.shape[2])

    def with_weights(self, function: Callable[[Array], Array]) -> Dense:
        return Dense(function(self.weight), self.positions)


class Adjoint:
    """The transpose of a map."""

    def __init__(self, inner: Map) -> None:
        self.inner = inner
        self.inputs, self.outputs, self.roundings = inner.outputs, inner.inputs, inner.roundings

    def forward(self, x: Array) -> Array:
        return self.inner.backward(x)

    def backward(self, a: Array) -> Array:
        return self.inner.forward(a)

    def with_weights(self, function: Callable[[Array], Array]) -> Adjoint:
        return Adjoint(self.inner.with_weights(function))


Map: TypeAlias = Take | Scale | Dense | Adjoint
Chain: TypeAlias = tuple[Map, ...]


class Kind(enum.Enum):
    """What a node is."""

    INPUT = "input"
    AFFINE = "affine"
    RELU = "relu"
    SCALAR = "scalar"
    PRODUCT = "product"


UNMODELLED = 1 << 40  # so many roundings that nothing is known at level ``float32``


@dataclass(frozen=True, slots=True)
class Node:
    """One tensor of the normal form.

    Attributes:
        size: number of elements.
        kind: see :class:`Kind`.
        terms: (source node, chain of maps) of an affine node.
        bias: the constant part, or None.
        operands: the nodes that a nonlinear node reads, of the same size.
        function: of a scalar node.
        error: the true weights and bias differ from the stored ones by at most ``error`` relatively.
        roundings: float32 roundings of the original operator per product (level ``float32``); of a
            scalar node only whether the model rounds at all.
        names: of the ONNX node that a nonlinear node belongs to, and of that node's outputs.
    """

    size: int
    kind: Kind
    terms: tuple[tuple[int, Chain], ...] = ()
    bias: Array | None = None
    operands: tuple[int, ...] = ()
    function: Function = ()
    error: float = 0.0
    roundings: int = 0
    names: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """For messages."""
        return self.names[0] if self.names else ""


@dataclass(frozen=True, slots=True)
class Const:
    """A stored or folded tensor: floats in float64, integers in int64, or bool.

    ``error`` bounds ``|true - data| / |data|``; ``roundings`` counts the model's own float32 ones.
    ``dtype`` is the model's element type as a numpy name.
    """

    data: Array
    error: float = 0.0
    roundings: int = 0
    dtype: str = "float32"

    @property
    def shape(self) -> tuple[int, ...]:
        return self.data.shape

    @property
    def exact(self) -> bool:
        return self.error == 0 and self.roundings == 0

    @property
    def is_float(self) -> bool:
        return self.data.dtype.kind == "f"


def whole(data: Any) -> Const:
    """Integers."""
    return Const(np.asarray(data, np.int64), dtype="int64")


@dataclass(frozen=True, slots=True)
class Parent:
    """Says that a tensor is, elementwise, ``function`` of ``root``; most roundings of a link on the way."""

    root: Var
    function: Function
    roundings: int


@dataclass(frozen=True, slots=True)
class Var:
    """A tensor that depends on the input: a node seen with a shape and an element type.

    ``removed`` marks elements that are minus infinity, whatever the node says: they can only be moved about,
    and taken out of a softmax.
    """

    node: int
    shape: tuple[int, ...]
    dtype: str = "float32"
    parent: Parent | None = None
    removed: Array | None = None

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def index(self) -> Array:
        """Every element's flat index, in the tensor's shape."""
        return np.arange(self.size, dtype=np.int64).reshape(self.shape)


Value: TypeAlias = Const | Var


class Lowering:
    """Builds the list of nodes; node 0 is the input of the whole (possibly combined) network."""

    def __init__(self, inputs: int) -> None:
        self.nodes: list[Node] = [Node(inputs, Kind.INPUT)]
        self.names: tuple[str, ...] = ("",)  # of the ONNX node being lowered, and of its outputs
        self.lone: frozenset[int] = frozenset()  # nodes of its operands that nothing else reads
        self.nan_tests: dict[int, int] = {}  # node that stands for a test of another for NaN
        self.marks: dict[int, Var] = {}  # node of a computed index -> the marks that it was read off

    def _append(self, node: Node) -> int:
        guard((node.size,))
        if len(self.nodes) >= MAX_NODES:
            raise LimitExceeded(f"the network needs over {MAX_NODES} tensors; the checker refuses it")
        arrays = [node.bias] if node.bias is not None else []
        arrays += [m.weight for _, chain in node.terms for m in chain if isinstance(m, Scale | Dense)]
        if not all(np.isfinite(a).all() for a in arrays):
            raise ModelInvalid(f"node '{self.names[0]}': NaN or infinite weights; export the model again")
        self.nodes.append(node)
        return len(self.nodes) - 1

    def numbers(self, *operands: Var) -> None:
        """Refuses to compute with what is no number."""
        for x in operands:
            if x.removed is not None:
                raise ModelUnsupported("", self.names[0], "an operand is minus infinity in places")
            if x.node in self.nan_tests:
                raise ModelUnsupported("IsNaN", self.names[0], "a test for NaN that does not just replace it")

    def affine(
        self,
        terms: Sequence[tuple[Var, Chain]],
        shape: Sequence[int],
        bias: Array | None = None,
        *,
        error: float = 0.0,
        roundings: int = 0,
    ) -> Var:
        """``sum chain(x) + bias``, in the given shape."""
        self.numbers(*(x for x, _ in terms))
        size = math.prod(shape)
        for x, chain in terms:
            outputs = chain[-1].outputs if chain else x.size
            assert outputs == size
        flat = None if bias is None else np.broadcast_to(bias, tuple(shape)).reshape(-1).astype(np.float64)
        pairs = tuple((x.node, chain) for x, chain in terms)
        node = Node(size, Kind.AFFINE, pairs, flat, error=error, roundings=roundings)
        return Var(self._append(node), tuple(shape), terms[0][0].dtype if terms else "float32")

    def relu(self, x: Var) -> Var:
        """``max(x, 0)``: the next rectifier."""
        self.numbers(x)
        node = Node(x.size, Kind.RELU, operands=(x.node,), names=self.names)
        return Var(self._append(node), x.shape, x.dtype)

    def scalar(self, function: Function, x: Var, *, roundings: int = 0) -> Var:
        """``function(x)`` elementwise: the next scalar node."""
        self.numbers(x)
        node = Node(
            x.size, Kind.SCALAR, operands=(x.node,), function=function, roundings=roundings, names=self.names
        )
        return Var(self._append(node), x.shape, x.dtype)

    def multiply(self, x: Var, y: Var, *, roundings: int = 0) -> Var:
        """``x * y`` with numpy's broadcasting: the next product."""
        shape = np.broadcast_shapes(x.shape, y.shape)
        self.numbers(x, y)
        x, y = (self.expanded(v, shape) for v in (x, y))
        node = Node(x.size, Kind.PRODUCT, operands=(x.node, y.node), roundings=roundings, names=self.names)
        return Var(self._append(node), shape, x.dtype)

    def expanded(self, x: Var, shape: tuple[int, ...]) -> Var:
        """``x`` broadcast to ``shape``."""
        return x if x.shape == shape else self.take(x, np.broadcast_to(x.index(), guard(shape)))

    def reshape(self, x: Var, shape: Sequence[int]) -> Var:
        """The same elements in another shape: another tensor to fusion, hence a node of its own."""
        if tuple(shape) == x.shape:
            return x
        removed = None if x.removed is None else x.removed.reshape(tuple(shape))
        return replace(self.affine([(replace(x, removed=None), ())], shape), removed=removed)

    def take(self, x: Var, index: Array, fill: Array | None = None) -> Var:
        """Elements by flat index; -1 stands for ``fill`` (0, or minus infinity)."""
        if index.size == x.size and np.array_equal(index.reshape(-1), np.arange(x.size)):
            return self.reshape(x, index.shape)
        guard(index.shape)
        removed = (
            np.zeros(index.shape, bool) if x.removed is None else x.removed.reshape(-1)[index] & (index >= 0)
        )
        if fill is not None:
            removed = removed | (np.broadcast_to(fill, index.shape) == -np.inf)
            fill = np.where(removed, 0.0, fill)
        y = self.affine([(replace(x, removed=None), (Take(index, x.size),))], index.shape, fill)
        return replace(y, removed=removed) if removed.any() else y

    def shift(
        self, x: Var, bias: Array, shape: tuple[int, ...], *, error: float = 0.0, roundings: int = 0
    ) -> Var:
        """``x + bias``; joined with the affine map before it where that has no bias (both exact sums)."""
        before = self.nodes[x.node]
        alone = before.terms and before.bias is None and before.error == error == 0 and x.parent is None
        # a shift that the model does not compute must not be charged as if it rounded (level float32)
        if alone and x.shape == shape and (roundings or not before.roundings):
            flat = np.broadcast_to(bias, shape).reshape(-1).astype(np.float64)
            joined = replace(before, bias=flat, roundings=before.roundings + roundings)
            return Var(self._append(joined), shape, x.dtype)
        return self.affine([(x, expand(x, shape))], shape, bias, error=error, roundings=roundings)

    def scaled(
        self, x: Var, weight: Array, bias: Array | None = None, *, error: float = 0.0, roundings: int = 0
    ) -> Var:
        """``weight * x + bias`` with numpy's broadcasting."""
        shape = np.broadcast_shapes(x.shape, weight.shape, () if bias is None else bias.shape)
        factor = Scale(np.broadcast_to(weight, guard(shape)).astype(np.float64))
        return self.affine([(x, (*expand(x, shape), factor))], shape, bias, error=error, roundings=roundings)

    def combine(self, pairs: Sequence[tuple[float, Var]], *, error: float = 0.0, roundings: int = 0) -> Var:
        """``sum c * x`` with numpy's broadcasting."""
        shape = np.broadcast_shapes(*(x.shape for _, x in pairs))
        terms: list[tuple[Var, Chain]] = []
        for c, x in pairs:
            chain: Chain = expand(x, shape)
            terms.append((x, chain if c == 1 else (*chain, Scale(np.full(math.prod(shape), float(c))))))
        return self.affine(terms, shape, error=error, roundings=roundings)

    def variable(self, value: Value) -> Var:
        """A constant as a node without sources."""
        if isinstance(value, Var):
            return value
        found = self.affine([], value.shape, real(value), error=value.error, roundings=value.roundings)
        return replace(found, dtype=value.dtype)

    def maximum(self, a: Var, b: Var) -> Var:
        """``b + relu(a - b)``."""
        return self.combine([(1, b), (1, self.relu(self.combine([(1, a), (-1, b)])))])

    def minimum(self, a: Var, b: Var) -> Var:
        """``b - relu(b - a)``."""
        return self.combine([(1, b), (-1, self.relu(self.combine([(1, b), (-1, a)])))])


def real(value: Const) -> Array:
    """The constant's numbers in float64, exactly."""
    if not value.is_float and np.any(np.abs(value.data.astype(np.int64)) > 1 << 53):
        raise ValueError("a whole number over 2^53 meets the network's data")
    return value.data.astype(np.float64)


def expand(x: Var, shape: tuple[int, ...]) -> Chain:
    """The chain that broadcasts ``x`` to ``shape``."""
    if x.size == math.prod(guard(shape)):
        return ()
    return (Take(np.broadcast_to(x.index(), shape), x.size),)


def guard(shape: Sequence[int]) -> tuple[int, ...]:
    """``shape``, refused when a tensor of it is too large."""
    if math.prod(int(s) for s in shape) > MAX_ELEMENTS:
        raise LimitExceeded(f"a tensor of shape {list(shape)} is too large for the checker")
    return tuple(int(s) for s in shape)


@dataclass(frozen=True, slots=True)
class Network:
    """The part of the normal form that reaches the output; node 0 is the input, the last is ``output``."""

    nodes: tuple[Node, ...]
    output: int

    def of(self, kind: Kind) -> list[int]:
        """Ids of the nodes of one kind, in order."""
        return [i for i, node in enumerate(self.nodes) if node.kind is kind]

    def elements(self, kind: Kind) -> int:
        """Number of elements of the nodes of one kind."""
        return sum(self.nodes[i].size for i in self.of(kind))


def prune(nodes: Sequence[Node], output: int) -> Network:
    """Drops what does not reach ``output``; order is kept."""
    alive = {0, output}
    for i in range(output, 0, -1):
        if i in alive:
            alive.update(source for source, _ in nodes[i].terms)
            alive.update(nodes[i].operands)
    number = {old: new for new, old in enumerate(sorted(alive))}
    kept: list[Node] = []
    for old in number:
        node = nodes[old]
        terms = tuple((number[source], chain) for source, chain in node.terms)
        kept.append(replace(node, terms=terms, operands=tuple(number[i] for i in node.operands)))
    return Network(tuple(kept), number[output])
