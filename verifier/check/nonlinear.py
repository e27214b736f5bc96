"""Lines and planes below and above the nonlinear nodes, for one block of boxes.

Every relaxation turns rows with coefficients A of its node into rows over its operands: where A is
positive it takes a line below the value, where A is negative one above it. Slopes are free choices, so they
need no trust; what makes a line valid is its intercept, and that is computed here for the slopes given.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from verifier.check.arithmetic import Arithmetic
from verifier.check.cells import least
from verifier.check.functions import Function, call, rational
from verifier.check.network import Array
from verifier.check.state import Choices, Form, Layout, dot, middle, unbounded, weigh

SLOPE_UNIT = 128


@dataclass(frozen=True, slots=True)
class Pushed:
    """Rows moved through a node: coefficients per operand, and what to add to constant and error."""

    parts: tuple[Array, ...]
    constant: Array
    error: Array


class Relaxed(Protocol):
    """The relaxation of one node on a block of boxes."""

    def interval(self) -> tuple[Array, Array]:
        """The node's values."""
        ...

    def push(self, a: Array, box: Array, choice: Choices | None) -> Pushed:
        """Rows ``a`` (R, n) over boxes ``box`` (R,); without a choice, the boxes' own."""
        ...

    def form(self, forms: tuple[Form, ...], floor: Array) -> tuple[Array, Array, Array]:
        """Rows, centre and radius of the value's affine form, from those of the operands."""
        ...


class Context:
    """What a relaxation needs to know besides its operands' intervals."""

    def __init__(self, to: Arithmetic, layout: Layout, node: int, choice: Choices | None) -> None:
        self.to, self.layout, self.node = to, layout, node
        self.choice = choice  # of the block's boxes, where there is one
        self.table = to.array(np.arange(SLOPE_UNIT + 1) / SLOPE_UNIT)

    def part(self, array: Array, half: int = 0) -> Array:
        """This node's columns."""
        return self.layout.part(self.node, array, half)


# ------------------------------------------------------------------ rectifiers
class Rectifier:
    """``a z <= relu(z) <= s z + t``.

    The lower line is valid for every a in [0, 1] and every z, so the stored slope is used whatever the
    interval (a neuron on the edge of stability then changes nothing). The upper one needs ``s l + t >= 0``
    and ``s u + t >= u``, as relu is convex. s is u / (u - l) rounded, at most 1; the two products and the
    difference behind t err by at most 3 u (u - l) + 2 eta together. A row step multiplies by the slopes
    (one rounding) and sums ``A t``: ``cost``.
    """

    def __init__(self, context: Context, low: Array, high: Array, mag: Array) -> None:
        self.context, to = context, context.to
        self.low, self.high, self.mag = low, high, mag
        active, idle = np.asarray(low >= 0, bool), np.asarray(high <= 0, bool)
        self.ambiguous = ~(active | idle)
        # without an end there is no chord: the constant line at the top then, whatever that is
        open_ = (unbounded(low) | unbounded(high)) & self.ambiguous
        chord = self.ambiguous & ~open_
        l, h = np.where(chord, low, 0), np.where(chord, high, 0)
        gap = np.where(chord, h - l, 1)
        self.slope = np.where(chord, np.minimum(h / gap, 1), np.where(active, 1, 0))
        shift = np.maximum(-self.slope * l, h - self.slope * h) + 8 * to.u * gap + 2 * to.tiny
        self.shift = np.where(chord, shift, np.where(open_, np.maximum(high, 0), 0))
        known = np.where(unbounded(self.shift), 0, self.shift)
        self.cost = None if to.exact else to.gamma(0) * mag + to.gamma(low.shape[1]) * known + to.tiny

    def interval(self) -> tuple[Array, Array]:
        return np.maximum(self.low, 0), np.maximum(self.high, 0)

    def push(self, a: Array, box: Array, choice: Choices | None) -> Pushed:
        c = self.context
        if choice is not None:
            chosen = c.part(choice.slopes)
        elif c.choice is not None:
            chosen = c.part(c.choice.slopes)[box]
        else:
            chosen = (self.low[box] >= 0) * np.intp(SLOPE_UNIT)
        negative = np.minimum(a, 0)
        slopes = np.where(np.asarray(a < 0, bool), self.slope[box], c.table[chosen])
        part, used = a * slopes, np.asarray((a != 0) & (slopes != 0), bool)
        error = a.sum(axis=1) * 0
        if self.cost is not None:
            open_ = unbounded(self.mag)
            error = np.abs(a) @ np.where(open_, 0, self.cost).max(axis=0)
            error = error + np.where((used & open_[box]).any(axis=1), np.inf, 0.0)
        return Pushed((part,), -weigh(negative, self.shift[box]), error)

    def form(self, forms: tuple[Form, ...], floor: Array) -> tuple[Array, Array, Array]:
        """``relu(z)`` is in ``s z + [0, shift]``: for 0 <= s <= 1 the line s z lies below relu."""
        (f,), to = forms, self.context.to
        half = self.shift * to.array(np.array(0.5))[()]
        spent = to.gamma(4) * (f.reach + np.abs(f.centre) + f.radius + self.shift) + floor
        radius = f.radius * self.slope + half + np.where(self.ambiguous, spent, 0)
        return f.rows * self.slope[:, None, :], f.centre * self.slope + half, radius


# ------------------------------------------------------------------ functions of one variable
def intercepts(to: Arithmetic, f: Function, low: Array, high: Array, slope: Array) -> Array:
    """A lower bound of ``f(z) - k z`` over [low, high], in the arithmetic's numbers.

    In exact arithmetic a function that leaves the rationals gets rigorous float64 bounds on the interval
    rounded outwards; the numbers found are then exact rationals like any other.
    """
    if not to.exact or not low.size:
        return least(f, low, high, slope, exact=False)
    exactly = ~(unbounded(low) | unbounded(high)) & rational(f)
    found = np.empty(low.shape, object)
    found[exactly] = least(f, low[exactly], high[exactly], slope[exactly], exact=True)
    low, high = to.outwards(low[~exactly], high[~exactly])
    found[~exactly] = to.array(least(f, low, high, slope[~exactly].astype(np.float64), exact=False))
    return found


class Curve:
    """``k z + b`` below and above ``f(z)`` on [low, high]."""

    def __init__(self, context: Context, function: Function, low: Array, high: Array, mag: Array) -> None:
        self.context, self.function = context, function
        self.negative = call("neg", function)
        self.low, self.high, self.mag = low, high, mag
        self._lines: tuple[Array, ...] | None = None

    def interval(self) -> tuple[Array, Array]:
        nought = self.context.to.array(np.zeros(self.low.shape))
        below = intercepts(self.context.to, self.function, self.low, self.high, nought)
        return below, -intercepts(self.context.to, self.negative, self.low, self.high, nought)

    def own(self) -> tuple[Array, ...]:
        """The boxes' own lines: slopes and intercepts below, then above; found when first asked for."""
        if self._lines is None:
            below, above = self._slopes()
            self._lines = (
                below,
                self._intercept(below, above=False),
                above,
                self._intercept(above, above=True),
            )
        return self._lines

    def _slopes(self) -> tuple[Array, Array]:
        """The boxes' own; flat lines where there is no choice."""
        c = self.context
        if c.choice is None:
            flat = c.to.array(np.zeros(self.low.shape))
            return flat, flat
        below, above = (c.to.array(np.asarray(c.part(c.choice.lines, half), np.float64)) for half in (0, 1))
        return below, above

    def _intercept(self, slope: Array, *, above: bool) -> Array:
        if above:
            return -intercepts(self.context.to, self.negative, self.low, self.high, -slope)
        return intercepts(self.context.to, self.function, self.low, self.high, slope)

    def push(self, a: Array, box: Array, choice: Choices | None) -> Pushed:
        """Each coefficient is rounded once, ``A b`` is a sum."""
        to, c = self.context.to, self.context
        used, negative = (a != 0).astype(bool), (a < 0).astype(bool)
        if choice is None:
            k0, b0, k1, b1 = (v[box] for v in self.own())
            slope, shift = np.where(negative, k1, k0), np.where(negative, b1, b0)
        else:
            k0, k1 = (to.array(np.asarray(c.part(choice.lines, half), np.float64)) for half in (0, 1))
            slope = np.where(negative, k1, k0)
            shift = np.where(used, 0, 0) * slope
            for mask, above in ((used & ~negative, False), (negative, True)):
                shift[mask] = self._of_rows(slope[mask], box, mask, above=above)
        shift = np.where(used, shift, 0)
        part, size = a * slope, np.abs(a)
        error = size.sum(axis=1) * 0
        if not to.exact:
            moves = np.asarray(used & (slope != 0), bool)
            error = to.gamma(0) * weigh(part, self.mag[box], moves) + to.gamma(a.shape[1]) * weigh(
                a, np.abs(shift)
            )
        # never two infinities of different sign: lines have no bound below, or none above
        return Pushed((part,), dot(a, shift), error)

    def _of_rows(self, slope: Array, box: Array, mask: Array, *, above: bool) -> Array:
        """Intercepts for single elements of rows; the same line over the same interval is looked at once."""
        row, element = np.nonzero(mask)
        low, high = self.low[box[row], element], self.high[box[row], element]
        function, sign = (self.negative, -1) if above else (self.function, 1)
        if self.context.to.exact or not row.size:
            return sign * intercepts(self.context.to, function, low, high, sign * slope)
        order = np.lexsort((slope, high, low))
        fresh = np.ones(len(order), bool)
        fresh[1:] = np.any([v[order][1:] != v[order][:-1] for v in (low, high, slope)], axis=0)
        once = order[fresh]
        found = sign * intercepts(self.context.to, function, low[once], high[once], sign * slope[once])
        spread = np.empty(len(order))
        spread[order] = found[np.cumsum(fresh) - 1]
        return spread

    def form(self, forms: tuple[Form, ...], floor: Array) -> tuple[Array, Array, Array]:
        """``s z + [b, b']`` with the mean slope of the boxes' lines, as a float32 number."""
        (f,), to = forms, self.context.to
        with np.errstate(all="ignore"):
            below, above = self._slopes()
            mean = np.asarray((below + above) / 2, np.float64)
            single = mean.astype(np.float32).astype(np.float64)
        slope = to.array(np.where(np.isfinite(single), single, 0.0))
        below, above = self._intercept(slope, above=False), self._intercept(slope, above=True)
        centre, spread = middle(to, below, above)
        if not to.exact:
            known = np.isfinite(centre) & np.isfinite(spread)
            centre, spread = np.where(known, centre, 0.0), np.where(known, spread, np.inf)
        steep = np.abs(slope)
        size = (f.reach + np.abs(f.centre) + f.radius) * steep + np.abs(centre) + spread
        radius = f.radius * steep + spread + to.gamma(4) * size + floor * (1 + steep)
        return f.rows * slope[:, None, :], f.centre * slope + centre, radius


# ------------------------------------------------------------------ products
class Product:
    """Planes below and above ``x y``.

    With r in [0, 1] the plane below is the mixture of McCormick's two with slopes
    ``p = r yl + (1 - r) yu`` and ``q = r xl + (1 - r) xu``, the one above has ``p = r yu + (1 - r) yl``.
    For the slopes as computed, ``x y - p x - q y`` is least (greatest) at a corner of the box, because it
    is affine in either variable. A corner's value errs by less than ``gamma(0)`` of its three terms.
    """

    def __init__(self, context: Context, x: tuple[Array, Array], y: tuple[Array, Array]) -> None:
        self.context, self.x, self.y = context, x, y

    def interval(self) -> tuple[Array, Array]:
        to = self.context.to
        corners = [np.where((a == 0) | (b == 0), 0, a * b) for a in self.x for b in self.y]
        low, high = corners[0], corners[0]
        for corner in corners[1:]:
            low, high = np.minimum(low, corner), np.maximum(high, corner)
        if to.exact:
            return low, high
        return low - (to.gamma(0) * np.abs(low) + to.tiny), high + (to.gamma(0) * np.abs(high) + to.tiny)

    def _plane(self, box: Array, r: Array, above: Array) -> tuple[Array, Array, Array, Array]:
        """Slopes p and q, the intercept, and the size of ``p x`` and ``q y``; all (R, n)."""
        to = self.context.to
        ends = [v[box] for v in (*self.x, *self.y)]
        open_ = np.logical_or.reduce([unbounded(v) for v in ends])
        xl, xu, yl, yu = (np.where(open_, 0, v) for v in ends)
        rest = 1 - r
        p = np.where(above, r * yu + rest * yl, r * yl + rest * yu)
        q = r * xl + rest * xu
        found = None
        for x in (xl, xu):
            for y in (yl, yu):
                terms = x * y, p * x, q * y
                size = np.abs(terms[0]) + np.abs(terms[1]) + np.abs(terms[2])
                slip = to.gamma(0) * size + to.tiny
                value = terms[0] - terms[1] - terms[2]
                value = np.where(above, value + slip, value - slip)
                if found is None:
                    found = value
                else:
                    found = np.where(above, np.maximum(found, value), np.minimum(found, value))
        assert found is not None
        size = np.abs(p) * np.maximum(-xl, xu) + np.abs(q) * np.maximum(-yl, yu)
        return p, q, np.where(open_, np.where(above, np.inf, -np.inf), found), size

    def _mixes(self, box: Array, choice: Choices | None) -> tuple[Array, Array]:
        """Of lower and upper planes, for every row; even ones where there is no choice."""
        c = self.context
        if choice is not None:
            return c.part(choice.mixes, 0), c.part(choice.mixes, 1)
        if c.choice is not None:
            return c.part(c.choice.mixes, 0)[box], c.part(c.choice.mixes, 1)[box]
        even = np.full((len(box), self.x[0].shape[1]), SLOPE_UNIT // 2)
        return even, even

    def push(self, a: Array, box: Array, choice: Choices | None) -> Pushed:
        to, c = self.context.to, self.context
        used, negative = (a != 0).astype(bool), (a < 0).astype(bool)
        lower, upper = self._mixes(box, choice)
        p, q, shift, size = self._plane(box, c.table[np.where(negative, upper, lower)], negative)
        p, q, shift, size = (np.where(used, v, 0) for v in (p, q, shift, size))
        n = a.shape[1]
        error = to.gamma(0) * dot(np.abs(a), size)
        if not to.exact:
            error = error + to.gamma(n) * weigh(a, np.abs(shift))
        return Pushed((a * p, a * q), dot(a, shift), error)

    def form(self, forms: tuple[Form, ...], floor: Array) -> tuple[Array, Array, Array]:
        """``x y = xc y + yc x - xc yc + (x - xc)(y - yc)``, the last term within ``rx ry``."""
        (f, g), to = forms, self.context.to
        xc, rx = middle(to, *self.x)
        yc, ry = middle(to, *self.y)
        rows = g.rows * xc[:, None, :] + f.rows * yc[:, None, :]
        centre = g.centre * xc + f.centre * yc - xc * yc
        radius = g.radius * np.abs(xc) + f.radius * np.abs(yc) + rx * ry
        size = (g.reach + np.abs(g.centre) + g.radius) * np.abs(xc)
        size = size + (f.reach + np.abs(f.centre) + f.radius) * np.abs(yc) + np.abs(xc * yc) + rx * ry
        steep = np.abs(xc) + np.abs(yc)
        return rows, centre, radius + to.gamma(8) * size + floor * (1 + steep)
