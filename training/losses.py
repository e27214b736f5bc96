"""Losses for 1-Lipschitz networks: they push margins up, because margins are certified radii.

``f`` are logits of a network whose features have constant 1; ``d_j = |w_y - w_j|`` are the constants of the
margins, so that ``(f_y - f_j) / d_j`` is a certified radius against class j.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from bounds.errors import BadInput
from training.config import LossConfig

MarginLoss = Callable[[Tensor, Tensor, Tensor, LossConfig, float], Tensor]
_LEAST_SHARE: Final = 0.01


def margin_loss(config: LossConfig) -> MarginLoss:
    """The loss of that name: ``(logits, labels, distances C C, config, radius) -> scalar``.

    Raises:
        BadInput: it is no loss on margins.
    """
    if config.name not in LOSSES:
        raise BadInput(f"loss '{config.name}' bounds boxes; use it with model kind \"plain\"")
    return LOSSES[config.name]


def _offset_of(config: LossConfig, radius: float) -> float:
    return config.offset if config.offset >= 0 else math.sqrt(2.0) * radius


def _without(f: Tensor, y: Tensor, amount: float) -> Tensor:
    """Logits with ``amount`` taken from the right one."""
    return f - amount * functional.one_hot(y, f.shape[1]).to(f.dtype)


def cross_entropy(f: Tensor, y: Tensor, distances: Tensor, config: LossConfig, radius: float) -> Tensor:
    """``T CE(f / T)``."""
    del distances, radius
    return config.temperature * functional.cross_entropy(f / config.temperature, y)


def offset(f: Tensor, y: Tensor, distances: Tensor, config: LossConfig, radius: float) -> Tensor:
    """``T CE((f - o onehot(y)) / T)`` (Prach, Lampert 2022)."""
    return cross_entropy(_without(f, y, _offset_of(config, radius)), y, distances, config, radius)


def emma(f: Tensor, y: Tensor, distances: Tensor, config: LossConfig, radius: float) -> Tensor:
    """Cross-entropy after wrong logits are raised by ``e_j d_j``, e_j what the margin already is worth,
    within ``[radius / 100, radius]`` (Hu et al. 2023)."""
    own = f.gather(1, y[:, None])
    far = distances[y]
    with torch.no_grad():
        worth = (own - f) / far.clamp(min=1e-12)
        share = worth.clamp(_LEAST_SHARE * radius, radius)
        share.scatter_(1, y[:, None], 0.0)
    return config.temperature * functional.cross_entropy((f + share * far) / config.temperature, y)


def logit_annealing(f: Tensor, y: Tensor, distances: Tensor, config: LossConfig, radius: float) -> Tensor:
    """``-T (1 - p)^beta log p`` after offset and temperature: easy examples stop counting (Hu et al.
    2024)."""
    del distances
    shifted = _without(f, y, _offset_of(config, radius)) / config.temperature
    log_p = functional.log_softmax(shifted, dim=1).gather(1, y[:, None])[:, 0]
    return -config.temperature * ((1 - log_p.exp()).clamp(min=0) ** config.beta * log_p).mean()


def hinge(f: Tensor, y: Tensor, distances: Tensor, config: LossConfig, radius: float) -> Tensor:
    """Mean of what the certified radius lacks of the wanted one."""
    del config
    return (radius - certified_radii(f, y, distances)).clamp(min=0).mean()


def certified_radii(f: Tensor, y: Tensor, distances: Tensor) -> Tensor:
    """``B``: ``min_j (f_y - f_j) / d_j``, negative where another class wins (differentiable, nominal)."""
    other = ~functional.one_hot(y, f.shape[1]).bool()
    ratio = (f.gather(1, y[:, None]) - f) / torch.where(other, distances[y], 1.0)
    return torch.where(other, ratio, torch.inf).amin(1)


LOSSES: Final[dict[str, MarginLoss]] = {
    "cross-entropy": cross_entropy,
    "offset": offset,
    "emma": emma,
    "logit-annealing": logit_annealing,
    "hinge": hinge,
}
