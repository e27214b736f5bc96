"""The linear program of a subproblem: a guide to slopes and multipliers, and to points; never a proof.

With its intermediate bounds fixed, the best bound over all slopes and multipliers is a linear program over
inputs, steps' values and the lines that enclose nonlinear steps (Salman et al. 2019). Its dual solution holds
the slopes: where ``A`` is the multiplier that arrives at a step's value and ``r`` what its lines hand on to
the operand, the row uses the line of slope ``r / A``; what this misses is a multiplier of the operand's
interval, and so is every reduced cost. Rectifiers behind dense maps also get facets of their hulls, in rounds
of cuts (:mod:`bounds.methods.hull_cuts`). A solver's numbers are only read off here. Whoever wants a bound
computes it from them (:mod:`bounds.methods.operand_bounder`), where any choice is sound.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bounds.graph import Array
from bounds.methods.hull_cuts import Cuts, HullCuts, open_elements
from bounds.methods.program_lines import (
    CURVED_LINES,
    Lines,
    chosen_lines,
    lines_of_step,
    parameters_of,
    slopes_of,
    values_of,
    without,
)
from bounds.methods.tape import Tape
from bounds.plan import AffineStep, InputStep, Plan, ReluStep, apply_nonlinear
from bounds.relax.relu import ReluRelaxation

# stored entries of all affine maps; a larger network is not one for this
_MOST_ENTRIES = 2_000_000
# multipliers below this share of the largest one are noise of the solver
_NOISE = 2.0**-30
# a program that takes longer is no help
_SECONDS = 5.0
# the only status of scipy's solver that brings a solution; every other one brings none
_OPTIMAL, _INFEASIBLE = 0, 2
# what leaving the operands' intervals costs where they contradict each other, in units of the row: the first
# of these with which the row is positive (the larger, the more does rounding of slopes cost)
_PENALTIES = (1e1, 1e2, 1e3, 1e4, 1e5)
# values that leave a function by less than this (relatively) are as good as exact; a price for all others
_EXACT, _COSTS = 2.0**-19, 2.0**-30
# rounds of cuts: most of them, the least gain (relative) that is worth another one, and the bound (relative
# to the worst one seen) from which on none is needed
_ROUNDS, _WORTH, _CLEAR = 16, 0.03, 2.0**-8


@dataclass(frozen=True, slots=True)
class Guidance:
    """What the program says about one row over one subproblem.

    Attributes:
        value: its optimum, about; infinite where the conditions contradict each other.
        point: ``d`` inputs where it is attained.
        parameters: per relaxation and parameter ``n`` numbers in [0, 1].
        operand, beta: ``G`` multipliers of operands' intervals.
        edges: (rectified element, slopes in 1/128) of upper lines with a slope for every edge.
        operand_to_split, split_at: the operand of the step whose lines cost the row most at the optimum, and
            where to split it; -1 where no line costs anything.
    """

    value: float
    point: Array
    parameters: list[tuple[Array, ...]]
    operand: Array
    beta: Array
    operand_to_split: int
    split_at: float
    edges: list[tuple[int, Array]] = field(default_factory=list[tuple[int, "Array"]])


@dataclass(frozen=True, slots=True)
class Row:
    """``outputs . y + inputs . x + constant``, in flat vectors."""

    outputs: Array
    inputs: Array
    constant: float


_StepLines = tuple[int, list[Lines], list[Lines]]
_Inequalities = tuple[Any, Array, list[_StepLines]]


@dataclass(slots=True)
class _Read:
    """What a row makes of a dual solution: parameters; what they ``miss`` per column; what has ``arrived`` at
    the value of every nonlinear step; and lines with a slope for every edge."""

    parameters: list[tuple[Array, ...]]
    miss: Array
    arrived: list[Array]
    edges: list[tuple[int, Array]]


class NodeProgram:
    """Programs of the subproblems of one anchor; what they share is built once.

    Args:
        plan: the network.
        anchor: its tape of one box, for cuts; None: without.
    """

    def __init__(self, plan: Plan, anchor: Tape | None = None) -> None:
        self.plan = plan
        self._hull = None if anchor is None else HullCuts(anchor)
        self._scale = 0.0  # the worst optimum seen
        self.start = np.cumsum([0, *plan.sizes])
        self.columns = int(self.start[-1])
        self._equalities = self._affine_rows()
        self._first_operand: dict[int, int] = {}
        for operand in plan.operands:
            self._first_operand.setdefault(operand.slot, operand.offset)

    @staticmethod
    def rows_of(plan: Plan) -> int:
        """How many rows a program has, roughly; and infinitely many (a large number) where maps are large."""
        entries = 0
        for step in plan.steps:
            if isinstance(step, AffineStep):
                entries += step.map.size * step.map.terms * len(step.sources)
                # maps are read off by units, which costs a product per operand element
                entries += 0 if step.map.moves is not None else sum(step.map.sizes) * step.map.size // 8
        if entries > _MOST_ENTRIES:
            return 1 << 30
        affine = sum(s.map.size for s in plan.steps if isinstance(s, AffineStep))
        return affine + 3 * plan.neurons + 2 * CURVED_LINES * plan.scalars + 4 * plan.products

    def _affine_rows(self) -> tuple[Any, Array]:
        """``value - sum W x = b`` of all affine steps."""
        from scipy import sparse

        rows: list[Array] = []
        columns: list[Array] = []
        values: list[Array] = []
        constants: list[Array] = []
        count = 0
        for step in self.plan.steps:
            if not isinstance(step, AffineStep):
                continue
            n, k = step.map.size, step.map.kernels
            rows.append(count + np.arange(n))
            columns.append(self.start[step.slot] + np.arange(n))
            values.append(np.ones(n))
            for s, part in zip(step.sources, step.map.rows(k.array(np.arange(n))), strict=True):
                matrix = np.asarray(k.numpy(part))
                at = np.nonzero(matrix)
                rows.append(count + at[0])
                columns.append(self.start[s] + at[1])
                values.append(-matrix[at])
            bias = step.map.bias
            constants.append(np.zeros(n) if bias is None else np.asarray(k.numpy(bias)))
            count += n
        if not count:
            return None, np.zeros(0)
        entries = np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))
        return sparse.csr_array(entries, shape=(count, self.columns)), np.concatenate(constants)

    def solve(
        self,
        tape: Tape,
        box: int,
        row: Row,
        fixed: list[tuple[Array, ...]] | None = None,
        edges: list[tuple[int, Array]] | None = None,
    ) -> Guidance | None:
        """The program of one row over subproblem ``box`` of a tape.

        Args:
            tape, box: whose intervals and lines.
            row: over outputs and inputs, and its constant.
            fixed: parameters of all lines; only multipliers are free then.
            edges: with ``fixed``, the lines with a slope for every edge.

        Returns:
            What its optimum says; None where there is none (the solver failed, or all is unbounded).
        """
        cost = self._cost(row.outputs, row.inputs)
        low, high = self._ranges(tape, box)
        lines = self._inequalities(tape, box, fixed, edges or [])
        open_ = {} if self._hull is None else open_elements(tape, box, self._hull.layers)
        last, cuts, found = -np.inf, list[Cuts](), None
        status, unequal = _INFEASIBLE, (lines[0], lines[1])
        for last_round in range(_ROUNDS, -1, -1):
            cuts = self._cuts(open_, edges if fixed is not None else None)
            unequal = self._with_cuts(lines, cuts)
            status, found = _INFEASIBLE, None
            if np.all(low <= high):
                status, found = _optimum(cost, unequal, self._equalities, (low, high))
            if found is None or self._hull is None or fixed is not None or not last_round:
                break
            value = float(cost @ found[0]) + row.constant
            self._scale = max(self._scale, -value)
            if value > _CLEAR * self._scale or value - last < _WORTH * abs(value):
                break
            last = value
            if not self._hull.separate(open_, {s: found[0][self._part(s)] for s in self._slots}):
                break
        infeasible = status == _INFEASIBLE
        if infeasible:
            found = self._elastic(cost, row.constant, unequal, (low, high))
        if found is None:
            return None
        x, price, reduced = found
        point = np.concatenate([x[self._part(s.slot)] for s in self.plan.steps if isinstance(s, InputStep)])
        value = np.inf if infeasible else float(cost @ x) + row.constant
        read = self._read(tape, box, (lines[2], cuts), price, reduced, fixed)
        multipliers = self._multipliers(read.miss, (low, high))
        place = (-1, 0.0) if infeasible else self._worst(tape, box, x, read.arrived)
        return Guidance(value, point, read.parameters, *multipliers, *place, read.edges)

    @property
    def _slots(self) -> set[int]:
        """What cuts are about."""
        layers = () if self._hull is None else self._hull.layers.values()
        return {s for v in layers for s in (v.step.slot, v.step.relu.slot)}

    def _cuts(self, open_: dict[int, Array], edges: list[tuple[int, Array]] | None) -> list[Cuts]:
        if self._hull is None:
            return []
        return self._hull.current(open_) if edges is None else self._hull.fixed(edges)

    def _with_cuts(self, lines: _Inequalities, cuts: list[Cuts]) -> tuple[Any, Array]:
        """Lines and cuts as ``matrix v <= shift``, in this order."""
        from scipy import sparse

        matrix, shift, _ = lines
        if not cuts or self._hull is None:
            return matrix, shift
        rows: list[Any] = [] if matrix is None else [matrix]
        for c in cuts:
            step, count = self._hull.layers[c.index].step, len(c.element)
            at, edge = np.arange(count), np.nonzero(c.a)
            columns = np.concatenate(
                [self.start[step.relu.slot] + c.element, self.start[step.slot] + edge[1]]
            )
            values = np.concatenate([np.ones(count), -c.a[edge]])
            entries = values, (np.concatenate([at, edge[0]]), columns)
            rows.append(sparse.csr_array(entries, shape=(count, self.columns)))
        return sparse.csr_array(sparse.vstack(rows)), np.concatenate([shift, *(c.c for c in cuts)])

    def _elastic(
        self, cost: Array, constant: float, lines: tuple[Any, Array], ends: tuple[Array, Array]
    ) -> tuple[Array, Array, Array] | None:
        """The optimum where operands may leave their intervals, at a price: its multipliers show that the
        conditions contradict each other."""
        from scipy import sparse

        (matrix, shift), (low, high), (equal, right) = lines, (v.copy() for v in ends), self._equalities
        operands = np.flatnonzero(self._is_operand() & np.isfinite(low) & np.isfinite(high))
        count = len(operands)
        unit = sparse.csr_array((np.ones(count), (np.arange(count), operands)), (count, self.columns))
        ones = sparse.csr_array(np.ones((count, 1)))
        # one more column: how far all of them are left
        parts = [[unit, -ones], [-unit, -ones]]
        if matrix is not None:
            parts.insert(0, [matrix, None])
        walls = np.concatenate([shift, high[operands], -low[operands]])
        if equal is not None:
            equal = sparse.csr_array(sparse.hstack([equal, sparse.csr_array((equal.shape[0], 1))]))
        low[operands], high[operands] = -np.inf, np.inf
        rows = sparse.csr_array(sparse.bmat(parts)), walls
        limits = np.append(low, 0), np.append(high, np.inf)
        found = None
        for penalty in _PENALTIES:
            whole = np.append(cost, penalty * max(1.0, float(np.abs(cost).max())))
            _, found = _optimum(whole, rows, (equal, right), limits)
            if found is None or whole @ found[0] + constant > 1:
                break
        if found is None:
            return None
        x, price, reduced = found
        above, below = np.split(price[len(shift) :], 2)
        reduced = reduced[:-1].copy()
        reduced[operands] += below - above
        return x[:-1], price[: len(shift)], reduced

    def _worst(self, tape: Tape, box: int, x: Array, above: list[Array]) -> tuple[int, float]:
        """Number of the operand whose step's lines cost most at the optimum ``x``, and where to split it."""
        k, best, where = tape.kernels, 0.0, (-1, 0.0)
        for step, relaxation, price in zip(self.plan.nonlinear, tape.relaxations, above, strict=True):
            at = [x[self._part(s)] for s in step.sources]
            real = np.asarray(apply_nonlinear(k, step, [k.array(v[None]) for v in at]))[0]
            gap = np.abs(x[self._part(step.slot)] - np.asarray(k.numpy(real)))
            # lines without a price are not exact either, and a split there moves the optimum all the same
            cost = np.where(gap > _EXACT * (1 + np.abs(real)), gap * (np.abs(price) + _COSTS), 0)
            ends = [[np.asarray(k.numpy(v))[box] for v in pair] for pair in relaxation.intervals]
            widths = [hi - lo for lo, hi in ends]
            i = int(np.argmax(np.where(np.isfinite(cost), cost, 0)))
            position = int(np.argmax([w[i] for w in widths]))
            lo, hi = (float(v[i]) for v in ends[position])
            point = 0.0 if isinstance(relaxation, ReluRelaxation) else lo / 2 + hi / 2
            if cost[i] > best and lo < np.float32(point) < hi:
                best = float(cost[i])
                where = self._first_operand[step.sources[position]] + i, float(np.float32(point))
        return where

    def _part(self, slot: int) -> slice:
        return slice(int(self.start[slot]), int(self.start[slot + 1]))

    def _is_operand(self) -> Array:
        found = np.zeros(self.columns, dtype=bool)
        for slot in self._first_operand:
            if not isinstance(self.plan.steps[self.plan.producer[slot]], InputStep):
                found[self._part(slot)] = True
        return found

    def _cost(self, outputs: Array, inputs: Array) -> Array:
        cost, start = np.zeros(self.columns), 0
        for slot, size in zip(self.plan.outputs, self.plan.output_sizes, strict=True):
            cost[self._part(slot)] += outputs[start : start + size]
            start += size
        for step in self.plan.steps:
            if isinstance(step, InputStep):
                cost[self._part(step.slot)] += inputs[step.start : step.stop]
        return cost

    def _ranges(self, tape: Tape, box: int) -> tuple[Array, Array]:
        """Ends of all columns: inputs, and operands of nonlinear steps."""
        k = tape.kernels
        low, high = np.full(self.columns, -np.inf), np.full(self.columns, np.inf)
        ends = [np.asarray(k.numpy(e))[box] for e in tape.ends]
        for step in self.plan.steps:
            if isinstance(step, InputStep):
                low[self._part(step.slot)] = ends[0][step.start : step.stop]
                high[self._part(step.slot)] = ends[1][step.start : step.stop]
        for step, relaxation in zip(self.plan.nonlinear, tape.relaxations, strict=True):
            for slot, (lo, hi) in zip(step.sources, relaxation.intervals, strict=True):
                part = self._part(slot)
                low[part] = np.maximum(low[part], np.asarray(k.numpy(lo))[box])
                high[part] = np.minimum(high[part], np.asarray(k.numpy(hi))[box])
        return low, high

    def _inequalities(
        self,
        tape: Tape,
        box: int,
        fixed: list[tuple[Array, ...]] | None,
        edges: list[tuple[int, Array]],
    ) -> _Inequalities:
        """Lines of all nonlinear steps as ``matrix v <= shift``, and the lines themselves in that order.

        Elements whose line has a slope for every edge (``edges``) have no other one above.
        """
        from scipy import sparse

        rows: list[Array] = []
        columns: list[Array] = []
        values: list[Array] = []
        shifts: list[Array] = []
        kept: list[tuple[int, list[Lines], list[Lines]]] = []
        count = 0
        for step, relaxation in zip(self.plan.nonlinear, tape.relaxations, strict=True):
            chosen = None if fixed is None else fixed[step.index]
            sides = (
                lines_of_step(relaxation, box) if chosen is None else chosen_lines(relaxation, box, chosen)
            )
            if edges and isinstance(step, ReluStep):
                own = np.array([n for n, _ in edges]) - step.offset
                sides = sides[0], [without(part, own) for part in sides[1]]
            kept.append((step.index, *sides))
            for sign, side in zip((1.0, -1.0), sides, strict=True):
                for lines in side:
                    m = len(lines.element)
                    at = count + np.arange(m)
                    rows.append(at)
                    columns.append(self.start[step.slot] + lines.element)
                    values.append(np.full(m, -sign))
                    for slot, slope in zip(step.sources, lines.slopes, strict=True):
                        rows.append(at)
                        columns.append(self.start[slot] + lines.element)
                        values.append(sign * slope)
                    shifts.append(-sign * lines.shift)
                    count += m
        if not count:
            return None, np.zeros(0), kept
        entries = np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))
        return sparse.csr_array(entries, shape=(count, self.columns)), np.concatenate(shifts), kept

    def _read(
        self,
        tape: Tape,
        box: int,
        lines: tuple[list[_StepLines], list[Cuts]],
        price: Array,
        reduced: Array,
        fixed: list[tuple[Array, ...]] | None,
    ) -> _Read:
        """From the prices ``>= 0`` of lines and cuts and the columns' reduced costs what a row is made of."""
        out = _Read([], reduced.copy(), [], [])
        start = 0
        at_cuts = sum(len(part.element) for _, *sides in lines[0] for side in sides for part in side)
        paid_cuts: dict[int, tuple[Cuts, Array]] = {}
        for cuts in lines[1]:
            paid_cuts[cuts.index] = cuts, price[at_cuts : at_cuts + len(cuts.element)]
            at_cuts += len(cuts.element)
        for (index, *sides), relaxation in zip(lines[0], tape.relaxations, strict=True):
            step = self.plan.nonlinear[index]
            above, handed = np.zeros(step.size), [np.zeros(step.size) for _ in step.sources]
            weights: list[list[Array]] = []
            for sign, side in zip((1.0, -1.0), sides, strict=True):
                weights.append([])
                for part in side:
                    paid = price[start : start + len(part.element)]
                    start += len(part.element)
                    full = np.zeros(step.size)
                    full[part.element] = paid
                    weights[-1].append(full)
                    np.add.at(above, part.element, sign * paid)
                    for k, slope in enumerate(part.slopes):
                        np.add.at(handed[k], part.element, sign * paid * slope)
            mine = np.zeros(0, dtype=np.int64)
            if index in paid_cuts and self._hull is not None:
                cuts, paid = paid_cuts[index]
                np.subtract.at(above, cuts.element, paid)
                chord, slope = weights[1][0], values_of(relaxation, "upper", box)
                mixed = self._hull.mixed(cuts, paid, above, chord, slope)
                if fixed is None:
                    self._hull.paid(cuts, paid)
                mine = np.array([e for e, _ in mixed], dtype=np.int64)
                handed[0][mine] += (chord * slope)[mine]  # the line takes that over as well
                assert isinstance(step, ReluStep)
                out.edges.extend((step.offset + e, t) for e, t in mixed)
            found = fixed[index] if fixed is not None else None
            found = found or parameters_of(relaxation, box, above, handed, weights)
            out.parameters.append(found)
            out.arrived.append(above)
            for k, slope in enumerate(slopes_of(relaxation, box, found, above)):
                slope[mine] = 0  # nothing is handed to the operand itself
                out.miss[self._part(step.sources[k])] += slope * above - handed[k]
        return out

    def _multipliers(self, miss: Array, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        """Those of operands that are worth having, by number of the operand."""
        operand: list[Array] = []
        beta: list[Array] = []
        usable = self._is_operand() & np.isfinite(np.where(miss > 0, *ends))
        size = np.where(usable, np.abs(miss), 0)
        least = _NOISE * max(1.0, float(size.max(initial=0.0)))
        for slot, first in self._first_operand.items():
            part = self._part(slot)
            element = np.flatnonzero(size[part] > least)
            operand.append(first + element)
            beta.append(miss[part][element])
        if not operand:
            return np.zeros(0, dtype=np.int64), np.zeros(0)
        return np.concatenate(operand).astype(np.int64), np.concatenate(beta)


def _optimum(
    cost: Array, unequal: tuple[Any, Array], equal: tuple[Any, Array], ends: tuple[Array, Array]
) -> tuple[int, tuple[Array, Array, Array] | None]:
    """The solver's status; at an optimum the point, prices of inequalities, and reduced costs."""
    from scipy.optimize import linprog

    rows, walls = (None, None) if unequal[0] is None else unequal
    maps, constants = (None, None) if equal[0] is None else equal
    found: Any = linprog(
        cost,
        rows,
        walls,
        maps,
        constants,
        np.column_stack(ends),
        method="highs",
        options={"time_limit": _SECONDS},
    )
    if found.status != _OPTIMAL or found.x is None:
        return int(found.status) if found.status in (_OPTIMAL, _INFEASIBLE) else -1, None
    price = np.zeros(0) if rows is None else -np.asarray(found.ineqlin.marginals)
    reduced = np.asarray(found.lower.marginals) + np.asarray(found.upper.marginals)
    known = all(np.all(np.isfinite(v)) for v in (found.x, price, reduced))
    return (_OPTIMAL, (np.asarray(found.x), price, reduced)) if known else (-1, None)
