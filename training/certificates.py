"""Certified accuracy from margins and proved constants.

A materialised network is evaluated in float64 on its float32 weights. A margin ``m = f_y - f_j`` whose proved
constant is K cannot change sign within ``m / K``; the evaluation's own rounding is charged against m by a
bound on it (:func:`evaluation_error`). The result is about the *real* network function. It is the training
side's account; ``verify robustness`` gives the independent one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from bounds.numerics import FLOAT64
from training.layers.base import double
from training.network import Proved

_BATCH: Final = 500


def radii(proved: Proved, x: Tensor, y: Tensor) -> Any:
    """``N`` float64: certified L2 radii, rounded downwards; negative or zero where the decision is wrong.

    A NaN counts as minus infinity.
    """
    module = double(proved.body)
    pairs = proved.pair_constants()
    found: list[Any] = []
    with torch.no_grad():
        for part, labels in zip(x.split(_BATCH), y.split(_BATCH), strict=True):
            f = module(part.double()).numpy()
            found.append(_radii(f, labels.numpy(), pairs, evaluation_error(module, part)))
    return np.concatenate(found)


def evaluation_error(module: nn.Module, x: Tensor) -> Any:
    """``B 1``: a bound on the rounding of float64 logits.

    Soundness: inside a materialised network no value is longer than ``S = 2 (|x| + sum |b|)`` (no part
    stretches by more than sqrt 2, compositions that are layers by no more than 1). A sum of n products is off
    by at most ``gamma_n |w||x|``; with entries of a map of norm at most sqrt 2, row and column sums of
    magnitudes are at most ``sqrt(2 n)``, so a layer adds at most ``sqrt(2 n) gamma_(n + 8) S``, which later
    layers do not enlarge. Every other module rounds each element a few times.
    """
    size, share = torch.linalg.vector_norm(x.flatten(1).double(), dim=1).numpy(), 0.0
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Conv2d):
            fans = part.weight[0].numel(), part.weight.shape[0] * part.weight[0, 0].numel()
            n = max(fans)
            share += (
                2 * math.sqrt(2 * n) * FLOAT64.gamma(n + 8)
            )  # twice: some products are used again, transposed
            if part.bias is not None:
                places = 1.0 if isinstance(part, nn.Linear) else math.sqrt(x[0].numel())
                size = size + float(torch.linalg.vector_norm(part.bias.double())) * places
        else:
            share += FLOAT64.gamma(8)
    return (2 * share * size * (1 + 2.0**-20))[:, None]


def _radii(f: Any, y: Any, pairs: Any, error: Any) -> Any:
    rows = np.arange(len(y))
    margin = f[rows, y][:, None] - f - error
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(pairs[y] > 0, margin / pairs[y], np.where(margin > 0, np.inf, -np.inf))
    ratio = np.where(np.isnan(ratio), -np.inf, ratio * (1 - np.sign(ratio) * 2.0**-50))
    ratio[rows, y] = np.inf
    return ratio.min(1)


def accuracies(found: Any, wanted: Sequence[float]) -> dict[str, float]:
    """Radius (as text, for JSON) to the share of examples certified there."""
    return {f"{r:g}": float(np.mean(found >= r)) if r > 0 else float(np.mean(found > 0)) for r in wanted}
