"""The importer's workbench: adds primitives to a graph under construction, with shapes and limits.

Operator builders (:mod:`bounds.io.onnx_ops`) speak only to this module, never to protobufs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np

from bounds.errors import LimitExceeded, ModelInvalid, ModelUnsupported
from bounds.expression import Expr
from bounds.graph import Array, GraphBuilder, Op
from bounds.io.fusion import Algebra, Form, is_affine, is_light, link, product_form
from bounds.io.limits import Limits
from bounds.io.values import Const, Value, Var
from bounds.shapes import Shape, infer_shape


@dataclass(frozen=True, slots=True)
class Call:
    """One node of the ONNX graph: its operator, attributes and operands.

    ``inputs`` has None where an optional operand is left out; ``attributes`` holds plain Python
    values, numpy arrays for tensors.
    """

    op_type: str
    name: str
    opset: int
    inputs: tuple[Value | None, ...]
    attributes: Mapping[str, Any]
    outputs: tuple[str, ...]

    def operand(self, i: int) -> Value:
        """The required operand ``i``."""
        if i >= len(self.inputs) or (value := self.inputs[i]) is None:
            raise ValueError(f"operand {i} is missing")
        return value

    def optional(self, i: int) -> Value | None:
        """The operand ``i``, or None where it is left out."""
        return self.inputs[i] if i < len(self.inputs) else None

    def constant(self, i: int, what: str) -> Const | None:
        """The optional operand ``i``, which must be a constant (``what`` names it in the error)."""
        value = self.optional(i)
        if isinstance(value, Var):
            raise self.unsupported(f"{what} depends on the network input; make it a constant")
        return value

    def integers(self, name: str, operand: int | None = None) -> tuple[int, ...] | None:
        """A list of integers given as attribute ``name`` or, in newer opsets, as an operand."""
        value: Any = self.attributes.get(name)
        if value is None and operand is not None:
            const = self.constant(operand, name)
            value = None if const is None else const.data.ravel().tolist()
        if value is None:
            return None
        return tuple(int(v) for v in (value if isinstance(value, (list, tuple)) else [value]))

    def text(self, name: str, default: str) -> str:
        """A string attribute."""
        value = self.attributes.get(name, default)
        return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)

    def unsupported(self, detail: str) -> ModelUnsupported:
        """The error for a form of this operator that is not analysed."""
        return ModelUnsupported(self.op_type, self.name, detail)


Builder: TypeAlias = "Callable[[Context, Call], list[Value]]"


class Context:
    """Adds primitives for the ONNX node ``source`` of type ``operator``; methods return the new value."""

    def __init__(self, builder: GraphBuilder, limits: Limits) -> None:
        self.builder = builder
        self.limits = limits
        self.source = self.operator = ""
        self.nan_tests: dict[int, int] = {}  # node that stands for IsNaN of another node
        self.algebra = Algebra()
        self.lone: frozenset[int] = frozenset()  # nodes of operands that nothing else reads
        self.one_hots: dict[
            int, Var
        ] = {}  # node of a computed index (R, 1) -> the marks (R, n) it was read off

    def guard(self, shape: Sequence[int]) -> Shape:
        """Returns ``shape`` if a tensor of it is allowed, before anything is allocated."""
        size = math.prod(int(s) for s in shape)
        if size * 8 > self.limits.tensor_bytes:
            raise LimitExceeded(
                f"node '{self.source}': a tensor of shape {list(shape)} takes {size * 8} bytes, "
                f"over the limit of {self.limits.tensor_bytes}; raise the limit if intended"
            )
        return tuple(int(s) for s in shape)

    def add(
        self,
        op: Op,
        inputs: Sequence[Var],
        params: Mapping[str, Any],
        shape: Shape | None = None,
        *,
        roundings: int = 0,
        error: float = 0.0,
    ) -> Var:
        """Adds one primitive; the shape is inferred and checked."""
        if len(self.builder.nodes) >= self.limits.nodes:
            raise LimitExceeded(
                f"node '{self.source}': the network needs over {self.limits.nodes} nodes; raise the limit"
            )
        for name, value in params.items():
            if isinstance(value, np.ndarray) and value.dtype.kind == "f" and not np.isfinite(value).all():
                raise ModelInvalid(
                    f"node '{self.source}': {name} contains NaN or infinity; export the model again"
                )
        shape = self.guard(infer_shape(op, [x.shape for x in inputs], params, shape))
        node = self.builder.add(
            op, [x.node for x in inputs], shape, params,
            roundings=roundings, weight_error=error, source=self.source,
        )  # fmt: skip
        masked = self._masked(op, inputs, params, shape)
        return Var(node, shape, inputs[0].dtype if inputs else "float32", masked=masked)

    def _masked(self, op: Op, inputs: Sequence[Var], params: Mapping[str, Any], shape: Shape) -> Array | None:
        """Where the result is minus infinity; only moving such elements is possible."""
        if any(x.node in self.nan_tests for x in inputs):
            raise ModelUnsupported(
                "IsNaN", self.source, "a test for NaN that does not just replace NaN; real numbers never are"
            )
        if all(x.masked is None for x in inputs):
            return None
        masks = [np.zeros(x.shape, bool) if x.masked is None else x.masked for x in inputs]
        if op is Op.TAKE:
            index = params["index"]
            found = masks[0].reshape(-1)[index] & (index >= 0)
        elif op is Op.RESHAPE:
            found = masks[0]
        elif op is Op.CONCAT:
            found = np.concatenate(masks, axis=params["axis"])
        else:
            raise ModelUnsupported(
                self.operator, self.source, "an operand is minus infinity in places, which only Softmax takes"
            )
        return found.reshape(shape) if found.any() else None

    def linear(
        self, x: Var, weight: Array, bias: Array | None = None, *, roundings: int, error: float = 0.0
    ) -> Var:
        """``y[..., o] = sum_i weight[o, i] x[..., i] + bias[o]``."""
        bias = np.zeros(weight.shape[0]) if bias is None else bias
        return self.add(Op.LINEAR, [x], {"weight": weight, "bias": bias}, roundings=roundings, error=error)

    def scale(
        self, x: Var, scale: Array | float, shift: Array | float, *, roundings: int = 0, error: float = 0.0
    ) -> Var:
        """``x * scale + shift``, after expanding ``x`` where the constants have the larger shape."""
        params = {"scale": np.asarray(scale, np.float64), "shift": np.asarray(shift, np.float64)}
        shape = np.broadcast_shapes(x.shape, params["scale"].shape, params["shift"].shape)
        return self.add(Op.SCALE, [self.expand(x, shape)], params, roundings=roundings, error=error)

    def combine(
        self, xs: Sequence[Var], coefficients: Sequence[float], *, roundings: int = 0, error: float = 0.0
    ) -> Var:
        """``sum_k coefficients[k] * xs[k]``, broadcast to a common shape."""
        shape = np.broadcast_shapes(*(x.shape for x in xs))
        params = {"coefficients": np.asarray(coefficients, np.float64)}
        return self.add(Op.ADD, [self.expand(x, shape) for x in xs], params, roundings=roundings, error=error)

    def relu(self, x: Var) -> Var:
        """``max(x, 0)``."""
        return self.add(Op.RELU, [x], {})

    def fuse(
        self,
        form: Form,
        operands: Sequence[Value],
        lower: Callable[[], Var],
        *,
        roundings: int = 1,
        dtype: str | None = None,
    ) -> Var:
        """An elementwise operator, as one function of one tensor where it is one (:mod:`bounds.io.fusion`).

        Args:
            form: the operator on expressions, one for each operand.
            operands: at least one of them a variable.
            lower: adds the operator's own nodes instead; called where no common tensor exists, where the
                function is affine but for at most one kink, and for affine steps after a value that is
                used elsewhere too.
            roundings: of the operator itself, see :class:`bounds.graph.Node`.
            dtype: element type of the result where it is not that of the first variable.
        """
        found = link(self.algebra, form, operands, roundings)
        if found is None:
            y = lower()
        elif is_light(found.expr) or (is_affine(found.parent.expr) and not self._absorbs(operands)):
            y = replace(lower(), parent=found.parent)
        else:
            params = {"function": found.expr}
            y = self.add(Op.SCALAR, [found.root], params, roundings=found.roundings)
            y = replace(y, parent=found.parent)
        wanted = dtype or next(v.dtype for v in operands if isinstance(v, Var))
        return y if y.dtype == wanted else replace(y, dtype=wanted)

    def _absorbs(self, operands: Sequence[Value]) -> bool:
        """Whether an affine step joins the scalar function before it: nothing else reads that value."""
        nodes = [v.node for v in operands if isinstance(v, Var)]
        return len(nodes) == 1 and nodes[0] in self.lone and self.builder.nodes[nodes[0]].op is Op.SCALAR

    def apply(self, function: Expr, x: Var, *, roundings: int = 1) -> Var:
        """``function(x)`` elementwise, fused with what ``x`` is a function of."""

        outer = self.algebra.intern(function)

        def form(inner: Expr) -> Expr:
            return self.algebra.compose(outer, inner)

        def lower() -> Var:
            return self.add(Op.SCALAR, [x], {"function": outer}, roundings=roundings)

        return self.fuse(form, [x], lower, roundings=roundings)

    def product(self, a: Var, b: Var, *, roundings: int = 1) -> Var:
        """``a * b``, broadcast to a common shape; a square where both are the same."""

        def lower() -> Var:
            shape = np.broadcast_shapes(a.shape, b.shape)
            return self.add(Op.MUL, [self.expand(a, shape), self.expand(b, shape)], {}, roundings=roundings)

        return self.fuse(product_form, [a, b], lower, roundings=roundings)

    def reshape(self, x: Var, shape: Sequence[int]) -> Var:
        """Same elements in C order."""
        return x if x.shape == tuple(shape) else self.add(Op.RESHAPE, [x], {}, tuple(shape))

    def take(self, x: Var, index: Array, fill: Array | float = 0.0) -> Var:
        """Elements of ``x`` by flat index; ``index`` has the wanted shape, -1 stands for ``fill``."""
        index = np.asarray(index, np.int64)
        size = math.prod(x.shape)
        if index.size == size and np.array_equal(index.ravel(), np.arange(size)):
            return self.reshape(x, index.shape)
        values = np.broadcast_to(np.asarray(fill, np.float64), index.shape)
        return self.add(Op.TAKE, [x], {"index": index.ravel(), "fill": values.ravel()}, index.shape)

    def choose(self, options: Sequence[Var], which: Array) -> Var:
        """Of several tensors of one shape, element by element, the one that ``which`` (same shape) names."""
        flat = [self.reshape(x, (math.prod(x.shape),)) for x in options]
        both = self.add(Op.CONCAT, flat, {"axis": 0})
        return self.take(both, which * which.size + np.arange(which.size).reshape(which.shape))

    def expand(self, x: Var, shape: Shape) -> Var:
        """Broadcasts ``x`` to ``shape``."""
        return x if x.shape == shape else self.take(x, np.broadcast_to(self.index(x), self.guard(shape)))

    def index(self, x: Var) -> Array:
        """The flat index of every element of ``x``, in its shape."""
        return np.arange(math.prod(x.shape), dtype=np.int64).reshape(x.shape)

    def move(self, value: Value, function: Callable[[Array], Array]) -> Value:
        """Applies a function that only moves elements (no arithmetic) to a constant or a node."""
        if isinstance(value, Const):
            return replace(value, data=np.asarray(function(value.data)))
        return self.take(value, function(self.index(value)))

    def variable(self, value: Value) -> Var:
        """The value as a node; a constant becomes a TAKE that takes nothing but its fill."""
        if isinstance(value, Var):
            return value
        anchor = self.builder.nodes[0]
        index = np.full(value.data.size, -1, np.int64)
        fill = value.data.astype(np.float64).ravel()
        if not value.is_float and not np.array_equal(fill.astype(np.int64), value.data.ravel()):
            raise ValueError(f"tensor '{value.name}' holds integers that float64 does not represent")
        params = {"index": index, "fill": fill}
        source = Var(anchor.id, anchor.shape, value.dtype)
        return self.add(Op.TAKE, [source], params, value.shape, roundings=value.roundings, error=value.error)
