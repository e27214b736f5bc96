"""Networks built from a description: 1-Lipschitz ones, and ordinary ones to be trained against bounds."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bounds.errors import BadInput
from training import proof
from training.config import ModelConfig
from training.layers import (
    Centre,
    Chain,
    Flatten,
    LipschitzLayer,
    Residual,
    UnitRows,
    Unshuffle,
    Width,
    check_pair,
    make_activation,
    make_conv,
    make_dense,
)
from training.layers.base import DenseMap, linear
from training.layers.table import parameterisation

# what export keeps below the claim, so that another proof with its own rounding confirms it
HEADROOM = 2.0**-18


class LipschitzNetwork(nn.Module):
    """Features of constant 1 and a linear head.

    Args:
        features: the layers before the head.
        head: the last layer, linear.
    """

    def __init__(self, features: Chain, head: UnitRows | DenseMap) -> None:
        super().__init__()
        self.features, self.head = features, head

    def forward(self, x: Tensor) -> Tensor:
        """``B classes``."""
        return self.head(self.features(x))

    def head_distances(self) -> Tensor:
        """``classes classes``: ``|w_i - w_j|``, differentiable; exact constants of the margins over the
        features."""
        w = self.head.matrix()
        gram = w @ w.mT
        square = gram.diagonal()[:, None] + gram.diagonal() - 2 * gram
        apart = ~torch.eye(len(w), dtype=torch.bool, device=w.device)
        return torch.where(apart, torch.where(apart, square, 1.0).clamp(min=1e-12).sqrt(), 0.0)

    def materialise(self) -> Proved:
        """The network in ordinary modules, its proved constant at most ``1 - HEADROOM``.

        The head is scaled as a whole, which changes no decision and no certified radius.

        Raises:
            ValueError: weights hold a NaN or an infinity.
        """
        features, head = self.features.materialise(), self.head.materialise()
        plain = head.body
        assert isinstance(plain, nn.Linear)
        weight = plain.weight.detach().double().numpy()
        target = (1 - HEADROOM) / features.constant if features.constant > 0 else 1.0
        scaled = proof.shrunk(
            weight * min(1.0, target / max(head.constant, 1e-30)), target, proof.matrix_norm
        )
        head_has_bias = self.head.bias is not None
        factor = float(np.linalg.norm(scaled) / max(float(np.linalg.norm(weight)), 1e-300))
        bias = plain.bias.detach() * factor if head_has_bias else None
        body = nn.Sequential(*_flat(features.body), linear(scaled, bias)).eval()
        return Proved(body, features.constant, scaled, factor)

    def lipschitz(self) -> float:
        """A proved constant, that of the materialised network."""
        return self.materialise().lipschitz


class Proved:
    """A materialised network and what is proved of it.

    Attributes:
        body: ordinary modules.
        features: proved constant of all but the last layer.
        head: its float32 weight.
        factor: what logits were multiplied with.
    """

    def __init__(self, body: nn.Sequential, features: float, head: Any, factor: float) -> None:
        self.body, self.features, self.head, self.factor = body, features, head, factor

    @property
    def lipschitz(self) -> float:
        """A proved constant of the whole network, L2 to L2."""
        return proof.product([self.features, proof.matrix_norm(self.head)])

    def pair_constants(self) -> Any:
        """``classes classes`` float64: proved constants of the margins ``f_i - f_j``, rounded upwards."""
        w = np.asarray(self.head, dtype=np.float64)
        distance = np.sqrt(((w[:, None] - w) ** 2).sum(-1))
        return distance * self.features * (1 + (w.shape[1] + 8) * 2.0**-52)


def _flat(module: nn.Module) -> list[nn.Module]:
    if isinstance(module, nn.Sequential):
        return [m for part in module for m in _flat(part)]
    return [module]


def build_lipschitz(config: ModelConfig, shape: tuple[int, ...], classes: int) -> LipschitzNetwork:
    """A 1-Lipschitz network.

    Args:
        config: the description.
        shape: of one input, ``(n,)`` or ``(channels, height, width)``.
        classes: outputs.

    Raises:
        BadInput: parts do not fit together; the message says why.
    """
    check_pair(config.layer, config.activation)
    parts: list[LipschitzLayer] = [Centre(config.centre)] if config.centre else []
    if config.unshuffle > 1:
        parts.append(Unshuffle(config.unshuffle))
        shape = _unshuffled(shape, config.unshuffle)
    for channels, stride in zip(config.conv, _strides(config), strict=True):
        if len(shape) != 3:
            raise BadInput(f"convolutions need images, and the inputs have shape {shape}")
        made, shape = _conv_block(config, shape, channels, stride)
        parts += made
    if len(shape) == 3:
        parts.append(Flatten())
    width = math.prod(shape)
    for size in config.hidden:
        parts += _dense_block(config, width, size)
        width = size
    row = parameterisation(config.layer)
    head: Any
    if config.head == "rows":
        head = UnitRows(width, classes)
    else:
        head = make_dense("cayley" if row.own_relu else config.layer, width, classes)
    return LipschitzNetwork(Chain(*parts), head)


def _unshuffled(shape: tuple[int, ...], s: int) -> tuple[int, ...]:
    if len(shape) != 3 or shape[1] % s or shape[2] % s:
        raise BadInput(f"cells of {s}x{s} pixels do not divide inputs of shape {shape}")
    return shape[0] * s * s, shape[1] // s, shape[2] // s


def _strides(config: ModelConfig) -> list[int]:
    if not config.stride:
        return [1] * len(config.conv)
    if len(config.stride) != len(config.conv):
        raise BadInput(f"'stride' has {len(config.stride)} entries for {len(config.conv)} convolutions")
    return list(config.stride)


def _conv_block(
    config: ModelConfig, shape: tuple[int, ...], channels: int, stride: int
) -> tuple[list[LipschitzLayer], tuple[int, ...]]:
    c, h, w = shape
    row = parameterisation(config.layer)
    parts: list[LipschitzLayer] = []
    if row.residual and stride > 1:
        parts.append(Unshuffle(stride))
        c, h, w = _unshuffled(shape, stride)
        stride = 1
    if row.residual and c != channels:
        parts.append(Width(c, channels))
        c = channels
    layer = make_conv(config.layer, c, channels, config.kernel, size=(h, w), stride=stride)
    size = ((h - 1) // stride + 1, (w - 1) // stride + 1)
    parts += _activated(config, layer, channels, keeps=c == channels and stride == 1)
    return parts, (channels, *size)


def _dense_block(config: ModelConfig, inputs: int, outputs: int) -> list[LipschitzLayer]:
    row = parameterisation(config.layer)
    options: dict[str, Any] = {}
    if config.inner and row.own_relu:
        options["hidden"] = config.inner
    if config.slack and config.layer == "sll":
        options["slack"] = config.slack
    if row.residual and inputs != outputs:
        # zero columns lose a residual layer's inputs, an isometry keeps as many as fit
        first = make_dense("cayley", inputs, outputs)
        return [first, *_activated(config, make_dense(config.layer, outputs, outputs, **options), outputs)]
    layer = make_dense(config.layer, inputs, outputs, **options)
    return _activated(config, layer, outputs, keeps=inputs == outputs)


def _activated(
    config: ModelConfig, layer: LipschitzLayer, channels: int, *, keeps: bool = False
) -> list[LipschitzLayer]:
    own = bool(parameterisation(config.layer).own_relu)
    parts = [layer] if own else [layer, make_activation(config.activation, channels)]
    if config.residual and keeps and not own:
        return [Residual(Chain(*parts))]
    return parts


def build_plain(config: ModelConfig, shape: tuple[int, ...], classes: int) -> nn.Sequential:
    """An ordinary network: convolutions, dense layers, batch normalisation where asked.

    Raises:
        BadInput: parts do not fit together.
    """
    from training.robust.activations import make_plain_activation

    parts: list[nn.Module] = []
    if config.conv and len(shape) != 3:
        raise BadInput(f"convolutions need images, and the inputs have shape {shape}")
    for channels, stride in zip(config.conv, _strides(config), strict=True):
        c, h, w = shape
        padding = (config.kernel - 1) // 2
        parts.append(nn.Conv2d(c, channels, config.kernel, stride=stride, padding=padding))
        if config.batch_norm:
            parts.append(nn.BatchNorm2d(channels))
        parts.append(make_plain_activation(config.activation))
        size = [(n + 2 * padding - config.kernel) // stride + 1 for n in (h, w)]
        shape = (channels, *size)
    if len(shape) == 3:
        parts.append(nn.Flatten())
    width = math.prod(shape)
    for outputs in config.hidden:
        parts.append(nn.Linear(width, outputs))
        if config.batch_norm:
            parts.append(nn.BatchNorm1d(outputs))
        parts.append(make_plain_activation(config.activation))
        width = outputs
    parts.append(nn.Linear(width, classes))
    return nn.Sequential(*parts)
