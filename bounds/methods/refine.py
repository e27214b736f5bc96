"""Backward bounds of single elements: the operands of nonlinear steps on which intervals leave a choice."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from bounds.graph import Array
from bounds.methods.backward import Rows, backward, concretize
from bounds.methods.crop import Cut, Fields, cut_plan, cut_tape
from bounds.methods.improve import improve
from bounds.methods.multipliers import Multipliers
from bounds.methods.parameters import Parameters, stored_parameters
from bounds.methods.row_choices import Followed
from bounds.methods.tape import Stopped, Tape
from bounds.plan import AffineStep, Plan, ProductStep, ReluStep, ScalarStep, Step
from bounds.relax.base import Choice

# what a step of optimisation costs, in backward passes
_STEP = 3.0
# bytes that the parameters of a tensor's rows may take when they are kept
_KEPT = 1 << 29


class Limits(Protocol):
    """What :class:`bounds.methods.rule.Rule` says of the matter; see there."""

    @property
    def sharpen(self) -> int: ...
    @property
    def keep(self) -> bool: ...
    @property
    def proof(self) -> bool: ...
    @property
    def follow(self) -> Followed | None: ...
    @property
    def row_bytes(self) -> int: ...


class Refiner:
    """Bounds elements of one block of boxes, within a limit on work.

    Args:
        tape: of the block; holds the relaxations of all steps before those that are bounded.
        most: multiply-adds that may go into it.
        limits: what else the rule says.
    """

    def __init__(self, tape: Tape, most: float, limits: Limits) -> None:
        self.tape, self.left, self.limits = tape, most, limits
        self.fields = Fields(tape.plan)
        plan = tape.plan
        self._width = plan.neurons + 8 * plan.scalars + 2 * plan.products

    def affordable(self, slot: int, count: int) -> int | None:
        """How many steps of optimisation are affordable for so many elements of a slot (of all boxes); None:
        not even bounding them. Books what that costs."""
        rows = 2 * count
        work = float(rows) * self.fields.work(slot, self.fields.side(slot, rows))
        if self.limits.follow is not None:
            return 0
        steps = self.limits.sharpen
        if self.limits.proof and not self._can_keep(rows):
            steps = 0
        # a step is a pass backwards and one forwards, and parameters to move
        for some in (steps, 0):
            cost = work * (1 + _STEP * some)
            if not cost > self.left:
                self.left -= cost
                return some
        self.tape.refined_rows += rows
        self.tape.refined_work += work
        return None

    def _can_keep(self, rows: int) -> bool:
        return rows * self._width <= _KEPT

    def bound(
        self, slot: int, where: tuple[Any, Any], operands: Array, steps: int
    ) -> tuple[Any, Any, list[Parameters]]:
        """Rigorous bounds ``E`` from below and above of elements of a slot.

        Args:
            slot: whose elements.
            where: ``E`` box, element.
            operands: ``E`` their numbers as operands.
            steps: of optimisation for every row.

        Returns:
            The bounds; and, where they are to be kept, parameters of the lower bounds' rows, and of the upper
            ones'.
        """
        tape, k, (boxes, elements) = self.tape, self.tape.kernels, where
        rows = 2 * len(boxes)
        tape.refined_rows += rows
        side = self.fields.side(slot, rows)
        tape.refined_work += float(rows) * self.fields.work(slot, side)
        if steps:
            for r in tape.relaxations:
                r.prepare()
        job = _Job(steps, steps > 0 and self.limits.keep and self._can_keep(rows), self.limits)
        if not side:
            return self._pieces(tape, tape.plan.producer[slot], where, operands, job)
        below, above = k.zeros(len(boxes)), k.zeros(len(boxes))
        places = np.asarray(k.numpy(elements)).astype(np.intp)
        kept: list[list[Parameters]] = []
        tiles = self.fields.tiles(slot, places, side)
        for group in tiles:
            mine = k.array(group)
            found = self._in_field(slot, k.take(boxes, mine), places[group], operands[group], job)
            below[mine], above[mine] = found[:2]
            kept.append(found[2])
        if not job.keep:
            return below, above, []
        back = np.argsort(np.concatenate(tiles))
        return below, above, [Parameters.concat([sides[i] for sides in kept]).take(back) for i in (0, 1)]

    def _in_field(
        self, slot: int, boxes: Any, elements: Array, operands: Array, job: _Job
    ) -> tuple[Any, Any, list[Parameters]]:
        """Bounds of elements that share a receptive field."""
        cut = cut_plan(self.tape.plan, slot, np.unique(elements))
        local = self.tape.kernels.array(np.searchsorted(cut.kept[slot], elements))
        tape = cut_tape(self.tape, cut)
        first = cut.plan.producer[slot]
        below, above, sides = self._pieces(tape, first, (boxes, local), operands, replace(job, cut=cut))
        return below, above, [_spread_out(self.tape.plan, cut, p) for p in sides]

    def _pieces(
        self, tape: Tape, first: int, where: tuple[Any, Any], operands: Array, job: _Job
    ) -> tuple[Any, Any, list[Parameters]]:
        """Bounds of elements of step ``first`` of a tape's plan, some at a time."""
        boxes, elements = where
        widest = max(tape.plan.sizes[s.slot] for s in tape.plan.steps[: first + 1])
        piece = max(16, self.limits.row_bytes // (8 * widest))
        parts: list[tuple[Any, Any, list[Parameters]]] = []
        for start in range(0, len(boxes), piece):
            if tape.should_stop():
                raise Stopped
            mine = slice(start, start + piece)
            parts.append(self._some(tape, first, (boxes[mine], elements[mine]), operands[mine], job))
        below, above = ([p[i] for p in parts] for i in (0, 1))
        sides = [Parameters.concat([p[2][i] for p in parts]) for i in (0, 1)] if parts[0][2] else []
        return tape.kernels.concat(below), tape.kernels.concat(above), sides

    def _some(
        self, tape: Tape, first: int, where: tuple[Any, Any], operands: Array, job: _Job
    ) -> tuple[Any, Any, list[Parameters]]:
        """Bounds of elements of step ``first``, all rows packed."""
        (boxes, elements), k, source = where, tape.kernels, tape.plan.steps[first]
        count, dom = len(boxes), k.concat([boxes, boxes])
        start = first if isinstance(source, AffineStep) else first + 1

        def run(choices: list[Choice], record: list[Any], _: Multipliers | None) -> tuple[Any, Any, Any]:
            rows = _unit_rows(tape, source, elements, dom)
            a = backward(tape, rows, start, choices or None, record or None)
            return concretize(tape, a, rows), a, rows.pad

        sides: list[Parameters] = []
        if job.limits.follow is not None:
            value = run(self._followed(job.limits.follow, operands, dom, job.cut), [], None)[0]
        elif job.steps:
            # slopes of smooth functions are float32 numbers as they are, or else in the end
            stored = job.keep and k.precision.dtype != np.dtype(np.float32)
            best = improve(tape, dom, run, start, job.steps, stored=stored, final=False)
            value = best.lower
            if job.keep:
                every = stored_parameters(tape, best.choices, 2 * count)
                sides = [every.take(slice(0, count)), every.take(slice(count, None))]
        else:
            value = run([], [], None)[0]
        return value[:count], -value[count:], sides

    def _followed(self, follow: Followed, operands: Array, dom: Any, cut: Cut | None) -> list[Choice]:
        """The choices of rows that are followed; none where no row has one of its own."""
        places = np.array([follow.place(q, upper=u) for u in (False, True) for q in operands.tolist()])
        if (places < 0).all():
            return []
        choices = follow.choices(self.tape.plan, self.tape.relaxations, places, dom)
        if cut is None:
            return choices
        k, steps = self.tape.kernels, self.tape.plan.nonlinear
        at = ((i, k.array(cut.kept[steps[i].slot])) for i in cut.nonlinear)
        return [tuple(k.columns(c, index) for c in choices[i]) for i, index in at]


@dataclass(frozen=True, slots=True)
class _Job:
    """How rows are bounded: steps of optimisation, whether parameters are kept, within which part."""

    steps: int
    keep: bool
    limits: Limits
    cut: Cut | None = None


def _spread_out(plan: Plan, cut: Cut, held: Parameters) -> Parameters:
    """Parameters of a part's elements as those of all, zeros elsewhere."""
    numbers: dict[type[Step], list[Array]] = {ReluStep: [], ScalarStep: [], ProductStep: []}
    for i in cut.nonlinear:
        step = plan.nonlinear[i]
        numbers[type(step)].append(step.offset + cut.kept[step.slot])
    rows = len(held.slopes)

    def wide(part: Array, kind: type[Step], halves: int, size: int) -> Array:
        out = np.zeros((rows, halves, size), dtype=part.dtype)
        if numbers[kind]:
            out[:, :, np.concatenate(numbers[kind])] = part.reshape(rows, halves, -1)
        return out.reshape(rows, halves * size)

    return Parameters(
        wide(held.slopes, ReluStep, 1, plan.neurons),
        wide(held.lines, ScalarStep, 2, plan.scalars),
        wide(held.mixes, ProductStep, 2, plan.products),
    )


def _unit_rows(tape: Tape, source: Step, elements: Any, dom: Any) -> Rows:
    """Rows that are the elements of a step's value, and their negatives."""
    k, count = tape.kernels, len(elements)
    if not isinstance(source, AffineStep):
        unit = k.unit_rows(elements, tape.plan.sizes[source.slot])
        zero = k.zeros(2 * count)
        return Rows({source.slot: k.concat([unit, -unit])}, zero, zero, dom)
    parts = source.map.rows(elements)
    const = k.zeros(count) if source.map.bias is None else source.map.bias[elements]
    error = tape.error[source.slot][elements]
    rows = Rows({}, k.concat([const, -const]), k.concat([error, error]), dom)
    for s, part in zip(source.sources, parts, strict=True):
        rows.add(tape, s, k.concat([part, -part]))
    return rows
