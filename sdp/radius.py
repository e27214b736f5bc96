"""Certified radii: how far a point may move before another class can win, from bounds of the margins.

Globally a margin ``m_j = y_label - y_j`` that is positive at x stays so within ``m_j(x) / L_j``. Locally
only pairs matter of which one point is x itself: on the ball of radius r every rectifier's chord *from its
value at x* has a slope well inside [0, 1] (:func:`sdp.slopes.chord_range`), which gives constants ``L_j(r)``;
the class is certified on that ball if ``L_j(r) r < m_j(x)`` for every j, and r is found by bisection.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from bounds.errors import BadInput, LimitExceeded, ModelUnsupported
from bounds.graph import Array, Graph
from bounds.kernels.numpy import NumpyKernels
from bounds.methods.rule import Rule, relax_boxes
from bounds.numerics import FLOAT64
from bounds.plan import compile_plan
from sdp.api import AUTO, Effort, lipschitz, margins
from sdp.chain import Chain, Infeasible
from sdp.increments import Ranges, read_chain
from sdp.lower import Jacobians
from sdp.methods import GREEDY, Problem, choose, solve
from sdp.objective import Norm
from sdp.prepare import prepare
from sdp.region import Region, point_ranges, ranges_on
from sdp.result import Certified, Layout, elements_of

DOWN = 1 - 2.0**-48
DUAL = {"1": np.inf, "2": 2, "inf": 1}
ROUNDS = 7  # of bisection
ROOT_TWO = 1.4142135623730954  # above the square root of 2
PAIR_ELEMENTS = (
    600  # beyond so many elements the outputs' constant stands for those of pairs, unless asked for
)


@dataclass(frozen=True, slots=True)
class Constants:
    """Global constants of every pair of scores.

    Attributes:
        upper: ``C C``, proved: ``|(y_i - y_j)(a) - (y_i - y_j)(b)| <= upper[i, j] |a - b|``.
        method: what found the multipliers.
        notes: remarks for people.
    """

    upper: Array
    method: str
    notes: tuple[str, ...] = ()

    def radii(self, label: int, margin: Array) -> Array:
        """Per other class (margins in order) the radius within which it cannot win."""
        with np.errstate(divide="ignore", invalid="ignore"):
            found = np.delete(margin, label) / np.delete(self.upper[label], label) * DOWN
        return np.where(found > 0, found, 0.0)


@dataclass(frozen=True, slots=True)
class Local:
    """A radius from constants around one point.

    Attributes:
        radius: proved (0: none).
        pairs: per other class what was proved on the ball of that radius.
        layout: where their multipliers belong in the model, for certificates.
        centre, label, norm: what was asked for.
    """

    radius: float
    pairs: tuple[Certified, ...] = ()
    layout: Layout | None = None
    centre: Array | None = None
    label: int = 0
    norm: str = "2"


@dataclass(frozen=True, slots=True)
class Radius:
    """Radii within which the class is proved not to change: from global and from local bounds (0: none)."""

    label: int
    everywhere: float
    local: float

    @property
    def best(self) -> float:
        """The larger one."""
        return max(self.everywhere, self.local)


def certified_radius(graph: Graph, x: Array, *, norm: str = "2", effort: Effort | None = None) -> Radius:
    """Radii around one point (over the reals).

    Args:
        graph: a classifier, one score per output.
        x: ``inputs``.
        norm: of the ball, "1", "2" or "inf".
        effort: of the global bound, and of the local ones together.

    Soundness: see :func:`local_radius` and :class:`Constants`.
    """
    effort = effort or Effort(seconds=20.0, sampling=None)
    x = np.asarray(x, dtype=np.float64).reshape(-1)
    low, high = point_scores(graph, x)
    label = int(np.argmax(low))
    margin = margins_at(low, high, label)
    if len(low) < 2 or not np.all(np.delete(margin, label) > 0):
        return Radius(label, 0.0, 0.0)
    constants = pair_constants(graph, norm=norm, effort=effort, pairs=True, label=label)
    everywhere = float(constants.radii(label, margin).min())
    local = local_radius(graph, x, label, margin, norm=norm, start=everywhere, effort=effort)
    return Radius(label, everywhere, local.radius)


def pair_constants(
    graph: Graph,
    *,
    norm: str = "2",
    effort: Effort | None = None,
    method: str = AUTO,
    pairs: bool | None = None,
    label: int | None = None,
) -> Constants:
    """Global constants of every pair of outputs.

    Args:
        graph: a classifier.
        norm: of the inputs.
        effort: in all.
        method: as for :func:`sdp.lipschitz`.
        pairs: one problem per pair; None: where the network is small enough.
        label: only pairs with this one.

    Soundness: of one problem for all outputs, ``|y_i - y_j| <= sqrt 2 |y|_2``; for other norms every row
    ``e_i - e_j`` is a problem of its own.

    Raises:
        ModelUnsupported: the network has no global constant.
    """
    effort = effort or Effort(seconds=60.0, sampling=None)
    classes = graph.output_size
    upper = np.full((classes, classes), np.inf)
    np.fill_diagonal(upper, 0.0)
    elements = sum(n.size for n in (*graph.relus, *graph.scalars))
    if pairs is None:
        pairs = elements <= PAIR_ELEMENTS
    rows = margins(classes, label)
    if pairs:
        try:
            found = lipschitz(graph, norm=norm, output_norm="inf", rows=rows, method=method, effort=effort)
        except LimitExceeded:
            found = None
        if found is not None:
            for row, bound in zip(rows, found.rows, strict=True):
                i, j = int(np.argmax(row)), int(np.argmin(row))
                upper[i, j] = upper[j, i] = bound.upper
            return Constants(upper, found.method, found.notes)
    found = lipschitz(graph, norm=norm, output_norm="2", method=method, effort=effort)
    upper[~np.eye(classes, dtype=bool)] = found.upper * ROOT_TWO
    note = "one constant of all outputs stands for those of pairs of classes (times the square root of 2)"
    return Constants(upper, found.method, (*found.notes, note))


def local_radius(  # noqa: PLR0913 - the point and its facts, then options
    graph: Graph,
    x: Array,
    label: int,
    margin: Array,
    *,
    norm: str = "2",
    start: float = 0.0,
    limit: float = np.inf,
    effort: Effort | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Local:
    """The largest radius found that constants around ``x`` certify.

    Args:
        graph: a classifier.
        x: ``inputs``.
        label: its class.
        margin: ``outputs``, proved lower bounds of ``y_label - y_j`` at x (that of the label is not read).
        norm: of the ball.
        start: a radius that is certified already; only larger ones are tried.
        limit: larger ones are not tried.
        effort: in all.
        should_stop: polled.

    Soundness: for y in the ball B of radius r around x, ``|m_j(y) - m_j(x)| <= L_j(r) |y - x|``, where L_j(r)
    bounds ``m_j`` on pairs (x, y), y in B: the slopes of :func:`sdp.slopes.chord_range` hold for exactly
    these. So ``L_j(r) r < m_j(x)`` for every j proves the class on all of B.
    """
    effort = effort or Effort(seconds=20.0, sampling=None)
    end = time.monotonic() + effort.seconds
    prepared = prepare(graph)
    ball = _Around(prepared.graph, x, label, margin, norm, lambda: should_stop() or time.monotonic() > end)
    order, guess = ball.guess()
    high = min(guess, limit)
    if not (np.isfinite(high) and high > start):
        return Local(0.0)
    best, low = Local(0.0), max(start, high / 64)
    tried = high
    for _ in range(ROUNDS):
        found = ball.certified(tried, order)
        if found is None:
            high = tried
        else:
            pairs, chain = found
            layout = elements_of(graph, prepared, chain)
            best, low = Local(tried, pairs, layout, x, label, norm), tried
            if tried >= high:
                break
        if ball.should_stop() or low >= high * 0.98:
            break
        tried = float(np.sqrt(low * high))
    return best


@dataclass(slots=True)
class _Around:
    """One point and what is asked around it."""

    graph: Graph
    x: Array
    label: int
    margin: Array
    norm: str
    should_stop: Callable[[], bool]
    centre: Ranges | None = None

    def guess(self) -> tuple[list[int], float]:
        """Other classes, the nearest first, and how far the nearest is if the network were linear there."""
        others = [j for j in range(len(self.margin)) if j != self.label]
        rows = margins(len(self.margin), self.label)
        gradient = Jacobians(self.graph, rows).at(self.x[None])[0]
        size = np.linalg.norm(gradient, DUAL[self.norm], axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            reach = self.margin[others] / size
        order = np.argsort(np.where(reach == reach, reach, np.inf))
        return [others[i] for i in order], float(reach[order[0]])

    def certified(self, radius: float, order: Sequence[int]) -> tuple[tuple[Certified, ...], Chain] | None:
        """What proves every margin on the ball, in the order of classes; None if one is not proved."""
        if self.centre is None:
            self.centre = point_ranges(self.graph, self.x)
        try:
            ranges = ranges_on(self.graph, Region.around(self.x, radius, self.norm))
            chain = read_chain(self.graph, ranges, self.centre)
        except (LimitExceeded, ModelUnsupported):
            return None
        found: dict[int, Certified] = {}
        for j in order:
            row = np.zeros((1, len(self.margin)))
            row[0, self.label], row[0, j] = 1.0, -1.0
            # L r < m, whichever way the quotient was rounded
            proof = self._pair(chain.with_outputs(row), self.margin[j] / radius * DOWN)
            if proof is None:
                return None
            found[j] = proof
        return tuple(found[j] for j in sorted(found)), chain

    def _pair(self, chain: Chain, wanted: float) -> Certified | None:
        problem = Problem(chain, np.ones(1), Norm.of(self.norm), self.should_stop)
        for method in (GREEDY, choose(problem)[0]):
            try:
                found = solve(problem, method, wanted)
            except Infeasible:
                continue
            if found.upper <= wanted:
                return found
            if self.should_stop():
                break
        return None


def margins_at(low: Array, high: Array, label: int) -> Array:
    """Proved lower bounds of ``y_label - y_j`` from enclosures of the scores."""
    found = low[label] - high
    # the subtraction was rounded once
    return found - 2.0**-52 * np.abs(found)


def point_scores(graph: Graph, x: Array) -> tuple[Array, Array]:
    """Rigorous bounds on the outputs at a point."""
    if x.size != graph.input_size:
        raise BadInput(f"the point has {x.size} numbers, the model {graph.input_size} inputs")
    plan = compile_plan(graph, NumpyKernels(FLOAT64))
    with np.errstate(all="ignore"):
        tape = relax_boxes(plan, x[None], x[None], Rule(forward=False, refine=False))
    ends = [tape.outputs[slot] for slot in plan.outputs]
    return np.concatenate([e[0][0] for e in ends]), np.concatenate([e[1][0] for e in ends])
