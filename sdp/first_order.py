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

import numpy as np

from bounds.graph import Array
from sdp.chain import Chain, Infeasible, Multipliers, Sweep, backward, compressed, concatenated, divided
from sdp.objective import Norm

LEADING = 8  # eigenvectors in the smoothed maximum
SHARPNESS = 50.0  # of the smoothed maximum, relative to its value
RATE, DECAY = 0.1, 0.9
SMALLEST_RATE = 1e-3


def descend(
    chain: Chain,
    start: Multipliers,
    last: Array,
    norm: Norm,
    *,
    iterations: int = 200,
    should_stop: Callable[[], bool] = lambda: False,
) -> Multipliers:
    """The best multipliers found from feasible ones (Adam; Kingma, Ba 2015).

    Args:
        chain, start, last: as for :func:`sdp.chain.backward`.
        norm: of the inputs.
        iterations: at most.
        should_stop: polled every iteration.
    """
    x = chain.x.value
    if norm is Norm.TWO and x.shape[1] > x.shape[0]:
        x = compressed(x)
    theta = np.log(concatenated(start))
    best_value, gradient = _value(chain, x, divided(chain, np.exp(theta)), last, norm)
    best, rate = theta, RATE
    first, second = np.zeros_like(theta), np.zeros_like(theta)
    for t in range(1, iterations + 1):
        if should_stop() or rate < SMALLEST_RATE:
            break
        first = 0.9 * first + 0.1 * gradient
        second = 0.99 * second + 0.01 * gradient**2
        move = first / (1 - 0.9**t) / (np.sqrt(second / (1 - 0.99**t)) + 1e-12)
        try:
            value, gradient = _value(chain, x, divided(chain, np.exp(theta - rate * move)), last, norm)
        except Infeasible:
            theta, rate = best, rate / 2
            value, gradient = _value(chain, x, divided(chain, np.exp(theta)), last, norm)
            first[:] = 0
            continue
        theta = theta - rate * move
        if value < best_value:
            best_value, best = value, theta
        else:
            rate *= DECAY
    return divided(chain, np.exp(best))


def _value(chain: Chain, x: Array, lam: Multipliers, last: Array, norm: Norm) -> tuple[float, Array]:
    """The bound (squared) and the gradient of its smoothed logarithm in theta."""
    sweep = backward(chain, lam, last)
    p = x.T @ sweep.q[0] @ x
    if norm is Norm.TWO:
        values, vectors = np.linalg.eigh(p)
        values, vectors = values[-LEADING:], vectors[:, -LEADING:]
        top = float(values[-1])
        weights = np.exp(SHARPNESS * (values / top - 1))
        weights /= weights.sum()
    else:  # from L1: the largest diagonal entry; from L-infinity: its trace as a stand-in for sum(mu)
        diagonal = np.diag(p)
        top = float(diagonal.max() if norm is Norm.ONE else diagonal.sum())
        pick = np.argsort(-diagonal)[: LEADING if norm is Norm.ONE else len(p)]
        vectors = np.eye(len(p))[:, pick]
        weights = np.exp(SHARPNESS * (diagonal[pick] / top - 1)) if norm is Norm.ONE else np.ones(len(pick))
        weights /= weights.sum() if norm is Norm.ONE else 1.0
    if not (np.isfinite(top) and top > 0):
        raise Infeasible
    return top, _slope(chain, x, lam, sweep, vectors, weights) / top


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
