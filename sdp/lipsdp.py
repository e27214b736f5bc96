"""LipSDP by a general solver, as a baseline: cvxpy with SCS or Clarabel on the joint matrix inequality.

A solver's value is never used: its multipliers go through :mod:`sdp.certify` like everybody's. There is no
"LipSDP-network" here: its couplings of neurons are unsound (docs/explanation/lipschitz.md shows the example).

Reference: Fazlyab et al. 2019 (LipSDP-neuron and -layer).
"""

from __future__ import annotations

import enum
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from bounds.errors import BadInput, SureboundError
from bounds.graph import Array
from sdp.chain import Chain, Multipliers, divided
from sdp.interior import Joint, joint_form
from sdp.objective import Norm

LARGEST_DIMENSION = 700  # of the matrix; beyond it general solvers take hours


class SolverFailed(SureboundError):
    """A solver gave no multipliers."""


class Outcome(enum.Enum):
    """What a solver's status means for us."""

    USABLE = "usable"  # multipliers are there; how good they are the proof shows
    ERROR = "error"


# every status that is not listed, today's or tomorrow's, is an error
STATUS: Mapping[str, Outcome] = {
    "optimal": Outcome.USABLE,
    "optimal_inaccurate": Outcome.USABLE,
    "user_limit": Outcome.USABLE,
}
SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "SCS": {"eps": 1e-6, "max_iters": 20000},
    "CLARABEL": {},
}


def solve(
    chain: Chain, start: Multipliers, last: Array, norm: Norm, *, per_element: bool, solver: str
) -> tuple[Multipliers, float]:
    """Multipliers from a general solver, and the bound that it claims (which nobody believes).

    Args:
        chain, start, last, norm: as for :func:`sdp.interior.joint_form`.
        per_element: one multiplier per element (LipSDP-neuron), else one per layer.
        solver: "SCS" or "CLARABEL".

    Raises:
        BadInput: cvxpy is missing.
        SolverFailed: the problem is too large, or the status is no success.
    """
    cvxpy = cvxpy_module()
    form = joint_form(chain, start, last, norm)
    dim = form.r + len(form.scale)
    if dim > LARGEST_DIMENSION:
        raise SolverFailed(f"a matrix of {dim} rows is too large for {solver}; use --method interior")
    owner = _owners(chain, form, per_element)
    variable = cvxpy.Variable(owner.shape[1], nonneg=True)
    outer = cvxpy.Variable(form.inputs)
    lam = owner @ variable
    inputs = np.zeros((dim, form.inputs))
    inputs[: form.r] = np.eye(form.r) if form.diagonal else 1.0
    b = -form.d
    b[np.arange(len(b)), form.r + np.arange(len(b))] += 1.0
    unit = np.eye(dim)[form.r :]
    part = unit.T @ cvxpy.diag(lam) @ b
    z = form.constant + cvxpy.diag(inputs @ outer) + part + part.T
    cost = (form.unit / form.unit.sum()) @ outer
    problem = cvxpy.Problem(cvxpy.Minimize(cost), [(z + z.T) / 2 >> 0])
    solved(cvxpy, problem, solver)
    flat = form.scale * (owner @ np.asarray(variable.value, dtype=np.float64))
    claimed = float(form.unit.sum() * problem.value)
    return divided(chain, np.maximum(flat, 1e-12 * form.scale)), float(np.sqrt(max(claimed, 0.0)))


def solved(cvxpy: Any, problem: Any, solver: str) -> None:
    """Solves a problem in place.

    Raises:
        SolverFailed: there is no solution to use.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the status says it, and the proof shows it
            problem.solve(solver=solver, **SETTINGS[solver])
    except (cvxpy.error.SolverError, ValueError, ArithmeticError) as error:
        raise SolverFailed(f"{solver} failed ({error}); use --method interior") from None
    usable = STATUS.get(str(problem.status), Outcome.ERROR) is Outcome.USABLE
    if not usable or any(v.value is None for v in problem.variables()):
        raise SolverFailed(f"{solver} ended with status '{problem.status}'; use --method interior")


def _owners(chain: Chain, form: Joint, per_element: bool) -> Array:
    """``N variables``: which variable each element's scaled multiplier is, and how much of it."""
    if per_element:
        return np.eye(len(form.scale))
    owner = np.zeros((len(form.scale), len(chain.steps)))
    at = 0
    for k, step in enumerate(chain.steps):
        # equal multipliers, hence unequal scaled ones
        part = form.scale[at : at + step.width]
        owner[at : at + step.width, k] = part.max(initial=1e-300) / part
        at += step.width
    return owner


def cvxpy_module() -> Any:
    """cvxpy, if it is there."""
    try:
        import cvxpy
    except ImportError:
        raise BadInput("this method needs cvxpy; install surebound[sdp], or use --method interior") from None
    return cvxpy
