"""The ECLipsE family: multipliers layer by layer from the input's side, each chosen once.

``P`` bounds what a state can be: ``s' P^-1 s <= |dx|^2``. With multipliers L of a step and ``R = D P D'``,

    [s; w]' N [s; w] <= s' P^-1 s,    N = [P^-1, -D'L; -LD, 2L],    S = 2L - L R L  (positive definite),

so the next state obeys it with ``P' = H N^-1 H', H = [F G]``, and the bound is ``lambda_max(C P C')``. With
F = 0 that is the recursion of ECLipsE; F also carries skips, and slopes that a region bounds away from 0,
which makes it the one of ECLipsE-Gen-Local (ranges there come from bound propagation, which is proved and
tighter than the ellipsoid's own radii).

Choices of L: ``1 / lambda_max(R)`` for a whole layer (Fast), the inverse of a multiple of ``diag(R)`` that
dominates R (closed form), or the optimum of the layer alone, which makes the next layer's R as small as
possible (the semidefinite program of the paper, solved by :mod:`sdp.interior`).

Reference: Xu, Sivaranjani 2024 (arXiv 2404.04375), and its extension to local bounds; Syed, Hu 2025 (arXiv
2503.14297).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve

from bounds.graph import Array
from sdp import interior
from sdp.chain import Chain, Infeasible, Multipliers, Step, backward, largest, starting_multipliers
from sdp.matrices import Matrix
from sdp.objective import Norm

# rows of one layer's joint matrix up to which its own optimum is looked for
LAYER_LIMIT = 300

Choose = Callable[[Step, Array, Array], Array]
"""From a step, P in front of it, and what reads its result (``r n_k``), to multipliers."""


def scaled_diagonal(r: Array) -> Array:
    """The smallest multiple of ``diag(R)`` that dominates R (slightly enlarged)."""
    diagonal = np.maximum(np.diag(r), 1e-12 * max(float(np.max(np.diag(r), initial=0.0)), 1e-280))
    root = 1 / np.sqrt(diagonal)
    return diagonal * largest(r * root[:, None] * root)


def fast(chain: Chain, last: Array) -> Multipliers:
    """ECLipsE-Fast: one number per layer."""
    return _forwards(chain, last, lambda step, p, _: _flat(_operands(step, p)))


def closed_form(chain: Chain, last: Array) -> Multipliers:
    """Per layer the better of two closed forms, by the next layer's largest eigenvalue."""
    return _forwards(chain, last, _better)


def accurate(chain: Chain, last: Array, should_stop: Callable[[], bool] = lambda: False) -> Multipliers:
    """ECLipsE: every layer's own optimum (closed forms for layers that are too large)."""

    def choose(step: Step, p: Array, reader: Array) -> Array:
        rough = _better(step, p, reader)
        if step.width + len(p) > LAYER_LIMIT or should_stop():
            return rough
        chain = Chain(Matrix.exact(_root(p)), (step,), Matrix.exact(reader))
        own = reader.T @ reader
        try:
            found, _ = interior.optimise(
                chain, starting_multipliers(chain, own), own, Norm.TWO, should_stop=should_stop
            )
            scale = largest(_squared(chain, found, own))
            fine = found[0] / scale
            return min((fine, rough), key=lambda one: _reach(step, p, one, reader))
        except (Infeasible, LinAlgError):
            return rough

    return _forwards(chain, last, choose)


def _forwards(chain: Chain, last: Array, choose: Choose) -> Multipliers:
    """All multipliers, scaled to the bound that they imply (a bound of one squared is theirs otherwise)."""
    if not chain.steps:
        return []
    p = chain.x.value @ chain.x.value.T
    root = _root(last).T
    found: Multipliers = []
    for k, step in enumerate(chain.steps):
        if not step.width:
            found.append(np.zeros(0))
            p = step.f.value @ p @ step.f.value.T
            continue
        reader = root if k == len(chain.steps) - 1 else chain.steps[k + 1].d.value
        lam = choose(step, p, reader if len(reader) else np.eye(step.f.shape[0]))
        found.append(lam)
        p = _advance(step, p, lam)
    scale = largest(root @ p @ root.T)
    return [lam * scale * (1 + 1e-9) for lam in found]


def _advance(step: Step, p: Array, lam: Array) -> Array:
    """``P'``.

    Raises:
        Infeasible: S is not positive definite.
    """
    f, g, d = step.f.value, step.g.value, step.d.value
    ldp = lam[:, None] * (d @ p)
    s = np.diag(2 * lam) - ldp @ (d.T * lam)
    try:
        factor = cho_factor((s + s.T) / 2, lower=True)
    except (LinAlgError, ValueError):
        raise Infeasible from None
    h = g + (f @ ldp.T if np.any(f) else 0.0)
    after = h @ cho_solve(factor, h.T)
    if np.any(f):
        after += f @ p @ f.T
    return (after + after.T) / 2


def _operands(step: Step, p: Array) -> Array:
    r = step.d.value @ p @ step.d.value.T
    return (r + r.T) / 2


def _flat(r: Array) -> Array:
    return np.full(len(r), 1 / max(largest(r), 1e-280))


def _better(step: Step, p: Array, reader: Array) -> Array:
    r = _operands(step, p)
    choices = (_flat(r), 1 / np.maximum(scaled_diagonal(r), 1e-280))
    return min(choices, key=lambda lam: _reach(step, p, lam, reader))


def _reach(step: Step, p: Array, lam: Array, reader: Array) -> float:
    """The next layer's largest eigenvalue."""
    try:
        return largest(reader @ _advance(step, p, lam) @ reader.T)
    except Infeasible:
        return np.inf


def _squared(chain: Chain, lam: Multipliers, last: Array) -> Array:
    """``X' Q_0 X`` of a chain."""
    return chain.x.value.T @ backward(chain, lam, last).q[0] @ chain.x.value


def _root(p: Array) -> Array:
    """Some B with ``B B' = P`` (up to rounding)."""
    values, vectors = np.linalg.eigh((p + p.T) / 2)
    return vectors * np.sqrt(np.maximum(values, 0.0))
