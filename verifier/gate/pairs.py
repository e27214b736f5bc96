"""Two inputs that show a Lipschitz constant to be larger than allowed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from bounds.graph import Array
from sdp.lower import SCALES, Jacobians
from verifier.gate.prove import Loaded
from verifier.robustness.points import plans, scores

_POINTS, _BEST, _STEPS = 48, 6, (0.3, 0.1, 1e-2, 1e-3, 1e-4)


@dataclass(frozen=True, slots=True)
class Pair:
    """Two inputs whose outputs are further apart than allowed, and the factor in words."""

    first: tuple[float, ...]
    second: tuple[float, ...]
    text: str


def steep_pair(network: Loaded, norms: tuple[str, str], limit: Fraction, seed: int) -> Pair | None:
    """Looks for two inputs with ``|f(x) - f(y)| > limit |x - y|``; None: none was found, which says nothing.

    Soundness: x and y are exact float64 points; the outputs are enclosed in float64 with all rounding paid
    for, and the norms of the smallest possible differences are compared in rational arithmetic.
    """
    graph = network.model.graph
    random = np.random.default_rng(seed)
    size = graph.input_size
    points = [s * random.standard_normal((_POINTS, size)) for s in SCALES]
    x = np.concatenate([*points, random.random((_POINTS, size))])
    jacobians = Jacobians(graph).at(x)
    directions = np.array([_direction(j, norms, random) for j in jacobians])
    with np.errstate(all="ignore"):
        moved = np.einsum("nij,nj->ni", jacobians, directions)
    order = np.argsort(-np.nan_to_num([_norm(m, norms[1]) for m in moved]))[:_BEST]
    _, exact = plans(graph, network=False)
    for i in order:
        for step in _STEPS:
            y = x[i] + step * directions[i]
            low, high = scores(exact, np.stack([x[i], y]))
            factor = _factor(low, high, x[i], y, norms)
            if factor is not None and factor > limit ** (2 if "2" in norms else 1):
                shown = float(factor) ** (0.5 if "2" in norms else 1)
                text = f"two inputs are shown whose outputs are at least {shown:.6g} times as far apart"
                return Pair(tuple(x[i].tolist()), tuple(y.tolist()), text)
    return None


def _factor(low: Array, high: Array, x: Array, y: Array, norms: tuple[str, str]) -> Fraction | None:
    """A lower bound of ``|f(x) - f(y)| / |x - y|``, exactly; of its square where a 2-norm takes part."""
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        return None
    ends = [[Fraction(float(v)) for v in row] for row in (low[0], high[0], low[1], high[1])]
    apart = [max(c - b, a - d, Fraction(0)) for a, b, c, d in zip(*ends, strict=True)]
    moves = [abs(Fraction(float(a)) - Fraction(float(b))) for a, b in zip(x, y, strict=True)]
    squared = "2" in norms
    top, bottom = _measure(apart, norms[1], squared=squared), _measure(moves, norms[0], squared=squared)
    return top / bottom if bottom else None


def _measure(values: list[Fraction], norm: str, *, squared: bool) -> Fraction:
    if norm == "2":
        return sum((v * v for v in values), Fraction(0))
    size = max(values) if norm == "inf" else sum(values, Fraction(0))
    return size * size if squared else size


def _direction(jacobian: Array, norms: tuple[str, str], random: np.random.Generator) -> Array:
    """A unit step (of the input's norm) that the Jacobian stretches much."""
    if not np.isfinite(jacobian).all():
        return np.zeros(jacobian.shape[1])
    candidates: dict[str, Callable[[], list[Array]]] = {
        "2": lambda: [
            np.linalg.svd(jacobian, full_matrices=False)[2][0],
            *(row / _unit(row) for row in jacobian),
        ],
        "inf": lambda: [np.sign(row) for row in (*jacobian, random.standard_normal(jacobian.shape[1]))],
        "1": lambda: list(np.eye(jacobian.shape[1])[np.argsort(-np.abs(jacobian).max(axis=0))[:8]]),
    }
    found = candidates[norms[0]]()
    return max(found, key=lambda v: _norm(jacobian @ v, norms[1]))


def _unit(row: Array) -> float:
    return float(np.linalg.norm(row)) or 1.0


def _norm(values: Array, norm: str) -> float:
    return float(np.linalg.norm(values, {"1": 1, "2": 2, "inf": np.inf}[norm]))
