"""Almost-orthogonal layers: ``W = P diag(d)^(-1/2)``, ``d_j = sum_i |P'P|_ij`` (Prach, Lampert 2022).

``|W| <= 1`` by Gershgorin, with equality exactly where P has orthonormal columns; Gaussian P decays
(:mod:`training.decay`), so the default is orthogonal.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.layers.base import ConvMap, DenseMap


class AolDense(DenseMap):
    """Dense AOL layer."""

    def __init__(self, inputs: int, outputs: int, *, bias: bool = True) -> None:
        super().__init__(inputs, outputs, bias=bias)
        self.raw = nn.Parameter(torch.empty(outputs, inputs))
        nn.init.orthogonal_(self.raw)

    def matrix(self) -> Tensor:
        """The weight. Of the two forms, by columns and by rows, the one with the smaller Gram matrix."""
        if self.inputs <= self.outputs:
            return self.raw * inverse_root((self.raw.mT @ self.raw).abs().sum(0))
        return self.raw * inverse_root((self.raw @ self.raw.mT).abs().sum(1))[:, None]


class AolConv(ConvMap):
    """Convolutional AOL layer: sums of ``|K * K|`` over channels and shifts, per input channel."""

    def __init__(self, inputs: int, outputs: int, kernel: int, **options: Any) -> None:
        super().__init__(inputs, outputs, kernel, **options)
        self.raw = nn.Parameter(torch.zeros(outputs, inputs // self.groups, kernel, kernel))
        with torch.no_grad():  # the middle tap alone is orthogonal: nothing decays
            middle = self.raw[:, :, kernel // 2, kernel // 2]
            nn.init.orthogonal_(middle)
            self.raw.add_(0.01 / kernel * torch.randn_like(self.raw) / self.raw.shape[1])

    def kernel(self) -> Tensor:
        """The kernel."""
        sums = torch.cat([gram_sums(part) for part in self.raw.chunk(self.groups)])
        scale = inverse_root(sums).reshape(self.groups, 1, -1)
        grouped = self.raw.reshape(self.groups, -1, *self.raw.shape[1:])
        return (grouped * scale[..., None, None]).reshape(self.raw.shape)


def gram_sums(kernel: Tensor) -> Tensor:
    """``C``: per input channel the sum of ``|K * K|`` over all channels and shifts."""
    by_input = kernel.transpose(0, 1)
    padding = kernel.shape[2] - 1, kernel.shape[3] - 1
    return functional.conv2d(by_input, by_input, padding=padding).abs().sum((1, 2, 3))


def inverse_root(d: Tensor) -> Tensor:
    """``d^(-1/2)``, 0 where d is 0 (the column vanishes as well)."""
    positive = d > 0
    return torch.where(positive, torch.where(positive, d, 1.0).rsqrt(), 0.0)
