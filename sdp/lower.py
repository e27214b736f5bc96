"""Sampled lower bounds: the largest Jacobian norm found, by sampling at several scales and climbing.

Jacobians are taken where the network is differentiable (almost surely at random points); their norms are
what a Lipschitz constant cannot be below, up to the rounding of computing them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bounds.graph import Array, Graph
from bounds.kernels.numpy import NumpyKernels
from bounds.numerics import FLOAT64
from bounds.plan import AffineStep, InputStep, Plan, apply_nonlinear, compile_plan, slopes_at
from sdp.objective import Norm, Pair, lower_norm
from sdp.region import Region

SCALES = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
BATCH_ENTRIES = 4_000_000  # of Jacobians held at once


@dataclass(frozen=True, slots=True)
class Sampling:
    """How hard to look: points per scale, rounds of climbing, candidates per round."""

    points: int = 64
    rounds: int = 30
    candidates: int = 24


class Jacobians:
    """Jacobians ``outputs inputs`` of a network (rows of it, if asked) at points."""

    def __init__(self, graph: Graph, rows: Array | None = None) -> None:
        self.plan: Plan = compile_plan(graph, NumpyKernels(FLOAT64))
        outputs = sum(self.plan.output_sizes)
        self.rows = np.eye(outputs) if rows is None else np.atleast_2d(rows)

    def at(self, x: Array) -> Array:
        """``D S inputs`` for points ``D inputs``."""
        d, s = len(x), len(self.rows)
        slopes = self._slopes(x)
        grads: dict[int, Any] = {}
        start = 0
        for slot, size in zip(self.plan.outputs, self.plan.output_sizes, strict=True):
            part = np.broadcast_to(self.rows[:, start : start + size], (d, s, size)).reshape(d * s, size)
            grads[slot] = grads.get(slot, 0) + part
            start += size
        jacobian = np.zeros((d * s, self.plan.input_size))
        for i, step in reversed(list(enumerate(self.plan.steps))):
            row = grads.pop(step.slot, None)
            if row is None:
                continue
            if isinstance(step, InputStep):
                jacobian[:, step.start : step.stop] = row
                continue
            if isinstance(step, AffineStep):
                parts = step.map.adjoint(row)
            else:
                parts = tuple(row * np.repeat(m, s, axis=0) for m in slopes[i])
            for source, part in zip(step.sources, parts, strict=True):
                grads[source] = grads[source] + part if source in grads else part
        return jacobian.reshape(d, s, -1)

    def _slopes(self, x: Array) -> dict[int, tuple[Any, ...]]:
        k = self.plan.kernels
        values: dict[int, Any] = {}
        slopes: dict[int, tuple[Any, ...]] = {}
        for i, step in enumerate(self.plan.steps):
            if isinstance(step, InputStep):
                values[step.slot] = x[:, step.start : step.stop]
                continue
            operands = [values[s] for s in step.sources]
            if isinstance(step, AffineStep):
                y = step.map.apply(operands)
                values[step.slot] = y if step.map.bias is None else y + step.map.bias
            else:
                values[step.slot] = apply_nonlinear(k, step, operands)
                slopes[i] = slopes_at(k, step, operands)
        return slopes


def lower_bound(
    graph: Graph,
    pair: Pair,
    rng: np.random.Generator,
    *,
    rows: Array | None = None,
    region: Region | None = None,
    sampling: Sampling | None = None,
) -> float:
    """The largest norm of a Jacobian found (a guide beside the proved bound, not a proof).

    Args:
        graph: the network.
        pair: norms.
        rng: randomness.
        rows: ``S outputs``, instead of the outputs themselves.
        region: where to look; None: around the origin at the scales of ``SCALES``.
        sampling: effort.
    """
    sampling = sampling or Sampling()
    jacobians = Jacobians(graph, rows)
    inputs = jacobians.plan.input_size
    with np.errstate(all="ignore"):
        x = _first_points(inputs, rng, region, sampling.points)
        norms = _norms(jacobians, x, pair)
        keep = np.argsort(-norms)[:4]
        x, norms = x[keep], norms[keep]
        reach = np.ones(len(x)) * 0.3
        for _ in range(sampling.rounds):
            for i in range(len(x)):
                size = reach[i] * (np.abs(x[i]).mean() if region is None else (region.hi - region.lo))
                moved = x[i] + size * rng.standard_normal((sampling.candidates // 4, inputs))
                moved = _inside(moved, region)
                found = _norms(jacobians, moved, pair)
                best = int(np.argmax(found))
                if found[best] > norms[i]:
                    x[i], norms[i] = moved[best], found[best]
                else:
                    reach[i] *= 0.7
    return float(norms.max(initial=0.0))


def _first_points(inputs: int, rng: np.random.Generator, region: Region | None, count: int) -> Array:
    if region is None:
        points = [s * rng.standard_normal((count, inputs)) for s in SCALES]
        return np.concatenate([*points, rng.random((count, inputs))])
    shares = rng.random((count * len(SCALES), inputs))
    return _inside(region.lo + shares * (region.hi - region.lo), region)


def _inside(x: Array, region: Region | None) -> Array:
    if region is None:
        return x
    x = np.clip(x, region.lo, region.hi)
    return x if region.ball is None else region.ball.project(x)


def _norms(jacobians: Jacobians, x: Array, pair: Pair) -> Array:
    piece = max(
        1, BATCH_ENTRIES // (len(jacobians.rows) * jacobians.plan.input_size + sum(jacobians.plan.sizes))
    )
    found: list[float] = []
    for start in range(0, len(x), piece):
        found.extend(_norm(j, pair) for j in jacobians.at(x[start : start + piece]))
    return np.array(found)


def _norm(jacobian: Array, pair: Pair) -> float:
    if not np.isfinite(jacobian).all():
        return 0.0
    if pair.inputs is Norm.TWO and pair.outputs is Norm.TWO and jacobian.shape[0] < jacobian.shape[1]:
        # the small Gram matrix has the same largest eigenvalue, at a fraction of the cost
        return float(np.sqrt(max(np.linalg.eigvalsh(jacobian @ jacobian.T)[-1], 0.0)))
    return lower_norm(jacobian, pair)
