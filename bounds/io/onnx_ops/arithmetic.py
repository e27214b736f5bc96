"""Elementwise arithmetic: sums, products, quotients, powers; constants are folded where that is provable.

A form names the operator on expressions, a lowering adds its own nodes; the workbench decides which of the
two is used (:mod:`bounds.io.fusion`).
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial, reduce

import numpy as np

from bounds.expression import Expr, Fn, X, const
from bounds.expression import call as apply
from bounds.graph import Array
from bounds.io import values
from bounds.io.context import Builder, Call, Context
from bounds.io.fusion import number_of, operation, product_form
from bounds.io.values import Const, Value, Var

_DISTINCT_EXPONENTS = 64
_RECIPROCAL = 1.0 / X
_TRUNC = apply(Fn.TRUNC, X)


def _add(ctx: Context, call: Call) -> list[Value]:
    return [sum_of(ctx, call.operand(0), call.operand(1), 1.0)]


def _sub(ctx: Context, call: Call) -> list[Value]:
    return [sum_of(ctx, call.operand(0), call.operand(1), -1.0)]


def sum_of(ctx: Context, a: Value, b: Value, sign: float) -> Value:
    """``a + sign * b`` for sign 1 or -1."""
    if isinstance(a, Const) and isinstance(b, Const):
        folded = values.add(a, b if sign > 0 else values.negate(b))
        if folded is not None:
            return folded
        a = ctx.variable(a)
    return ctx.fuse(operation(Fn.ADD if sign > 0 else Fn.SUB), [a, b], lambda: _sum_of_two(ctx, a, b, sign))


def _sum_of_two(ctx: Context, a: Value, b: Value, sign: float) -> Var:
    if isinstance(a, Const) and sign > 0:
        a, b = b, a
    if isinstance(b, Const):
        removed = np.asarray(b.data == -sign * np.inf)
        if removed.any() or (isinstance(a, Var) and a.masked is not None):
            kept = replace(b, data=np.where(removed, 0.0, sign * b.data))
            return _masked_sum(ctx, ctx.variable(a), kept, removed)
        return ctx.scale(ctx.variable(a), 1.0, sign * _real(b), roundings=1 + b.roundings, error=b.error)
    if isinstance(a, Const):
        return ctx.scale(b, sign, _real(a), roundings=1 + a.roundings, error=a.error)
    return ctx.combine([a, b], [1.0, sign], roundings=1)


def _masked_sum(ctx: Context, a: Var, b: Const, removed: Array) -> Var:
    """``a + b``, but minus infinity where ``removed`` and where ``a`` is."""
    shape = np.broadcast_shapes(a.shape, removed.shape)
    before = np.zeros(a.shape, bool) if a.masked is None else a.masked
    y = ctx.expand(replace(a, masked=None), shape)
    if b.data.any():
        y = ctx.scale(y, 1.0, _real(b), roundings=1 + b.roundings, error=b.error)
    return replace(y, parent=None, masked=np.broadcast_to(before | removed, shape))


def _real(c: Const) -> Array:
    return np.asarray(c.data, np.float64)


def _mul(ctx: Context, call: Call) -> list[Value]:
    return [times(ctx, call.operand(0), call.operand(1))]


def times(ctx: Context, a: Value, b: Value) -> Value:
    """``a * b``."""
    if isinstance(a, Const) and isinstance(b, Const):
        folded = values.multiply(a, b)
        if folded is not None:
            return folded
        a = ctx.variable(a)
    if isinstance(a, Var) and isinstance(b, Var):
        return ctx.product(a, b)
    x, c = (a, b) if isinstance(b, Const) else (b, a)
    assert isinstance(c, Const)
    return ctx.fuse(
        product_form,
        [a, b],
        lambda: ctx.scale(ctx.variable(x), _real(c), 0.0, roundings=1 + c.roundings, error=c.error),
    )


def _div(ctx: Context, call: Call) -> list[Value]:
    a, b = call.operand(0), call.operand(1)
    if isinstance(b, Const):
        if np.any(b.data == 0):
            raise ZeroDivisionError(f"division by zero (tensor '{b.name}')")
        if isinstance(a, Const):
            folded = values.divide(a, b)
            if folded is not None:
                return [folded]
    x, y = ctx.variable(a) if isinstance(b, Const) else a, b
    dtype = next(v.dtype for v in (x, y) if isinstance(v, Var))
    if dtype.startswith("float"):
        return [ctx.fuse(operation(Fn.DIV), [x, y], lambda: _quotient(ctx, call, x, y))]
    return [ctx.fuse(_truncated, [x, y], lambda: ctx.apply(_TRUNC, _quotient(ctx, call, x, y), roundings=0))]


def _truncated(u: Expr, v: Expr) -> Expr:
    """Integers are divided toward zero."""
    return apply(Fn.TRUNC, u / v)


def _quotient(ctx: Context, call: Call, a: Value, b: Value) -> Var:
    if isinstance(b, Var):
        inverse = ctx.apply(_RECIPROCAL, b, roundings=0)
        if isinstance(a, Var):
            return ctx.product(a, inverse)
        return ctx.scale(inverse, _real(a), 0.0, roundings=1 + a.roundings, error=a.error)
    inverse = values.reciprocal(replace(b, data=_real(b)))
    if inverse is None:
        raise call.unsupported(f"divisor '{b.name}' is outside the range in which 1/x is accurate")
    return ctx.scale(ctx.variable(a), inverse.data, 0.0, roundings=1 + b.roundings, error=inverse.error)


def _neg(ctx: Context, call: Call) -> list[Value]:
    x = call.operand(0)
    if isinstance(x, Const):
        return [values.negate(x)]
    return [ctx.fuse(operation(Fn.NEG), [x], lambda: ctx.scale(x, -1.0, 0.0), roundings=0)]


def _reciprocal(ctx: Context, call: Call) -> list[Value]:
    x = call.operand(0)
    if isinstance(x, Const):
        if np.any(x.data == 0):
            raise ZeroDivisionError(f"division by zero (tensor '{x.name}')")
        folded = values.divide(Const(np.asarray(1.0), x.dtype), x)
        if folded is not None:
            return [folded]
    return [ctx.apply(_RECIPROCAL, ctx.variable(x))]


def _sum(ctx: Context, call: Call) -> list[Value]:
    return [_sum_all(ctx, call)]


def _mean(ctx: Context, call: Call) -> list[Value]:
    n = len(call.inputs)
    total = ctx.variable(_sum_all(ctx, call))
    if n == 1:
        return [total]

    # a runtime may divide by n or multiply by a rounded 1/n: two roundings cover both
    def lower() -> Var:
        return ctx.scale(total, 1.0 / n, 0.0, roundings=2, error=inverse_error(n))

    return [ctx.fuse(partial(_divided, n), [total], lower) if inverse_error(n) == 0 else lower()]


def _sum_all(ctx: Context, call: Call) -> Value:
    """One ADD of all operands, so that its count bounds the rounding of every order of summation."""
    operands = [call.operand(i) for i in range(len(call.inputs))]
    if len(operands) == 1:
        return operands[0]
    if all(isinstance(x, Const) for x in operands):
        operands[0] = ctx.variable(operands[0])

    def lower() -> Var:
        count = len(operands)
        return ctx.combine([ctx.variable(x) for x in operands], [1.0] * count, roundings=count)

    return ctx.fuse(_total, operands, lower)


def _divided(n: int, e: Expr) -> Expr:
    return e / float(n)


def _total(*parts: Expr) -> Expr:
    return reduce(operator.add, parts)


def inverse_error(n: int) -> float:
    """Relative error of the float64 number ``1 / n``."""
    return 0.0 if n & (n - 1) == 0 else values.ROUND


def _pow(ctx: Context, call: Call) -> list[Value]:
    base, exponent = call.operand(0), call.operand(1)
    if isinstance(exponent, Var) or not exponent.exact:
        return [_general_power(ctx, call, base, ctx.variable(exponent))]
    if isinstance(base, Const):
        folded = _folded_power(base, exponent)
        if folded is not None:
            return [folded]
    x = ctx.expand(ctx.variable(base), np.broadcast_shapes(base.shape, exponent.shape))
    number = number_of(exponent, x.shape)
    if number is not None:
        return [_constant_power(ctx, x, number)]
    distinct = np.unique(_real(exponent))
    if len(distinct) > _DISTINCT_EXPONENTS or not np.isfinite(distinct).all():
        raise call.unsupported(
            f"{len(distinct)} different exponents in one tensor; at most {_DISTINCT_EXPONENTS} finite ones"
        )
    which = np.searchsorted(distinct, np.broadcast_to(_real(exponent), x.shape))
    return [ctx.choose([_constant_power(ctx, x, float(p)) for p in distinct], which)]


def _folded_power(base: Const, exponent: Const) -> Const | None:
    """A power of integers, such as in shape arithmetic."""
    if base.is_float or exponent.is_float or not base.exact or bool(np.any(exponent.data < 0)):
        return None
    return replace(base, data=np.asarray(base.data**exponent.data))


def _constant_power(ctx: Context, x: Var, p: float) -> Var:
    """``x ** p``; the zeroth and first power are affine."""
    if p == 0:
        return ctx.fuse(_one, [x], lambda: ctx.scale(x, 0.0, 1.0), roundings=0)
    return x if p == 1 else ctx.apply(X**p, x)


def _one(e: Expr) -> Expr:
    return 0.0 * e + 1.0


def _general_power(ctx: Context, call: Call, base: Value, y: Var) -> Var:
    """``exp(y log x)``; how a runtime rounds it is not modelled."""
    if isinstance(base, Const):
        number = number_of(base, y.shape)
        if number is None or number <= 0:
            raise call.unsupported(
                "a power of constants that are not one positive number, with an exponent that depends on the "
                "network input; write it as Exp(Mul(exponent, Log(base)))"
            )
        exponent = X * apply(Fn.LOG, const(number))
        return ctx.apply(apply(Fn.EXP, exponent), y)
    # the declared error of exp is larger than that of pow, and the steps before may also err by nothing
    logarithm = ctx.apply(apply(Fn.LOG, X), base)
    return ctx.apply(apply(Fn.EXP, X), ctx.product(y, logarithm))


def _known_integers(function: Callable[[Call, Array, Array], Array]) -> Builder:
    def build(ctx: Context, call: Call) -> list[Value]:
        del ctx
        a, b = (call.constant(i, f"operand {i}") for i in range(2))
        if a is None or b is None or not a.exact or not b.exact:
            raise call.unsupported("both operands must be stored constants")
        return [replace(a, data=np.asarray(function(call, a.data, b.data)))]

    return build


def _mod(call: Call, a: Array, b: Array) -> Array:
    if np.any(b == 0):
        raise ZeroDivisionError("remainder of a division by zero")
    return np.fmod(a, b) if call.attributes.get("fmod", 0) else np.mod(a, b)


def _bit_shift(call: Call, a: Array, b: Array) -> Array:
    if call.text("direction", "") == "LEFT":
        raise call.unsupported("shifting left, which may overflow; store the shifted constant")
    return a >> b


BUILDERS: Mapping[str, Builder] = {
    "Add": _add,
    "BitShift": _known_integers(_bit_shift),
    "Div": _div,
    "Mean": _mean,
    "Mod": _known_integers(_mod),
    "Mul": _mul,
    "Neg": _neg,
    "Pow": _pow,
    "Reciprocal": _reciprocal,
    "Sub": _sub,
    "Sum": _sum,
}
