"""One run of the gate: every requirement decided, and the report of all."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

import numpy as np

from bounds.errors import BadInput, ModelInvalid, SpecError, SureboundError
from verifier.gate.alerts import alerts
from verifier.gate.baseline import write_baseline
from verifier.gate.cache import Cache
from verifier.gate.config import GateConfig
from verifier.gate.prove import DEFAULT_SECONDS, Limits, Loaded, Prover, load_network
from verifier.gate.report import Finding, GateExit, GateReport, ModelFact, Outcome, Unknown
from verifier.gate.requirements import KINDS
from verifier.gate.requirements.base import Stated, worst
from verifier.gate.samples import Choice, GateSamples, load_samples
from verifier.report.progress import Progress
from verifier.version import VERSION


@dataclass(frozen=True, slots=True)
class GateOptions:
    """What the command line may say beside the file.

    Attributes:
        unknown: what an inconclusive requirement does. only: ids to look at; empty: all.
        seconds, max_domains: instead of the file's.
        cache: folder instead of the file's. no_cache: keep and use nothing.
        update_baseline: write the lock file anew.
    """

    unknown: Unknown = Unknown.FAIL
    only: tuple[str, ...] = ()
    seconds: float | None = None
    max_domains: int | None = None
    cache: Path | None = None
    no_cache: bool = False
    update_baseline: bool = False


@dataclass(slots=True)
class Desk:
    """What requirements are decided with: networks and samples (read once), and the prover."""

    config: GateConfig
    prover: Prover
    networks: dict[str, Loaded] = field(default_factory=dict[str, Loaded])
    read: dict[tuple[str, str, Choice], GateSamples] = field(
        default_factory=dict[tuple[str, str, Choice], GateSamples]
    )
    findings: list[Finding] = field(default_factory=list[Finding])
    update_baseline: bool = False

    @property
    def file(self) -> str:
        """The configuration, as alerts name it."""
        return self.shown(Path(self.config.file))

    def shown(self, path: Path) -> str:
        """A path as reports name it: relative to where the run was started, POSIX."""
        try:
            return Path(os.path.relpath(path)).as_posix()
        except ValueError:  # another drive
            return path.as_posix()

    def network(self, name: str) -> Loaded:
        """A network of the file.

        Raises:
            SureboundError: it cannot be used.
        """
        if name not in self.networks:
            path = self.config.resolve(self.config.models[name].path)
            loaded = load_network(name, self.shown(path), path)
            if loaded.model.sha256 != loaded.checked.digest:
                raise ModelInvalid(f"{path}: changed while it was read; run again")
            self.networks[name] = loaded
        return self.networks[name]

    def finding(self, name: str) -> Finding:
        """What came of another requirement, decided now if its turn is still to come."""
        known = next((f for f in self.findings if f.id == name), None)
        return known or self.decided(next(r for r in self.config.requirements if r.settings.id == name))

    def decided(self, stated: Stated) -> Finding:
        """Decides a requirement, once."""
        known = next((f for f in self.findings if f.id == stated.settings.id), None)
        if known is None:
            self.prover.watch(stated.settings.id)
            begun = time.monotonic()
            known = replace(_decide(self, stated), seconds=time.monotonic() - begun)
            self.findings.append(known)
        return known

    def samples(self, name: str, network: Loaded, choice: Choice) -> GateSamples:
        """Samples of the file, for a network.

        Raises:
            BadInput: they do not fit.
        """
        known = (name, network.name, choice)
        if known not in self.read:
            graph, entry = network.model.graph, self.config.data[name]
            if len(graph.inputs) != 1:
                raise BadInput(
                    f"{network.path}: has {len(graph.inputs)} inputs; a classifier of samples has one"
                )
            self.read[known] = load_samples(
                self.config.resolve(entry.path), name, entry, graph.inputs[0].shape, graph.output_size, choice
            )
        return self.read[known]


# overflow is an ordinary event: a bound becomes infinite and proves nothing
@np.errstate(all="ignore")
def run(
    config: GateConfig,
    options: GateOptions | None = None,
    *,
    watch: Callable[[str], None] = lambda _: None,
    progress: Callable[[Progress], None] | None = None,
    cancel: Callable[[], bool] = lambda: False,
) -> GateReport:
    """Decides every requirement of a file.

    Args:
        config: :func:`verifier.gate.config.read_config`.
        options: see there.
        watch: told what is going on, in sentences. progress: told how a search goes on.
        cancel: polled; true leaves what is open inconclusive.

    Returns:
        The report. A requirement that cannot be looked at has the outcome ERROR in it; only what makes the
        whole run meaningless is raised.

    Raises:
        BadInput: the options name no requirement.
    """
    options = options or GateOptions()
    started = time.monotonic()
    chosen = _chosen(config, options.only)
    if options.only and options.update_baseline:
        raise BadInput(
            "--update-baseline does not go with --only: the file holds the figures of all requirements"
        )
    cache = Cache.open(_folder(config, options))
    prover = Prover(cache, _limits(config, options), config.top.seed, watch, progress, cancel)
    desk = Desk(config, prover, update_baseline=options.update_baseline)
    try:
        for stated in chosen:
            desk.decided(stated)
    finally:
        cache.close()
        cache.prune(config.cache.megabytes << 20)
    report = _report(desk, cache, options, time.monotonic() - started)
    if options.update_baseline:
        return _updated(desk, report)
    return report


def _updated(desk: Desk, report: GateReport) -> GateReport:
    """Writes the lock file, unless some figure could not be found at all."""
    path = desk.config.resolve(desk.config.top.baseline)
    measured = [f for f in report.findings if f.measured]
    failed = [f.id for f in report.findings if f.outcome is Outcome.ERROR]
    if failed:
        raise BadInput(
            f"{path}: not written, as {', '.join(failed)} could not be looked at; see 'verify gate'"
        )
    if not measured:
        raise BadInput(f"{path}: not written, as no requirement has a figure; state one to compare")
    write_baseline(path, measured, report.models)
    return replace(report, notes=(*report.notes, f"the baseline {desk.shown(path)} was written"))


def _decide(desk: Desk, stated: Stated) -> Finding:
    entry = stated.settings
    try:
        return KINDS[entry.kind].decide(desk, stated)
    except SureboundError as error:
        line = error.line if isinstance(error, SpecError) and error.file == desk.config.file else stated.line
        model = desk.networks.get(getattr(entry, "model", ""))
        return Finding(
            entry.id, entry.kind, entry.about, "" if model is None else model.path, desk.file, line,
            f"{entry.kind}", Outcome.ERROR, str(error),
        )  # fmt: skip


def _chosen(config: GateConfig, only: Sequence[str]) -> Iterable[Stated]:
    known = {r.settings.id: r for r in config.requirements}
    for name in only:
        if name not in known:
            raise BadInput(f"--only {name}: there is no such requirement; known are {', '.join(known)}")
    return [r for name, r in known.items() if not only or name in only]


def _folder(config: GateConfig, options: GateOptions) -> Path | None:
    if options.no_cache:
        return None
    if options.cache is not None:
        return options.cache
    return config.resolve(config.cache.path) if config.cache.path else None


def _limits(config: GateConfig, options: GateOptions) -> Limits:
    budget = config.budget
    domains = budget.max_domains if options.max_domains is None else options.max_domains
    query = _seconds(budget.query_seconds)
    if query is None and domains is None:
        query = DEFAULT_SECONDS
    total = options.seconds if options.seconds is not None else _seconds(budget.seconds)
    return Limits(total, query, domains, None if budget.memory is None else budget.memory << 20)


def _seconds(value: Fraction | None) -> float | None:
    return None if value is None else float(value)


def _report(desk: Desk, cache: Cache, options: GateOptions, seconds: float) -> GateReport:
    findings = tuple(desk.findings)
    outcome = worst(f.outcome for f in findings)
    questions = [q for f in findings for q in f.questions]
    reused = sum(q.source == "cache" for q in questions)
    answered = sum(q.source in ("proved", "clean") for q in questions)
    models = tuple(ModelFact(n, m.path, m.model.sha256) for n, m in sorted(desk.networks.items()))
    told = tuple(alerts(findings, cache.rejected, desk.file, desk.shown, options.unknown))
    return GateReport(
        desk.file, outcome, _exit(outcome, options.unknown), options.unknown, findings, told, models, reused,
        answered, len(cache.rejected), seconds, desk.config.top.seed, VERSION, _versions(),
        tuple(cache.notes),
    )  # fmt: skip


def _exit(outcome: Outcome, unknown: Unknown) -> GateExit:
    if outcome is Outcome.INCONCLUSIVE and unknown is not Unknown.FAIL:
        return GateExit.HOLDS
    return GateExit[outcome.name]


def _versions() -> Mapping[str, str]:
    import onnx
    import onnxruntime

    return {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "onnx": onnx.__version__,
        "onnxruntime": onnxruntime.__version__,
    }
