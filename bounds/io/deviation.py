"""How far a runtime's value of a scalar function may be from the real one, near a point.

A running error analysis, operation by operation, with generous counts: it sets the tolerance of the
comparison at load (:mod:`bounds.io.compare`) and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import product
from typing import Any

import numpy as np

from bounds.evaluate_scalar import BINARY, UNARY
from bounds.expression import Expr, Fn, nodes
from bounds.graph import Array

Pair = tuple[Array, Array]  # value and error

# rounding errors of a correctly rounded result that one operation of a runtime may make, and of 1 besides
_EXACT = frozenset(
    {
        Fn.X, Fn.CONST, Fn.NEG, Fn.ABS, Fn.RELU, Fn.MAX, Fn.MIN, Fn.SIGN, Fn.FLOOR, Fn.CEIL, Fn.TRUNC,
        Fn.ROUND, Fn.STEP, Fn.STRICT, Fn.ZERO, Fn.WHERE,
    }
)  # fmt: skip
_SUMS = frozenset({Fn.ADD, Fn.SUB})
_BASIC = frozenset({Fn.MUL, Fn.DIV, Fn.SQRT})
_ELEMENTARY = 16.0  # units for an elementary function
_BOUNDED = frozenset({Fn.SIGMOID, Fn.TANH, Fn.ERF, Fn.SIN, Fn.COS, Fn.SOFTPLUS})  # approximated by rationals


def deviation(e: Expr, x: Array, error: Array, unit: float, eta: float) -> Array:
    """Bound on the distance of a rounded ``e`` near ``x`` from ``e(x)``; infinite where none is known.

    Args:
        e: the function.
        x: float64 points.
        error: how far the runtime's own argument may be from ``x``, same shape.
        unit: the runtime's unit roundoff.
        eta: largest error of an operation that underflows.
    """
    known: dict[Expr, Pair] = {}
    with np.errstate(all="ignore"):
        for part in nodes(e):
            known[part] = _step(part, [known[a] for a in part.args], (x, error), unit, eta)
    found = np.broadcast_to(known[e][1], x.shape)
    # a runtime's argument of which nothing is known may be NaN, which bounded functions keep
    return np.where(np.isnan(found) | ~np.isfinite(error), np.inf, found)


def _step(part: Expr, args: list[Pair], x: Pair, unit: float, eta: float) -> Pair:
    if part.fn is Fn.X:
        return x
    if part.fn is Fn.CONST:
        return np.asarray(part.value), np.zeros(())
    value, error = _CASES.get(part.fn, _corners)(part, args)
    if part.fn in _EXACT:
        return value, error
    size = np.abs(value) + error
    if part.fn in _SUMS:
        return value, error + unit * size  # sums that underflow are exact
    rounded = unit * size if part.fn in _BASIC else _ELEMENTARY * unit * (size + (part.fn in _BOUNDED))
    return value, error + rounded + eta


def _corners(part: Expr, args: list[Pair]) -> Pair:
    """The largest change when operands move to the ends of their intervals; good for monotone operations."""
    value = _apply(part, [v for v, _ in args])
    error: Any = np.zeros(())
    for signs in product((-1.0, 1.0), repeat=len(args)):
        there = _apply(part, [v + s * d for s, (v, d) in zip(signs, args, strict=True)])
        error = np.maximum(error, np.abs(there - value))  # NaN outside the domain: nothing is known
    return value, np.asarray(error)


def _apply(part: Expr, args: list[Array]) -> Array:
    if part.fn is Fn.POW:
        return np.power(args[0], part.value)
    if len(args) == 1:
        return np.asarray(UNARY[part.fn](args[0]))
    return np.asarray(BINARY[part.fn](args[0], args[1]))


def _lipschitz(part: Expr, args: list[Pair]) -> Pair:
    """Functions that no two arguments drive further apart than they are."""
    value, error = args[0]
    return np.asarray(UNARY[part.fn](value)), error


def _near_zero(part: Expr, args: list[Pair]) -> Pair:
    value, error = args[0]
    return np.asarray(UNARY[part.fn](value)), np.where((np.abs(value) <= error) & (error > 0), 1.0, 0.0)


def _quotient(part: Expr, args: list[Pair]) -> Pair:
    value, error = _corners(part, args)
    return value, np.where(np.abs(args[1][0]) > args[1][1], error, np.inf)


def _power(part: Expr, args: list[Pair]) -> Pair:
    value, error = _corners(part, args)
    return value, np.where((np.abs(args[0][0]) > args[0][1]) | (part.value > 0), error, np.inf)


def _tangent(part: Expr, args: list[Pair]) -> Pair:
    """Nothing is known across a pole."""
    value, error = _corners(part, args)
    a, d = args[0]
    branch = [np.floor((a + s * d) / np.pi + 0.5) for s in (-1.0, 1.0)]
    return value, np.where(branch[0] == branch[1], error, np.inf)


def _choice(part: Expr, args: list[Pair]) -> Pair:
    del part
    (c, dc), (a, da), (b, db) = args
    value = np.where(c == 1, a, b)
    error = np.where(dc > 0, np.abs(a - b) + np.maximum(da, db), np.where(c == 1, da, db))
    return value, error


_CASES: Mapping[Fn, Callable[[Expr, list[Pair]], Pair]] = {
    Fn.ABS: _lipschitz,
    Fn.COS: _lipschitz,
    Fn.DIV: _quotient,
    Fn.POW: _power,
    Fn.SIN: _lipschitz,
    Fn.TAN: _tangent,
    Fn.WHERE: _choice,
    Fn.ZERO: _near_zero,
}
