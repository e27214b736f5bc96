"""``verify``: the one path of a query, from files to a report."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from bounds.ball import Ball
from bounds.domain import Objectives
from bounds.expression import Fn
from bounds.graph import UNMODELLED, Array, Graph
from bounds.io.compare import compare_with_onnxruntime
from bounds.kernels.allocator import keep_pages
from bounds.methods.bounder import BounderOptions
from bounds.numerics import NetworkRounding
from bounds.plan import Plan
from verifier import conclude
from verifier.certificate import write_sat, write_unsat
from verifier.problem import Problem, float64_box, load_models, make_problem
from verifier.query import Engine, Options
from verifier.report.model import Report, Sample
from verifier.report.progress import Progress
from verifier.search.budget import Budget
from verifier.search.case_table import tabulate
from verifier.search.clock import Clock
from verifier.search.falsify.falsifier import Confirm, Falsifier
from verifier.search.loop import Outcome, Search
from verifier.search.many import FEWEST, ManyCases
from verifier.search.objectives import objectives_of
from verifier.search.outcome import Watch as SearchWatch
from verifier.search.record import Recorder
from verifier.search.region import hardest, root_facts
from verifier.search.settle import Guide, Settled, Settler, varying_inputs
from verifier.search.trace import Tracers, TreeTracer
from verifier.search.whole import in_whole_numbers, rounded_inputs
from verifier.spec.load import load as load_property
from verifier.spec.model import Case, Property
from verifier.summary import Told, make_report, names
from verifier.verdict import Semantics, Status, UnknownReason
from verifier.version import VERSION

Watch = Callable[[Progress], None]
# share of the machine's free memory that open subproblems may take when nobody says otherwise
_MEMORY_SHARE = 0.3
# subproblems tried where the network's rounding is unknown, and operators that a note names
_HOPELESS, _NAMED = 64, 5
# seconds between two snapshots for those who watch, and between two points of a picture
_SHOWN, _SAMPLED = 0.1, 0.02


# overflow is an ordinary event, a bound becomes infinite and proves nothing: users need not hear of it
@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def verify(
    model: str | Path | Mapping[str, str | Path],
    property: str | Path | Property,
    *,
    options: Options | None = None,
    certificate: str | Path | None = None,
    progress: Watch | None = None,
    cancel: Callable[[], bool] | None = None,
    picture: bool = False,
) -> Report:
    """Decides whether a network can violate a property.

    Args:
        model: ONNX file, or declared network name -> ONNX file.
        property: VNN-LIB file (1.0 or 2.0, ``.gz`` accepted) or a built property.
        options: limits, semantics and seed.
        certificate: where to write the proof or the witness (nothing is written for unknown).
        progress: called now and then with a snapshot.
        cancel: polled; true ends the run with reason ``CANCELLED``.
        picture: whether the report gets what a picture of the run needs.

    Returns:
        The report; ``report.status`` is the verdict.

    Raises:
        SureboundError: the inputs cannot be used (nothing was decided).
    """
    keep_pages()
    options = options or Options()
    clock = Clock("load")
    budget = Budget(
        options.timeout,
        options.max_domains,
        options.memory or _default_memory(),
        cancel,
        phase=clock.phase,
    )
    run = _Run(options, budget, clock, certificate, progress, picture=picture)
    prop = property if isinstance(property, Property) else load_property(property, open_inputs=True)
    models = load_models(model, prop)
    problem = make_problem(prop, models, options.semantics)
    clock.switch("compare")
    if not all(case.empty for case in prop.cases):
        for m in {m.sha256: m for m in models.values()}.values():
            compare_with_onnxruntime(m, seed=options.seed)
    clock.switch("branching")
    return run.decide(problem, model)


def _ball(prop: Property, case: Case) -> Ball | None:
    """The ball of a property's only case (the certificate format knows one ball)."""
    if case.ball is None or len(prop.cases) > 1:
        return None
    return Ball.around(case.ball.center, case.ball.radius, case.ball.norm)


def _default_memory() -> int:
    return int(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") * _MEMORY_SHARE)


@dataclass(slots=True)
class _Run:
    """One query on its way."""

    options: Options
    budget: Budget
    clock: Clock
    certificate: str | Path | None
    progress: Watch | None
    picture: bool
    plans: dict[str, Plan] = field(default_factory=dict[str, Plan])
    told: Told = field(default_factory=lambda: Told(Settled(), []))
    unmodelled: list[str] = field(default_factory=list[str])
    rounded: dict[int, Fn] | None = None
    whole: dict[int, Array] = field(default_factory=dict[int, Array])
    recorder: Recorder | None = None
    shown: float = 0.0
    sampled: float = 0.0

    def decide(self, problem: Problem, given: object) -> Report:
        """Searches every case, concludes, writes the certificate and reports."""
        cases = problem.property.cases
        ledger = conclude.Ledger(max(len(cases), 1), cases)
        if not cases:  # no input is allowed at all
            ledger.settle(np.ones((1, 0), dtype=bool))
        self._remark(problem)
        kept = TreeTracer() if self.certificate else None
        tracer = self._tracer(kept, len(cases))
        total, order = self._many(problem, ledger, tracer)
        next_id = len(cases)
        for i in order:
            if total.sat is not None:
                break
            spent = self.budget.exhausted(0, 0)
            if spent is not UnknownReason.NONE:  # there may be very many cases
                total = _combine(total, Outcome(reason=spent))
                break
            one, next_id = self._case(problem, i, ledger, tracer, next_id, total)
            self._look(problem, i, one)
            total = _combine(total, one)
        status = self._status(total, ledger)
        self.clock.switch("certificate")
        self.told.certificate = self._write(problem, status, total, kept)
        return self._report(problem, given, status, total)

    def _remark(self, problem: Problem) -> None:
        """Notes on the query as such."""
        notes, told = self.told.notes, self.told
        told.varying = max(map(varying_inputs, problem.cases), default=0)
        told.wanted_certificate = self.certificate is not None
        if all(c.empty for c in problem.property.cases):
            notes.append("the input set is empty, so nothing can violate the property")
        if self.options.semantics is Semantics.FLOAT32:
            nodes = (n for n in problem.graph.nodes if n.roundings >= UNMODELLED)
            self.unmodelled = list(dict.fromkeys(n.source for n in nodes))
        if self.unmodelled:
            listed = ", ".join(self.unmodelled[:_NAMED]) + (", ..." if len(self.unmodelled) > _NAMED else "")
            notes.append(f"float32 rounding is not modelled at: {listed}; nothing is proved through them")

    def _tracer(self, kept: TreeTracer | None, cases: int) -> Tracers | None:
        """Whoever listens: a certificate's writer, a picture's recorder."""
        if self.picture:
            self.recorder = Recorder(max(cases, 1))
        listeners = [t for t in (kept, self.recorder) if t is not None]
        return Tracers(*listeners) if listeners else None

    def _look(self, problem: Problem, case: int, outcome: Outcome) -> None:
        """Remembers what people may want to know of a case's search."""
        left = outcome.left
        if left is None:
            return
        if left.root is not None and self.told.root is None:
            self.told.root = root_facts(left.root, problem.graph)
        share = 1.0 / len(problem.cases)
        region = hardest(left, names(problem.property, "input"), problem.graph, case, share)
        known = self.told.hardest
        if region is not None and (known is None or _worse(region.bound, known.bound)):
            self.told.hardest = region

    def _many(
        self, problem: Problem, ledger: conclude.Ledger, tracer: Tracers | None
    ) -> tuple[Outcome, list[int]]:
        """Bounds very many cases together; what came of it, and the cases that are left, the worst first."""
        cases = problem.cases
        every = list(range(len(cases)))
        if len(cases) < FEWEST or self.options.engine is not Engine.BUILT_IN or self.unmodelled:
            return Outcome(), every
        table = tabulate(cases, problem.graph.input_size, problem.graph.output_size)
        if table is None or len(table.case) < FEWEST:
            return Outcome(), every
        options = BounderOptions(
            evidence=_evidence(tracer),
            network=NetworkRounding() if self.options.semantics is Semantics.FLOAT32 else None,
            # a certificate has one rule for all its cases
            varying=self.told.varying,
        )
        many = ManyCases(
            problem.graph,
            table,
            options,
            self.plans,
            self.budget,
            ledger,
            tracer,
            (lambda case, x: self._confirm(problem, case, x)) if self.options.attack else None,
            self._watcher(Outcome(), 1.0),
        )
        found = many.run()
        self.told.forward, self.told.many = many.forward, len(table.case)
        self.told.counts.float64 += found.float64
        settled = int(found.settled.sum())
        outcome = Outcome(found.sat, found.reason, found.bounded, settled, settled / len(cases))
        left = np.flatnonzero(~found.settled)
        if found.reason is not UnknownReason.NONE and len(left):
            outcome.worst = float(found.lower[left].min())
        return outcome, left[np.argsort(found.lower[left], kind="stable")].tolist()

    def _case(
        self,
        problem: Problem,
        index: int,
        ledger: conclude.Ledger,
        tracer: Tracers | None,
        next_id: int,
        total: Outcome,
    ) -> tuple[Outcome, int]:
        case = problem.cases[index]
        share = 1.0 / len(problem.property.cases)
        if case.empty or not case.disjuncts:
            ledger.settle(np.ones((1, 0), dtype=bool))
            return Outcome(closed=share), next_id
        if self.rounded is None:
            self.rounded = rounded_inputs(problem.graph)
        case, whole = in_whole_numbers(case, self.rounded)
        if whole.any():
            self.whole[index] = whole
        lo, hi = float64_box(case.lower, case.upper)

        def confirm(x: object) -> conclude.Sat | None:
            return self._confirm(problem, index, np.asarray(x))

        if any(not rows for rows in case.disjuncts):
            # a disjunct without rows is always true: any input of the box violates
            found = confirm((lo + hi) / 2)
            return Outcome(sat=found, reason=UnknownReason.PRECISION), next_id
        objectives = objectives_of(case, problem.graph.input_size, problem.graph.output_size)
        settler = self._settler(problem, case, objectives, evidence=_evidence(tracer))
        falsifier = self._falsifier(settler, case, objectives, confirm) if self.options.attack else None
        budget = self._budget(total.bounded)
        watch = self._watcher(total, share)
        known = whole if whole.any() else None
        search = Search(settler, falsifier, budget, ledger, tracer, next_id, watch, known)
        outcome = search.run(lo, hi, index)
        if case.partial and outcome.reason is UnknownReason.NONE:
            outcome.reason = UnknownReason.UNBOUNDED
        if self.unmodelled and outcome.reason is UnknownReason.DOMAINS:
            outcome.reason = UnknownReason.ROUNDING
        outcome.closed *= share
        self.told.counts.float64 += settler.counts.float64
        self.told.counts.exact += settler.counts.exact
        return outcome, search.next_id

    def _settler(self, problem: Problem, case: Case, objectives: Objectives, *, evidence: bool) -> Settler:
        settler = Settler(
            problem.graph,
            case,
            objectives,
            network=NetworkRounding() if self.options.semantics is Semantics.FLOAT32 else None,
            evidence=evidence,
            ball=_ball(problem.property, case),
            plans=self.plans,
            seconds=self.options.timeout,
            # a certificate has one rule for all its cases
            varying=self.told.varying if evidence else None,
        )
        settler.guide = _guide(self.options.engine, problem.graph, objectives)
        settler.phase = self.clock.phase
        self.told.forward = settler.fast.rule.forward
        return settler

    def _confirm(self, problem: Problem, case: int, x: Array) -> conclude.Sat | None:
        return conclude.sat(problem, case, x, self.options.semantics)

    def _falsifier(self, settler: Settler, case: Case, objectives: Objectives, confirm: Confirm) -> Falsifier:
        ball = None if case.ball is None else Ball.around(case.ball.center, case.ball.radius, case.ball.norm)
        return Falsifier(
            settler.fast.plan,
            lambda: settler.fine.plan,
            objectives,
            confirm,
            self.options.seed,
            ball=ball,
            should_stop=self.budget.should_stop,
            phase=self.clock.phase,
        )

    def _budget(self, bounded: int) -> Budget:
        """What is left of the budget when ``bounded`` subproblems are done."""
        mine, most = self.budget, self.budget.domains
        if self.unmodelled:  # splitting cannot make an infinite bound finite; a few boxes for what avoids it
            most = min(_HOPELESS, _HOPELESS if most is None else most)
        if most is None:
            return mine
        budget = Budget(
            None, most - bounded, mine.memory, mine.should_stop, started=mine.started, phase=mine.phase
        )
        budget.deadline = mine.deadline
        return budget

    def _watcher(self, total: Outcome, share: float) -> SearchWatch | None:
        if self.progress is None and self.recorder is None:
            return None

        def watch(bounded: int, waiting: int, closed: float, worst: float | None) -> None:
            seconds, done = self.budget.elapsed, total.bounded + bounded
            fraction = total.closed + closed * share
            if self.recorder is not None and seconds - self.sampled >= _SAMPLED:
                self.sampled = seconds
                self.recorder.sample(Sample(seconds, done, waiting, fraction, worst))
            if self.progress is not None and seconds - self.shown >= _SHOWN:
                self.shown = seconds
                self.progress(Progress(done, waiting, fraction, worst, seconds, "search"))

        return watch

    def _status(self, total: Outcome, ledger: conclude.Ledger) -> Status:
        if total.sat is not None:
            return total.sat.status
        if total.reason is UnknownReason.NONE:
            return conclude.unsat(ledger)
        return Status.TIMED_OUT if total.reason is UnknownReason.TIMEOUT else Status.UNKNOWN

    def _write(self, problem: Problem, status: Status, total: Outcome, tracer: TreeTracer | None) -> str:
        if self.certificate is None or tracer is None or status not in (Status.SAT, Status.UNSAT):
            return ""
        semantics, made_by = self.options.semantics, VERSION
        if total.sat is not None:
            write_sat(self.certificate, problem, semantics, total.sat.witness, version=made_by)
        else:
            write_unsat(
                self.certificate,
                problem,
                semantics,
                tracer,
                forward=self.told.forward,
                version=made_by,
                whole=self.whole,
            )
        return str(self.certificate)

    def _report(self, problem: Problem, given: object, status: Status, total: Outcome) -> Report:
        seconds = self.budget.elapsed
        if self.recorder is not None:
            fraction = 1.0 if status is Status.UNSAT else min(total.closed, 1.0)
            self.recorder.sample(Sample(seconds, total.bounded, 0, fraction, total.worst), last=True)
            self.told.picture = self.recorder.picture()
        self.clock.switch("report")
        phases = {k: v for k, v in self.clock.seconds.items() if k != "report"}
        return make_report(
            problem, given, self.options, status, total, self.told, seconds=seconds, phases=phases
        )


def _evidence(tracer: Tracers | None) -> bool:
    return tracer is not None and tracer.evidence_kept


def _worse(a: float | None, b: float | None) -> bool:
    """Whether a bound is below another; none at all is the worst."""
    return b is not None and (a is None or a < b)


def _guide(engine: Engine, graph: Graph, objectives: Objectives) -> Guide | None:
    """The engine that bounds first, unless it is our own."""
    if engine is Engine.BUILT_IN:
        return None
    from bounds.methods.auto_lirpa import AutoLirpaBounder

    return AutoLirpaBounder(graph, objectives)


def _combine(a: Outcome, b: Outcome) -> Outcome:
    worst = [w for w in (a.worst, b.worst) if w is not None]
    return Outcome(
        sat=a.sat or b.sat,
        # the first reason stands: a later case that was settled does not settle an earlier one
        reason=a.reason if a.reason is not UnknownReason.NONE else b.reason,
        bounded=a.bounded + b.bounded,
        leaves=a.leaves + b.leaves,
        closed=a.closed + b.closed,
        worst=min(worst) if worst else None,
    )
