"""Relaxation of any scalar function: rigorous ranges and lines, found from its expression alone."""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np

from bounds.evaluate_scalar import evaluate_expression
from bounds.expression import Expr, is_rational
from bounds.relax import exact
from bounds.relax.derivative import derivative
from bounds.relax.enclose import MAX, enclose
from bounds.relax.isolate import CORE
from bounds.relax.lines import Lines
from bounds.relax.model_rounding import model_error
from bounds.relax.segments import Partition, partition

CHUNK = 16384  # intervals at a time: their arrays stay in the cache
LARGEST_SLOPE = float(np.finfo(np.float32).max)
ROUNDS = 6


class ScalarFunction:
    """One function of one variable, analysed once.

    Attributes:
        expression: what it computes.
        rational: it maps rationals to rationals, so that the exact modes work.
    """

    def __init__(self, expression: Expr) -> None:
        self.expression = expression
        self.rational = is_rational(expression)
        self._partition: Partition | None = None

    @property
    def partition(self) -> Partition:
        """Convex, concave, affine stretches and what lies between."""
        if self._partition is None:
            self._partition = partition(self.expression, CORE)
        return self._partition

    def value(self, z: Any) -> Any:
        """The function at every element of ``z``, in its arithmetic; not rigorous."""
        return evaluate_expression(self.expression, np.asarray(z))

    def derivative(self, z: Any) -> Any:
        """Its slope (one side's at kinks, 0 at jumps and where it is not finite)."""
        z = np.asarray(z)
        d = evaluate_expression(derivative(self.expression), z)
        if z.dtype == object:
            return d
        return np.where(np.isfinite(d), d, 0).astype(z.dtype)

    def range(self, lo: Any, hi: Any) -> tuple[Any, Any]:
        """Encloses ``f([lo, hi])``."""
        lo, hi = np.broadcast_arrays(lo, hi)
        zero = np.zeros(lo.shape, dtype=lo.dtype)
        below, above = self.intercepts(lo, hi, zero, zero)
        return below, above

    def supporting(self, lo: Any, hi: Any, at: Any) -> tuple[Any, Any]:
        """Slopes of the convex and the concave envelope of f on ``[lo, hi]`` at ``at``; see the class."""
        if _is_exact(lo):
            kl, ku = self.supporting(*(np.asarray(v).astype(np.float64) for v in (lo, hi, at)))
            return _fractions(kl), _fractions(ku)
        lo, hi, at = np.broadcast_arrays(lo, hi, at)
        shape = lo.shape
        flat = [np.asarray(v, dtype=np.float64).ravel() for v in (lo, hi, at)]
        out = np.zeros((2, flat[0].size))
        finite = np.isfinite(flat[0]) & np.isfinite(flat[1])
        for start in range(0, flat[0].size, CHUNK):
            part = slice(start, start + CHUNK)
            keep = finite[part]
            l, u, t = (v[part][keep] for v in flat)
            t = np.clip(t, l, u)
            out[0, part][keep] = self._slope(l, u, t, 1)
            out[1, part][keep] = -self._slope(l, u, t, -1)
        with np.errstate(all="ignore"):
            out = np.clip(np.nan_to_num(out, nan=0.0), -LARGEST_SLOPE, LARGEST_SLOPE).astype(np.float32)
        out = out.astype(np.float64)
        return out[0].reshape(shape), out[1].reshape(shape)

    def _slope(self, lo: Any, hi: Any, at: Any, sign: int) -> Any:
        """Of the convex envelope of ``sign * f``: bridges shrunk towards ``at`` on sampled points."""
        with np.errstate(all="ignore"):
            best = np.full(lo.shape, np.nan)
            grid = np.linspace(0, 1, 33)
            points = lo[:, None] + (hi - lo)[:, None] * grid
            values = sign * self.value(points)
            here = sign * self.value(at)
            left, right = lo, hi
            fl, fr = values[:, 0], values[:, -1]
            for _ in range(ROUNDS):
                k = np.where(right > left, (fr - fl) / (right - left), 0.0)
                j = np.argmin(values - k[:, None] * points, axis=1)
                z = np.take_along_axis(points, j[:, None], 1)[:, 0]
                f = np.take_along_axis(values, j[:, None], 1)[:, 0]
                better = f - k * z < fl - k * left - np.abs(fl) * 2.0**-40
                to_left = better & (z <= at)
                to_right = better & (z > at)
                left, fl = np.where(to_left, z, left), np.where(to_left, f, fl)
                right, fr = np.where(to_right, z, right), np.where(to_right, f, fr)
                best = k
            del here
        return np.where(hi > lo, best, sign * self.derivative(lo))

    def intercepts(self, lo: Any, hi: Any, kl: Any, ku: Any) -> tuple[Any, Any]:
        """``bl, bu`` with ``kl z + bl <= f(z) <= ku z + bu`` for every real z in ``[lo, hi]``; see the class."""
        lo, hi, kl, ku = np.broadcast_arrays(lo, hi, kl, ku)
        if _is_exact(lo):
            return self._exact(lo, hi, kl, ku)
        shape = lo.shape
        flat = [np.asarray(v, dtype=np.float64).ravel() for v in (lo, hi, kl, ku)]
        below = np.full(flat[0].size, -np.inf)
        above = np.full(flat[0].size, np.inf)
        usable = flat[0] <= flat[1]
        with np.errstate(all="ignore"):
            for start in range(0, flat[0].size, CHUNK):
                part = slice(start, start + CHUNK)
                keep = usable[part]
                l, u, k, q = (v[part][keep] for v in flat)
                lines = Lines(self.expression, self.partition, np.maximum(l, -MAX), np.minimum(u, MAX))
                least, most = lines.below(k, 1), lines.below(-q, -1)
                least, most = self._tails(l, u, k, least, 1), self._tails(l, u, -q, most, -1)
                below[part][keep] = np.where(np.isnan(least), -np.inf, least)
                above[part][keep] = np.where(np.isnan(most), np.inf, -most)
        return below.reshape(shape), above.reshape(shape)

    def _exact(self, lo: Any, hi: Any, kl: Any, ku: Any) -> tuple[Any, Any]:
        below, above = np.empty(lo.shape, dtype=object), np.empty(lo.shape, dtype=object)
        for i in np.ndindex(lo.shape):
            k, q = Fraction(kl[i]), Fraction(ku[i])
            below[i] = exact.least(self.expression, self.partition, lo[i], hi[i], k, 1)
            above[i] = -exact.least(self.expression, self.partition, lo[i], hi[i], -q, -1)
        return below, above

    def _tails(self, lo: Any, hi: Any, k: Any, bound: Any, sign: int) -> Any:
        """Adds what lies beyond the largest float of unbounded intervals."""
        for wide, a, b, outward in ((hi == np.inf, MAX, np.inf, 1), (lo == -np.inf, -np.inf, -MAX, -1)):
            if not wide.any():
                continue
            below, above = enclose(self.expression, np.array([a]), np.array([b]))
            value = below[0] if sign > 0 else -above[0]
            # k z is bounded above there only if k points inwards
            bound = np.where(wide, np.minimum(bound, np.where(k * outward > 0, -np.inf, value)), bound)
        return bound

    def model_error(self, lo: Any, hi: Any) -> Any:
        """A bound on what the model's own float32 evaluation is off by; infinite where none is known."""
        lo, hi = np.broadcast_arrays(np.asarray(lo, dtype=np.float64), np.asarray(hi, dtype=np.float64))
        return model_error(self.expression, lo, hi)


def _is_exact(values: Any) -> bool:
    return np.asarray(values).dtype == np.dtype(object)


def _fractions(values: Any) -> Any:
    return np.frompyfunc(Fraction, 1, 1)(values)


@lru_cache(maxsize=1024)
def scalar_function(expression: Expr) -> ScalarFunction:
    """The function of an expression; analysed once per process."""
    return ScalarFunction(expression)
