"""Dense layers with orthonormal rows or columns: Cayley, Bjorck (as in BCOP), LOT, exponential (SOC), BRO."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from training.layers import orthogonal
from training.layers.base import DenseMap
from training.layers.spectral import power_norm

_LARGEST = 3.0
_TERMS = 12


class _Orthogonalised(DenseMap):
    """A dense layer whose weight is a function of a matrix of its shape."""

    def __init__(self, inputs: int, outputs: int, *, bias: bool = True) -> None:
        super().__init__(inputs, outputs, bias=bias)
        self.raw = nn.Parameter(torch.empty(outputs, inputs))
        nn.init.orthogonal_(self.raw)

    make: orthogonal.Orthogonaliser

    def matrix(self) -> Tensor:
        """The weight."""
        return type(self).make(self.raw, full=not self.training)


class CayleyDense(_Orthogonalised):
    """Cayley transform of a learned matrix, with a learned scale of it (as the published code has)."""

    make = staticmethod(orthogonal.cayley)

    def __init__(self, inputs: int, outputs: int, *, bias: bool = True) -> None:
        super().__init__(inputs, outputs, bias=bias)
        nn.init.xavier_normal_(self.raw)
        self.scale = nn.Parameter(torch.linalg.matrix_norm(self.raw.detach()))

    def matrix(self) -> Tensor:
        """The weight."""
        return orthogonal.cayley(self.scale * self.raw / torch.linalg.matrix_norm(self.raw))


class BjorckDense(_Orthogonalised):
    """Bjorck's iteration, what BCOP uses for matrices."""

    make = staticmethod(orthogonal.bjorck)


class LotDense(_Orthogonalised):
    """Newton-Schulz inverse square root."""

    make = staticmethod(orthogonal.lot)


class SocDense(DenseMap):
    """Rows (or columns) of ``exp(S)``, ``S = R - R'`` of norm at most 3 (Singla, Feizi 2021).

    In training a truncated series is applied to the smaller number of unit vectors; for good it is the
    exponential.
    """

    def __init__(self, inputs: int, outputs: int, *, bias: bool = True) -> None:
        super().__init__(inputs, outputs, bias=bias)
        n = max(inputs, outputs)
        self.raw = nn.Parameter(torch.randn(n, n) / n**0.5)
        self.register_buffer("direction", torch.randn(n))

    def matrix(self) -> Tensor:
        """The weight."""
        s = self.raw - self.raw.mT
        if not self.training:
            s = s * (_LARGEST / torch.linalg.matrix_norm(s, 2)).clamp(max=1.0)
            return torch.linalg.matrix_exp(s)[: self.outputs, : self.inputs]
        direction: Tensor = self.get_buffer("direction")
        s = s * (_LARGEST / power_norm(s[None], direction[None])[0]).clamp(max=1.0)
        rows = min(self.outputs, self.inputs)
        s = s if rows == self.outputs else -s  # columns of exp(S) are rows of exp(S)' = exp(-S)
        term = torch.eye(rows, len(s), dtype=s.dtype, device=s.device)
        total = term
        for n in range(1, _TERMS + 1):
            term = term @ s / n
            total = total + term
        return total if rows == self.outputs else total.mT


class BroDense(DenseMap):
    """Rows (or columns) of a block reflector.

    Args:
        inputs, outputs, bias: see :class:`DenseMap`.
        rank: columns of V; by default half the larger size.
    """

    def __init__(self, inputs: int, outputs: int, *, bias: bool = True, rank: int | None = None) -> None:
        super().__init__(inputs, outputs, bias=bias)
        n = max(inputs, outputs)
        self.raw = nn.Parameter(torch.empty(n, rank or max(1, n // 2)))
        nn.init.orthogonal_(self.raw)

    def matrix(self) -> Tensor:
        """The weight."""
        return orthogonal.reflector(self.raw)[: self.outputs, : self.inputs]
