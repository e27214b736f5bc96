"""How small can ``f(z) - k z`` become on an interval? Rigorously, for many intervals and slopes at once.

The interval is cut into cells. On a cell [a, b] of width w, with g = f - k z, and d and c bounds of g's
slope and curvature from :mod:`verifier.check.jets`, g lies above each of

1. its range by interval arithmetic;
2. ``g(a) + d.lo (z - a)`` and ``g(b) - d.hi (b - z)``;
3. with ``c = min(c.lo, 0)`` the tangents, with slopes ``g'(a) + c w / 2`` and ``g'(b) - c w / 2``, of the
   convex function ``g - c/2 (z - a)(z - b)``, which lies below g and meets it at both ends;
4. ``min(g(a), g(b)) - max(c.hi, 0) w^2 / 8``, for ``g - c.hi/2 (z - a)(z - b)`` is concave.

Of 2 and 3 the steeper line at a and the flatter one at b are taken; where they meet is the bound.
A cell whose bound is nearly a value that g attains is finished, others are split, near where g seems
to be least. What ends the splitting does not matter for soundness: every cell has a bound at any time.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from fractions import Fraction
from typing import Any

import numpy as np

from verifier.check.enclosure import Interval, Reals
from verifier.check.functions import STAIRS, Function, call
from verifier.check.jets import Jet, Jets
from verifier.check.network import Array

_INF = np.inf
_CHUNK = 1 << 14  # elements at once
_START = 2  # cells of an element
_ROUNDS = 56
_MOST_CELLS = 96  # open cells of an element; where there are more, it is not refined further
_NEAR = 2.0**-46  # relative; a bound this close to an attained value is not improved
_JUMP = 2.0**-30  # relative; values that are known no better lie at a jump
_NARROW = 2.0**-50  # of an interval; cells are not cut finer
_EXACT_ROUNDS = 8


def both(a: Array) -> Interval:
    """The interval of one number."""
    return a, a


@dataclass(frozen=True, slots=True)
class End:
    """``g`` and its slope at cell ends."""

    value: Interval
    slope: Interval


@dataclass(frozen=True, slots=True)
class Cells:
    """Arrays over cells: which element, both ends, and the slope and curvature of f in between."""

    element: Array
    low: Array
    high: Array
    left: End
    right: End
    range: Interval
    slope: Interval
    curve: Interval


def _pick(value: Any, where: Array) -> Any:
    """The same structure of arrays at ``where``."""
    if isinstance(value, tuple):
        return tuple(_pick(v, where) for v in value)
    if isinstance(value, End | Cells):
        return replace(value, **{f.name: _pick(getattr(value, f.name), where) for f in fields(value)})
    return value[where]


def _join(*parts: Any) -> Any:
    """The same structure of arrays, concatenated."""
    first = parts[0]
    if isinstance(first, tuple):
        return tuple(_join(*p) for p in zip(*parts, strict=True))
    if isinstance(first, End | Cells):
        return replace(first, **{f.name: _join(*(getattr(p, f.name) for p in parts)) for f in fields(first)})
    return np.concatenate(parts)


class Search:
    """Lower bounds of ``f(z) - k z`` for arrays of intervals and slopes, all of one function."""

    def __init__(self, function: Function, low: Array, high: Array, slope: Array, *, exact: bool) -> None:
        self.low, self.high, self.k = low, high, slope
        self.exact, self.reals = exact, Reals(exact=exact)
        self.jets = Jets(function, exact=exact)
        stairs = any(step.fn in STAIRS for step in function)
        self.relaxed = Jets(function, exact=exact, relaxed=True) if stairs else None

    # -------------------------------------------------------------- the search
    def run(self) -> Array:
        """The bounds."""
        with np.errstate(all="ignore"):
            return self._run()

    def _run(self) -> Array:
        count, dtype = len(self.low), self.low.dtype
        least = np.full(count, _INF, dtype)  # of finished cells
        attained = np.full(count, _INF, dtype)
        cells = self._start()
        for k in range(_EXACT_ROUNDS if self.exact else _ROUNDS):
            bound = self.bound(cells)
            for end in (cells.left, cells.right):
                np.minimum.at(attained, cells.element, end.value[1])
            gap = attained[cells.element] - bound
            open_ = (gap > self._negligible(cells)) & self._splittable(cells)
            if not self.exact:
                whole = (self.high - self.low)[cells.element]
                open_ &= cells.high - cells.low > _NARROW * whole
            number = np.bincount(cells.element[open_], minlength=count)
            open_ &= (number <= _MOST_CELLS)[cells.element]
            np.minimum.at(least, cells.element[~open_], bound[~open_])
            if not open_.any():
                return least
            cells = self._split(_pick(cells, open_), k)
        np.minimum.at(least, cells.element, self.bound(cells))
        return least

    def _start(self) -> Cells:
        count = len(self.low)
        if self.exact:
            ends = [self.low, self.high]
        else:
            parts = np.linspace(0.0, 1.0, _START + 1)[1:-1]
            inner = [self.low * (1 - t) + self.high * t for t in parts]
            between = [np.clip(np.where(np.isnan(v), 0.0, v), self.low, self.high) for v in inner]
            ends = [self.low, *between, self.high]
        element = np.arange(count)
        known = [self._end(element, z) for z in ends]
        cells = [
            self._cells(element, (ends[i], ends[i + 1]), (known[i], known[i + 1]))
            for i in range(len(ends) - 1)
        ]
        return _join(*cells)

    def _splittable(self, cells: Cells) -> Array:
        known = (np.abs(cells.low) < _INF) & (np.abs(cells.high) < _INF)
        return (known & (cells.low < cells.high)).astype(bool)

    def _negligible(self, cells: Cells) -> Array:
        """What cannot be gained, or is not worth it; nothing at all in exact arithmetic."""
        if self.exact:
            return np.zeros(len(cells.element))
        noise = [end.value[1] - end.value[0] for end in (cells.left, cells.right)]
        size = np.abs(cells.left.value[0]) + np.abs(cells.right.value[0])
        size = size + np.abs(self.k[cells.element]) * (np.abs(cells.low) + np.abs(cells.high))
        wide = np.maximum(*noise)
        return 2 * np.where(wide < _JUMP * size, wide, 0) + _NEAR * size

    # -------------------------------------------------------------- cells
    def _less(self, jet: Jet, element: Array, z: Interval) -> Interval:
        """Values of ``f - k z`` from those of f."""
        k = self.k[element]
        off = self.reals.mul((k, k), z)
        flat = k == 0  # then nothing is rounded: the function's own limits hold exactly
        return self.reals.sub(jet.v, (np.where(flat, 0, off[0]), np.where(flat, 0, off[1])))

    def _full(self, x: Interval, like: Array) -> Interval:
        lo, hi = (np.array(np.broadcast_to(v, like.shape), like.dtype) for v in x)
        return lo, hi

    def _end(self, element: Array, z: Array) -> End:
        value, slope = self._point(self.jets, element, z)
        return End(value, slope)

    def _point(self, jets: Jets, element: Array, z: Array) -> tuple[Interval, Interval]:
        jet = jets.at(z)
        k = self.k[element]
        slope = self.reals.sub(jet.d, (k, k))
        return self._full(self._less(jet, element, (z, z)), z), self._full(slope, z)

    def _cells(self, element: Array, ends: Interval, known: tuple[End, End]) -> Cells:
        jet = self.jets.over(*ends)
        assert jet.c is not None
        k = self.k[element]
        low = ends[0]
        return Cells(
            element,
            *ends,
            *known,
            self._full(self._less(jet, element, ends), low),
            self._full(self.reals.sub(jet.d, (k, k)), low),
            self._full(jet.c, low),
        )

    def _split(self, cells: Cells, k: int) -> Cells:
        """Two cells for one; where the curvature has one sign, both inherit what is known."""
        z = self._where(cells, k)
        middle = self._end(cells.element, z)
        settled = (cells.curve[0] >= 0).astype(bool)
        halves: list[Cells] = []
        for side in (
            replace(cells, high=z, right=middle),
            replace(cells, low=z, left=middle),
        ):
            inherited = _pick(side, settled)
            fresh = _pick(side, ~settled)
            halves.append(inherited)
            halves.append(self._cells(fresh.element, (fresh.low, fresh.high), (fresh.left, fresh.right)))
        return _join(*halves)

    def _where(self, cells: Cells, k: int) -> Array:
        """Where to split: any inner point will do."""
        a, b = cells.low, cells.high
        p, q = cells.left.slope[1], cells.right.slope[0]
        # jumps are often halfway, where values are not known well
        middle = a + (b - a) * (Fraction(1, 2) if self.exact else 0.487)
        if self.exact:
            return self._where_exactly(cells, k, middle)
        with np.errstate(all="ignore"):
            w, fa, fb = b - a, cells.left.value[0], cells.right.value[0]
            if k % 3 == 0:  # the least point of the cubic through both ends
                e = p + q - 3 * (fb - fa) / w
                root = np.sqrt(e * e - p * q)
                z = b - w * (q + root - e) / (q - p + 2 * root)
            elif k % 3 == 1:  # where the tangents meet
                z = a + (fb - fa - q * w) / (p - q)
            else:
                z = middle
            edge = w * 2.0**-12
            z = np.clip(np.where(np.isfinite(z), z, middle), a + edge, b - edge)
            rough = np.isinf(cells.curve[0]) & np.isinf(cells.curve[1])  # a jump, or kinks of both kinds
            z = np.where(rough, middle, z)
            return np.where((z > a) & (z < b), z, np.clip(middle, a, b))

    def _where_exactly(self, cells: Cells, k: int, middle: Array) -> Array:
        """Where the slope's secant vanishes (exact for parabolas), where tangents meet (exact for kinks)."""

        def choose(a: Any, b: Any, m: Any, f: Any, h: Any, p: Any, q: Any) -> Any:
            if not abs(p) < _INF or not abs(q) < _INF or p == q or k > 1:
                return m
            z = a - p * (b - a) / (q - p) if k == 0 else a + (h - f - q * (b - a)) / (p - q)
            return z if a < z < b else m

        found = np.frompyfunc(choose, 7, 1)(
            cells.low, cells.high, middle,
            cells.left.value[0], cells.right.value[0], cells.left.slope[0], cells.right.slope[1],
        )  # fmt: skip
        return np.asarray(found, object)

    # -------------------------------------------------------------- bounds
    def bound(self, cells: Cells) -> Array:
        """The best of the module's bounds on every cell."""
        with np.errstate(all="ignore"):
            best = self._bound(cells, cells.left, cells.right)
            if self.relaxed is None:
                return best
            ends = [End(*self._point(self.relaxed, cells.element, z)) for z in (cells.low, cells.high)]
            jet = self.relaxed.over(cells.low, cells.high)
            assert jet.c is not None
            k = self.k[cells.element]
            other = replace(
                cells,
                range=self._full(self._less(jet, cells.element, (cells.low, cells.high)), cells.low),
                slope=self._full(self.reals.sub(jet.d, (k, k)), cells.low),
                curve=self._full(jet.c, cells.low),
            )
            apart = Jet(self.jets.apart(cells.low, cells.high), jet.d, None)
            alone = self._full(self._less(apart, cells.element, (cells.low, cells.high)), cells.low)[0]
            # a NaN is nothing that is known
            return np.fmax(np.maximum(best, self._bound(other, *ends)), alone)

    def _bound(self, cells: Cells, left: End, right: End) -> Array:
        r = self.reals
        finite = self._splittable(cells)
        zero = cells.low * 0 if self.exact else np.zeros(len(cells.low))
        # a cell without end or width has no width to speak of; its range is all that is used
        a, b = np.where(finite, cells.low, zero), np.where(finite, cells.high, zero)
        w = r.sub((b, b), (a, a))
        bend = r.scale(r.mul(both(np.minimum(cells.curve[0], 0)), w), 0.5)[0]
        steep = np.maximum(cells.slope[0], r.add(left.slope, (bend, bend))[0])
        flat = np.minimum(cells.slope[1], r.sub(right.slope, (bend, bend))[1])
        kite = self._kite(left.value[0], right.value[0], steep, flat, w)
        sag = r.scale(r.mul(both(np.maximum(cells.curve[1], 0)), r.mul(w, w)), 0.125)[1]
        ends = np.minimum(left.value[0], right.value[0])
        chord = r.sub((ends, ends), (sag, sag))[0]
        best = np.maximum(np.maximum(kite, chord), cells.range[0])
        point = (cells.low == cells.high).astype(bool)
        alone = np.where(point, np.maximum(left.value[0], cells.range[0]), cells.range[0])
        return np.where(finite, best, alone)

    def _kite(self, fa: Array, fb: Array, p: Array, q: Array, w: Interval) -> Array:
        """Least value of ``max(fa + p t, fb - q (w - t))`` for 0 <= t <= w.

        A weighted mean of both lines with weights s and 1 - s is a line below the maximum, with values
        ``s fa + (1 - s)(fb - q w)`` and ``s (fa + p w) + (1 - s) fb`` at its ends, of which the smaller is
        a bound, whatever s in [0, 1] is; ``s = q / (q - p)`` makes the line flat.
        """
        r = self.reals
        bounded = (np.abs(p) < _INF) & (np.abs(q) < _INF)
        p_, q_ = np.where(bounded, p, fa * 0), np.where(bounded, q, fa * 0)
        cross = (p_ < 0) & (q_ > 0)
        gap = np.where(cross, q_ - p_, fa * 0 + 1)
        s = np.where(cross, q_ / gap, np.where(p_ >= 0, fa * 0 + 1, fa * 0))
        s = np.minimum(np.maximum(s, 0), 1)
        rest = self._full(r.sub(r.number(1.0), (s, s)), s)
        first = r.mul((s, s), (fa, fa)), r.mul(rest, (fb, fb))
        at_a = r.add(first[0], r.mul(rest, r.sub((fb, fb), r.mul((q_, q_), w))))[0]
        at_b = r.add(r.mul((s, s), r.add((fa, fa), r.mul((p_, p_), w))), first[1])[0]
        return np.where(bounded, np.minimum(at_a, at_b), -_INF)


def least(function: Function, low: Array, high: Array, slope: Array, *, exact: bool) -> Array:
    """A lower bound of ``f(z) - k z`` for z in [low, high], elementwise; -inf where nothing is known.

    Args:
        function: f.
        low, high, slope: arrays of one shape, float64, or fractions where ``exact``. Slopes are finite.
    """
    shape = low.shape
    low, high, slope = (np.asarray(v).reshape(-1) for v in (low, high, slope))
    found = [
        Search(function, low[i : i + _CHUNK], high[i : i + _CHUNK], slope[i : i + _CHUNK], exact=exact).run()
        for i in range(0, len(low), _CHUNK)
    ]
    return (np.concatenate(found) if found else low).reshape(shape)


def extent(function: Function, low: Array, high: Array, *, exact: bool) -> Interval:
    """The function's range over [low, high], outwards."""
    flat = low * 0 if exact else np.zeros(low.shape)
    return (
        least(function, low, high, flat, exact=exact),
        -least(call("neg", function), low, high, flat, exact=exact),
    )
