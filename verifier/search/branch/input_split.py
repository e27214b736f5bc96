"""Splitting input dimensions where the bounder expects most from it."""

from __future__ import annotations

import numpy as np

from bounds.domain import Domains
from bounds.graph import Array

# share of the best score that a dimension's relative width adds: rows can be exactly flat, and without
# a width term such a box would be split along the same useless dimension for ever
_WIDTH = 1e-3


def choose(
    domains: Domains, scores: Array, root_width: Array, whole: Array | None = None
) -> tuple[Array, Array, Array]:
    """Picks a dimension and a point for every domain.

    Args:
        domains: open subproblems.
        scores: ``D d`` estimated gains.
        root_width: ``d``, widths of the whole input box.
        whole: ``d`` bool, inputs that are whole numbers: they are split half way between two of them.

    Returns:
        ``(dim, at, possible)``; ``possible`` is false where no dimension can be halved in float64.
    """
    width = domains.hi - domains.lo
    middle = domains.lo + 0.5 * width
    if whole is not None:
        middle = np.where(whole, np.floor(middle) + 0.5, middle)
    splittable = (middle > domains.lo) & (middle < domains.hi)
    clean = np.where(np.isfinite(scores), scores, 0.0)
    share = width / np.where(root_width > 0, root_width, 1.0)
    top = clean.max(axis=1, keepdims=True)
    total = clean + share * (_WIDTH * top + np.finfo(np.float64).tiny)
    total = np.where(splittable, total, -1.0)
    dim = total.argmax(axis=1)
    rows = np.arange(len(dim))
    return dim, middle[rows, dim], splittable[rows, dim]
