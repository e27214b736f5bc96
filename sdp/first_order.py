"""A first-order method on the multipliers alone, for networks too large for :mod:`sdp.interior`.

Works on theta = log lam. The bound is the largest eigenvalue of ``P = X' Q_0 X`` (from L2), smoothed over the
leading eigenvectors. By the envelope theorem its derivative needs no differentiation of the recursion: along
the maximising run ``w_k = gain_k s_{k-1}`` that starts at an eigenvector,

    d rho / d lam_i = 2 w_i (v_i - w_i).

One iteration is one backward sweep and a few vectors forward: linear in depth. Every iterate is feasible,
hence proves a bound; where a step would leave the feasible set it is halved.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bounds.graph import Array
from sdp.chain import Chain, Infeasible, Multipliers, Sweep, backward, compressed, concatenated, divided
from sdp.objective import Norm

LEADING = 16  # eigenvectors in the smoothed maximum
SHARPNESS = (3.0, 10.0, 40.0, 200.0, 1000.0)  # of the smoothed maximum, relative to its value, stage by stage
RATE, DECAY, RECOVER = 0.1, 0.97, 1.05
SMALLEST_RATE = 1e-3


def descend(
    chain: Chain,
    start: Multipliers,
    last: Array,
    norm: Norm,
    *,
    iterations: int = 400,
    should_stop: Callable[[], bool] = lambda: False,
) -> Multipliers:
    """The best multipliers found from feasible ones (Adam; Kingma, Ba 2015).

    Args:
        chain, start, last: as for :func:`sdp.chain.backward`.
        norm: of the inputs.
        iterations: at most, in each stage.
        should_stop: polled every iteration.
    """
    x = chain.x.value
    if norm is Norm.TWO and x.shape[1] > x.shape[0]:
        x = compressed(x)
    best, best_value = concatenated(start), np.inf
    for sharpness in SHARPNESS:
        objective = _Objective(chain, x, last, norm, sharpness)
        best, best_value = _stage(objective, best, best_value, iterations, should_stop)
    return divided(chain, best)


@dataclass(frozen=True, slots=True)
class _Objective:
    """The bound (squared) at theta, and the gradient of its smoothed logarithm."""

    chain: Chain
    x: Array
    last: Array
    norm: Norm
    sharpness: float

    def __call__(self, theta: Array) -> tuple[float, Array]:
        return _value(self, divided(self.chain, np.exp(theta)))


def _stage(
    objective: _Objective, start: Array, value: float, iterations: int, should_stop: Callable[[], bool]
) -> tuple[Array, float]:
    """Adam from multipliers ``start`` of a known value; the best multipliers and their value."""
    theta = np.log(start)
    best, rate = theta, RATE
    now, gradient = objective(theta)
    best_value = min(value, now)
    first, second = np.zeros_like(theta), np.zeros_like(theta)
    for t in range(1, iterations + 1):
        if should_stop() or rate < SMALLEST_RATE:
            break
        first = 0.9 * first + 0.1 * gradient
        second = 0.99 * second + 0.01 * gradient**2
        move = first / (1 - 0.9**t) / (np.sqrt(second / (1 - 0.99**t)) + 1e-12)
        try:
            now, gradient = objective(theta - rate * move)
        except Infeasible:
            theta, rate = best, rate / 2
            now, gradient = objective(theta)
            first[:] = 0
            continue
        theta = theta - rate * move
        if now < best_value:
            best_value, best = now, theta
            rate = min(rate * RECOVER, RATE)
        else:
            rate *= DECAY
    return np.exp(best), best_value


def _value(at: _Objective, lam: Multipliers) -> tuple[float, Array]:
    chain, x, last, norm = at.chain, at.x, at.last, at.norm
    sweep = backward(chain, lam, last)
    p = x.T @ sweep.q[0] @ x
    if norm is Norm.TWO:
        values, vectors = np.linalg.eigh(p)
        values, vectors = values[-LEADING:], vectors[:, -LEADING:]
        top = float(values[-1])
        weights = np.exp(at.sharpness * (values / top - 1))
        weights /= weights.sum()
    else:  # from L1: the largest diagonal entry; from L-infinity: its trace as a stand-in for sum(mu)
        diagonal = np.diag(p)
        top = float(diagonal.max() if norm is Norm.ONE else diagonal.sum())
        pick = np.argsort(-diagonal)[: LEADING if norm is Norm.ONE else len(p)]
        vectors = np.eye(len(p))[:, pick]
        weights = (
            np.exp(at.sharpness * (diagonal[pick] / top - 1)) if norm is Norm.ONE else np.ones(len(pick))
        )
        weights /= weights.sum() if norm is Norm.ONE else 1.0
    if not (np.isfinite(top) and top > 0):
        raise Infeasible
    return top, _slope(chain, x, lam, sweep, vectors, weights) / top


def slope_of_value(chain: Chain, last: Array, lam: Multipliers) -> tuple[float, list[Array]]:
    """The squared bound from L2 at multipliers, and per step the gradient of its logarithm in theirs.

    Raises:
        Infeasible: they prove nothing.
    """
    objective = _Objective(chain, chain.x.value, last, Norm.TWO, SHARPNESS[2])
    value, flat = _value(objective, lam)
    return value, divided(chain, flat)


def _slope(chain: Chain, x: Array, lam: Multipliers, sweep: Sweep, vectors: Array, weights: Array) -> Array:
    """``lam * d rho / d lam`` averaged over maximising runs from ``vectors``."""
    state = x @ vectors
    parts: list[Array] = []
    for k, (step, lam_k) in enumerate(zip(chain.steps, lam, strict=True)):
        w = sweep.gain[k] @ state
        v = step.d.value @ state
        parts.append(lam_k * ((2 * w * (v - w)) @ weights))
        state = step.f.value @ state + step.g.value @ w
    return concatenated(parts)
