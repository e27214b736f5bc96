"""Decay of signals at initialisation: formulas, measurement, and the warning a user gets.

A layer ``W = P diag(sum |P'P|)^(-1/2)`` with Gaussian P in ``R^(d x n)`` has entries of variance

    Var(W_ij) ~ 1 / (d + (n - 1) e_d),   e_d = 2 / sqrt(pi) Gamma((d + 1) / 2) / Gamma(d / 2),

whatever P's own variance, so one layer multiplies mean squares by ``n Var``, about ``sqrt(pi / (2 n))`` for
square layers, and a rectifier halves that (arXiv:2503.00240). Mean squares alone can be saved by biases;
whether two inputs can still be told apart shows in the ratio of their distances after and before.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn

from training.layers.base import LipschitzLayer
from training.network import LipschitzNetwork

LEAST_RATIO: Final = 1e-3
_PAIRS: Final = 64


def expected_overlap(d: int) -> float:
    """``e_d``: the mean of ``|<p, q>|`` for independent standard normal vectors of size d."""
    return 2 / math.sqrt(math.pi) * math.exp(math.lgamma((d + 1) / 2) - math.lgamma(d / 2))


def aol_variance(inputs: int, outputs: int) -> float:
    """Mean-field variance of a Gaussian AOL layer's entries (normalised by columns)."""
    return 1 / (outputs + (inputs - 1) * expected_overlap(outputs))


def aol_gain(n: int, *, relu: bool = False) -> float:
    """What one square Gaussian AOL layer multiplies mean squares by."""
    return n * aol_variance(n, n) / (2 if relu else 1)


@dataclass(frozen=True, slots=True)
class Depth:
    """One depth.

    Attributes:
        depth: layers.
        mean_square: of values, relative to the inputs'.
        distance: median ratio of pair distances, after to before.
    """

    depth: int
    mean_square: float
    distance: float


def through(layers: Sequence[Callable[[Tensor], Tensor]], x: Tensor, depths: Sequence[int]) -> list[Depth]:
    """Measures signals after so many layers.

    Args:
        layers: applied in turn.
        x: ``B n`` inputs, an even number of them; halves are paired.
        depths: where to measure.
    """
    start, before = float((x**2).mean()), _distances(x)
    found: list[Depth] = []
    with torch.no_grad():
        for number, layer in enumerate(layers, 1):
            x = layer(x)
            if number in depths:
                ratio = float((_distances(x) / before).median())
                found.append(Depth(number, float((x**2).mean()) / start, ratio))
    return found


def _distances(x: Tensor) -> Tensor:
    a, b = x.flatten(1).chunk(2)
    return torch.linalg.vector_norm(a - b, dim=1)


def features_ratio(network: LipschitzNetwork, x: Tensor) -> float:
    """The median ratio of pair distances behind the features to those of the inputs; 1 is lossless."""
    half = len(x) // 2 * 2
    if half < 2:
        return 1.0
    with torch.no_grad():
        before, after = _distances(x[:half]), _distances(network.features(x[:half]))
    known = before > 0
    return float((after[known] / before[known]).median()) if bool(known.any()) else 1.0


def warning_of(model: nn.Module, x: Tensor) -> str:
    """A sentence where a fresh network can hardly tell inputs apart, else ""."""
    if not isinstance(model, LipschitzNetwork):
        return ""
    training = model.training
    model.eval()
    ratio = features_ratio(model, x)
    model.train(training)
    # a NaN is no good sign either
    if ratio >= LEAST_RATIO:
        return ""
    layers = sum(isinstance(m, LipschitzLayer) and hasattr(m, "raw") for m in model.modules())
    return (
        f"signals decay at the start: {layers} layers leave {ratio:.1e} of the distances between inputs, so"
        " gradients are as small and training may not begin;"
        ' use init = "orthogonal" with a norm-preserving activation'
        " (maxmin, groupsort, householder, abs), or layer = \"sll\" with 'slack', or fewer layers"
    )


__all__ = ["Depth", "aol_gain", "aol_variance", "expected_overlap", "features_ratio", "through", "warning_of"]
