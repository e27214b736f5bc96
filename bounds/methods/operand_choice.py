"""Where to split a subproblem: the operand, and the point.

Every element's *loss* is what its chosen lines cost the row at the row's own minimiser. The elements with the
largest losses are tried: both children are bounded for real, though not improved, and the element whose
children are best is taken. (Filtered smart branching, De Palma et al. 2021, with scores for any nonlinear
step; the BBPS scores of Shi et al. 2024 serve the same end and estimate from stored rows what is bounded
here.)

A child's new lines may cross its parent's outside the child's interval, where the row may well be least. So
each
child is bounded twice: without a multiplier for the new split, and with the one that keeps the row's slope in
the operand (with A the row's coefficient, k and k' the old and new slopes: ``beta = A (k' - k)``). With the
latter no child of a scalar step is bounded worse than its parent: the new row exceeds the old one by a
constant, which is what the lines differ by at an end of the child's interval.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bounds.graph import Array
from bounds.methods.edge_slopes import edge_losses
from bounds.methods.improve import row_points
from bounds.methods.multipliers import multipliers_of
from bounds.methods.objective import CompiledObjectives, objective_rows
from bounds.methods.operand_bounder import OperandBounds
from bounds.methods.splits import Splits
from bounds.plan import NonlinearStep, Operand, ScalarStep
from bounds.relax.base import Choice, Relaxation
from bounds.relax.branch_points import branch_point
from bounds.relax.relu import ReluRelaxation

# weight of the better child's bound against the worse one's
_BETTER = 0.25
# intervals narrower than this share of their ends are not split: float32 cannot halve them much longer
_LEAST_WIDTH = 2.0**-18


@dataclass(frozen=True, slots=True)
class OperandChoice:
    """Where to split ``D`` subproblems: up to ``m`` places each, the best first.

    Attributes:
        operand: ``D m`` number of the operand, -1 for nowhere.
        point: ``D m`` float32.
        lower: ``D m 2`` rigorous lower bounds of the left and right child of every single split.
        beta: ``D m 2`` multipliers of the new split to begin with.
    """

    operand: Array
    point: Array
    lower: Array
    beta: Array


@dataclass(frozen=True, slots=True)
class _Candidates:
    """``C`` elements that may be split: row, index of the operand, element in its slot, point, and what its
    lines cost the row."""

    row: Array
    operand: Array
    element: Array
    point: Array
    loss: Array

    def __len__(self) -> int:
        return len(self.row)


def choose_operands(
    found: OperandBounds,
    objectives: CompiledObjectives,
    splits: Splits,
    picks: Array,
    index: Array,
    count: int,
    most: int = 1,
) -> OperandChoice:
    """Picks an operand and a point for subproblems ``index: D'`` of a block.

    Args:
        found: bounds of the whole block.
        objectives: in the block's precision.
        splits, picks: of the whole block; the splits' own multipliers are not read but those in ``found``.
        index: subproblems to split.
        count: candidates that are tried for each.
        most: places wanted for each (m).
    """
    return _Chooser(found, objectives, splits, picks, index).run(count, most)


class _Chooser:
    """One block's choice; rows are the subproblems to split (``R``)."""

    def __init__(
        self, found: OperandBounds, objectives: CompiledObjectives, splits: Splits, picks: Array, index: Array
    ) -> None:
        self.tape, self.objectives, self.index = found.tape, objectives, index
        self.plan, self.k = found.tape.plan, found.tape.kernels
        self.operands = self.plan.operands
        self.picks = picks[index]
        self.splits = splits.take(index)
        self.splits.beta = found.beta[index]
        dom = self.k.array(index)
        self.points = None if found.points is None else self.k.array(found.points[index])
        self.choices = [tuple(self.k.take(c, dom) for c in choice) for choice in found.best.choices]
        self.record: list[Any] = [None] * len(self.choices)

    def run(self, count: int, most: int) -> OperandChoice:
        rows = len(self.index)
        chosen = OperandChoice(
            np.full((rows, most), -1, dtype=np.int32),
            np.zeros((rows, most), dtype=np.float32),
            np.full((rows, most, 2), -np.inf),
            np.zeros((rows, most, 2), dtype=np.float32),
        )
        candidates = self._candidates(self._losses(), max(count, most))
        if not len(candidates):
            return chosen
        if self.points is None:
            lower, beta = self._tried(candidates)
        else:  # a child bounded with its parent's lines shows nothing
            lower = np.full((2, len(candidates)), -np.inf)
            beta = np.zeros((2, len(candidates)), dtype=np.float32)
        small, large = np.minimum(lower.min(axis=0), 0), np.minimum(lower.max(axis=0), 0)
        score = -(small + _BETTER * large) if self.points is None else -candidates.loss
        order = np.lexsort((score, candidates.row))
        row = candidates.row[order]
        rank = np.arange(len(row)) - np.searchsorted(row, row)
        order, at = order[rank < most], (row[rank < most], rank[rank < most])
        offsets = np.array([o.offset for o in self.operands])
        chosen.operand[at] = offsets[candidates.operand[order]] + candidates.element[order]
        chosen.point[at] = candidates.point[order]
        chosen.lower[at], chosen.beta[at] = lower[:, order].T, beta[:, order].T
        return chosen

    def _losses(self) -> dict[int, tuple[int, Array]]:
        """Per slot that can be split the operand that stands for it, and ``R n`` losses."""
        k, dom = self.k, self.k.array(self.index)
        rows = objective_rows(self.tape, self.objectives, dom, k.array(self.picks))
        multipliers = multipliers_of(self.tape, self.splits, dom)
        a = rows(self.choices, self.record, multipliers)[1]
        steps = len(self.plan.steps)
        values = row_points(self.tape, dom, steps, self.choices, a, self.record, multipliers, self.points)
        losses: dict[int, tuple[int, Array]] = {}
        for i, operand in enumerate(self.operands):
            arrived, relaxation = self.record[operand.index], self.tape.relaxations[operand.index]
            if arrived is None:
                continue
            at = tuple(values[s] for s in self.plan.nonlinear[operand.index].sources)
            loss = k.numpy(relaxation.losses(arrived, dom, self.choices[operand.index], at))
            lines = self.tape.edges.get(operand.index)
            if lines is not None:
                loss = k.numpy(edge_losses(self.tape, lines, arrived, loss, (at[0], values[lines.slot]), dom))
            ends = (k.numpy(k.take(v, dom)) for v in relaxation.intervals[operand.position])
            loss = np.where(_splittable(relaxation, *ends) & (loss > 0), loss, 0)
            stands, held = losses.get(operand.slot, (i, 0))
            losses[operand.slot] = stands, held + loss
        return losses

    def _candidates(self, losses: dict[int, tuple[int, Array]], count: int) -> _Candidates:
        """The elements with the largest losses of each row."""
        nothing = np.zeros(0, dtype=np.int64)
        if not losses:
            return _Candidates(nothing, nothing, nothing, nothing, nothing)
        table = np.concatenate([loss for _, loss in losses.values()], axis=1)
        count = min(count, table.shape[1])
        top = np.argpartition(-table, count - 1, axis=1)[:, :count].ravel()
        row = np.repeat(np.arange(len(table)), count)
        keep = table[row, top] > 0
        row, top = row[keep], top[keep]
        lost = table[row, top]
        starts = np.cumsum([0, *(loss.shape[1] for _, loss in losses.values())])
        which = np.searchsorted(starts, top, side="right") - 1
        operand = np.array([stands for stands, _ in losses.values()])[which]
        element = top - starts[which]
        point, inside = np.zeros(len(row), dtype=np.float32), np.zeros(len(row), dtype=bool)
        for i in np.unique(operand):
            mine = np.flatnonzero(operand == i)
            lo, hi = self._interval(self.operands[i], row[mine], element[mine])
            point[mine] = _points(self.plan.nonlinear[self.operands[i].index], lo, hi)
            inside[mine] = (point[mine] > lo) & (point[mine] < hi)
        return _Candidates(row[inside], operand[inside], element[inside], point[inside], lost[inside])

    def _interval(self, operand: Operand, row: Array, element: Array) -> tuple[Array, Array]:
        k, at = self.k, (self.k.array(self.index[row]), self.k.array(element))
        lo, hi = self.tape.relaxations[operand.index].intervals[operand.position]
        return np.asarray(k.numpy(lo[at])), np.asarray(k.numpy(hi[at]))

    def _tried(self, candidates: _Candidates) -> tuple[Array, Array]:
        """``2 C`` bounds of the candidates' left and right children, and multipliers of their splits."""
        k, count = self.k, len(candidates)
        many = np.tile(candidates.row, 2)
        dom = k.array(self.index[many])
        wide = [
            tuple(k.take(c, k.array(many)) for c in relaxation.explicit(k.array(self.index), choice))
            for relaxation, choice in zip(self.tape.relaxations, self.choices, strict=True)
        ]
        beta = np.zeros(2 * count)
        ends = self._ends(candidates)
        slots = np.array([o.slot for o in self.operands])[candidates.operand]
        for step, relaxation in zip(self.plan.nonlinear, self.tape.relaxations, strict=True):
            mine = np.flatnonzero(np.isin(slots, step.sources))
            if len(mine):
                self._narrow(step, relaxation, candidates, mine, slots, wide[step.index], beta)
        run = objective_rows(self.tape, self.objectives, dom, k.array(self.picks[many]))
        best, held = np.full(2 * count, -np.inf), np.zeros(2 * count, dtype=np.float32)
        for tried in (beta.astype(np.float32), held):
            splits = self._extended(candidates, tried)
            multipliers = multipliers_of(self.tape, splits, dom, ends)
            lower = np.asarray(k.numpy(run(wide, [None] * len(wide), multipliers)[0]))
            held = np.where(lower > best, tried, held)
            best = np.fmax(lower, best)
        return best.reshape(2, -1), held.reshape(2, -1)

    def _ends(self, candidates: _Candidates) -> tuple[Array, Array]:
        """``2 C`` each: the intervals of the split operands in the children."""
        count = len(candidates)
        lo, hi = np.zeros(2 * count), np.zeros(2 * count)
        for i in np.unique(candidates.operand):
            mine = np.flatnonzero(candidates.operand == i)
            low, high = self._interval(self.operands[i], candidates.row[mine], candidates.element[mine])
            lo[mine], hi[mine + count] = low, high
        hi[:count] = lo[count:] = candidates.point
        return lo, hi

    def _narrow(
        self,
        step: NonlinearStep,
        relaxation: Relaxation,
        candidates: _Candidates,
        mine: Array,
        slots: Array,
        wide: Choice,
        beta: Array,
    ) -> None:
        """Puts the children's lines of one step into choices of ``2 C`` rows, and adds up multipliers."""
        k, count = self.k, len(mine)
        both = np.concatenate([mine, mine + len(candidates)])
        place = k.array(both), k.array(np.tile(candidates.element[mine], 2))
        at = np.tile(candidates.point[mine].astype(np.float64), 2)
        left = np.arange(2 * count) < count
        intervals: list[tuple[Any, Any]] = []
        box = k.array(self.index[candidates.row[mine]]), k.array(candidates.element[mine])
        for source, ends in zip(step.sources, relaxation.intervals, strict=True):
            low, high = (np.tile(np.asarray(k.numpy(v[box])), 2) for v in ends)
            cut = np.tile(slots[mine] == source, 2)
            intervals.append(
                (k.array(np.where(cut & ~left, at, low)), k.array(np.where(cut & left, at, high)))
            )
        held = tuple(c[place] for c in wide)
        lines = relaxation.lines_on(held, tuple(intervals))
        arrived = self.record[step.index]
        if arrived is not None:
            weight = k.numpy(arrived[k.array(candidates.row[mine]), k.array(candidates.element[mine])])
            weight = np.tile(np.asarray(weight), 2)
            for position, source in enumerate(step.sources):
                old, new = (
                    [np.asarray(k.numpy(v)) for v in relaxation.slopes(c, position)] for c in (held, lines)
                )
                change = np.where(weight > 0, new[0] - old[0], new[1] - old[1])
                beta[both] += np.where(np.tile(slots[mine] == source, 2), weight * change, 0)
        for part, new_part in zip(wide, lines, strict=True):
            part[place] = new_part

    def _extended(self, candidates: _Candidates, beta: Array) -> Splits:
        """Splits of the ``2 C`` children."""
        offsets = np.array([o.offset for o in self.operands])
        operand = offsets[candidates.operand] + candidates.element
        parent, node = self.splits.take(candidates.row), np.zeros(len(candidates), dtype=np.int64)
        halves = beta.reshape(2, -1)
        children = (
            parent.with_split(operand, candidates.point, side, node, halves[i])
            for i, side in enumerate((-1, 1))
        )
        return Splits.concat(list(children))


def _splittable(relaxation: Relaxation, lo: Array, hi: Array) -> Array:
    if isinstance(relaxation, ReluRelaxation):
        return (lo < 0) & (hi > 0)
    return np.asarray(hi - lo > _LEAST_WIDTH * np.maximum(np.abs(lo), np.abs(hi)))


def _points(step: NonlinearStep, lo: Array, hi: Array) -> Array:
    """Where to split intervals of an operand, as float32 numbers."""
    if isinstance(step, ScalarStep):
        return branch_point(step.function, lo, hi).astype(np.float32)
    if len(step.sources) > 1:  # the gap of a product is least when halves are equal
        return (lo / 2 + hi / 2).astype(np.float32)
    return np.zeros(len(lo), dtype=np.float32)
