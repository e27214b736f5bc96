"""Certified radii: how far a point may move before another class can win, from bounds of the margins."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bounds.errors import BadInput
from bounds.graph import Array, Graph
from bounds.kernels.numpy import NumpyKernels
from bounds.methods.rule import Rule, relax_boxes
from bounds.numerics import FLOAT64
from bounds.plan import compile_plan
from sdp.api import Effort, lipschitz, margins
from sdp.region import Region

DOWN = 1 - 2.0**-48
GROWTH = 1.5  # from one local radius to the next


@dataclass(frozen=True, slots=True)
class Radius:
    """Radii within which the class is proved not to change: from global and from local bounds (0: none)."""

    label: int
    everywhere: float
    local: float

    @property
    def best(self) -> float:
        """The larger one."""
        return max(self.everywhere, self.local)


def certified_radius(
    graph: Graph, x: Array, *, norm: str = "2", tries: int = 8, effort: Effort | None = None
) -> Radius:
    """Radii around one point (over the reals).

    Args:
        graph: a classifier, one score per output.
        x: ``inputs``.
        norm: of the ball, "1", "2" or "inf".
        tries: local bounds computed, on growing balls.
        effort: per bound.

    Soundness: within ``min(r, m / L(r))`` no margin m that holds at x can vanish, L(r) being the margin's
    constant on the ball of radius r, which holds that smaller ball.
    """
    effort = effort or Effort(seconds=20.0, sampling=None)
    low, high = _scores(graph, np.asarray(x, dtype=np.float64).reshape(-1))
    label = int(np.argmax(low))
    others = np.delete(high, label)
    margin = (low[label] - others) * DOWN
    if not len(others) or not np.all(margin > 0):
        return Radius(label, 0.0, 0.0)
    rows = margins(len(low), label)

    def reach(region: Region | None) -> float:
        bound = lipschitz(graph, norm=norm, output_norm="inf", rows=rows, region=region, effort=effort)
        with np.errstate(divide="ignore"):
            return float(np.min(margin / np.array([row.upper for row in bound.rows]))) * DOWN

    everywhere = reach(None)
    best, radius = 0.0, everywhere
    for _ in range(tries):
        if not np.isfinite(radius):
            break
        radius *= GROWTH
        found = min(radius * DOWN, reach(Region.around(x, radius, norm)))
        if found <= best:
            break
        best = found
    return Radius(label, everywhere, best)


def _scores(graph: Graph, x: Array) -> tuple[Array, Array]:
    """Rigorous bounds on the outputs at a point."""
    if x.size != graph.input_size:
        raise BadInput(f"the point has {x.size} numbers, the model {graph.input_size} inputs")
    plan = compile_plan(graph, NumpyKernels(FLOAT64))
    with np.errstate(all="ignore"):
        tape = relax_boxes(plan, x[None], x[None], Rule(forward=False, refine=False))
    ends = [tape.outputs[slot] for slot in plan.outputs]
    return np.concatenate([e[0][0] for e in ends]), np.concatenate([e[1][0] for e in ends])
