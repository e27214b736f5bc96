"""``verify``: the one path of a query, from files to a report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from bounds.ball import Ball
from bounds.domain import Objectives
from bounds.expression import Fn
from bounds.graph import UNMODELLED, Array
from bounds.io.compare import compare_with_onnxruntime
from bounds.kernels.allocator import keep_pages
from bounds.methods.bounder import BounderOptions, Effort
from bounds.methods.rule import FORWARD_INPUTS
from bounds.numerics import NetworkRounding
from verifier import conclude
from verifier.certificate import write_sat, write_unsat
from verifier.problem import Network, Problem, float64_box, load_models, make_problem
from verifier.proof_part import TORN, ProofPart
from verifier.query import Engine, Options
from verifier.report.model import Report, Sample
from verifier.report.progress import Progress
from verifier.search.budget import Budget
from verifier.search.case_table import tabulate
from verifier.search.checkpoint import Part, State
from verifier.search.checkpoint import load as load_checkpoint
from verifier.search.clock import Clock
from verifier.search.earlier import Earlier
from verifier.search.earlier import load as load_earlier
from verifier.search.falsify.falsifier import Confirm, Falsifier
from verifier.search.keeper import LASTING, Keeper
from verifier.search.loop import Outcome, Search
from verifier.search.many import FEWEST, ManyCases
from verifier.search.memory import bytes_for_one
from verifier.search.objectives import objectives_of
from verifier.search.outcome import Watch as SearchWatch
from verifier.search.outcome import combined, worse
from verifier.search.pace import CHEAP
from verifier.search.record import Recorder
from verifier.search.region import hardest, root_facts
from verifier.search.resume import Warm, check_certificate, check_query, go_on, proof_so_far, query_of
from verifier.search.settle import Settled, Settler, guide, varying_inputs
from verifier.search.trace import Tracers, TreeTracer
from verifier.search.whole import in_whole_numbers, rounded_inputs
from verifier.spec.load import load as load_property
from verifier.spec.model import Case, Property
from verifier.summary import Told, make_report, names
from verifier.verdict import Semantics, Status, UnknownReason
from verifier.version import VERSION

Watch = Callable[[Progress], None]
# subproblems tried where the network's rounding is unknown, and operators that a note names
_HOPELESS, _NAMED = 64, 5
# seconds between two snapshots for those who watch, and between two points of a picture
_SHOWN, _SAMPLED = 0.1, 0.02


# overflow is an ordinary event, a bound becomes infinite and proves nothing: users need not hear of it
@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def verify(  # noqa: PLR0913 - options keyword-only, each with a safe default
    model: Network | Mapping[str, Network],
    property: str | Path | Property,
    *,
    options: Options | None = None,
    certificate: str | Path | None = None,
    progress: Watch | None = None,
    cancel: Callable[[], bool] | None = None,
    picture: bool = False,
    checkpoint: str | Path | None = None,
    resume: str | Path | None = None,
    earlier: str | Path | None = None,
    warm: Warm | None = None,
) -> Report:
    """Decides whether a network can violate a property.

    Args:
        model: ONNX file (or a loaded one), or declared network name -> ONNX file.
        property: VNN-LIB file (1.0 or 2.0, ``.gz`` accepted) or a built property.
        options: limits, semantics and seed.
        certificate: where to write the proof or the witness (nothing is written for unknown).
        progress: called now and then with a snapshot.
        cancel: polled; true ends the run with reason ``CANCELLED``.
        picture: whether the report gets what a picture of the run needs.
        checkpoint: where to leave what is open, now and then and when the run ends undecided.
        resume: a checkpoint to go on from; it holds evidence for a certificate if its run wanted one.
        earlier: the certificate of an earlier run on a similar network or property, whose splits, slopes and
            multipliers, or whose counterexample, are tried first. It decides nothing.
        warm: shared by runs that go on from shards of one checkpoint.

    Returns:
        The report; ``report.status`` is the verdict.

    Raises:
        SureboundError: the inputs cannot be used (nothing was decided).
    """
    keep_pages()
    options = options or Options()
    clock = Clock("load")
    budget = Budget(options.timeout, options.max_domains, None, cancel, phase=clock.phase)
    run = _Run(options, budget, clock, certificate, progress, picture=picture, checkpoint=checkpoint)
    run.earlier, run.hint = (None, None) if earlier is None else load_earlier(earlier)
    run.warm = warm or run.warm
    if resume is not None:
        run.state = load_checkpoint(resume)
        check_certificate(run.state, wanted=certificate is not None)
    prop = property if isinstance(property, Property) else load_property(property, open_inputs=True)
    models = load_models(model, prop)
    problem = make_problem(prop, models, options.semantics)
    run.prepare(problem)
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


@dataclass(slots=True)
class _Run:
    """One query on its way."""

    options: Options
    budget: Budget
    clock: Clock
    certificate: str | Path | None
    progress: Watch | None
    picture: bool
    checkpoint: str | Path | None = None
    state: State | None = None
    earlier: Earlier | None = None
    hint: Array | None = None
    keeper: Keeper | None = None
    warm: Warm = field(default_factory=Warm)
    usual: Effort | None = None
    told: Told = field(default_factory=lambda: Told(Settled(), []))
    unmodelled: list[str] = field(default_factory=list[str])
    lower: dict[int, float] = field(default_factory=dict[int, float])
    rounded: dict[int, Fn] | None = None
    whole: dict[int, Array] = field(default_factory=dict[int, Array])
    first: int = 1
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
        kept = self._kept(problem)
        before = self._restore(ledger)
        tracer = self._tracer(kept, ledger)
        total, order = self._many(problem, ledger, tracer, before)
        parts = {} if self.state is None else {p.case: p for p in self.state.parts}
        plan: list[tuple[int, Part | None]] = [*parts.items(), *((i, None) for i in order)]
        self._keep(problem, ledger, plan, total, kept)
        for place, (i, part) in enumerate(plan):
            if total.sat is not None:
                break
            spent = self.budget.exhausted(total.bounded - before.bounded, 0)
            if spent is not UnknownReason.NONE:  # there may be very many cases
                total = combined(total, Outcome(reason=spent, worst=self._waiting(plan[place:])))
                break
            one = self._case(problem, i, part, ledger, tracer, total)
            self._look(problem, i, one)
            total = combined(total, one)
        status = self._status(total, ledger)
        self.clock.switch("certificate")
        self.told.certificate = self._write(problem, status, total, kept)
        if self.keeper is not None and status not in (Status.SAT, Status.UNSAT):
            self.told.checkpoint = str(self.checkpoint) if self.keeper.write(total) else ""
        return self._report(problem, given, status, total)

    def prepare(self, problem: Problem) -> None:
        """What must hold before any work: the memory suffices, a checkpoint is of this query.

        Raises:
            BadInput: it does not.
        """
        self.told.varying = max(map(varying_inputs, problem.cases), default=0)
        rows = max((sum(map(len, c.disjuncts)) for c in problem.cases), default=0)
        forward = self.told.varying <= FORWARD_INPUTS
        need = bytes_for_one(problem.graph, self.told.varying, rows, forward=forward)
        self.budget.share_memory(self.options.memory, need)
        if self.state is not None:
            check_query(self.state, problem, self.options.semantics)

    def _kept(self, problem: Problem) -> TreeTracer | None:
        """The proof so far, where one is kept."""
        tracer, part = proof_so_far(self.state, problem, wanted=self.certificate is not None)
        self.first, self.told.forward, self.whole = part.first, part.forward, part.whole()
        return tracer

    def _waiting(self, plan: Sequence[tuple[int, Part | None]]) -> float:
        """The worst known bound of cases whose turn did not come; minus infinity where one has none."""
        known = (part.worst if part else self.lower.get(case, -np.inf) for case, part in plan)
        return min(known, default=np.inf)

    def _restore(self, ledger: conclude.Ledger) -> Outcome:
        """What an earlier run did, from the checkpoint; its counts go into the ledger."""
        state = self.state
        if state is None:
            return Outcome()
        ledger.restore(state.splits, state.settled, state.abandoned)
        self.told.resumed = state.source
        self.told.notes.append(
            f"resumed from {state.source}: {state.splits} splits and {state.settled} settled subproblems "
            "before it are taken from that file and were not proved again"
        )
        closed = state.closed + sum(p.closed for p in state.parts) / max(state.cases, 1)
        return Outcome(reason=state.reason, bounded=state.bounded, leaves=state.leaves, closed=closed)

    def _keep(
        self,
        problem: Problem,
        ledger: conclude.Ledger,
        plan: list[tuple[int, Part | None]],
        total: Outcome,
        kept: TreeTracer | None,
    ) -> None:
        """Prepares for checkpoints, if any are wanted."""
        if self.checkpoint is None:
            return

        def proof() -> ProofPart | None:
            forward = self.told.forward
            return kept and ProofPart.of(kept, problem.graph, self.whole, self.first, forward=forward)

        self.keeper = Keeper(
            Path(self.checkpoint),
            query_of(problem, self.options.semantics),
            {"seed": self.options.seed, "engine": self.options.engine.value, "version": VERSION},
            self._in_whole_numbers(),
            ledger,
            len(problem.cases),
            spent=self.state.seconds if self.state else 0.0,
            together=total.reason in (UnknownReason.NONE, *LASTING),
            proof=proof,
            dealt=None if self.state is None else self.state.dealt,
            limit=self.options.timeout if self.state is None else self.state.limit,
        )
        self.keeper.begin(plan)

    def _in_whole_numbers(self) -> bool:
        """Whether inputs that are only read rounded are searched as whole numbers.

        Whoever goes on keeps to what was begun.
        """
        return self.state is None or self.state.whole

    def _remark(self, problem: Problem) -> None:
        """Notes on the query as such."""
        notes, told = self.told.notes, self.told
        if self.earlier is not None and not self.earlier.fits(problem.graph, len(problem.cases)):
            notes.append(
                "the earlier proof is about other input boxes or nonlinear nodes; it is of no use here"
            )
            self.earlier = None
        if self.hint is not None and len(self.hint) != problem.graph.input_size:
            notes.append("the earlier counterexample has another number of inputs; it is of no use here")
            self.hint = None
        told.wanted_certificate = self.certificate is not None
        if all(c.empty for c in problem.property.cases):
            notes.append("the input set is empty, so nothing can violate the property")
        if self.options.semantics is Semantics.FLOAT32:
            nodes = (n for n in problem.graph.nodes if n.roundings >= UNMODELLED)
            self.unmodelled = list(dict.fromkeys(n.source for n in nodes))
        if self.unmodelled:
            listed = ", ".join(self.unmodelled[:_NAMED]) + (", ..." if len(self.unmodelled) > _NAMED else "")
            notes.append(f"float32 rounding is not modelled at: {listed}; nothing is proved through them")

    def _tracer(self, kept: TreeTracer | None, ledger: conclude.Ledger) -> Tracers | None:
        """Whoever listens: a certificate's writer, a picture's recorder."""
        if self.picture:
            known = None if self.state is None else self.state.nodes()
            self.recorder = Recorder(np.arange(ledger.roots) if known is None else known, ledger.created)
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
        if region is not None and (known is None or worse(region.bound, known.bound)):
            self.told.hardest = region

    def _many(
        self, problem: Problem, ledger: conclude.Ledger, tracer: Tracers | None, before: Outcome
    ) -> tuple[Outcome, list[int]]:
        """Bounds very many cases together; what came of it, and the cases that are left, the worst first."""
        cases = problem.cases
        every = list(range(len(cases))) if self.state is None else self.state.todo
        most = self.budget.domains
        if self.state is not None and (self.state.together or (most is not None and most < len(every))):
            return before, every  # a pass that cannot end would begin anew each time
        if len(every) < FEWEST or self.options.engine is not Engine.BUILT_IN or self.unmodelled:
            return before, every
        table = tabulate(cases, problem.graph.input_size, problem.graph.output_size, every)
        if table is None or len(table.case) < FEWEST:
            return before, every
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
            self.warm.plans,
            self.budget,
            ledger,
            tracer,
            (lambda case, x: self._confirm(problem, case, x)) if self.options.attack else None,
            self._watcher(before, 1.0),
        )
        found = many.run()
        self.told.forward, self.told.many = many.forward, len(table.case)
        self.told.counts.float64 += found.float64
        settled = int(found.settled.sum())
        outcome = Outcome(found.sat, found.reason, found.bounded, settled, settled / len(cases))
        left = np.array(every)[~found.settled[every]]
        self.lower = dict(zip(left.tolist(), found.lower[left].tolist(), strict=True))
        order = left[np.argsort(found.lower[left], kind="stable")].tolist()
        return combined(before, outcome), order

    def _case(
        self,
        problem: Problem,
        index: int,
        part: Part | None,
        ledger: conclude.Ledger,
        tracer: Tracers | None,
        total: Outcome,
    ) -> Outcome:
        case = problem.cases[index]
        share = 1.0 / len(problem.property.cases)
        if case.empty or not case.disjuncts:
            ledger.settle(np.ones((1, 0), dtype=bool))
            outcome = Outcome(closed=share)
            if self.keeper is not None:
                self.keeper.leave(index, outcome, 1.0)
            return outcome
        whole = np.zeros(len(case.lower), dtype=bool)
        if self._in_whole_numbers():
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
            return Outcome(sat=found, reason=UnknownReason.PRECISION)
        objectives = objectives_of(case, problem.graph.input_size, problem.graph.output_size)
        settler = self._settler(problem, case, objectives, evidence=_evidence(tracer))
        falsifier = self._falsifier(settler, case, objectives, confirm) if self.options.attack else None
        search = Search(
            settler,
            falsifier,
            self._budget(total.bounded - (self.state.bounded if self.state else 0)),
            ledger,
            tracer,
            ledger.created,  # every node has an id, and no other number is one
            self._watcher(total, share),
            whole if whole.any() else None,
            self.usual,
            self.earlier,
            self.hint,
        )
        return self._search(search, case, index, part, (lo, hi), share)

    def _search(
        self,
        search: Search,
        case: Case,
        index: int,
        part: Part | None,
        box: tuple[Array, Array],
        share: float,
    ) -> Outcome:
        """Searches one case, from its root or from what a checkpoint holds of it."""
        base = 0.0 if part is None else part.closed
        if self.keeper is not None:
            self.keeper.enter(index, search.outcome, base)
        outcome = search.run(*box, index) if part is None else go_on(search, part, *box, self.warm)
        if self.keeper is not None:
            self.keeper.leave(index, outcome, outcome.closed)
        if case.partial and outcome.reason is UnknownReason.NONE:
            outcome.reason = UnknownReason.UNBOUNDED
        if self.unmodelled and outcome.reason is UnknownReason.DOMAINS:
            outcome.reason = UnknownReason.ROUNDING
        outcome.closed = (outcome.closed - base) * share
        bounder = None if outcome.left is None else outcome.left.bounder
        self.told.hulls = self.told.hulls or (bounder is not None and bounder.hull)
        self.told.counts.float64 += search.settler.counts.float64
        self.told.counts.exact += search.settler.counts.exact
        # where refining did not pay for one box of a network it does not for the next
        self.usual = CHEAP if outcome.left is not None and outcome.left.effort == CHEAP else None
        return outcome

    def _settler(self, problem: Problem, case: Case, objectives: Objectives, *, evidence: bool) -> Settler:
        settler = Settler(
            problem.graph,
            case,
            objectives,
            network=NetworkRounding() if self.options.semantics is Semantics.FLOAT32 else None,
            evidence=evidence,
            ball=_ball(problem.property, case),
            plans=self.warm.plans,
            seconds=self.options.timeout if self.state is None else self.state.limit,
            # a certificate has one rule for all its cases
            varying=self.told.varying if evidence else None,
        )
        settler.guide = guide(self.options.engine, problem.graph, objectives)
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
        return mine.inner(most - bounded)

    def _watcher(self, total: Outcome, share: float) -> SearchWatch | None:
        if self.progress is None and self.recorder is None and self.keeper is None:
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
            if self.keeper is not None:
                self.keeper.tick(total)

        return watch

    def _status(self, total: Outcome, ledger: conclude.Ledger) -> Status:
        if total.sat is not None:
            return total.sat.status
        dealt = None if self.state is None else self.state.dealt
        if total.reason is UnknownReason.NONE and dealt is None:
            return conclude.unsat(ledger)
        if total.reason is UnknownReason.NONE and dealt is not None:
            conclude.part(ledger, dealt.elsewhere)
            total.reason = UnknownReason.PART
        return Status.TIMED_OUT if total.reason is UnknownReason.TIMEOUT else Status.UNKNOWN

    def _write(self, problem: Problem, status: Status, total: Outcome, tracer: TreeTracer | None) -> str:
        if self.certificate is None or tracer is None or status not in (Status.SAT, Status.UNSAT):
            return ""
        if total.sat is None and tracer.torn:
            self.told.notes.append(TORN)
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
