"""Slope ranges of scalar nodes, from difference quotients over cells that cover the line."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from bounds.errors import CertificateRejected
from verifier.check.functions import Function
from verifier.check.jets import Jets
from verifier.check.network import Array, Kind, Node

FARTHEST = 1e100  # "every operand" means every one up to here
LARGEST = 1e30
ROUNDS, KEEP = 40, 4096
# where functions in use have kinks: a cell with one inside may have the slopes of both sides added up
KINKS = (-6.0, -3.0, -2.5, -2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 2.5, 3.0, 6.0)
PRECISION = 1e-9  # how closely the largest slope is wanted


def slopes(node: Node) -> tuple[float, float]:
    """Bounds of all difference quotients of a nonlinear node; rejects where there are none."""
    if node.kind is Kind.RELU:
        return 0.0, 1.0
    low, high = _range(node.function)
    if not (abs(low) < LARGEST and abs(high) < LARGEST):
        raise CertificateRejected("slopes", f"those of '{node.name}' are not bounded")
    return low, high


def slopes_between(node: Node, low: Array, high: Array) -> tuple[Array, Array]:
    """The same element by element, for operands in [low, high]."""
    ends, back = np.unique(np.stack([low, high], axis=-1), axis=0, return_inverse=True)
    found = np.array([_between(node.function, float(a), float(b)) for a, b in ends]).reshape(-1, 2)
    if not np.all(np.abs(found) < LARGEST):
        raise CertificateRejected("slopes", f"those of '{node.name}' are not bounded")
    least, most = found[back.reshape(-1)].T
    return least, most


def _between(function: Function, low: float, high: float) -> tuple[float, float]:
    if not (-FARTHEST < low <= high < FARTHEST):
        return _range(function)
    if low == high:  # an interval of its own, or slopes at a point would have to be told from chords
        low, high = float(np.nextafter(low, -np.inf)), float(np.nextafter(high, np.inf))
    edges = np.unique(np.concatenate([np.linspace(low, high, 65), [low, high], KINKS]))
    edges = edges[(edges >= low) & (edges <= high)]
    return -_largest(function, -1.0, edges), _largest(function, 1.0, edges)


@lru_cache(maxsize=64)
def _range(function: Function) -> tuple[float, float]:
    positive = np.concatenate([[0.0], np.geomspace(1e-4, 64.0, 700), np.geomspace(65.0, FARTHEST, 400)])
    edges = np.concatenate([-positive[:0:-1], positive])
    return -_largest(function, -1.0, edges), _largest(function, 1.0, edges)


def _largest(function: Function, sign: float, edges: Array) -> float:
    """The largest slope (times sign) between edges: cells are halved where the bound may still fall.

    Soundness: a difference quotient over several cells is a mean of those within them, since jets enclose
    quotients and give infinite ones at jumps.
    """
    jets = Jets(function, exact=False)
    lo, hi = edges[:-1], edges[1:]
    settled = -np.inf
    with np.errstate(all="ignore"):
        for _ in range(ROUNDS):
            d = jets.over(lo, hi).d
            top = np.broadcast_to(sign * (d[1] if sign > 0 else d[0]), lo.shape)
            top = np.where(top == top, top, np.inf)  # a NaN is no bound
            middle = lo / 2 + hi / 2
            point = jets.over(middle, middle).d
            reached = np.broadcast_to(sign * (point[0] if sign > 0 else point[1]), lo.shape)
            floor = float(np.max(np.where(reached == reached, reached, -np.inf), initial=settled))
            # what lies below a slope that is reached anyway need not be looked at again
            bar = floor + PRECISION * max(1.0, abs(floor))
            open_ = top > bar
            settled = max(settled, float(np.max(np.where(open_, -np.inf, top), initial=-np.inf)), floor)
            if not open_.any() or 2 * int(open_.sum()) > KEEP:
                return max(settled, float(np.max(np.where(open_, top, -np.inf), initial=-np.inf)))
            narrow = open_ & ((middle <= lo) | (middle >= hi))
            settled = max(settled, float(np.max(np.where(narrow, top, -np.inf), initial=-np.inf)))
            lo, hi, middle = (v[open_ & ~narrow] for v in (lo, hi, middle))
            lo, hi = np.concatenate([lo, middle]), np.concatenate([middle, hi])
            if not len(lo):
                return settled
        d = jets.over(lo, hi).d
        top = np.broadcast_to(sign * (d[1] if sign > 0 else d[0]), lo.shape)
        return max(settled, float(np.max(np.where(top == top, top, np.inf))))
