"""The tightest line of a given slope below (or above) a scalar function on an interval.

For a slope k the intercept of the line below f on [l, u] is the least value of g(z) = f(z) - k z. Between two
boxes of the partition f is convex, concave or affine: a concave or affine g is least at an end; a convex one
at a point t with f'(t) = k, found approximately, where the tangent gives a rigorous bound whatever t is:

    g(z) >= g(t) + min(0, g'(t) (a - t), g'(t) (b - t))  for z in [a, b].

All values of f and f' are enclosed; the few operations of the formulas pay for their rounding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bounds.expression import Expr
from bounds.relax.derivative import affine_part, derivative
from bounds.relax.enclose import GROW, TINY, Interval, down, enclose, up
from bounds.relax.isolate import UNKNOWN
from bounds.relax.segments import Partition
from bounds.relax.tables import SlopeTable, polish, search

PRECISE = 2.0**-36  # a tangent that loses more, relatively, is looked for again
SUBDIVISIONS = 16  # parts of a stretch of unknown curvature


@dataclass(frozen=True)
class Pairs:
    """Which segments and boxes each interval meets, in the order of the intervals and left to right.

    Attributes:
        element, segment: the interval and the segment of each (interval, segment) pair.
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
    every = np.arange(len(lo))
    if not part.boxes:
        zero = np.zeros(len(lo), dtype=np.intp)
        keep = hi > lo
        if keep.all():
            return Pairs(every, zero, lo, hi, zero[:0], zero[:0])
        return Pairs(every[keep], zero[keep], lo[keep], hi[keep], zero[:0], zero[:0])
    first = np.searchsorted(part.box_hi, lo, side="left")
    count = np.searchsorted(part.box_lo, hi, side="right") - first
    if count.any():
        element, segment = np.repeat(every, count + 1), _runs(first, count + 1)
        box_element, box = np.repeat(every, count), _runs(first, count)
        lo, hi = lo[element], hi[element]
    else:
        element, segment, box_element, box = every, first, every[:0], first[:0]
    a, b = np.maximum(lo, part.seg_lo[segment]), np.minimum(hi, part.seg_hi[segment])
    keep = b > a
    if keep.all():
        return Pairs(element, segment, a, b, box_element, box)
    return Pairs(element[keep], segment[keep], a[keep], b[keep], box_element, box)


def _runs(first: Any, count: Any) -> Any:
    """first[0], first[0]+1, ... (count[0] numbers), first[1], ..."""
    starts = np.cumsum(count) - count
    return np.arange(int(count.sum())) - np.repeat(starts - first, count)


def reduce_least(out: Any, element: Any, values: Any) -> None:
    """``out[element] = min(out[element], values)``, NaN winning; ``element`` is sorted."""
    if not len(element):
        return
    fresh = np.concatenate([[True], element[1:] != element[:-1]])
    if not fresh.all():
        starts = np.flatnonzero(fresh)
        element, values = element[starts], np.minimum.reduceat(values, starts)
    if len(element) == len(out):  # ascending and distinct: every interval
        np.minimum(out, values, out=out)
    else:
        out[element] = np.minimum(out[element], values)


def point_bound(value: Any, k: Any, z: Any) -> Any:
    """At most ``value - k z``."""
    kz = k * z
    return value - kz - ((np.abs(value) + 2 * np.abs(kz)) * (2 * GROW) + 4 * TINY)


def tangent_bound(value: Any, slopes: Interval, k: Any, t: Any, a: Any, b: Any) -> tuple[Any, Any]:
    """At most f(z) - k z on [a, b], for a convex f with f(t) >= value and f'(t) in ``slopes``.

    Returns:
        The bound, and how far it is below ``f(t) - k t`` because t is not exactly where the slope is k.
    """
    left = np.maximum(up(slopes[1] - k), 0.0) * up(t - a)
    right = np.maximum(-down(slopes[0] - k), 0.0) * up(b - t)
    loss = np.maximum(left, right)
    kt = k * t
    return value - kt - loss - ((np.abs(value) + 2 * np.abs(kt) + 2 * loss) * (2 * GROW) + 8 * TINY), loss


def flipped(sign: int, interval: Interval) -> Interval:
    """An enclosure of f as one of ``sign * f``."""
    return interval if sign > 0 else (-interval[1], -interval[0])


def box_values(part: Partition, p: Pairs, lo: Any, hi: Any, sign: int) -> Any:
    """The least of ``sign * f`` at each box: its value, and the limits from the sides inside the interval."""
    values = part.below[p.box] if sign > 0 else part.above[p.box]
    least = values[:, 0]
    if part.jumps:
        least = np.where(part.box_lo[p.box] > lo[p.box_element], np.minimum(least, values[:, 1]), least)
        least = np.where(part.box_hi[p.box] < hi[p.box_element], np.minimum(least, values[:, 2]), least)
    return least


class Lines:
    """Intercepts on one batch of finite intervals."""

    def __init__(self, e: Expr, part: Partition, table: SlopeTable, lo: Any, hi: Any) -> None:
        self.e = e
        self.part = part
        self.table = table
        self.lo = lo
        self.hi = hi
        self.pairs = pairs(part, lo, hi)
        self.kind = part.kind[self.pairs.segment]
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
        p, part = self.pairs, self.part
        if len(p.box):
            least = box_values(part, p, self.lo, self.hi, sign)
            k = slope[p.box_element]
            bound = point_bound(least, k, part.box_lo[p.box])
            if part.wide:
                bound = np.minimum(bound, point_bound(least, k, part.box_hi[p.box]))
            reduce_least(out, p.box_element, bound)
        for number, e in enumerate(part.exprs):
            chosen = self.kind == sign
            if len(part.exprs) > 1:
                chosen &= part.piece[p.segment] == number
            chosen = np.flatnonzero(chosen) if not chosen.all() else slice(None)
            if e is not None and len(p.segment[chosen]):
                reduce_least(out, p.element[chosen], self._curved(e, chosen, slope, sign))
        chosen = np.flatnonzero(self.kind == UNKNOWN)
        if len(chosen):
            reduce_least(out, p.element[chosen], self._unknown(chosen, slope, sign))
        return out

    def _curved(self, e: Expr, chosen: Any, slope: Any, sign: int) -> Any:
        p = self.pairs
        a, b, k, segment = p.lo[chosen], p.hi[chosen], slope[p.element[chosen]], p.segment[chosen]
        goal = k if sign > 0 else -k
        t = polish(e, goal, self.table.guess(segment, goal, a, b), a, b)
        bound, loss = _tangent(e, k, t, a, b, sign)
        poor = ~(loss <= PRECISE * (np.abs(bound) + np.abs(k) * (np.abs(t) + (b - a))))
        if poor.any():
            i = np.flatnonzero(poor)
            t = search(e, goal[i], a[i], b[i], t[i])
            bound[i] = np.fmax(bound[i], _tangent(e, k[i], t, a[i], b[i], sign)[0])
        return bound

    def _natural(self, k: Any, a: Any, b: Any, sign: int) -> Any:
        """From a constant enclosure of the function on [a, b], its affine part taken out."""
        slope, rest = affine_part(self.e)
        least = flipped(sign, enclose(rest, a, b))[0]
        k = k - sign * slope
        k_lo, k_hi = (down(k), up(k)) if slope else (k, k)
        drop = np.maximum(np.maximum(k_lo * a, k_hi * a), np.maximum(k_lo * b, k_hi * b))
        return least - drop - ((np.abs(least) + 2 * np.abs(drop)) * (2 * GROW) + 4 * TINY)

    def _unknown(self, chosen: Any, slope: Any, sign: int) -> Any:
        """Where the curvature has no proved sign: natural and mean-value enclosures on parts of it."""
        p = self.pairs
        a, b, k = p.lo[chosen], p.hi[chosen], slope[p.element[chosen]]
        number = self.part.piece[p.segment[chosen]]
        worst = np.full(len(a), np.inf)
        left = a
        for i in range(1, SUBDIVISIONS + 1):
            right = b if i == SUBDIVISIONS else a + (b / SUBDIVISIONS - a / SUBDIVISIONS) * i
            right = np.minimum(np.maximum(right, left), b)
            bound = self._natural(k, left, right, sign)
            for n, e in enumerate(self.part.exprs):
                here = np.flatnonzero(number == n)
                if e is not None and len(here):
                    centred = _centred(e, k[here], left[here], right[here], sign)
                    # a natural enclosure that is no number says that the function may be undefined there
                    known = ~np.isnan(bound[here])
                    bound[here] = np.where(known, np.fmax(bound[here], centred), np.nan)
            worst = np.minimum(worst, bound)
            left = right
        return worst


def _tangent(e: Expr, k: Any, t: Any, a: Any, b: Any, sign: int) -> tuple[Any, Any]:
    value = flipped(sign, enclose(e, t, t))[0]
    return tangent_bound(value, flipped(sign, enclose(derivative(e), t, t)), k, t, a, b)


def _centred(e: Expr, k: Any, a: Any, b: Any, sign: int) -> Any:
    """The mean-value form: the formula of the tangent, with the slopes of the whole stretch [a, b]."""
    t = np.minimum(np.maximum(a / 2 + b / 2, a), b)
    value = flipped(sign, enclose(e, t, t))[0]
    return tangent_bound(value, flipped(sign, enclose(derivative(e), a, b)), k, t, a, b)[0]
