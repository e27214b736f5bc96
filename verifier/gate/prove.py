"""Questions of requirements, answered: from the cache if the checker agrees, else by the engine.

One question is one property of one set of networks. Many questions about a network are bounded together
before any is searched.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bounds.errors import BadInput, SureboundError
from bounds.io.onnx import Model, load
from verifier.api import verify
from verifier.check.main import Model as Checked
from verifier.check.main import load_model
from verifier.gate.cache import Cache, key_of
from verifier.gate.report import Outcome, Question
from verifier.query import Options
from verifier.report.model import Report
from verifier.report.progress import Progress
from verifier.search.earlier import load as load_earlier
from verifier.spec.model import Property
from verifier.together import Question as Together
from verifier.together import verify_together
from verifier.verdict import Semantics, Status, UnknownReason, Witness

_LEAST = 1e-3  # seconds; a question is asked with at least this
DEFAULT_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Loaded:
    """A network, as the engine and the checker read it; ``made``: combined here, there is no file of it."""

    name: str
    path: str
    model: Model
    checked: Checked
    made: bool = False


def load_network(name: str, path: str, file: Path) -> Loaded:
    """Reads a network twice, once by each program.

    Raises:
        SureboundError: it cannot be used.
    """
    return Loaded(name, path, load(file), load_model(file))


@dataclass(frozen=True, slots=True)
class Ask:
    """One question.

    Attributes:
        name: for people, and for finding earlier certificates.
        property: what must not happen. networks: by the property's names ("" for one without).
        semantics: level of a proof.
        file, line: where it is stated, if not where its requirement is.
    """

    name: str
    property: Property
    networks: Mapping[str, Loaded]
    semantics: Semantics = Semantics.REAL
    file: str = ""
    line: int = 0


@dataclass(frozen=True, slots=True)
class Answer:
    """A question's answer; ``witness`` only for SAT, confirmed by the engine or replayed by the checker."""

    status: Status
    question: Question
    witness: Witness | None = None
    lower_bound: float | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """Of a run and of one question: seconds, seconds, subproblems, bytes; None: no limit."""

    total: float | None
    query: float | None
    max_domains: int | None
    memory: int | None


@dataclass(slots=True)
class Prover:
    """Answers questions within the limits of a run.

    Attributes:
        cache, limits, seed: of the run.
        watch: told what is going on. progress: told how a search goes on. cancel: polled.
    """

    cache: Cache
    limits: Limits
    seed: int
    watch: Callable[[str], None] = lambda _: None
    progress: Callable[[Progress], None] | None = None
    cancel: Callable[[], bool] = lambda: False
    started: float = field(default_factory=time.monotonic)

    @property
    def left(self) -> float:
        """Seconds left of the whole run."""
        spent = time.monotonic() - self.started
        return float("inf") if self.limits.total is None else self.limits.total - spent

    def over(self) -> bool:
        """Whether time is up, or somebody asked to stop."""
        return self.left <= 0 or self.cancel()

    def ask(self, requirement: str, questions: Sequence[Ask], *, together: bool = True) -> list[Answer]:
        """Answers to all questions, in their order.

        Args:
            requirement: whose they are.
            questions: see :class:`Ask`.
            together: bound those about the same network in one block first.
        """
        answers: list[Answer | None] = [None] * len(questions)
        for i, ask in enumerate(questions):
            self.watch(f"{requirement}: looking for a kept proof of {ask.name}")
            answers[i] = self._kept(ask)
        if together and sum(a is None for a in answers) > 1:
            self._block(requirement, questions, answers)
        for i, ask in enumerate(questions):
            if answers[i] is None:
                self.watch(f"{requirement}: {ask.name}")
                answers[i] = self._search(requirement, ask)
        return [a for a in answers if a is not None]

    def _kept(self, ask: Ask) -> Answer | None:
        begun = time.monotonic()
        models = {name: one.checked for name, one in ask.networks.items()}
        kept = self.cache.look(_key(ask), models, ask.property, ask.semantics)
        if kept is None:
            return None
        outcome = Outcome.VIOLATED if kept.status is Status.SAT else Outcome.HOLDS
        question = Question(
            ask.name, outcome, source="cache", seconds=time.monotonic() - begun, certificate=str(kept.file),
            file=ask.file, line=ask.line,
        )  # fmt: skip
        return Answer(kept.status, question, kept.witness)

    def _block(self, requirement: str, questions: Sequence[Ask], answers: list[Answer | None]) -> None:
        """What one block of bounds proves of the questions about one network each."""
        groups: dict[tuple[int, Semantics], list[int]] = {}
        for i, ask in enumerate(questions):
            if answers[i] is None and len(ask.networks) == 1:
                (network,) = ask.networks.values()
                groups.setdefault((id(network), ask.semantics), []).append(i)
        for (_, semantics), members in groups.items():
            if self.over():
                return
            (network,) = questions[members[0]].networks.values()
            self.watch(f"{requirement}: bounding {len(members)} questions together")
            drafts = [self.cache.draft(_key(questions[i]), ".sbcert") for i in members]
            asked = [Together(questions[i].property, d) for i, d in zip(members, drafts, strict=True)]
            options = Options(semantics=semantics, seed=self.seed)
            try:
                reports = verify_together(network.model, asked, options=options, should_stop=self.over)
            except (OSError, BadInput) as error:
                self._undraftable(error, drafts)
                return  # each is asked by itself then
            for i, draft, report in zip(members, drafts, reports, strict=True):
                if report is not None and report.status is Status.UNSAT:
                    answers[i] = self._answer(requirement, questions[i], report, draft)

    def _search(self, requirement: str, ask: Ask) -> Answer:
        if self.over():
            reason = UnknownReason.CANCELLED if self.cancel() else UnknownReason.TIMEOUT
            return Answer(Status.UNKNOWN, _undecided(ask, _told(reason)))
        seconds = min((s for s in (self.limits.query, self.left) if s is not None), default=None)
        if seconds is not None:
            seconds = None if seconds == float("inf") else max(seconds, _LEAST)
        options = Options(
            timeout=seconds, semantics=ask.semantics, seed=self.seed,
            max_domains=self.limits.max_domains, memory=self.limits.memory,
        )  # fmt: skip
        draft = self.cache.draft(_key(ask), ".sbcert")
        networks = {name: one.model for name, one in ask.networks.items()}
        earlier = self._earlier(requirement, ask)
        try:
            report = self._verify(networks, ask, options, draft, earlier)
        except (OSError, BadInput) as error:
            self._undraftable(error, [draft])
            draft = None
            report = self._verify(networks, ask, options, None, earlier)
        return self._answer(requirement, ask, report, draft)

    def _verify(
        self,
        networks: Mapping[str, Model],
        ask: Ask,
        options: Options,
        draft: Path | None,
        earlier: Path | None,
    ) -> Report:
        return verify(
            networks,
            ask.property,
            options=options,
            certificate=draft,
            progress=self.progress,
            cancel=self.cancel,
            earlier=earlier,
        )

    def _undraftable(self, error: OSError | BadInput, drafts: Sequence[Path | None]) -> None:
        """What to do where a certificate could not be written: a full disk must not cost the verdict.

        Raises:
            OSError, BadInput: the same, where it is about something else.
        """
        names = [str(d) for d in drafts if d is not None]
        if not names or (isinstance(error, BadInput) and not any(n in str(error) for n in names)):
            raise error
        self.cache.writable = False
        self.cache.note(f"proofs could not be kept: they cannot be written ({error})")

    def _earlier(self, requirement: str, ask: Ask) -> Path | None:
        """The newest readable certificate of the same question about another network: a search begins with
        its splits, or with its counterexample, and believes none of it."""
        for path in self.cache.earlier(requirement, ask.name):
            try:
                load_earlier(path)
            except SureboundError as error:
                self.cache.note(f"{path}: an earlier proof is of no use ({error})")
                continue
            return path
        return None

    def _answer(self, requirement: str, ask: Ask, report: Report, draft: Path | None) -> Answer:
        outcome = _OUTCOMES.get(report.status, Outcome.INCONCLUSIVE)
        kept: Path | None = None
        if outcome is not Outcome.INCONCLUSIVE:
            models = {name: one.checked.digest for name, one in ask.networks.items()}
            kept = self.cache.keep(draft, _key(ask), about=(requirement, ask.name), models=models)
            for one in ask.networks.values():
                if one.made and kept is not None:  # or nobody could check the certificate by hand
                    self.cache.put(kept.with_suffix(".onnx"), one.checked.data)
        told = "" if outcome is not Outcome.INCONCLUSIVE else _told(report.reason, report)
        question = Question(
            ask.name, outcome, told, "proved" if not told else "", report.stats.seconds, report.stats.domains,
            "" if kept is None else str(kept), ask.file, ask.line,
        )  # fmt: skip
        return Answer(report.status, question, report.witness, report.lower_bound)


_OUTCOMES: Mapping[Status, Outcome] = {Status.UNSAT: Outcome.HOLDS, Status.SAT: Outcome.VIOLATED}


def unusable(ask_name: str, error: SureboundError, file: str = "", line: int = 0) -> Question:
    """The answer to a question that cannot be asked."""
    return Question(ask_name, Outcome.ERROR, str(error), file=file, line=line)


def _undecided(ask: Ask, told: str) -> Question:
    return Question(ask.name, Outcome.INCONCLUSIVE, told, file=ask.file, line=ask.line)


# the engine's sentences name options of `verify`; here they are keys of the file
_WORDS: Mapping[UnknownReason, str] = {
    UnknownReason.TIMEOUT: "the time limit was reached; raise seconds or query_seconds in [budget]",
    UnknownReason.DOMAINS: "the domain limit was reached; raise max_domains in [budget]",
    UnknownReason.MEMORY: "the memory limit was reached; raise memory in [budget]",
    UnknownReason.ROUNDING: 'the float32 rounding of some operators is not modelled; use semantics = "real"',
}


def _told(reason: UnknownReason, report: Report | None = None) -> str:
    words = _WORDS.get(reason, reason.value) or "it was not decided"
    if report is not None and report.closed_fraction > 0:
        words += f" ({report.closed_fraction:.1%} was proved)"
    return words


def _key(ask: Ask) -> str:
    models = {name: one.checked.digest for name, one in ask.networks.items()}
    digest = f"{ask.property.language}:{ask.property.sha256}"
    return key_of(models, digest, ask.semantics.value)
