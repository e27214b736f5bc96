"""Orthogonal circular convolutions, built frequency by frequency: Cayley, LOT, block reflectors.

A circular convolution is block diagonal under the 2-D Fourier transform; the blocks are made orthogonal one
by one. For inference it becomes a dense matrix (its kernel is as large as the image), so it suits small
images; a stride is taken by moving pixels into channels first.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from bounds.errors import BadInput
from training import proof
from training.layers import orthogonal
from training.layers.base import LipschitzLayer, Materialised, as_array, double, linear, operator_matrix


class CircularConv(LipschitzLayer):
    """A circular convolution of norm at most 1.

    Args:
        inputs, outputs: channels.
        kernel: size of the learned kernel.
        size: height and width of the images.
        stride: pixels of ``stride x stride`` cells become channels before the convolution.
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
        name = type(self).__name__
        if size is None:
            raise BadInput(f"{name} works frequency by frequency: give the size of the images")
        if groups != 1 or padding is not None:
            raise BadInput(f"{name} is circular and mixes all channels: it takes neither padding nor groups")
        if size[0] % stride or size[1] % stride:
            raise BadInput(f"{name}: stride {stride} does not divide images of {size[0]}x{size[1]}")
        self.inputs, self.outputs, self.stride, self.size = inputs, outputs, stride, size
        self.inner = inputs * stride * stride
        self.grid = (size[0] // stride, size[1] // stride)
        if kernel > min(self.grid):
            raise BadInput(f"{name}: kernel {kernel} is larger than the image of {min(self.grid)} pixels")
        self.raw = nn.Parameter(self.start(kernel))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None

    def start(self, kernel: int) -> Tensor:
        """The first raw kernel ``rows columns kh kw``: an orthogonal middle tap and small noise."""
        raw = torch.randn(self.outputs, self.inner, kernel, kernel) * (0.02 / kernel / self.inner**0.5)
        raw[:, :, 0, 0] += nn.init.orthogonal_(torch.empty(self.outputs, self.inner))
        return raw

    def blocks(self, spectrum: Tensor) -> Tensor:
        """From matrices ``F rows columns`` of the raw kernel to those of the layer, ``F outputs inputs``."""
        raise NotImplementedError

    def matrices(self) -> Tensor:
        """``h w//2+1 outputs inputs``: the layer at every frequency."""
        spectrum = torch.fft.rfft2(self.raw, s=self.grid).permute(2, 3, 0, 1)
        flat = spectrum.reshape(-1, *spectrum.shape[2:])
        return self.blocks(flat).reshape(*spectrum.shape[:2], self.outputs, self.inner)

    def convolve(self, x: Tensor) -> Tensor:
        """The linear part."""
        x = functional.pixel_unshuffle(x, self.stride) if self.stride > 1 else x
        spectrum = torch.fft.rfft2(x)
        mixed = torch.einsum("bihw,hwoi->bohw", spectrum, self.matrices())
        return torch.fft.irfft2(mixed, s=self.grid)

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


class CayleyConv(CircularConv):
    """Cayley transform per frequency (Trockman, Kolter 2021)."""

    def start(self, kernel: int) -> Tensor:
        """Small noise: the Cayley transform of nearly zero is nearly the identity."""
        return torch.randn(self.outputs, self.inner, kernel, kernel) / (kernel * self.inner**0.5)

    def blocks(self, spectrum: Tensor) -> Tensor:
        """Cayley."""
        return orthogonal.cayley(spectrum)


class LotConv(CircularConv):
    """Newton-Schulz inverse square root per frequency (Xu, Li, Li 2022)."""

    def blocks(self, spectrum: Tensor) -> Tensor:
        """Newton-Schulz."""
        return orthogonal.lot(spectrum, full=not self.training)


class BroConv(CircularConv):
    """Block reflector per frequency (Hu et al. 2024)."""

    def start(self, kernel: int) -> Tensor:
        """V, with half as many columns as the larger number of channels."""
        n = max(self.outputs, self.inner)
        raw = torch.randn(n, max(1, n // 2), kernel, kernel) * (0.05 / kernel / n**0.5)
        raw[:, :, 0, 0] += nn.init.orthogonal_(torch.empty(*raw.shape[:2]))
        return raw

    def blocks(self, spectrum: Tensor) -> Tensor:
        """Reflections, cut to shape."""
        return orthogonal.reflector(spectrum)[..., : self.outputs, : self.inner]
