"""Slope ranges: rigorous bounds on every difference quotient of an elementwise step.

``alpha (z1 - z2)^2 <= (f(z1) - f(z2)) (z1 - z2) <= beta (z1 - z2)^2`` for all z1, z2 of an interval. For a
continuous, piecewise differentiable f these are the bounds of its derivative, which the scalar engine
encloses. Infinite ends stand for operands of magnitude up to 1e100.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from bounds.errors import ModelUnsupported
from bounds.expression import Expr, Fn, nodes
from bounds.graph import Array, Node, Op
from bounds.relax.derivative import derivative, recognise
from bounds.relax.pieces import Piece
from bounds.relax.scalar import scalar_function
from bounds.relax.segments import pieces

# built of anything else, a function is continuous wherever it is defined
JUMPING = frozenset({Fn.SIGN, Fn.FLOOR, Fn.CEIL, Fn.TRUNC, Fn.ROUND, Fn.STEP, Fn.STRICT, Fn.ZERO, Fn.WHERE})
WINDOW = 4096.0
# "globally" means operands up to this magnitude, far beyond the largest float32: interval arithmetic cannot
# see that z sigmoid'(z) vanishes at infinity itself
LARGEST_OPERAND = 1e100
LARGEST_SLOPE = 1e30
FAR = "slopes of functions other than rectifiers are proved for operands of magnitude up to 1e100 only"
LOCAL = "; a bound on a region (--region) may exist, where the operand's range is finite"


def slope_range(node: Node, lo: Array, hi: Array) -> tuple[Array, Array]:
    """Slopes of a RELU or SCALAR node on intervals of its operand.

    Args:
        node: the step.
        lo, hi: ``n`` float64, the operand's range, infinite ends allowed.

    Returns:
        alpha, beta: ``n``, finite.

    Raises:
        ModelUnsupported: no finite bound is known.
    """
    if node.op is Op.RELU:
        return (lo >= 0).astype(np.float64), (hi > 0).astype(np.float64)
    expression = node.params["function"]
    if any(part.fn in JUMPING for part in nodes(expression)):
        raise ModelUnsupported(str(expression), node.source, "it jumps, or may: it has no Lipschitz constant")
    ends, back = np.unique(np.stack([lo, hi], axis=-1).reshape(-1, 2), axis=0, return_inverse=True)
    alpha, beta = _derivative_range(
        expression, np.maximum(ends[:, 0], -LARGEST_OPERAND), np.minimum(ends[:, 1], LARGEST_OPERAND)
    )
    if not (np.abs(alpha).max(initial=0) < LARGEST_SLOPE and np.abs(beta).max(initial=0) < LARGEST_SLOPE):
        advice = LOCAL if np.isinf(lo).any() else ", not even on this region; choose a smaller one"
        raise ModelUnsupported(str(expression), node.source, f"its slope is unbounded{advice}")
    back = back.reshape(-1)
    return alpha[back], beta[back]


def chord_range(node: Node, lo: Array, hi: Array, centre: tuple[Array, Array]) -> tuple[Array, Array]:
    """Slopes of chords from one point of the operand, to any of the interval: as :func:`slope_range`.

    Args:
        node: the step.
        lo, hi: ``n``, the operand's range, finite where it matters.
        centre: ``n`` twice, an enclosure of the operand's value at the one point.

    Soundness: a rectifier's chord from ``c > 0`` has slope 1 to points above zero and ``c / (c - v)`` to
    points v below, which grows with c and with v; from ``c < 0`` it has slope 0, or ``v / (v - c)``, which
    grows with v and with c. Elsewhere every chord's slope is one of :func:`slope_range`.
    """
    alpha, beta = slope_range(node, lo, hi)
    if node.op is not Op.RELU:
        return alpha, beta
    below, above = centre
    with np.errstate(all="ignore"):
        active = (below > 0) & (lo < 0) & (lo > -np.inf)
        least = below / (below - lo) * (1 - 2.0**-50)  # pays for three roundings
        alpha = np.where(active & (least > 0), least, alpha)
        inactive = (above < 0) & (hi > 0) & (hi < np.inf)
        most = hi / (hi - above) * (1 + 2.0**-50)
        beta = np.where(inactive & (most < 1), most, beta)
    return alpha, beta


def _derivative_range(expression: Expr, lo: Array, hi: Array) -> tuple[Array, Array]:
    least, most = np.full(len(lo), np.inf), np.full(len(lo), -np.inf)
    for piece, slope in _pieces(expression):
        a, b = np.maximum(lo, piece.left.lo), np.minimum(hi, piece.right.hi)
        meets = np.flatnonzero(a <= b)
        if not len(meets):
            continue
        if slope is None:
            least[meets], most[meets] = -np.inf, np.inf
            continue
        low, high = scalar_function(slope).range(a[meets], b[meets])
        least[meets] = np.minimum(least[meets], np.where(low <= high, low, -np.inf))
        most[meets] = np.maximum(most[meets], np.where(low <= high, high, np.inf))
    return np.where(least <= most, least, -np.inf), np.where(least <= most, most, np.inf)


@lru_cache(maxsize=256)
def _pieces(expression: Expr) -> tuple[tuple[Piece, Expr | None], ...]:
    """The smooth pieces and their derivatives; None where nothing is known."""
    found = pieces(recognise(expression), WINDOW)
    return tuple((p, None if p.expr is None else derivative(p.expr)) for p in found)
