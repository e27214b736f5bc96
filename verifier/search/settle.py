"""Three arithmetics behind one bounder: float32 searches, float64 settles close calls, rationals decide ties.

All three are rigorous. A block is first bounded in float32; boxes on which only rounding stands in the
way are bounded again in float64, and what is then still within rounding of zero (a property that holds
with equality) is tried in exact rational arithmetic while the network is small.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from bounds.ball import Ball
from bounds.domain import Domains, Objectives
from bounds.graph import Array, Graph
from bounds.methods.bounder import BounderOptions, BoundResult, BoxBounder, Effort, Evidence
from bounds.methods.operand_bounder import OperandBounder
from bounds.methods.rule import wide
from bounds.methods.tape import Stopped
from bounds.numerics import EXACT, FLOAT32, FLOAT64, NetworkRounding, Precision
from bounds.plan import Plan
from verifier.problem import exact_array
from verifier.query import Engine
from verifier.search.clock import Phase, untimed
from verifier.search.exact_leaf import ExactLeaves, fine_bounder
from verifier.spec.model import Case

# exact arithmetic: multiply-adds per box and boxes per search that we are willing to pay for
_EXACT_WORK = 400_000
_EXACT_BOXES = 64
# so many boxes in a row without a finite bound, in float64 neither, and only close calls are tried again
_IN_VAIN = 16
_CHEAP = Effort(refine=False, iterations=6)
# the root where many inputs vary: plain intermediate bounds, then optimised ones
_ROOT, _SHARP = Effort(iterations=20), Effort(iterations=20, sharpen=10)
# fewer steps hardly improve anything
_FEWEST_STEPS = 5
# multiply-adds that plain bounds may take: a fifth of the time there is on one slow core, at most a minute;
# and optimised ones: half of that, and some ten seconds (splits take a resnet of 14,000 rectifiers further)
_WORK_PER_SECOND, _MOST_WORK = 3e9, 1e12
_SHARP_SHARE, _MOST_SHARP = 0.5, 1e11
# multiply-adds of a root's refinement that may be done again in float64, to settle its subproblems
_FOLLOWED_WORK = 2e11


@dataclass(slots=True)
class Settled:
    """Counters of what the slower arithmetics decided."""

    float64: int = 0
    exact: int = 0


class Guide(Protocol):
    """Another engine that bounds boxes first; it refutes nothing, what it finds positive is settled here."""

    def bound(
        self,
        lo: Array,
        hi: Array,
        wanted: Array,
        should_stop: Callable[[], bool] | None = None,
        effort: Effort | None = None,
    ) -> BoundResult:
        """See :meth:`bounds.methods.bounder.BoxBounder.bound`."""
        ...


class Settler:
    """Bounds blocks of one case; see the module."""

    def __init__(  # noqa: PLR0913 - everything a case brings along
        self,
        graph: Graph,
        case: Case,
        objectives: Objectives,
        *,
        network: NetworkRounding | None,
        evidence: bool,
        ball: Ball | None = None,
        plans: dict[str, Plan] | None = None,
        varying: int | None = None,
        seconds: float | None = None,
    ) -> None:
        """See the class.

        Args:
            seconds: the time limit, to which the root's effort is proportioned (not a clock: runs repeat).
            varying: how many inputs count as varying when the rule is chosen (None: those of the case).
        """
        self._graph, self._case, self._objectives = graph, case, objectives
        varying = varying_inputs(case) if varying is None else varying
        self._options = BounderOptions(evidence=evidence, network=network, ball=ball, varying=varying)
        self._work = _MOST_WORK if seconds is None else min(_MOST_WORK, _WORK_PER_SECOND * seconds)
        # compiled networks, shared by the cases of one run (they depend on no property)
        self._plans = {} if plans is None else plans
        self.fast = self._bounder(FLOAT32)
        if not self.fast.rule.forward:
            # many inputs: the box will hardly be split, so the root deserves more steps
            self._options = replace(self._options, effort=replace(_ROOT, most=self._work))
            self.fast.options = self._options
        self.guide: Guide | None = None  # bounds before ``fast`` does, where there is one
        self._fine: BoxBounder | None = None
        self._exact: BoxBounder | None = None
        self._exact_left = _EXACT_BOXES
        self._vain = 0  # boxes in a row whose infinite bound stayed infinite in float64
        self.counts = Settled()
        self.phase: Phase = untimed

    @property
    def splits_operands(self) -> bool:
        """Whether the search should split operands of nonlinear steps: many inputs, no other engine."""
        return self.guide is None and not self.fast.rule.forward

    @property
    def fine(self) -> BoxBounder:
        """The float64 bounder, made on first use."""
        if self._fine is None:
            self._fine = self._bounder(FLOAT64)
        return self._fine

    def _bounder(self, precision: Precision) -> BoxBounder:
        plan = self._plans.get(precision.name)
        made = BoxBounder(self._graph, self._objectives, precision, self._options, plan=plan)
        self._plans[precision.name] = made.plan
        return made

    def exact_leaves(self, bounder: OperandBounder, root: Domains) -> ExactLeaves:
        """What settles subproblems of a box that split operands."""
        anchor, lo, hi = bounder.anchor, root.lo[0], root.hi[0]
        if anchor.kernels.precision is FLOAT64 or anchor.refined_work > _FOLLOWED_WORK:
            return ExactLeaves(bounder, self._objectives, None, self._options.evidence)

        def fine(should_stop: Callable[[], bool]) -> OperandBounder:
            return fine_bounder(self.fine, anchor, lo, hi, should_stop)

        return ExactLeaves(bounder, self._objectives, fine, self._options.evidence)

    def bound(
        self, domains: Domains, should_stop: Callable[[], bool], effort: Effort | None = None
    ) -> tuple[BoundResult, list[tuple[Array, Evidence]]]:
        """Bounds the open groups of a block.

        Returns:
            The merged result, and evidence as pairs (indices into the block, evidence about them).
        """
        single = ~wide(domains.lo, domains.hi).any(axis=1)
        if effort is not None and self.guide is None and single.any():
            return self._with_points(domains, single, should_stop, effort)
        return self._bound(domains, should_stop, effort)

    def cheaply(
        self, domains: Domains, should_stop: Callable[[], bool]
    ) -> tuple[BoundResult, list[tuple[Array, Evidence]]] | None:
        """Many inputs: a first look at a block, as cheap as an evaluation; None where there is no such thing.

        Bounding intermediate values backwards costs hundreds of passes, intervals cost one.
        """
        if self.guide is not None or self.fast.rule.forward:
            return None
        found = self.fast.bound(domains.lo, domains.hi, domains.open, should_stop, _CHEAP)
        return found, [] if found.evidence is None else [(np.arange(len(domains)), found.evidence)]

    def _with_points(
        self, domains: Domains, single: Array, should_stop: Callable[[], bool], effort: Effort
    ) -> tuple[BoundResult, list[tuple[Array, Evidence]]]:
        """Boxes that are one point by float64 at once: only rounding stands in the way there."""
        points, others = np.flatnonzero(single), np.flatnonzero(~single)
        at = domains.take(points)
        with self.phase("settling"):
            found = self.fine.bound(at.lo, at.hi, at.open, should_stop, effort)
        self.counts.float64 += len(points)
        evidence = [] if found.evidence is None else [(np.arange(len(points)), found.evidence)]
        if _close(found).any():
            self._ties(at, found, np.flatnonzero(_close(found)), evidence, should_stop)
        evidence = [(points[index], e) for index, e in evidence]
        if not len(others):
            return found, evidence
        rest, more = self._bound(domains.take(others), should_stop, effort)
        names = ("refuted", "lower", "close", "scores", "guesses")
        order = np.argsort(np.concatenate([points, others]))
        joined = [np.concatenate([getattr(found, n), getattr(rest, n)])[order] for n in names]
        evidence += [(others[index], e) for index, e in more]
        refined = found.refined + rest.refined
        return BoundResult(*joined, refined=refined, evidence=None, tape=None), evidence

    def _bound(
        self, domains: Domains, should_stop: Callable[[], bool], effort: Effort | None
    ) -> tuple[BoundResult, list[tuple[Array, Evidence]]]:
        first = self.guide or self.fast
        result = first.bound(domains.lo, domains.hi, domains.open, should_stop, effort)
        steps = self._sharpening(result, domains) if effort is None else 0
        if steps:
            with suppress(Stopped):  # what is known already stands
                sharp = replace(_SHARP, sharpen=steps, most=_MOST_WORK)
                result = first.bound(domains.lo, domains.hi, domains.open, should_stop, sharp)
        evidence = [] if result.evidence is None else [(np.arange(len(domains)), result.evidence)]
        infinite = ~np.isfinite(result.lower).all(axis=1)
        unsure = _close(result) | (infinite & (self._vain < _IN_VAIN))
        if effort is None and infinite.any() and self._swamped(domains, should_stop):
            self.fast, effort = self.fine, _CHEAP
        if unsure.any() and first is not self.fine:
            index = np.flatnonzero(unsure)
            with self.phase("settling"):
                finer = self.fine.bound(
                    domains.lo[index], domains.hi[index], domains.open[index], should_stop, effort
                )
            known = np.isfinite(finer.lower).all(axis=1)
            self._vain = 0 if known.any() else self._vain + int(infinite.sum())
            taken = _merge(result, finer, index, evidence)
            self.counts.float64 += taken
            still = _close(finer) & ~(result.refuted[index] | ~domains.open[index]).all(axis=1)
            if still.any():
                self._ties(domains, result, index[still], evidence, should_stop)
        return result, evidence

    def _swamped(self, domains: Domains, should_stop: Callable[[], bool]) -> bool:
        """Whether float32 rounding leaves no finite bound even of a single point: then it is no use."""
        at = np.floor(domains.lo / 2 + domains.hi / 2)
        at = np.clip(at, domains.lo, domains.hi)
        found = self.fast.bound(at, at, domains.open, should_stop, replace(_CHEAP, iterations=0))
        return not np.isfinite(found.lower).any()

    def _sharpening(self, result: BoundResult, domains: Domains) -> int:
        """Steps of optimisation for intermediate bounds, as many as are affordable; 0: not worth their time.

        They are where many inputs vary: such boxes are hardly split.
        """
        if self.guide is not None or self.fast.rule.forward or result.tape is None:
            return 0
        if not (domains.open & ~result.refuted).any():
            return 0
        # a step costs about three passes
        budget = min(_MOST_SHARP, _SHARP_SHARE * self._work)
        steps = int((budget / max(result.tape.refined_work, 1.0) - 1) / 3)
        return min(steps, _SHARP.sharpen) if steps >= _FEWEST_STEPS else 0

    def _ties(
        self,
        domains: Domains,
        result: BoundResult,
        index: Array,
        evidence: list[tuple[Array, Evidence]],
        should_stop: Callable[[], bool],
    ) -> None:
        if self._options.network is not None:
            return  # exact numbers never overflow, the network's might
        rows = self.fast.objectives.rows + 2 * result.refined / max(len(domains), 1)
        if self.fast.plan.work * rows > _EXACT_WORK or self._exact_left <= 0:
            return
        index = index[: self._exact_left]
        self._exact_left -= len(index)
        if self._exact is None:
            options = replace(self._options, effort=Effort(iterations=4))
            self._exact = BoxBounder(self._graph, self._objectives, EXACT, options)
        # the exact box: a decimal bound such as 0.1 is not a float64
        low, high = exact_array(self._case.lower), exact_array(self._case.upper)
        lo = np.stack([np.maximum(exact_array(domains.lo[i]), low) for i in index])
        hi = np.stack([np.minimum(exact_array(domains.hi[i]), high) for i in index])
        with self.phase("settling"):
            exact = self._exact.bound(lo, hi, domains.open[index], should_stop)
        self.counts.exact += _merge(result, exact, index, evidence)


def guide(engine: Engine, graph: Graph, objectives: Objectives) -> Guide | None:
    """The engine that bounds first, unless it is our own."""
    if engine is Engine.BUILT_IN:
        return None
    from bounds.methods.auto_lirpa import AutoLirpaBounder

    return AutoLirpaBounder(graph, objectives)


def varying_inputs(case: Case) -> int:
    """How many inputs of a case are not fixed."""
    return sum(low != high for low, high in zip(case.lower, case.upper, strict=True))


def _close(result: BoundResult) -> Array:
    return np.asarray(result.close.any(axis=1))


def _merge(
    result: BoundResult, finer: BoundResult, index: Array, evidence: list[tuple[Array, Evidence]]
) -> int:
    """Takes over a finer result where it refutes all that was refuted before, and something more.

    A node's evidence shares one set of intermediate slopes, so one box's evidence must come from one
    arithmetic: it is replaced, never mixed.
    """
    better = (finer.refuted | ~result.refuted[index]).all(axis=1) & (
        finer.refuted & ~result.refuted[index]
    ).any(axis=1)
    if not better.any():
        return 0
    where = index[better]
    result.refuted[where] = finer.refuted[better]
    result.lower[where] = finer.lower[better]
    result.close[where] = finer.close[better]
    if finer.evidence is not None:
        for i, (held_index, held) in enumerate(evidence):
            keep = ~np.isin(held_index[held.box], where)
            evidence[i] = (held_index, _entries(held, keep))
        chosen = np.isin(finer.evidence.box, np.flatnonzero(better))
        evidence.append((index, _entries(finer.evidence, chosen)))
    return len(where)


def _entries(e: Evidence, keep: Array) -> Evidence:
    return replace(
        e,
        box=e.box[keep],
        group=e.group[keep],
        row=e.row[keep],
        parameters=e.parameters.take(keep),
        exact=e.exact[keep],
    )
