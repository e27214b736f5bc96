"""The relaxation of ``max(z, 0)``: a triangle with a free lower slope."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bounds.graph import Array
from bounds.kernels.base import Kernels
from bounds.relax.base import Choice, Form, Intervals, Pushed, outward_form, patched, rows_of

_ELEMENTS = ("lo", "hi", "lower", "upper", "offset", "ambiguous")
SLOPE_STEPS = 128  # lower slopes are chosen as multiples of 1/128: exact in every precision


@dataclass(slots=True)
class ReluRelaxation:
    """The relaxation of one rectifier on every box of a block.

    ``lower z <= relu(z) <= upper z + offset`` on ``[lo, hi]``; all arrays ``D n``. ``ambiguous`` marks
    ``lo < 0 < hi``; elsewhere both lines are the function itself. ``unbounded``: some offset is infinite.
    A choice is ``(lower slope,)``, an explicit one ``(lower slope, upper slope, offset)``.
    """

    kernels: Kernels
    lo: Any
    hi: Any
    lower: Any
    upper: Any
    offset: Any
    ambiguous: Any
    unbounded: bool = False
    parameters: int = 1
    spreads: tuple[Any, ...] = (None,)
    refined: tuple[Any, ...] = field(default=(None,))

    @property
    def intervals(self) -> Intervals:
        return ((self.lo, self.hi),)

    def prepare(self) -> None:
        """Nothing to do."""

    def narrowed(self, boxes: int, at: tuple[Array, Array], intervals: Intervals) -> ReluRelaxation:
        (lo, hi), k = intervals[0], self.kernels
        new = relax_relu(k, lo[None], hi[None], None)
        parts = [patched(k, getattr(self, f), boxes, at, getattr(new, f)) for f in _ELEMENTS]
        return ReluRelaxation(k, *parts, unbounded=self.unbounded or new.unbounded)

    def restricted(self, index: Any) -> ReluRelaxation:
        k = self.kernels
        return ReluRelaxation(
            k, *(k.columns(getattr(self, f), index) for f in _ELEMENTS), unbounded=self.unbounded
        )

    def explicit(self, dom: Any, choice: Choice) -> Choice:
        return (*choice[:1], self.kernels.take(self.upper, dom), self.kernels.take(self.offset, dom))

    def slopes(self, choice: Choice, operand: int) -> tuple[Any, Any]:
        del operand
        return choice[0], choice[1]

    def lines_on(self, choice: Choice, intervals: Intervals) -> Choice:
        lo, hi = intervals[0]
        new = relax_relu(self.kernels, lo[None], hi[None], None)
        slope = self.kernels.where(new.ambiguous[0], choice[0], new.lower[0])
        return slope, new.upper[0], new.offset[0]

    def losses(self, arrived: Any, dom: Any, choice: Choice, at: tuple[Any, ...]) -> Any:
        return arrived * (self.kernels.maximum(at[0], 0) - self.value(arrived, dom, choice, at))

    def initial(self, dom: Any) -> Choice:
        return (self.kernels.take(self.lower, dom),)

    def push(self, a: Any, dom: Any, choice: Choice | None) -> Pushed:
        k = self.kernels
        low, *above = (rows_of(k, self.lower, dom),) if choice is None else choice
        upper, offset = above or (rows_of(k, self.upper, dom), rows_of(k, self.offset, dom))
        if self.unbounded:
            part, drop, mass = k.relax_lines(a, low, upper, k.zeros(1, a.shape[1]), offset)
            return Pushed((part,), drop, k.precision.gamma(a.shape[1] + 2) * mass)
        part, drop = k.relax(a, low, upper, offset)
        # drop is a sum of terms of one sign, so its rounding is relative to itself
        return Pushed((part,), drop, k.precision.gamma(a.shape[1] + 2) * abs(drop))

    def choose(self, dom: Any, parameters: Choice) -> Choice:
        # any slope in [0, 1] is sound for any z, but those of stable neurons are known
        k = self.kernels
        slope = k.on_grid(parameters[0], SLOPE_STEPS)
        return (k.where(rows_of(k, self.ambiguous, dom), slope, rows_of(k, self.lower, dom)),)

    def gradient(self, arrived: Any, dom: Any, choice: Choice, at: tuple[Any, ...]) -> Choice:
        del dom, choice
        return (self.kernels.where(arrived > 0, at[0], 0),)

    def stored(self, dom: Any, choice: Choice) -> Choice:
        del dom
        return choice

    def value(self, arrived: Any, dom: Any, choice: Choice, at: tuple[Any, ...]) -> Any:
        k, negative = self.kernels, arrived < 0
        slope = k.where(negative, rows_of(k, self.upper, dom), choice[0])
        return slope * at[0] + k.where(negative, rows_of(k, self.offset, dom), 0)

    def shares(self, arrived: Any, weight: Any) -> tuple[Any, ...]:
        k = self.kernels
        gap = k.where(self.ambiguous, k.minimum(-self.lo, self.hi), 0)
        loss = k.maximum(arrived, 0) * gap[:, None, :] - k.minimum(arrived, 0) * self.offset[:, None, :]
        return (k.sum(loss * weight[:, :, None], 1) / k.maximum(self.hi - self.lo, k.precision.eta),)

    def form(self, forms: tuple[Form, ...]) -> Form:
        k, form = self.kernels, forms[0]
        half = self.offset / 2
        rows = form.rows * self.upper[:, None, :]
        rows[:, -1, :] += half
        rho = form.rho * self.upper + half
        # stable ones are exact
        return Form(rows, k.where(self.ambiguous, outward_form(k, rows, rho, rows.shape[1] - 1), rho))


def relax_relu(kernels: Kernels, lo: Any, hi: Any, spread: Any) -> ReluRelaxation:
    """Relaxes on ``[lo, hi]`` (``D n``).

    The upper line is the chord from (lo, 0) to (hi, hi); its slope is a computed number s, and any slope in
    [0, 1] is a sound choice provided the intercept is at least ``max(-s lo, hi (1 - s))``, the line's need at
    the two ends (the function is convex). The intercept is computed and then moved up by a bound on its
    own rounding (5 u times its magnitude bound). The lower slope starts at 1 if ``hi > -lo``, else 0
    (Zhang et al. 2018, the adaptive choice of CROWN).
    """
    k, u = kernels, kernels.precision.u
    ambiguous = ~((lo >= 0) | (hi <= 0))  # a NaN is ambiguous too, and makes every bound NaN
    active = lo >= 0
    one, unbounded = k.zeros(*lo.shape) + 1, False
    slope = k.minimum(k.divide(k.where(ambiguous, hi, 0), k.where(ambiguous, hi - lo, one)), 1)
    need = k.maximum(-slope * lo, hi - slope * hi)
    if u:
        need = need + 5 * u * (slope * -lo + hi) + kernels.precision.eta
        wide = ambiguous & ~(hi - lo < math.inf)
        unbounded = bool(np.any(k.numpy(wide)))
        if unbounded:  # below an infinite upper end only slope 1 helps
            steep = hi == math.inf
            slope = k.where(wide, k.where(steep, one, 0), slope)
            need = k.where(wide, k.where(steep, -lo, hi), need)
    lower = k.where(active | (ambiguous & (hi > -lo)), one, 0)
    upper, offset = k.where(active, one, slope), k.where(ambiguous, need, 0)
    return ReluRelaxation(k, lo, hi, lower, upper, offset, ambiguous, unbounded, spreads=(spread,))
