"""Attacks: what bounds robust accuracy from above, and points inside losses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


def attack_l2(model: Any, x: Tensor, y: Tensor, radius: float, steps: int) -> Tensor:
    """Projected gradient ascent of the worst margin in an L2 ball; points of the ball."""
    delta = torch.zeros_like(x)
    for step in range(steps):
        delta.requires_grad_(True)
        (gradient,) = torch.autograd.grad(_worst_margin(model(x + delta), y).sum(), delta)
        size = _norm(gradient).clamp(min=1e-12)
        moved = delta.detach() - (2.5 * radius / steps) * gradient / size
        delta = moved * (radius / _norm(moved).clamp(min=1e-12)).clamp(max=1.0)
        if step == 0:  # straight to the sphere: margins of 1-Lipschitz networks are nearly linear
            delta = delta * (radius / _norm(delta).clamp(min=1e-12))
    return (x + delta).detach()


def attack_linf(
    model: Callable[[Tensor], Tensor],
    lo: Tensor,
    hi: Tensor,
    y: Tensor,
    steps: int,
    *,
    start: Tensor | None = None,
) -> Tensor:
    """Signed gradient ascent of the cross-entropy in boxes; points of the boxes."""
    point = lo + (hi - lo) * torch.rand_like(lo) if start is None else start
    for step in range(steps):
        point = point.detach().requires_grad_(True)
        (gradient,) = torch.autograd.grad(functional.cross_entropy(model(point), y, reduction="sum"), point)
        size = (hi - lo) / 2 * (0.5 if step >= steps // 2 else 1.0)
        point = torch.minimum(torch.maximum(point.detach() + size * gradient.sign(), lo), hi)
    return point.detach()


def _norm(x: Tensor) -> Tensor:
    return torch.linalg.vector_norm(x.flatten(1), dim=1).reshape(-1, *[1] * (x.dim() - 1))


def _worst_margin(f: Tensor, y: Tensor) -> Tensor:
    own = f.gather(1, y[:, None])[:, 0]
    others = f.masked_fill(functional.one_hot(y, f.shape[1]).bool(), -torch.inf)
    return own - others.amax(1)
