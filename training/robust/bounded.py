"""A plain network as a module and as a graph that shares its parameters, for training against bounds."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bounds.errors import ModelUnsupported
from bounds.expression import Expr
from bounds.graph import Graph, GraphBuilder, Op
from bounds.methods.differentiable import Head, TrainableNetwork
from bounds.numerics import FLOAT32, FLOAT64
from training.robust.activations import ScalarActivation

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


class BoundedNetwork:
    """Bounds of a ``Sequential`` of linear, convolutional, normalisation, flattening and activation modules.

    Batch normalisation takes its statistics from the clean batch, for points and bounds alike (Shi et al.
    2021): call :meth:`clean` first. In inference mode they are the running ones.

    Args:
        module: the network; its parameters are used as they are.
        shape: of one input.

    Raises:
        ModelUnsupported: a module has no counterpart among the primitives.
    """

    def __init__(self, module: nn.Sequential, shape: tuple[int, ...]) -> None:
        self.module, self.shape = module, shape
        first = next(module.parameters())
        self.graph, weights, self._norms = _graph_of(module, shape)
        precision = FLOAT64 if first.dtype is torch.float64 else FLOAT32
        self.bounds = TrainableNetwork(
            self.graph, precision=precision, device=str(first.device), weights=weights
        )
        self._refresh()

    def clean(self, x: Tensor) -> Tensor:
        """Logits ``B classes``; in training mode normalisation statistics are those of this batch."""
        for index, part in enumerate(self.module):
            if isinstance(part, _NORMS):
                scale, shift = _affine(part, x if self.module.training else None)
                self._keep(index, scale, shift)
                tail = (1,) * (x.dim() - 2)
                x = x * scale.reshape(-1, *tail) + shift.reshape(-1, *tail)
            else:
                x = part(x)
        return x

    def held(self, x: Tensor) -> Tensor:
        """Logits with the normalisation statistics of the last :meth:`clean` (for points of attacks)."""
        if not self._norms:
            return self.module(x)
        return self.bounds.evaluate(x.flatten(1))

    def refresh(self) -> None:
        """Takes running statistics (inference mode)."""
        self._refresh()

    def margins(self, lo: Tensor, hi: Tensor, y: Tensor, classes: int) -> Tensor:
        """``B classes``: interval bounds of ``f_y - f_j`` with the last layer merged; 0 at y."""
        middle, radius = differences(self.bounds.head(lo.flatten(1), hi.flatten(1)), y, classes)
        return -middle - radius

    def linear_margins(self, lo: Tensor, hi: Tensor, y: Tensor, classes: int) -> Tensor:
        """The same by a backward pass over interval bounds."""
        return self.bounds.mixed_bounds(lo.flatten(1), hi.flatten(1), margin_rows(y, classes, lo))

    def _refresh(self) -> None:
        for index, part in enumerate(self.module):
            if isinstance(part, _NORMS):
                self._keep(index, *_affine(part, None))

    def _keep(self, index: int, scale: Tensor, shift: Tensor) -> None:
        node, shape = self._norms[index]
        self.bounds.parameters[f"{node}.scale"] = scale.reshape(shape)
        self.bounds.parameters[f"{node}.shift"] = shift.reshape(shape)


def margin_rows(y: Tensor, classes: int, like: Tensor) -> Tensor:
    """``B classes classes``: rows ``e_y - e_j``, zero for ``j = y``."""
    eye = torch.eye(classes, dtype=like.dtype, device=like.device)
    return eye[y][:, None, :] - eye


@functools.lru_cache(maxsize=8)
def _all_pairs(classes: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """``classes^2 classes``: row ``y classes + j`` is ``e_j - e_y``; a constant."""
    eye = torch.eye(classes, dtype=dtype, device=device)
    return (eye - eye[:, None, :]).reshape(-1, classes)


def differences(head: Head, y: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """``B classes`` twice: centre and radius of ``f_j - f_y`` by intervals."""
    rows = _all_pairs(classes, head.dtype, y.device)
    if classes > len(y):
        return head.parts(rows.reshape(classes, classes, classes)[y])
    # rows of all pairs, shared by the batch, are fewer than rows per example
    own = y[:, None] * classes + torch.arange(classes, device=y.device)
    middle, radius = head.shared(rows)
    return middle.gather(1, own), radius.gather(1, own)


def _affine(part: Any, x: Tensor | None) -> tuple[Tensor, Tensor]:
    """``(scale, shift)`` of a normalisation; with a batch, from its statistics, which the running ones
    follow."""
    if x is None:
        mean, var = part.running_mean, part.running_var
    else:
        axes = [i for i in range(x.dim()) if i != 1]
        mean, var = x.mean(axes), x.var(axes, unbiased=False)
        count = x.numel() / x.shape[1]
        with torch.no_grad():
            part.running_mean.lerp_(mean.detach(), part.momentum)
            part.running_var.lerp_(var.detach() * count / max(count - 1, 1), part.momentum)
            part.num_batches_tracked += 1
    scale = part.weight / torch.sqrt(var + part.eps)
    return scale, part.bias - mean * scale


class _Builder:
    def __init__(self, shape: tuple[int, ...]) -> None:
        self.made = GraphBuilder()
        self.weights: dict[str, Tensor] = {}
        self.norms: dict[int, tuple[int, tuple[int, ...]]] = {}
        self.shape = (1, *shape)
        self.node = self.made.input("x", self.shape)

    def put(
        self, op: Op, shape: tuple[int, ...], params: dict[str, Any] | None = None, name: str = ""
    ) -> int:
        self.node = self.made.add(op, (self.node,), shape, params, source=name)
        self.shape = shape
        return self.node

    def weighted(self, op: Op, shape: tuple[int, ...], part: Any, extra: dict[str, Any], name: str) -> None:
        params = {"weight": _values(part.weight), **extra}
        if part.bias is not None:
            params["bias"] = _values(part.bias)
        node = self.put(op, shape, params, name)
        self.weights |= {f"{node}.{n}": getattr(part, n) for n in ("weight", "bias") if n in params}

    def add(self, index: int, part: nn.Module) -> None:
        name = f"{index}.{type(part).__name__}"
        if isinstance(part, nn.Linear):
            self.weighted(Op.LINEAR, (*self.shape[:-1], part.out_features), part, {}, name)
        elif isinstance(part, nn.Conv2d):
            self._conv(part, name)
        elif isinstance(part, _NORMS):
            inner = (1,) * (len(self.shape) - 2)
            wide = (self.shape[1], *inner)
            ones = {"scale": np.ones(wide), "shift": np.zeros(wide)}
            self.norms[index] = (self.put(Op.SCALE, self.shape, ones, name), wide)
        elif isinstance(part, nn.Flatten):
            self.put(Op.RESHAPE, (1, int(np.prod(self.shape))))
        elif isinstance(part, nn.ReLU):
            self.put(Op.RELU, self.shape, None, name)
        elif isinstance(part, ScalarActivation):
            function: Expr = part.expression
            self.put(Op.SCALAR, self.shape, {"function": function}, name)
        else:
            raise ModelUnsupported(type(part).__name__, name, "it has no trained bounds yet")

    def _conv(self, part: nn.Conv2d, name: str) -> None:
        (ky, kx), (sy, sx), (dy, dx) = part.kernel_size, part.stride, part.dilation
        if isinstance(part.padding, str) or part.padding_mode != "zeros":
            raise ModelUnsupported("Conv2d", name, "padding must be numbers and zeros")
        py, px = part.padding
        rows = (self.shape[2] + 2 * py - dy * (ky - 1) - 1) // sy + 1
        columns = (self.shape[3] + 2 * px - dx * (kx - 1) - 1) // sx + 1
        extra = {
            "strides": (sy, sx),
            "pads": (py, px, py, px),
            "dilations": (dy, dx),
            "groups": part.groups,
        }
        self.weighted(Op.CONV, (1, part.out_channels, rows, columns), part, extra, name)


def _values(tensor: Tensor) -> Any:
    return tensor.detach().cpu().double().numpy()


def _graph_of(
    module: nn.Sequential, shape: tuple[int, ...]
) -> tuple[Graph, dict[str, Tensor], dict[int, tuple[int, tuple[int, ...]]]]:
    builder = _Builder(shape)
    for index, part in enumerate(module):
        builder.add(index, part)
    builder.made.output("y", builder.node)
    return builder.made.build(), builder.weights, builder.norms
