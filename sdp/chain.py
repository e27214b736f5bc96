"""The one form of a network: a chain of steps in increments, and its quadratic value functions.

    s_0 = X dx,   v_k = D_k s_{k-1},   w_k = diag(phi) v_k with phi in [0, 1],   s_k = F_k s_{k-1} + G_k w_k,
    dy = C s_L.

Every slope range [alpha, beta] is moved to [0, 1] beforehand (:mod:`sdp.increments`). For multipliers
``lam_k > 0`` and a terminal weight ``Q_L``, dynamic programming gives

    Q_{k-1} = F' Q_k F + B K^{-1} B',   B = F' Q_k G + D' diag(lam),   K = 2 diag(lam) - G' Q_k G,

and ``|dy|^2 <= dx' X' Q_0 X dx`` for every pair of inputs, as long as every K is positive definite. With full
symmetric Q_k this loses nothing against the one big linear matrix inequality.

Reference: Fazlyab et al. 2019 (LipSDP-neuron, diagonal multipliers); storage form as in Pauli et al. 2024.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve, cholesky

from bounds.graph import Array
from sdp.matrices import Matrix


@dataclass(frozen=True, slots=True)
class Step:
    """``v = D s``, ``w`` with slopes in [0, 1], next state ``F s + G w``.

    Attributes:
        f: ``n_k n_{k-1}``; g: ``n_k m``; d: ``m n_{k-1}``.
        names: what the ``m`` elements belong to, ``(id of the graph's node, element's number there)``.
    """

    f: Matrix
    g: Matrix
    d: Matrix
    names: tuple[tuple[int, int], ...] = ()

    @property
    def width(self) -> int:
        """Number m of nonlinear elements."""
        return self.d.shape[0]


@dataclass(frozen=True, slots=True)
class Chain:
    """See the module. ``x``: ``n_0 inputs``; ``c``: ``outputs n_L``."""

    x: Matrix
    steps: tuple[Step, ...]
    c: Matrix

    @property
    def elements(self) -> int:
        """Nonlinear elements in all."""
        return sum(s.width for s in self.steps)

    @property
    def inputs(self) -> int:
        """Size of dx."""
        return self.x.shape[1]

    @property
    def outputs(self) -> int:
        """Size of dy."""
        return self.c.shape[0]

    def with_outputs(self, rows: Array) -> Chain:
        """The network followed by ``rows @ y`` (``S outputs``)."""
        return Chain(self.x, self.steps, Matrix.exact(np.atleast_2d(rows)) @ self.c)


Multipliers = list[Array]
"""One positive vector per step."""


class Infeasible(Exception):
    """Some K is not positive definite: these multipliers prove nothing."""


@dataclass(slots=True)
class Sweep:
    """One backward sweep: ``q[k]`` is Q_k (k = 0..L), ``gain[k]`` the maximising ``w_k = gain s_{k-1}``."""

    q: list[Array]
    gain: list[Array]


def backward(chain: Chain, lam: Multipliers, last: Array) -> Sweep:
    """The recursion in plain floating point (for searching; :mod:`sdp.certify` proves).

    Raises:
        Infeasible: see there.
    """
    q, gains = [last], []
    for step, lam_k in zip(reversed(chain.steps), reversed(lam), strict=True):
        before, gain = step_back(step, lam_k, q[-1])
        q.append(before)
        gains.append(gain)
    return Sweep(q[::-1], gains[::-1])


def step_back(step: Step, lam: Array, q: Array) -> tuple[Array, Array]:
    """``Q_{k-1}`` and the gain of one step."""
    f, g, d = step.f.value, step.g.value, step.d.value
    qg = q @ g
    k = np.diag(2 * lam) - g.T @ qg
    b = f.T @ qg + d.T * lam
    try:
        factor = cho_factor(k, lower=True)
    except (LinAlgError, ValueError):
        raise Infeasible from None
    gain = cho_solve(factor, b.T)
    before = f.T @ (q @ f) + b @ gain
    return (before + before.T) / 2, gain


def starting_multipliers(chain: Chain, last: Array, slack: float = 1.0) -> Multipliers:
    """Multipliers that are always feasible: ``lam = slack lambda_max(G' Q G)`` per step, backwards.

    With slack 1 this is the greedy choice of ECLipsE-Fast (Xu, Sivaranjani 2024) run from the output.
    """
    return greedy(chain, last, lambda r: np.full(len(r), slack * largest(r)))


def greedy(chain: Chain, last: Array, choose: Callable[[Array], Array]) -> Multipliers:
    """Multipliers step by step from the output: ``choose(G' Q G)`` must exceed half of it."""
    q = last
    lam: Multipliers = []
    for step in reversed(chain.steps):
        g = step.g.value
        r = g.T @ q @ g
        chosen = np.maximum(choose((r + r.T) / 2), 1e-300)
        lam.append(chosen)
        q, _ = step_back(step, chosen, q)
    return lam[::-1]


def largest(r: Array) -> float:
    """The largest eigenvalue, slightly enlarged (a guess)."""
    if not len(r):
        return 0.0
    value = float(np.linalg.eigvalsh(r)[-1])
    scale = float(np.abs(r).max(initial=0.0))
    return max(value, 0.0) * (1 + 1e-9) + 1e-12 * scale


def positive_definite(a: Array) -> bool:
    """Whether a floating-point Cholesky factorisation succeeds."""
    try:
        cholesky(a, lower=True, check_finite=True)
    except (LinAlgError, ValueError):
        return False
    return True


def concatenated(lam: Sequence[Array]) -> Array:
    """All multipliers in one vector."""
    return np.concatenate([np.zeros(0), *lam])


def divided(chain: Chain, flat: Array) -> Multipliers:
    """One vector per step."""
    ends = np.cumsum([s.width for s in chain.steps])[:-1] if chain.steps else []
    return list(np.split(flat, ends)) if chain.steps else []


def compressed(x: Array) -> Array:
    """A square matrix with the same ``X X'``: from L2, dx enters by X dx only."""
    lower: Array = np.linalg.qr(np.ascontiguousarray(x.T), mode="r").T  # pyright: ignore[reportAttributeAccessIssue]
    return lower
