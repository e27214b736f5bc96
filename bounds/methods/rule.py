"""The bounding rule: intervals, a forward affine pass, and backward rows where they are needed.

This is the rule that docs/reference/certificate.md states and the independent checker recomputes:
one pass over the steps; every nonlinear step's operands are bounded by interval arithmetic, intersected with
the range of a forward affine form, and elements on which the step is not affine are bounded backwards.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bounds.ball import Ball, BoundBall
from bounds.graph import Array
from bounds.methods.moves import boxlike_slots, origin_of
from bounds.methods.parameters import Parameters
from bounds.methods.refine import Refiner
from bounds.methods.row_choices import Followed, RowChoices, in_full, offsets_of
from bounds.methods.tape import Tape
from bounds.numerics import LARGEST_SUM, box_to_centre
from bounds.plan import (
    AffineStep,
    InputStep,
    NonlinearStep,
    Plan,
    ReluStep,
    ScalarStep,
    Step,
)
from bounds.relax.base import Form, Relaxation, spread_of
from bounds.relax.elementwise import bends, downwards, relax_scalar, scalar_range, upwards
from bounds.relax.product import product_range, relax_product
from bounds.relax.relu import relax_relu

# a forward form costs about as much as an extra evaluation for every input that varies; beyond this many
# backward rows are the cheaper way to the same classification
FORWARD_INPUTS = 64
# ends that differ by less than one part in this many are one decimal number, rounded to either side
_SAME = 1 << 50
# lower ends of intervals above this (upper ends below its negative) are as good as at it
_HUGE = 2.0**60


@dataclass(frozen=True, slots=True)
class Rule:
    """Options of the rule.

    Attributes:
        forward: run the forward affine pass (pays for few inputs).
        refine: bound operands of nonlinear steps backwards (otherwise intervals only).
        sharpen: steps of optimisation for the rows of intermediate bounds.
        keep: the tape shall hold the parameters that these rows ended with, where they are not too many.
        proof: rows whose parameters are not kept must not be improved.
        follow: bound what a tape did, with its parameters, instead of deciding anew.
        most: multiply-adds per box that may go into it; tensors that would cost more keep their intervals.
        row_bytes: packed rows are processed in pieces of about this many bytes.
        ball: all points of interest lie in it as well.
        live: per slot ``n`` bool, elements that matter; others are not bounded backwards (slots left out: all
            matter).
        should_stop: polled between pieces; when true :class:`Stopped` is raised.
    """

    forward: bool = True
    refine: bool = True
    sharpen: int = 0
    keep: bool = False
    proof: bool = False
    follow: Followed | None = None
    most: float = math.inf
    row_bytes: int = 4_000_000
    ball: Ball | None = None
    live: Mapping[int, Array] = field(default_factory=dict[int, Array])
    should_stop: Callable[[], bool] = lambda: False


def varying(lo: Any, hi: Any) -> Any:
    """``d`` bool: inputs that are more than one number in some box (``lo, hi``: ``D d``).

    A fixed decimal number that is no float64 arrives as the interval between its neighbours.
    """
    return wide(lo, hi).any(axis=0)


def wide(lo: Any, hi: Any) -> Any:
    """``D d`` bool: where a box is visibly more than one number."""
    return (hi - lo) * _SAME > np.maximum(abs(lo), abs(hi))


def relax_boxes(plan: Plan, lo: Any, hi: Any, rule: Rule) -> Tape:
    """Runs the rule on a block of boxes.

    Args:
        plan: the compiled network.
        lo, hi: ``D d`` float64 (``Fraction`` objects for an exact plan).
        rule: see :class:`Rule`.

    Returns:
        The tape, with a relaxation for every nonlinear step and ranges for every output.

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
        # centre and radius lose ends that are numbers of the working precision; a function may jump there
        self.ends = self.k.array(lo), self.k.array(hi)
        if p.u:
            self.ends = downwards(self.k, lo), upwards(self.k, hi)
        reach = self.k.max0(abs(self.centre) + self.radius)
        if p.u:
            reach = reach * (1 + 2 * p.u)
        self.tape = Tape(plan, self.centre, self.radius, reach)
        self.tape.should_stop, self.tape.ends = rule.should_stop, self.ends
        if p.u:
            # underflow in rows that meet the inputs directly, and in the objectives' own constants
            self.tape.eta = 4 * p.eta * (self.k.total(reach) + len(reach) + 4)
        if rule.ball is not None and p.u:  # the 2-norm is no rational: exact arithmetic uses the box
            self.tape.ball = _in_precision(rule.ball, self.k)
        self.intervals: dict[int, tuple[Any, Any]] = {}
        self.forms: dict[int, Form] = {}
        self.forward = rule.forward  # a point's forms say what its intervals say
        self.refiner = Refiner(self.tape, rule.most * len(self.centre), rule)
        if rule.forward:
            self.tape.columns = np.flatnonzero(varying(lo, hi))
            self.forward = len(self.tape.columns) > 0
        last = {s: i for i, step in enumerate(plan.steps) for s in step.sources}
        self.last = {s: i for s, i in last.items() if s not in plan.outputs}
        # operands of nonlinear steps that are themselves nonlinear: nobody else pays for rounding there
        self.between = {
            s
            for step in plan.nonlinear
            for s in step.sources
            if isinstance(plan.steps[plan.producer[s]], NonlinearStep)
        }
        self.boxlike = boxlike_slots(plan)
        self.offsets = offsets_of(plan)
        self.kept: list[RowChoices] = []

    def run(self) -> Tape:
        for i, step in enumerate(self.plan.steps):
            if isinstance(step, InputStep):
                self._input(step)
            elif isinstance(step, AffineStep):
                self._affine(step)
            else:
                self._nonlinear(step)
            lo, hi = self.intervals[step.slot]
            if self.plan.fanout[step.slot] > 1 or (step.slot in self.between and self.k.precision.u):
                self.tape.magnitude[step.slot] = self.k.max0(self.k.maximum(abs(lo), abs(hi)))
            for s in step.sources:
                if self.last.get(s) == i:
                    self.intervals.pop(s, None)
                    self.forms.pop(s, None)
        for slot in self.plan.outputs:
            self.tape.outputs[slot] = self.intervals[slot]
        if self.kept:
            self.tape.rows = RowChoices.concat(self.kept, self.plan)
        return self.tape

    def _input(self, step: InputStep) -> None:
        part = slice(step.start, step.stop)
        self.intervals[step.slot] = (self.ends[0][:, part], self.ends[1][:, part])
        if not self.forward:
            return
        k, columns = self.k, self.tape.columns
        d, width = len(self.centre), step.stop - step.start
        rows = k.zeros(d, len(columns) + 1, width)
        mine = np.flatnonzero((columns >= step.start) & (columns < step.stop))
        places = k.array(columns[mine] - step.start)
        c, r = self.centre[:, part], self.radius[:, part]
        rows[:, k.array(mine), places] = k.columns(r, places)
        rows[:, -1, :] = c
        # what conversion to the working precision makes of a fixed number has no column
        rho, fixed = k.zeros(d, width), k.array(np.setdiff1d(np.arange(width), columns - step.start))
        rho[:, fixed] = k.columns(r, fixed)
        self.forms[step.slot] = Form(rows, rho, flat=not len(mine))

    def _affine(self, step: AffineStep) -> None:
        k, p, m = self.k, self.k.precision, step.map
        centres: list[Any] = []
        radii: list[Any] = []
        reaches: list[Any] = []
        for s in step.sources:
            lo, hi = self.intervals[s]
            c = (lo + hi) / 2 if not p.u else 0.5 * lo + 0.5 * hi
            r = k.maximum(hi - c, c - lo)
            if p.u:  # an unbounded element is any number around 0
                known = hi - lo < math.inf
                c, r = k.where(known, c, 0), k.where(known, r, math.inf)
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
        least = spread
        spread = spread + (coefficient * total + tiny)
        if p.u:
            # radii were rounded once (2u each) and summed; |value| <= total covers the last subtraction
            spread = spread * p.slack(m.terms + 4) + 2 * p.u * total
            # zero times infinity: NaN compares false
            spread, total = (k.where(v >= 0, v, math.inf) for v in (spread, total))
        self.intervals[step.slot] = (value - spread, value + spread)
        if m.signs is not None and p.u:
            lo, hi = self._ends(step, coefficient, tiny)
            # where any admissible sum might overflow, the other end means nothing either
            safe = total < math.inf if step.network else total >= 0
            self.intervals[step.slot] = (k.where(safe, lo, -math.inf), k.where(safe, hi, math.inf))
        if p.u and m.whole and step.exact and not step.network:
            exact = self._unrounded(step, total)
            lo, hi = self.intervals[step.slot]
            self.intervals[step.slot] = k.where(exact, value - least, lo), k.where(exact, value + least, hi)
        # a row at this slot is charged |a| . e; 4u more pays for the relaxation step and a sum that
        # may produce it (both at most u |a| |value| each)
        peak = k.max0(total)
        error = (coefficient + 4 * p.u) * peak + tiny
        if p.u and m.bias is not None:
            # a row's bias product sums over the whole value, however short the map's own sums are
            error = error + p.gamma(m.size + 2) * m.bias_abs
        self.tape.error[step.slot] = error
        if p.u:
            scale = self._known(peak) + sum(self._known(k.max0(r)) for r in reaches) + m.size
            self.tape.eta = self.tape.eta + 4 * p.eta * (m.terms + 2) * scale
        if self.forward:
            self._affine_form(step, coefficient, tiny)

    def _unrounded(self, step: AffineStep, total: Any) -> Any:
        """``D n`` bool: where a map with whole weights rounds nothing.

        Sums of small whole numbers, and of halves, which are their middles and radii, are exact in any order;
        ``total`` (the magnitudes' sum) bounds every partial one.
        """
        k, p, fractions = self.k, self.k.precision, list[Any]()
        for s in step.sources:
            lo, hi = self.intervals[s]
            fractions.append(k.where((k.floor(lo) == lo) & (k.floor(hi) == hi), 0, 1))
        return (step.map.apply_abs(fractions) == 0) & (total <= 1 / (8 * p.u))

    def _ends(self, step: AffineStep, coefficient: Any, tiny: Any) -> tuple[Any, Any]:
        """The interval of a map that is monotone in every operand, end by end.

        Soundness: such a map, less (or plus) its rounding ``g |W| |x|`` with g < 1, is still monotone, so
        each end is attained at the operands' ends and pays for rounding at its own magnitude: a sum of small
        and large positive numbers stays positive, which centre and radius would lose.
        """
        k, p, m = self.k, self.k.precision, step.map
        ends: list[Any] = []
        for sign in (-1, 1):
            xs: list[Any] = []
            for s, grows in zip(step.sources, m.signs or (), strict=True):
                low, high = self.intervals[s]
                # huge ends of one sign would overflow to no bound at all; they may be moved outwards
                xs.append(k.minimum(low, _HUGE) if sign * grows < 0 else k.maximum(high, -_HUGE))
            value, total = m.apply(xs), m.apply_abs([abs(x) for x in xs])
            if m.bias is not None:
                value, total = value + m.bias, total + m.bias_abs
            if step.network:
                total = k.where(total > LARGEST_SUM, math.inf, total)
            spread = (coefficient * total + tiny) * p.slack(m.terms + 4) + 2 * p.u * total
            end = value + sign * spread
            # zero times infinity, or two infinities: NaN compares false
            ends.append(k.where(sign * end >= -math.inf, end, sign * math.inf))
        return ends[0], ends[1]

    def _known(self, sizes: Any) -> Any:
        """Sum over the bounded elements, for underflows.

        Soundness: no coefficient of an unbounded element can be nonzero and lost to underflow. An affine step
        makes every element unbounded that has an unbounded operand, and its error is then infinite: a row
        that reads it is lost before it is pushed on. Lines of scalar functions and products over unbounded
        operands are flat, exactly; a rectifier's may have any slope from 0 to 1.
        """
        return self.k.total(self.k.where(sizes < math.inf, sizes, 0))

    def _affine_form(self, step: AffineStep, coefficient: Any, tiny: Any) -> None:
        k, p, m = self.k, self.k.precision, step.map
        forms = [self.forms[s] for s in step.sources]
        d, width = len(self.centre), len(self.tape.columns) + 1
        flat = all(f.flat for f in forms)
        if flat:  # step functions cut values off from the inputs
            rows = k.zeros(d, width, m.size)
            rows[:, -1, :] = m.apply([f.rows[:, -1, :] for f in forms])
        else:
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
        # where the network might overflow a form means nothing, as rows and intervals there
        rho = k.where(self.tape.error[step.slot] < math.inf, rho, math.inf) if step.network else rho
        self.forms[step.slot] = Form(rows, rho, flat)
        self._intersect(step.slot)

    def _nonlinear(self, step: NonlinearStep) -> None:
        k, p = self.k, self.k.precision
        intervals = [self.intervals[s] for s in step.sources]
        refined = [(lo < 0) & (lo > 0) for lo, _ in intervals]  # none
        if self.rule.refine:
            for i, s in enumerate(step.sources):
                wanted = self._wanted(step, i, intervals)
                lo, hi, refined[i] = self._refine(s, self.offsets[step.index, i], *intervals[i], wanted)
                intervals[i] = (lo, hi)
        forms = [self.forms.get(s) if self.forward else None for s in step.sources]
        spreads = [spread_of(f) for f in forms]
        relaxation, lo, hi = self._relax(step, intervals, spreads)
        if self.rule.follow is not None:
            relaxation = self.rule.follow.chosen(step, relaxation)
        relaxation.refined = tuple(refined)
        self.tape.relaxations.append(relaxation)
        self.intervals[step.slot] = (lo, hi)
        if p.u and (not isinstance(step, ReluStep) or step.source in self.between):
            # underflow of coefficients, of intercepts, and on the way of both
            reach = [self._known(k.max0(k.maximum(abs(a), abs(b)))) for a, b in intervals]
            self.tape.eta = self.tape.eta + 4 * p.eta * (sum(reach) + 4 * step.size)
        if self.forward:
            form = relaxation.form(tuple(f for f in forms if f is not None))
            form.flat = all(f.flat for f in forms if f is not None)
            if not form.flat and not isinstance(step, ReluStep):
                form.flat = not np.any(k.numpy(form.rows[:, :-1, :]))
            error = self.tape.error.get(step.slot)
            if error is not None:
                form.rho = (form.rho + error) * (1 + 2 * p.u)
            self.forms[step.slot] = form
            if not isinstance(step, ReluStep):
                self._intersect(step.slot)

    def _wanted(self, step: NonlinearStep, operand: int, intervals: list[tuple[Any, Any]]) -> Any:
        """``D n`` bool: elements of an operand whose interval is worth bounding backwards."""
        lo, hi = intervals[operand]
        if self.rule.follow is not None:
            return self.k.array(self.rule.follow.wanted(step, operand))
        if isinstance(step, ReluStep):
            wanted = (lo < 0) & (hi > 0)
        elif isinstance(step, ScalarStep):
            wanted = bends(self.k, step.function, lo, hi)
        else:
            other = intervals[1 - operand]
            wanted = (lo < hi) & (other[0] < other[1])
        live = self.rule.live.get(step.slot)
        return wanted if live is None else wanted & self.k.array(live)

    def _relax(
        self, step: NonlinearStep, intervals: list[tuple[Any, Any]], spreads: list[Any]
    ) -> tuple[Relaxation, Any, Any]:
        """The relaxation, and the interval of the value; books what the network itself may round off."""
        k = self.k
        lo, hi = intervals[0]
        if isinstance(step, ReluStep):
            return relax_relu(k, lo, hi, spreads[0]), k.maximum(lo, 0), k.maximum(hi, 0)
        if isinstance(step, ScalarStep):
            relaxation = relax_scalar(k, step.function, lo, hi, spreads[0])
            below, above = scalar_range(k, step.function, lo, hi)
            if not step.rounds:
                return relaxation, below, above
            error = self._model_error(step, lo, hi)
        else:
            relaxation = relax_product(k, intervals[0], intervals[1], (spreads[0], spreads[1]))
            below, above = product_range(k, *intervals)
            if not step.network:
                return relaxation, below, above
            size = k.max0(k.maximum(abs(below), abs(above)))
            size = k.where(size < LARGEST_SUM, size, math.inf)
            error = (step.network * size + step.network_eta) * (1 + 4 * k.precision.u)
        self.tape.error[step.slot] = error
        size = 4 * k.precision.u * (k.maximum(abs(below), abs(above)) + error)
        return relaxation, (below - error) - size, (above + error) + size

    def _model_error(self, step: ScalarStep, lo: Any, hi: Any) -> Any:
        """``n``: the network's own rounding of a scalar step, over all boxes of the block."""
        k = self.k
        if not step.modelled:
            return k.zeros(step.size) + math.inf
        low, high = k.numpy(-k.max0(-lo)), k.numpy(k.max0(hi))
        return upwards(k, step.function.model_error(low, high) * (1 + 2.0**-40))

    def _intersect(self, slot: int) -> None:
        """Intersects a slot's interval with the range of its form."""
        lo, hi = self.intervals[slot]
        below, above = self._range(self.forms[slot])
        self.intervals[slot] = (self.k.maximum(lo, below), self.k.minimum(hi, above))

    def _range(self, form: Form) -> tuple[Any, Any]:
        k, p = self.k, self.k.precision
        centre = form.rows[:, -1, :]
        reach = k.sum(abs(form.rows[:, :-1, :]), 1) + form.rho
        if p.u:
            reach = reach * p.slack(form.rows.shape[1] + 4) + 2 * p.u * (abs(centre) + reach)
            # a form may overflow where the interval does not; it then says nothing
            says = abs(centre) + reach < math.inf
            reach, centre = k.where(says, reach, math.inf), k.where(says, centre, 0)
        return centre - reach, centre + reach

    def _refine(self, slot: int, number: int, lo: Any, hi: Any, wanted: Any) -> tuple[Any, Any, Any]:
        """Backward bounds for the wanted elements of a slot, operands from ``number`` on.

        Elements that only move data are bounded where they come from, once.

        Returns:
            The intervals, and which elements were bounded (``D n`` bool).
        """
        none = wanted & ~wanted
        origin, move = origin_of(self.plan, slot)
        # such intervals are exact (up to rounding)
        if self._is_exact(self.plan.steps[self.plan.producer[origin]]):
            return lo, hi, none
        boxes, elements = self.k.nonzero(wanted)
        steps = self.refiner.affordable(origin, len(boxes)) if len(boxes) else None
        if steps is None:
            return lo, hi, none
        lo, hi = self.k.copy(lo), self.k.copy(hi)
        back: Any = None
        if move is None:
            operands = number + self.k.numpy(elements)
            below, above, chosen = self.refiner.bound(origin, (boxes, elements), operands, steps)
        else:
            at = move[self.k.numpy(elements)]
            kept = np.flatnonzero(at >= 0)  # the others are constants
            boxes, elements = (self.k.take(i, self.k.array(kept)) for i in (boxes, elements))
            size = self.plan.sizes[origin]
            places, back = np.unique(self.k.numpy(boxes) * size + at[kept], return_inverse=True)
            if not len(places):
                return lo, hi, none
            # of elements that are repeated, any one's row will do
            operands = np.empty(len(places), dtype=np.int64)
            operands[back] = number + self.k.numpy(elements)
            where = self.k.array(places // size), self.k.array(places % size)
            *bounds, chosen = self.refiner.bound(origin, where, operands, steps)
            below, above = (self.k.take(b, self.k.array(back)) for b in bounds)
            wanted = none
            wanted[boxes, elements] = True
        self._keep(number, boxes, elements, back, chosen)
        held = lo[boxes, elements], hi[boxes, elements]
        # a NaN compares false and improves nothing
        lo[boxes, elements] = self.k.where(below > held[0], below, held[0])
        hi[boxes, elements] = self.k.where(above < held[1], above, held[1])
        return lo, hi, wanted

    def _keep(self, number: int, boxes: Any, elements: Any, back: Any, chosen: list[Parameters]) -> None:
        """Notes the parameters of rows: ``chosen`` holds those of lower bounds, then those of upper ones."""
        if not chosen:
            return
        box, operand = (np.asarray(self.k.numpy(v)).astype(np.int64) for v in (boxes, elements))
        for upper, held in enumerate(chosen):
            p = held if back is None else held.take(back)
            sides = np.full(len(box), upper, dtype=np.uint8)
            self.kept.append(RowChoices(box, number + operand, sides, in_full(p, self.plan)))

    def _is_exact(self, source: Step) -> bool:
        """Whether intervals at a step's slot cannot be improved backwards."""
        if isinstance(source, InputStep | ReluStep | ScalarStep):
            return True
        if self.tape.relaxations or self.tape.ball is not None:
            return False
        return self.forward or all(s in self.boxlike for s in source.sources)


def _in_precision(ball: Ball, kernels: Any) -> BoundBall:
    """The ball in working precision; the radius covers the centre's conversion (|.|_2 <= |.|_1)."""
    p = kernels.precision
    moved = np.abs(ball.centre.astype(p.dtype).astype(np.float64) - ball.centre).sum()
    radius = (ball.radius + moved * (1 + 2.0**-20)) * (1 + 4 * p.u) + p.eta
    return BoundBall(kernels.array(ball.centre), kernels.array(np.abs(ball.centre)), float(radius), ball.norm)
