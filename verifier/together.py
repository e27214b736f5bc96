"""Many properties of one network at once: their boxes are bounded in one block before any is searched.

Questions that a service gets about a network are mostly alike: the same rows (a class against all others)
on other boxes. What one block of bounds proves is concluded here, each with a report and a certificate of
its own; what it leaves open is left to :func:`verifier.verify`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bounds.domain import Domains
from bounds.graph import UNMODELLED, Array
from bounds.io.compare import compare_with_onnxruntime
from bounds.io.onnx import Model
from bounds.methods.bounder import BounderOptions, BoundResult, BoxBounder, Effort, Evidence
from bounds.methods.tape import Stopped
from bounds.numerics import FLOAT32, NetworkRounding
from bounds.plan import Plan
from verifier import conclude
from verifier.certificate import write_unsat
from verifier.problem import Problem, float64_box, make_problem
from verifier.query import Options
from verifier.report.model import Report
from verifier.search.objectives import objectives_of
from verifier.search.outcome import Outcome
from verifier.search.settle import Settled, varying_inputs
from verifier.search.trace import TreeTracer
from verifier.search.whole import rounded_inputs
from verifier.spec.model import Case, Property
from verifier.spec.polynomial import linear_cases, monomials
from verifier.summary import Told, make_report
from verifier.verdict import Semantics, Status
from verifier.version import VERSION

BLOCK, BLOCK_WORK = 256, 2e9  # boxes at once; multiply-adds of one evaluation of a block
EFFORT = Effort(iterations=4)


@dataclass(frozen=True, slots=True)
class Question:
    """One property, and where its certificate goes (None: none is wanted)."""

    property: Property
    certificate: Path | None = None


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def verify_together(
    model: Model,
    questions: Sequence[Question],
    *,
    options: Options,
    should_stop: Callable[[], bool] = lambda: False,
) -> list[Report | None]:
    """Proves what bounds without splitting prove.

    Args:
        model: the network of every property.
        questions: the properties.
        options: semantics and seed; limits do not count here.
        should_stop: polled; what is proved by then is reported.

    Returns:
        A report for each property that is proved, None for the others: they may hold, be violated, or not fit
        the network.
    """
    begun = time.monotonic()
    reports: list[Report | None] = [None] * len(questions)
    problems = _problems(model, questions, options)
    fit = {i: p for i, p in problems.items() if _simple(p, options)}
    if not fit:
        return reports
    compare_with_onnxruntime(model, seed=options.seed)
    run = _Run(model, questions, options, fit, begun)
    try:
        for group in _alike(fit):
            run.group(group, reports, should_stop)
    except Stopped:
        pass  # what is proved stands
    return reports


def _problems(model: Model, questions: Sequence[Question], options: Options) -> dict[int, Problem]:
    """Each property bound to the network; the work of the first serves those that are declared like it."""
    found: dict[int, Problem] = {}
    first: Problem | None = None
    for i, question in enumerate(questions):
        prop = question.property
        if len(prop.networks) != 1 or monomials(prop):
            continue
        like = first is not None and _declared(prop) == _declared(first.property)
        if first is not None and like:
            found[i] = replace(first, property=prop, cases=linear_cases(prop))
            continue
        found[i] = make_problem(prop, {prop.networks[0].name: model}, options.semantics)
        first = found[i]
    return found


def _declared(prop: Property) -> object:
    return prop.variables, prop.networks, prop.language


def _simple(problem: Problem, options: Options) -> bool:
    """Whether one box says all: a single case, nothing rounded or unmodelled, no ball."""
    if len(problem.property.cases) != 1 or len(problem.cases) != 1:
        return False
    case = problem.cases[0]
    if case.empty or case.partial or case.ball is not None or not case.disjuncts or not all(case.disjuncts):
        return False
    if options.semantics is Semantics.FLOAT32 and any(n.roundings >= UNMODELLED for n in problem.graph.nodes):
        return False
    return not rounded_inputs(problem.graph)


def _alike(problems: dict[int, Problem]) -> list[list[int]]:
    """Questions with equal rows, on equal graphs."""
    groups: dict[object, list[int]] = {}
    for i, problem in problems.items():
        case = problem.cases[0]
        rows = tuple(
            tuple((tuple(r.outputs.items()), tuple(r.inputs.items()), r.constant, r.strict) for r in disjunct)
            for disjunct in case.disjuncts
        )
        groups.setdefault((id(problem.graph), rows), []).append(i)
    return list(groups.values())


@dataclass(slots=True)
class _Run:
    model: Model
    questions: Sequence[Question]
    options: Options
    problems: dict[int, Problem]
    begun: float
    plan: tuple[int, Plan] | None = None

    def group(
        self, members: list[int], reports: list[Report | None], should_stop: Callable[[], bool]
    ) -> None:
        """Bounds questions with equal rows, block by block."""
        cases = [self.problems[i].cases[0] for i in members]
        bounder = self._bounder(members[0], cases)
        size = int(np.clip(BLOCK_WORK / max(bounder.plan.work, 1), 1, BLOCK))
        for start in range(0, len(members), size):
            block, part = members[start : start + size], cases[start : start + size]
            lo, hi = _boxes(part)
            open_ = np.ones((len(block), bounder.objectives.groups), dtype=bool)
            result = bounder.bound(lo, hi, open_, should_stop, EFFORT)
            for place, i in enumerate(block):
                if bool(result.refuted[place].all()):
                    reports[i] = self._conclude(i, place, result, bounder, (lo, hi))

    def _bounder(self, first: int, cases: list[Case]) -> BoxBounder:
        problem = self.problems[first]
        objectives = objectives_of(cases[0], problem.graph.input_size, problem.graph.output_size)
        options = BounderOptions(
            effort=EFFORT,
            evidence=any(q.certificate is not None for q in self.questions),
            network=NetworkRounding() if self.options.semantics is Semantics.FLOAT32 else None,
            varying=max(map(varying_inputs, cases)),
        )
        known = self.plan[1] if self.plan is not None and self.plan[0] == id(problem.graph) else None
        made = BoxBounder(problem.graph, objectives, FLOAT32, options, plan=known)
        self.plan = (id(problem.graph), made.plan)
        return made

    def _conclude(
        self, i: int, place: int, result: BoundResult, bounder: BoxBounder, box: tuple[Array, Array]
    ) -> Report:
        """The report of one question, all of whose groups are refuted on its whole box."""
        problem, certificate = self.problems[i], self.questions[i].certificate
        ledger = conclude.Ledger(1, problem.property.cases)
        ledger.settle(result.refuted[place : place + 1])
        status = conclude.unsat(ledger)
        told = Told(Settled(), ["bounded together with other questions about the same network"])
        told.forward, told.varying = bounder.rule.forward, bounder.varying
        told.wanted_certificate = certificate is not None
        if certificate is not None and result.evidence is not None:
            tracer = TreeTracer()
            tracer.refuted(_root(box, len(result.refuted)), _about(result.evidence, place))
            write_unsat(
                certificate, problem, self.options.semantics, tracer,
                forward=bounder.rule.forward, version=VERSION,
            )  # fmt: skip
            told.certificate = str(certificate)
        return self._report(problem, status, told)

    def _report(self, problem: Problem, status: Status, told: Told) -> Report:
        total = Outcome(bounded=1, leaves=1, closed=1.0)
        seconds = time.monotonic() - self.begun
        phases = {"bounding": seconds}
        return make_report(
            problem, self.model.path, self.options, status, total, told, seconds=seconds, phases=phases
        )


def _boxes(cases: Sequence[Case]) -> tuple[Array, Array]:
    """The boxes ``D d``, rounded outwards."""
    lower = [v for c in cases for v in c.lower]
    upper = [v for c in cases for v in c.upper]
    lo, hi = float64_box(lower, upper)
    return lo.reshape(len(cases), -1), hi.reshape(len(cases), -1)


def _root(box: tuple[Array, Array], count: int) -> Domains:
    """The block as roots of trees of their own: each is node 0 of its certificate."""
    zeros = np.zeros(count)
    return Domains(*box, np.zeros(count, dtype=np.int64), np.ones((count, 1), dtype=bool), zeros, zeros)


def _about(evidence: Evidence, place: int) -> Evidence:
    """The evidence about one box of the block."""
    mine = evidence.box == place
    return replace(
        evidence,
        box=evidence.box[mine],
        group=evidence.group[mine],
        row=evidence.row[mine],
        parameters=evidence.parameters.take(mine),
        exact=evidence.exact[mine],
    )
