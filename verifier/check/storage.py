"""The storage recursion of Lipschitz certificates: multipliers and slopes in, a proved bound out.

Backwards through the levels, ``s' Q s`` bounds what a difference s of two runs can still become. For slopes
in [0, 1] and any ``lam >= 0``, ``2 w' diag(lam) (v - w) >= 0``; so Q' is a bound in front of a level if

    [Q' 0; 0 0] - H' Q H + [0, -D' L; -L D, 2 L] >= 0,    L = diag(lam).

Q' is guessed (a Schur complement plus a margin) and the inequality then proved: a symmetric matrix is
positive semidefinite if it is ``R R' + diag(c) + E`` and every absolute row sum of E is at most c
(Gershgorin). E holds all that was rounded or is not known exactly. Shares no code with the search
(docs/explanation/lipschitz.md).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from bounds.errors import CertificateRejected
from verifier.check.increments import Approximate, Increments, Level, U, gamma
from verifier.check.network import Array, Network

ATTEMPTS = 14
FLAT = 1e-6  # coordinates whose share is smaller are scaled like this one: rounding may make them negative

Slopes = Mapping[int, tuple[Array, Array]]
"""Per nonlinear node the least and the largest slope of each element."""


def proved_bound(
    network: Network,
    chain: Increments,
    multipliers: Mapping[int, Array],
    slopes: Slopes,
    weights: Array,
    ends: tuple[str, Array | None, float],
) -> float:
    """A proved bound on ``sqrt(sum_i weights_i dy_i^2)`` over differences of inputs of size 1.

    Args:
        network: for names only.
        chain: its increments; multipliers, slopes: by nonlinear node.
        weights: of the squared output differences.
        ends: the inputs' norm, for "inf" the shape of its diagonal, and the bound to be proved.

    Raises:
        CertificateRejected: these multipliers prove nothing.
    """
    q = _terminal(chain.c, weights)
    for level in reversed(chain.levels):
        lam = np.concatenate([multipliers[i] for i in level.nodes])
        alpha, beta = (np.concatenate([slopes[i][end] for i in level.nodes]) for end in (0, 1))
        q = _back(network, _unit_slopes(level, alpha, beta), lam[alpha != beta], q)
    square = _at_input(chain.x, q, *ends)
    return math.sqrt(square) * (1 + 2.0**-50) if square >= 0 else math.inf


def _terminal(c: Approximate, weights: Array) -> Array:
    q = (c.value.T * weights) @ c.value
    error = (2 * c.error + gamma(len(weights) + 4)) * (c.size.T @ (weights * c.size.sum(1)))
    return (q + q.T) / 2 + np.diag(2 * error + 4 * U * np.abs(np.diag(q)) + 1e-300)


def _back(network: Network, level: Level, lam: Array, q: Array) -> Array:
    """A proved Q in front of a level."""
    n, d, h, m = level.d.value.shape[1], level.d, level.h, len(lam)
    p = h.value.T @ q @ h.value
    p = (p + p.T) / 2
    cross = p[:n, n:] + (lam[:, None] * d.value).T
    inner = np.diag(2 * lam) - p[n:, n:]
    scale_w = _two(2 * lam)
    margin = 4 * (n + m) * gamma(n + m)
    for _ in range(ATTEMPTS):
        try:
            solved = np.linalg.solve(inner - np.diag(2 * margin / scale_w**2), cross.T)
        except np.linalg.LinAlgError:
            margin *= 8
            continue
        before = p[:n, :n] + cross @ solved
        before = (before + before.T) / 2
        top = max(float(np.max(np.diag(before), initial=0.0)), 1e-250)
        scale_s = _two(np.maximum(np.diag(before), FLAT * top))
        before = before + np.diag(2 * margin / scale_s**2)
        scale = np.concatenate([scale_s, scale_w])
        matrix = -p
        matrix[:n, :n] += before
        matrix[:n, n:] -= (lam[:, None] * d.value).T
        matrix[n:, :n] -= lam[:, None] * d.value
        matrix[n:, n:] += np.diag(2 * lam)
        row = (gamma(2 * len(q) + 12) + 2.01 * h.error) * (h.size.T @ (np.abs(q) @ (h.size @ scale)))
        row[:n] += (d.error + gamma(10)) * (d.size.T @ (lam * scale_w)) + gamma(10) * (
            np.abs(before) @ scale_s
        )
        row[n:] += (d.error + gamma(10)) * lam * (d.size @ scale_s) + gamma(10) * 2 * lam * scale_w
        if _positive(matrix, scale, row * scale * (1 + 1e-9), margin):
            return before
        margin *= 8
    name = network.nodes[level.nodes[0]].name
    raise CertificateRejected("step", f"the multipliers of '{name}' prove nothing")


def _unit_slopes(level: Level, alpha: Array, beta: Array) -> Level:
    """The level with slopes in [0, 1], ``w = alpha v + (beta - alpha) w'``; without elements of one slope."""
    if np.all(alpha == 0) and np.all(beta == 1):
        return level
    n, live = level.d.value.shape[1], np.flatnonzero(alpha != beta)
    delta = np.nextafter(beta - alpha, np.inf)[live]
    h, d = level.h, level.d
    value, size = h.value[:, :n].copy(), h.size[:, :n].copy()
    value += (h.value[:, n:] * alpha) @ d.value
    size += (h.size[:, n:] * np.abs(alpha)) @ d.size
    value = np.concatenate([value, h.value[:, n:][:, live] * delta], axis=1)
    size = np.concatenate([size, h.size[:, n:][:, live] * delta], axis=1)
    grown = gamma(len(alpha) + 6)
    error = (h.error + d.error + grown) * (1 + 2.0**-20)
    # products of magnitudes above 2^-800 do not underflow; a slope might be less
    fine = Approximate(value, size * (1 + 2 * grown) + 2.0**-800, error)
    return Level(level.nodes, Approximate(d.value[live], d.size[live], d.error), fine)


def _two(diagonal: Array) -> Array:
    """Powers of two near ``1 / sqrt(diagonal)``: scaling by them rounds nothing."""
    return np.ldexp(1.0, -(np.frexp(np.maximum(diagonal, 1e-280))[1] // 2))


def _positive(matrix: Array, scale: Array, row: Array, margin: float) -> bool:
    """Whether all symmetric matrices within ``row`` (absolute row sums, scaled) are positive semidefinite."""
    shifted = matrix * scale * scale[:, None]
    shifted[np.diag_indices_from(shifted)] -= margin
    try:
        r = np.linalg.cholesky(shifted)
    except np.linalg.LinAlgError:
        return False
    size = len(matrix)
    rest = np.abs(shifted - r @ r.T).sum(1)
    rest += gamma(size + 6) * (np.abs(r) @ np.abs(r).sum(0))
    rest += gamma(6) * (np.abs(shifted).sum(1) + margin)
    total = (rest + row) * (1 + 4 * gamma(size)) + size * 2.0**-1000
    return bool((total <= margin).all())


def _at_input(x: Approximate, q: Array, norm: str, mu: Array | None, claimed: float) -> float:
    """The squared bound: from ``dx' X' Q X dx`` to the unit ball of the norm."""
    p = x.value.T @ q @ x.value
    p = (p + p.T) / 2
    error = (gamma(2 * len(q) + 12) + 2.01 * x.error) * (1 + 1e-9)
    if norm == "1":
        own = (x.size * (np.abs(q) @ x.size)).sum(0)
        return float(np.max(np.diag(p) + 2 * error * own, initial=0.0)) * (1 + 1e-14)
    if norm == "2":
        top = np.full(len(p), claimed * claimed * (1 - 2.0**-48))
    else:
        shape = np.abs(p).sum(1) if mu is None else mu
        top = shape * (claimed * claimed / max(float(shape.sum()), 1e-300)) * (1 - 1e-12)
    scale = _two(top)
    row = scale * error * (x.size.T @ (np.abs(q) @ (x.size @ scale))) + gamma(8) * scale * (np.abs(p) @ scale)
    margin = float(row.max(initial=0.0)) * 2 + 4 * len(p) * gamma(len(p))
    for _ in range(ATTEMPTS):
        if _positive(np.diag(top) - p, scale, row + gamma(8) * top * scale * scale, margin):
            return float(top.max()) if norm == "2" else float(top.sum()) * (1 + gamma(len(top)))
        margin *= 4
    return math.inf
