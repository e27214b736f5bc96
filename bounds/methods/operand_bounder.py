"""Bounds subproblems that differ from one box by splits of operands.

The bound of a subproblem is one row, improved over all slopes and multipliers: alpha- and beta-CROWN for any
nonlinear step (Xu et al. 2021; Wang et al. 2021; Shi et al. 2024).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from bounds.graph import Array
from bounds.methods.backward import minimiser
from bounds.methods.edge_ascent import EdgeAscent, even_slopes
from bounds.methods.edge_slopes import EdgeLayer, EdgeLines, EdgeSlopes, edge_lines, edge_steps, lines_of
from bounds.methods.improve import FRESH, FRESH_EDGES, WARM, WARM_EDGES, Improved, improve
from bounds.methods.inherit import inherit
from bounds.methods.multipliers import multipliers_of
from bounds.methods.objective import CompiledObjectives, objective_rows
from bounds.methods.parameters import Parameters
from bounds.methods.splits import Splits
from bounds.methods.tape import Tape
from bounds.plan import InputStep
from bounds.relax.base import Choice
from bounds.relax.elementwise import ScalarRelaxation
from bounds.relax.product import ProductRelaxation
from bounds.relax.relu import SLOPE_STEPS, ReluRelaxation

# a scale of multipliers: the mean magnitude of a row's coefficients in the split operand's slot
_LEAST_SCALE = 1e-3


@dataclass(slots=True)
class OperandBounds:
    """What bounding ``D`` subproblems gave.

    Attributes:
        lower, pad: ``D`` rigorous lower bound of each subproblem's row, and its rounding share.
        guesses: ``D d`` where the row's linear bound is least.
        parameters: ``D A`` uint8, all relaxations' parameters in 1/128, to begin with next time.
        beta: ``D K`` float32 multipliers.
        best: rows as they were found, for evidence and for choosing splits.
        tape: the subproblems' relaxations.
        edges: upper lines with a slope for every edge that the rows use.
        points: ``D d`` means of the rows' minimisers, where there are such lines.
    """

    lower: Array
    pad: Array
    guesses: Array
    parameters: Array
    beta: Array
    best: Improved
    tape: Tape
    edges: EdgeSlopes
    points: Array | None = None


class OperandBounder:
    """Bounds subproblems of one box (the anchor's) and one set of objectives.

    Args:
        anchor: a tape of one box, all of whose intermediate bounds the subproblems inherit.
        objectives: in the anchor's precision.
    """

    def __init__(self, anchor: Tape, objectives: CompiledObjectives) -> None:
        self.anchor, self.objectives = anchor, objectives
        self.plan, self.kernels = anchor.plan, anchor.kernels
        self.operands = anchor.plan.operands
        self.hull = False
        self._known: dict[int, EdgeLayer] | None = None
        self._elements: dict[int, Array] = {}
        for relaxation in anchor.relaxations:
            relaxation.prepare()

    @property
    def _layers(self) -> dict[int, EdgeLayer]:
        """By index of a rectifier what lines with a slope for every edge need; made on first use."""
        if self._known is None:
            steps = edge_steps(self.plan)
            self._known = {i: EdgeLayer.of(self.anchor, s) for i, s in steps.items()}
        return self._known

    def use_hulls(self) -> bool:
        """Gives elements of rectifiers that read the input through a dense map slopes for every edge, from
        now on.

        (Behind other layers intervals that were bounded backwards are worth more.) False if there are none.
        """
        for index, layer in self._layers.items():
            if isinstance(self.plan.steps[self.plan.producer[layer.step.slot]], InputStep):
                lo, hi = (self.kernels.numpy(v)[0] for v in self.anchor.relaxations[index].intervals[0])
                self._elements[index] = np.flatnonzero((lo < 0) & (hi > 0))
        self.hull = self.edges > 0
        return self.hull

    @property
    def edges(self) -> int:
        """How many slopes of edges a row has."""
        return sum(len(e) * self._layers[i].step.dense.inner for i, e in self._elements.items())

    def intervals(self) -> tuple[Array, Array]:
        """Both ends of every operand's interval on the anchor's box (by number)."""
        ends: list[list[Array]] = [[], []]
        for o in self.operands:
            for held, end in zip(ends, self.anchor.relaxations[o.index].intervals[o.position], strict=True):
                held.append(np.asarray(self.kernels.numpy(end))[0].reshape(-1))
        low, high = (np.concatenate(e) if e else np.zeros(0) for e in ends)
        return low, high

    @property
    def parameters(self) -> int:
        """A: how many parameters a row has."""
        return self._plain + (self.edges if self.hull else 0)

    @property
    def _plain(self) -> int:
        steps = zip(self.anchor.relaxations, self.plan.nonlinear, strict=True)
        return sum(r.parameters * s.size for r, s in steps)

    def first_parameters(self, count: int) -> Array:
        """``count A``: the anchor's own, to begin with."""
        k = self.kernels
        dom = k.array(np.zeros(count, dtype=np.int64))
        parts = [self._packed([r.initial(dom) for r in self.anchor.relaxations])]
        if self.hull:
            for index, element in self._elements.items():
                even = even_slopes(self._layers[index], element).reshape(1, -1)
                parts.append(np.repeat(even, count, axis=0))
        return np.concatenate(parts, axis=1)

    def packed(self, splits: Splits, held: Parameters) -> Array:
        """``D A`` uint8: parameters to begin with, whose lines are as near as may be to those in ``held: D``.

        Slopes of smooth functions become places between the subproblem's own supporting lines.
        """
        k = self.kernels
        tape = inherit(self.anchor, splits)
        out = self.first_parameters(len(splits))
        operands = {(o.index, o.position): o for o in self.operands}
        neurons, scalars, products = self.plan.neurons, self.plan.scalars, self.plan.products
        start = 0
        for step, relaxation in zip(self.plan.nonlinear, tape.relaxations, strict=True):
            first = operands[step.index, 0].offset
            for i in range(relaxation.parameters):
                column = slice(start + i * step.size, start + (i + 1) * step.size)
                if isinstance(relaxation, ReluRelaxation):
                    out[:, column] = held.slopes[:, first : first + step.size]
                elif isinstance(relaxation, ProductRelaxation):
                    at = first - neurons - scalars + i * products
                    out[:, column] = held.mixes[:, at : at + step.size]
                elif isinstance(relaxation, ScalarRelaxation) and relaxation.sides:
                    at = first - neurons + i * scalars
                    side = relaxation.sides[i]
                    near, width = (k.numpy(v) for v in (side.first, side.rise * relaxation.steps))
                    place = (held.lines[:, at : at + step.size] - near) / np.where(width != 0, width, np.inf)
                    out[:, column] = np.rint(np.clip(place, 0, 1) * SLOPE_STEPS)
            start += relaxation.parameters * step.size
        return np.minimum(out, SLOPE_STEPS)

    def bound(
        self,
        splits: Splits,
        picks: Array,
        parameters: Array | None,
        iterations: int,
        *,
        stored: bool = False,
        edges: EdgeSlopes | None = None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> OperandBounds:
        """Bounds objective row ``picks: D`` over each subproblem.

        Args:
            splits: of the subproblems.
            picks: index of an objective row each.
            parameters: ``D A`` uint8 to begin with, or None for the anchor's own.
            iterations: steps of improvement.
            stored: parameters must end as a certificate holds them.
            edges: upper lines with a slope for every edge, by subproblem, instead of those in ``parameters``.
            should_stop: polled inside.
        """
        k, pace = self.kernels, FRESH if parameters is None else WARM
        if self.hull:
            pace = FRESH_EDGES if parameters is None else WARM_EDGES
        tape = inherit(self.anchor, splits)
        tape.should_stop = should_stop
        if self.hull and parameters is None:
            parameters = self.first_parameters(len(splits))
        ascent = self._ascent(tape, parameters, edges)
        if ascent is not None:
            tape.edges = ascent.lines
            tape.magnitude = tape.magnitude | {v.slot: v.layer.reach for v in ascent.lines.values()}
        dom = k.array(np.arange(len(splits)))
        start = None if parameters is None else self._choices(tape, dom, parameters)
        if start is not None and stored and k.precision.dtype != np.dtype(np.float32):
            # slopes of smooth functions are float32 numbers in a certificate
            start = [r.stored(dom, c) for r, c in zip(tape.relaxations, start, strict=True)]
        multipliers = multipliers_of(tape, splits, dom)
        run = objective_rows(tape, self.objectives, dom, k.array(picks))
        if multipliers is not None:
            multipliers.scale = self._scales(tape, dom, multipliers, start, run)
        best = improve(
            tape,
            dom,
            run,
            len(self.plan.steps),
            iterations,
            stored=stored,
            final=False,
            start=start,
            multipliers=multipliers,
            pace=pace,
            edges=ascent,
            done=lambda lower: bool(k.numpy(lower > 0).all()),
        )
        beta = np.zeros(splits.operand.shape, dtype=np.float32)
        if best.multipliers is not None:
            row, column = splits.pairs()
            beta[row, column] = k.numpy(best.multipliers.beta)
        lower = np.asarray(k.numpy(best.lower))
        return OperandBounds(
            lower,
            np.asarray(k.numpy(best.pad)),
            np.asarray(k.numpy(minimiser(tape, best.a, dom))),
            self._with_edges(self._packed(best.choices), parameters, ascent),
            beta,
            best,
            tape,
            EdgeSlopes.none() if ascent is None else ascent.slopes(),
            None if ascent is None else ascent.point,
        )

    def _ascent(self, tape: Tape, parameters: Array | None, edges: EdgeSlopes | None) -> EdgeAscent | None:
        """The lines to begin with; None without any."""
        if edges is not None:
            return EdgeAscent(self.anchor, lines_of(self.anchor, self._layers, edges)) if len(edges) else None
        if not self.hull or parameters is None:
            return None
        found: dict[int, EdgeLines] = {}
        for index, (row, place, at) in self._places(tape).items():
            t = parameters[row[:, None], at]
            element = self._elements[index][place]
            found[index] = edge_lines(self.anchor, self._layers[index], row, element, t)
        return EdgeAscent(self.anchor, found)

    def _places(self, tape: Tape) -> dict[int, tuple[Array, Array, Array]]:
        """By index of a step the subproblem of every line, its place among the step's elements that may have
        one, and its columns in the parameters (``P``, ``P``, ``P n``)."""
        out: dict[int, tuple[Array, Array, Array]] = {}
        start = self._plain
        for index, element in self._elements.items():
            lo, hi = (np.asarray(self.kernels.numpy(v)) for v in tape.relaxations[index].intervals[0])
            row, place = np.nonzero(((lo < 0) & (hi > 0))[:, element])
            n = self._layers[index].step.dense.inner
            out[index] = row, place, start + place[:, None] * n + np.arange(n)
            start += len(element) * n
        return {i: v for i, v in out.items() if len(v[0])}

    def _with_edges(self, packed: Array, given: Array | None, ascent: EdgeAscent | None) -> Array:
        """Packed parameters and the slopes of edges that were found, beside those that were given."""
        if not self.hull or given is None or given.shape[1] == packed.shape[1]:
            return packed
        out = np.concatenate([packed, given[:, self._plain :]], axis=1)
        for index, held in ({} if ascent is None else ascent.lines).items():
            n, element = held.layer.step.dense.inner, self._elements.get(index)
            if element is not None:
                start = self._plain
                for i, other in self._elements.items():
                    if i == index:
                        break
                    start += len(other) * self._layers[i].step.dense.inner
                place = np.searchsorted(element, held.element)
                out[held.row[:, None], start + place[:, None] * n + np.arange(n)] = held.t
        return out

    def _scales(self, tape: Tape, dom: Any, multipliers: Any, start: list[Choice] | None, run: Any) -> Any:
        """``P``: the mean magnitude of the row's coefficients in each multiplier's slot."""
        k = self.kernels
        seen: dict[int, Any] = {}
        choices = [r.initial(dom) for r in tape.relaxations] if start is None else start
        record: list[Any] = [None] * len(choices)
        run(choices, record, None)
        for step in self.plan.nonlinear:
            arrived = record[step.index]
            if arrived is None:
                continue
            for s in step.sources:
                seen[s] = abs(arrived) if s not in seen else k.maximum(seen[s], abs(arrived))
        scale = k.zeros(len(multipliers.beta)) + _LEAST_SCALE
        for s, part in multipliers.slots.items():
            if s in seen:
                mean = k.sum(seen[s], 1) / seen[s].shape[1]
                own = seen[s][part.row, part.element]
                scale[part.pairs] = k.maximum(k.maximum(own, k.take(mean, part.row)), _LEAST_SCALE)
        return scale

    def _packed(self, choices: list[Choice]) -> Array:
        k = self.kernels
        parts = [
            np.rint(np.asarray(k.numpy(p)) * SLOPE_STEPS).astype(np.uint8)
            for r, c in zip(self.anchor.relaxations, choices, strict=True)
            for p in c[: r.parameters]
        ]
        return np.concatenate(parts, axis=1)

    def _choices(self, tape: Tape, dom: Any, packed: Array) -> list[Choice]:
        k, start, out = self.kernels, 0, list[Choice]()
        for r, s in zip(tape.relaxations, self.plan.nonlinear, strict=True):
            held: list[Any] = []
            for _ in range(r.parameters):
                part = packed[:, start : start + s.size]
                held.append(k.array(part.astype(np.float64) / SLOPE_STEPS))
                start += s.size
            out.append(r.choose(dom, tuple(held)))
        return out
