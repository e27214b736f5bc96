"""The bounder: from boxes to refuted groups, split scores, guesses and evidence.

It composes the rule, the objective bounds and slope optimisation; it knows no queue, clock or file.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bounds.ball import Ball
from bounds.domain import Objectives
from bounds.graph import Array, Graph
from bounds.kernels.base import Kernels
from bounds.kernels.numpy import NumpyKernels
from bounds.methods.crop import live_elements
from bounds.methods.objective import (
    CompiledObjectives,
    bound_objectives,
    compile_objectives,
    optimise_slopes,
    split_scores,
)
from bounds.methods.parameters import Parameters, Refined, refined_elements, tape_parameters
from bounds.methods.row_choices import RowChoices
from bounds.methods.rule import FORWARD_INPUTS, Rule, relax_boxes
from bounds.methods.tape import Tape
from bounds.numerics import EXACT, FLOAT32, FLOAT64, NetworkRounding, Precision
from bounds.ops.conv import ConvMap
from bounds.plan import AffineStep, Plan, compile_plan

# multiply-adds per box that may go into bounding operands backwards; much less where few of many inputs vary:
# forward forms have bounded the operands already, and splitting is the better way
_MOST, _FEW_MOST = 2e11, 5e9
# forward passes that one box is worth for each input that varies (as a power): halving every input four times
# is the better use of so many
_BOXES_PER_INPUT = 16.0


@dataclass(frozen=True, slots=True)
class Evidence:
    """Why groups are refuted on boxes: one entry per (box, group).

    Attributes:
        box: ``E`` index into the block; group, row: ``E`` (row counted within the group).
        parameters: ``E``, of the relaxations in the row's backward pass.
        box_parameters: ``D``, those used for intermediate bounds (rectifiers: slopes 0 or 1).
        box_refined: ``D``, operands that were bounded backwards.
        box_rows: rows of intermediate bounds with parameters of their own, where there are any.
        exact: ``E`` bool, needs exact arithmetic to re-prove.
    """

    box: Array
    group: Array
    row: Array
    parameters: Parameters
    box_parameters: Parameters
    box_refined: Refined
    exact: Array
    box_rows: RowChoices | None = None


@dataclass(frozen=True, slots=True)
class BoundResult:
    """What bounding a block of ``D`` boxes gave.

    Attributes:
        refuted: ``D K`` bool, groups proved impossible on the box (only those asked about).
        lower: ``D K`` float64, the best row's rigorous lower bound per group.
        close: ``D K`` bool: not refuted, but only rounding stands in the way.
        scores: ``D d`` float64, estimated gain of splitting each input.
        guesses: ``D d`` float64, the minimiser of the most promising linear bound (for attacks).
        refined: packed rows that intermediate bounds took, or would have taken (a measure of work).
        evidence: if asked for.
        tape: of a block of one box, to search on from.
    """

    refuted: Array
    lower: Array
    close: Array
    scores: Array
    guesses: Array
    refined: int
    evidence: Evidence | None
    tape: Tape | None = None


@dataclass(frozen=True, slots=True)
class Effort:
    """How much to spend on a box.

    Attributes:
        refine: bound operands of nonlinear steps backwards.
        iterations: steps of optimisation for open rows.
        sharpen: such steps for the rows of intermediate bounds as well, where that is affordable.
        most: multiply-adds per box that may go into bounding operands backwards (None: the bounder's own
            limit); tensors that would cost more keep their intervals.
    """

    refine: bool = True
    iterations: int = 6
    sharpen: int = 0
    most: float | None = None


@dataclass(frozen=True, slots=True)
class BounderOptions:
    """Options: default effort, whether evidence is kept, the network's own rounding, a ball, and how many
    inputs vary in any box that will be asked about (None: all)."""

    effort: Effort = Effort()
    evidence: bool = False
    network: NetworkRounding | None = None
    ball: Ball | None = None
    varying: int | None = None


class BoxBounder:
    """Bounds blocks of boxes of one network and one set of objectives, in one precision."""

    def __init__(
        self,
        graph: Graph,
        objectives: Objectives,
        precision: Precision,
        options: BounderOptions,
        *,
        plan: Plan | None = None,
        kernels: Kernels | None = None,
    ) -> None:
        self.objectives = objectives
        self.options = options
        self.plan = plan or compile_plan(graph, kernels or NumpyKernels(precision), options.network)
        self.compiled: CompiledObjectives = compile_objectives(self.plan, objectives)
        self.varying = self.plan.input_size if options.varying is None else options.varying
        forward = self.varying <= FORWARD_INPUTS
        few = forward and self.plan.input_size > FORWARD_INPUTS
        live = self._live()
        most = _FEW_MOST if few else _MOST
        if forward:
            most = min(most, self.plan.work * (self.varying + 4) * _BOXES_PER_INPUT**self.varying)
        self.rule = Rule(forward=forward, most=most, ball=options.ball, live=live)
        self._group = objectives.group_of_row

    def _live(self) -> dict[int, Array]:
        """What the objectives depend on, in networks in which that may be less than everything."""
        if not any(isinstance(s, AffineStep) and isinstance(s.map, ConvMap) for s in self.plan.steps):
            return {}
        k = self.plan.kernels
        used = ((slot, np.asarray(k.numpy(c) != 0).any(axis=0)) for slot, c in self.compiled.at.items())
        return live_elements(self.plan, {slot: np.flatnonzero(read) for slot, read in used})

    def bound(
        self, lo: Array, hi: Array, wanted: Array, should_stop: Any = None, effort: Effort | None = None
    ) -> BoundResult:
        """Bounds the wanted groups on every box.

        Args:
            lo, hi: ``D d`` boxes (float64; rationals for the exact precision).
            wanted: ``D K`` bool.
            should_stop: polled inside; may raise :class:`bounds.methods.rule.Stopped`.
            effort: instead of the options' one.
        """
        effort = effort or self.options.effort
        # whoever goes on from a single box needs its parameters to bound it again in finer arithmetic
        keep = effort.sharpen > 0 and (self.options.evidence or len(lo) == 1)
        proof = self.options.evidence
        rule = replace(self.rule, refine=effort.refine, sharpen=effort.sharpen, keep=keep, proof=proof)
        if effort.most is not None:
            rule = replace(rule, most=effort.most)
        if should_stop is not None:
            rule = replace(rule, should_stop=should_stop)
        tape = relax_boxes(self.plan, lo, hi, rule)
        k = self.plan.kernels
        found = bound_objectives(tape, self.compiled)
        lower = np.asarray(k.numpy(found.lower))
        pad = np.asarray(k.numpy(found.pad))
        proved_row = self._proved(found.lower, found.pad, self.objectives.strict)
        best = self._best_rows(lower)
        refuted = self._any(proved_row) & wanted
        row = np.where(self._any(proved_row), self._first(proved_row), best)
        group_lower = np.take_along_axis(lower, best, axis=1)
        group_pad = np.take_along_axis(pad, best, axis=1)
        evidence = _Collector(self, tape, len(lo)) if self.options.evidence else None
        if evidence is not None:
            evidence.plain(refuted, row)
        still = wanted & ~refuted
        guesses = self._guesses(tape, found.a, best, still, group_lower)
        if still.any() and effort.iterations and tape.relaxations:
            self._optimise(tape, effort.iterations, still, best, refuted, group_lower, group_pad, evidence)
        still = wanted & ~refuted
        weight = k.array((still[:, self._group]).astype(np.float64))
        scores = k.numpy(split_scores(tape, found, weight))
        return BoundResult(
            refuted,
            group_lower,
            still & (group_lower + 2 * group_pad > 0),
            scores,
            guesses,
            tape.refined_rows,
            None if evidence is None else evidence.done(),
            tape if len(lo) == 1 else None,
        )

    def _proved(self, lower: Any, pad: Any, strict: Array) -> Array:
        """Bool of ``lower``'s shape: bounds that refute. NaN compares false, hence never proves.

        When evidence is kept, a rounded bound must clear zero by its own rounding share once more: the
        checker walks the same relaxation in other arithmetic, and its last bits differ.

        Args:
            lower, pad: bounds and their rounding shares.
            strict: rows for which zero suffices (broadcast against ``lower``).
        """
        k = self.plan.kernels
        if self.options.evidence and k.precision.u:
            lower = lower - pad
        positive = np.asarray(k.numpy(lower > 0), dtype=bool)
        if not strict.any():
            return positive
        return np.asarray(np.where(strict, np.asarray(k.numpy(lower >= 0), dtype=bool), positive))

    def _best_rows(self, lower: Array) -> Array:
        """``D K``: index of the row with the largest bound in each group."""
        out = np.empty((len(lower), self.objectives.groups), dtype=np.int64)
        clean = np.where(np.isnan(lower), -np.inf, lower)
        if self.objectives.groups == self.objectives.rows:
            out[:] = np.arange(self.objectives.groups)
            return out
        for g, (s, e) in enumerate(zip(self.objectives.start[:-1], self.objectives.start[1:], strict=True)):
            out[:, g] = s + clean[:, s:e].argmax(axis=1)
        return out

    def _any(self, rows: Array) -> Array:
        if self.objectives.groups == self.objectives.rows:
            return rows
        return np.logical_or.reduceat(rows, self.objectives.start[:-1], axis=1)

    def _first(self, rows: Array) -> Array:
        """``D K``: index of a proved row in each group (meaningless where there is none)."""
        return self._best_rows(rows.astype(np.float64))

    def _guesses(self, tape: Tape, a: Any, best: Array, still: Array, lower: Array) -> Array:
        """The minimiser of the linear bound of the open group with the least bound."""
        k = self.plan.kernels
        order = np.where(still, np.where(np.isnan(lower), -np.inf, lower), np.inf)
        group = order.argmin(axis=1)
        boxes = np.arange(len(best))
        chosen = k.numpy(a[k.array(boxes), k.array(best[boxes, group])])
        centre, radius = k.numpy(tape.centre), k.numpy(tape.radius)
        return centre - np.sign(chosen) * radius

    def _optimise(  # noqa: PLR0913 - updates the block's result arrays in place
        self,
        tape: Tape,
        iterations: int,
        still: Array,
        best: Array,
        refuted: Array,
        lower: Array,
        pad: Array,
        evidence: _Collector | None,
    ) -> None:
        """Slope steps on the best row of every open group; updates refuted, lower and pad in place."""
        boxes, groups = np.nonzero(still)
        widest = max(self.plan.sizes)
        piece = max(8, self.rule.row_bytes // (4 * widest))
        for s in range(0, len(boxes), piece):
            b, g = boxes[s : s + piece], groups[s : s + piece]
            picks = best[b, g]
            out = optimise_slopes(tape, self.compiled, b, picks, iterations, keep_slopes=evidence is not None)
            k = self.plan.kernels
            proved = self._proved(out.lower, out.pad, self.objectives.strict[picks])
            refuted[b, g] |= proved
            lower[b, g] = k.numpy(out.lower)
            pad[b, g] = k.numpy(out.pad)
            if evidence is not None and proved.any():
                evidence.optimised(b[proved], g[proved], picks[proved], out.parameters.take(proved))


class _Collector:
    """Gathers evidence of one block."""

    def __init__(self, bounder: BoxBounder, tape: Tape, boxes: int) -> None:
        self.bounder = bounder
        self.parameters = tape_parameters(tape)
        self.refined, self.rows = refined_elements(tape), tape.rows
        self.parts: list[tuple[Array, Array, Array, Parameters]] = []
        self.boxes = boxes

    def plain(self, refuted: Array, row: Array) -> None:
        """Rows proved with the intermediate bounds' own parameters."""
        b, g = np.nonzero(refuted)
        self.parts.append((b, g, row[b, g], self.parameters.take(b)))

    def optimised(self, b: Array, g: Array, row: Array, parameters: Parameters) -> None:
        """Rows proved with optimised parameters."""
        self.parts.append((b, g, row, parameters))

    def done(self) -> Evidence:
        """Everything, rows counted within their group."""
        b, g, row = (np.concatenate([np.asarray(p[i]) for p in self.parts]) for i in range(3))
        parameters = Parameters.concat([p[3] for p in self.parts])
        exact = np.full(len(b), self.bounder.plan.kernels.precision is EXACT)
        start = self.bounder.objectives.start[g]
        return Evidence(b, g, row - start, parameters, self.parameters, self.refined, exact, self.rows)


def precisions() -> tuple[Precision, Precision, Precision]:
    """Search, settling and exact arithmetic, in order of cost."""
    return FLOAT32, FLOAT64, EXACT
