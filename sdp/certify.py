"""From any multipliers to a proved bound: the recursion of :mod:`sdp.chain` with every rounding paid for.

Nothing a solver says is believed. Per step a matrix Q_{k-1} of floats is chosen and

    M = [Q_{k-1} 0; 0 0] - H' Q_k H + [0 -D'L; -L D 2L] >= 0,   H = [F G], L = diag(lam),

is proved for the *true* F, G, D; then ``s_k' Q_k s_k <= s_{k-1}' Q_{k-1} s_{k-1}`` along every pair of runs.

Soundness: a symmetric matrix is positive semidefinite if it is ``R R' + diag(c) + E`` with
``sum_j |E_ij| <= c_i`` (Gershgorin). R is whatever a Cholesky routine returns; E collects what the routine
left (computed, with the rounding of computing it) and what separates the computed M from the true one
(Higham 2002, section 3.5: ``gamma_n`` times the product of absolute values). All of it after a scaling by
powers of two, which is exact. A failure enlarges the margin c and tries again; it never passes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve, cholesky

from bounds.graph import Array
from bounds.numerics import FLOAT64
from sdp.chain import Chain, Infeasible, Multipliers, Step
from sdp.matrices import Matrix
from sdp.objective import Norm

TRIES = 14  # each with a margin 8 times the last one's
GROW = 8.0
ROUND_UP = 1 + 2.0**-50
# coordinates of a smaller share are scaled like this one: rounding may make their entries negative
FLAT = 1e-6


@dataclass(frozen=True, slots=True)
class Proof:
    """A proved bound.

    Attributes:
        upper: the Lipschitz constant, rounded upwards.
        multipliers: what it was proved with.
    """

    upper: float
    multipliers: Multipliers


def certify(
    chain: Chain, lam: Multipliers, weights: Array, norm: Norm, diagonal: Array | None = None
) -> Proof:
    """Proves the bound that multipliers imply.

    Args:
        chain: the network.
        lam: one positive vector per step.
        weights: ``outputs``, positive: the bound is on ``sum_i weights_i dy_i^2``.
        norm: of the inputs.
        diagonal: for Norm.INF a guess of mu (scaled as needed); None: row sums.

    Raises:
        Infeasible: these multipliers prove nothing.
    """
    if any(not (np.isfinite(l).all() and (l > 0).all()) for l in lam):
        raise Infeasible
    q = terminal(chain.c, weights)
    for step, lam_k in zip(reversed(chain.steps), reversed(lam), strict=True):
        q = proved_step(step, lam_k, q)
    square = _input_side(chain.x, q, norm, diagonal)
    if not math.isfinite(square):
        raise Infeasible
    return Proof(math.sqrt(square) * ROUND_UP, lam)


def repaired(
    chain: Chain, lam: Multipliers, weights: Array, norm: Norm, diagonal: Array | None = None
) -> Proof:
    """As :func:`certify`; infeasible multipliers are enlarged a little, then more.

    Raises:
        Infeasible: even ``2 lam`` proves nothing.
    """
    for grown in (0.0, 1e-9, 1e-7, 1e-5, 1e-3, 1e-2, 0.1, 1.0):
        try:
            return certify(chain, [l * (1 + grown) for l in lam], weights, norm, diagonal)
        except Infeasible:
            continue
    raise Infeasible


def terminal(c: Matrix, weights: Array) -> Array:
    """Floats ``Q >= C' diag(weights) C``."""
    root = Matrix(c.value, c.size, c.slip)
    q = (root.value.T * weights) @ root.value
    n = c.shape[0]
    error = 2 * c.slip + FLOAT64.gamma(n + 4)
    row = (
        error * (c.size.T @ (weights * (c.size @ np.ones(c.shape[1])))) * FLOAT64.slack(2 * max(c.shape) + 8)
    )
    q = (q + q.T) / 2
    # the sum below is rounded once more
    return q + np.diag(row + 4 * FLOAT64.u * (np.abs(np.diag(q)) + row) + np.finfo(float).tiny)


def proved_step(step: Step, lam: Array, q: Array) -> Array:
    """``Q_{k-1}`` with a proof of M >= 0.

    Raises:
        Infeasible: none was found.
    """
    h = Matrix.stack([step.f, step.g], axis=1)
    n, m = step.f.shape[1], step.width
    dim = n + m
    hqh = h.value.T @ (q @ h.value)
    hqh = (hqh + hqh.T) / 2
    ld = lam[:, None] * step.d.value
    b = hqh[:n, n:] + ld.T
    k = np.diag(2 * lam) - hqh[n:, n:]
    t_w = _powers(2 * lam)
    margin = 8 * dim * FLOAT64.gamma(dim)
    for _ in range(TRIES):
        try:
            factor = cho_factor(k - np.diag(2 * margin / t_w**2), lower=True)
        except (LinAlgError, ValueError):
            margin *= GROW
            continue
        before = hqh[:n, :n] + b @ cho_solve(factor, b.T)
        before = (before + before.T) / 2
        top = max(float(np.max(np.diag(before), initial=0.0)), 1e-250)
        t_s = _powers(np.maximum(np.diag(before), FLAT * top))
        before += np.diag(2 * margin / t_s**2)
        t = np.concatenate([t_s, t_w])
        whole = -hqh
        whole[:n, :n] += before
        whole[:n, n:] -= ld.T
        whole[n:, :n] -= ld
        whole[n:, n:] += np.diag(2 * lam)
        error = _step_error(h, step.d, q, lam, before, t)
        if proved_positive(whole, t, error, margin):
            return before
        margin *= GROW
    raise Infeasible


def _step_error(h: Matrix, d: Matrix, q: Array, lam: Array, before: Array, t: Array) -> Array:
    """Scaled row sums of a bound on |true M - computed M|."""
    n, m = d.shape[1], d.shape[0]
    inner = FLOAT64.gamma(2 * len(q) + 8) + 2 * h.slip * (1 + h.slip)
    hq = h.size.T @ (np.abs(q) @ (h.size @ t))
    # lam d: slip, one product; the sums that make up M round each entry at most 4 times
    outer = d.slip + FLOAT64.gamma(8)
    ld_w = lam * (d.size @ t[:n])
    ld_s = d.size.T @ (lam * t[n:])
    own = np.concatenate([np.abs(before) @ t[:n], 2 * lam * t[n:]])
    row = inner * hq + outer * np.concatenate([ld_s, ld_w]) + FLOAT64.gamma(8) * own
    return t * row * FLOAT64.slack(4 * (n + m + len(q)) + 16)


def _powers(diagonal: Array) -> Array:
    """Powers of two near ``1 / sqrt(diagonal)``."""
    exponent = np.frexp(np.maximum(diagonal, 1e-280))[1]
    return np.ldexp(1.0, -(exponent // 2))


def proved_positive(matrix: Array, t: Array, error: Array, margin: float) -> bool:
    """Whether every symmetric matrix near ``matrix`` is proved positive semidefinite.

    Args:
        matrix: ``N N`` symmetric floats.
        t: ``N`` powers of two, the scaling.
        error: ``N`` row sums of the distance from the true matrix, after scaling.
        margin: diagonal shift to prove with (after scaling).
    """
    dim = len(matrix)
    scaled = matrix * t[:, None] * t
    shifted = scaled - np.diag(np.full(dim, margin))
    try:
        r = cholesky(shifted, lower=True)
    except (LinAlgError, ValueError):
        return False
    size = np.abs(r)
    product = FLOAT64.gamma(dim + 4) * (size @ (size.T @ np.ones(dim)))
    left = np.abs(shifted - r @ r.T).sum(1)
    # the shift rounded each diagonal entry once, the difference each entry once more
    sums = FLOAT64.gamma(4) * (np.abs(shifted).sum(1) + margin)
    total = (left + product + sums + error) * FLOAT64.slack(2 * dim + 16) + dim * FLOAT64.eta
    return bool(np.all(total <= margin))


def _input_side(x: Matrix, q: Array, norm: Norm, diagonal: Array | None) -> float:
    """A proved bound on max ``dx' X'QX dx`` over the unit ball of the norm."""
    p = x.value.T @ (q @ x.value)
    p = (p + p.T) / 2
    error = FLOAT64.gamma(2 * len(q) + 8) + 2 * x.slip * (1 + x.slip)
    slack = FLOAT64.slack(4 * (len(q) + len(p)) + 16)
    if norm is Norm.ONE:
        own = np.einsum("ij,ij->j", x.size, np.abs(q) @ x.size)
        return float(np.max(np.diag(p) + 2 * error * own, initial=0.0)) * slack
    if norm is Norm.TWO:
        start = np.full(len(p), max(float(np.linalg.eigvalsh(p)[-1]), 1e-250))
    else:
        start = _scaled_to(p, np.abs(p).sum(1) if diagonal is None else diagonal)
    t = _powers(start)
    row = t * error * (x.size.T @ (np.abs(q) @ (x.size @ t))) * slack
    # every margin is relative to the diagonal, so the loss is too
    margin = 8 * len(p) * FLOAT64.gamma(len(p)) + float(row.max(initial=0.0)) * 2
    for _ in range(TRIES):
        top = start * (1 + 4 * margin)
        own = 4 * FLOAT64.u * (np.abs(p) @ t + top * t) * t
        if proved_positive(np.diag(top) - p, t, row + own, margin):
            return float(top.max() if norm is Norm.TWO else top.sum() * FLOAT64.slack(len(top)))
        margin *= GROW
    return math.inf


def _scaled_to(p: Array, mu: Array) -> Array:
    """The smallest multiple of mu (kept away from zero) that dominates P, up to rounding."""
    mu = np.maximum(mu, 1e-12 * max(float(mu.max(initial=0.0)), 1e-250))
    root = 1 / np.sqrt(mu)
    return mu * max(float(np.linalg.eigvalsh(p * root[:, None] * root)[-1]), 1e-250)
