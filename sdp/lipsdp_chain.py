"""LipSDP in its storage-chain form by a general solver, as a baseline.

One small matrix inequality per step, coupled by full symmetric storages ``Q_k`` as variables of their own:

    [Q_{k-1} 0; 0 0] - H' Q_k H + [0 -D'L; -LD 2L] >= 0,    X' Q_0 X <= rho I,

with the same optimum as the joint form. Linear in depth, but a state of n numbers costs n (n + 1) / 2
variables. States and elements are scaled by what the closed form gives for them.

Reference: Pauli et al. 2024; the sparse form of Fazlyab et al. 2019.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from bounds.graph import Array
from sdp.chain import Chain, Multipliers, backward, compressed, largest
from sdp.lipsdp import SolverFailed, cvxpy_module, solved
from sdp.objective import Norm

LARGEST_STATE = 70
LARGEST_VARIABLES = 40_000


def solve_chain(
    chain: Chain, start: Multipliers, last: Array, norm: Norm, *, solver: str
) -> tuple[Multipliers, float]:
    """Multipliers from a general solver, and the bound that it claims.

    Args:
        chain, start, last, norm: as for :func:`sdp.interior.joint_form`; the norm is TWO.
        solver: "SCS" or "CLARABEL".

    Raises:
        BadInput: cvxpy is missing.
        SolverFailed: the problem is too large or of another norm, or the status is no success.
    """
    cvxpy = cvxpy_module()
    sizes = [chain.x.shape[0], *(step.f.shape[0] for step in chain.steps)]
    if norm is not Norm.TWO or not chain.steps:
        raise SolverFailed("the chain form is for networks with nonlinear steps, and from the 2-norm only")
    if max(sizes) > LARGEST_STATE or sum(n * (n + 1) // 2 for n in sizes) > LARGEST_VARIABLES:
        raise SolverFailed(
            f"states of {max(sizes)} numbers are too large for the chain form; use --method auto"
        )
    sweep = backward(chain, start, last)
    scales = [1 / np.sqrt(np.maximum(np.diag(q), 1e-9 * np.diag(q).max() + 1e-300)) for q in sweep.q]
    x = chain.x.value if chain.x.shape[1] <= chain.x.shape[0] else compressed(chain.x.value)
    rho = largest(x.T @ sweep.q[0] @ x)
    x = x / scales[0][:, None] / np.sqrt(rho)
    storages: list[Any] = [cvxpy.Variable((n, n), symmetric=True) for n in sizes[:-1]]
    storages.append((last * scales[-1][:, None]) * scales[-1])
    bound = cvxpy.Variable()
    constraints = [bound * np.eye(x.shape[1]) - x.T @ storages[0] @ x >> 0]
    factors: list[Any] = []
    for k, step in enumerate(chain.steps):
        unit = 1 / np.sqrt(start[k])
        h = np.hstack([step.f.value * scales[k], step.g.value * unit]) / scales[k + 1][:, None]
        d = step.d.value * scales[k] / unit[:, None]
        lam = cvxpy.Variable(step.width, nonneg=True)
        factors.append(lam)
        ld = cvxpy.diag(lam) @ d
        whole = cvxpy.bmat([[storages[k], -ld.T], [-ld, 2 * cvxpy.diag(lam)]]) - h.T @ storages[k + 1] @ h
        constraints.append((whole + whole.T) / 2 >> 0)
    solved(cvxpy, cvxpy.Problem(cvxpy.Minimize(bound), constraints), solver)
    values = [np.asarray(v.value, dtype=np.float64).reshape(-1) for v in factors]
    lam = [np.maximum(v, 1e-12) * s for v, s in zip(values, start, strict=True)]
    return lam, float(np.sqrt(max(float(bound.value) * rho, 0.0)))
