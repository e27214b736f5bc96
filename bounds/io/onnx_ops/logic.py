"""Comparisons, logic, selection and casts; truth values are the numbers 0 and 1.

Comparing rounds nothing: ``a > b`` is decided by the sign of the real difference ``a - b``, so nodes
added for it count no float32 roundings.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from bounds.expression import Expr, Fn, X
from bounds.expression import call as apply
from bounds.graph import Array, Op
from bounds.io.context import Builder, Call, Context
from bounds.io.fusion import operation
from bounds.io.onnx_ops.constant import ELEMENT_TYPES, MANTISSA, cast_constant, known
from bounds.io.onnx_ops.relu import absolute, extremum
from bounds.io.values import Const, Value, Var

_FLOATS = ("float32", "float64")
_WIDE = ("int32", "int64")  # integers that data of a network is assumed not to overflow


def _comparison(fn: Fn, function: Callable[..., Array], *, swapped: bool = False) -> Builder:
    """``fn(a - b)``, or ``fn(b - a)`` where ``swapped``."""

    def build(ctx: Context, call: Call) -> list[Value]:
        a, b = call.operand(0), call.operand(1)
        if isinstance(a, Const) and isinstance(b, Const):
            return _decided(call, function)
        left, right = (b, a) if swapped else (a, b)
        zero = _is_zero(b if isinstance(b, Const) else a)

        def form(u: Expr, v: Expr) -> Expr:
            p, q = (v, u) if swapped else (u, v)
            if not zero:
                return apply(fn, p - q)
            return apply(fn, p if isinstance(right, Const) else -q)

        def lower() -> Var:
            return ctx.apply(apply(fn, X), _difference(ctx, left, right), roundings=0)

        return [ctx.fuse(form, [a, b], lower, roundings=0, dtype="bool")]

    return build


def _is_zero(value: Value) -> bool:
    return isinstance(value, Const) and not value.data.any()


def _difference(ctx: Context, a: Value, b: Value) -> Var:
    """``a - b`` where the model only compares."""
    if isinstance(b, Const):
        return ctx.scale(
            ctx.variable(a), 1.0, -b.data.astype(np.float64), roundings=b.roundings, error=b.error
        )
    if isinstance(a, Const):
        return ctx.scale(b, -1.0, a.data.astype(np.float64), roundings=a.roundings, error=a.error)
    return ctx.combine([a, b], [1.0, -1.0])


def _decided(call: Call, function: Callable[..., Array]) -> list[Value]:
    """The result of an operator on constants alone."""
    operands = [known(call, i).data for i in range(len(call.inputs))]
    return [Const(np.asarray(function(*operands), np.bool_), "bool", call.outputs[0])]


def _not(ctx: Context, call: Call) -> list[Value]:
    x = call.operand(0)
    if isinstance(x, Const):
        return _decided(call, np.logical_not)
    return [ctx.fuse(_complement, [x], lambda: ctx.scale(x, -1.0, 1.0), roundings=0)]


def _complement(e: Expr) -> Expr:
    return 1.0 - e


def _logic(
    function: Callable[..., Array], affine: Callable[[Array], tuple[Array, Array]], pair: Callable[..., Var]
) -> Builder:
    """An operator on truth values: with a constant c ``scale x + shift`` by ``affine(c)``."""

    def build(ctx: Context, call: Call) -> list[Value]:
        a, b = call.operand(0), call.operand(1)
        if isinstance(a, Var) and isinstance(b, Var):
            return [pair(ctx, a, b)]
        if isinstance(a, Const) and isinstance(b, Const):
            return _decided(call, function)
        x, c = (a, b) if isinstance(b, Const) else (b, a)
        assert isinstance(c, Const)
        scale, shift = affine(c.data.astype(np.float64))
        return [ctx.scale(ctx.variable(x), scale, shift)]

    return build


def _both(ctx: Context, a: Var, b: Var) -> Var:
    return extremum(ctx, a, b, largest=False)


def _either(ctx: Context, a: Var, b: Var) -> Var:
    return extremum(ctx, a, b, largest=True)


def _distance(u: Expr, v: Expr) -> Expr:
    return apply(Fn.ABS, u - v)


def _one_of(ctx: Context, a: Var, b: Var) -> Var:
    """``|a - b|``."""

    def lower() -> Var:
        return absolute(ctx, ctx.combine([a, b], [1.0, -1.0]))

    return ctx.fuse(_distance, [a, b], lower, roundings=0)


def _where(ctx: Context, call: Call) -> list[Value]:
    c, a, b = (call.operand(i) for i in range(3))
    if isinstance(c, Const):
        return [_selected(ctx, known(call, 0).data, a, b)]
    if isinstance(b, Var) and ctx.nan_tests.get(c.node) == b.node and a.shape in ((), b.shape):
        return [b]  # where b is a number; where it is not, nothing is proved about it
    form = operation(Fn.WHERE)
    return [ctx.fuse(form, [c, a, b], lambda: _blend(ctx, c, a, b), roundings=0, dtype=a.dtype)]


def _blend(ctx: Context, c: Var, a: Value, b: Value) -> Var:
    """``b + c (a - b)``; for two constants ``c a + (b - c b)``, whose numbers are exact."""
    if isinstance(a, Const) and isinstance(b, Const):
        u, v = (x.data.astype(np.float64) for x in (a, b))
        first = ctx.scale(c, u, 0.0, roundings=a.roundings, error=a.error)
        second = ctx.scale(c, -v, v, roundings=b.roundings, error=b.error)
        return ctx.combine([first, second], [1.0, 1.0])
    chosen = ctx.product(c, _difference(ctx, a, b), roundings=0)
    if isinstance(b, Const):
        return ctx.scale(chosen, 1.0, b.data.astype(np.float64), roundings=b.roundings, error=b.error)
    return ctx.combine([chosen, b], [1.0, 1.0])


def _selected(ctx: Context, chosen: Array, a: Value, b: Value) -> Value:
    """Selection by a constant condition: no arithmetic."""
    if isinstance(a, Const) and isinstance(b, Const):
        error, roundings = max(a.error, b.error), max(a.roundings, b.roundings)
        return replace(a, data=np.asarray(np.where(chosen, a.data, b.data)), error=error, roundings=roundings)
    shape = ctx.guard(np.broadcast_shapes(chosen.shape, a.shape, b.shape))
    if isinstance(a, Const) or isinstance(b, Const):
        x, fill, keep = (b, a, ~chosen) if isinstance(a, Const) else (a, b, chosen)
        if isinstance(x, Var) and isinstance(fill, Const) and fill.exact:
            index = np.broadcast_to(np.where(keep, ctx.index(x), -1), shape)
            return _filled(ctx, x, index, np.where(index < 0, fill.data, 0.0))
    u, v = ctx.variable(a), ctx.variable(b)
    both = ctx.add(Op.CONCAT, [ctx.reshape(w, (math.prod(w.shape),)) for w in (u, v)], {"axis": 0})
    index = np.where(chosen, ctx.index(u), ctx.index(v) + math.prod(u.shape))
    return ctx.take(both, np.broadcast_to(index, shape))


def _filled(ctx: Context, x: Var, index: Array, fill: Array) -> Var:
    """A TAKE whose constants may be minus infinity."""
    removed = fill == -np.inf
    y = ctx.take(x, index, np.where(removed, 0.0, fill))
    if not removed.any():
        return y
    return replace(y, parent=None, masked=removed if y.masked is None else removed | y.masked)


def _cast(ctx: Context, call: Call) -> list[Value]:
    to: Any = call.attributes.get("to", 0)
    target = ELEMENT_TYPES.get(to, "")
    if not target:
        raise call.unsupported(f"element type {to}; only numbers are supported")
    return [_converted(ctx, call, target)]


def _cast_like(ctx: Context, call: Call) -> list[Value]:
    return [_converted(ctx, call, call.operand(1).dtype)]


def _converted(ctx: Context, call: Call, target: str) -> Value:
    x = call.operand(0)
    if isinstance(x, Const):
        if not x.exact and target != x.dtype:
            raise call.unsupported("cast of a rounded constant; store its value in the model")
        return cast_constant(x, target)
    if target == x.dtype:
        return x
    if target == "bool":
        return ctx.fuse(_is_not_zero, [x], lambda: _nonzero(ctx, x), roundings=0, dtype="bool")
    if target in _WIDE:
        if x.dtype not in _FLOATS:
            return replace(x, dtype=target)
        return replace(ctx.apply(apply(Fn.TRUNC, X), x, roundings=0), dtype=target)
    if target not in MANTISSA:
        raise call.unsupported(
            f"cast of network data to {target}, where numbers may wrap around; cast to int32 or int64"
        )
    if target not in _FLOATS or MANTISSA[target] < MANTISSA.get(x.dtype, 0):
        raise call.unsupported(
            f"cast of network data from {x.dtype} to {target} rounds; keep one element type"
        )
    # whole numbers: arithmetic on them is charged as if it rounded, which covers the rounding here
    return replace(x, dtype=target)


def _is_not_zero(e: Expr) -> Expr:
    return 1.0 - apply(Fn.ZERO, e)


def _nonzero(ctx: Context, x: Var) -> Var:
    return ctx.scale(ctx.apply(apply(Fn.ZERO, X), x, roundings=0), -1.0, 1.0)


def _is_nan(ctx: Context, call: Call) -> list[Value]:
    """Of network data only as the condition of a Where that replaces NaN in that same data."""
    x = call.operand(0)
    if isinstance(x, Const):
        return _decided(call, np.isnan)
    test = ctx.variable(Const(np.zeros(x.shape), "bool"))
    ctx.nan_tests[test.node] = x.node
    return [test]


def _on_constants(function: Callable[..., Array], why: str) -> Builder:
    def build(ctx: Context, call: Call) -> list[Value]:
        del ctx
        if isinstance(call.operand(0), Var):
            raise call.unsupported(why)
        return _decided(call, function)

    return build


BUILDERS: Mapping[str, Builder] = {
    "And": _logic(np.logical_and, lambda c: (c, 0.0 * c), _both),
    "Cast": _cast,
    "CastLike": _cast_like,
    "Equal": _comparison(Fn.ZERO, np.equal),
    "Greater": _comparison(Fn.STRICT, np.greater),
    "GreaterOrEqual": _comparison(Fn.STEP, np.greater_equal),
    "IsInf": _on_constants(np.isinf, "a test for infinities, which real numbers never are; remove it"),
    "IsNaN": _is_nan,
    "Less": _comparison(Fn.STRICT, np.less, swapped=True),
    "LessOrEqual": _comparison(Fn.STEP, np.less_equal, swapped=True),
    "Not": _not,
    "Or": _logic(np.logical_or, lambda c: (1.0 - c, c), _either),
    "Where": _where,
    "Xor": _logic(np.logical_xor, lambda c: (1.0 - 2.0 * c, c), _one_of),
}
