"""Maps from any matrix to one with orthonormal columns (or rows), batched, real or complex, differentiable.

Used by dense layers on their matrix, and by circular convolutions on the matrix of every frequency.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Orthogonaliser = Callable[..., Tensor]
"""Of a matrix and, where it iterates, ``full``: all steps."""

# few are enough while training; for good there are as many as float64 is worth
_NEWTON_STEPS, _NEWTON_FULL = 9, 24
_BJORCK_STEPS, _BJORCK_FULL = 6, 24


def _eye(n: int, like: Tensor) -> Tensor:
    return torch.eye(n, dtype=like.dtype, device=like.device)


def tall(function: Orthogonaliser) -> Orthogonaliser:
    """Makes a function of tall matrices one of all: a wide one is the adjoint of a tall one."""

    def either(m: Tensor, *, full: bool = True) -> Tensor:
        return function(m, full) if m.shape[-2] >= m.shape[-1] else function(m.mH, full).mH

    return either


@tall
def cayley(m: Tensor, full: bool = True) -> Tensor:
    """``[(I + Z)^-1 (I - Z); -2 Y (I + Z)^-1]`` of ``m = [X; Y]``, ``Z = X - X* + Y* Y`` (Trockman, Kolter
    2021).

    ``I + Z`` has numerical range right of 1, so it is always invertible and well conditioned from below.
    """
    del full
    n = m.shape[-1]
    x, y = m[..., :n, :], m[..., n:, :]
    z = x - x.mH + y.mH @ y
    one = _eye(n, m)
    inverse = torch.linalg.solve(one + z, one.expand_as(z))
    return torch.cat([inverse @ (one - z), -2 * (y @ inverse)], dim=-2)


@tall
def lot(m: Tensor, full: bool = True) -> Tensor:
    """``m (m* m)^(-1/2)`` by coupled Newton-Schulz steps (Xu, Li, Li 2022).

    The steps converge for eigenvalues in (0, 1] after division by the Frobenius norm; a matrix of deficient
    rank gives columns shorter than 1, never longer.
    """
    gram = m.mH @ m
    scale = torch.linalg.matrix_norm(gram)[..., None, None].clamp(min=torch.finfo(scale_type(m)).tiny)
    one = _eye(m.shape[-1], m)
    y, z = gram / scale, one.expand_as(gram)
    for _ in range(_NEWTON_FULL if full else _NEWTON_STEPS):
        t = 1.5 * one - 0.5 * (z @ y)
        y, z = y @ t, t @ z
    return m @ z / scale.sqrt()


@tall
def bjorck(m: Tensor, full: bool = True) -> Tensor:
    """The nearest orthonormal columns by Bjorck's iteration ``W (3 I - W* W) / 2``, begun with norm below
    1."""
    size = (m.abs().sum(-1).amax(-1) * m.abs().sum(-2).amax(-1)).sqrt()
    w = m / size[..., None, None].clamp(min=torch.finfo(scale_type(m)).tiny)
    one = _eye(m.shape[-1], m)
    for _ in range(_BJORCK_FULL if full else _BJORCK_STEPS):
        w = w @ (1.5 * one - 0.5 * (w.mH @ w))
    return w


def reflector(v: Tensor) -> Tensor:
    """``I - 2 V (V* V)^-1 V*``: the reflection of V's column space (Hu et al. 2024)."""
    q = torch.linalg.qr(v).Q
    return _eye(v.shape[-2], v) - 2 * (q @ q.mH)


def scale_type(m: Tensor) -> torch.dtype:
    """The real type of a tensor's magnitudes."""
    return m.real.dtype if m.is_complex() else m.dtype
