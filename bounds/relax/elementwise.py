"""The relaxation of ``f(z)`` for any scalar function: two lines of free slope, intercepts found for them.

Slopes are parameters (float32 numbers, so that every arithmetic and a certificate hold them exactly);
for a slope k the lower intercept is ``min over [l, u] of f(z) - k z`` and its derivative in k is ``-z*``
(envelope theorem), so the best lower line at a point z is the tangent of the convex envelope there.
The engine works in float64 NumPy arrays whichever backend asks; what it returns is rounded outwards.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np

from bounds.graph import Array
from bounds.kernels.base import Kernels
from bounds.relax.base import Choice, Form, Intervals, Pushed, outward_form, patched, rows_of
from bounds.relax.scalar import ScalarFunction

# an element is worth bounding backwards if its function leaves its chord by this share of its values
_BENT = 2.0**-20
# operands beyond this are bounded by constants
_WIDE = 2.0**40
# steps between the supporting lines kept per element; blocks of many elements make do with few
_MANY, _FEW, _SMALL = 16, 2, 20_000


@dataclass(frozen=True, slots=True)
class _Side:
    """Supporting lines of one side, evenly spread in slope: ``first + i rise``, i = 0 .. steps (``D n``).

    ``shift``, ``lift``: ``D n steps``, intercept of line i and the change to line i + 1; ``start``: ``D n``,
    the place in [0, 1] of the line that lies closest in the middle.
    """

    first: Any
    rise: Any
    shift: Any
    lift: Any
    start: Any


_SIDE = ("first", "rise", "shift", "lift", "start")


@dataclass(slots=True)
class ScalarRelaxation:
    """``kl z + bl <= f(z) <= ku z + bu`` on ``[lo, hi]`` (``D n``).

    A choice is ``(place of the lower line, of the upper one, kl, ku, bl, bu)``.
    """

    kernels: Kernels
    function: ScalarFunction
    lo: Any
    hi: Any
    lines: Choice
    parameters: int = 2
    spreads: tuple[Any, ...] = (None,)
    refined: tuple[Any, ...] = field(default=(None,))
    steps: int = 0
    sides: tuple[_Side, ...] = ()

    @property
    def intervals(self) -> Intervals:
        return ((self.lo, self.hi),)

    def narrowed(self, boxes: int, at: tuple[Array, Array], intervals: Intervals) -> ScalarRelaxation:
        (low, high), k = intervals[0], self.kernels
        new = relax_scalar(k, self.function, low[None], high[None], None)
        new.prepare(self.steps)
        lo, hi = (patched(k, getattr(self, f), boxes, at, getattr(new, f)) for f in ("lo", "hi"))
        lines = tuple(patched(k, h, boxes, at, n) for h, n in zip(self.lines, new.lines, strict=True))
        sides = tuple(
            _Side(*(patched(k, getattr(h, f), boxes, at, getattr(n, f)) for f in _SIDE))
            for h, n in zip(self.sides, new.sides, strict=True)
        )
        return ScalarRelaxation(k, self.function, lo, hi, lines, steps=self.steps, sides=sides)

    def restricted(self, index: Any) -> ScalarRelaxation:
        k = self.kernels
        lo, hi, *lines = (k.columns(v, index) for v in (self.lo, self.hi, *self.lines))
        sides = tuple(_Side(*(k.columns(getattr(s, f), index) for f in _SIDE)) for s in self.sides)
        return ScalarRelaxation(k, self.function, lo, hi, tuple(lines), steps=self.steps, sides=sides)

    def explicit(self, dom: Any, choice: Choice) -> Choice:
        del dom
        return choice

    def slopes(self, choice: Choice, operand: int) -> tuple[Any, Any]:
        del operand
        return choice[2], choice[3]

    def lines_on(self, choice: Choice, intervals: Intervals) -> Choice:
        lo, hi = intervals[0]
        new = relax_scalar(self.kernels, self.function, lo[None], hi[None], None)
        return (*choice[:2], *(v[0] for v in new.lines))

    def losses(self, arrived: Any, dom: Any, choice: Choice, at: tuple[Any, ...]) -> Any:
        k = self.kernels
        real = k.array(self.function.value(k.numpy(at[0])))
        return arrived * (real - self.value(arrived, dom, choice, at))

    def prepare(self, steps: int = 0) -> None:
        """Lines between which parameters move: from the envelope's slope at one end to that at the other.

        Exact arithmetic does without, its lines stay where they are.
        """
        k, f, p = self.kernels, self.function, self.kernels.precision
        if self.sides or not p.u:
            return
        lo, hi = _ends(k, f, self.lo, self.hi)
        self.steps = steps = steps or (_MANY if lo.size <= _SMALL else _FEW)
        slopes = slopes_of(k, f, lo, hi, np.stack([lo, hi, lo / 2 + hi / 2]))
        first = [_single(s[0]) for s in slopes]
        rise = [_single((s[1] - s[0]) / steps) for s in slopes]
        place = np.arange(steps + 1)[:, None, None]
        shifts = _intercepts(f, lo, hi, *(a + b * place for a, b in zip(first, rise, strict=True)))
        reach = np.maximum(np.abs(lo), np.abs(hi))
        sides: list[_Side] = []
        for i, outwards in ((0, -np.inf), (1, np.inf)):
            moved = np.moveaxis(shifts[i], 0, -1)
            # interpolating rounds slopes, and intercepts relative to the larger neighbour, by less
            near = np.abs(moved)
            near[..., :-1] = np.maximum(near[..., :-1], np.abs(moved[..., 1:]))
            near[..., 1:] = np.maximum(near[..., 1:], np.abs(moved[..., :-1]))
            size = ((np.abs(first[i]) + steps * np.abs(rise[i])) * reach)[..., None] + near
            moved = moved + np.sign(outwards) * (16 * p.u * size + 4 * p.eta)
            moved = k.array(_directed(k, np.ascontiguousarray(moved), outwards))
            known = abs(moved[..., :-1]) + abs(moved[..., 1:]) < np.inf  # otherwise neither says anything
            shift = k.where(known, moved[..., :-1], outwards)
            lift = k.where(known, moved[..., 1:] - moved[..., :-1], 0)
            width = rise[i] * steps
            start = np.where(width != 0, (slopes[i][2] - first[i]) / np.where(width != 0, width, 1), 0.5)
            start = k.array(np.clip(start, 0, 1))
            sides.append(_Side(k.array(first[i]), k.array(rise[i]), shift, lift, start))
        self.sides = tuple(sides)

    def initial(self, dom: Any) -> Choice:
        k = self.kernels
        if self.sides:
            places = tuple(k.take(s.start, dom) for s in self.sides)
        else:
            half = k.zeros(len(dom), 1) + k.divide(k.zeros(1) + 1, 2)[0]
            places = (half, half)
        return (*places, *self._lines(dom))

    def push(self, a: Any, dom: Any, choice: Choice | None) -> Pushed:
        k = self.kernels
        kl, ku, bl, bu = (rows_of(k, v, dom) for v in self.lines) if choice is None else choice[2:]
        part, drop, mass = k.relax_lines(a, kl, ku, bl, bu)
        return Pushed((part,), drop, k.precision.gamma(a.shape[1] + 2) * mass)

    def choose(self, dom: Any, parameters: Choice) -> Choice:
        """Lines interpolated between the prepared ones.

        Soundness: a convex combination of sound lines is a sound line; :meth:`prepare` paid for rounding.
        """
        k = self.kernels
        if not self.sides:
            return (*parameters, *self._lines(dom))
        slopes: list[Any] = []
        shifts: list[Any] = []
        for side, share in zip(self.sides, parameters, strict=True):
            place, index, rest = k.place(share, self.steps)
            slopes.append(k.take(side.first, dom) + place * k.take(side.rise, dom))
            shifts.append(k.pick(side.shift, dom, index) + rest * k.pick(side.lift, dom, index))
        return (*parameters, *slopes, *shifts)

    def gradient(self, arrived: Any, dom: Any, choice: Choice, at: tuple[Any, ...]) -> Choice:
        k = self.kernels
        if not self.sides:
            return tuple(k.zeros(1, 1) for _ in choice[:2])
        out: list[Any] = []
        for i, used, sign in ((0, arrived > 0, 1), (1, arrived < 0, -1)):
            side = self.sides[i]
            _, index, _ = k.place(choice[i], self.steps)
            change = sign * (k.take(side.rise, dom) * at[0] + k.pick(side.lift, dom, index))
            out.append(k.where(used & (abs(change) < np.inf), change, 0))
        return tuple(out)

    def stored(self, dom: Any, choice: Choice) -> Choice:
        k, f = self.kernels, self.function
        lo, hi = _ends(k, f, k.take(self.lo, dom), k.take(self.hi, dom))
        slopes = (_single(_host(k, choice[2], f)), _single(_host(k, choice[3], f)))
        return (*choice[:2], *lines_of(k, f, lo, hi, slopes))

    def _lines(self, dom: Any) -> Choice:
        return tuple(self.kernels.take(a, dom) for a in self.lines)

    def value(self, arrived: Any, dom: Any, choice: Choice, at: tuple[Any, ...]) -> Any:
        del dom
        k, negative = self.kernels, arrived < 0
        kl, ku, bl, bu = choice[2:]
        return k.where(negative, ku, kl) * at[0] + k.where(negative, bu, bl)

    def shares(self, arrived: Any, weight: Any) -> tuple[Any, ...]:
        k = self.kernels
        kl, ku, bl, bu = self.lines
        gap = (ku - kl) * (self.lo + self.hi) / 2 + (bu - bl)
        gap = k.where((gap >= 0) & (gap < np.inf), gap, 0)
        width = k.maximum(self.hi - self.lo, k.precision.eta)
        return (k.sum(abs(arrived) * weight[:, :, None], 1) * gap / width,)

    def form(self, forms: tuple[Form, ...]) -> Form:
        k, form = self.kernels, forms[0]
        f = self.function
        slope = _single((_host(k, self.lines[0], f) + _host(k, self.lines[1], f)) / 2)
        s, _, low, high = lines_of(k, f, *_ends(k, f, self.lo, self.hi), (slope, slope))
        known = high - low < np.inf
        middle = k.where(known, (low + high) / 2, 0)
        rows = form.rows * s[:, None, :]
        rho = form.rho * abs(s) + k.where(known, (high - low) / 2, np.inf)
        u = k.precision.u
        if u:  # far from zero the centre's two terms cancel: charge both before the common outward step
            rho = rho + 4 * u * (abs(rows[:, -1, :]) + abs(middle))
        rows[:, -1, :] += middle
        return Form(rows, outward_form(k, rows, rho, rows.shape[1] - 1))


def relax_scalar(
    kernels: Kernels, function: ScalarFunction, lo: Any, hi: Any, spread: Any
) -> ScalarRelaxation:
    """Relaxes on ``[lo, hi]`` (``D n``) with the lines that lie closest in the middle."""
    low, high = _ends(kernels, function, lo, hi)
    slopes = slopes_of(kernels, function, low, high, low / 2 + high / 2)
    return ScalarRelaxation(
        kernels, function, lo, hi, lines_of(kernels, function, low, high, slopes), spreads=(spread,)
    )


def slopes_of(
    kernels: Kernels, function: ScalarFunction, lo: Array, hi: Array, at: Array
) -> tuple[Array, Array]:
    """Slopes of supporting lines, zero on very wide or unbounded intervals.

    There a line is no better than the function's range, and a row with a slope of 1e-30 that meets an operand
    of 1e38 (an exponential) is lost to rounding, or infinite. The account of underflows relies on it.
    """
    lo, hi, unknown = _finite(np.broadcast_to(lo, at.shape), np.broadcast_to(hi, at.shape))
    lower, upper = function.supporting(lo, hi, np.where(unknown, lo, at))
    if not kernels.precision.u:
        return np.where(unknown, 0.0, lower), np.where(unknown, 0.0, upper)
    wide = ~(np.maximum(np.abs(lo), np.abs(hi)) < _WIDE)
    return np.where(wide, 0.0, lower), np.where(wide, 0.0, upper)


def lines_of(
    kernels: Kernels, function: ScalarFunction, lo: Array, hi: Array, slopes: tuple[Array, Array]
) -> Choice:
    """``(kl, ku, bl, bu)`` in the kernels' arrays: intercepts for the slopes, rounded outwards."""
    low, high = _intercepts(function, lo, hi, *slopes)
    return (
        kernels.array(slopes[0]),
        kernels.array(slopes[1]),
        downwards(kernels, low),
        upwards(kernels, high),
    )


def _intercepts(
    function: ScalarFunction, lo: Array, hi: Array, lower: Array, upper: Array
) -> tuple[Array, Array]:
    """The engine's intercepts; where a line is flat, the range is the tightest one."""
    lo, hi, unknown = _finite(np.broadcast_to(lo, lower.shape), np.broadcast_to(hi, lower.shape))
    low, high = function.intercepts(lo, hi, lower, upper)
    if np.any((lower == 0) | (upper == 0)):
        below, above = function.range(lo, hi)
        low = np.where((lower == 0) & (below > low), below, low)
        high = np.where((upper == 0) & (above < high), above, high)
    return np.where(unknown, -np.inf, low), np.where(unknown, np.inf, high)


def scalar_range(kernels: Kernels, function: ScalarFunction, lo: Any, hi: Any) -> tuple[Any, Any]:
    """The function's values over ``[lo, hi]``, rounded outwards."""
    lo, hi, unknown = _finite(*_ends(kernels, function, lo, hi))
    low, high = function.range(lo, hi)
    low, high = np.where(unknown, -np.inf, low), np.where(unknown, np.inf, high)
    return downwards(kernels, low), upwards(kernels, high)


def _finite(lo: Array, hi: Array) -> tuple[Array, Array, Array]:
    """Ends for the engine, and where they are stand-ins: infinities are no rationals, and say nothing."""
    if lo.dtype != np.dtype(object):
        return lo, hi, np.zeros(lo.shape, dtype=bool)
    unknown, zero = (
        ~np.isfinite(lo.astype(np.float64) - hi.astype(np.float64)),
        np.array(Fraction(0), dtype=object),
    )
    return np.where(unknown, zero, lo), np.where(unknown, zero, hi), unknown


def bends(kernels: Kernels, function: ScalarFunction, lo: Any, hi: Any) -> Any:
    """``D n`` bool: elements on whose interval the function is visibly not affine (a guess, for effort)."""
    low, high = _ends(kernels, function, lo, hi)
    if not kernels.precision.u:
        return kernels.array(low < high)
    with np.errstate(all="ignore"):
        ends = function.value(low), function.value(high)
        bent = np.zeros(low.shape, dtype=bool)
        for t in (0.25, 0.5, 0.75):
            chord = ends[0] + t * (ends[1] - ends[0])
            here = function.value(low + t * (high - low))
            # written so that a NaN or an infinity counts as bent
            bent |= ~(np.abs(here - chord) <= _BENT * (np.abs(ends[0]) + np.abs(ends[1]) + np.abs(here)))
    return kernels.array(bent & (low < high))


def downwards(kernels: Kernels, values: Array) -> Any:
    """Float64 (or exact) numbers in working precision, none larger than before."""
    return kernels.array(_directed(kernels, values, -np.inf))


def upwards(kernels: Kernels, values: Array) -> Any:
    """Float64 (or exact) numbers in working precision, none smaller than before."""
    return kernels.array(_directed(kernels, values, np.inf))


def _directed(kernels: Kernels, values: Array, towards: float) -> Array:
    if kernels.precision.dtype != np.dtype(np.float32):
        return values
    with np.errstate(all="ignore"):
        near = values.astype(np.float32)
        wrong = near > values if towards < 0 else near < values
        return np.where(wrong, np.nextafter(near, np.float32(towards)), near)


def _host(kernels: Kernels, values: Any, function: ScalarFunction, towards: float = 0.0) -> Array:
    """As arrays the engine takes: float64, or rationals where both the arithmetic and the function are exact.

    Exact arithmetic around a function without rational values uses rigorous float64 lines: interval ends are
    then rounded outwards (``towards`` minus or plus infinity).
    """
    if kernels.precision.u:
        return kernels.numpy(values)
    array = np.asarray(values, dtype=object)
    if function.rational:
        return array
    near = array.astype(np.float64)
    if not towards or not near.size:
        return near
    wrong = np.asarray((near > array) if towards < 0 else (near < array), dtype=bool)
    return np.where(wrong, np.nextafter(near, towards), near)


def _ends(kernels: Kernels, function: ScalarFunction, lo: Any, hi: Any) -> tuple[Array, Array]:
    """Interval ends as the engine takes them; one that is no number (an overflow) says nothing."""
    low, high = _host(kernels, lo, function, -np.inf), _host(kernels, hi, function, np.inf)
    return np.where(low == low, low, -np.inf), np.where(high == high, high, np.inf)


def _single(values: Array) -> Array:
    """Slopes as float32 numbers."""
    if values.dtype == np.dtype(object):
        values = values.astype(np.float64)
    with np.errstate(all="ignore"):
        single = values.astype(np.float32)
    return np.asarray(np.where(np.isfinite(single), single, np.float32(0)), dtype=np.float64)
