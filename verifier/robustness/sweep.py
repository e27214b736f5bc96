"""One bounding pass over many samples: boxes of one label go through the bounder as one block."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bounds.ball import Ball
from bounds.graph import Array, Graph
from bounds.methods.bounder import BounderOptions, BoxBounder, Effort
from bounds.methods.tape import Stopped
from bounds.numerics import FLOAT32, NetworkRounding
from bounds.plan import Plan
from verifier.robustness.points import Clip, margin_objectives
from verifier.robustness.result import Radius

BLOCK = 64  # boxes at once, fewer for large networks
BLOCK_WORK = 2e9  # multiply-adds of one evaluation of a block


class Sweep:
    """Proves classes constant on balls, without splitting.

    Soundness: that of :class:`bounds.methods.bounder.BoxBounder`: every margin is refuted as non-positive on
    a box (and ball) that holds the exact one.
    """

    def __init__(self, graph: Graph, plan: Plan, norm: str, clip: Clip, *, network: bool) -> None:
        self.graph, self.plan, self.norm, self.clip, self.network = graph, plan, norm, clip, network
        self.known: dict[int, BoxBounder] = {}

    def proved(
        self, x: Array, labels: Array, radius: Radius, should_stop: Callable[[], bool], iterations: int = 4
    ) -> Array:
        """``N`` bool: samples whose class is proved constant within the radius."""
        found = np.zeros(len(x), dtype=bool)
        size = 1 if self.norm != "inf" else int(np.clip(BLOCK_WORK / max(self.plan.work, 1), 1, BLOCK))
        for label in np.unique(labels):
            mine = np.flatnonzero(labels == label)
            for start in range(0, len(mine), size):
                pick = mine[start : start + size]
                try:
                    found[pick] = self._block(x[pick], int(label), radius, should_stop, iterations)
                except Stopped:
                    return found
                if should_stop():
                    return found
        return found

    def _block(
        self, x: Array, label: int, radius: Radius, should_stop: Callable[[], bool], iterations: int
    ) -> Array:
        lo, hi = outer_box(x, radius, self.clip)
        bounder = self._bounder(
            label, Ball(x[0], radius.above, int(self.norm)) if self.norm != "inf" else None
        )
        wanted = np.ones((len(x), bounder.objectives.groups), dtype=bool)
        effort = Effort(iterations=iterations)
        with np.errstate(all="ignore"):
            result = bounder.bound(lo, hi, wanted, should_stop, effort)
        return np.array([bool(row.all()) for row in result.refuted])

    def _bounder(self, label: int, ball: Ball | None) -> BoxBounder:
        if ball is None and label in self.known:
            return self.known[label]
        objectives = margin_objectives(label, self.graph.output_size, self.graph.input_size)
        network = NetworkRounding() if self.network else None
        options = BounderOptions(network=network, ball=ball)
        bounder = BoxBounder(self.graph, objectives, FLOAT32, options, plan=self.plan)
        if ball is None:
            self.known[label] = bounder
        return bounder


def outer_box(x: Array, radius: Radius, clip: Clip) -> tuple[Array, Array]:
    """Boxes in float64 that hold the exact ones (``x +- radius``, cut to the valid range)."""
    lo, hi = np.nextafter(x - radius.above, -np.inf), np.nextafter(x + radius.above, np.inf)
    if clip is not None:
        low, high = float(clip[0]), float(clip[1])
        lo, hi = np.maximum(lo, np.nextafter(low, -np.inf)), np.minimum(hi, np.nextafter(high, np.inf))
    return lo, hi
