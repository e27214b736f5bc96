"""The tightest line of a given slope below (or above) a scalar function on an interval.

For a slope k the intercept of the line below f on [l, u] is the least value of g(z) = f(z) - k z. Between two boxes of
the partition f is convex, concave or affine: a concave or affine g is least at an end; a convex one at a point t
with f'(t) = k, found approximately, where the tangent gives a rigorous bound whatever t is:

    g(z) >= g(t) + min(0, g'(t) (a - t), g'(t) (b - t))  for z in [a, b].

All values of f and f' are enclosed; the few operations of the formulas pay for their rounding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bounds.evaluate_scalar import evaluate_expression
from bounds.expression import Expr
from bounds.relax.derivative import derivative
from bounds.relax.enclose import GROW, MAX, TINY, down, enclose, up
from bounds.relax.isolate import UNKNOWN
from bounds.relax.segments import Partition

SUBDIVISIONS = 16  # parts of a stretch of unknown curvature


@dataclass(frozen=True)
class Pairs:
    """Which segments and boxes each interval meets.

    Attributes:
        element: index of the interval of each (interval, segment) pair; ``segment`` its segment.
        lo, hi: the segment clipped to the interval (only pairs of positive width are kept).
        box_element, box: the (interval, box) pairs.
    """

    element: Any
    segment: Any
    lo: Any
    hi: Any
    box_element: Any
    box: Any


def pairs(part: Partition, lo: Any, hi: Any) -> Pairs:
    """Pairs of intervals ``[lo, hi]`` (1-D arrays, finite) with segments and boxes."""
    n = len(lo)
    every = np.arange(n)
    if not part.boxes:
        zero = np.zeros(n, dtype=np.intp)
        keep = hi > lo
        none = zero[:0]
        if keep.all():
            return Pairs(every, zero, lo, hi, none, none)
        return Pairs(every[keep], zero[keep], lo[keep], hi[keep], none, none)
    first = np.searchsorted(part.box_hi, lo, side="left")
    last = np.searchsorted(part.box_lo, hi, side="right")
    count = last - first
    element = np.repeat(every, count + 1)
    segment = _runs(first, count + 1)
    a = np.maximum(lo[element], part.seg_lo[segment])
    b = np.minimum(hi[element], part.seg_hi[segment])
    keep = b > a
    return Pairs(
        element[keep], segment[keep], a[keep], b[keep], np.repeat(every, count), _runs(first, count)
    )


def _runs(first: Any, count: Any) -> Any:
    """first[0], first[0]+1, ... (count[0] numbers), first[1], ..."""
    total = int(count.sum())
    starts = np.cumsum(count) - count
    return np.arange(total) - np.repeat(starts - first, count)


def product(k: Any, z: Any) -> Any:
    """``k z`` where an unbounded z counts as zero for k = 0."""
    return np.where(k == 0, 0.0, k * z)


def point_bound(value: Any, k: Any, z: Any) -> Any:
    """At most ``value - k z``."""
    kz = k * z
    return value - kz - (np.abs(value) + 2 * np.abs(kz)) * (2 * GROW) - 4 * TINY


def tangent_bound(value: Any, slope_lo: Any, slope_hi: Any, k: Any, t: Any, a: Any, b: Any) -> Any:
    """At most f(z) - k z on [a, b] for a convex f with f(t) >= value and f'(t) in [slope_lo, slope_hi]."""
    left = np.maximum(up(slope_hi - k), 0.0) * up(t - a)
    right = np.maximum(-down(slope_lo - k), 0.0) * up(b - t)
    loss = np.maximum(left, right)
    kt = k * t
    size = np.abs(value) + 2 * np.abs(kt) + 2 * loss
    return value - kt - loss - size * (2 * GROW) - 4 * TINY


def stationary(e: Expr, k: Any, a: Any, b: Any, start: Any) -> Any:
    """About where the slope of a curved function is k, within [a, b]: safeguarded Newton steps."""
    first, second = derivative(e), derivative(derivative(e))
    rising = evaluate_expression(first, b) >= evaluate_expression(first, a)
    lo, hi, t = a, b, np.clip(start, a, b)
    with np.errstate(all="ignore"):
        for _ in range(12):
            gap = evaluate_expression(first, t) - k
            right = (gap > 0) == rising  # the point lies left of t
            hi, lo = np.where(right, t, hi), np.where(right, lo, t)
            step = t - gap / evaluate_expression(second, t)
            inside = (step > lo) & (step < hi)
            t = np.where(gap == 0, t, np.where(inside, step, lo / 2 + hi / 2))
    return np.clip(np.where(np.isnan(t), a, t), a, b)


def flipped(sign: int, interval: tuple[Any, Any]) -> tuple[Any, Any]:
    """An enclosure of f as one of ``sign * f``."""
    return interval if sign > 0 else (-interval[1], -interval[0])


class Lines:
    """Intercepts on one batch of finite intervals."""

    def __init__(self, e: Expr, part: Partition, lo: Any, hi: Any) -> None:
        self.e = e
        self.part = part
        self.lo = lo
        self.hi = hi
        self.pairs = pairs(part, lo, hi)
        self.at_lo = enclose(e, lo, lo)
        self.at_hi = enclose(e, hi, hi)

    def below(self, slope: Any, sign: int) -> Any:
        """The largest b known with ``sign * f(z) >= slope * z + b`` on each interval.

        Args:
            slope: per interval.
            sign: +1 for f, -1 for -f.

        Returns:
            ``b``; NaN where nothing is known.
        """
        out = np.minimum(
            point_bound(flipped(sign, self.at_lo)[0], slope, self.lo),
            point_bound(flipped(sign, self.at_hi)[0], slope, self.hi),
        )
        p = self.pairs
        if len(p.box):
            _reduce(out, p.box_element, self._at_boxes(slope, sign))
        kind = self.part.kind[p.segment]
        for number, e in enumerate(self.part.exprs):
            if e is None:
                continue
            chosen = np.flatnonzero((kind == sign) & (self.part.piece[p.segment] == number))
            if len(chosen):
                _reduce(out, p.element[chosen], self._curved(e, chosen, slope, sign))
        chosen = np.flatnonzero(kind == UNKNOWN)
        if len(chosen):
            _reduce(out, p.element[chosen], self._unknown(chosen, slope, sign))
        return out

    def _at_boxes(self, slope: Any, sign: int) -> Any:
        p, part = self.pairs, self.part
        k, values = slope[p.box_element], part.values[p.box]
        if sign > 0:
            value, before, after = values[:, 0], values[:, 2], values[:, 4]
        else:
            value, before, after = -values[:, 1], -values[:, 3], -values[:, 5]
        lo, hi = part.box_lo[p.box], part.box_hi[p.box]
        least = np.where(lo > self.lo[p.box_element], np.minimum(value, before), value)
        least = np.where(hi < self.hi[p.box_element], np.minimum(least, after), least)
        return np.minimum(point_bound(least, k, lo), point_bound(least, k, hi))

    def _curved(self, e: Expr, chosen: Any, slope: Any, sign: int) -> Any:
        p = self.pairs
        a, b, k = p.lo[chosen], p.hi[chosen], slope[p.element[chosen]]
        t = stationary(e, sign * k, a, b, a / 2 + b / 2)
        value = flipped(sign, enclose(e, t, t))
        slopes = flipped(sign, enclose(derivative(e), t, t))
        bound = tangent_bound(value[0], slopes[0], slopes[1], k, t, a, b)
        return bound

    def _unknown(self, chosen: Any, slope: Any, sign: int) -> Any:
        """Natural and mean-value enclosures on the parts of a stretch."""
        p = self.pairs
        a, b, k = p.lo[chosen], p.hi[chosen], slope[p.element[chosen]]
        e = self.e
        worst = np.full(len(a), np.inf)
        left = a
        for i in range(1, SUBDIVISIONS + 1):
            right = b if i == SUBDIVISIONS else np.minimum(a + (b / SUBDIVISIONS - a / SUBDIVISIONS) * i, b)
            right = np.maximum(right, left)
            values = flipped(sign, enclose(e, left, right))[0]
            kz = np.maximum(k * left, k * right)
            bound = values - kz - (np.abs(values) + 2 * np.abs(kz)) * (2 * GROW) - 4 * TINY
            smooth = [x for x in set(self.part.exprs) if x is not None]
            del smooth
            worst = np.minimum(worst, bound)
            left = right
        return worst


def _reduce(out: Any, element: Any, bound: Any) -> None:
    """``out[element] = min(out[element], bound)``, NaN winning."""
    if len(element) == len(out):  # one each, in order
        np.minimum(out, bound, out=out)
    else:
        np.minimum.at(out, element, bound)


__all__ = ["MAX", "Lines"]
