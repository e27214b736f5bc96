"""Block convolution orthogonal parameterisation (Li et al. 2019): an ordinary kernel that is an isometry.

A projection P gives orthogonal two-tap convolutions ``[P, I - P]``, horizontal and vertical; their product
with an orthogonal 1x1 convolution is an orthogonal convolution of any size on the infinite grid, and zero
padding only lowers its norm. A stride s moves s x s pixels into channels first; the result is again an
ordinary strided convolution, with an s times larger kernel.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from bounds.errors import BadInput
from training import proof
from training.layers import orthogonal
from training.layers.base import ConvMap, Materialised, as_array, double


class BcopConv(ConvMap):
    """BCOP convolution of odd kernel size, any stride that equals the cell, any groups.

    With a stride s the kernel has ``kernel`` taps on the coarse grid, ``s kernel`` on the fine one.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, **options: Any) -> None:
        if options.get("padding") is not None and options.get("stride", 1) != 1:
            raise BadInput("a strided BCOP convolution sets its own padding; leave 'padding' out")
        super().__init__(inputs, outputs, kernel, **options)
        self.coarse = kernel
        self.width = max(inputs * self.stride**2, outputs) // self.groups
        inner, outer = inputs * self.stride**2 // self.groups, outputs // self.groups
        self.mix = nn.Parameter(torch.empty(self.groups, outer, inner))
        for part in self.mix.data:
            nn.init.orthogonal_(part)
        rank = max(1, self.width // 2)
        # two projections per tap; equal pairs cancel to the identity, so the start is near a 1x1 convolution
        pairs = torch.randn(kernel // 2, 1, self.groups, self.width, rank).expand(-1, 4, -1, -1, -1)
        self.factors = nn.Parameter(pairs + 0.1 * torch.randn_like(pairs))
        if self.stride > 1:
            self.padding = (kernel // 2) * self.stride
        if kernel % 2 == 0:
            raise BadInput("a BCOP kernel has an odd size")

    def kernel(self) -> Tensor:
        """``outputs inputs/groups kh kw``; with a stride on the fine grid."""
        parts = [self._one(g) for g in range(self.groups)]
        kernel = torch.cat(parts)
        s = self.stride
        if s == 1:
            return kernel
        o, _, kh, kw = kernel.shape
        cells = kernel.reshape(o, -1, s, s, kh, kw).permute(0, 1, 4, 2, 5, 3)
        return cells.reshape(o, cells.shape[1], kh * s, kw * s)

    def _one(self, group: int) -> Tensor:
        mix = orthogonal.bjorck(self.mix[group], full=not self.training)
        square = torch.eye(self.width, dtype=mix.dtype, device=mix.device)[:, :, None, None]
        for pair in self.factors[:, :, group]:
            for i, v in enumerate(pair):
                square = composed(_two_taps(v, vertical=i % 2 == 0, backwards=i >= 2), square)
        mixed = mix[:, :, None, None]
        return composed(mixed, square) if mix.shape[0] < mix.shape[1] else composed(square, mixed)

    def materialise(self) -> Materialised:
        """A ``Conv2d``."""
        with torch.no_grad():
            wanted = as_array(double(self).kernel())
        kernel = proof.shrunk(wanted, 1.0, self.norm)
        return Materialised(self.plain(kernel), self.norm(kernel))


def _two_taps(v: Tensor, *, vertical: bool, backwards: bool) -> Tensor:
    """The kernel ``[P, I - P]`` of the projection on V's columns (or ``[I - P, P]``)."""
    q = torch.linalg.qr(v).Q
    p = q @ q.mT
    taps = [p, torch.eye(len(p), dtype=p.dtype, device=p.device) - p]
    stacked = torch.stack(taps[::-1] if backwards else taps, dim=-1)
    return stacked[:, :, :, None] if vertical else stacked[:, :, None, :]


def composed(left: Tensor, right: Tensor) -> Tensor:
    """The kernel of the convolution ``left`` after ``right`` (as ``Conv2d`` counts taps), differentiable."""
    padding = left.shape[2] - 1, left.shape[3] - 1
    # column by column of ``right``: images of its taps, convolved fully
    return functional.conv2d(right.transpose(0, 1), left.flip(2, 3), padding=padding).transpose(0, 1)
