"""Scores at points, rigorously, and attacks: points nearby that are confirmed to change the class."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import numpy as np

from bounds.domain import Objectives
from bounds.graph import Array, Graph
from bounds.kernels.numpy import NumpyKernels
from bounds.methods.rule import Rule, relax_boxes
from bounds.numerics import FLOAT32, FLOAT64, NetworkRounding
from bounds.plan import Plan, compile_plan
from verifier.search.falsify.points import Descent

STEPS, DECAY = 30, 0.9
BATCH = 256
SHARE = 0.05  # of the inputs that a step in the 1-norm moves

Clip = tuple[Fraction, Fraction] | None


def scores(plan: Plan, x: Array) -> tuple[Array, Array]:
    """Enclosures ``N outputs`` of the outputs at points ``N inputs``.

    Soundness: that of :func:`bounds.methods.rule.relax_boxes`; the plan says whether the network rounds.
    """
    low: list[Array] = []
    high: list[Array] = []
    with np.errstate(all="ignore"):
        for start in range(0, len(x), BATCH):
            part = x[start : start + BATCH]
            tape = relax_boxes(plan, part, part, Rule(forward=False, refine=False))
            ends = [tape.outputs[slot] for slot in plan.outputs]
            low.append(np.concatenate([e[0] for e in ends], axis=1))
            high.append(np.concatenate([e[1] for e in ends], axis=1))
    return np.concatenate(low), np.concatenate(high)


def right_and_wrong(low: Array, high: Array, labels: Array) -> tuple[Array, Array]:
    """``N`` bool twice: the label's score is proved above all others; some other is proved to reach it."""
    rows = np.arange(len(labels))
    own_low, own_high = low[rows, labels], high[rows, labels]
    others_low, others_high = low.copy(), high.copy()
    others_low[rows, labels] = -np.inf
    others_high[rows, labels] = -np.inf
    # a NaN compares false
    right = np.all(own_low[:, None] > others_high, axis=1)
    return right, np.any(others_low >= own_high[:, None], axis=1)


def margin_objectives(label: int, outputs: int, inputs: int) -> Objectives:
    """Rows ``y_label - y_j``, one group each: all must be positive."""
    c = np.delete(np.eye(outputs)[label] - np.eye(outputs), label, axis=0)
    g, d = np.zeros((len(c), inputs)), np.zeros(len(c))

    def rational() -> tuple[Array, Array, Array]:
        return _fractions(c), _fractions(g), _fractions(d)

    none = np.zeros(len(c), dtype=bool)
    return Objectives(c, g, d, none, np.arange(len(c) + 1), False, rational)


def _fractions(values: Array) -> Array:
    out = np.empty(values.shape, dtype=object)
    out.reshape(-1)[:] = [Fraction(float(v)) for v in values.reshape(-1)]
    return out


class Attack:
    """Projected gradient descent on margins, many samples at once; what it finds is confirmed.

    A success is a point of float32 numbers, exactly inside the ball and the valid range, at which interval
    arithmetic proves that another score reaches the label's.
    """

    def __init__(self, plan: Plan, exact: Plan, norm: str, clip: Clip, seed: int) -> None:
        """``plan`` in float32 to search with, ``exact`` in float64 to confirm with."""
        self.plan, self.exact, self.norm, self.clip = plan, exact, norm, clip
        self.random = np.random.default_rng(seed)

    def broken(
        self, x: Array, labels: Array, radius: Fraction, should_stop: Callable[[], bool] = lambda: False
    ) -> Array:
        """``N`` bool: samples with a confirmed point of another class within the radius."""
        found = np.zeros(len(x), dtype=bool)
        for label in np.unique(labels):
            mine = np.flatnonzero(labels == label)
            for start in range(0, len(mine), BATCH):
                if should_stop():
                    return found
                pick = mine[start : start + BATCH]
                found[pick] = self._batch(x[pick], int(label), radius, should_stop)
        return found

    def _batch(self, x: Array, label: int, radius: Fraction, should_stop: Callable[[], bool]) -> Array:
        outputs = sum(self.plan.output_sizes)
        descent = Descent(self.plan, margin_objectives(label, outputs, x.shape[1]))
        best = self._climb(descent, x, float(radius), should_stop)
        best = self._inside(best, x, float(radius) * (1 - 1e-6)).astype(np.float32).astype(np.float64)
        low, high = scores(self.exact, best)
        _, wrong = right_and_wrong(low, high, np.full(len(x), label))
        for i in np.flatnonzero(wrong):
            wrong[i] = self._contains(x[i], best[i], radius)
        return wrong

    def _climb(self, descent: Descent, x: Array, radius: float, should_stop: Callable[[], bool]) -> Array:
        best, least = x.copy(), np.full(len(x), np.inf)
        noise = self.random.uniform(-1, 1, x.shape) * radius
        with np.errstate(all="ignore"):
            for start in (x.copy(), self._inside(x + noise, x, radius)):
                at, size = start, radius / 2
                for _ in range(STEPS):
                    values = descent.values(at)
                    worst = values.argmin(axis=1)
                    value = values[np.arange(len(x)), worst]
                    better = value < least
                    best[better], least[better] = at[better], value[better]
                    if should_stop() or bool(np.all(least < 0)):
                        return best
                    gradient = np.nan_to_num(descent.gradient(at, worst).astype(np.float64))
                    at = self._inside(at - size * self._direction(gradient), x, radius)
                    size *= DECAY
        return best

    def _direction(self, gradient: Array) -> Array:
        if self.norm == "inf":
            return np.sign(gradient)
        if self.norm == "2":
            return gradient / np.maximum(np.linalg.norm(gradient, axis=1, keepdims=True), 1e-300)
        count = max(1, int(SHARE * gradient.shape[1]))
        size = np.abs(gradient)
        least = np.partition(size, -count, axis=1)[:, -count][:, None]
        return np.sign(gradient) * (size >= least) / count

    def _inside(self, at: Array, x: Array, radius: float) -> Array:
        move = at - x
        if self.norm == "inf":
            move = np.clip(move, -radius, radius)
        else:
            size = np.linalg.norm(move, 2 if self.norm == "2" else 1, axis=1, keepdims=True)
            move = move * np.minimum(1.0, radius / np.maximum(size, 1e-300))
        at = x + move
        return at if self.clip is None else np.clip(at, float(self.clip[0]), float(self.clip[1]))

    def _contains(self, x: Array, at: Array, radius: Fraction) -> bool:
        """Exact membership."""
        moves = [abs(Fraction(float(a)) - Fraction(float(b))) for a, b in zip(at, x, strict=True) if a != b]
        if self.clip is not None and not all(self.clip[0] <= Fraction(float(a)) <= self.clip[1] for a in at):
            return False
        if self.norm == "inf":
            return all(m <= radius for m in moves)
        if self.norm == "1":
            return sum(moves) <= radius
        return sum(m * m for m in moves) <= radius * radius


def plans(graph: Graph, *, network: bool) -> tuple[Plan, Plan]:
    """The network in float32 and in float64; ``network``: with its own rounding counted."""
    rounding = NetworkRounding() if network else None
    first, second = (compile_plan(graph, NumpyKernels(p), rounding) for p in (FLOAT32, FLOAT64))
    return first, second
