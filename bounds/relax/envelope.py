"""Slopes of the convex envelope of a scalar function at a point.

The line through the envelope at a point has the largest value there of all lines below the function. Where
the function is convex over the whole interval it is the tangent, where concave the chord. In between, the
tangent at the point is tried, and otherwise a bridge over the point is shrunk: for the slope of the current
bridge the lowest point of f(z) - k z becomes the bridge's new end on its side, until there is none lower. For
a tangent from an end to a convex stretch that is Newton's method.

Nothing here need be rigorous: any slope is sound.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bounds.evaluate_scalar import evaluate_expression
from bounds.expression import Expr
from bounds.relax.derivative import derivative
from bounds.relax.isolate import UNKNOWN
from bounds.relax.lines import box_values, pairs
from bounds.relax.segments import Partition
from bounds.relax.tables import SlopeTable, search

ROUNDS = 12
SAMPLES = 8  # of stretches of unknown curvature
SETTLED = 2.0**-44  # a bridge that gains less than this, relatively, is not moved


def envelope_slopes(
    e: Expr, part: Partition, table: SlopeTable, lo: Any, hi: Any, at: Any
) -> tuple[Any, Any]:
    """Slopes of the convex and of the concave envelope over ``[lo, hi]`` (finite, 1-D) at ``at``."""
    p = pairs(part, lo, hi)
    count = np.bincount(p.element, minlength=len(lo)) + np.bincount(p.box_element, minlength=len(lo))
    simple = count == 1
    below, above = np.zeros(len(lo)), np.zeros(len(lo))
    flo, fhi = evaluate_expression(e, lo), evaluate_expression(e, hi)
    one = simple[p.element] & (part.kind[p.segment] != UNKNOWN)
    chosen = slice(None) if one.all() else np.flatnonzero(one)
    i = p.element[chosen]
    if len(i):
        kind, number = part.kind[p.segment[chosen]], part.piece[p.segment[chosen]]
        chord = (fhi[i] - flo[i]) / (hi[i] - lo[i])
        tangent = _slopes(part, number, at[i])
        below[i], above[i] = np.where(kind > 0, tangent, chord), np.where(kind < 0, tangent, chord)
    rest = np.ones(len(lo), dtype=bool)
    rest[i] = False
    flat = np.flatnonzero(rest & (hi <= lo))
    if len(flat):
        d = evaluate_expression(derivative(e), at[flat])
        below[flat] = above[flat] = d
    mixed = np.flatnonzero(rest & (hi > lo))
    if len(mixed):
        work = _Bridges(e, part, table, lo[mixed], hi[mixed], at[mixed])
        below[mixed], above[mixed] = work.slope(1), -work.slope(-1)
    return below, above


def _slopes(part: Partition, number: Any, z: Any) -> Any:
    """The derivative at ``z``, of the piece it lies on."""
    if len(part.exprs) == 1 and part.exprs[0] is not None:
        return evaluate_expression(derivative(part.exprs[0]), z)
    out = np.zeros(len(z))
    for n, e in enumerate(part.exprs):
        here = np.flatnonzero(number == n)
        if e is not None and len(here):
            out[here] = evaluate_expression(derivative(e), z[here])
    return out


@dataclass
class _Candidates:
    """Points at which f(z) - k z may be least, by interval: ends, boxes, samples, one on each convex stretch.

    Attributes:
        element: the interval of each point, ascending.
        z, f: the points and values; those of convex stretches are set for each slope.
        pair: the (interval, segment) pair of a convex stretch's point, -1 for the others.
    """

    element: Any
    z: Any
    f: Any
    pair: Any

    def of(self, active: Any) -> _Candidates:
        """Of some of the intervals (a mask), renumbered."""
        number = np.cumsum(active) - 1
        keep = active[self.element]
        return _Candidates(number[self.element[keep]], self.z[keep], self.f[keep], self.pair[keep])


class _Bridges:
    def __init__(self, e: Expr, part: Partition, table: SlopeTable, lo: Any, hi: Any, at: Any) -> None:
        self.e, self.part, self.table = e, part, table
        self.lo, self.hi, self.at = lo, hi, at
        self.f_lo, self.f_hi, self.f_at = (evaluate_expression(e, z) for z in (lo, hi, at))
        self.pairs = pairs(part, lo, hi)
        self.kind = part.kind[self.pairs.segment]

    def slope(self, sign: int) -> Any:
        """Of the convex envelope of ``sign * f`` at the points."""
        out = np.zeros(len(self.lo))
        places = np.arange(len(self.lo))
        at, left, right = self.at, self.lo, self.hi
        f_left, f_right = sign * self.f_lo, sign * self.f_hi
        k, trial = self._tangents(sign)
        k = np.where(trial, k, (f_right - f_left) / (right - left))
        base, f_base = np.where(trial, at, left), np.where(trial, sign * self.f_at, f_left)
        c = self._candidates(sign)
        for _ in range(ROUNDS):
            z, f = self._lowest(c, k, sign)
            gain = (f_base - k * base) - (f - k * z)
            active = gain > SETTLED * (np.abs(f_base) + np.abs(k * base))
            out[places] = k
            if not active.any():
                break
            if not active.all():
                c = c.of(active)
                places, at, z, f, k = places[active], at[active], z[active], f[active], k[active]
                left, right, f_left, f_right = left[active], right[active], f_left[active], f_right[active]
            from_left = z <= at
            left, f_left = np.where(from_left, z, left), np.where(from_left, f, f_left)
            right, f_right = np.where(from_left, right, z), np.where(from_left, f_right, f)
            k = np.where(right > left, (f_right - f_left) / (right - left), k)
            base, f_base = left, f_left
            out[places] = k
        return out

    def _tangents(self, sign: int) -> tuple[Any, Any]:
        """The slope at the point, where it lies inside a convex stretch."""
        p = self.pairs
        at = self.at[p.element]
        chosen = np.flatnonzero((p.lo < at) & (at < p.hi) & (self.kind == sign))
        k, has = np.zeros(len(self.lo)), np.zeros(len(self.lo), dtype=bool)
        i = p.element[chosen]
        k[i] = sign * _slopes(self.part, self.part.piece[p.segment[chosen]], self.at[i])
        has[i] = np.isfinite(k[i])
        return k, has

    def _candidates(self, sign: int) -> _Candidates:
        p, part, every = self.pairs, self.part, np.arange(len(self.lo))
        at_box = part.box_lo[p.box] / 2 + part.box_hi[p.box] / 2
        at_box = np.minimum(np.maximum(at_box, self.lo[p.box_element]), self.hi[p.box_element])
        moving = np.flatnonzero(self.kind == sign)
        unsure = np.flatnonzero(self.kind == UNKNOWN)
        grid = (np.arange(SAMPLES) + 0.5) / SAMPLES
        samples = (p.lo[unsure, None] + (p.hi - p.lo)[unsure, None] * grid).ravel()
        element = [every, every, p.box_element, np.repeat(p.element[unsure], SAMPLES), p.element[moving]]
        z = [self.lo, self.hi, at_box, samples, np.zeros(len(moving))]
        f = [
            sign * self.f_lo,
            sign * self.f_hi,
            box_values(part, p, self.lo, self.hi, sign),
            sign * evaluate_expression(self.e, samples),
            np.zeros(len(moving)),
        ]
        pair = np.concatenate([np.full(sum(map(len, z)) - len(moving), -1), moving])
        joined = np.concatenate(element)
        order = np.argsort(joined, kind="stable")
        return _Candidates(joined[order], np.concatenate(z)[order], np.concatenate(f)[order], pair[order])

    def _lowest(self, c: _Candidates, k: Any, sign: int) -> tuple[Any, Any]:
        """Where f(z) - k z is least, and f there."""
        moving = np.flatnonzero(c.pair >= 0)
        if len(moving):
            c.z[moving], c.f[moving] = self._stationary(c.pair[moving], sign * k[c.element[moving]], sign)
        g = c.f - k[c.element] * c.z
        g = np.where(np.isnan(g), np.inf, g)
        starts = np.flatnonzero(np.concatenate([[True], c.element[1:] != c.element[:-1]]))
        low = np.minimum.reduceat(g, starts)
        hits = np.flatnonzero(g == low[c.element])
        best = np.empty(len(k), dtype=np.intp)
        best[c.element[hits[::-1]]] = hits[::-1]
        return c.z[best], c.f[best]

    def _stationary(self, pair: Any, goal: Any, sign: int) -> tuple[Any, Any]:
        """On convex stretches: the points of given slopes, and ``sign * f`` there."""
        p = self.pairs
        a, b, segment = p.lo[pair], p.hi[pair], p.segment[pair]
        t = self.table.guess(segment, goal, a, b)
        f = np.empty(len(t))
        lost = self.table.lost(segment, a, b)
        for number, e in enumerate(self.part.exprs):
            if e is None:
                continue
            here = self.part.piece[segment] == number
            i = np.flatnonzero(here & lost)
            if len(i):
                t[i] = search(e, goal[i], a[i], b[i])
            if here.any():
                f[here] = sign * evaluate_expression(e, t[here])
        return t, f
