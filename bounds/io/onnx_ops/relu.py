"""Piecewise linear elementwise operators: with one kink exactly a RELU, otherwise one SCALAR.

Internal steps count no float32 roundings: the original operators compare and select, they do not compute
``x - lo``. Operators that do multiply (LeakyRelu, PRelu) count it where their formula is assembled.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np

from bounds.errors import ModelInvalid
from bounds.expression import Expr, Fn, X, as_expr
from bounds.expression import call as apply
from bounds.graph import Array
from bounds.io import values
from bounds.io.context import Builder, Call, Context
from bounds.io.fusion import number_of, operation
from bounds.io.onnx_ops.pool import maximum, minimum
from bounds.io.values import Const, Value, Var

_FLOAT32_MAX = float(np.finfo(np.float32).max)  # the default bounds of Clip in opset 6


def _folded(call: Call, function: Callable[[Array], Array]) -> Value | None:
    """The exact result on constants; None if an operand is no constant."""
    x = call.operand(0)
    return values.apply_exact(x, function) if isinstance(x, Const) else None


def _relu(ctx: Context, call: Call) -> list[Value]:
    folded = _folded(call, lambda x: np.maximum(x, 0))
    if folded is not None:
        return [folded]
    x = ctx.variable(call.operand(0))
    return [ctx.fuse(operation(Fn.RELU), [x], lambda: ctx.relu(x), roundings=0)]


def _abs(ctx: Context, call: Call) -> list[Value]:
    folded = _folded(call, np.abs)
    return [folded if folded is not None else absolute(ctx, ctx.variable(call.operand(0)))]


def absolute(ctx: Context, x: Var) -> Var:
    """``|x| = 2 relu(x) - x``; one RELU node."""
    return ctx.fuse(operation(Fn.ABS), [x], lambda: ctx.combine([ctx.relu(x), x], [2, -1]), roundings=0)


def _leaky_relu(ctx: Context, call: Call) -> list[Value]:
    """``s x + (1 - s) relu(x)``; one RELU node, one rounding (the product s x)."""
    slope = float(call.attributes.get("alpha", np.float32(0.01)))
    x = ctx.variable(call.operand(0))

    def lower() -> Var:
        rest, error = _one_minus(np.asarray(slope))
        return ctx.combine([x, ctx.relu(x)], [slope, float(rest)], roundings=1, error=error)

    return [ctx.fuse(partial(_leaky, slope), [x], lower)]


def _leaky(slope: float, e: Expr) -> Expr:
    """A convex function is the larger of its two branches, a concave one the smaller."""
    return apply(Fn.MAX if slope <= 1 else Fn.MIN, e, slope * e)


def _p_relu(ctx: Context, call: Call) -> list[Value]:
    """As LeakyRelu with a slope per element; the slopes are SCALE nodes."""
    slope = call.constant(1, "slope")
    if slope is None or not slope.exact:
        raise call.unsupported("slope must be a stored constant")
    x = ctx.variable(call.operand(0))

    def lower() -> Var:
        rest, error = _one_minus(slope.data)
        falling = ctx.scale(x, slope.data, 0.0)
        rising = ctx.scale(ctx.relu(x), rest, 0.0, error=error)
        return ctx.combine([falling, rising], [1, 1], roundings=1)

    number = number_of(slope, x.shape)
    return [lower() if number is None else ctx.fuse(partial(_leaky, number), [x], lower)]


def _one_minus(slope: Array) -> tuple[Array, float]:
    """``1 - slope`` and its relative rounding error."""
    one = Const(np.asarray(1.0), "float64")
    rest = values.add(one, Const(-slope, "float64"))
    assert rest is not None  # both operands are exact
    return rest.data, rest.error


def _clip(ctx: Context, call: Call) -> list[Value]:
    x = call.operand(0)
    limits = [call.optional(i) for i in (1, 2)]
    if any(isinstance(v, Var) or (v is not None and (v.data.size != 1 or not v.exact)) for v in limits):
        for v, largest in zip(limits, (True, False), strict=True):
            x = x if v is None else _step(ctx, x, v, largest=largest)
        return [x]
    low, high = (_bound(call, i, name) for i, name in ((1, "min"), (2, "max")))
    if not low <= high or (np.isinf(low) and low > 0) or (np.isinf(high) and high < 0):
        raise call.unsupported(f"bounds min={low} and max={high} are in the wrong order")
    folded = _folded(call, lambda x: np.minimum(np.maximum(x, low), high))
    return [folded if folded is not None else clip(ctx, ctx.variable(x), low, high)]


def _bound(call: Call, i: int, name: str) -> float:
    const = call.constant(i, name)
    if const is not None and (const.data.size != 1 or not const.exact):
        raise call.unsupported(f"{name} must be one stored number")
    infinite = -np.inf if name == "min" else np.inf
    value = float(call.attributes.get(name, infinite) if const is None else const.data.reshape(-1)[0])
    if np.isnan(value):
        raise ModelInvalid(f"node '{call.name}': {name} is NaN; export the model again")
    # beyond the largest float32 only overflow happens, which no verdict speaks about
    beyond = call.operand(0).dtype == "float32" and abs(value) >= _FLOAT32_MAX
    return infinite if beyond and np.sign(value) == np.sign(infinite) else value


def clip(ctx: Context, x: Var, low: float, high: float) -> Var:
    """``min(max(x, low), high)``: with one finite bound a RELU node, with two a SCALAR."""
    if np.isinf(low) and np.isinf(high):
        return x
    form = clip_form(low, high)

    def lower() -> Var:
        if np.isfinite(low):  # low + relu(x - low)
            y = ctx.relu(ctx.scale(x, 1.0, -low) if low != 0 else x)
            return ctx.scale(y, 1.0, low) if low != 0 else y
        return ctx.combine([x, ctx.relu(ctx.scale(x, 1.0, -high) if high != 0 else x)], [1, -1])

    return ctx.fuse(form, [x], lower, roundings=0)


def clip_form(low: float, high: float) -> Callable[[Expr], Expr]:
    """``min(max(x, low), high)``, infinite bounds left out."""

    def form(e: Expr) -> Expr:
        e = apply(Fn.MAX, e, as_expr(low)) if np.isfinite(low) else e
        return apply(Fn.MIN, e, as_expr(high)) if np.isfinite(high) else e

    return form


def _hard_sigmoid(ctx: Context, call: Call) -> list[Value]:
    """``clip(alpha x + beta, 0, 1)``."""
    alpha = float(call.attributes.get("alpha", np.float32(0.2)))
    beta = float(call.attributes.get("beta", 0.5))
    return [ctx.apply(clip_form(0.0, 1.0)(alpha * X + beta), ctx.variable(call.operand(0)))]


def _fold(call: Call, ctx: Context, *, largest: bool) -> list[Value]:
    """Left fold over the operands, one RELU node per step: ``m = next + relu(m - next)``."""
    result = call.operand(0)
    for i in range(1, len(call.inputs)):
        result = _step(ctx, result, call.operand(i), largest=largest)
    return [result]


def _step(ctx: Context, m: Value, other: Value, *, largest: bool) -> Value:
    if isinstance(m, Const) and isinstance(other, Const):
        if m.exact and other.exact:
            function = np.maximum if largest else np.minimum
            return Const(np.asarray(function(m.data, other.data)), m.dtype, m.name)
        m = ctx.variable(m)
    return extremum(ctx, m, other, largest=largest)


def extremum(ctx: Context, m: Value, other: Value, *, largest: bool) -> Var:
    """The larger or the smaller of two, one of them a variable."""

    def lower() -> Var:
        sign = 1.0 if largest else -1.0  # min(m, c) = c - relu(c - m)
        if isinstance(m, Var) and isinstance(other, Const) and other.exact:
            excess = ctx.relu(ctx.scale(m, sign, -sign * other.data))
            return ctx.scale(excess, sign, other.data)
        if isinstance(other, Var) and isinstance(m, Const) and m.exact:
            excess = ctx.relu(ctx.scale(other, -sign, sign * m.data))
            return ctx.combine([other, excess], [1, sign])
        return (maximum if largest else minimum)(ctx, ctx.variable(m), ctx.variable(other))

    return ctx.fuse(operation(Fn.MAX if largest else Fn.MIN), [m, other], lower, roundings=0)


def _max(ctx: Context, call: Call) -> list[Value]:
    return _fold(call, ctx, largest=True)


def _min(ctx: Context, call: Call) -> list[Value]:
    return _fold(call, ctx, largest=False)


BUILDERS: Mapping[str, Builder] = {
    "Abs": _abs,
    "Clip": _clip,
    "HardSigmoid": _hard_sigmoid,
    "LeakyRelu": _leaky_relu,
    "Max": _max,
    "Min": _min,
    "PRelu": _p_relu,
    "Relu": _relu,
}
