"""Proved upper bounds on norms of linear maps: what a claimed constant rests on.

Everything is computed in float64 and pays for its own rounding. A matrix's Gram matrix ``G`` is computed with
a known error; ``top I - G`` is proved positive semidefinite by a Cholesky factor whose *residual* is
computed, bounded (Higham 2002, section 3.5) and dominated by a diagonal shift (Gershgorin). Nothing an
eigenvalue routine says is believed; it only suggests ``top``. A NaN or an infinity anywhere gives infinity.

This is a second road to what ``verify lipschitz`` proves about the exported file: the two share no code, so
that each can find the other wrong.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cholesky

from bounds.numerics import FLOAT64

Array = NDArray[Any]

_TRIES: Final = 8
_GROW: Final = 8.0
_SQUARINGS: Final = 7
_WORK: Final = 2e9  # multiply-adds that one more squaring of a kernel may cost
_UP: Final = 1 + 2.0**-40  # pays for the few roundings of scalars beside each product


def matrix_norm(weight: Any) -> float:
    """A proved bound on the spectral norm of a matrix of floats, tight to rounding.

    Soundness: with ``W`` scaled by a power of two (exact), ``|W|^2`` is the largest eigenvalue of the exact
    Gram matrix; the computed one is off by at most ``gamma_n |W||W|'`` plus underflows, row sums of which are
    charged to the shift.
    """
    w = np.asarray(weight, dtype=np.float64)
    if w.size == 0:
        return 0.0
    if not np.isfinite(w).all():
        return math.inf
    if w.shape[0] > w.shape[1]:
        w = w.T
    largest = float(np.abs(w).max())
    if largest == 0.0:
        return 0.0
    exponent = math.frexp(largest)[1]
    w = np.ldexp(w, -exponent)
    lost = w.shape[1] * 2.0**-1020  # entries that vanished in the scaling are below 2^-1022 of the largest
    gram = w @ w.T
    gram = (gram + gram.T) / 2
    size = np.abs(w)
    ones = np.ones(len(w))
    error = FLOAT64.gamma(w.shape[1] + 4) * (size @ (size.T @ ones)) * FLOAT64.slack(sum(w.shape) + 8)
    square = _proved_top(gram, error + len(w) * lost)
    return math.ldexp(math.sqrt(square) * (1 + 2.0**-50), exponent) if math.isfinite(square) else math.inf


def _proved_top(gram: Array, error: Array) -> float:
    """A number that every symmetric matrix within ``error`` (row sums) of ``gram`` is proved to stay
    below."""
    n = len(gram)
    try:
        start = float(np.linalg.eigvalsh(gram)[-1])
    except np.linalg.LinAlgError:
        return math.inf
    margin = max(16 * n * FLOAT64.gamma(n + 4) * max(start, 2.0**-500), 4 * float(error.max()))
    for _ in range(_TRIES):
        top = start + 3 * margin
        if _dominates(top, gram, error, margin):
            return top
        margin *= _GROW
    return math.inf


def _dominates(top: float, gram: Array, error: Array, shift: float) -> bool:
    """Whether ``top I - G >= 0`` is proved for every G within ``error`` of ``gram``."""
    n = len(gram)
    moved = np.diag(np.full(n, top)) - gram - np.diag(np.full(n, shift))
    try:
        factor = cholesky(moved, lower=True)
    except (LinAlgError, ValueError):
        return False
    size = np.abs(factor)
    product = FLOAT64.gamma(n + 4) * (size @ (size.T @ np.ones(n)))
    residual = np.abs(moved - factor @ factor.T).sum(1)
    sums = FLOAT64.gamma(6) * (np.abs(moved).sum(1) + np.abs(np.diag(gram)) + abs(top) + shift)
    total = (residual + product + sums + error) * FLOAT64.slack(2 * n + 16) + n * FLOAT64.eta
    return bool(np.all(total <= shift))


def conv_norm(weight: Any, stride: tuple[int, int] = (1, 1), groups: int = 1) -> float:
    """A proved bound on the norm of a zero-padded convolution on images of any size.

    Gram iteration (Delattre et al. 2023): on the infinite grid the Gram operator is a convolution again, and
    for every t, with ``|.|`` the largest sum of magnitudes over an output channel,
    ``|K|^2 = |G| <= |G^(2^t)|^(1/2^t)``. A stride is a convolution of more channels; zero padding restricts
    the grid, which lowers norms.

    Args:
        weight: ``O C/groups kh kw``.
        stride: vertical and horizontal.
        groups: number of independent groups.
    """
    w = np.asarray(weight, dtype=np.float64)
    if not np.isfinite(w).all():
        return math.inf
    return max(_group_norm(_phases(part, stride)) for part in np.split(w, groups))


def _phases(weight: Array, stride: tuple[int, int]) -> Array:
    """The kernel on ``s_y s_x`` times the channels that has stride 1."""
    (sy, sx), (o, c, kh, kw) = stride, weight.shape
    height, width = -(-kh // sy), -(-kw // sx)
    padded = np.zeros((o, c, height * sy, width * sx))
    padded[:, :, :kh, :kw] = weight
    split = padded.reshape(o, c, height, sy, width, sx).transpose(0, 1, 3, 5, 2, 4)
    return split.reshape(o, c * sy * sx, height, width)


def _group_norm(weight: Array) -> float:
    if weight.shape[0] < weight.shape[1]:
        weight = _adjoint(weight)  # same norm, smaller Gram operator
    largest = float(np.abs(weight).max(initial=0.0))
    if largest == 0.0:
        return 0.0
    exponent = math.frexp(largest)[1]
    weight = np.ldexp(weight, -exponent)
    gram = compose(_adjoint(weight), weight)
    sizes = _row_sum(_adjoint(weight)) * _row_sum(weight)
    error = FLOAT64.gamma(_terms(weight) + 2) * sizes * _UP + weight.size * 2.0**-1000
    best, power = math.inf, 1
    for _ in range(_SQUARINGS + 1):
        size = (_row_sum(gram) + error) * _UP
        best = min(best, size ** (0.5 / power) * _UP)
        if _terms(gram) * gram.size * gram[0, 0].size > _WORK or not size < 2.0**400:
            break
        square = compose(gram, gram)
        error = (2 * size * error + FLOAT64.gamma(_terms(gram) + 2) * size * size) * _UP + 2.0**-900
        gram, power = square, 2 * power
    return math.ldexp(best, exponent)


def _adjoint(weight: Array) -> Array:
    return np.ascontiguousarray(weight.transpose(1, 0, 2, 3)[:, :, ::-1, ::-1])


def _terms(kernel: Array) -> int:
    """The longest sum in a composition with this kernel on the right."""
    return kernel.shape[0] * kernel.shape[2] * kernel.shape[3]


def _row_sum(kernel: Array) -> float:
    """The largest sum of magnitudes over an output channel, rounded upwards."""
    sums = np.abs(kernel).sum(axis=(1, 2, 3))
    return float(sums.max(initial=0.0)) * FLOAT64.slack(kernel[0].size + 2)


def compose(left: Array, right: Array) -> Array:
    """The kernel of ``left`` after ``right``, both as convolutions on the infinite grid."""
    (o, c, lh, lw), (_, n, rh, rw) = left.shape, right.shape
    out = np.zeros((o, n, lh + rh - 1, lw + rw - 1))
    flat = right.reshape(c, -1)
    for y in range(lh):
        for x in range(lw):
            out[:, :, y : y + rh, x : x + rw] += (left[:, :, y, x] @ flat).reshape(o, n, rh, rw)
    return out


def product(constants: list[float]) -> float:
    """A product of non-negative constants, rounded upwards; a NaN makes it infinite."""
    total = 1.0
    for c in constants:
        total = math.nextafter(total * c, math.inf) if c != 1.0 else total
    return total if total >= 0 else math.inf


def shrunk(weight: Any, target: float, norm: Any) -> Array:
    """Float32 weights near ``weight`` whose proved norm is at most ``target``.

    Args:
        weight: float64.
        target: the largest norm allowed.
        norm: proves a bound for such weights.

    Raises:
        ValueError: the weights hold a NaN or an infinity.
    """
    weight = np.asarray(weight, dtype=np.float64)
    rounded = weight.astype(np.float32)
    for _ in range(_TRIES):
        found = norm(rounded)
        if found <= target:
            return rounded
        if not math.isfinite(found):
            raise ValueError("weights hold a NaN or an infinity: no constant can be proved")
        weight = weight * (target / found * (1 - 2.0**-24))
        rounded = weight.astype(np.float32)
    raise ValueError("no float32 weights near these have a provable norm")
