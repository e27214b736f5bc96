"""Networks defined by an equation: deep equilibrium models and neural differential equations.

Slopes are in [0, 1] (scale other activations first). Both are the joint matrix inequality of
:mod:`sdp.interior` with rows of v that may depend on w itself, solved there and proved here as one matrix.

Reference: Pauli et al. 2024 (equilibrium networks); Fazlyab et al. 2019.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from bounds.errors import BadInput, SureboundError
from bounds.graph import Array
from bounds.numerics import FLOAT64
from sdp.certify import GROW, TRIES, proved_positive
from sdp.interior import Joint, follow

UP = 1 + 2.0**-48


@dataclass(frozen=True, slots=True)
class Implicit:
    """A proved bound and its multipliers."""

    upper: float
    multipliers: Array


def well_posed(w: Array, multipliers: Array) -> bool:
    """Whether ``2 L - L W - W' L > 0`` is proved for ``L = diag(multipliers)``.

    Then ``z = phi(W z + u)`` has exactly one solution for every u and every phi with slopes in [0, 1]
    (Winston, Kolter 2020, theorem 1; Revay et al. 2020).
    """
    lw = multipliers[:, None] * w
    # a little less than 2 L, so that semidefinite here is definite there
    matrix = np.diag(2 * multipliers * (1 - 1e-9)) - lw - lw.T
    return _proved(matrix, np.abs(lw) + np.abs(lw).T + np.diag(2 * multipliers))


def equilibrium(w: Array, u: Array, out: Array) -> Implicit:
    """L2 constant of ``y = out z, z = phi(W z + U x + b)`` from x to y.

    Args:
        w: ``n n``; u: ``n inputs``; out: ``outputs n``.

    Raises:
        BadInput: well-posedness cannot be proved, so that the network may not be a function.
    """
    w, u, out = (np.asarray(m, dtype=np.float64) for m in (w, u, out))
    n, r = len(w), u.shape[1]
    base = next((m for m in _candidates(w) if well_posed(w, m)), None)
    if base is None:
        raise BadInput("the equilibrium is not proved to exist and be unique; make W smaller, say |W| < 1")
    lw = base[:, None] * w
    least = float(np.linalg.eigvalsh(np.diag(2 * base) - lw - lw.T)[0])
    lam = base * (2 * float(np.linalg.norm(out, 2)) ** 2 / least + 1e-12)
    d, constant = np.hstack([u, w]), np.zeros((r + n, r + n))
    constant[r:, r:] = -out.T @ out
    size = np.zeros_like(constant)
    size[r:, r:] = np.abs(out).T @ np.abs(out)
    found = _solve(d, constant, size, lam, r, 0.0, inner=len(out))
    return Implicit(math.sqrt(found.upper) * UP, found.multipliers)


def one_sided(w: Array, g: Array) -> Implicit:
    """rho with ``|z1(t) - z2(t)| <= exp(rho t) |z1(0) - z2(0)|`` for ``z' = G phi(W z + b)``.

    Args:
        w: ``m n``; g: ``n m``.

    Returns:
        The rate, which may be negative (contraction).
    """
    w, g = (np.asarray(m, dtype=np.float64) for m in (w, g))
    m, n = w.shape
    # rho + shift is positive, because no solution moves apart or together faster than |G| |W|
    shift = 1.5 * float(np.linalg.norm(g, 2) * np.linalg.norm(w, 2)) + 1e-9
    d, constant = np.hstack([w, np.zeros((m, m))]), np.zeros((n + m, n + m))
    constant[:n, n:], constant[n:, :n] = -g, -g.T
    size = np.abs(constant)
    constant[:n, :n] = -2 * shift * np.eye(n)
    size[:n, :n] = 2 * shift * np.eye(n)
    lam = np.full(m, float(np.linalg.norm(g, 2)) / max(float(np.linalg.norm(w, 2)), 1e-12) + 1e-9)
    found = _solve(d, constant, size, lam, n, shift)
    value = found.upper / 2 - shift
    return Implicit(value + 4 * FLOAT64.u * (abs(value) + shift), found.multipliers)


def _solve(
    d: Array, constant: Array, size: Array, lam: Array, r: int, shift: float, inner: int = 1
) -> Implicit:
    """The least proved ``rho`` with ``rho E + constant + sum lam_i (e_i b_i' + b_i e_i') >= 0``."""
    whole = _matrix(d, constant, lam, r)
    k, b, a = whole[r:, r:], whole[:r, r:], whole[:r, :r]
    rho = 2 * max(float(np.linalg.eigvalsh(b @ np.linalg.solve(k, b.T) - a)[-1]), shift) + 1e-12
    inverse = 1 / np.sqrt(np.concatenate([np.full(r, rho), lam]))
    form = Joint(
        r,
        np.sqrt(lam)[:, None] * d * inverse,
        constant * inverse[:, None] * inverse,
        lam,
        np.array([rho]),
        False,
        ((slice(0, len(lam)), slice(0, d.shape[1])),),
    )
    y = follow(form, 1e-6)
    lam = lam * y[1:]
    matrix = _matrix(d, constant, lam, r)
    ld = np.abs(lam[:, None] * d)
    magnitudes = size + np.abs(matrix)
    magnitudes[r:] += ld
    magnitudes[:, r:] += ld.T
    best = rho * float(y[0])
    for grown in (1e-12, 1e-10, 1e-8, 1e-6, 1e-4, 1e-2, 1.0):
        top = best * (1 + grown)
        matrix[np.arange(r), np.arange(r)] = np.diag(constant)[:r] + top
        if _proved(matrix, magnitudes + np.eye(len(matrix)) * top, inner):
            return Implicit(top, lam)
    raise SureboundError("no bound could be proved: the network's numbers are too extreme")


def _matrix(d: Array, constant: Array, lam: Array, r: int) -> Array:
    z = constant.copy()
    z[r:] -= lam[:, None] * d
    z[:, r:] -= (lam[:, None] * d).T
    z[np.arange(r, len(z)), np.arange(r, len(z))] += 2 * lam
    return z


def _proved(matrix: Array, magnitudes: Array, inner: int = 1) -> bool:
    """Whether the true matrix is positive semidefinite (definite: the margin is positive).

    ``magnitudes`` bound the terms of every entry, each computed with at most the rounding of a dot product of
    ``inner`` terms and a few more.
    """
    diagonal = np.maximum(np.diag(matrix), 1e-280)
    t = np.ldexp(1.0, -(np.frexp(diagonal)[1] // 2))
    row = FLOAT64.gamma(max(len(matrix), inner) + 8) * (magnitudes @ t) * t
    margin = 8 * len(matrix) * FLOAT64.gamma(len(matrix))
    for _ in range(TRIES):
        if proved_positive(matrix, t, row, margin):
            return True
        margin *= GROW
    return False


def _candidates(w: Array) -> list[Array]:
    """Multipliers worth trying: equal ones, and those that balance |W| (Perron vectors)."""
    n = len(w)
    found = [np.ones(n)]
    left, right = np.ones(n), np.ones(n)
    for _ in range(200):
        right = np.abs(w) @ right + 1e-9
        left = np.abs(w).T @ left + 1e-9
        right, left = right / right.sum(), left / left.sum()
    found.append(left / np.maximum(right, 1e-12))
    return found
