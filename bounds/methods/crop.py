"""A plan cut down to what a few elements of one slot depend on: their receptive field.

A row that starts at one element of a convolutional network is zero outside a window that grows slowly on
its way to the inputs; pushing it through whole images is mostly work on zeros. Rows whose elements lie
close together share a window, and within it the same walk (:mod:`bounds.methods.backward`) runs on a
network of its own: maps restricted to the window (:meth:`bounds.ops.base.AffineMap.restricted`), relaxations
and error terms to the same elements. Coefficients outside are zero, so bounds and what they pay for
rounding are those of the whole walk (its sums, longer there by zeros, in another order).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bounds.ball import BoundBall
from bounds.graph import Array
from bounds.methods.tape import Tape
from bounds.ops.conv import ConvMap
from bounds.ops.linear import DenseMap
from bounds.ops.structure import AddMap, ConcatMap, ScaleMap, TakeMap
from bounds.plan import AffineStep, InputStep, NonlinearStep, Plan, ProductStep, Step
from bounds.relax.base import Relaxation

# what a tile costs beside its rows, in multiply-adds
_TILE = 6e7
# tiles are worth their while where they take at most this share of the work
_WORTH = 0.6


@dataclass(frozen=True, slots=True)
class Cut:
    """What some elements of a slot depend on.

    Attributes:
        plan: the steps up to the slot's, restricted; slots keep their numbers, nonlinear steps are
            renumbered.
        kept: per slot that is left its elements (sorted).
        inputs: elements of the flat input.
        nonlinear: old indices of the nonlinear steps that are left.
    """

    plan: Plan
    kept: dict[int, Array]
    inputs: Array
    nonlinear: tuple[int, ...]

    @property
    def first(self) -> int:
        """Index of the slot's own step."""
        return len(self.plan.steps) - 1

    @property
    def work(self) -> int:
        """Multiply-adds of one evaluation."""
        return self.plan.work


def cut_plan(plan: Plan, slot: int, elements: Array) -> Cut:
    """The plan that computes ``elements`` (sorted) of a slot and nothing else, or not much."""
    need: dict[int, list[Array]] = {slot: [elements]}
    kept: dict[int, Array] = {}
    found: list[tuple[Step, tuple[Array, ...]]] = []
    for step in reversed(plan.steps[: plan.producer[slot] + 1]):
        wanted = need.pop(step.slot, None)
        if wanted is None:
            continue
        index = wanted[0] if len(wanted) == 1 else np.unique(np.concatenate(wanted))
        made, index, reads = _restricted(step, index)
        kept[step.slot] = index
        found.append((made, reads))
        for s, read in zip(step.sources, reads, strict=True):
            need.setdefault(s, []).append(read)
    return _assembled(plan, found[::-1], kept)


def live_elements(plan: Plan, slots: Mapping[int, Array]) -> dict[int, Array]:
    """Per slot ``n`` bool: elements that the listed elements of some slots depend on; left out: all do."""
    need: dict[int, list[Array]] = {slot: [elements] for slot, elements in slots.items()}
    live: dict[int, Array] = {}
    for step in reversed(plan.steps):
        wanted = need.pop(step.slot, [])
        index = np.unique(np.concatenate([np.zeros(0, dtype=np.intp), *wanted]))
        if len(index) < plan.sizes[step.slot]:
            live[step.slot] = np.zeros(plan.sizes[step.slot], dtype=bool)
            live[step.slot][index] = True
        if not len(index):
            continue
        # what a matrix reads is hardly ever less than everything, and dear to find out
        if isinstance(step, AffineStep) and isinstance(step.map, DenseMap):
            reads = tuple(np.arange(n) for n in step.map.sizes)
        else:
            reads = _restricted(step, index)[2]
        for s, read in zip(step.sources, reads, strict=True):
            need.setdefault(s, []).append(read)
    return live


def _restricted(step: Step, index: Array) -> tuple[Step, Array, tuple[Array, ...]]:
    """A step for some elements at least, which these are, and what it reads of its operands."""
    if isinstance(step, InputStep):
        return step, index, ()
    if not isinstance(step, AffineStep):
        return replace(step, size=len(index)), index, (index,) * len(step.sources)
    index = step.map.closure(index)
    if len(index) == step.map.size:
        return step, index, tuple(np.arange(n) for n in step.map.sizes)
    made, reads = step.map.restricted(index)
    return replace(step, map=made), index, reads


def _assembled(plan: Plan, found: Sequence[tuple[Step, tuple[Array, ...]]], kept: dict[int, Array]) -> Cut:
    """Restricted steps as a plan: inputs are laid end to end, and steps that read only part of what is left
    of an operand get that part through a slot of its own."""
    steps: list[Step] = []
    sizes, producer = [0] * len(plan.sizes), [-1] * len(plan.sizes)
    inputs: list[Array] = []
    nonlinear: list[int] = []

    def add(step: Step, size: int) -> None:
        if step.slot == len(sizes):
            sizes.append(0)
            producer.append(-1)
        sizes[step.slot], producer[step.slot] = size, len(steps)
        steps.append(step)

    def part(source: int, read: Array) -> int:
        if len(read) == len(kept[source]):
            return source
        taken = TakeMap(plan.kernels, np.searchsorted(kept[source], read), None, len(kept[source]))
        add(AffineStep(len(sizes), (source,), taken, 0.0, 0.0, 0.0, exact=True), len(read))
        return len(sizes) - 1

    for step, reads in found:
        size = len(kept[step.slot])
        if isinstance(step, InputStep):
            start = sum(map(len, inputs))
            inputs.append(kept[step.slot] + step.start)
            add(InputStep(step.slot, start, start + size), size)
            continue
        sources = tuple(part(s, read) for s, read in zip(step.sources, reads, strict=True))
        if isinstance(step, AffineStep):
            add(replace(step, sources=sources), size)
            continue
        nonlinear.append(step.index)
        add(_reading(step, sources, len(nonlinear) - 1), size)
    made = replace(
        plan,
        steps=tuple(steps),
        input_size=sum(map(len, inputs)),
        outputs=(),
        output_sizes=(),
        sizes=tuple(sizes),
        producer=tuple(producer),
    )
    places = np.concatenate(inputs) if inputs else np.zeros(0, dtype=np.intp)
    return Cut(made, kept, places, tuple(nonlinear))


def _reading(step: NonlinearStep, sources: tuple[int, ...], index: int) -> NonlinearStep:
    if isinstance(step, ProductStep):
        return replace(step, left=sources[0], right=sources[1], index=index)
    return replace(step, source=sources[0], index=index)


def cut_tape(tape: Tape, cut: Cut) -> Tape:
    """What is known of a block of boxes, for a part of its plan (steps the tape has not come to left out)."""
    k = tape.kernels
    at = {slot: k.array(index) for slot, index in cut.kept.items()}
    inputs = k.array(cut.inputs)
    out = Tape(
        cut.plan, k.columns(tape.centre, inputs), k.columns(tape.radius, inputs), k.take(tape.reach, inputs)
    )
    out.relaxations = [_part(tape, i, at[tape.plan.nonlinear[i].slot]) for i in cut.nonlinear]
    out.error = {s: k.take(e, at[s]) for s, e in tape.error.items() if s in at}
    nothing = {s.slot: k.zeros(cut.plan.sizes[s.slot]) for s in cut.plan.steps if s.slot not in at}
    out.error.update(nothing)
    out.magnitude = {s: k.take(m, at[s]) for s, m in tape.magnitude.items() if s in at}
    out.eta, out.should_stop = tape.eta, tape.should_stop
    if tape.ball is not None:
        b = tape.ball
        out.ball = BoundBall(k.take(b.centre, inputs), k.take(b.reach, inputs), b.radius, b.norm)
    return out


def _part(tape: Tape, index: int, at: Any) -> Relaxation:
    held = tape.relaxations[index]
    return held if len(at) == tape.plan.nonlinear[index].size else held.restricted(at)


class Fields:
    """Which elements of a slot had better share a receptive field.

    Args:
        plan: the whole plan.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._images = _images(plan)
        self._work: dict[tuple[int, int], int] = {}

    def side(self, slot: int, rows: int) -> int:
        """Places a side of the tiles into which a slot's image is divided; 0: one walk over everything is as
        good.

        Args:
            slot: where rows begin.
            rows: how many, over all places.
        """
        if slot not in self._images:
            return 0
        height, width = self._images[slot].shape
        sides = [1 << i for i in range(max(height, width).bit_length())]
        # small tiles waste least; each costs the interpreter something
        costs = [
            rows * self._work_of(slot, side) + _TILE * -(-height // side) * -(-width // side)
            for side in sides
        ]
        best = int(np.argmin(costs))
        return sides[best] if costs[best] <= _WORTH * rows * self._whole(slot) else 0

    def tiles(self, slot: int, elements: Array, side: int) -> list[Array]:
        """Positions in ``elements`` of those that lie in the same tile, for every tile."""
        image = self._images[slot]
        y, x = np.divmod(image.place[elements], image.shape[1])
        tile = (y // side) * image.shape[1] + x // side
        order = np.argsort(tile, kind="stable")
        return np.split(order, np.flatnonzero(np.diff(tile[order])) + 1)

    def work(self, slot: int, side: int) -> int:
        """Multiply-adds of an evaluation of what one tile depends on (side 0: everything does)."""
        return self._work_of(slot, side) if side else self._whole(slot)

    def _whole(self, slot: int) -> int:
        return self.plan.work_before(self.plan.producer[slot] + 1)

    def _work_of(self, slot: int, side: int) -> int:
        known = self._work.get((slot, side))
        if known is None:
            image = self._images[slot]
            y, x = np.divmod(image.place, image.shape[1])
            inside = np.ones(len(y), dtype=bool)
            for at, size in zip((y, x), image.shape, strict=True):
                first = max((size - side) // 2, 0)
                inside &= (at >= first) & (at < first + side)
            known = cut_plan(self.plan, slot, np.flatnonzero(inside)).plan.work if inside.any() else 0
            self._work[slot, side] = known
        return known


@dataclass(frozen=True, slots=True)
class _Image:
    """A slot's elements in the plane: ``shape`` (height, width), and of each the ``place`` y width + x."""

    shape: tuple[int, int]
    place: Array


def _images(plan: Plan) -> dict[int, _Image]:
    """The slots that convolutions make, and those that are computed from these element by element."""
    found: dict[int, _Image] = {}
    for step in plan.steps:
        made = _image_of(plan, step, [found.get(s) for s in step.sources])
        if made is not None:
            found[step.slot] = made
    return found


def _image_of(plan: Plan, step: Step, sources: Sequence[_Image | None]) -> _Image | None:
    if isinstance(step, AffineStep) and isinstance(step.map, ConvMap):
        g = step.map.geometry
        shape = (g.h, g.w) if step.map.flip else (g.p, g.q)
        places = shape[0] * shape[1]
        return _Image(shape, np.arange(plan.sizes[step.slot]) % places) if g.n == 1 else None
    known = next((s for s in sources if s is not None), None)
    if known is None or isinstance(step, InputStep):
        return None
    if isinstance(step, AffineStep):
        if step.map.moves is not None:
            return _Image(known.shape, known.place[np.maximum(step.map.moves, 0)])
        if isinstance(step.map, ConcatMap):
            shapes = {s.shape for s in sources if s is not None}
            if len(shapes) > 1 or None in sources:
                return None
            return _Image(known.shape, step.map.joined([s.place for s in sources if s is not None]))
        if not isinstance(step.map, ScaleMap | AddMap):
            return None
    return known if len(known.place) == plan.sizes[step.slot] else None
