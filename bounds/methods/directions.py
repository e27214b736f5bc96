"""Bounds of a few linear functions over many boxes, for callers that compare each box with its own numbers.

Where thousands of boxes ask about the same functions of the outputs, and only the constants they are compared
with differ, the functions are compiled once and the boxes go through the network together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from bounds.domain import Objectives
from bounds.graph import Array, Graph
from bounds.methods.bounder import BounderOptions, BoxBounder, Effort
from bounds.methods.objective import ObjectiveBounds, bound_objectives, optimise_slopes
from bounds.methods.parameters import Parameters, Refined, refined_elements, tape_parameters
from bounds.methods.rule import relax_boxes
from bounds.methods.tape import Tape
from bounds.numerics import Precision
from bounds.plan import Plan


@dataclass(slots=True)
class BoundedBoxes:
    """What is known of ``D`` boxes.

    Attributes:
        lower: ``D S`` float64, rigorous lower bounds of the directions.
        pad: ``D S`` float64, how far rounding pushed each of them down.
    """

    lower: Array
    pad: Array
    _bounder: DirectionBounder
    _tape: Tape
    _found: ObjectiveBounds

    @property
    def refined(self) -> int:
        """Packed rows that intermediate bounds took, or would have taken (a measure of work)."""
        return self._tape.refined_rows

    def minimisers(self, boxes: Array, directions: Array) -> Array:
        """``R d``: where the linear bounds of the listed (box, direction) pairs are least."""
        k = self._tape.kernels
        rows = k.numpy(self._found.a[k.array(boxes), k.array(directions)])
        centre, radius = (np.asarray(k.numpy(v))[boxes] for v in (self._tape.centre, self._tape.radius))
        return np.asarray(centre - np.sign(rows) * radius, dtype=np.float64)

    def improve(self, boxes: Array, directions: Array, iterations: int) -> tuple[Array, Array, Parameters]:
        """Optimised bounds of the listed pairs ``R``, their rounding shares, and the parameters behind them.

        Soundness: as :func:`bounds.methods.objective.optimise_slopes`.
        """
        if not self._tape.relaxations or not iterations or not len(boxes):
            return self.lower[boxes, directions], self.pad[boxes, directions], self.parameters.take(boxes)
        bounder = self._bounder
        piece = max(8, bounder.inner.rule.row_bytes // (4 * max(bounder.plan.sizes)))
        parts: list[tuple[Array, Array, Parameters]] = []
        for s in range(0, len(boxes), piece):
            now = slice(s, s + piece)
            found = optimise_slopes(
                self._tape,
                bounder.inner.compiled,
                boxes[now],
                directions[now],
                iterations,
                keep_slopes=bounder.inner.options.evidence,
            )
            k = self._tape.kernels
            low, share = (np.asarray(k.numpy(v), dtype=np.float64) for v in (found.lower, found.pad))
            parts.append((low, share, found.parameters))
        lower, pad = np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])
        return lower, pad, Parameters.concat([p[2] for p in parts])

    @property
    def parameters(self) -> Parameters:
        """``D``: those of the intermediate bounds (empty unless evidence is kept)."""
        if not self._bounder.inner.options.evidence:
            return Parameters.none(len(self.lower))
        return tape_parameters(self._tape)

    @property
    def refined_elements(self) -> Refined:
        """``D``: operands that were bounded backwards."""
        return refined_elements(self._tape)


class DirectionBounder:
    """Bounds blocks of boxes; a direction is an objective with the constant zero.

    Args:
        graph, precision, options, plan: as for :class:`bounds.methods.bounder.BoxBounder`.
        directions: one objective per group.
    """

    def __init__(
        self,
        graph: Graph,
        directions: Objectives,
        precision: Precision,
        options: BounderOptions,
        *,
        plan: Plan | None = None,
    ) -> None:
        self.inner = BoxBounder(graph, directions, precision, options, plan=plan)

    @property
    def plan(self) -> Plan:
        """The compiled network."""
        return self.inner.plan

    def bound(self, lo: Array, hi: Array, should_stop: Callable[[], bool], effort: Effort) -> BoundedBoxes:
        """Bounds all directions on all boxes ``lo, hi: D d`` (float64).

        Soundness: the bounds of :func:`bounds.methods.objective.bound_objectives`, converted to float64
        (from float32, exactly).

        Raises:
            Stopped: ``should_stop`` said so.
        """
        rule = replace(self.inner.rule, refine=effort.refine, should_stop=should_stop)
        tape = relax_boxes(self.plan, lo, hi, rule)
        found = bound_objectives(tape, self.inner.compiled)
        k = self.plan.kernels
        lower, pad = (np.asarray(k.numpy(v), dtype=np.float64) for v in (found.lower, found.pad))
        return BoundedBoxes(lower, pad, self, tape, found)
