"""Where a curved stretch has a given slope: tables of the inverse of f', refined by Newton steps.

On a convex or concave segment f' is monotone, so the point t(k) with f'(t) = k is a function of the slope. It
is tabulated in a coordinate in which it is smooth: with q in (0, 1) the position of asinh(k) between the
slopes of the two ends, the coordinate is log(q / (1 - q)), which straightens exponential and algebraic tails
and the square root at an inflection alike. Nothing here need be rigorous: any t gives a sound tangent.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from bounds.evaluate_scalar import evaluate_expression
from bounds.expression import Expr
from bounds.relax.derivative import derivative
from bounds.relax.segments import Partition, Segment

NODES = 1024
NODES_MANY = 128  # per segment, when there are many
MANY = 32
TOO_MANY = 512  # segments: then there are no tables, and points are searched for
REACH = 28.0  # of the coordinate: positions from e^-28 to 1 - e^-28
STEEPEST = 2.0**100
FAR = 2.0**7  # where unbounded segments end, for the table
HALVINGS = 70
TRUSTED = 2.0**-8
STEPS = 40
SETTLED = 2.0**-46


class SlopeTable:
    """Inverse slopes of every curved segment of a partition."""

    def __init__(self, part: Partition) -> None:
        n = len(part.segments)
        curved = [i for i, s in enumerate(part.segments) if s.kind in (1, -1) and s.lo < s.hi]
        self.first, self.last = np.full(n, np.inf), np.full(n, -np.inf)
        self.nodes = NODES if len(curved) <= MANY else NODES_MANY
        self.known = np.zeros(n, dtype=bool)
        self.low, self.scale = np.zeros(n), np.ones(n)
        self.row = np.zeros(n, dtype=np.intp)
        self.step = 2 * REACH / (self.nodes - 1)
        rows: list[Any] = []
        for i in curved if len(curved) <= TOO_MANY else ():
            self._add(part.segments[i], i, rows)
        self.coefficients = np.concatenate(rows) if rows else np.zeros((self.nodes, 4))

    def _add(self, segment: Segment, i: int, rows: list[Any]) -> None:
        assert segment.expr is not None
        slope = derivative(segment.expr)
        ends = _usable(slope, segment)
        if ends is None:
            return
        a, b = ends
        with np.errstate(all="ignore"):
            p, q = np.arcsinh(np.clip(evaluate_expression(slope, np.array([a, b])), -STEEPEST, STEEPEST))
        if not (np.isfinite(p) and np.isfinite(q) and p != q):
            return
        c = np.linspace(-REACH, REACH, self.nodes)
        goal = np.sinh(p + (q - p) / (1 + np.exp(-c)))
        t = _solve(slope, goal, np.full(len(c), a), np.full(len(c), b), rising=bool(q > p))
        self.known[i], self.low[i], self.scale[i] = True, p, 1 / (q - p)
        self.first[i], self.last[i] = a, b
        self.row[i] = sum(map(len, rows))
        rows.append(_cubics(t))

    def guess(self, segment: Any, slope: Any, a: Any, b: Any) -> Any:
        """About where each segment has each slope, within [a, b] (arrays of one shape)."""
        one = self.low[:1] if len(self.low) == 1 else None
        low = self.low[0] if one is not None else self.low[segment]
        scale = self.scale[0] if one is not None else self.scale[segment]
        q = (np.arcsinh(slope) - low) * scale
        tiny = np.exp(-REACH)
        q = np.fmin(np.fmax(q, tiny), 1 - tiny)  # a slope that is no number gets some point
        x = (np.log(q / (1 - q)) + REACH) / self.step
        j = np.minimum(x.astype(np.intp), self.nodes - 2)
        x -= j
        if one is None:
            j += self.row[segment]
        c = self.coefficients[j]
        t = ((c[:, 3] * x + c[:, 2]) * x + c[:, 1]) * x + c[:, 0]
        return np.minimum(np.maximum(t, a), b)

    def lost(self, segment: Any, a: Any, b: Any) -> Any:
        """Stretches [a, b] that the table does not cover."""
        return ~((self.first[segment] <= a) & (b <= self.last[segment]))


def _usable(slope: Expr, segment: Segment) -> tuple[float, float] | None:
    """Ends between which the slope is a number."""
    lo, hi = segment.lo, segment.hi
    size = FAR
    while size > 1 / FAR:
        a, b = max(lo, -size), min(hi, size)
        if not a < b:
            # a far segment: a stretch of it
            a, b = (lo, 2 * lo + 1) if np.isfinite(lo) else (2 * hi - 1, hi)
        for inset in (0.0, 2.0**-40, 2.0**-20):
            p, q = a + (b - a) * inset, b - (b - a) * inset
            with np.errstate(all="ignore"):
                ends = evaluate_expression(slope, np.array([p, q]))
            if not np.isnan(ends).any() and ends[0] != ends[1]:
                return p, q
        size /= 4
    return None


def _solve(slope: Expr, goal: Any, a: Any, b: Any, *, rising: bool) -> Any:
    with np.errstate(all="ignore"):
        for _ in range(HALVINGS):
            mid = a / 2 + b / 2
            above = evaluate_expression(slope, mid) > goal
            left = above if rising else ~above
            a, b = np.where(left, a, mid), np.where(left, mid, b)
    return a / 2 + b / 2


def _cubics(t: Any) -> Any:
    """Coefficients of monotone cubic pieces through equally spaced values (Fritsch and Carlson 1980)."""
    d = np.diff(t)
    total = d[1:] + d[:-1]
    inner = np.where(d[1:] * d[:-1] > 0, 2 * d[1:] * d[:-1] / np.where(total == 0, 1, total), 0.0)
    smooth = (t[2:] - t[:-2]) / 2
    limit = 3 * np.minimum(np.abs(d[1:]), np.abs(d[:-1]))
    m = np.where(np.abs(smooth) <= limit, smooth, inner)
    m = np.concatenate([[d[0]], m, [d[-1]]])
    p, q = m[:-1], m[1:]
    return np.stack([t[:-1], p, 3 * d - 2 * p - q, p + q - 2 * d], axis=1)


def polish(e: Expr, slope: Any, t: Any, a: Any, b: Any) -> Any:
    """One Newton step for ``e'(t) = slope`` from a table's value, kept small and within [a, b]."""
    first = derivative(e)
    move = (evaluate_expression(first, t) - slope) / evaluate_expression(derivative(first), t)
    new = np.minimum(np.maximum(t - move, a), b)
    # a large step means that f'' nearly vanishes, not that the table is far off
    return np.where(np.abs(move) <= TRUSTED * (np.abs(t) + (b - a)), new, t)


def search(e: Expr, slope: Any, a: Any, b: Any, start: Any = None) -> Any:
    """The same to full accuracy: Newton steps from ``start`` within a shrinking bracket."""
    first = derivative(e)
    second = derivative(first)
    rising = evaluate_expression(first, b) >= evaluate_expression(first, a)
    lo, hi, t = a, b, a / 2 + b / 2 if start is None else start
    for _ in range(STEPS):
        gap = evaluate_expression(first, t) - slope
        right = (gap > 0) == rising  # the point lies left of t
        hi, lo = np.where(right, t, hi), np.where(right, lo, t)
        new = t - gap / evaluate_expression(second, t)
        new = np.where(gap == 0, t, np.where((new > lo) & (new < hi), new, lo / 2 + hi / 2))
        settled = np.abs(new - t) <= SETTLED * np.abs(t)
        t = new
        if settled.all():
            break
    return np.minimum(np.maximum(np.where(np.isnan(t), a, t), a), b)
