"""An interior-point method on the multipliers alone: the optimum of LipSDP-neuron without an SDP solver.

Minimises ``tau obj - log det Z`` by Newton's method for growing tau. In the joint increments xi = (dx,
w_1..w_l)

    Z = M_in - (C T)'(C T) + sum_i lam_i (e_i b_i' + b_i e_i'),   b_i = e_i - d_i,

with e_i the unit vector of element i and d_i its row of v = D s. ``M_in`` is ``rho`` on dx (from L2) or
``diag(mu)``. With S = Z^-1 the Newton system costs three products instead of an SDP's general algebra:

    grad_i = -2 e_i' S b_i,    H_ij = 2 (e_i'S e_j b_i'S b_j + e_i'S b_j b_i'S e_j).

Every iterate is feasible, hence proves a bound; the gap is at most ``dim Z / tau``. Rows and columns of Z are
scaled by the starting multipliers, so that layers of very different norms do no harm.

Reference: Nesterov, Nemirovskii 1994, chapter 4 (barriers of linear matrix inequalities).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve, cholesky, lapack, solve_triangular

from bounds.graph import Array
from sdp.chain import Chain, Multipliers, backward, compressed, concatenated, divided, largest
from sdp.objective import Norm

GROWTH = 8.0  # of tau, from one centre to the next
CENTERED = 0.5  # Newton decrement at which a centre is good enough
REACH = 0.6  # share of the way to the boundary: from very near it Newton only doubles the distance each step
NEWTON_STEPS = 50  # for one centre
ROUNDS = 40
EXACT_SEARCH = 400  # dimension up to which eigenvalues for the line search are cheap
# price of a scaled multiplier, whatever tau: without it those of dead elements grow for ever
PRICE = 0.01


@dataclass(slots=True)
class Joint:
    """The scaled joint form.

    Attributes:
        r: size of the input part.
        d: ``N dim`` rows of v, scaled; e_i are unit rows at ``r + i``.
        constant: ``dim dim``, minus the output's part.
        scale: ``N``, the starting multipliers; lam = scale * variable.
        unit: the input part's starting value(s), obj = unit * variable.
        diagonal: the input part has one variable per coordinate (else one for all).
        blocks: rows of d, and the columns where they are not zero.
    """

    r: int
    d: Array
    constant: Array
    scale: Array
    unit: Array
    diagonal: bool
    blocks: tuple[tuple[slice, slice], ...]

    @property
    def inputs(self) -> int:
        """Variables of the input part."""
        return self.r if self.diagonal else 1

    def matrix(self, y: Array) -> Array:
        """Z at variables ``y`` (input part first)."""
        z = self.constant.copy()
        r, n = self.r, len(self.scale)
        lam = y[self.inputs :]
        part = z[r:]
        part -= lam[:, None] * self.d
        z[:, r:] -= (lam[:, None] * self.d).T
        z[np.arange(r), np.arange(r)] += y[: self.inputs]
        z[np.arange(r, r + n), np.arange(r, r + n)] += 2 * lam
        return z

    def derivatives(self, s: Array) -> tuple[Array, Array]:
        """Gradient and Hessian of ``-log det Z`` from ``S = Z^-1``."""
        r, k = self.r, self.inputs
        n = len(self.d)
        sb = s[:, r:].copy()
        for rows, columns in self.blocks:
            sb[:, rows] -= s[:, columns] @ self.d[rows, columns].T
        bb = sb[r:].copy()
        for rows, columns in self.blocks:
            bb[rows] -= self.d[rows, columns] @ sb[columns]
        ee, eb = s[r:, r:], sb[r:]
        xe, xb, xx = s[:r, r:], sb[:r], s[:r, :r]
        h = np.empty((k + n, k + n))
        h[k:, k:] = 2 * (ee * bb + eb * eb.T)
        cross = 2 * xe * xb
        gradient = np.empty(k + n)
        gradient[k:] = -2 * np.diag(eb)
        if self.diagonal:
            gradient[:k], h[:k, :k], h[:k, k:] = -np.diag(xx), xx * xx, cross
        else:
            gradient[0], h[0, 0], h[0, k:] = -np.trace(xx), (xx * xx).sum(), cross.sum(0)
        h[k:, :k] = h[:k, k:].T
        return gradient, h


def joint_form(chain: Chain, start: Multipliers, last: Array, norm: Norm) -> Joint:
    """The joint form around feasible multipliers.

    Args:
        chain, start, last: as for :func:`sdp.chain.backward`.
        norm: of the inputs (TWO or INF).
    """
    x = chain.x.value
    diagonal = norm is Norm.INF
    if not diagonal and x.shape[1] > x.shape[0]:
        x = compressed(x)
    r, n = x.shape[1], chain.elements
    dim = r + n
    t = np.zeros((x.shape[0], dim))
    t[:, :r] = x
    rows = np.zeros((n, dim))
    at = 0
    slices: list[slice] = []
    for step in chain.steps:
        slices.append(slice(at, at + step.width))
        rows[at : at + step.width] = step.d.value @ t
        t = step.f.value @ t
        t[:, r + at : r + at + step.width] += step.g.value
        at += step.width
    scale = concatenated(start)
    p = x.T @ backward(chain, start, last).q[0] @ x
    unit = (
        2 * (np.abs(p).sum(1) + 1e-12 * np.abs(p).max(initial=1e-300))
        if diagonal
        else np.array([2 * largest(p)])
    )
    unit = np.maximum(unit, 1e-300)
    inverse = 1 / np.sqrt(np.concatenate([np.broadcast_to(unit, r), scale]))
    rows *= np.sqrt(scale)[:, None] * inverse
    constant = -(t * inverse).T @ last @ (t * inverse)
    blocks = tuple((part, _columns(rows[part])) for part in slices)
    return Joint(r, rows, (constant + constant.T) / 2, scale, unit, diagonal, blocks)


def _columns(rows: Array) -> slice:
    """The columns in which some row is not zero."""
    used = np.flatnonzero(np.any(rows, axis=0))
    return slice(int(used[0]), int(used[-1]) + 1) if len(used) else slice(0, 0)


def optimise(
    chain: Chain,
    start: Multipliers,
    last: Array,
    norm: Norm,
    *,
    gap: float = 1e-5,
    should_stop: Callable[[], bool] = lambda: False,
) -> tuple[Multipliers, Array | None]:
    """Multipliers within a relative ``gap`` of the optimum (in L squared).

    Args:
        chain, start, last, norm: as for :func:`joint_form`.
        gap: relative.
        should_stop: polled at every Newton step.

    Returns:
        The multipliers, and mu for Norm.INF.
    """
    form = joint_form(chain, start, last, norm)
    y = follow(form, gap, should_stop)
    mu = form.unit * y[: form.inputs] if form.diagonal else None
    return divided(chain, form.scale * y[form.inputs :]), mu


def follow(form: Joint, gap: float, should_stop: Callable[[], bool] = lambda: False) -> Array:
    """The central path from the variables' ones (which must be feasible) to a relative ``gap``."""
    y = np.ones(form.inputs + len(form.scale))
    cost = np.zeros_like(y)
    cost[: form.inputs] = form.unit / form.unit.sum()
    price = np.where(np.arange(len(y)) < form.inputs, 0.0, PRICE)
    dim = form.r + len(form.scale)
    tau = float(dim)
    for _ in range(ROUNDS):
        y, centred = _centre(form, y, tau * cost + price, should_stop)
        if not centred or (dim + price @ y) / tau <= gap * float(cost @ y):
            break
        tau *= GROWTH
    return y


def _centre(form: Joint, y: Array, cost: Array, should_stop: Callable[[], bool]) -> tuple[Array, bool]:
    """Damped Newton steps; whether the centre was reached."""
    for _ in range(NEWTON_STEPS):
        if should_stop():
            return y, False
        lower = cholesky(form.matrix(y), lower=True)
        gradient, h = form.derivatives(_inverse(lower))
        gradient += cost
        ridge = 1e-14 * np.diag(h)
        try:
            move = -cho_solve(cho_factor(h + np.diag(ridge), lower=True), gradient)
        except LinAlgError:
            return y, False
        decrement = float(np.sqrt(max(-gradient @ move, 0.0)))
        if not np.isfinite(decrement):
            return y, False
        search = _exact_search if len(lower) <= EXACT_SEARCH else _backtrack
        y, moved = search(form, y, move, cost, lower)
        if not moved:
            return y, decrement < 1
        if decrement < CENTERED:
            return y, True
    return y, True


def _exact_search(form: Joint, y: Array, move: Array, cost: Array, lower: Array) -> tuple[Array, bool]:
    """The best step along ``move``: -log det along a line is a sum of logarithms of eigenvalues."""
    z = form.matrix(y + move) - form.matrix(y)
    half = solve_triangular(lower, z, lower=True)
    w = np.linalg.eigvalsh(solve_triangular(lower, half.T, lower=True))
    slope = float(cost @ move)
    limit = REACH / -w[0] if w[0] < 0 else 1e6
    t = min(1.0, limit)
    for _ in range(30):  # Newton in one dimension, safeguarded
        u = w / (1 + t * w)
        step = -(slope - u.sum()) / max((u * u).sum(), 1e-300)
        new = min(max(t + step, t / 4), t + (limit - t) / 2)
        if abs(new - t) <= 1e-3 * t:
            t = new
            break
        t = new
    for _ in range(8):
        try:
            cholesky(form.matrix(y + t * move), lower=True)
            return y + t * move, True
        except LinAlgError:
            t /= 2
    return y, False


def _inverse(lower: Array) -> Array:
    """``(L L')^-1``."""
    half, _ = lapack.dpotri(lower, lower=1)  # pyright: ignore[reportAttributeAccessIssue]
    full = np.tril(half)
    return full + np.tril(full, -1).T


def _value(form: Joint, y: Array, cost: Array) -> float:
    """``cost y - log det Z``; infinite outside."""
    try:
        lower = cholesky(form.matrix(y), lower=True)
    except LinAlgError:
        return np.inf
    return float(cost @ y - 2 * np.log(np.diag(lower)).sum())


def _backtrack(form: Joint, y: Array, move: Array, cost: Array, lower: Array) -> tuple[Array, bool]:
    """The first of 1, 1/2, 1/4, ... that improves and keeps its distance to the boundary; then doubled."""
    now = float(cost @ y - 2 * np.log(np.diag(lower)).sum())
    t = 1.0
    for _ in range(30):
        found = _value(form, y + t * move, cost)
        if found < now and np.isfinite(_value(form, y + t / REACH * move, cost)):
            break
        t /= 2
    else:
        return y, False
    while t >= 1 and t < 64:
        more = _value(form, y + 2 * t * move, cost)
        if not more < found or not np.isfinite(_value(form, y + 2 * t / REACH * move, cost)):
            break
        t, found = 2 * t, more
    return y + t * move, True
