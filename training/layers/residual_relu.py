"""Convex-potential residual layers: SLL (Araujo et al. 2023) and CPL (Meunier et al. 2022).

Both are ``h = x - D' relu(D x + b)``: SLL with ``D = sqrt(2) T^(-1/2) W'`` for a diagonal T that dominates
``W'W``, CPL with ``D = sqrt(2) W' / |W|`` (a positive diagonal passes through a rectifier, so the published
``- 2 W T^-1 relu(W'x + b)`` is this function). Its Jacobian is ``I - D' S D`` with S diagonal in [0, 1], a
symmetric matrix with eigenvalues from ``1 - |D|^2`` to 1: the constant is 1 exactly where ``|D|^2 <= 2``, and
that norm is what is proved. Slopes below zero (abs, MaxMin) leave that range, so nothing but a rectifier is
taken.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from bounds.errors import BadInput
from training import proof
from training.layers.aol import gram_sums
from training.layers.base import LipschitzLayer, Materialised, as_array, conv_norm, double, finite, linear
from training.layers.spectral import power_norm

# float32 neighbours of sqrt(2): the norm of D may be proved up to here and its square is at most 2
ROOT_TWO: Final = float(np.nextafter(np.sqrt(2.0), 0.0))


def constant_of(norm: float) -> float:
    """The constant of ``x - D' relu(D x + b)`` from a proved norm of D; 1 where its square is at most 2."""
    if norm <= ROOT_TWO:
        return 1.0
    return float(np.nextafter(norm * norm, np.inf)) - 1.0 if norm > 0 else float("inf")


class DenseStep(nn.Module):
    """``x - D' relu(D x + b)`` with one matrix for both products, so that they are adjoint exactly."""

    def __init__(self, weight: Any, bias: Tensor) -> None:
        super().__init__()
        self.inner = linear(weight, bias)

    def forward(self, x: Tensor) -> Tensor:
        """``B n``."""
        return x - functional.linear(torch.relu(self.inner(x)), self.inner.weight.t())


class ConvStep(nn.Module):
    """The same with a convolution and its adjoint."""

    def __init__(self, kernel: Any, bias: Tensor) -> None:
        super().__init__()
        o, c, k, _ = kernel.shape
        self.inner = nn.Conv2d(c, o, k, padding=k // 2)
        with torch.no_grad():
            self.inner.weight.copy_(torch.from_numpy(np.ascontiguousarray(kernel)))
            assert self.inner.bias is not None
            self.inner.bias.copy_(finite(bias))

    def forward(self, x: Tensor) -> Tensor:
        """``B c h w``."""
        weight = self.inner.weight
        return x - functional.conv_transpose2d(
            torch.relu(self.inner(x)), weight, padding=weight.shape[2] // 2
        )


class _Dense(LipschitzLayer):
    def __init__(self, inputs: int, outputs: int, *, hidden: int | None = None) -> None:
        super().__init__()
        name = type(self).__name__
        if inputs != outputs:
            raise BadInput(
                f"{name} is residual: {inputs} inputs cannot become {outputs}; change width elsewhere"
            )
        self.inputs = self.outputs = inputs
        self.raw = nn.Parameter(torch.empty(hidden or inputs, inputs))
        nn.init.orthogonal_(self.raw)
        self.bias = nn.Parameter(torch.zeros(hidden or inputs))

    def inner(self) -> Tensor:
        """D, ``hidden inputs``."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """``B n``."""
        d = self.inner()
        return x - torch.relu(functional.linear(x, d, self.bias)) @ d

    def materialise(self) -> Materialised:
        """A :class:`DenseStep`."""
        with torch.no_grad():
            wanted = as_array(double(self).inner())
        weight = proof.shrunk(wanted, ROOT_TWO, proof.matrix_norm)
        return Materialised(DenseStep(weight, self.bias), constant_of(proof.matrix_norm(weight)))


class SllDense(_Dense):
    """SDP-based Lipschitz layer.

    Args:
        inputs, outputs: equal sizes.
        hidden: rectifiers; few (say 4) keep the layer near the identity at the start.
        slack: added to T relative to its start, trainable; also keeps it near the identity.
    """

    def __init__(self, inputs: int, outputs: int, *, hidden: int | None = None, slack: float = 0.0) -> None:
        super().__init__(inputs, outputs, hidden=hidden)
        self.q = nn.Parameter(torch.zeros(len(self.raw)))
        sums = (self.raw.detach() @ self.raw.detach().mT).abs().sum(1)
        self.slack = nn.Parameter(slack * sums) if slack else None

    def inner(self) -> Tensor:
        """``sqrt(2 / t) W'``, ``t_i = sum_j |W'W|_ij q_j / q_i + slack_i``."""
        q = torch.exp(self.q)
        t = (self.raw @ self.raw.mT).abs() @ q / q
        if self.slack is not None:
            t = t + self.slack.abs()
        return _root(2 / _positive(t), t)[:, None] * self.raw


class CplDense(_Dense):
    """Convex potential layer: one number for all of T, the squared norm."""

    def __init__(self, inputs: int, outputs: int, *, hidden: int | None = None) -> None:
        super().__init__(inputs, outputs, hidden=hidden)
        self.register_buffer("direction", torch.randn(inputs))

    def inner(self) -> Tensor:
        """``sqrt(2) W' / |W|``."""
        if not self.training:
            return self.raw * (2**0.5 / torch.linalg.matrix_norm(self.raw, 2))
        direction: Tensor = self.get_buffer("direction")
        return self.raw * (2**0.5 / power_norm(self.raw[None], direction[None])[0])


class _Conv(LipschitzLayer):
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
        hidden: int | None = None,
        bias: bool = True,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        if inputs != outputs or stride != 1:
            raise BadInput(f"{name} is residual: it keeps channels and size; change them elsewhere")
        if groups != 1 or (padding is not None and padding != kernel // 2) or kernel % 2 == 0 or not bias:
            raise BadInput(f"{name} has an odd kernel with 'same' padding, a bias, and no groups")
        self.inputs = self.outputs = inputs
        self.size = size
        self.raw = nn.Parameter(torch.zeros(hidden or inputs, inputs, kernel, kernel))
        with torch.no_grad():
            middle = torch.empty(hidden or inputs, inputs)
            self.raw[:, :, kernel // 2, kernel // 2] = nn.init.orthogonal_(middle)
            self.raw.add_(0.01 / kernel * torch.randn_like(self.raw) / inputs)
        self.bias = nn.Parameter(torch.zeros(hidden or inputs))

    def inner(self) -> Tensor:
        """D's kernel."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """``B c h w``."""
        d = self.inner()
        hidden = torch.relu(functional.conv2d(x, d, self.bias, padding=d.shape[2] // 2))
        return x - functional.conv_transpose2d(hidden, d, padding=d.shape[2] // 2)

    def norm(self, kernel: Any) -> float:
        """A proved bound on D's norm (asked of D / sqrt(2), whose bound is 1 where it matters)."""
        return conv_norm(kernel, 1, kernel.shape[2] // 2, 1, self.size)

    def materialise(self) -> Materialised:
        """A :class:`ConvStep`."""
        with torch.no_grad():
            wanted = as_array(double(self).inner())
        kernel = proof.shrunk(wanted, ROOT_TWO, self.norm)
        return Materialised(ConvStep(kernel, self.bias), constant_of(self.norm(kernel)))


class SllConv(_Conv):
    """Convolutional SLL."""

    def __init__(self, inputs: int, outputs: int, kernel: int, **options: Any) -> None:
        super().__init__(inputs, outputs, kernel, **options)
        self.q = nn.Parameter(torch.zeros(len(self.raw)))

    def inner(self) -> Tensor:
        """``sqrt(2 / t)`` times the kernel, per hidden channel."""
        q = torch.exp(self.q)
        t = weighted_sums(self.raw, q) / q
        return _root(2 / _positive(t), t)[:, None, None, None] * self.raw


class CplConv(_Conv):
    """Convolutional CPL; the norm is that on a torus that holds the padded image."""

    def __init__(self, inputs: int, outputs: int, kernel: int, **options: Any) -> None:
        super().__init__(inputs, outputs, kernel, **options)
        height, width = self.size or (16, 16)
        self.torus = (height + kernel - 1, width + kernel - 1)
        self.register_buffer("direction", torch.randn(self.torus[0] * (self.torus[1] // 2 + 1), inputs, 2))

    def inner(self) -> Tensor:
        """``sqrt(2) K / |K|``."""
        spectrum = torch.fft.rfft2(self.raw, s=self.torus).permute(2, 3, 0, 1)
        matrices = spectrum.reshape(-1, *spectrum.shape[2:])
        if not self.training:
            return self.raw * (2**0.5 / torch.linalg.matrix_norm(matrices, 2).amax())
        direction: Tensor = self.get_buffer("direction")
        return self.raw * (2**0.5 / power_norm(matrices, torch.view_as_complex(direction)).amax())


def weighted_sums(kernel: Tensor, q: Tensor) -> Tensor:
    """``hidden``: ``sum_j |K K'|_ij q_j`` over shifts."""
    padding = kernel.shape[2] - 1, kernel.shape[3] - 1
    gram = functional.conv2d(kernel, kernel, padding=padding).abs().sum((2, 3))
    return gram @ q


def _positive(t: Tensor) -> Tensor:
    return torch.where(t > 0, t, 1.0)


def _root(value: Tensor, t: Tensor) -> Tensor:
    return torch.where(t > 0, value.sqrt(), 0.0)


__all__ = ["ROOT_TWO", "CplConv", "CplDense", "SllConv", "SllDense", "constant_of", "gram_sums"]
