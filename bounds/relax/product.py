"""The relaxation of ``x y`` on a box: a mixture of the two McCormick planes on either side.

McCormick (1976). With ``r`` in [0, 1] the lower plane is
``(r yl + (1-r) yu) x + (r xl + (1-r) xu) y - r xl yl - (1-r) xu yu`` and the upper one
``(r yu + (1-r) yl) x + (r xl + (1-r) xu) y - r xl yu - (1-r) xu yl``; every mixture is sound, being a
convex combination of two sound planes. Both lower planes have the same value in the middle of the box.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bounds.graph import Array
from bounds.kernels.base import Kernels
from bounds.relax.base import Choice, Form, Intervals, Pushed, outward_form, patched, rows_of
from bounds.relax.relu import SLOPE_STEPS


@dataclass(frozen=True, slots=True)
class _Ends:
    """Numbers of which planes are made, all of one shape but ``known``.

    ``wx = xl - xu``, ``wy = yl - yu``; lower planes have constants ``low_at_0 - r low``, upper ones
    ``high_at_0 - r high``, with what rounding may cost included in ``low_at_0`` and ``high_at_0``;
    ``finite``: all ends are finite; known: they are everywhere.
    """

    xu: Any
    yl: Any
    yu: Any
    wx: Any
    wy: Any
    low: Any
    high: Any
    low_at_0: Any
    high_at_0: Any
    finite: Any
    known: bool


_ROWS = ("xu", "yl", "yu", "wx", "wy", "low", "high", "low_at_0", "high_at_0", "finite")


def _ends_of(of: ProductRelaxation) -> _Ends:
    k, p = of.kernels, of.kernels.precision
    xl, xu, yl, yu = of.xl, of.xu, of.yl, of.yu
    x, y = k.maximum(abs(xl), abs(xu)), k.maximum(abs(yl), abs(yu))
    off = 32 * p.u * (x * y) + 16 * p.eta * (1 + x + y) if p.u else 0
    finite = x + y < np.inf
    low, high = xl * yl - xu * yu, xl * yu - xu * yl
    known = bool(np.all(k.numpy(finite)))
    return _Ends(xu, yl, yu, xl - xu, yl - yu, low, high, -xu * yu - off, -xu * yl + off, finite, known)


@dataclass(slots=True)
class ProductRelaxation:
    """``x in [xl, xu], y in [yl, yu]`` (``D n``).

    A choice is ``(r of the lower plane, r of the upper one, p, q, c of either)``.
    """

    kernels: Kernels
    xl: Any
    xu: Any
    yl: Any
    yu: Any
    mixes: Choice
    parameters: int = 2
    spreads: tuple[Any, ...] = (None, None)
    refined: tuple[Any, ...] = field(default=(None, None))
    ends: _Ends | None = None
    own: Choice = ()  # the planes that ``mixes`` give, ``D n``, made when first needed

    @property
    def intervals(self) -> Intervals:
        return ((self.xl, self.xu), (self.yl, self.yu))

    def prepare(self) -> None:
        """Nothing to do."""

    def narrowed(self, boxes: int, at: tuple[Array, Array], intervals: Intervals) -> ProductRelaxation:
        k, new = self.kernels, tuple(v[None] for pair in intervals for v in pair)
        held = (self.xl, self.xu, self.yl, self.yu)
        ends = [patched(k, h, boxes, at, n) for h, n in zip(held, new, strict=True)]
        whole = k.array(np.zeros(boxes, dtype=np.int64))
        return ProductRelaxation(k, *ends, mixes=tuple(k.take(r, whole) for r in self.mixes))

    def restricted(self, index: Any) -> ProductRelaxation:
        k = self.kernels
        ends = (k.columns(v, index) for v in (self.xl, self.xu, self.yl, self.yu))
        return ProductRelaxation(k, *ends, mixes=tuple(k.columns(r, index) for r in self.mixes))

    def explicit(self, dom: Any, choice: Choice) -> Choice:
        del dom
        return choice

    def slopes(self, choice: Choice, operand: int) -> tuple[Any, Any]:
        return choice[2 + operand], choice[5 + operand]

    def lines_on(self, choice: Choice, intervals: Intervals) -> Choice:
        k, whole = self.kernels, self.kernels.array(np.zeros(1, dtype=np.int64))
        x, y = ((lo[None], hi[None]) for lo, hi in intervals)
        new = relax_product(k, x, y, (None, None))
        return tuple(v[0] for v in new.choose(whole, (choice[0][None], choice[1][None])))

    def losses(self, arrived: Any, dom: Any, choice: Choice, at: tuple[Any, ...]) -> Any:
        return arrived * (at[0] * at[1] - self.value(arrived, dom, choice, at))

    def initial(self, dom: Any) -> Choice:
        return tuple(self.kernels.take(v, dom) for v in self._own())

    def _own(self) -> Choice:
        if not self.own:
            every = self.kernels.array(np.arange(len(self.xl)))
            self.own = self.choose(every, self.mixes)
        return self.own

    def push(self, a: Any, dom: Any, choice: Choice | None) -> Pushed:
        k = self.kernels
        own = self._own() if choice is None else ()
        planes = choice or tuple(rows_of(k, v, dom) for v in own)
        px, py, pc, qx, qy, qc = planes[2:]
        left, drop, mass = k.relax_lines(a, px, qx, pc, qc)
        right = k.relax_slopes(a, py, qy)
        return Pushed((left, right), drop, k.precision.gamma(a.shape[1] + 2) * mass)

    def choose(self, dom: Any, parameters: Choice) -> Choice:
        mixes = tuple(self.kernels.on_grid(r, SLOPE_STEPS) for r in parameters)
        low, high = self._planes(dom, mixes)
        return (*mixes, *low, *high)

    def gradient(self, arrived: Any, dom: Any, choice: Choice, at: tuple[Any, ...]) -> Choice:
        del choice  # planes are linear in the mixing parameters
        k, (x, y) = self.kernels, at
        ends = self._of(dom)
        along_x, along_y = ends.wy * x, ends.wx * y
        low = along_x + along_y - ends.low
        high = along_x - along_y + ends.high
        return k.where(arrived > 0, low, 0), k.where(arrived < 0, high, 0)

    def stored(self, dom: Any, choice: Choice) -> Choice:
        del dom
        return choice

    def value(self, arrived: Any, dom: Any, choice: Choice, at: tuple[Any, ...]) -> Any:
        del dom
        k, negative = self.kernels, arrived < 0
        p, q, c = (k.where(negative, h, v) for v, h in zip(choice[2:5], choice[5:], strict=True))
        return p * at[0] + q * at[1] + c

    def shares(self, arrived: Any, weight: Any) -> tuple[Any, ...]:
        k = self.kernels
        wx, wy = self.xu - self.xl, self.yu - self.yl
        size = k.sum(abs(arrived) * weight[:, :, None], 1)
        out = []
        for width, other in ((wx, wy), (wy, wx)):
            # the planes miss the product by a quarter of the box's area in its middle
            gap = k.where((width * other >= 0) & (width * other < np.inf), width * other, 0) / 4
            out.append(size * gap / k.maximum(width, k.precision.eta))
        return tuple(out)

    def form(self, forms: tuple[Form, ...]) -> Form:
        """``x y = xc y + yc x - xc yc + (x - xc)(y - yc)``, the last term within ``rx ry``."""
        k, p = self.kernels, self.kernels.precision
        (fx, fy), half = forms, k.divide(k.zeros(1) + 1, 2)[0]
        xc, yc = self.xl * half + self.xu * half, self.yl * half + self.yu * half
        rx = k.maximum(self.xu - xc, xc - self.xl)
        ry = k.maximum(self.yu - yc, yc - self.yl)
        if p.u:
            rx, ry = rx * (1 + 2 * p.u) + p.eta, ry * (1 + 2 * p.u) + p.eta
        rows = fy.rows * xc[:, None, :] + fx.rows * yc[:, None, :]
        rows[:, -1, :] += -xc * yc
        rho = fy.rho * abs(xc) + fx.rho * abs(yc) + rx * ry
        if p.u:
            # the sum's terms may be larger than the sum: charge them before the common outward step
            inputs = rows.shape[1] - 1
            size = (k.sum(abs(fx.rows), 1) + fx.rho) * abs(yc) + (k.sum(abs(fy.rows), 1) + fy.rho) * abs(xc)
            rho = rho + 8 * p.u * (size * p.slack(inputs + 4) + abs(xc * yc) + rho) + 4 * p.eta
        known = (self.xu - self.xl < np.inf) & (self.yu - self.yl < np.inf)
        rows, rho = k.where(known[:, None, :], rows, 0), k.where(known, rho, np.inf)
        return Form(rows, outward_form(k, rows, rho, rows.shape[1] - 1))

    def _planes(self, dom: Any, mixes: Choice) -> tuple[tuple[Any, Any, Any], tuple[Any, Any, Any]]:
        """Lower and upper plane ``(p, q, c)``: ``x y >= p x + q y + c`` (or ``<=``).

        Soundness: with X, Y the intervals' magnitudes, p and q are computed numbers off by at most 7u Y and
        7u X (a difference of ends, its product with r, a sum), which moves a plane by at most 7u X Y each; a
        constant rounds off at most 12u X Y likewise. ``off`` is 32u X Y and what may underflow.
        """
        k, (r, s), e = self.kernels, mixes, self._of(dom)
        low = [e.yu + r * e.wy, e.xu + r * e.wx, e.low_at_0 - r * e.low]
        high = [e.yl - s * e.wy, e.xu + s * e.wx, e.high_at_0 - s * e.high]
        if not e.known:  # something is unbounded: a slope would be infinite there
            for plane, nothing in ((low, -np.inf), (high, np.inf)):
                plane[0], plane[1] = k.where(e.finite, plane[0], 0), k.where(e.finite, plane[1], 0)
                plane[2] = k.where(e.finite, plane[2], nothing)
        return (low[0], low[1], low[2]), (high[0], high[1], high[2])

    def _of(self, dom: Any) -> _Ends:
        """What planes are made of, by packed rows; one box serves all rows as it is."""
        if self.ends is None:
            self.ends = _ends_of(self)
        if len(self.xl) == 1:
            return self.ends
        k, held = self.kernels, self.ends
        return _Ends(*(k.take(getattr(held, f), dom) for f in _ROWS), known=held.known)


def relax_product(
    kernels: Kernels, x: tuple[Any, Any], y: tuple[Any, Any], spreads: tuple[Any, Any]
) -> ProductRelaxation:
    """Relaxes on ``x in [x[0], x[1]]``, ``y in [y[0], y[1]]`` (``D n``), both planes mixed evenly."""
    half = kernels.zeros(*x[0].shape) + kernels.divide(kernels.zeros(1) + 1, 2)[0]
    return ProductRelaxation(kernels, *x, *y, (half, half), spreads=spreads)


def product_range(kernels: Kernels, x: tuple[Any, Any], y: tuple[Any, Any]) -> tuple[Any, Any]:
    """``x y`` over the box, rounded outwards; unbounded where a corner is undefined."""
    k, p = kernels, kernels.precision
    corners = [a * b for a in x for b in y]
    lo, hi = corners[0], corners[0]
    for c in corners[1:]:
        lo, hi = k.minimum(lo, c), k.maximum(hi, c)
    if not p.u:
        return lo, hi
    lo, hi = lo - (2 * p.u * abs(lo) + p.eta), hi + (2 * p.u * abs(hi) + p.eta)
    # 0 times infinity: NaN compares false
    return k.where(lo == lo, lo, -np.inf), k.where(hi == hi, hi, np.inf)
