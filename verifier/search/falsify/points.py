"""Candidate counterexamples: how nearly a point violates, and descent towards violation.

Everything here is ordinary rounded arithmetic: candidates prove nothing until
:func:`verifier.conclude.sat` has confirmed them on the original model.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from bounds.ball import Ball
from bounds.domain import Objectives
from bounds.graph import Array
from bounds.plan import AffineStep, InputStep, Plan, apply_nonlinear, evaluate, slopes_at

# a point this far below zero (in units of the largest row) violates beyond doubt: others need not catch up
_CLEAR = 2.0**-10


class Descent:
    """Evaluates and improves points for one network and one set of objectives."""

    def __init__(
        self,
        plan: Plan,
        objectives: Objectives,
        ball: Ball | None = None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self.plan, self.objectives, self.ball = plan, objectives, ball
        self.should_stop = should_stop
        k = plan.kernels
        self._c = k.array(objectives.c)
        self._g = k.array(objectives.g)
        self._d = k.array(objectives.d)

    def values(self, x: Array) -> Array:
        """``M S``: all rows at ``x: M d``."""
        k = self.plan.kernels
        xs = k.array(x)
        y = evaluate(self.plan, xs)
        return np.asarray(k.numpy(y @ self._c.T + xs @ self._g.T + self._d))

    def groups(self, values: Array) -> Array:
        """``M K``: a group holds at a point when its largest row is not positive."""
        if self.objectives.groups == self.objectives.rows:
            return values
        return np.maximum.reduceat(values, self.objectives.start[:-1], axis=1)

    def gradient(self, x: Array, rows: Array) -> Array:
        """``M d``: gradient of row ``rows[m]`` at ``x[m]``."""
        plan, k = self.plan, self.plan.kernels
        xs = k.array(x)
        masks: dict[int, tuple[Any, ...]] = {}
        values: dict[int, Any] = {}
        for step in plan.steps:
            if isinstance(step, InputStep):
                values[step.slot] = xs[:, step.start : step.stop]
            elif isinstance(step, AffineStep):
                y = step.map.apply([values[s] for s in step.sources])
                values[step.slot] = y if step.map.bias is None else y + step.map.bias
            else:
                operands = [values[s] for s in step.sources]
                masks[step.slot] = slopes_at(k, step, operands)
                values[step.slot] = apply_nonlinear(k, step, operands)
        at: dict[int, Any] = {}
        start = 0
        for slot, size in zip(plan.outputs, plan.output_sizes, strict=True):
            part = self._c[rows][:, start : start + size]
            at[slot] = at[slot] + part if slot in at else part
            start += size
        return np.asarray(k.numpy(self._pull(at, masks, rows)))

    def _pull(self, at: dict[int, Any], masks: dict[int, tuple[Any, ...]], rows: Array) -> Any:
        plan, k = self.plan, self.plan.kernels
        total = self._g[rows]
        for step in reversed(plan.steps):
            a = at.pop(step.slot, None)
            if a is None:
                continue
            if isinstance(step, InputStep):
                full = k.zeros(len(a), plan.input_size)
                full[:, step.start : step.stop] = a
                total = total + full
                continue
            if isinstance(step, AffineStep):
                parts = zip(step.sources, step.map.adjoint(a), strict=True)
            else:
                parts = zip(step.sources, (a * m for m in masks[step.slot]), strict=True)
            for source, part in parts:
                at[source] = at[source] + part if source in at else part
        return total

    def improve(
        self, x: Array, lo: Array, hi: Array, target: Array, steps: int, start: float = 0.25
    ) -> Array:
        """Projected sign-gradient descent on the largest row of each point's target group.

        Args:
            x: ``M d`` starting points; lo, hi: ``M d`` their boxes.
            target: ``M`` group each point aims at.
            steps: iterations; the step starts at ``start`` box widths and shrinks to 1/1000 of it.

        Returns:
            For every start the best point met.
        """
        width = hi - lo
        x = np.clip(x, lo, hi)
        if self.ball is not None:
            x = self.ball.project(x)
        best, best_value = x.copy(), np.full(len(x), np.inf)
        decay = 0.001 ** (1.0 / max(steps - 1, 1))
        size = start
        first, last = self.objectives.start[:-1][target], self.objectives.start[1:][target]
        columns = np.arange(self.objectives.rows)
        mine = (columns >= first[:, None]) & (columns < last[:, None])
        for t in range(steps + 1):
            values = np.where(mine, self.values(x), -np.inf)
            worst = values.argmax(axis=1)
            value = values[np.arange(len(x)), worst]
            better = value < best_value
            best[better], best_value[better] = x[better], value[better]
            enough = np.all(best_value < 0) or np.any(best_value < -_CLEAR * np.abs(value).max())
            if t == steps or enough or self.should_stop():
                break
            x = np.clip(x - size * width * np.sign(self.gradient(x, worst)), lo, hi)
            if self.ball is not None:
                x = self.ball.project(x)
            size *= decay
        return best
