"""Lines below and above rational functions in exact arithmetic, one interval after another.

Used where a property holds with equality. Piecewise affine functions and staircases are exact; on a curved
stretch the tangent bound is exact when the point of slope k is rational (as for quadratics), and otherwise
off by far less than any float.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from fractions import Fraction
from typing import Any

import numpy as np

from bounds.evaluate_scalar import evaluate_expression
from bounds.expression import Expr, is_rational
from bounds.relax.derivative import derivative, slope_and_offset
from bounds.relax.enclose import enclose
from bounds.relax.isolate import FLAT, UNKNOWN
from bounds.relax.segments import Partition
from bounds.relax.tables import search

Number = Any  # Fraction, or an infinite float
SIMPLE = 64  # denominators of places where extremes are looked for


def value_at(e: Expr, z: Fraction) -> Number:
    """``e(z)``; NaN where it is undefined."""
    try:
        return evaluate_expression(e, np.array([z], dtype=object))[0]
    except ZeroDivisionError:
        return math.nan


def least(e: Expr, part: Partition, lo: Fraction, hi: Fraction, k: Fraction, sign: int) -> Number:
    """A lower bound of ``sign * e(z) - k z`` over ``[lo, hi]``; -inf where nothing is known."""
    out: list[Number] = [_at(e, lo, k, sign), _at(e, hi, k, sign)]
    first, last = bisect_left(part.box_hi, _down(lo)), bisect_right(part.box_lo, _up(hi))
    out += [_at_box(e, part, j, lo, hi, k, sign) for j in range(first, last)]
    for i in range(first, last + 1):
        a, b = max(lo, _end(part, i, left=True)), min(hi, _end(part, i, left=False))
        if a < b:
            out.append(_on_segment(e, part, i, a, b, k, sign))
    return -math.inf if any(v != v for v in out) else min(out)


def _at(e: Expr, z: Fraction, k: Fraction, sign: int) -> Number:
    return sign * value_at(e, z) - k * z


def _down(z: Fraction) -> float:
    near = float(z)
    return near if Fraction(near) <= z else math.nextafter(near, -math.inf)


def _up(z: Fraction) -> float:
    return -_down(-z)


def _end(part: Partition, i: int, *, left: bool) -> Number:
    """An end of segment i: the exact place of the box next to it if the segment is affine, else a float."""
    j = i - 1 if left else i
    if 0 <= j < len(part.boxes) and part.exact[j] is not None and part.segments[i].kind == FLAT:
        return part.exact[j]
    end = part.segments[i].lo if left else part.segments[i].hi
    return end if math.isinf(end) else Fraction(end)


def _at_box(e: Expr, part: Partition, j: int, lo: Fraction, hi: Fraction, k: Fraction, sign: int) -> Number:
    box, at = part.boxes[j], part.exact[j]
    sides = part.segments[j], part.segments[j + 1]
    smooth = all(s.kind == FLAT and s.expr is not None for s in sides)
    if at is None and box.lo == box.hi:
        at = Fraction(box.lo)
    if at is not None and (smooth or box.lo == box.hi):
        if not lo <= at <= hi:
            return math.inf
        out = [_at(e, at, k, sign)]
        # limits from the sides that belong to the interval
        for inside, side in ((lo < at, sides[0]), (at < hi, sides[1])):
            if inside:
                out.append(_at(side.expr, at, k, sign) if side.expr is not None else math.nan)
        return math.nan if any(v != v for v in out) else min(out)
    reached = [box.value]
    if lo < box.lo:
        reached.append(box.before)
    if hi > box.hi:
        reached.append(box.after)
    below = min(v[0] for v in reached) if sign > 0 else -max(v[1] for v in reached)
    if not math.isfinite(below):
        return math.nan
    return Fraction(below) - max(k * Fraction(box.lo), k * Fraction(box.hi))


def _on_segment(e: Expr, part: Partition, i: int, a: Number, b: Number, k: Fraction, sign: int) -> Number:
    segment = part.segments[i]
    if segment.kind == UNKNOWN or segment.expr is None:
        below, above = enclose(e, np.array([_down(a)]), np.array([_up(b)]))
        value = float(below[0]) if sign > 0 else -float(above[0])
        return Fraction(value) - max(k * a, k * b) if math.isfinite(value) else math.nan
    if segment.kind != sign:
        return math.inf  # concave or affine: the ends tell
    smooth = segment.expr
    first = derivative(smooth)
    if not is_rational(first):
        return math.nan
    best: Number = -math.inf
    for t in (a, b, *_stationary(smooth, sign * k, a, b)):
        slope = sign * value_at(first, t) - k
        best = max(best, _at(smooth, t, k, sign) + min(Fraction(0), slope * (a - t), slope * (b - t)))
    return best


def _stationary(e: Expr, k: Fraction, a: Fraction, b: Fraction) -> list[Fraction]:
    """Rational points in [a, b] near where the slope is k; the very point when the slope is affine."""
    first = derivative(e)
    affine = slope_and_offset(first)
    if affine is not None and affine[0] != 0:
        return [min(max((k - affine[1]) / affine[0], a), b)]
    lo, hi = np.array([float(a)]), np.array([float(b)])
    with np.errstate(all="ignore"):
        near = float(search(e, np.array([float(k)]), lo, hi)[0])
    if not math.isfinite(near):
        return []
    t = Fraction(near)
    bend = value_at(derivative(first), t)
    if bend == bend and bend != 0:  # one Newton step squares the error
        t = _shortened(t - (value_at(first, t) - k) / bend)
    simple = t.limit_denominator(SIMPLE)  # where a tie is likely
    return [min(max(v, a), b) for v in (t, simple)]


def _shortened(t: Fraction) -> Fraction:
    """``t`` to about a hundred and twenty bits."""
    bits = 120 - t.numerator.bit_length() + t.denominator.bit_length()
    scale = Fraction(2) ** bits
    return Fraction(round(t * scale)) / scale
