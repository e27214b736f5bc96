"""The sandwich layer (Wang, Manchester 2023): ``h -> sqrt(2) A' relu(sqrt(2) B h + b)``, ``A A' + B B' = I``.

A and B come from one Cayley transform. A positive diagonal around a rectifier cancels but for the bias, so
the published ``Psi`` sits on the bias alone. With slopes S in [0, 1] the map is 1-Lipschitz where the stacked
matrix ``[P', D]`` of ``P = sqrt(2) A'`` and ``D = sqrt(2) B`` has norm at most ``sqrt(2)`` (Schur complement
of the LipSDP matrix with multiplier 1): that norm is what is proved. With slopes in [-1, 1] (abs, MaxMin) it
is false, so nothing but a rectifier is taken.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from bounds.errors import BadInput
from training import proof
from training.layers import orthogonal
from training.layers.base import LipschitzLayer, Materialised, as_array, double, linear, operator_matrix
from training.layers.residual_relu import ROOT_TWO


def constant_of(norm: float) -> float:
    """The constant from a proved norm of ``[P', D]``: scaling both by ``c`` scales the function by
    ``c^2``."""
    if norm <= ROOT_TWO:
        return 1.0
    return math.nextafter(norm * norm / 2, math.inf) if norm > 0 else math.inf


def _split(stacked: Tensor, outputs: int) -> tuple[Tensor, Tensor]:
    """``P`` (``outputs hidden``) and ``D`` (``hidden inputs``) from a tall Cayley matrix ``(outputs + inputs)
    hidden``."""
    root = math.sqrt(2.0)
    return root * stacked[..., :outputs, :], root * stacked[..., outputs:, :].mH


class SandwichDense(LipschitzLayer):
    """Dense sandwich layer; it contains its rectifiers.

    Args:
        inputs, outputs: sizes.
        hidden: rectifiers, at most ``inputs + outputs``; by default the outputs.
    """

    def __init__(self, inputs: int, outputs: int, *, hidden: int | None = None) -> None:
        super().__init__()
        self.inputs, self.outputs = inputs, outputs
        self.hidden = hidden or outputs
        if self.hidden > inputs + outputs:
            raise BadInput(
                f"a sandwich of {inputs} and {outputs} holds at most {inputs + outputs} rectifiers"
            )
        self.raw = nn.Parameter(torch.empty(outputs + inputs, self.hidden))
        nn.init.xavier_normal_(self.raw)
        self.scale = nn.Parameter(torch.linalg.matrix_norm(self.raw.detach()))
        self.bias = nn.Parameter(torch.zeros(self.hidden))
        self.psi = nn.Parameter(torch.zeros(self.hidden))

    def factors(self) -> tuple[Tensor, Tensor]:
        """P and D."""
        stacked = orthogonal.cayley(self.scale * self.raw / torch.linalg.matrix_norm(self.raw))
        return _split(stacked, self.outputs)

    def forward(self, x: Tensor) -> Tensor:
        """``B outputs``."""
        p, d = self.factors()
        return torch.relu(functional.linear(x, d, self.bias * torch.exp(self.psi))) @ p.mT

    def materialise(self) -> Materialised:
        """Linear, ReLU, Linear."""
        module = double(self)
        with torch.no_grad():
            p, d = module.factors()
            bias = module.bias * torch.exp(module.psi)
        wanted = as_array(torch.cat([p.mT, d], dim=1))
        weight = proof.shrunk(wanted, ROOT_TWO, proof.matrix_norm)
        return Materialised(_relu_pair(weight, self.outputs, bias), constant_of(proof.matrix_norm(weight)))


class SandwichConv(LipschitzLayer):
    """Circular sandwich convolution: Cayley per frequency; a dense pair for inference."""

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
        if size is None or groups != 1 or padding is not None or not bias:
            raise BadInput(
                "SandwichConv is circular: give the images' size; it has a bias, no padding, no groups"
            )
        if size[0] % stride or size[1] % stride:
            raise BadInput(f"SandwichConv: stride {stride} does not divide images of {size[0]}x{size[1]}")
        self.inputs, self.outputs, self.stride, self.size = inputs, outputs, stride, size
        self.inner = inputs * stride * stride
        self.grid = (size[0] // stride, size[1] // stride)
        rows = outputs + self.inner
        self.raw = nn.Parameter(torch.randn(rows, outputs, kernel, kernel) / (kernel * rows**0.5))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def matrices(self) -> tuple[Tensor, Tensor]:
        """P and D at every frequency, ``h w//2+1`` in front."""
        spectrum = torch.fft.rfft2(self.raw, s=self.grid).permute(2, 3, 0, 1)
        return _split(orthogonal.cayley(spectrum), self.outputs)

    def first(self, x: Tensor) -> Tensor:
        """D, on images."""
        x = functional.pixel_unshuffle(x, self.stride) if self.stride > 1 else x
        mixed = torch.einsum("bihw,hwoi->bohw", torch.fft.rfft2(x), self.matrices()[1])
        return torch.fft.irfft2(mixed, s=self.grid)

    def second(self, x: Tensor) -> Tensor:
        """P, on images."""
        mixed = torch.einsum("bihw,hwoi->bohw", torch.fft.rfft2(x), self.matrices()[0])
        return torch.fft.irfft2(mixed, s=self.grid)

    def forward(self, x: Tensor) -> Tensor:
        """``B outputs h w``."""
        return self.second(torch.relu(self.first(x) + self.bias[:, None, None]))

    def materialise(self) -> Materialised:
        """Linear, ReLU, Linear between flattened images."""
        module = double(self)
        d = operator_matrix(module.first, self.inputs, self.size)
        p = operator_matrix(module.second, self.outputs, self.grid)
        weight = proof.shrunk(as_array(torch.cat([p.mT, d], dim=1)), ROOT_TWO, proof.matrix_norm)
        bias = self.bias.detach().repeat_interleave(self.grid[0] * self.grid[1])
        body = nn.Sequential(
            nn.Flatten(),
            *_relu_pair(weight, p.shape[0], bias),
            nn.Unflatten(1, (self.outputs, *self.grid)),
        )
        return Materialised(body, constant_of(proof.matrix_norm(weight)))


def _relu_pair(weight: object, outputs: int, bias: Tensor) -> nn.Sequential:
    """From the stacked ``[P', D]``: D, a rectifier, P."""
    stacked = np.asarray(weight)
    return nn.Sequential(linear(stacked[:, outputs:], bias), nn.ReLU(), linear(stacked[:, :outputs].T, None))
