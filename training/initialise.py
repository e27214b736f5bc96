"""How raw weights of 1-Lipschitz layers start. Why it matters: :mod:`training.decay`."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

from training.layers.base import LipschitzLayer

# "identity" really has to be near: an AOL layer at Q + s G keeps 1 / (1 + 1.13 (n - 1) s) of its signal
_NEAR: Final = 0.1


def initialise(model: nn.Module, how: str) -> None:
    """Replaces the raw weights of all layers.

    Args:
        model: any module.
        how: ``default`` (each layer's own), ``orthogonal``, ``gaussian``, or ``identity`` (as near the
            identity as shapes allow, noise of 0.1 / n).
    """
    if how == "default":
        return
    for part in model.modules():
        raw = getattr(part, "raw", None)
        if isinstance(part, LipschitzLayer) and isinstance(raw, nn.Parameter):
            with torch.no_grad():
                raw.copy_(_start(raw, how))


def _start(raw: Tensor, how: str) -> Tensor:
    if how == "gaussian":
        return torch.randn_like(raw)
    middle = torch.empty(raw.shape[:2])
    if how == "orthogonal":
        nn.init.orthogonal_(middle)
    else:
        nn.init.eye_(middle)
        middle += _NEAR / max(middle.shape) * torch.randn_like(middle)
    if raw.dim() == 2:
        return middle
    start = torch.zeros_like(raw)
    start[:, :, raw.shape[2] // 2, raw.shape[3] // 2] = middle
    return start
