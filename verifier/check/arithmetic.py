"""The two arithmetics of the checker, and every constant that speaks about rounding.

*Float64.* One operation on float64 numbers, rounded to nearest, gives ``(exact)(1 + d) + e`` with
``|d| <= u = 2^-53`` and ``|e| <= eta``, the smallest normal number (gradual underflow or flushing).
Hence a sum of n products, in any order, fused or not, is off by at most ``gamma_n (|w| . |x|) + n eta``
with ``gamma_n = n u / (1 - n u)``. This module offers

* ``gamma(k) = (k + 8) u (1 + 2^-20)``, which is at least ``gamma_(k+7)`` and, for k < 2^30, also covers
  the relative error (below 2^-21) with which a *sum of non-negative numbers* such as ``|W| m + |b|``
  is itself computed. The 8 spare roundings pay for the few additions that follow each product;
* ``tiny = 2^-960 >= k^2 eta`` for those k: pays for all underflow in one product or sum;
* ``slack = 1 + 2^-20``: makes a computed sum of non-negative error terms an upper bound of the true one.

*Exact.* numpy object arrays of ``fractions.Fraction``; the same formulas with ``u = tiny = 0``.

*The network's own float32 rounding* (level ``float32``) is a statement about the model, hence part of
both arithmetics: ``gamma32(k) = k 2^-24 / (1 - k 2^-24)`` and ``eta32 = 2^-126`` per rounding (flushing).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from verifier.check.network import Array


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """Number type and rounding constants; ``exact`` means Fractions."""

    exact: bool

    @property
    def u(self) -> Any:
        return 0 if self.exact else 2.0**-53

    @property
    def tiny(self) -> Any:
        return 0 if self.exact else 2.0**-960

    @property
    def slack(self) -> Any:
        return 1 if self.exact else 1 + 2.0**-20

    @property
    def dtype(self) -> Any:
        return object if self.exact else np.float64

    def gamma(self, k: int) -> Any:
        """Relative error of a sum of k products, with 8 roundings to spare."""
        return (k + 8) * self.u * self.slack

    def array(self, a: Array) -> Array:
        """A float64 array in this arithmetic, without any change of value."""
        if not self.exact or a.dtype == object:
            return a
        return np.asarray(np.frompyfunc(_rational, 1, 1)(a), object)

    def number(self, value: float) -> Any:
        """A float in this arithmetic, unchanged."""
        return Fraction(value) if self.exact else value

    def above(self, value: Fraction) -> Any:
        """A number of this arithmetic that is at least ``value >= 0``."""
        return value if self.exact else float_above(value)

    def outwards(self, low: Array, high: Array) -> tuple[Array, Array]:
        """Intervals with float64 ends around intervals of this arithmetic."""
        if not self.exact:
            return low, high
        below, above = np.frompyfunc(float_below, 1, 1), np.frompyfunc(float_above, 1, 1)
        return np.asarray(below(low), np.float64), np.asarray(above(high), np.float64)

    def gamma32(self, k: int) -> Any:
        """``gamma_k`` of float32."""
        assert k < TOO_MANY
        return self.above(Fraction(k, (1 << 24) - k))


TOO_MANY = 1 << 23  # roundings of which nothing is known
ETA32 = 2.0**-126
LARGEST_SUM = 2.0**127  # magnitudes that add up to no more cannot overflow float32, however they are rounded


def _rational(value: float) -> Any:
    """The same number; infinities, which stand for "no bound", stay floats."""
    return value if math.isinf(value) else Fraction(value)


def float_above(value: Any) -> float:
    """The smallest float64 that is not below ``value`` (a fraction, or an infinity)."""
    if isinstance(value, float):
        if math.isnan(value):
            raise ValueError("there is no float above what is not a number")
        return value
    try:
        nearest = float(value)
    except OverflowError:
        return np.inf if value > 0 else -float(np.finfo(np.float64).max)
    # in whole numbers: images have thousands of ends, and comparing fractions makes several new ones
    n, d = nearest.as_integer_ratio()
    return nearest if n * value.denominator >= value.numerator * d else float(np.nextafter(nearest, np.inf))


def float_below(value: Any) -> float:
    """The largest float64 that is not above ``value``."""
    return -float_above(-value)
