"""The network: an immutable DAG in static single assignment form over a closed set of primitives.

Values are real tensors of the node's ``shape`` (``*n``), the model's own batch axis included (it is
part of ``*n``, usually a leading 1); batches of domains or points add one more axis ``D`` in front.
A graph knows nothing of bounds, methods, ONNX or properties.

The primitives (``x`` is the first input):

=================  =========================================================================
``INPUT``          a network input
``LINEAR``         ``y[..., o] = sum_i weight[o, i] x[..., i] + bias[o]`` on the last axis
``CONV``           2-D convolution, ``x: (N, C, H, W)``, ``weight: (O, C/groups, kh, kw)``
``CONV_TRANSPOSE`` its adjoint, ``weight: (C, O/groups, kh, kw)``
``SCALE``          ``y = x * scale + shift``; both broadcast against ``*n``, shape kept
``ADD``            ``y = sum_k coefficients[k] * x_k``; all inputs have the same shape
``TAKE``           ``y.flat[i] = x.flat[index[i]]``, or ``fill[i]`` where ``index[i] == -1``
``RESHAPE``        same elements in C order, new shape
``CONCAT``         concatenation along ``axis``
``SUM``            sum over ``axes``, which are dropped from the shape
``RELU``           ``max(x, 0)``
``SCALAR``         ``f(x)`` elementwise, ``function`` an :class:`bounds.expression.Expr`
``MUL``            ``x * y`` elementwise for two operands of the same shape
=================  =========================================================================

The importer lowers everything else to these (exactly, over the reals): functions with one kink to
``RELU`` (``max(x, y) = y + relu(x - y)``, ``|x| = 2 relu(x) - x``, ``leaky(x) = s x + (1 - s) relu(x)``),
every other elementwise function of one tensor to one ``SCALAR``, whatever operators spelled it.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]


UNMODELLED = 1 << 40  # so many float32 roundings that no bound is left


class Op(enum.Enum):
    """The closed set of primitives; the value is the printable name."""

    INPUT = "Input"
    LINEAR = "Linear"
    CONV = "Conv"
    CONV_TRANSPOSE = "ConvTranspose"
    SCALE = "Scale"
    ADD = "Add"
    TAKE = "Take"
    RESHAPE = "Reshape"
    CONCAT = "Concat"
    SUM = "Sum"
    RELU = "Relu"
    SCALAR = "Scalar"
    MUL = "Mul"


@dataclass(frozen=True, slots=True)
class Node:
    """One primitive application.

    Attributes:
        id: position in ``Graph.nodes`` (inputs of a node have smaller ids).
        op: the primitive.
        inputs: ids of the operands.
        shape: shape ``*n`` of the value.
        params: operands that are constants, by the names of the table above; floating-point arrays
            are float64 and read-only. ``CONV``: weight, bias, strides, pads (top, left, bottom,
            right), dilations, groups; ``CONV_TRANSPOSE``: also output_padding.
        roundings: how many float32 roundings the *original* model makes where this node stands, in
            the sense ``|fl(y) - y| <= gamma_k (|weight| |x| + |bias|) + k eta`` (soundness: level
            ``float32``). 0 for exact operations (relu, data movement, synthetic lowering nodes). Of a
            ``SCALAR`` it only says whether the model rounds there at all: how much follows from its
            expression. ``UNMODELLED`` where nothing is known (then nothing is provable at that level).
        weight_error: bound e with ``|true - stored| <= e |stored|`` for every floating-point
            parameter; 0 unless a rewrite had to round (BatchNorm, folded constants).
        source: name of the model's own node this came from, for messages.
        tensor: name of the model's tensor that this node's value *is*, or "" for inner steps.
    """

    id: int
    op: Op
    inputs: tuple[int, ...]
    shape: tuple[int, ...]
    params: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    roundings: int = 0
    weight_error: float = 0.0
    source: str = ""
    tensor: str = ""

    @property
    def size(self) -> int:
        """Number of elements of the value."""
        return int(np.prod(self.shape, dtype=np.int64))


@dataclass(frozen=True, slots=True)
class Port:
    """A named input or output of the network.

    ``dtype`` is the model's element type as a numpy name ("float32", "float64", ...).
    """

    name: str
    node: int
    shape: tuple[int, ...]
    dtype: str = "float32"


@dataclass(frozen=True, slots=True)
class Graph:
    """An immutable network; build one with :class:`GraphBuilder`.

    ``relus`` fixes the order of neurons in every flat per-neuron vector (slopes, phases): RELU
    nodes by id, elements in C order; ``scalars`` and ``products`` do the same for their kinds.
    """

    nodes: tuple[Node, ...]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]

    def __post_init__(self) -> None:
        for i, node in enumerate(self.nodes):
            if node.id != i or any(k >= i for k in node.inputs):
                raise ValueError(f"node {i} breaks static single assignment order")

    @property
    def relus(self) -> tuple[Node, ...]:
        """RELU nodes in topological order."""
        return self._of(Op.RELU)

    @property
    def scalars(self) -> tuple[Node, ...]:
        """SCALAR nodes in topological order."""
        return self._of(Op.SCALAR)

    @property
    def products(self) -> tuple[Node, ...]:
        """MUL nodes in topological order."""
        return self._of(Op.MUL)

    def _of(self, op: Op) -> tuple[Node, ...]:
        return tuple(n for n in self.nodes if n.op is op)

    @property
    def input_size(self) -> int:
        """Total number of input elements (all inputs concatenated in order)."""
        return sum(int(np.prod(p.shape, dtype=np.int64)) for p in self.inputs)

    @property
    def output_size(self) -> int:
        """Total number of output elements (all outputs concatenated in order)."""
        return sum(int(np.prod(p.shape, dtype=np.int64)) for p in self.outputs)

    def consumers(self) -> tuple[tuple[int, ...], ...]:
        """For every node the ids of the nodes that read it."""
        out: list[list[int]] = [[] for _ in self.nodes]
        for node in self.nodes:
            for k in node.inputs:
                out[k].append(node.id)
        return tuple(tuple(c) for c in out)


class GraphBuilder:
    """Collects nodes; ``build`` freezes them. Ids are handed out in order."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self._inputs: list[Port] = []
        self._outputs: list[Port] = []

    def input(self, name: str, shape: Sequence[int], dtype: str = "float32") -> int:
        """Adds a network input and returns its node id."""
        node = self.add(Op.INPUT, (), tuple(shape), source=name, tensor=name)
        self._inputs.append(Port(name, node, tuple(shape), dtype))
        return node

    def output(self, name: str, node: int, dtype: str = "float32") -> None:
        """Declares node ``node`` as the next network output."""
        self._outputs.append(Port(name, node, self.nodes[node].shape, dtype))

    def add(  # noqa: PLR0913 - one argument per field of a node
        self,
        op: Op,
        inputs: Sequence[int],
        shape: Sequence[int],
        params: Mapping[str, Any] | None = None,
        *,
        roundings: int = 0,
        weight_error: float = 0.0,
        source: str = "",
        tensor: str = "",
    ) -> int:
        """Adds one node (shape already inferred, see ``bounds.shapes``) and returns its id."""
        frozen = {k: _freeze(v) for k, v in (params or {}).items()}
        node = Node(
            len(self.nodes),
            op,
            tuple(inputs),
            tuple(int(s) for s in shape),
            MappingProxyType(frozen),
            roundings,
            weight_error,
            source,
            tensor,
        )
        self.nodes.append(node)
        return node.id

    def build(self) -> Graph:
        """Freezes the graph."""
        return Graph(tuple(self.nodes), tuple(self._inputs), tuple(self._outputs))


def _freeze(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        value = np.array(value)  # own copy, so that freezing does not surprise the caller
        value.setflags(write=False)
    elif isinstance(value, list):
        value = tuple(value)
    return value
