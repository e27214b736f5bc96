"""Skew orthogonal convolution (Singla, Feizi 2021): the exponential of a skew-symmetric convolution.

On images with zero padding ``x -> K x - K' x`` is exactly skew, so its exponential is orthogonal; the
truncated series is not quite, and what is claimed is proved for the operator as truncated. For inference it
becomes a dense matrix, so it suits small images.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from bounds.errors import BadInput
from training import proof
from training.layers.base import LipschitzLayer, Materialised, as_array, double, linear, operator_matrix

TERMS_TRAINING: Final = 6
TERMS: Final = 14


class SocConv(LipschitzLayer):
    """SOC; differing channels are padded with zeros, or the last ones dropped.

    Args:
        inputs, outputs: channels.
        kernel: odd size.
        size: height and width of the images.
        stride: pixels become channels first.
        bias: whether there is one.
    """

    def __init__(  # noqa: PLR0913 - those of Conv2d
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        *,
        size: tuple[int, int] | None = None,
        stride: int = 1,
        padding: int | None = None,
        groups: int = 1,
        bias: bool = True,
    ) -> None:
        super().__init__()
        if size is None:
            raise BadInput("SocConv is proved as an operator on images of one size: give it")
        if groups != 1 or padding is not None or kernel % 2 == 0:
            raise BadInput("SocConv has an odd kernel, its own padding, and no groups")
        if size[0] % stride or size[1] % stride:
            raise BadInput(f"SocConv: stride {stride} does not divide images of {size[0]}x{size[1]}")
        self.inputs, self.outputs, self.stride, self.size = inputs, outputs, stride, size
        self.inner = inputs * stride * stride
        self.grid = (size[0] // stride, size[1] // stride)
        self.width = max(self.inner, outputs)
        self.raw = nn.Parameter(
            torch.randn(self.width, self.width, kernel, kernel) / (kernel * self.width**0.5)
        )
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None

    def skew(self) -> Tensor:
        """``K - K'``, divided where needed by a bound on its norm (so that few terms suffice)."""
        s = self.raw - self.raw.transpose(0, 1).flip(2, 3)
        bound = s.abs().sum((1, 2, 3)).amax()
        return s / bound.clamp(min=1.0) * 1.5

    def convolve(self, x: Tensor) -> Tensor:
        """The linear part."""
        x = functional.pixel_unshuffle(x, self.stride) if self.stride > 1 else x
        if self.inner < self.width:
            x = functional.pad(x, (0, 0, 0, 0, 0, self.width - self.inner))
        kernel, term, total = self.skew(), x, x
        for n in range(1, (TERMS_TRAINING if self.training else TERMS) + 1):
            term = functional.conv2d(term, kernel, padding=kernel.shape[2] // 2) / n
            total = total + term
        return total[:, : self.outputs]

    def forward(self, x: Tensor) -> Tensor:
        """``B outputs h w``."""
        y = self.convolve(x)
        return y if self.bias is None else y + self.bias[:, None, None]

    def materialise(self) -> Materialised:
        """A ``Linear`` between flattened images."""
        wanted = as_array(operator_matrix(double(self).convolve, self.inputs, self.size))
        weight = proof.shrunk(wanted, 1.0, proof.matrix_norm)
        count = self.grid[0] * self.grid[1]
        bias = None if self.bias is None else self.bias.detach().repeat_interleave(count)
        body = nn.Sequential(nn.Flatten(), linear(weight, bias), nn.Unflatten(1, (self.outputs, *self.grid)))
        return Materialised(body, proof.matrix_norm(weight))
