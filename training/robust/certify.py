"""Certified L-infinity accuracy by the verifier's own rigorous root bounds (rounding paid for)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from bounds.domain import Objectives
from bounds.kernels.numpy import NumpyKernels
from bounds.methods.objective import bound_objectives, compile_objectives
from bounds.methods.rule import Rule, relax_boxes
from bounds.numerics import FLOAT64
from bounds.plan import Plan, compile_plan
from training.layers.base import double
from training.robust.bounded import BoundedNetwork

_PART: Final = 50


def certified_linf(
    module: nn.Sequential,
    x: Tensor,
    y: Tensor,
    radii: Sequence[float],
    classes: int,
    clip: tuple[float, float] | None,
) -> tuple[float, dict[str, float]]:
    """Clean accuracy, and per radius the share of examples whose box is proved by a root bound.

    Soundness: bounds hold over the reals for the float32 weights read into float64; boxes are rounded
        outwards.

    Raises:
        ValueError: the weights hold a NaN or an infinity.
    """
    if not all(bool(torch.isfinite(v).all()) for v in module.state_dict().values()):
        raise ValueError("weights hold a NaN or an infinity: nothing can be proved")
    network = BoundedNetwork(double(module), tuple(x.shape[1:]))
    plan = compile_plan(_current(network), NumpyKernels(FLOAT64))
    with torch.no_grad():
        clean = float((module(x).argmax(1) == y).double().mean())
    out: dict[str, float] = {}
    for r in radii:
        proved = 0
        for label in range(classes):
            mine = x[y == label].flatten(1).double().numpy()
            for start in range(0, len(mine), _PART):
                proved += int(_proved(plan, mine[start : start + _PART], r, label, classes, clip).sum())
        out[f"{r:g}"] = proved / len(y)
    return clean, out


def _current(network: BoundedNetwork) -> Any:
    """The graph with normalisation as it is now."""
    nodes = list(network.graph.nodes)
    for key, value in network.bounds.parameters.items():
        index, name = key.split(".")
        params = {**nodes[int(index)].params, name: value.detach().cpu().double().numpy()}
        nodes[int(index)] = replace(nodes[int(index)], params=MappingProxyType(params))
    return replace(network.graph, nodes=tuple(nodes))


def _objectives(rows: Any, inputs: int) -> Objectives:
    """One group per row: all of them are asked for."""
    g, d = np.zeros((len(rows), inputs)), np.zeros(len(rows))

    def rational() -> tuple[Any, Any, Any]:
        exact = np.vectorize(Fraction, otypes=[object])
        return exact(rows), exact(g), exact(d)

    strict = np.zeros(len(rows), dtype=bool)
    return Objectives(rows, g, d, strict, np.arange(len(rows) + 1), False, rational)


def _proved(
    plan: Plan, x: Any, radius: float, label: int, classes: int, clip: tuple[float, float] | None
) -> Any:
    lo, hi = np.nextafter(x - radius, -np.inf), np.nextafter(x + radius, np.inf)
    if clip is not None:
        lo, hi = np.clip(lo, *clip), np.clip(hi, *clip)
    rows = np.array([np.eye(classes)[label] - np.eye(classes)[j] for j in range(classes) if j != label])
    objectives = _objectives(rows, x.shape[1])
    tape = relax_boxes(plan, lo, hi, Rule(forward=False, refine=True))
    lower = bound_objectives(tape, compile_objectives(plan, objectives)).lower
    return np.all(np.asarray(lower) > 0, axis=1)
