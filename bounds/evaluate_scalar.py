"""Evaluation of scalar expressions at points, in float32, float64 or exact rationals.

Ordinary rounded arithmetic (exact for rationals): good for running the network, for attacks and as a
first guess; nothing here bounds anything.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any, TypeAlias

import numpy as np

from bounds.expression import Expr, Fn, is_rational, nodes

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]
Unary: TypeAlias = Callable[[Any], Any]
Binary: TypeAlias = Callable[[Any, Any], Any]


def evaluate_expression(e: Expr, x: Array) -> Array:
    """``e`` at every element of ``x`` (any shape), in the arithmetic of ``x``.

    Args:
        e: the function.
        x: float32 or float64 array, or an object array of ``Fraction`` (rational functions only).

    Returns:
        An array of the same shape and type; NaN outside the function's domain (floats).

    Raises:
        ValueError: rationals were given to a function that leaves them.
        ZeroDivisionError: an exact division by zero.
    """
    exact = x.dtype == np.dtype(object)
    if exact and not is_rational(e):
        raise ValueError(f"{e} has no exact value at rational points")
    values: dict[Expr, Any] = {}
    with np.errstate(all="ignore"):
        for part in nodes(e):
            args = [values[a] for a in part.args]
            if part.fn is Fn.X:
                values[part] = x
            elif part.fn is Fn.CONST:
                values[part] = Fraction(part.value) if exact else x.dtype.type(part.value)
            elif part.fn is Fn.POW:
                values[part] = _power(args[0], part.value, exact=exact)
            elif part.fn is Fn.WHERE:
                values[part] = np.where(np.asarray(args[0]) == 1, args[1], args[2])
            elif part.fn in BINARY:
                values[part] = (_EXACT_BINARY if exact else BINARY)[part.fn](args[0], args[1])
            else:
                values[part] = (_EXACT if exact else UNARY)[part.fn](args[0])
    out = values[e]
    if exact:
        return np.broadcast_to(np.asarray(out, dtype=object), x.shape)
    return np.broadcast_to(np.asarray(out, dtype=x.dtype), x.shape)


def _power(a: Any, exponent: float, *, exact: bool) -> Any:
    if exponent == 2:
        return a * a
    if exact:
        return _each(lambda v: v ** int(exponent))(a)
    if exponent == 3:
        return a * a * a
    return np.power(a, a.dtype.type(exponent))


def _sigmoid(a: Any) -> Any:
    e = np.exp(-np.abs(a))
    return np.where(a >= 0, 1 / (1 + e), e / (1 + e))


def _erf(a: Any) -> Any:
    from scipy.special import erf

    return erf(a)


def _softplus(a: Any) -> Any:
    return np.maximum(a, 0) + np.log1p(np.exp(-np.abs(a)))


def _each(function: Unary) -> Unary:
    return np.frompyfunc(function, 1, 1)


def _pairs(function: Binary) -> Binary:
    return np.frompyfunc(function, 2, 1)


def _indicator(mask: Any, like: Any) -> Any:
    return np.asarray(mask).astype(np.asarray(like).dtype)


BINARY: Mapping[Fn, Binary] = {
    Fn.ADD: operator.add,
    Fn.SUB: operator.sub,
    Fn.MUL: operator.mul,
    Fn.DIV: np.divide,
    Fn.MAX: np.maximum,
    Fn.MIN: np.minimum,
}

UNARY: Mapping[Fn, Unary] = {
    Fn.NEG: operator.neg,
    Fn.ABS: np.abs,
    Fn.RELU: lambda a: np.maximum(a, 0),
    Fn.EXP: np.exp,
    Fn.LOG: np.log,
    Fn.SQRT: np.sqrt,
    Fn.SIN: np.sin,
    Fn.COS: np.cos,
    Fn.TAN: np.tan,
    Fn.TANH: np.tanh,
    Fn.SIGMOID: _sigmoid,
    Fn.SOFTPLUS: _softplus,
    Fn.ERF: _erf,
    Fn.ATAN: np.arctan,
    Fn.ASIN: np.arcsin,
    Fn.ACOS: np.arccos,
    Fn.SINH: np.sinh,
    Fn.COSH: np.cosh,
    Fn.ASINH: np.arcsinh,
    Fn.ACOSH: np.arccosh,
    Fn.ATANH: np.arctanh,
    Fn.SIGN: np.sign,
    Fn.FLOOR: np.floor,
    Fn.CEIL: np.ceil,
    Fn.TRUNC: np.trunc,
    Fn.ROUND: np.round,  # halves to even
    Fn.STEP: lambda a: _indicator(a >= 0, a),
    Fn.STRICT: lambda a: _indicator(a > 0, a),
    Fn.ZERO: lambda a: _indicator(a == 0, a),
}

_EXACT_BINARY: Mapping[Fn, Binary] = {
    **{fn: BINARY[fn] for fn in (Fn.ADD, Fn.SUB, Fn.MUL)},
    Fn.DIV: operator.truediv,
    Fn.MAX: _pairs(max),
    Fn.MIN: _pairs(min),
}

_EXACT: Mapping[Fn, Unary] = {
    Fn.NEG: operator.neg,
    Fn.ABS: _each(abs),
    Fn.RELU: _each(lambda a: max(a, Fraction(0))),
    Fn.SIGN: _each(lambda a: Fraction(int(a > 0) - int(a < 0))),
    Fn.FLOOR: _each(lambda a: Fraction(math.floor(a))),
    Fn.CEIL: _each(lambda a: Fraction(math.ceil(a))),
    Fn.TRUNC: _each(lambda a: Fraction(math.trunc(a))),
    Fn.ROUND: _each(lambda a: Fraction(round(a))),  # halves to even
    Fn.STEP: _each(lambda a: Fraction(int(a >= 0))),
    Fn.STRICT: _each(lambda a: Fraction(int(a > 0))),
    Fn.ZERO: _each(lambda a: Fraction(int(a == 0))),
}
