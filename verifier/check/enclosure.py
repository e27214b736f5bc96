"""Interval arithmetic for the operations of :mod:`verifier.check.functions`, rounded outwards.

An interval is a pair of arrays (lo, hi), lo <= hi, never NaN; ``lo`` may be -inf and ``hi`` inf, which
stand for "no bound". A function whose argument may leave its domain has no bound.

*Float64*: arithmetic is correctly rounded, so the neighbouring float is a bound. Of numpy's (and C's)
elementary functions this file believes that they are off by at most ``ULPS`` units in the last place,
monotone or not, plus 2^-1020 where the result is subnormal. *Exact*: fractions, nothing is widened;
values that are not finite are refused (``CertificateRejected``), bounds of derivatives may be infinite.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any, TypeAlias

import numpy as np

from bounds.errors import CertificateRejected
from verifier.check.network import Array

Interval: TypeAlias = tuple[Array, Array]
Plain: TypeAlias = Callable[[Array], Array]

ULPS: Mapping[str, int] = {
    "exp": 8, "log": 8, "sin": 8, "cos": 8, "tan": 8, "tanh": 8, "erf": 8, "atan": 8, "asin": 8, "acos": 8,
    "sinh": 8, "cosh": 8, "asinh": 8, "acosh": 8, "atanh": 8, "pow": 8, "sqrt": 1,
    "sigmoid": 16, "softplus": 32,  # put together below from the others
}  # fmt: skip
_TINY = 2.0**-1020
_FAR = 2.0**20  # arguments of sine, cosine and tangent beyond it are not looked at
_INF = np.inf

_erf = np.frompyfunc(math.erf, 1, 1)


def _sigmoid(a: Array) -> Array:
    e = np.exp(-np.abs(a))  # both branches: one rounded sum and one quotient of positive numbers
    return np.where(a >= 0, 1 / (1 + e), e / (1 + e))


def _softplus(a: Array) -> Array:
    return np.maximum(a, 0) + np.log1p(np.exp(-np.abs(a)))


# name -> (plain function, lower and upper end of the domain, least and greatest value); all increasing
INCREASING: Mapping[str, tuple[Plain, float, float, float, float]] = {
    "exp": (np.exp, -_INF, _INF, 0, _INF),
    "log": (np.log, 0, _INF, -_INF, _INF),
    "sqrt": (np.sqrt, 0, _INF, 0, _INF),
    "tanh": (np.tanh, -_INF, _INF, -1, 1),
    "sigmoid": (_sigmoid, -_INF, _INF, 0, 1),
    "softplus": (_softplus, -_INF, _INF, 0, _INF),
    "erf": (lambda a: np.asarray(_erf(a), np.float64), -_INF, _INF, -1, 1),
    "atan": (np.arctan, -_INF, _INF, -1.5707963267948968, 1.5707963267948968),
    "asin": (np.arcsin, -1, 1, -1.5707963267948968, 1.5707963267948968),
    "sinh": (np.sinh, -_INF, _INF, -_INF, _INF),
    "asinh": (np.arcsinh, -_INF, _INF, -_INF, _INF),
    "acosh": (np.arccosh, 1, _INF, 0, _INF),
    "atanh": (np.arctanh, -1, 1, -_INF, _INF),
}
ROUNDED: Mapping[str, tuple[Plain, Callable[[Any], Any]]] = {
    "floor": (np.floor, math.floor),
    "ceil": (np.ceil, math.ceil),
    "trunc": (np.trunc, math.trunc),
    "round": (np.round, round),  # halves to even
    "sign": (np.sign, lambda v: (v > 0) - (v < 0)),
    "step": (lambda a: (a >= 0).astype(np.float64), lambda v: int(v >= 0)),
    "strict": (lambda a: (a > 0).astype(np.float64), lambda v: int(v > 0)),
}


def is_zero(x: Interval) -> bool:
    """Whether it is one number for all elements, and that is 0."""
    return x[0] is x[1] and np.ndim(x[0]) == 0 and not x[0]


class Reals:
    """Interval operations; every method is sound elementwise."""

    def __init__(self, *, exact: bool) -> None:
        self.exact = exact

    # -------------------------------------------------------------- arithmetic
    def number(self, value: float) -> Interval:
        """A stored number."""
        a = np.asarray(Fraction(value), object) if self.exact else np.asarray(float(value))
        return a, a

    def out(self, lo: Array, hi: Array) -> Interval:
        """Both ends moved over one rounding."""
        if self.exact:
            return lo, hi
        return np.nextafter(lo, -_INF), np.nextafter(hi, _INF)

    def widen(self, lo: Array, hi: Array, ulps: int) -> Interval:
        """Both ends moved over the error of an elementary function."""
        e = (ulps + 1) * 2.0**-52
        return self.out(
            np.minimum(lo, _MOST) - (np.abs(np.minimum(lo, _MOST)) * e + _TINY),
            np.maximum(hi, -_MOST) + (np.abs(np.maximum(hi, -_MOST)) * e + _TINY),
        )

    def add(self, x: Interval, y: Interval) -> Interval:
        if is_zero(x) or is_zero(y):
            return y if is_zero(x) else x
        return self._sum(x[0], y[0], -_INF), self._sum(x[1], y[1], _INF)

    def neg(self, x: Interval) -> Interval:
        return -x[1], -x[0]

    def sub(self, x: Interval, y: Interval) -> Interval:
        return self._sum(x[0], -y[1], -_INF), self._sum(x[1], -y[0], _INF)

    def _sum(self, a: Array, b: Array, towards: float) -> Array:
        """A sum rounded in one direction; sums without a rounding error (Knuth) stay as they are.

        Kinks, jumps and ends of domains often lie at such sums.
        """
        total = a + b
        if self.exact:
            return total
        kept = (total - a == b) & (total - b == a)
        return np.where(kept, total, np.nextafter(total, towards))

    def mul(self, x: Interval, y: Interval) -> Interval:
        """The hull of the four corners, where 0 times no bound is 0."""
        if is_zero(x) or is_zero(y):
            return self.number(0.0)
        if self.exact:
            p, q, r, s = (_exact_times(a, b) for a in x for b in y)
            return np.minimum(np.minimum(p, q), np.minimum(r, s)), np.maximum(
                np.maximum(p, q), np.maximum(r, s)
            )
        x, y = (y, x) if y[0] is y[1] else (x, y)
        p, q = x[0] * y[0], x[0] * y[1]
        lo, hi = np.fmin(p, q), np.fmax(p, q)
        if x[0] is not x[1]:
            p, q = x[1] * y[0], x[1] * y[1]
            lo, hi = np.fmin(lo, np.fmin(p, q)), np.fmax(hi, np.fmax(p, q))
        # 0 * inf is NaN; another corner is then 0 too, or nothing is known, or all four are NaN
        return self.out(np.where(np.isnan(lo), 0.0, lo), np.where(np.isnan(hi), 0.0, hi))

    def scale(self, x: Interval, factor: float) -> Interval:
        return self.mul(x, self.number(factor))

    def hull(self, x: Interval, y: Interval) -> Interval:
        return np.minimum(x[0], y[0]), np.maximum(x[1], y[1])

    def within(self, x: Interval, lo: Any, hi: Any) -> Interval:
        """Intersection with what is known otherwise."""
        return np.maximum(x[0], lo), np.minimum(x[1], hi)

    def nothing(self, like: Array) -> Interval:
        """No bounds."""
        return np.full(np.shape(like), -_INF, like.dtype), np.full(np.shape(like), _INF, like.dtype)

    def only(self, known: Array, x: Interval) -> Interval:
        """``x`` where known, else no bounds."""
        return np.where(known, x[0], -_INF), np.where(known, x[1], _INF)

    def inverse(self, x: Interval) -> Interval:
        """``1 / x``; no bounds where x may be 0."""
        safe = (x[0] > 0) | (x[1] < 0)
        one: Any = Fraction(1) if self.exact else 1.0
        lo, hi = (np.where(safe, v, one) for v in x)
        return self.only(safe, self.out(one / hi, one / lo))

    def integer_power(self, x: Interval, n: int) -> Interval:
        """``x^n`` for a whole n."""
        if n < 0:
            return self.inverse(self.integer_power(x, -n))
        if n == 0:
            return self.number(1.0)
        if n == 1:
            return x
        if n % 2 == 0:
            least = np.where((x[0] <= 0) & (x[1] >= 0), x[0] * 0, np.minimum(abs(x[0]), abs(x[1])))
            least = least if self.exact else np.where(np.isnan(least), 0.0, least)
            x = least, np.maximum(abs(x[0]), abs(x[1]))
        if self.exact:
            return x[0] ** n, x[1] ** n
        if n == 2:
            return self.within(self.out(x[0] * x[0], x[1] * x[1]), 0.0, _INF)
        p = self.widen(np.power(x[0], float(n)), np.power(x[1], float(n)), ULPS["pow"])
        return self.within(p, 0.0, _INF) if n % 2 == 0 else p

    def power(self, x: Interval, p: float) -> Interval:
        """``x^p``, for a fractional p on x >= 0 only."""
        if float(p).is_integer():
            return self.integer_power(x, int(p))
        if p < 0:  # next to 0 without bound, but positive
            found = self.inverse(self.power(x, -p))
            return np.where(x[0] >= 0, np.maximum(found[0], 0.0), -_INF), found[1]
        base = np.maximum(x[0], 0.0), np.maximum(x[1], 0.0)
        found = self.widen(np.power(base[0], p), np.power(base[1], p), ULPS["pow"])
        return self.only(x[0] >= 0, self.within(found, 0.0, _INF))

    # -------------------------------------------------------------- functions
    def finite(self, x: Interval) -> Interval:
        """``x``; in exact arithmetic only finite values are worked with."""
        if self.exact and any(np.any(np.abs(v) == _INF) for v in x):
            raise CertificateRejected("exact", "a function has no bound on a box; only floats may say so")
        return x

    def increasing(self, fn: str, x: Interval) -> Interval:
        """One of the table's functions."""
        plain, first, last, least, most = INCREASING[fn]
        inside = (x[0] >= first) & (x[1] <= last)
        lo, hi = plain(np.clip(x[0], first, last)), plain(np.clip(x[1], first, last))
        return self.only(inside, self.within(self.widen(lo, hi, ULPS[fn]), least, most))

    def rounded(self, fn: str, x: Interval) -> Interval:
        """Staircases: exact, increasing."""
        plain, exact = ROUNDED[fn]
        if self.exact:
            lo, hi = (np.asarray(np.frompyfunc(lambda v: Fraction(exact(v)), 1, 1)(v), object) for v in x)
            return lo, hi
        return plain(np.asarray(x[0])), plain(np.asarray(x[1]))

    def sine(self, x: Interval, shift: float) -> Interval:
        """``sin(x + shift quarter turns)`` for shift 0 (sine) or 1 (cosine)."""
        plain = np.cos if shift else np.sin
        with np.errstate(all="ignore"):
            known = (np.abs(x[0]) < _FAR) & (np.abs(x[1]) < _FAR)
            ends = tuple(plain(np.where(known, v, 0.0)) for v in x)
            lo, hi = self.widen(np.minimum(*ends), np.maximum(*ends), ULPS["sin"])
        top, bottom = self._meets(x, (1 - shift) / 4), self._meets(x, (3 - shift) / 4)
        lo, hi = np.where(bottom | ~known, -1.0, lo), np.where(top | ~known, 1.0, hi)
        return self.within((lo, hi), -1.0, 1.0)

    def _meets(self, x: Interval, turns: float, period: float = 1.0) -> Array:
        """Whether x may contain ``2 pi (turns + n period)`` for a whole n; 2^-30 covers every rounding."""
        lo, hi = (np.clip(v, -_FAR, _FAR) / (2 * np.pi * period) - turns / period for v in x)
        return np.ceil(lo - 2.0**-30) <= hi + 2.0**-30

    def tangent(self, x: Interval) -> Interval:
        known = (np.abs(x[0]) < _FAR) & (np.abs(x[1]) < _FAR) & ~self._meets(x, 0.25, 0.5)
        lo, hi = (np.tan(np.where(known, v, 0.0)) for v in x)
        return self.only(known, self.widen(lo, hi, ULPS["tan"]))

    def value(self, fn: str, x: Interval) -> Interval:
        """The range of a smooth function of one operand."""
        if fn in INCREASING:
            return self.increasing(fn, x)
        if fn in ("sin", "cos"):
            return self.sine(x, float(fn == "cos"))
        if fn == "tan":
            return self.tangent(x)
        if fn == "acos":
            inside = (x[0] >= -1) & (x[1] <= 1)
            lo, hi = np.arccos(np.clip(x[1], -1, 1)), np.arccos(np.clip(x[0], -1, 1))
            return self.only(inside, self.within(self.widen(lo, hi, ULPS["acos"]), 0.0, 3.1415926535897936))
        if fn == "cosh":
            least = np.where((x[0] <= 0) & (x[1] >= 0), 0.0, np.minimum(np.abs(x[0]), np.abs(x[1])))
            most = np.maximum(np.abs(x[0]), np.abs(x[1]))
            return self.within(self.widen(np.cosh(least), np.cosh(most), ULPS["cosh"]), 1.0, _INF)
        raise CertificateRejected("function", f"the checker has no function {fn}")


_MOST = float(np.finfo(np.float64).max)


def _exact_times(a: Array, b: Array) -> Array:
    return np.asarray(_EXACT_TIMES(a, b), object)


_EXACT_TIMES = np.frompyfunc(lambda a, b: Fraction(0) if a == 0 or b == 0 else a * b, 2, 1)
