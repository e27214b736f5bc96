"""Parts around the layers: residual blocks, pooling, invertible down-sampling, changes of width, the head."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from bounds.errors import BadInput
from training import proof
from training.layers.base import LipschitzLayer, Materialised, as_array, double, linear


class Chain(LipschitzLayer):
    """Layers one after the other; the constant is the product of theirs."""

    def __init__(self, *parts: LipschitzLayer) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)

    def forward(self, x: Tensor) -> Tensor:
        """The composition."""
        for part in self.parts:
            x = part(x)
        return x

    def materialise(self) -> Materialised:
        """A ``Sequential``."""
        made = [part.materialise() for part in self.parts if isinstance(part, LipschitzLayer)]
        return Materialised(nn.Sequential(*(m.body for m in made)), proof.product([m.constant for m in made]))


class Residual(LipschitzLayer):
    """``(1 - t) x + t f(x)`` with a learned t in (0, 1): constant ``(1 - t) + t |f|``.

    Args:
        inner: a layer that keeps the shape.
        share: t at the start.
    """

    def __init__(self, inner: LipschitzLayer, *, share: float = 0.5) -> None:
        super().__init__()
        if not 0 < share < 1:
            raise BadInput(f"the share of a residual branch lies between 0 and 1, not at {share}")
        self.inner = inner
        self.logit = nn.Parameter(torch.tensor(math.log(share / (1 - share))))

    def forward(self, x: Tensor) -> Tensor:
        """Same shape."""
        t = torch.sigmoid(self.logit)
        return (1 - t) * x + t * self.inner(x)

    def materialise(self) -> Materialised:
        """With fixed shares ``a + b <= 1`` in float32."""
        inner = self.inner.materialise()
        t = 1 / (1 + math.exp(-float(self.logit.detach())))
        b = float(np.float32(t))
        a = float(np.nextafter(np.float32(1 - b), np.float32(0)))
        if not a + b <= 1.0:
            raise ValueError("the share is no number")
        constant = math.nextafter(a + math.nextafter(b * inner.constant, math.inf), math.inf)
        return Materialised(FixedResidual(inner.body, a, b), min(constant, max(1.0, inner.constant)))


class FixedResidual(nn.Module):
    """``a x + b f(x)``."""

    def __init__(self, inner: nn.Module, a: float, b: float) -> None:
        super().__init__()
        self.inner, self.a, self.b = inner, a, b

    def forward(self, x: Tensor) -> Tensor:
        """Same shape."""
        return self.a * x + self.b * self.inner(x)


class Unshuffle(LipschitzLayer):
    """Invertible down-sampling: s x s cells of pixels become channels (a permutation, constant 1)."""

    def __init__(self, cell: int = 2) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, x: Tensor) -> Tensor:
        """``B c s^2 h/s w/s``."""
        b, c, h, w = x.shape
        s = self.cell
        if h % s or w % s:
            raise BadInput(f"cells of {s}x{s} do not divide images of {h}x{w}")
        cells = x.reshape(b, c, h // s, s, w // s, s).permute(0, 1, 3, 5, 2, 4)
        return cells.reshape(b, c * s * s, h // s, w // s)

    def materialise(self) -> Materialised:
        """Itself: moves of elements."""
        return Materialised(self, 1.0)


class Flatten(LipschitzLayer):
    """Images to vectors."""

    def forward(self, x: Tensor) -> Tensor:
        """``B n``."""
        return x.flatten(1)

    def materialise(self) -> Materialised:
        """Itself."""
        return Materialised(nn.Flatten(), 1.0)


class ScaledPool(LipschitzLayer):
    """Average pooling over disjoint k x k cells times k: constant 1 (an average alone has ``1/k``)."""

    def __init__(self, cell: int) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, x: Tensor) -> Tensor:
        """``B c h/k w/k``."""
        return functional.avg_pool2d(x, self.cell) * self.cell

    def materialise(self) -> Materialised:
        """A pool and a scale; the average's weights ``1/k^2`` times k, rounded, stay within 2^-20 of
        ``1/k``."""
        exact = self.cell & (self.cell - 1) == 0  # powers of two round nothing
        factor = float(self.cell) if exact else self.cell * (1 - 2.0**-20)
        body = nn.Sequential(nn.AvgPool2d(self.cell), Multiply(factor))
        return Materialised(body, 1.0)


class MaxPool(LipschitzLayer):
    """Maximum over disjoint k x k cells: constant 1 (cells that overlap m times would have ``sqrt(m)``)."""

    def __init__(self, cell: int) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, x: Tensor) -> Tensor:
        """``B c h/k w/k``."""
        return functional.max_pool2d(x, self.cell)

    def materialise(self) -> Materialised:
        """A max-pool."""
        return Materialised(nn.MaxPool2d(self.cell), 1.0)


class Multiply(nn.Module):
    """Times a constant."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        """Same shape."""
        return x * self.factor


class Width(LipschitzLayer):
    """Pads channels with zeros or drops the last ones: constant 1. For layers that keep their width."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.inputs, self.outputs = inputs, outputs

    def forward(self, x: Tensor) -> Tensor:
        """``B outputs ...``."""
        if self.outputs <= self.inputs:
            return x[:, : self.outputs]
        zeros = x.new_zeros(x.shape[0], self.outputs - self.inputs, *x.shape[2:])
        return torch.cat([x, zeros], dim=1)

    def materialise(self) -> Materialised:
        """Itself: a slice or a concatenation with zeros."""
        return Materialised(self if self.outputs <= self.inputs else _Pad(self), 1.0)


class _Pad(nn.Module):
    """Zero channels as a product with zero, which exports for any batch size."""

    def __init__(self, width: Width) -> None:
        super().__init__()
        self.inputs, self.outputs = width.inputs, width.outputs

    def forward(self, x: Tensor) -> Tensor:
        """``B outputs ...``."""
        pads = [0, 0] * (x.dim() - 2) + [0, self.outputs - self.inputs]
        return functional.pad(x, pads)


class Centre(LipschitzLayer):
    """``x - c`` with a fixed c: constant 1. (Division by a deviation would enlarge the constant; train a
    scale.)"""

    def __init__(self, centre: float) -> None:
        super().__init__()
        self.centre = centre

    def forward(self, x: Tensor) -> Tensor:
        """Same shape."""
        return x - self.centre

    def materialise(self) -> Materialised:
        """Itself."""
        return Materialised(self, 1.0)


class UnitRows(LipschitzLayer):
    """A head whose rows have unit norm, for last-layer normalisation (Singla et al. 2022).

    It is *not* 1-Lipschitz as a map of vectors, and its constant says so. A margin ``f_y - f_j`` has the
    constant ``|w_y - w_j|``, which certificates use (:mod:`training.certificates`).
    """

    def __init__(self, inputs: int, outputs: int, *, bias: bool = True) -> None:
        super().__init__()
        self.raw = nn.Parameter(torch.empty(outputs, inputs))
        nn.init.orthogonal_(self.raw)
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None

    def matrix(self) -> Tensor:
        """``outputs inputs`` with unit rows."""
        return self.raw / torch.linalg.vector_norm(self.raw, dim=1, keepdim=True)

    def forward(self, x: Tensor) -> Tensor:
        """``B outputs``."""
        return functional.linear(x, self.matrix(), self.bias)

    def materialise(self) -> Materialised:
        """A ``Linear``, with the proved norm of its matrix."""
        with torch.no_grad():
            weight = as_array(double(self).matrix()).astype(np.float32)
        return Materialised(linear(weight, self.bias), proof.matrix_norm(weight))
