"""Elementwise ONNX operators: arithmetic, functions with a formula, functions with one kink.

Every operator gives its form, a function of its operands' functions, and its own lowering for where no
fusion is possible or needed (:mod:`verifier.check.fusion`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import reduce

import numpy as np

from verifier.check.calls import ROUND, Call, Operator, folded, inverse, inverse_error, two_sum
from verifier.check.functions import Function, X, const, power
from verifier.check.functions import call as fn
from verifier.check.fusion import apply, form_of, fuse, number_of, product, times
from verifier.check.network import (
    Array,
    Chain,
    Const,
    Lowering,
    Scale,
    Take,
    Value,
    Var,
    expand,
    real,
)

_MOST_EXPONENTS = 64


def plus(a: Function, b: Function) -> Function:
    return fn("+", a, b)


def minus(a: Function, b: Function) -> Function:
    return fn("-", a, b)


# ------------------------------------------------------------------ arithmetic
def _arithmetic(net: Lowering, call: Call) -> list[Value]:
    a, b = call.operand(0), call.operand(1)
    if isinstance(a, Const) and isinstance(b, Const):
        known = folded(call.op, a, b)
        if known is not None:
            return [known]
        a = net.variable(a)
    if call.op == "Mul":
        return [multiplied(net, a, b)]
    if call.op == "Div":
        return [_divided(net, call, a, b)]
    return [summed(net, a, b, 1 if call.op == "Add" else -1)]


def summed(net: Lowering, a: Value, b: Value, sign: int) -> Var:
    """``a + sign * b``; one of them is no constant."""
    if isinstance(a, Const) and isinstance(b, Const):
        a = net.variable(a)
    form = plus if sign > 0 else minus
    return fuse(net, form, [a, b], lambda: _sum_of_two(net, a, b, sign))


def _sum_of_two(net: Lowering, a: Value, b: Value, sign: int, rounds: int = 1) -> Var:
    if isinstance(a, Const) and isinstance(b, Var) and sign > 0:
        a, b = b, a
    if isinstance(a, Var) and isinstance(b, Const):
        shape = np.broadcast_shapes(a.shape, b.shape)
        removed = real(b) == -sign * np.inf
        if removed.any() or a.removed is not None:
            return _sum_of_removed(net, a, replace(b, data=np.where(removed, 0.0, sign * real(b))), removed)
        return net.shift(a, sign * real(b), shape, error=b.error, roundings=rounds + b.roundings)
    if isinstance(a, Const) and isinstance(b, Var):
        return net.scaled(b, np.array(-1.0), real(a), error=a.error, roundings=rounds + a.roundings)
    return net.combine([(1, net.variable(a)), (sign, net.variable(b))], roundings=rounds)


def _sum_of_removed(net: Lowering, a: Var, b: Const, removed: Array) -> Var:
    """``a + b``, but minus infinity where ``removed`` and where ``a`` is."""
    shape = np.broadcast_shapes(a.shape, removed.shape)
    before = np.zeros(a.shape, bool) if a.removed is None else a.removed
    y = net.expanded(replace(a, removed=None), shape)
    if b.data.any():
        y = net.shift(y, b.data, shape, error=b.error, roundings=1 + b.roundings)
    return replace(y, parent=None, removed=np.broadcast_to(before | removed, shape))


def difference(net: Lowering, a: Value, b: Value) -> Var:
    """``a - b`` where the model only compares: no rounding of its own."""
    return _sum_of_two(net, a, b, -1, 0)


def multiplied(net: Lowering, a: Value, b: Value) -> Var:
    """``a * b``; one of them is no constant."""
    if isinstance(a, Var) and isinstance(b, Var):
        return product(net, a, b)
    x, c = (a, b) if isinstance(b, Const) else (b, a)
    assert isinstance(x, Var) and isinstance(c, Const)
    return fuse(net, times, [a, b], lambda: net.scaled(x, real(c), error=c.error, roundings=1 + c.roundings))


def _divided(net: Lowering, call: Call, a: Value, b: Value) -> Var:
    if isinstance(b, Const):
        a = net.variable(a)
        if np.any(b.data == 0):
            raise ValueError("division by zero")
    dtype = next(v.dtype for v in (a, b) if isinstance(v, Var))
    y = fuse(net, form_of("/"), [a, b], lambda: _quotient(net, call, a, b))
    # integers are divided toward zero
    return y if dtype.startswith("float") else apply(net, fn("trunc", X), y, roundings=0)


def _quotient(net: Lowering, call: Call, a: Value, b: Value) -> Var:
    if isinstance(b, Const):
        c = inverse(call, b)
        return net.scaled(net.variable(a), c.data, error=c.error, roundings=1 + b.roundings)
    inverted = apply(net, fn("/", const(1), X), b, roundings=0)
    if isinstance(a, Var):
        return product(net, a, inverted)
    return net.scaled(inverted, real(a), error=a.error, roundings=1 + a.roundings)


def _neg(net: Lowering, call: Call) -> list[Value]:
    x = call.operand(0)
    if isinstance(x, Const):
        return [replace(x, data=-x.data)]
    return [fuse(net, form_of("neg"), [x], lambda: net.scaled(x, np.array(-1.0)), roundings=0)]


def _reciprocal(net: Lowering, call: Call) -> list[Value]:
    x = call.operand(0)
    if isinstance(x, Const):
        known = folded("Div", Const(np.ones(()), dtype=x.dtype), x)
        if known is not None:
            return [known]
    return [apply(net, fn("/", const(1), X), net.variable(x))]


def _sum_all(net: Lowering, call: Call) -> list[Value]:
    operands = [call.operand(i) for i in range(len(call.operands))]
    if len(operands) == 1:
        return operands
    if all(isinstance(v, Const) for v in operands):
        operands[0] = net.variable(operands[0])

    def lower() -> Var:
        return net.combine([(1, net.variable(v)) for v in operands], roundings=len(operands))

    def form(*parts: Function) -> Function:
        return reduce(plus, parts)

    return [fuse(net, form, operands, lower)]


def _mean(net: Lowering, call: Call) -> list[Value]:
    """A runtime divides by n or multiplies by a rounded 1 / n."""
    n, total = len(call.operands), net.variable(_sum_all(net, call)[0])
    if n == 1:
        return [total]
    error = inverse_error(n)

    def lower() -> Var:
        return net.scaled(total, np.array(1 / n), error=error, roundings=2)

    def form(e: Function) -> Function:
        return fn("/", e, const(n))

    return [lower() if error else fuse(net, form, [total], lower)]


# ------------------------------------------------------------------ powers
def _pow(net: Lowering, call: Call) -> list[Value]:
    base, exponent = call.operand(0), call.operand(1)
    if isinstance(exponent, Var) or not exponent.exact:
        return [_any_power(net, call, base, net.variable(exponent))]
    if isinstance(base, Const) and not base.is_float and not exponent.is_float and exponent.data.min() >= 0:
        return [replace(base, data=np.asarray(base.data**exponent.data))]
    x = net.variable(base)
    x = net.expanded(x, np.broadcast_shapes(x.shape, exponent.shape))
    number = number_of(exponent, x.shape)
    if number is not None:
        return [_power(net, x, number)]
    distinct = np.unique(real(exponent))
    if len(distinct) > _MOST_EXPONENTS:
        raise call.refuse(f"{len(distinct)} different exponents")
    which = np.searchsorted(distinct, np.broadcast_to(real(exponent), x.shape)).reshape(-1)
    parts = [_power(net, x, float(p)) for p in distinct]
    own = np.arange(x.size)
    terms = [(y, (Take(np.where(which == k, own, -1), x.size),)) for k, y in enumerate(parts)]
    return [net.affine(terms, x.shape)]


def _power(net: Lowering, x: Var, p: float) -> Var:
    if p == 1:
        return x
    if p:
        return apply(net, power(X, p), x)

    def one(e: Function) -> Function:
        return plus(fn("*", const(0), e), const(1))

    return fuse(net, one, [x], lambda: net.scaled(x, np.array(0.0), np.array(1.0)), roundings=0)


def _any_power(net: Lowering, call: Call, base: Value, y: Var) -> Var:
    """``exp(y log x)``, whose declared errors are larger than those of a power."""
    if isinstance(base, Const):
        number = number_of(base, y.shape)
        if number is None or number <= 0:
            raise call.refuse("a power of constants that are not one positive number")
        return apply(net, fn("exp", fn("*", X, fn("log", const(number)))), y)
    logarithm = apply(net, fn("log", X), base)
    return apply(net, fn("exp", X), product(net, y, logarithm))


# ------------------------------------------------------------------ formulas
def _clipped(low: float, high: float, e: Function) -> Function:
    """``min(max(e, low), high)``, infinite limits left out."""
    e = fn("max", e, const(low)) if np.isfinite(low) else e
    return fn("min", e, const(high)) if np.isfinite(high) else e


def _expm1(scale: float = 1.0) -> Function:
    """``exp(min(x, 0) / scale) - 1``."""
    negative = fn("min", X, const(0))
    return minus(fn("exp", negative if scale == 1 else fn("/", negative, const(scale))), const(1))


def _scaled(factor: float, e: Function) -> Function:
    return fn("*", const(factor), e)


def _elu(call: Call) -> Function:
    return plus(fn("relu", X), _scaled(call.number("alpha", 1.0), _expm1()))


def _selu(call: Call) -> Function:
    alpha = call.number("alpha", 1.67326319217681884765625)
    gamma = call.number("gamma", 1.05070102214813232421875)
    return _scaled(gamma, plus(fn("relu", X), _scaled(alpha, _expm1())))


def _celu(call: Call) -> Function:
    alpha = call.number("alpha", 1.0)
    if not alpha > 0:
        raise call.refuse(f"alpha {alpha}")
    return plus(fn("relu", X), _scaled(alpha, _expm1(alpha)))


def _gelu(call: Call) -> Function:
    half = _scaled(0.5, X)
    if call.text("approximate", "none") != "tanh":
        return fn("*", half, plus(const(1), fn("erf", fn("/", X, fn("sqrt", const(2))))))
    double = call.operand(0).dtype == "float64"
    ratio, cubic = (v if double else float(np.float32(v)) for v in (2 / math.pi, 0.044715))
    inner = fn("*", fn("sqrt", const(ratio)), plus(X, _scaled(cubic, power(X, 3))))
    return fn("*", half, plus(const(1), fn("tanh", inner)))


def _hard_sigmoid(call: Call) -> Function:
    alpha, beta = call.number("alpha", 0.2), call.number("beta", 0.5)
    return _clipped(0.0, 1.0, plus(_scaled(alpha, X), const(beta)))


def _swish(call: Call) -> Function:
    alpha = call.number("alpha", 1.0)
    return fn("*", X, fn("sigmoid", X if alpha == 1 else _scaled(alpha, X)))


def _thresholded(call: Call) -> Function:
    alpha = call.number("alpha", 1.0)
    return fn("where", fn("strict", minus(X, const(alpha)) if alpha else X), X, const(0))


def _shrink(call: Call) -> Function:
    bias, limit = call.number("bias", 0.0), call.number("lambd", 0.5)
    down, up = (minus(X, const(bias)), plus(X, const(bias))) if bias else (X, X)
    above = fn("where", fn("strict", minus(X, const(limit))), down, const(0))
    return fn("where", fn("strict", minus(const(-limit), X)), up, above)


_SIXTH = float(np.float32(1 / 6))
_HARD_SWISH = fn("*", X, _clipped(0.0, 1.0, plus(_scaled(_SIXTH, X), const(0.5))))
_FIXED: Mapping[str, Function] = {
    **{
        name: fn(name.lower(), X)
        for name in (
            "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Cos", "Cosh", "Erf", "Exp", "Log", "Sigmoid",
            "Sin", "Sinh", "Softplus", "Tan", "Tanh",
        )
    },
    "HardSwish": _HARD_SWISH,
    "Mish": fn("*", X, fn("tanh", fn("softplus", X))),
    "Softsign": fn("/", X, plus(const(1), fn("abs", X))),
}  # fmt: skip
_FORMULAS: Mapping[str, Callable[[Call], Function]] = {
    "Celu": _celu,
    "Elu": _elu,
    "Gelu": _gelu,
    "HardSigmoid": _hard_sigmoid,
    "Selu": _selu,
    "Shrink": _shrink,
    "Swish": _swish,
    "ThresholdedRelu": _thresholded,
}


def _formula(net: Lowering, call: Call) -> list[Value]:
    function = _FIXED[call.op] if call.op in _FIXED else _FORMULAS[call.op](call)
    return [apply(net, function, net.variable(call.operand(0)))]


_TO_WHOLE: Mapping[str, Callable[[Array], Array]] = {
    "Ceil": np.ceil, "Floor": np.floor, "Round": np.round, "Sign": np.sign,
}  # fmt: skip


def _to_whole(net: Lowering, call: Call) -> list[Value]:
    x = call.operand(0)
    if isinstance(x, Const) and x.exact:
        return [replace(x, data=np.asarray(_TO_WHOLE[call.op](x.data)))]
    return [apply(net, fn(call.op.lower(), X), net.variable(x), roundings=0)]


def _sqrt(net: Lowering, call: Call) -> list[Value]:
    x = call.operand(0)
    if isinstance(x, Var):
        return [apply(net, fn("sqrt", X), x)]
    if np.any(x.data < 0):
        raise ValueError("square root of a negative number")
    root = np.asarray(np.sqrt(real(x)))  # correctly rounded; halves relative errors
    short = np.array_equal(root.astype(np.float32).astype(np.float64), root)
    lost = 0.0 if short and np.array_equal(root * root, x.data) else ROUND
    return [Const(root, (x.error + lost) * (1 + 2.0**-20), x.roundings + 1, x.dtype)]


# ------------------------------------------------------------------ one kink
def _exactly(call: Call, function: Callable[[Array], Array]) -> list[Value] | None:
    x = call.operand(0)
    return [replace(x, data=np.asarray(function(x.data)))] if isinstance(x, Const) and x.exact else None


def _relu(net: Lowering, call: Call) -> list[Value]:
    known = _exactly(call, lambda v: np.maximum(v, 0))
    if known:
        return known
    x = net.variable(call.operand(0))
    return [fuse(net, form_of("relu"), [x], lambda: net.relu(x), roundings=0)]


def _abs(net: Lowering, call: Call) -> list[Value]:
    return _exactly(call, np.abs) or [absolute(net, net.variable(call.operand(0)))]


def absolute(net: Lowering, x: Var) -> Var:
    """``|x| = 2 relu(x) - x``."""
    return fuse(
        net,
        form_of("abs"),
        [x],
        lambda: net.combine([(2, net.relu(x)), (-1, x)]),
        roundings=0,
    )


def _leaky_relu(net: Lowering, call: Call) -> list[Value]:
    """``s x + (1 - s) relu(x)``; one rounding (the product)."""
    x = net.variable(call.operand(0))
    slope = np.asarray(float(call.attributes.get("alpha", np.float32(0.01))))
    number: float | None = float(slope)
    if call.op == "PRelu":
        slope = call.needed(1)
        number = number_of(Const(slope), x.shape)

    def lower() -> Var:
        rest, lost = two_sum(np.ones_like(slope), -slope)
        shape = np.broadcast_shapes(x.shape, slope.shape)
        s, r = (Scale(np.broadcast_to(v, shape).astype(np.float64)) for v in (slope, rest))
        y = net.relu(x)
        terms: list[tuple[Var, Chain]] = [(x, (*expand(x, shape), s)), (y, (*expand(y, shape), r))]
        return net.affine(terms, shape, error=ROUND if lost.any() else 0.0, roundings=1)

    def form(e: Function) -> Function:
        assert number is not None
        return fn("max" if number <= 1 else "min", e, _scaled(number, e))

    return [lower() if number is None else fuse(net, form, [x], lower)]


def _clip(net: Lowering, call: Call) -> list[Value]:
    x = call.operand(0)
    limits = call.optional(1), call.optional(2)
    if any(isinstance(v, Var) or (v is not None and (v.data.size != 1 or not v.exact)) for v in limits):
        for v, op in zip(limits, ("max", "min"), strict=True):
            x = x if v is None else extremum(net, x, v, op)
        return [x]
    low, high = _limit(call, 1, "min", -np.inf), _limit(call, 2, "max", np.inf)
    if not low <= high or (low == high and np.isinf(low)):
        raise call.refuse(f"limits {low} and {high}")
    known = _exactly(call, lambda v: np.minimum(np.maximum(v, low), high))
    if known or (np.isinf(low) and np.isinf(high)):
        return known or [x]
    v = net.variable(x)

    def lower() -> Var:
        if np.isfinite(low):
            y = net.relu(net.shift(v, np.array(-low), v.shape) if low else v)
            return net.affine([(y, ())], y.shape, np.array(low)) if low else y
        return net.combine([(1, v), (-1, net.relu(net.shift(v, np.array(-high), v.shape) if high else v))])

    def form(e: Function) -> Function:
        return _clipped(low, high, e)

    return [fuse(net, form, [v], lower, roundings=0)]


def _limit(call: Call, i: int, name: str, missing: float) -> float:
    const_ = call.const(i)
    value = float(call.attributes.get(name, missing) if const_ is None else const_.data.reshape(-1)[0])
    # beyond the largest float32 only overflow is clipped, and no verdict speaks about overflow
    far = call.operand(0).dtype == "float32" and abs(value) >= float(np.finfo(np.float32).max)
    return missing if far and value * missing > 0 else value


def _extrema(net: Lowering, call: Call) -> list[Value]:
    """Left fold."""
    total = call.operand(0)
    for i in range(1, len(call.operands)):
        total = extremum(net, total, call.operand(i), call.op.lower())
    return [total]


def extremum(net: Lowering, a: Value, b: Value, op: str) -> Value:
    """The larger (``max``) or smaller (``min``) of two."""
    if isinstance(a, Const) and isinstance(b, Const):
        if a.exact and b.exact:
            return replace(a, data=np.asarray((np.maximum if op == "max" else np.minimum)(a.data, b.data)))
        a = net.variable(a)

    def lower() -> Var:
        play = net.maximum if op == "max" else net.minimum
        return play(net.variable(a), net.variable(b))

    return fuse(net, form_of(op), [a, b], lower, roundings=0)


ELEMENTWISE: Mapping[str, Operator] = {
    **dict.fromkeys(("Add", "Sub", "Mul", "Div"), _arithmetic),
    **dict.fromkeys((*_FIXED, *_FORMULAS), _formula),
    **dict.fromkeys(_TO_WHOLE, _to_whole),
    **dict.fromkeys(("Max", "Min"), _extrema),
    **dict.fromkeys(("LeakyRelu", "PRelu"), _leaky_relu),
    "Abs": _abs,
    "Clip": _clip,
    "Mean": _mean,
    "Neg": _neg,
    "Pow": _pow,
    "Reciprocal": _reciprocal,
    "Relu": _relu,
    "Sqrt": _sqrt,
    "Sum": _sum_all,
}
