"""Closed forms of ECLipsE: multipliers layer by layer, no optimisation.

The LipSDP matrix is factorised block by block; each layer's multipliers are chosen as soon as what comes
before is known. ECLipsE-Fast takes one number per layer. Any ``T >= W M^-1 W'`` gives valid multipliers ``2
T^-1``; the scaled diagonal ``s diag(R)`` with ``s = lambda_max(D^-1/2 R D^-1/2)`` is as good or better on
average.

Reference: Xu, Sivaranjani 2024 (arXiv 2404.04375), section 4; Syed, Hu 2025 (arXiv 2503.14297).
"""

from __future__ import annotations

import numpy as np

from bounds.graph import Array
from sdp.chain import Chain, Infeasible, Multipliers, largest, starting_multipliers


def scaled_diagonal(r: Array) -> Array:
    """The smallest multiple of ``diag(R)`` that dominates R (slightly enlarged)."""
    diagonal = np.maximum(np.diag(r), 1e-12 * max(float(np.max(np.diag(r), initial=0.0)), 1e-280))
    root = 1 / np.sqrt(diagonal)
    return diagonal * largest(r * root[:, None] * root)


def fast(chain: Chain, last: Array) -> Multipliers:
    """ECLipsE-Fast, from the input's side; for plain feed-forward chains (no skips), else the greedy form.

    Its own scale is that of a bound of one, so the multipliers are multiplied by the bound squared.
    """
    if any(np.any(step.f.value) for step in chain.steps) or not chain.steps:
        return starting_multipliers(chain, last)
    inverse = chain.x.value @ chain.x.value.T  # of M, seen through W
    lam: Multipliers = []
    try:
        for step in chain.steps:
            r = step.d.value @ inverse @ step.d.value.T
            r = (r + r.T) / 2
            n = step.width
            one = 2 / max(largest(r), 1e-280)
            lam.append(np.full(n, one / 2))
            # M = lam I - lam^2 R / 4 in this scaling
            m = one * np.eye(n) - one * one * r / 4
            g = step.g.value
            inverse = g @ np.linalg.solve(m, g.T)
    except np.linalg.LinAlgError:
        raise Infeasible from None
    values, vectors = np.linalg.eigh((last + last.T) / 2)
    root = vectors * np.sqrt(np.maximum(values, 0))
    scale = largest(root.T @ inverse @ root)
    return [one * scale * (1 + 1e-9) for one in lam]
