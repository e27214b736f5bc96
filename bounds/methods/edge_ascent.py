"""Better per-edge slopes for packed rows, together with their other parameters
(:mod:`bounds.methods.improve`).

With ``share = (w x - min w x) / (max w x - min w x)`` of every edge, a line whose two sums agree has the
value ``sum t (max - min) share`` at x, and they agree where ``sum t (max - min) = u``, u being the operand's
largest value. So slopes move against the shares at the row's minimiser, and back to where the sums agree.
(The best t for one x is the fractional knapsack that :func:`bounds.methods.hull_cuts.facets` solves; what is
wanted is best for the row.) Compare De Palma et al., Scaling the Convex Barrier with Active Sets (2021), who
ascend over facets one by one.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from bounds.graph import Array
from bounds.methods.edge_slopes import EdgeLayer, EdgeLines, EdgeSlopes, edge_lines
from bounds.methods.tape import Tape
from bounds.plan import InputStep
from bounds.relax.relu import SLOPE_STEPS

# Adam's averages, and the weight of the newest minimiser in the mean of them
_FIRST, _SECOND, _NEWEST = 0.9, 0.999, 0.1
# Newton steps back to where the two sums of a line agree (any slopes are sound)
_BALANCE = 4


@dataclass(slots=True)
class _Moving:
    """Slopes of one step's lines on their way; all ``P n`` float, ``width`` and ``least`` as in the
    module."""

    t: Array
    least: Array
    width: Array
    weight: Array
    goal: Array
    mean: Any = 0.0
    square: Any = 0.0


@dataclass(slots=True)
class EdgeAscent:
    """Lines of packed rows, moved in place.

    Attributes:
        anchor: a tape of one box.
        lines: by index of the step, the present ones; becomes a tape's own.
        best, used: the slopes of each line when its row was best, and whether the row used the line then.
        point: ``R d`` running mean of the rows' minimisers, or None before the first step: near the optimum
            of the linear program that the ascent solves, where a single minimiser is a corner.
    """

    anchor: Tape
    lines: dict[int, EdgeLines]
    best: dict[int, Array] = field(default_factory=dict[int, Array])
    used: dict[int, Array] = field(default_factory=dict[int, Array])
    point: Array | None = None
    _moving: dict[int, _Moving] = field(default_factory=dict[int, _Moving])

    def begin(self, record: list[Any]) -> None:
        """Leaves lines out that rows do not use, which arrive at the steps as recorded."""
        for index, held in list(self.lines.items()):
            arrived = record[index]
            keep = np.zeros(len(held.row), dtype=bool)
            if arrived is not None:
                keep = np.asarray(arrived)[held.row, held.element] < 0
            if not keep.any():
                del self.lines[index]
                continue
            parts = {f: getattr(held, f)[keep] for f in ("row", "element", "t", "a", "c", "mass")}
            held = self.lines[index] = replace(held, **parts)
            layer, k = held.layer, self.anchor.kernels
            least, most, weight, top = (
                np.asarray(k.numpy(v))[held.element].astype(np.float32)
                for v in (layer.least, layer.most, layer.weight, layer.top)
            )
            t = held.t.astype(np.float32) / SLOPE_STEPS
            self._moving[index] = _Moving(t, least, most - least, weight, top)
            self.best[index], self.used[index] = held.t, np.ones(len(held.row), dtype=bool)

    def step(self, values: dict[int, Any], record: list[Any], rate: float, count: int) -> None:
        """Moves all slopes.

        Args:
            values: per slot ``R n``, the rows' minimisers and what the chosen lines make of them.
            record: per nonlinear step the rows at its output.
            rate: step length; count: number of steps taken before.
        """
        inputs = [s for s in self.anchor.plan.steps if isinstance(s, InputStep)]
        x = np.concatenate([np.asarray(values[s.slot]) for s in inputs], axis=1)
        self.point = x if self.point is None else (1 - _NEWEST) * self.point + _NEWEST * x
        for index, held in self.lines.items():
            moving, arrived = self._moving[index], record[index]
            if arrived is None:
                continue
            at = np.asarray(values[held.slot])[held.row]
            with np.errstate(all="ignore"):
                share = (moving.weight * at - moving.least) / np.where(moving.width > 0, moving.width, 1)
            gradient = -share.astype(np.float32)
            gradient[np.asarray(arrived)[held.row, held.element] >= 0] = 0
            moving.mean = _FIRST * moving.mean + (1 - _FIRST) * gradient
            moving.square = _SECOND * moving.square + (1 - _SECOND) * gradient * gradient
            size = np.sqrt(moving.square / (1 - _SECOND ** (count + 1))) + np.finfo(np.float32).tiny
            moving.t = _balanced(moving, moving.t + (rate / (1 - _FIRST ** (count + 1))) * moving.mean / size)
            self._set(index, np.rint(moving.t * SLOPE_STEPS).astype(np.uint8))

    def keep(self, better: Array, record: list[Any]) -> None:
        """Notes the present lines of rows ``better: R`` bool as the best."""
        for index, held in self.lines.items():
            mine = better[held.row]
            self.best[index] = np.where(mine[:, None], held.t, self.best[index])
            arrived = record[index]
            uses = np.asarray(arrived)[held.row, held.element] < 0 if arrived is not None else mine & False
            self.used[index] = np.where(mine, uses, self.used[index])

    def settle(self) -> None:
        """Makes the best lines the present ones."""
        for index in self.lines:
            self._set(index, self.best[index])

    def _set(self, index: int, t: Array) -> None:
        held = self.lines[index]
        self.lines[index] = edge_lines(self.anchor, held.layer, held.row, held.element, t)

    def slopes(self) -> EdgeSlopes:
        """The lines that rows use."""
        found: list[tuple[int, int, Array]] = []
        for index, held in self.lines.items():
            use = np.flatnonzero(self.used[index])
            neurons = held.element[use] + held.layer.step.relu.offset
            found += zip(held.row[use].tolist(), neurons.tolist(), held.t[use], strict=True)
        return EdgeSlopes.of(sorted(found, key=lambda f: f[:2]))


def _balanced(moving: _Moving, t: Array) -> Array:
    """Slopes in [0, 1], moved by one number per line until ``sum t width`` is nearly u."""
    shift = np.zeros((len(t), 1), dtype=np.float32)
    for _ in range(_BALANCE):
        moved = t + shift
        inside = (moved > 0) & (moved < 1)
        miss = moving.goal - (np.clip(moved, 0, 1) * moving.width).sum(axis=1)
        room = (inside * moving.width).sum(axis=1)
        shift += (miss / np.where(room > 0, room, np.inf))[:, None]
    found = np.clip(t + shift, 0, 1)
    return np.where(np.isfinite(found), found, 1)


def even_slopes(layer: EdgeLayer, element: Array) -> Array:
    """``P n`` uint8: equal slopes ``u / (u - l)`` for the edges of elements: their chords, to begin with."""
    least = np.asarray(layer.least, dtype=np.float64)[element].sum(axis=1)
    most = np.asarray(layer.most, dtype=np.float64)[element].sum(axis=1)
    top = np.asarray(layer.top, dtype=np.float64)[element]
    with np.errstate(all="ignore"):
        share = np.clip(top / (most - least), 0, 1)
    grid = np.rint(np.where(np.isfinite(share), share, 1) * SLOPE_STEPS).astype(np.uint8)
    return np.repeat(grid[:, None], layer.step.dense.inner, axis=1)
