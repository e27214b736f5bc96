"""The bounding rule: intervals, a forward affine pass, and backward rows where they are needed.

This is the rule that docs/reference/certificate.md states and the independent checker recomputes:
one pass over the steps; every rectifier's input is bounded by interval arithmetic, intersected with the
range of a forward affine form, and elements still ambiguous are bounded backwards.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from bounds.ball import Ball, BoundBall
from bounds.methods.backward import Rows, backward, concretize
from bounds.methods.tape import Stopped, Tape
from bounds.numerics import LARGEST_SUM, box_to_centre
from bounds.plan import AffineStep, InputStep, Plan, ReluStep
from bounds.relax.relu import relax_relu

# a forward form costs about as much as `input_size` extra evaluations; beyond this many inputs
# backward rows are the cheaper way to the same classification
FORWARD_INPUTS = 64


@dataclass(frozen=True, slots=True)
class Rule:
    """Options of the rule.

    Attributes:
        forward: run the forward affine pass (pays for few inputs).
        refine: bound ambiguous neurons backwards (otherwise intervals only).
        row_bytes: packed rows are processed in pieces of about this many bytes.
        ball: all points of interest lie in it as well.
        should_stop: polled between pieces; when true :class:`Stopped` is raised.
    """

    forward: bool = True
    refine: bool = True
    row_bytes: int = 4_000_000
    ball: Ball | None = None
    should_stop: Callable[[], bool] = lambda: False


@dataclass(slots=True)
class _Form:
    """Forward affine form ``G e + g +- rho`` over e in [-1, 1]^d: ``rows`` is ``D (d + 1) n`` (g last)."""

    rows: Any
    rho: Any


def relax_boxes(plan: Plan, lo: Any, hi: Any, rule: Rule) -> Tape:
    """Runs the rule on a block of boxes.

    Args:
        plan: the compiled network.
        lo, hi: ``D d`` float64 (``Fraction`` objects for an exact plan).
        rule: see :class:`Rule`.

    Returns:
        The tape, with a relaxation for every rectifier and ranges for every output.

    Soundness: every interval holds all values that the (real, or rounded) network takes on the box.
    """
    return _Pass(plan, lo, hi, rule).run()


class _Pass:
    """State of one pass: interval (and form) per live slot."""

    def __init__(self, plan: Plan, lo: Any, hi: Any, rule: Rule) -> None:
        self.plan, self.k, self.rule = plan, plan.kernels, rule
        p = self.k.precision
        centre, radius = box_to_centre(lo, hi, p)
        self.centre, self.radius = self.k.array(centre), self.k.array(radius)
        reach = self.k.max0(abs(self.centre) + self.radius)
        if p.u:
            reach = reach * (1 + 2 * p.u)
        self.tape = Tape(plan, self.centre, self.radius, reach)
        self.tape.should_stop = rule.should_stop
        if p.u:
            # underflow in rows that meet the inputs directly, and in the objectives' own constants
            self.tape.eta = 4 * p.eta * (self.k.total(reach) + len(reach) + 4)
        if rule.ball is not None and p.u:  # the 2-norm is no rational: exact arithmetic uses the box
            self.tape.ball = _in_precision(rule.ball, self.k)
        self.intervals: dict[int, tuple[Any, Any]] = {}
        self.forms: dict[int, _Form] = {}
        self.forward = rule.forward
        last = {s: i for i, step in enumerate(plan.steps) for s in _reads(step)}
        self.last = {s: i for s, i in last.items() if s not in plan.outputs}

    def run(self) -> Tape:
        for i, step in enumerate(self.plan.steps):
            if isinstance(step, InputStep):
                self._input(step)
            elif isinstance(step, AffineStep):
                self._affine(step)
            else:
                self._relu(step)
            lo, hi = self.intervals[step.slot]
            if self.plan.fanout[step.slot] > 1:
                self.tape.magnitude[step.slot] = self.k.max0(self.k.maximum(abs(lo), abs(hi)))
            for s in _reads(step):
                if self.last.get(s) == i:
                    self.intervals.pop(s, None)
                    self.forms.pop(s, None)
        for slot in self.plan.outputs:
            self.tape.outputs[slot] = self.intervals[slot]
        return self.tape

    def _input(self, step: InputStep) -> None:
        p = self.k.precision
        c, r = self.centre[:, step.start : step.stop], self.radius[:, step.start : step.stop]
        grow = 2 * p.u * (abs(c) + r) if p.u else 0
        self.intervals[step.slot] = (c - r - grow, c + r + grow)
        if not self.forward:
            return
        d, width = len(self.centre), step.stop - step.start
        rows = self.k.zeros(d, self.plan.input_size + 1, width)
        columns = np.arange(width)
        rows[:, self.k.array(step.start + columns), self.k.array(columns)] = r
        rows[:, -1, :] = c
        self.forms[step.slot] = _Form(rows, self.k.zeros(d, width))

    def _affine(self, step: AffineStep) -> None:
        k, p, m = self.k, self.k.precision, step.map
        centres: list[Any] = []
        radii: list[Any] = []
        reaches: list[Any] = []
        for s in step.sources:
            lo, hi = self.intervals[s]
            c = (lo + hi) / 2 if not p.u else 0.5 * lo + 0.5 * hi
            r = k.maximum(hi - c, c - lo)
            centres.append(c)
            radii.append(r)
            reaches.append(k.maximum(abs(lo), abs(hi)))
        value = m.apply(centres)
        total = m.apply_abs(reaches)  # T = |W| m + |b|
        spread = m.apply_abs(radii)
        if m.bias is not None:
            value = value + m.bias
            total = total + m.bias_abs
        # underflows: one eta per elementary operation, and each may be carried on by one more weight
        tiny = p.eta * (m.terms + 4) + step.network_eta
        coefficient = step.relative + step.network
        if step.network and p.u:
            # the rounding model holds while no partial sum can overflow; T bounds them all
            total = k.where(total > LARGEST_SUM, math.inf, total)
        spread = spread + (coefficient * total + tiny)
        if p.u:
            # radii were rounded once (2u each) and summed; |value| <= total covers the last subtraction
            spread = spread * p.slack(m.terms + 4) + 2 * p.u * total
        self.intervals[step.slot] = (value - spread, value + spread)
        # a row at this slot is charged |a| . e; 4u more pays for the relaxation step and a sum that
        # may produce it (both at most u |a| |value| each)
        peak = k.max0(total)
        error = (coefficient + 4 * p.u) * peak + tiny
        if p.u and m.bias is not None:
            # a row's bias product sums over the whole value, however short the map's own sums are
            error = error + p.gamma(m.size + 2) * m.bias_abs
        self.tape.error[step.slot] = error
        if p.u:
            scale = k.total(peak) + sum(k.total(k.max0(r)) for r in reaches) + m.size
            self.tape.eta = self.tape.eta + 4 * p.eta * (m.terms + 2) * scale
        if self.forward:
            self._affine_form(step, coefficient, tiny)

    def _affine_form(self, step: AffineStep, coefficient: Any, tiny: Any) -> None:
        k, p, m = self.k, self.k.precision, step.map
        forms = [self.forms[s] for s in step.sources]
        d, width = len(self.centre), self.plan.input_size + 1
        rows = m.apply([f.rows.reshape(d * width, -1) for f in forms]).reshape(d, width, -1)
        if m.bias is not None:
            rows[:, -1, :] += m.bias
        # the form's own magnitude q = sum |G| + |g| + rho takes the place of m in the rounding term
        inner = [f.rho + coefficient * (k.sum(abs(f.rows), 1) + f.rho) for f in forms]
        rho = m.apply_abs(inner) + tiny * (width + 1)
        if m.bias is not None:
            rho = rho + coefficient * m.bias_abs
        if p.u:
            rho = rho * p.slack(m.terms + width + 8)
        self.forms[step.slot] = _Form(rows, rho)
        lo, hi = self.intervals[step.slot]
        centre = rows[:, -1, :]
        reach = k.sum(abs(rows[:, :-1, :]), 1) + rho
        if p.u:
            reach = reach * p.slack(width + 4) + 2 * p.u * (abs(centre) + reach)
            # a form may overflow where the interval does not; it then says nothing
            says = abs(centre) + reach < math.inf
            reach, centre = k.where(says, reach, math.inf), k.where(says, centre, 0)
        self.intervals[step.slot] = (k.maximum(lo, centre - reach), k.minimum(hi, centre + reach))

    def _relu(self, step: ReluStep) -> None:
        k, p = self.k, self.k.precision
        lo, hi = self.intervals[step.source]
        refined = (lo < 0) & (lo > 0)  # none
        if self.rule.refine:
            lo, hi, refined = self._refine(step, lo, hi)
        form = self.forms.get(step.source) if self.forward else None
        spread = None if form is None else abs(form.rows[:, :-1, :])
        relu = relax_relu(k, lo, hi, spread)
        relu.refined = refined
        self.tape.relus.append(relu)
        self.intervals[step.slot] = (k.maximum(lo, 0), k.maximum(hi, 0))
        if form is None:
            return
        half = relu.offset / 2
        slope = relu.upper
        rows = form.rows * slope[:, None, :]
        rows[:, -1, :] += half
        rho = form.rho * slope + half
        if p.u:
            # slope products and the shift: at most 3u of everything they touch; stable ones are exact
            q = (k.sum(abs(rows), 1) + rho) * p.slack(self.plan.input_size + 4)
            wider = rho * (1 + 4 * p.u) + 4 * p.u * q + p.eta * (self.plan.input_size + 4)
            rho = k.where(relu.ambiguous, wider, rho)
        self.forms[step.slot] = _Form(rows, rho)

    def _refine(self, step: ReluStep, lo: Any, hi: Any) -> tuple[Any, Any, Any]:
        """Backward bounds for the elements of a rectifier's input that are still ambiguous.

        Returns:
            The intervals, and which elements were bounded (``D n`` bool).
        """
        ambiguous = (lo < 0) & (hi > 0)
        first = self.plan.producer[step.source]
        source = self.plan.steps[first]
        exact = not self.tape.relus and self.tape.ball is None
        if not isinstance(source, AffineStep) or exact:
            # intervals of the first layer are exact (up to rounding)
            return lo, hi, ambiguous & ~ambiguous
        boxes, elements = self.k.nonzero(ambiguous)
        if len(boxes) == 0:
            return lo, hi, ambiguous
        self.tape.refined_rows += 2 * len(boxes)
        lo, hi = self.k.copy(lo), self.k.copy(hi)
        widest = max(self.plan.sizes[: step.slot + 1])
        piece = max(16, self.rule.row_bytes // (8 * widest))
        for start in range(0, len(boxes), piece):
            if self.rule.should_stop():
                raise Stopped
            b, e = boxes[start : start + piece], elements[start : start + piece]
            below, above = self._bound_neurons(source, first, b, e)
            lo[b, e] = self.k.maximum(lo[b, e], below)
            hi[b, e] = self.k.minimum(hi[b, e], above)
        return lo, hi, ambiguous

    def _bound_neurons(self, source: AffineStep, first: int, boxes: Any, elements: Any) -> tuple[Any, Any]:
        k, count = self.k, len(boxes)
        parts = source.map.rows(elements)
        const = k.zeros(count) if source.map.bias is None else source.map.bias[elements]
        error = self.tape.error[source.slot][elements]
        rows = Rows({}, k.concat([const, -const]), k.concat([error, error]), k.concat([boxes, boxes]))
        for s, part in zip(source.sources, parts, strict=True):
            rows.add(self.tape, s, k.concat([part, -part]))
        a = backward(self.tape, rows, first)
        value = concretize(self.tape, a, rows)
        return value[:count], -value[count:]


def _in_precision(ball: Ball, kernels: Any) -> BoundBall:
    """The ball in working precision; the radius covers the centre's conversion (|.|_2 <= |.|_1)."""
    p = kernels.precision
    moved = np.abs(ball.centre.astype(p.dtype).astype(np.float64) - ball.centre).sum()
    radius = (ball.radius + moved * (1 + 2.0**-20)) * (1 + 4 * p.u) + p.eta
    return BoundBall(kernels.array(ball.centre), kernels.array(np.abs(ball.centre)), float(radius), ball.norm)


def _reads(step: Any) -> tuple[int, ...]:
    if isinstance(step, AffineStep):
        return step.sources
    return (step.source,) if isinstance(step, ReluStep) else ()
