"""Spectral normalisation: ``W / |W|`` (Miyato et al. 2018), with the norm found exactly for inference.

In training the norm is that of a power iteration that goes on from step to step; it lies below the truth, so
nothing is claimed before materialisation.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from training.layers.base import ConvMap, DenseMap

_STEPS = 3


class SpectralDense(DenseMap):
    """Dense layer divided by its spectral norm."""

    def __init__(self, inputs: int, outputs: int, *, bias: bool = True) -> None:
        super().__init__(inputs, outputs, bias=bias)
        self.raw = nn.Parameter(torch.empty(outputs, inputs))
        nn.init.orthogonal_(self.raw)
        self.register_buffer("direction", torch.randn(inputs))

    def matrix(self) -> Tensor:
        """The weight."""
        if not self.training:
            return self.raw / torch.linalg.matrix_norm(self.raw, 2)
        direction: Tensor = self.get_buffer("direction")
        return self.raw / power_norm(self.raw[None], direction[None])[0]


class SpectralConv(ConvMap):
    """Convolution divided by its norm on a torus that holds the padded image.

    Zero padding is the torus's convolution restricted to images that vanish on a margin: no larger norm.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, **options: Any) -> None:
        super().__init__(inputs, outputs, kernel, **options)
        self.raw = nn.Parameter(torch.empty(outputs, inputs // self.groups, kernel, kernel))
        nn.init.orthogonal_(self.raw)
        height, width = self.size or (16, 16)
        self.torus = (height + 2 * self.padding, width + 2 * self.padding)
        count = self.groups * self.torus[0] * (self.torus[1] // 2 + 1)
        self.register_buffer("direction", torch.randn(count, inputs // self.groups, 2))

    def kernel(self) -> Tensor:
        """The kernel."""
        grouped = self.raw.reshape(self.groups, -1, *self.raw.shape[1:])
        spectrum = torch.fft.rfft2(grouped, s=self.torus)
        matrices = spectrum.permute(0, 3, 4, 1, 2).reshape(-1, *grouped.shape[1:3])
        if not self.training:
            return self.raw / torch.linalg.matrix_norm(matrices, 2).amax()
        direction: Tensor = self.get_buffer("direction")
        return self.raw / power_norm(matrices, torch.view_as_complex(direction)).amax()


def power_norm(matrices: Tensor, direction: Tensor) -> Tensor:
    """``B``: norms of ``B m n`` by power steps from ``direction: B n``, which is moved on in place."""
    with torch.no_grad():
        v = direction.to(matrices.dtype)
        for _ in range(_STEPS):
            v = (matrices.mH @ (matrices @ v[..., None]))[..., 0]
            v = v / torch.linalg.vector_norm(v, dim=-1, keepdim=True).clamp(min=1e-30)
        direction.copy_(v)
        v = v.clone()
    return torch.linalg.vector_norm((matrices @ v[..., None])[..., 0], dim=-1)
