"""Rigorous interval evaluation of scalar expressions in float64.

An interval is a pair of arrays ``(lo, hi)``; a point is a pair that is one and the same array, and is
evaluated once. Infinite ends mean "finite but unbounded". NaN means *nothing is known*: the function may be
undefined somewhere in the interval. NaN is contagious and is never produced for any other reason, so it
cannot be mistaken for a bound.

Rounding. An arithmetic operation is rounded once (IEEE 754), which is undone by moving an end outwards by
``2 u |r|`` and the smallest subnormal. Elementary functions get the ulps of :data:`ULPS`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np

from bounds.evaluate_scalar import UNARY
from bounds.expression import Expr, Fn, nodes
from bounds.numerics import FLOAT64

Interval: TypeAlias = tuple[Any, Any]
Rule: TypeAlias = Callable[[Interval], Interval]

GROW = 2.0 * FLOAT64.u
TINY = 2.0**-1074  # the smallest subnormal: what an underflowing operation is off by
MAX = float(np.finfo(np.float64).max)
INF = math.inf

ULPS: Mapping[Fn, float] = {
    Fn.EXP: 8, Fn.LOG: 8, Fn.SQRT: 1, Fn.SIN: 8, Fn.COS: 8, Fn.TAN: 16, Fn.TANH: 8, Fn.SIGMOID: 16,
    Fn.SOFTPLUS: 16, Fn.ERF: 16, Fn.ATAN: 8, Fn.ASIN: 8, Fn.ACOS: 8, Fn.SINH: 8, Fn.COSH: 8, Fn.ASINH: 16,
    Fn.ACOSH: 16, Fn.ATANH: 8, Fn.POW: 8,
}  # fmt: skip
"""Relative error charged, in units of ``2 u``.

Source: NumPy's own accuracy tests (numpy/_core/tests/test_umath_accuracy.py) allow its float64 kernels 4 ulp;
SciPy's erf is a rational approximation tested to a few ulp; SIGMOID and SOFTPLUS are compositions (an
exponential, a sum, a quotient or logarithm) of such. The table charges at least twice that, and
tests/unit/bounds/test_scalar_enclose.py measures against long double.
"""

SMALL = 2.0**-1060  # absolute error of an elementary function whose result underflows
TRIG_LIMIT = 2.0**30  # beyond, sin and cos are only known to lie in [-1, 1]


def down(r: Any) -> Any:
    """At most the exact result that was rounded to ``r``."""
    r = np.minimum(r, MAX)
    return r - (np.abs(r) * GROW + TINY)


def up(r: Any) -> Any:
    """At least the exact result that was rounded to ``r``."""
    r = np.maximum(r, -MAX)
    return r + (np.abs(r) * GROW + TINY)


def enclose(e: Expr, lo: Any, hi: Any) -> Interval:
    """Encloses ``e`` over each interval of the variable.

    Args:
        e: the function.
        lo, hi: ends, float64 arrays of one shape; the same object for points.

    Returns:
        ``(below, above)``: ``below <= e(z) <= above`` for every real z in ``[lo, hi]``; both NaN where that
        is not known.
    """
    with np.errstate(all="ignore"):
        below, above = enclose_interval(e, (lo, hi))
        shape = np.shape(lo)
        return np.broadcast_to(below, shape), np.broadcast_to(above, shape)


def enclose_interval(e: Expr, x: Interval) -> Interval:
    """The same without the ceremony: results may be scalars, and NumPy may warn."""
    values: dict[Expr, Interval] = {}
    for part in nodes(e):
        if part.fn is Fn.X:
            values[part] = x
        elif part.fn is Fn.CONST:
            c = np.float64(part.value)
            values[part] = (c, c)
        elif part.fn is Fn.POW:
            values[part] = enclose_power(values[part.args[0]], part.value)
        else:
            values[part] = RULES[part.fn](*[values[a] for a in part.args])
    return values[e]


def _add(a: Interval, b: Interval) -> Interval:
    lo = a[0] + b[0]
    if a[0] is a[1] and b[0] is b[1]:
        return down(lo), up(lo)
    # a sum of non-negative numbers is not negative: keeps signs provable
    lo_out, hi = down(lo), a[1] + b[1]
    lo_out = np.where((a[0] >= 0) & (b[0] >= 0), np.maximum(lo_out, 0.0), lo_out)
    hi_out = up(hi)
    return lo_out, np.where((a[1] <= 0) & (b[1] <= 0), np.minimum(hi_out, 0.0), hi_out)


def _neg(a: Interval) -> Interval:
    if a[0] is a[1]:
        r = -a[0]
        return r, r
    return -a[1], -a[0]


def _sub(a: Interval, b: Interval) -> Interval:
    return _add(a, _neg(b))


def _times(x: Any, y: Any) -> Any:
    """A corner of a product: an unbounded end times zero is zero."""
    p = x * y
    bad = np.isnan(p)
    if bad.any():
        p = np.where(bad & ~np.isnan(x) & ~np.isnan(y), 0.0, p)
    return p


def _mul(a: Interval, b: Interval) -> Interval:
    if a is b:  # one operand twice: a square
        return _even_power(_abs(a), 2)
    if a[0] is a[1] and b[0] is b[1]:
        p = _times(a[0], b[0])
        return down(p), up(p)
    if a[0] is a[1]:
        p, q = _times(a[0], b[0]), _times(a[0], b[1])
        lo, hi = np.minimum(p, q), np.maximum(p, q)
    elif b[0] is b[1]:
        p, q = _times(a[0], b[0]), _times(a[1], b[0])
        lo, hi = np.minimum(p, q), np.maximum(p, q)
    else:
        p, q, r, s = _times(a[0], b[0]), _times(a[0], b[1]), _times(a[1], b[0]), _times(a[1], b[1])
        lo = np.minimum(np.minimum(p, q), np.minimum(r, s))
        hi = np.maximum(np.maximum(p, q), np.maximum(r, s))
    positive = ((a[0] >= 0) & (b[0] >= 0)) | ((a[1] <= 0) & (b[1] <= 0))
    negative = ((a[0] >= 0) & (b[1] <= 0)) | ((a[1] <= 0) & (b[0] >= 0))
    lo, hi = down(lo), up(hi)
    return np.where(positive, np.maximum(lo, 0.0), lo), np.where(negative, np.minimum(hi, 0.0), hi)


def _invert(b: Interval) -> Interval:
    if b[0] is b[1]:
        r = np.where(b[0] == 0, np.nan, 1.0 / b[0])
        return _keep_sign(r, down(r), up(r))
    known = (b[0] > 0) | (b[1] < 0)
    lo, hi = 1.0 / b[1], 1.0 / b[0]
    lo_out, hi_out = down(lo), up(hi)
    lo_out = np.where(b[0] > 0, np.maximum(lo_out, 0.0), lo_out)
    hi_out = np.where(b[1] < 0, np.minimum(hi_out, 0.0), hi_out)
    return np.where(known, lo_out, np.nan), np.where(known, hi_out, np.nan)


def _keep_sign(r: Any, lo: Any, hi: Any) -> Interval:
    return np.where(r > 0, np.maximum(lo, 0.0), lo), np.where(r < 0, np.minimum(hi, 0.0), hi)


def _div(a: Interval, b: Interval) -> Interval:
    if a[0] is a[1] and b[0] is b[1]:
        r = np.where(b[0] == 0, np.nan, a[0] / b[0])
        return down(r), up(r)
    known = (b[0] > 0) | (b[1] < 0)
    p, q, r, s = _ratio(a[0], b[0]), _ratio(a[0], b[1]), _ratio(a[1], b[0]), _ratio(a[1], b[1])
    lo = down(np.minimum(np.minimum(p, q), np.minimum(r, s)))
    hi = up(np.maximum(np.maximum(p, q), np.maximum(r, s)))
    positive = ((a[0] >= 0) & (b[0] > 0)) | ((a[1] <= 0) & (b[1] < 0))
    negative = ((a[0] >= 0) & (b[1] < 0)) | ((a[1] <= 0) & (b[0] > 0))
    lo = np.where(positive, np.maximum(lo, 0.0), lo)
    hi = np.where(negative, np.minimum(hi, 0.0), hi)
    return np.where(known, lo, np.nan), np.where(known, hi, np.nan)


def _ratio(x: Any, y: Any) -> Any:
    """A corner of a quotient: unbounded over unbounded may be anything; other corners give the extremes."""
    r = x / y
    bad = np.isnan(r)
    if bad.any():
        r = np.where(bad & ~np.isnan(x) & ~np.isnan(y), 0.0, r)
    return r


def _abs(a: Interval) -> Interval:
    if a[0] is a[1]:
        r = np.abs(a[0])
        return r, r
    return np.maximum(np.maximum(a[0], -a[1]), 0.0), np.maximum(-a[0], a[1])


def _max(a: Interval, b: Interval) -> Interval:
    return np.maximum(a[0], b[0]), np.maximum(a[1], b[1])


def _min(a: Interval, b: Interval) -> Interval:
    return np.minimum(a[0], b[0]), np.minimum(a[1], b[1])


def _relu(a: Interval) -> Interval:
    if a[0] is a[1]:
        r = np.maximum(a[0], 0.0)
        return r, r
    return np.maximum(a[0], 0.0), np.maximum(a[1], 0.0)


def _both(fn: Callable[[Any], Any], a: Interval) -> Interval:
    lo = fn(a[0])
    return (lo, lo) if a[0] is a[1] else (lo, fn(a[1]))


def _monotone(fn: Fn, least: float, most: float) -> Rule:
    """An increasing function with values in ``[least, most]``, NaN outside its domain."""
    relative = ULPS[fn] * GROW
    call = UNARY[fn]

    def rule(a: Interval) -> Interval:
        lo, hi = _both(call, a)
        lo = np.minimum(lo, MAX)
        hi = np.maximum(hi, -MAX)
        below = np.maximum(lo - (np.abs(lo) * relative + SMALL), least)
        above = np.minimum(hi + (np.abs(hi) * relative + SMALL), most)
        # odd functions and exp keep the sign of their argument
        return below, above

    return rule


def _signed(rule: Rule) -> Rule:
    """The same for a function with the sign of its argument."""

    def kept(a: Interval) -> Interval:
        lo, hi = rule(a)
        return np.where(a[0] >= 0, np.maximum(lo, 0.0), lo), np.where(a[1] <= 0, np.minimum(hi, 0.0), hi)

    return kept


def _within(rule: Rule, inside: Callable[[Any, Any], Any]) -> Rule:
    """The same where the argument certainly lies in the domain, NaN elsewhere."""

    def guarded(a: Interval) -> Interval:
        known = inside(a[0], a[1])
        lo, hi = rule(a)
        return np.where(known, lo, np.nan), np.where(known, hi, np.nan)

    return guarded


def _cosh(a: Interval) -> Interval:
    lo, hi = _abs(a)
    grow = ULPS[Fn.COSH] * GROW
    below, above = np.minimum(np.cosh(lo), MAX), np.cosh(hi)
    return np.maximum(below * (1 - grow), 1.0), above * (1 + grow)


def _wave(call: Callable[[Any], Any], peak: float) -> Rule:
    """sin or cos: ``peak`` is the position of a maximum in periods (1/4 for sin, 0 for cos)."""
    relative = ULPS[Fn.SIN] * GROW

    def rule(a: Interval) -> Interval:
        far = ~((a[0] >= -TRIG_LIMIT) & (a[1] <= TRIG_LIMIT))
        lo, hi = np.where(far, 0.0, a[0]), np.where(far, 0.0, a[1])
        at_lo, at_hi = call(lo), call(hi)
        top = _crosses(lo, hi, peak) | far
        bottom = _crosses(lo, hi, peak + 0.5) | far
        # sin near a multiple of pi: relative accuracy of the kernel, and an absolute term for its reduction
        below = np.minimum(at_lo, at_hi)
        above = np.maximum(at_lo, at_hi)
        below = np.where(bottom, -1.0, np.maximum(below - (np.abs(below) * relative + TINY), -1.0))
        above = np.where(top, 1.0, np.minimum(above + (np.abs(above) * relative + TINY), 1.0))
        unknown = np.isnan(a[0]) | np.isnan(a[1])
        return np.where(unknown, np.nan, below), np.where(unknown, np.nan, above)

    return rule


def _crosses(lo: Any, hi: Any, phase: float, period: float = 2 * math.pi) -> Any:
    """Whether ``period * (phase + whole number)`` may lie in [lo, hi] (surely not where False)."""
    p, q = lo / period - phase, hi / period - phase
    p, q = p - (np.abs(p) + 1) * (8 * GROW), q + (np.abs(q) + 1) * (8 * GROW)
    return np.floor(q) > np.floor(p)


def _tan(a: Interval) -> Interval:
    far = ~((a[0] >= -TRIG_LIMIT) & (a[1] <= TRIG_LIMIT))
    lo, hi = np.where(far, 0.0, a[0]), np.where(far, 0.0, a[1])
    bad = far | _crosses(lo, hi, 0.5, math.pi)
    grow = ULPS[Fn.TAN] * GROW
    below, above = np.tan(lo), np.tan(hi)
    below, above = below - (np.abs(below) * grow + SMALL), above + (np.abs(above) * grow + SMALL)
    return np.where(bad, np.nan, below), np.where(bad, np.nan, above)


def enclose_power(a: Interval, p: float) -> Interval:
    """Encloses ``a ** p``: any a for a whole exponent, otherwise a >= 0."""
    if p == 0:
        one = np.where(np.isnan(a[0]) | np.isnan(a[1]), np.nan, 1.0)
        return one, one
    if p == 1:
        return a
    if float(p).is_integer():
        if p < 0:
            return _invert(enclose_power(a, -p))
        return _even_power(_abs(a), p) if p % 2 == 0 else _odd_power(a, p)
    if p < 0:
        return _invert(enclose_power(a, -p))
    known = a[0] >= 0
    lo, hi = _even_power((np.maximum(a[0], 0.0), np.maximum(a[1], 0.0)), p)
    return np.where(known, lo, np.nan), np.where(known & ~np.isnan(a[1]), hi, np.nan)


def _raise(a: Any, p: float) -> Any:
    if p == 2:
        return a * a
    if p == 3:
        return a * a * a
    if p == 4:
        b = a * a
        return b * b
    return np.power(a, p)


def _even_power(a: Interval, p: float) -> Interval:
    """Of a non-negative interval."""
    lo, hi = _both(lambda v: _raise(v, p), a)
    grow = ULPS[Fn.POW] * GROW
    lo = np.minimum(lo, MAX)
    return np.maximum(lo - (lo * grow + SMALL), 0.0), hi + (hi * grow + SMALL)


def _odd_power(a: Interval, p: float) -> Interval:
    def raised(v: Any) -> Any:
        return _raise(v, p)

    lo, hi = _both(raised, a)
    grow = ULPS[Fn.POW] * GROW
    lo, hi = np.minimum(lo, MAX), np.maximum(hi, -MAX)
    lo, hi = lo - (np.abs(lo) * grow + SMALL), hi + (np.abs(hi) * grow + SMALL)
    return np.where(a[0] >= 0, np.maximum(lo, 0.0), lo), np.where(a[1] <= 0, np.minimum(hi, 0.0), hi)


def _nan_of(a: Interval) -> Any:
    return np.isnan(a[0]) | np.isnan(a[1])


def _stair(call: Callable[[Any], Any]) -> Rule:
    return lambda a: _both(call, a)


def _indicator(low: Callable[[Any, Any], Any], high: Callable[[Any, Any], Any]) -> Rule:
    def rule(a: Interval) -> Interval:
        unknown = _nan_of(a)
        lo, hi = low(*a).astype(np.float64), high(*a).astype(np.float64)
        return np.where(unknown, np.nan, lo), np.where(unknown, np.nan, hi)

    return rule


def _where(c: Interval, a: Interval, b: Interval) -> Interval:
    yes, no = c[0] > 0, c[1] < 1
    lo = np.where(yes, a[0], np.where(no, b[0], np.minimum(a[0], b[0])))
    hi = np.where(yes, a[1], np.where(no, b[1], np.maximum(a[1], b[1])))
    unknown = _nan_of(c)
    return np.where(unknown, np.nan, lo), np.where(unknown, np.nan, hi)


RULES: Mapping[Fn, Callable[..., Interval]] = {
    Fn.ADD: _add,
    Fn.SUB: _sub,
    Fn.MUL: _mul,
    Fn.DIV: _div,
    Fn.NEG: _neg,
    Fn.ABS: _abs,
    Fn.RELU: _relu,
    Fn.MAX: _max,
    Fn.MIN: _min,
    Fn.EXP: _monotone(Fn.EXP, 0.0, INF),
    Fn.LOG: _within(_monotone(Fn.LOG, -INF, INF), lambda lo, _: lo > 0),
    Fn.SQRT: _within(_monotone(Fn.SQRT, 0.0, INF), lambda lo, _: lo >= 0),
    Fn.SIN: _wave(np.sin, 0.25),
    Fn.COS: _wave(np.cos, 0.0),
    Fn.TAN: _tan,
    Fn.TANH: _signed(_monotone(Fn.TANH, -1.0, 1.0)),
    Fn.SIGMOID: _monotone(Fn.SIGMOID, 0.0, 1.0),
    Fn.SOFTPLUS: _monotone(Fn.SOFTPLUS, 0.0, INF),
    Fn.ERF: _signed(_monotone(Fn.ERF, -1.0, 1.0)),
    Fn.ATAN: _signed(_monotone(Fn.ATAN, -2.0, 2.0)),
    Fn.ASIN: _signed(_within(_monotone(Fn.ASIN, -2.0, 2.0), lambda lo, hi: (lo >= -1) & (hi <= 1))),
    Fn.ACOS: _within(
        lambda a: (
            np.maximum(np.arccos(a[1]) * (1 - ULPS[Fn.ACOS] * GROW), 0.0),
            np.arccos(a[0]) * (1 + ULPS[Fn.ACOS] * GROW),
        ),
        lambda lo, hi: (lo >= -1) & (hi <= 1),
    ),
    Fn.SINH: _signed(_monotone(Fn.SINH, -INF, INF)),
    Fn.COSH: _cosh,
    Fn.ASINH: _signed(_monotone(Fn.ASINH, -INF, INF)),
    Fn.ACOSH: _within(_monotone(Fn.ACOSH, 0.0, INF), lambda lo, _: lo >= 1),
    Fn.ATANH: _signed(_within(_monotone(Fn.ATANH, -INF, INF), lambda lo, hi: (lo > -1) & (hi < 1))),
    Fn.SIGN: _stair(np.sign),
    Fn.FLOOR: _stair(np.floor),
    Fn.CEIL: _stair(np.ceil),
    Fn.TRUNC: _stair(np.trunc),
    Fn.ROUND: _stair(np.round),
    Fn.STEP: _indicator(lambda lo, _: lo >= 0, lambda _, hi: hi >= 0),
    Fn.STRICT: _indicator(lambda lo, _: lo > 0, lambda _, hi: hi > 0),
    Fn.ZERO: _indicator(lambda lo, hi: (lo == 0) & (hi == 0), lambda lo, hi: (lo <= 0) & (hi >= 0)),
    Fn.WHERE: _where,
}
