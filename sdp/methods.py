"""The methods, as one table: each finds multipliers, :mod:`sdp.certify` proves what they imply.

To add one, write a function with :class:`Problem` as its argument and name it in ``METHODS``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from bounds.graph import Array
from sdp import eclipse, first_order, interior, lipsdp, lipsdp_chain
from sdp.certify import Proof, certify, repaired
from sdp.chain import Chain, Infeasible, Multipliers, Step, backward, greedy, largest, starting_multipliers
from sdp.matrices import Matrix
from sdp.objective import Norm
from sdp.result import Certified

# size of the joint matrix up to which the interior-point method reaches the optimum within seconds
INTERIOR_LIMIT = 400
NARROW = 128  # elements of a layer whose own optimum takes a fraction of a second
GREEDY = "greedy"
CLOSED = (GREEDY, "eclipse-fast", "eclipse-cf", "eclipse")  # reported as they are, not replaced by another
PRODUCT = "product"


@dataclass(frozen=True, slots=True)
class Problem:
    """One bound to find.

    Attributes:
        chain: the network.
        weights: ``outputs``, of the squared output differences.
        norm: of the inputs.
        should_stop: polled; methods return their best so far.
    """

    chain: Chain
    weights: Array
    norm: Norm
    should_stop: Callable[[], bool] = lambda: False

    @property
    def last(self) -> Array:
        """The terminal weight Q_L, rounded."""
        c = self.chain.c.value
        return (c.T * self.weights) @ c

    def value(self, lam: Multipliers) -> float:
        """The bound that multipliers imply, squared, in plain floating point; infinite if none.

        From L-infinity it is that of the row sums of P.
        """
        try:
            p = self.chain.x.value.T @ backward(self.chain, lam, self.last).q[0] @ self.chain.x.value
        except Infeasible:
            return math.inf
        if self.norm is Norm.TWO:
            return largest(p)
        return float(np.diag(p).max(initial=0.0)) if self.norm is Norm.ONE else float(np.abs(p).sum())


@dataclass(frozen=True, slots=True)
class Found:
    """Multipliers, for L-infinity inputs a guess of mu, and what a solver claims of them."""

    multipliers: Multipliers
    diagonal: Array | None = None
    claimed: float | None = None


Method = Callable[[Problem], Found]


def _greedy(problem: Problem) -> Found:
    """The better of two closed forms from the output's side: one number per layer, or its scaled diagonal."""
    flat = starting_multipliers(problem.chain, problem.last)
    scaled = greedy(problem.chain, problem.last, eclipse.scaled_diagonal)
    return Found(min(flat, scaled, key=problem.value))


def _starting_point(problem: Problem) -> Multipliers:
    """The best that no descent is needed for; layers' own optima pay on deep networks of narrow layers."""
    found = [_greedy(problem).multipliers]
    if problem.norm is Norm.TWO and len(problem.chain.steps) > 2:
        chain = problem.chain
        narrow = max(step.width for step in chain.steps) <= NARROW
        with suppress(Infeasible):
            found.append(
                eclipse.accurate(chain, problem.last, problem.should_stop)
                if narrow
                else eclipse.closed_form(chain, problem.last)
            )
    return min(found, key=problem.value)


def _first_order(problem: Problem) -> Found:
    start = _starting_point(problem)
    found = first_order.descend(
        problem.chain, start, problem.last, problem.norm, should_stop=problem.should_stop
    )
    return Found(found)


def _interior(problem: Problem) -> Found:
    start = starting_multipliers(problem.chain, problem.last)
    lam, mu = interior.optimise(
        problem.chain, start, problem.last, problem.norm, should_stop=problem.should_stop
    )
    return Found(lam, mu)


def _lipsdp(per_element: bool, solver: str) -> Method:
    def method(problem: Problem) -> Found:
        start = starting_multipliers(problem.chain, problem.last)
        lam, claimed = lipsdp.solve(
            problem.chain, start, problem.last, problem.norm, per_element=per_element, solver=solver
        )
        return Found(lam, claimed=claimed)

    return method


def _chain(solver: str) -> Method:
    def method(problem: Problem) -> Found:
        start = starting_multipliers(problem.chain, problem.last)
        lam, claimed = lipsdp_chain.solve_chain(
            problem.chain, start, problem.last, problem.norm, solver=solver
        )
        return Found(lam, claimed=claimed)

    return method


METHODS: Mapping[str, Method] = {
    GREEDY: _greedy,
    "eclipse-fast": lambda p: Found(eclipse.fast(p.chain, p.last)),
    "eclipse-cf": lambda p: Found(eclipse.closed_form(p.chain, p.last)),
    "eclipse": lambda p: Found(eclipse.accurate(p.chain, p.last, p.should_stop)),
    "first-order": _first_order,
    "interior": _interior,
    "lipsdp-neuron-scs": _lipsdp(True, "SCS"),
    "lipsdp-neuron-clarabel": _lipsdp(True, "CLARABEL"),
    "lipsdp-layer-scs": _lipsdp(False, "SCS"),
    "lipsdp-layer-clarabel": _lipsdp(False, "CLARABEL"),
    "lipsdp-chain-scs": _chain("SCS"),
    "lipsdp-chain-clarabel": _chain("CLARABEL"),
}


def choose(problem: Problem) -> tuple[str, str]:
    """The method that ``auto`` takes, and why."""
    count = problem.chain.elements
    own = min(problem.chain.x.shape) if problem.norm is Norm.TWO else problem.chain.inputs
    if problem.norm is Norm.ONE:
        return "first-order", "from L1 there is no interior-point form yet"
    if count + own <= INTERIOR_LIMIT:
        return (
            "interior",
            f"{count} elements and {own} inputs fit one Newton system: the optimum of LipSDP-neuron",
        )
    return "first-order", f"{count} elements and {own} inputs are too many for one Newton system"


def solve(problem: Problem, method: str, wanted: float = math.inf) -> Certified:
    """Runs one method and proves its bound; falls back to the closed form if that proves nothing better.

    Args:
        problem: see there.
        method: a row of ``METHODS``, or the product.
        wanted: larger bounds are of no use; proving them may be left out (the bound is then infinite).

    Raises:
        Infeasible: not even the closed form can be proved.
    """
    if method == PRODUCT:
        return Certified(product(problem))
    found = METHODS[method](problem)
    if wanted < math.inf and problem.norm is not Norm.INF and problem.value(found.multipliers) > wanted**2:
        return Certified(math.inf)
    fallback: Proof | None = None
    try:
        proof = repaired(problem.chain, found.multipliers, problem.weights, problem.norm, found.diagonal)
    except Infeasible:
        proof = None
    if proof is None or method not in CLOSED:
        lam = _greedy(problem).multipliers
        if proof is None or problem.value(lam) < proof.upper**2:
            fallback = repaired(problem.chain, lam, problem.weights, problem.norm)
    if proof is None or (fallback is not None and fallback.upper < proof.upper):
        assert fallback is not None
        return Certified(fallback.upper, tuple(fallback.multipliers), problem.weights)
    claimed = math.sqrt(problem.value(found.multipliers)) if found.claimed is None else found.claimed
    return Certified(proof.upper, tuple(proof.multipliers), problem.weights, found.diagonal, claimed)


def product(problem: Problem) -> float:
    """The product of the steps' own Lipschitz constants, each proved: the baseline of every table."""
    chain, total = problem.chain, 1.0
    one = Matrix.identity
    for step in chain.steps:
        total *= _single(step)
    for matrix, weights, norm in (
        (chain.x, np.ones(chain.x.shape[0]), problem.norm),
        (chain.c, problem.weights, Norm.TWO),
    ):
        total *= certify(Chain(matrix, (), one(matrix.shape[0])), [], weights, norm).upper * (1 + 2.0**-50)
    return total


def _single(step: Step) -> float:
    """The best bound of one step with one multiplier for all its elements (golden section)."""
    chain = Chain(Matrix.identity(step.d.shape[1]), (step,), Matrix.identity(step.f.shape[0]))
    ones = np.ones(chain.outputs)
    problem = Problem(chain, ones, Norm.TWO)
    if not step.width:
        return certify(chain, [np.zeros(0)], ones, Norm.TWO).upper
    base = starting_multipliers(chain, problem.last)[0]
    low, high = math.log(0.51), math.log(1e4)
    for _ in range(24):
        a, b = low + (high - low) / 3, high - (high - low) / 3
        if problem.value([base * math.exp(a)]) <= problem.value([base * math.exp(b)]):
            high = b
        else:
            low = a
    return repaired(chain, [base * math.exp((low + high) / 2)], ones, Norm.TWO).upper
