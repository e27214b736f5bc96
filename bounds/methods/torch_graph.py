"""A graph as a ``torch.nn.Module``, for libraries that take modules.

Values are flat: a node's value is ``(B, n)``, batch first, whatever its shape, so that the model's own batch
axis does not meet the library's. Nothing here bounds anything, and arithmetic is plain float32.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from bounds.errors import ModelUnsupported
from bounds.expression import Expr, Fn, nodes
from bounds.graph import Array, Graph, Node, Op

Step: TypeAlias = Callable[[Sequence[Tensor]], Tensor]
Special: TypeAlias = Callable[[Expr], "Callable[[Tensor], Tensor] | None"]


class GraphModule(nn.Module):
    """Maps ``(B, input_size)`` to ``(B, output_size)``, or with ``inputs`` to outputs followed by the inputs.

    Args:
        graph: the network.
        inputs: append the flat input to the outputs (for objectives that read it).
        special: may supply a function of tensors for an expression that a library knows as one operator.

    Raises:
        ModelUnsupported: an expression has no counterpart in PyTorch.
    """

    def __init__(self, graph: Graph, *, inputs: bool = False, special: Special | None = None) -> None:
        super().__init__()
        self._graph, self._inputs = graph, inputs
        self._special = special
        self._starts: dict[int, int] = {}
        position = 0
        for port in graph.inputs:
            self._starts[port.node] = position
            position += graph.nodes[port.node].size
        self._steps: list[tuple[Node, Step]] = []
        for node in graph.nodes:
            if node.op is not Op.INPUT:
                shapes = [graph.nodes[k].shape for k in node.inputs]
                self._steps.append((node, STEPS[node.op](self, node, shapes)))
        sizes = [graph.nodes[p.node].size for p in graph.outputs] + [graph.input_size] * inputs
        # places of the parts of the result: matrices, as libraries' concatenations are less reliable
        stops = np.cumsum(sizes)
        every = np.eye(int(stops[-1]))
        self._places = [
            self.constant(every[:, stop - size : stop]) for stop, size in zip(stops, sizes, strict=True)
        ]

    def constant(self, values: Any) -> Tensor:
        """A float32 constant as a buffer, so that a library sees it as one of the module's own."""
        return self._keep(torch.tensor(np.asarray(values, dtype=np.float32)))

    def selection(self, index: Array, fill: Array) -> Callable[[Tensor], Tensor]:
        """Elements ``index`` of a flat value, ``fill`` where the index is -1 (both 1-D)."""
        picks = self._keep(torch.tensor(np.maximum(index, 0)))
        if not np.any(index < 0):
            return lambda x: torch.index_select(x, 1, picks)
        kept, filled = self.constant(index >= 0), self.constant(np.where(index < 0, fill, 0.0))
        return lambda x: torch.index_select(x, 1, picks) * kept + filled

    def _keep(self, tensor: Tensor) -> Tensor:
        self.register_buffer(f"constant_{len(self._buffers)}", tensor)
        return tensor

    def function(self, node: Node) -> Callable[[Tensor], Tensor]:
        """The elementwise function of a ``SCALAR`` node."""
        expression: Expr = node.params["function"]
        found = None if self._special is None else self._special(expression)
        if found is not None:
            return found
        for part in nodes(expression):
            if part.fn not in FUNCTIONS and part.fn not in _BUILT_IN:
                raise ModelUnsupported(
                    part.fn.value[0],
                    node.source,
                    "it has no counterpart for this engine; use the built-in one",
                )
        return lambda x: evaluate_expression(expression, x)

    def forward(self, x: Tensor) -> Tensor:
        """Flat outputs, concatenated."""
        values: dict[int, Tensor] = {}
        alone = len(self._graph.inputs) == 1
        for port in self._graph.inputs:
            start = self._starts[port.node]
            stop = start + self._graph.nodes[port.node].size
            values[port.node] = x if alone else x[:, start:stop]
        for node, step in self._steps:
            values[node.id] = step([values[k] for k in node.inputs])
        parts = [values[p.node] for p in self._graph.outputs]
        if self._inputs:
            parts.append(x)
        if len(parts) == 1:
            return parts[0]
        placed = [functional.linear(part, place) for part, place in zip(parts, self._places, strict=True)]
        total = placed[0]
        for part in placed[1:]:
            total = total + part
        return total


def evaluate_expression(expression: Expr, x: Tensor) -> Tensor:
    """The expression at every element, in torch functions (constants stay Python numbers)."""
    values: dict[Expr, Any] = {}
    for part in nodes(expression):
        if part.fn is Fn.X:
            values[part] = x
        elif part.fn is Fn.CONST:
            values[part] = part.value
        elif part.fn is Fn.POW:
            values[part] = _power(values[part.args[0]], part.value)
        else:
            values[part] = FUNCTIONS[part.fn](*(values[a] for a in part.args))
    out = values[expression]
    return out if isinstance(out, Tensor) else x * 0.0 + out


def _power(a: Any, exponent: float) -> Any:
    """Even powers as squares: auto_LiRPA 0.7.1 bounds ``x ** 2`` falsely where 0 is not inside."""
    if exponent == 1:
        return a
    if exponent > 0 and exponent % 2 == 0:
        root = _power(a, exponent / 2)
        return root * root
    return a ** (int(exponent) if exponent.is_integer() else exponent)


def _maximum(a: Any, b: Any) -> Any:
    """By a rectifier, which every library bounds."""
    return a + torch.relu(b - a) if isinstance(a, Tensor) else b + torch.relu(a - b)


def _minimum(a: Any, b: Any) -> Any:
    return a - torch.relu(a - b) if isinstance(a, Tensor) else b - torch.relu(b - a)


def _softplus(a: Any) -> Any:
    """Written out: libraries bound its parts."""
    return torch.log(1 + torch.exp(a))


FUNCTIONS: Mapping[Fn, Callable[..., Any]] = {
    Fn.ADD: operator.add,
    Fn.SUB: operator.sub,
    Fn.MUL: operator.mul,
    Fn.DIV: operator.truediv,
    Fn.NEG: operator.neg,
    Fn.ABS: torch.abs,
    Fn.RELU: torch.relu,
    Fn.MAX: _maximum,
    Fn.MIN: _minimum,
    Fn.EXP: torch.exp,
    Fn.LOG: torch.log,
    Fn.SQRT: torch.sqrt,
    Fn.SIN: torch.sin,
    Fn.COS: torch.cos,
    Fn.TAN: torch.tan,
    Fn.TANH: torch.tanh,
    Fn.SIGMOID: torch.sigmoid,
    Fn.SOFTPLUS: _softplus,
    Fn.ERF: torch.erf,
    Fn.ATAN: torch.atan,
    Fn.SIGN: torch.sign,
    Fn.FLOOR: torch.floor,
}
"""Torch functions of expressions; those missing have no operator in the libraries this module is for."""

_BUILT_IN = (Fn.X, Fn.CONST, Fn.POW)


def _linear(module: GraphModule, node: Node, shapes: Sequence[tuple[int, ...]]) -> Step:
    weight, bias = module.constant(node.params["weight"]), module.constant(node.params["bias"])
    inner = shapes[0][-1]
    if node.size == len(bias):
        return lambda xs: functional.linear(xs[0], weight, bias)
    lead = node.size // len(bias)
    return lambda xs: functional.linear(xs[0].reshape(-1, lead, inner), weight, bias).reshape(-1, node.size)


def _image(node: Node, shape: tuple[int, ...]) -> tuple[int, ...]:
    if shape[0] != 1:
        raise ModelUnsupported(
            node.op.value, node.source, "this engine takes one image at a time; export with batch size 1"
        )
    return shape[1:]


def _conv(module: GraphModule, node: Node, shapes: Sequence[tuple[int, ...]]) -> Step:
    p, image = node.params, _image(node, shapes[0])
    weight, bias = module.constant(p["weight"]), module.constant(p["bias"])
    top, left, bottom, right = (int(v) for v in p["pads"])
    pads = (top, left)
    index = None
    if pads != (bottom, right):  # uneven padding: positions in the padded image, -1 outside
        positions = np.arange(int(np.prod(image))).reshape(image)
        padded = np.pad(positions, [(0, 0), (top, bottom), (left, right)], constant_values=-1)
        image, pads = padded.shape, (0, 0)
        index = module.selection(padded.reshape(-1), np.zeros(padded.size))

    def apply(xs: Sequence[Tensor]) -> Tensor:
        x = xs[0] if index is None else index(xs[0])
        x = x.reshape(-1, *image)
        y = functional.conv2d(x, weight, bias, p["strides"], pads, p["dilations"], p["groups"])
        return y.reshape(-1, node.size)

    return apply


def _by_matrix(module: GraphModule, node: Node, shapes: Sequence[tuple[int, ...]]) -> Step:
    """CONV_TRANSPOSE as a matrix: rare, small, and its forms differ between libraries."""
    from bounds.evaluate import apply_node

    size = int(np.prod(shapes[0], dtype=np.int64))
    units = np.concatenate([np.zeros((1, size)), np.eye(size)]).reshape(size + 1, *shapes[0])
    images = apply_node(node, [units], None, units.dtype).reshape(size + 1, -1)
    weight, bias = module.constant((images[1:] - images[0]).T), module.constant(images[0])
    return lambda xs: functional.linear(xs[0], weight, bias)


def _scale(module: GraphModule, node: Node, shapes: Sequence[tuple[int, ...]]) -> Step:
    del shapes
    scale, shift = (np.broadcast_to(node.params[name], node.shape).reshape(-1) for name in ("scale", "shift"))
    factor = None if bool(np.all(scale == 1)) else module.constant(scale)
    summand = None if not np.any(shift) else module.constant(shift)

    def apply(xs: Sequence[Tensor]) -> Tensor:
        y = xs[0] if factor is None else xs[0] * factor
        return y if summand is None else y + summand

    return apply


def _add(module: GraphModule, node: Node, shapes: Sequence[tuple[int, ...]]) -> Step:
    del module, shapes
    numbers = [float(c) for c in node.params["coefficients"]]

    def apply(xs: Sequence[Tensor]) -> Tensor:
        terms = [x if c == 1 else x * c for x, c in zip(xs, numbers, strict=True)]
        total = terms[0]
        for term in terms[1:]:
            total = total + term
        return total

    return apply


def _take(module: GraphModule, node: Node, shapes: Sequence[tuple[int, ...]]) -> Step:
    del shapes
    select = module.selection(node.params["index"], node.params["fill"])
    return lambda xs: select(xs[0])


def _concat(module: GraphModule, node: Node, shapes: Sequence[tuple[int, ...]]) -> Step:
    start, blocks = 0, []
    for shape in shapes:
        size = int(np.prod(shape, dtype=np.int64))
        blocks.append(np.arange(start, start + size).reshape(shape))
        start += size
    order = np.concatenate(blocks, axis=node.params["axis"]).reshape(-1)
    if np.array_equal(order, np.arange(start)):
        return lambda xs: torch.cat(list(xs), dim=1)
    select = module.selection(order, np.zeros(start))
    return lambda xs: select(torch.cat(list(xs), dim=1))


def _sum(module: GraphModule, node: Node, shapes: Sequence[tuple[int, ...]]) -> Step:
    del module
    shape = shapes[0]
    axes = [int(a) % len(shape) + 1 for a in node.params["axes"]]
    return lambda xs: torch.sum(xs[0].reshape(-1, *shape), dim=axes).reshape(-1, node.size)


def _scalar(module: GraphModule, node: Node, shapes: Sequence[tuple[int, ...]]) -> Step:
    del shapes
    function = module.function(node)
    return lambda xs: function(xs[0])


def _plain(step: Step) -> Callable[[GraphModule, Node, Sequence[tuple[int, ...]]], Step]:
    """A step without parameters."""

    def make(module: GraphModule, node: Node, shapes: Sequence[tuple[int, ...]]) -> Step:
        del module, node, shapes
        return step

    return make


def _reshape(xs: Sequence[Tensor]) -> Tensor:
    return xs[0]


def _relu(xs: Sequence[Tensor]) -> Tensor:
    return torch.relu(xs[0])


def _mul(xs: Sequence[Tensor]) -> Tensor:
    return xs[0] * xs[1]


STEPS: Mapping[Op, Callable[[GraphModule, Node, Sequence[tuple[int, ...]]], Step]] = {
    Op.LINEAR: _linear,
    Op.CONV: _conv,
    Op.CONV_TRANSPOSE: _by_matrix,
    Op.SCALE: _scale,
    Op.ADD: _add,
    Op.TAKE: _take,
    Op.RESHAPE: _plain(_reshape),
    Op.CONCAT: _concat,
    Op.SUM: _sum,
    Op.RELU: _plain(_relu),
    Op.SCALAR: _scalar,
    Op.MUL: _plain(_mul),
}
