"""What a 1-Lipschitz layer is: a module, its proved constant, and its plain form for inference.

A layer computes its weight from unconstrained parameters at every step of training. *Materialised* it is an
ordinary ``Linear`` or ``Conv2d`` (or a few of them) with float32 weights; only that form has a constant, and
the constant is proved (:mod:`training.proof`). A parameterisation whose norm comes out as 1.0001 in float32,
because an iteration had not converged or because of rounding, is scaled down by that much.
"""

from __future__ import annotations

import copy
import math
from typing import Any, Final, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from bounds.errors import BadInput
from training import proof

DENSE_SIDE: Final = 1600  # shorter sides of operators up to this are proved as matrices
DENSE_ENTRIES: Final = 1 << 23
LARGEST_DENSE: Final = 1 << 24  # entries of an operator that only has a dense form

M = TypeVar("M", bound=nn.Module)


class Materialised(nn.Module):
    """A plain module and the constant that was proved for it.

    Args:
        body: ordinary modules.
        constant: a proved Lipschitz constant (L2 to L2) of ``body`` over the reals.
    """

    def __init__(self, body: nn.Module, constant: float) -> None:
        super().__init__()
        self.body = body
        self.constant = constant

    def forward(self, x: Tensor) -> Tensor:
        """The plain module."""
        return self.body(x)

    def lipschitz(self) -> float:
        """The proved constant."""
        return self.constant


class LipschitzLayer(nn.Module):
    """Base of all layers of this package."""

    def materialise(self) -> Materialised:
        """The layer as ordinary modules with float32 weights, and their proved constant.

        Raises:
            ValueError: the weights hold a NaN or an infinity.
        """
        raise NotImplementedError

    def lipschitz(self) -> float:
        """A proved bound on the layer's Lipschitz constant (L2), that of its materialised form."""
        return self.materialise().constant


def double(module: M) -> M:
    """A float64 copy in inference mode, for computing weights once and exactly enough."""
    return copy.deepcopy(module).double().eval()


def as_array(tensor: Tensor) -> Any:
    """Float64 NumPy values of a tensor."""
    return tensor.detach().cpu().double().numpy()


def finite(bias: Tensor) -> Tensor:
    """The bias of a plain layer.

    Raises:
        ValueError: it holds a NaN or an infinity, with which a network has no constant.
    """
    if not bool(torch.isfinite(bias).all()):
        raise ValueError("a bias holds a NaN or an infinity: no constant can be proved")
    return bias.detach()


def linear(weight: Any, bias: Tensor | None) -> nn.Linear:
    """An ordinary layer with these weights."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(np.ascontiguousarray(weight)))
        if bias is not None:
            layer.bias.copy_(finite(bias))
    return layer


class DenseMap(LipschitzLayer):
    """``x -> W x + b`` with ``|W| <= 1``; subclasses say what W is.

    Args:
        inputs, outputs: sizes.
        bias: whether there is a b.
    """

    def __init__(self, inputs: int, outputs: int, *, bias: bool = True) -> None:
        super().__init__()
        if inputs < 1 or outputs < 1:
            raise BadInput(f"a layer of {inputs} inputs and {outputs} outputs is empty")
        self.inputs, self.outputs = inputs, outputs
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None

    def matrix(self) -> Tensor:
        """``outputs inputs``: the weight, differentiable in the parameters and in their own precision."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """``B outputs``."""
        return functional.linear(x, self.matrix(), self.bias)

    def materialise(self) -> Materialised:
        """A ``Linear``."""
        with torch.no_grad():
            wanted = as_array(double(self).matrix())
        weight = proof.shrunk(wanted, 1.0, proof.matrix_norm)
        return Materialised(linear(weight, self.bias), proof.matrix_norm(weight))


class ConvMap(LipschitzLayer):
    """A zero-padded convolution of norm at most 1; subclasses say what the kernel is.

    Args:
        inputs, outputs: channels.
        kernel: height and width of the kernel.
        stride, padding, groups: as for ``Conv2d``; padding None keeps the size at stride 1.
        size: height and width of the images, where known: norms are then proved for them (tighter).
        bias: whether there is one.
    """

    def __init__(  # noqa: PLR0913 - those of Conv2d
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        *,
        stride: int = 1,
        padding: int | None = None,
        groups: int = 1,
        size: tuple[int, int] | None = None,
        bias: bool = True,
    ) -> None:
        super().__init__()
        if inputs % groups or outputs % groups:
            raise BadInput(f"{groups} groups do not divide {inputs} and {outputs} channels")
        self.inputs, self.outputs, self.kernel_size, self.stride = inputs, outputs, kernel, stride
        self.padding = (kernel - 1) // 2 if padding is None else padding
        self.groups, self.size = groups, size
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None

    def kernel(self) -> Tensor:
        """``outputs inputs/groups kh kw``: the kernel, differentiable in the parameters."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """``B outputs H W``."""
        return functional.conv2d(
            x, self.kernel(), self.bias, stride=self.stride, padding=self.padding, groups=self.groups
        )

    def plain(self, kernel: Any) -> nn.Conv2d:
        """An ordinary convolution with this kernel."""
        o, c, kh, kw = kernel.shape
        layer = nn.Conv2d(
            c * self.groups,
            o,
            (kh, kw),
            stride=self.stride,
            padding=self.padding,
            groups=self.groups,
            bias=self.bias is not None,
        )
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(np.ascontiguousarray(kernel)))
            if self.bias is not None and layer.bias is not None:
                layer.bias.copy_(finite(self.bias))
        return layer

    def norm(self, kernel: Any) -> float:
        """A proved bound on the norm with this kernel."""
        return conv_norm(kernel, self.stride, self.padding, self.groups, self.size)

    def materialise(self) -> Materialised:
        """A ``Conv2d``."""
        with torch.no_grad():
            wanted = as_array(double(self).kernel())
        kernel = proof.shrunk(wanted, 1.0, self.norm)
        return Materialised(self.plain(kernel), self.norm(kernel))


def conv_norm(
    kernel: Any, stride: int, padding: int, groups: int = 1, size: tuple[int, int] | None = None
) -> float:
    """A proved bound on a zero-padded convolution's norm: on every image, or on images of one size.

    The matrix of a convolution holds kernel entries and zeros, so writing it down rounds nothing.
    """
    everywhere = proof.conv_norm(kernel, (stride, stride), groups)
    if size is None or not math.isfinite(everywhere) or everywhere <= 1.0:
        return everywhere
    channels = kernel.shape[1] * groups
    rows = [(n + 2 * padding - k) // stride + 1 for n, k in zip(size, kernel.shape[2:], strict=True)]
    shape = (kernel.shape[0] * math.prod(rows), channels * math.prod(size))
    if min(shape) > DENSE_SIDE or math.prod(shape) > DENSE_ENTRIES:
        return everywhere
    weight = torch.from_numpy(np.asarray(kernel, dtype=np.float64))

    def apply(x: Tensor) -> Tensor:
        return functional.conv2d(x, weight, stride=stride, padding=padding, groups=groups)

    matrix = operator_matrix(apply, channels, size)
    return min(everywhere, proof.matrix_norm(as_array(matrix)))


def operator_matrix(apply: Any, channels: int, size: tuple[int, int]) -> Tensor:
    """``outputs inputs``: the matrix of a linear map of images, column by column, in float64.

    Raises:
        BadInput: it would be larger than is sensible.
    """
    count = channels * math.prod(size)
    if count * count > LARGEST_DENSE:
        raise BadInput(
            f"a dense operator on {channels} channels of {size[0]}x{size[1]} is too large; use fewer"
            " channels, smaller images (unshuffle), or a layer with an ordinary kernel (aol, bcop, spectral)"
        )
    with torch.no_grad():
        images = torch.eye(count, dtype=torch.float64).reshape(count, channels, *size)
        return apply(images).reshape(count, -1).T


__all__ = ["ConvMap", "DenseMap", "LipschitzLayer", "Materialised", "conv_norm", "operator_matrix"]
