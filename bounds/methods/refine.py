"""Backward bounds of single elements: the operands of nonlinear steps on which intervals leave a choice."""

from __future__ import annotations

from typing import Any

import numpy as np

from bounds.graph import Array
from bounds.methods.backward import Rows, backward, concretize
from bounds.methods.crop import Fields, cut_plan, cut_tape
from bounds.methods.improve import improve
from bounds.methods.multipliers import Multipliers
from bounds.methods.tape import Stopped, Tape
from bounds.plan import AffineStep, Step
from bounds.relax.base import Choice

# what a step of optimisation costs, in backward passes
_STEP = 3.0


class Refiner:
    """Bounds elements of one block of boxes, within a limit on work.

    Args:
        tape: of the block; holds the relaxations of all steps before those that are bounded.
        most: multiply-adds that may go into it.
        sharpen: steps of optimisation for every row, where that is affordable.
        row_bytes: packed rows are processed in pieces of about this many bytes.
    """

    def __init__(self, tape: Tape, most: float, sharpen: int, row_bytes: int) -> None:
        self.tape, self.left, self.sharpen, self.row_bytes = tape, most, sharpen, row_bytes
        self.fields = Fields(tape.plan)

    def affordable(self, slot: int, count: int) -> int | None:
        """How many steps of optimisation are affordable for so many elements of a slot (of all boxes); None:
        not even bounding them. Books what that costs."""
        rows = 2 * count
        work = float(rows) * self.fields.work(slot, self.fields.side(slot, rows))
        # a step is a pass backwards and one forwards, and parameters to move
        for steps in (self.sharpen, 0):
            cost = work * (1 + _STEP * steps)
            if not cost > self.left:
                self.left -= cost
                return steps
        self.tape.refined_rows += rows
        self.tape.refined_work += work
        return None

    def bound(self, slot: int, boxes: Any, elements: Any, steps: int) -> tuple[Any, Any]:
        """Rigorous bounds ``E`` from below and above of ``elements: E`` of a slot on ``boxes: E``.

        Args:
            slot, boxes, elements: what is bounded.
            steps: of optimisation for every row.
        """
        tape, k = self.tape, self.tape.kernels
        rows = 2 * len(boxes)
        tape.refined_rows += rows
        side = self.fields.side(slot, rows)
        tape.refined_work += float(rows) * self.fields.work(slot, side)
        if steps:
            for r in tape.relaxations:
                r.prepare()
        if not side:
            return self._pieces(tape, tape.plan.producer[slot], boxes, elements, steps)
        below, above = k.zeros(len(boxes)), k.zeros(len(boxes))
        places = np.asarray(k.numpy(elements)).astype(np.intp)
        for group in self.fields.tiles(slot, places, side):
            mine = k.array(group)
            below[mine], above[mine] = self._in_field(slot, k.take(boxes, mine), places[group], steps)
        return below, above

    def _in_field(self, slot: int, boxes: Any, elements: Array, steps: int) -> tuple[Any, Any]:
        """Bounds of elements that share a receptive field."""
        cut = cut_plan(self.tape.plan, slot, np.unique(elements))
        local = np.searchsorted(cut.kept[slot], elements)
        tape = cut_tape(self.tape, cut)
        return self._pieces(tape, cut.plan.producer[slot], boxes, tape.kernels.array(local), steps)

    def _pieces(self, tape: Tape, first: int, boxes: Any, elements: Any, steps: int) -> tuple[Any, Any]:
        """Bounds of elements of step ``first`` of a tape's plan, some at a time."""
        widest = max(tape.plan.sizes[s.slot] for s in tape.plan.steps[: first + 1])
        piece = max(16, self.row_bytes // (8 * widest))
        parts: list[tuple[Any, Any]] = []
        for start in range(0, len(boxes), piece):
            if tape.should_stop():
                raise Stopped
            b, e = boxes[start : start + piece], elements[start : start + piece]
            parts.append(_bound_elements(tape, first, b, e, steps))
        below, above = ([p[i] for p in parts] for i in (0, 1))
        return tape.kernels.concat(below), tape.kernels.concat(above)


def _bound_elements(tape: Tape, first: int, boxes: Any, elements: Any, steps: int) -> tuple[Any, Any]:
    """Bounds of elements of step ``first``, all rows packed."""
    k, count, source = tape.kernels, len(boxes), tape.plan.steps[first]
    dom = k.concat([boxes, boxes])
    start = first if isinstance(source, AffineStep) else first + 1

    def run(choices: list[Choice], record: list[Any], _: Multipliers | None) -> tuple[Any, Any, Any]:
        rows = _unit_rows(tape, source, elements, dom)
        a = backward(tape, rows, start, choices or None, record or None)
        return concretize(tape, a, rows), a, rows.pad

    if steps:
        value = improve(tape, dom, run, start, steps, stored=False, final=False).lower
    else:
        value = run([], [], None)[0]
    return value[:count], -value[count:]


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
