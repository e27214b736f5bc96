"""1-Lipschitz layers as plain ``torch.nn.Module``\\ s; this package imports torch, ``training`` itself does
not."""

from __future__ import annotations

from training.layers.activations import Abs, Activation, GroupSort, Householder, MaxMin, ReLU, make_activation
from training.layers.base import ConvMap, DenseMap, LipschitzLayer, Materialised
from training.layers.structure import (
    Centre,
    Chain,
    Flatten,
    MaxPool,
    Residual,
    ScaledPool,
    UnitRows,
    Unshuffle,
    Width,
)
from training.layers.table import LAYERS, Parameterisation, check_pair, make_conv, make_dense

__all__ = [
    "LAYERS",
    "Abs",
    "Activation",
    "Centre",
    "Chain",
    "ConvMap",
    "DenseMap",
    "Flatten",
    "GroupSort",
    "Householder",
    "LipschitzLayer",
    "Materialised",
    "MaxMin",
    "MaxPool",
    "Parameterisation",
    "ReLU",
    "Residual",
    "ScaledPool",
    "UnitRows",
    "Unshuffle",
    "Width",
    "check_pair",
    "make_activation",
    "make_conv",
    "make_dense",
]
