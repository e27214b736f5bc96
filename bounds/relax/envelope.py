"""Slopes of the convex envelope of a scalar function at a point.

The line through the envelope at a point has the largest value there of all lines below the function. Where the
function is convex over the whole interval it is the tangent, where concave the chord. In between, the tangent at
the point is tried, and otherwise a bridge over the point is shrunk: for the slope of the current bridge the lowest
point of f(z) - k z becomes the bridge's new end on its side, until there is none lower. For a tangent from an end to a
convex stretch that is Newton's method.

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
from bounds.relax.lines import Pairs, box_values, pairs
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
    if len(part.exprs) == 1:
        return evaluate_expression(derivative(part.exprs[0]), z)
    out = np.zeros(len(z))
    for n, e in enumerate(part.exprs):
        here = np.flatnonzero(number == n)
        if e is not None and len(here):
            out[here] = evaluate_expression(derivative(e), z[here])
    return out


@dataclass
class _Candidates:
    """Points at which f(z) - k z may be least: ends, boxes, and one on each convex stretch, by interval."""

    starts: Any  # of each interval's run
    element: Any
    z: Any
    f: Any
    moving: Any  # indices of the convex stretches' points
    pair: Any  # their pairs


class _Bridges:
    def __init__(self, e: Expr, part: Partition, table: SlopeTable, lo: Any, hi: Any, at: Any) -> None:
        self.e, self.part, self.table = e, part, table
        self.lo, self.hi, self.at = lo, hi, at
        self.f_lo, self.f_hi, self.f_at = (evaluate_expression(e, z) for z in (lo, hi, at))

    def slope(self, sign: int) -> Any:
        """Of the convex envelope of ``sign * f`` at the points."""
        n = len(self.lo)
        out = np.zeros(n)
        active = np.arange(n)
        left, right, f_left, f_right = self.lo, self.hi, sign * self.f_lo, sign * self.f_hi
        k = (f_right - f_left) / (right - left)
        p = pairs(self.part, self.lo, self.hi)
        tangent, has = self._tangents(p, sign)
        k = np.where(has, tangent, k)
        trial = has
        for _ in range(ROUNDS):
            c = self._candidates(p, active, sign)
            z, f = self._lowest(c, p, active, k, sign)
            base = np.where(trial, sign * self.f_at[active], f_left)
            at_base = np.where(trial, self.at[active], left)
            gain = (base - k * at_base) - (f - k * z)
            settled = ~(gain > SETTLED * (np.abs(base) + np.abs(k * at_base)))
            out[active] = k
            go = ~settled
            if not go.any():
                break
            active, z, f = active[go], z[go], f[go]
            left, right, f_left, f_right = left[go], right[go], f_left[go], f_right[go]
            to_left = z <= self.at[active]
            left, f_left = np.where(to_left, z, left), np.where(to_left, f, f_left)
            right, f_right = np.where(to_left, right, z), np.where(to_left, f_right, f)
            k = np.where(right > left, (f_right - f_left) / (right - left), k[go])
            trial = np.zeros(len(active), dtype=bool)
            out[active] = k
        return out

    def _tangents(self, p: Pairs, sign: int) -> tuple[Any, Any]:
        """The slope at the point where it lies inside a convex stretch."""
        n = len(self.lo)
        inside = (p.lo < self.at[p.element]) & (self.at[p.element] < p.hi)
        inside &= self.part.kind[p.segment] == sign
        chosen = np.flatnonzero(inside)
        k, has = np.zeros(n), np.zeros(n, dtype=bool)
        i = p.element[chosen]
        k[i] = sign * _slopes(self.part, self.part.piece[p.segment[chosen]], self.at[i])
        has[i] = np.isfinite(k[i])
        return k, has

    def _candidates(self, p: Pairs, active: Any, sign: int) -> _Candidates:
        """The runs of the active intervals: lower end, upper end, boxes, convex stretches, samples."""
        n = len(self.lo)
        place = np.full(n, -1)
        place[active] = np.arange(len(active))
        part = self.part
        boxes = np.flatnonzero(place[p.box_element] >= 0)
        kind = part.kind[p.segment]
        alive = place[p.element] >= 0
        moving = np.flatnonzero(alive & (kind == sign))
        unsure = np.flatnonzero(alive & (kind == UNKNOWN))
        least = box_values(part, p, self.lo, self.hi, sign)[boxes]
        middle = part.box_lo[p.box[boxes]] / 2 + part.box_hi[p.box[boxes]] / 2
        grid = (np.arange(SAMPLES) + 0.5) / SAMPLES
        samples = (p.lo[unsure, None] + (p.hi - p.lo)[unsure, None] * grid).ravel()
        every = np.arange(len(active))
        element = np.concatenate(
            [every, every, place[p.box_element[boxes]], place[p.element[moving]],
             np.repeat(place[p.element[unsure]], SAMPLES)]
        )  # fmt: skip
        lo, hi = self.lo[active], self.hi[active]
        z = np.concatenate([lo, hi, np.clip(middle, lo[element[2 * len(every) :][: len(boxes)]], hi[element[2 * len(every) :][: len(boxes)]]), np.zeros(len(moving)), samples])
        f = np.concatenate([
            sign * self.f_lo[active], sign * self.f_hi[active], least, np.zeros(len(moving)),
            sign * evaluate_expression(self.e, samples),
        ])  # fmt: skip
        order = np.argsort(element, kind="stable")
        back = np.empty(len(order), dtype=np.intp)
        back[order] = np.arange(len(order))
        element = element[order]
        starts = np.flatnonzero(np.concatenate([[True], element[1:] != element[:-1]]))
        first = 2 * len(every) + len(boxes)
        return _Candidates(starts, element, z[order], f[order], back[first : first + len(moving)], moving)

    def _lowest(self, c: _Candidates, p: Pairs, active: Any, k: Any, sign: int) -> tuple[Any, Any]:
        """Where f(z) - k z is least, and f there."""
        part = self.part
        if len(c.moving):
            a, b, segment = p.lo[c.pair], p.hi[c.pair], p.segment[c.pair]
            goal = sign * k[c.element[c.moving]]
            t = self.table.guess(segment, goal, a, b)
            for n, e in enumerate(part.exprs):
                here = slice(None) if len(part.exprs) == 1 else np.flatnonzero(part.piece[segment] == n)
                if e is None or not len(t[here]):
                    continue
                lost = ~self.table.known[segment[here]]
                if lost.any():
                    found = t[here]
                    found[lost] = search(e, goal[here][lost], a[here][lost], b[here][lost])
                    t[here] = found
                c.f[c.moving[here]] = sign * evaluate_expression(e, t[here])
            c.z[c.moving] = t
        g = c.f - k[c.element] * c.z
        g = np.where(np.isnan(g), np.inf, g)
        low = np.minimum.reduceat(g, c.starts)
        hits = np.flatnonzero(g == low[c.element])
        best = np.empty(len(active), dtype=np.intp)
        best[c.element[hits[::-1]]] = hits[::-1]
        return c.z[best], c.f[best]
