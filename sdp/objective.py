"""From a pair of norms to the two ends of a chain: how dy is weighed, and what is read off ``P = X' Q_0 X``.

With ``|dy|^2_(weighed) <= dx' P dx``:

* from L2: ``L^2 = lambda_max(P)``;
* from L-infinity: ``L^2 = min sum(mu)`` over ``diag(mu) >= P``;
* from L1: ``L^2 = max_i P_ii`` (a convex function on a polytope is largest at a vertex);
* to L2: ``Q_L = C'C``; to one number: the same with one row; to L-infinity: the largest over rows;
* to L1: ``Q_L = C' diag(1 / sigma) C`` with ``sigma > 0, sum(sigma) = 1``, because then
  ``|y|_1^2 <= sum y_i^2 / sigma_i`` (Cauchy-Schwarz).

Scaling the multipliers out of the L-infinity condition of Pauli et al. 2024 gives the same value: minimising
``(t + sum(mu) / t) / 2`` over t is ``sqrt(sum(mu))``.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

import numpy as np

from bounds.graph import Array


class Norm(enum.Enum):
    """A vector norm; the value is what users write."""

    ONE = "1"
    TWO = "2"
    INF = "inf"

    @staticmethod
    def of(value: object) -> Norm:
        """From 1, 2, "inf" or float("inf")."""
        text = str(value).strip().lower()
        text = text[:-2] if text.endswith(".0") else text
        return Norm({"infinity": "inf", "linf": "inf", "l2": "2", "l1": "1"}.get(text, text))


@dataclass(frozen=True, slots=True)
class Pair:
    """Norms of the inputs and of the outputs."""

    inputs: Norm
    outputs: Norm

    @property
    def by_row(self) -> bool:
        """Whether every output row is a problem of its own, the largest of which is the answer."""
        return self.outputs is Norm.INF


def lower_norm(jacobian: Array, pair: Pair) -> float:
    """The operator norm of one matrix ``outputs inputs`` (of L-infinity to L2 or L1 a lower bound)."""
    if not jacobian.size:
        return 0.0
    a = np.abs(jacobian)
    match pair.inputs, pair.outputs:
        case Norm.TWO, Norm.TWO:
            return float(np.linalg.svd(jacobian, compute_uv=False)[0])
        case Norm.TWO, Norm.INF:
            return float(np.sqrt((a * a).sum(1).max()))
        case Norm.INF, Norm.INF:
            return float(a.sum(1).max())
        case Norm.ONE, Norm.ONE:
            return float(a.sum(0).max())
        case Norm.ONE, Norm.TWO:
            return float(np.sqrt((a * a).sum(0).max()))
        case Norm.ONE, Norm.INF:
            return float(a.max())
        case _:
            return _signs(jacobian, pair)


def _signs(jacobian: Array, pair: Pair) -> float:
    """Max of ``s' J r`` by alternation over sign vectors (or unit vectors at an L2 end): a lower bound."""
    best = 0.0
    starts = np.linalg.svd(jacobian)[2][: min(4, jacobian.shape[1])]
    for x in starts:
        for _ in range(20):
            x = _dual(x, pair.inputs)
            y = jacobian @ x
            best = max(best, vector_norm(y, pair.outputs))
            x = jacobian.T @ (np.sign(y) if pair.outputs is Norm.ONE else y)
    return best


def _dual(x: Array, norm: Norm) -> Array:
    """The point of the unit ball that ``x`` points at."""
    if norm is Norm.INF:
        return np.where(x < 0, -1.0, 1.0)
    return x / max(float(np.linalg.norm(x)), 1e-300)


def vector_norm(y: Array, norm: Norm) -> float:
    """The norm of a vector."""
    order = {Norm.ONE: 1, Norm.TWO: 2, Norm.INF: np.inf}[norm]
    return float(np.linalg.norm(y, order))
