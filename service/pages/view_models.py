"""What pages show, as plain values: nothing here knows HTTP or templates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from service.pages import svg, words
from service.pages.counterexample import Counterexample
from service.pages.svg import Chart
from service.pages.words import Mark
from workers.jobs.model import Answer, Event, Job, Kind, Model

# artefact -> (words, what it is for)
_FILES: Final = {
    "certificate": ("Certificate", "the proof, for “verify check”"),
    "witness.json": ("Counterexample", "exact numbers, as JSON"),
    "witness.npz": ("Counterexample", "as NumPy arrays"),
    "report.json": ("Report", "everything that was found, as JSON"),
    "picture.svg": ("Picture", "as SVG"),
    "model.onnx": ("Trained network", "as ONNX"),
    "checkpoint": ("Checkpoint", "to go on from"),
}
_REPORTS: Final = (
    ("sarif", "SARIF", "for code scanning"),
    ("xml", "JUnit XML", "for test reports"),
    ("html", "Plain page", "to print or send"),
)
_TEXT: Final = 20_000


@dataclass(frozen=True, slots=True)
class JobRow:
    """A job in a list."""

    id: str
    mark: Mark
    kind: str
    question: str
    model: str
    model_name: str
    created: float
    seconds: float | None
    final: bool


@dataclass(frozen=True, slots=True)
class Download:
    """A file to take along."""

    href: str
    label: str
    what: str
    size: int | None


@dataclass(frozen=True, slots=True)
class JobPage:
    """A job, whole."""

    row: JobRow
    headline: str
    explanation: str
    meaning: str
    steps: tuple[str, ...]
    notes: tuple[str, ...]
    facts: tuple[tuple[str, str], ...]
    statistics: tuple[tuple[str, str], ...]
    progress: tuple[str, float] | None
    charts: tuple[Chart, ...]
    downloads: tuple[Download, ...]
    counterexample: Counterexample | None
    property_text: str
    picture: str
    main_file: str
    cached_from: str
    cancellable: bool
    checkable: bool
    final: bool


@dataclass(frozen=True, slots=True)
class ModelRow:
    """A network in a list."""

    sha256: str
    name: str
    size: int
    created: float
    summary: str


def model_name(model: Model | None, sha256: str) -> str:
    """The file's name, or the beginning of its digest."""
    return model.name if model is not None and model.name else sha256[:12]


def job_row(job: Job, names: Mapping[str, str]) -> JobRow:
    """A job in a list; ``names`` are of the networks by digest."""
    digest = str(job.request.get("model") or "")
    took = None if job.started is None or job.finished is None else job.finished - job.started
    return JobRow(
        id=job.id,
        mark=words.mark(job),
        kind=words.KINDS[job.kind],
        question=words.question(job),
        model=digest,
        model_name=names.get(digest, digest[:12]),
        created=job.created,
        seconds=took,
        final=job.state.final,
    )


def job_page(
    job: Job, events: Sequence[Event], names: Mapping[str, str], counterexample: Counterexample | None
) -> JobPage:
    """Everything about a job."""
    prop: Any = job.request.get("property") or {}
    notes = [n for key in ("explanation", "notes") for n in listed(job.result.get(key))]
    return JobPage(
        row=job_row(job, names),
        headline=words.headline(job),
        explanation=words.explanation(job),
        meaning=words.meaning(job),
        steps=words.next_steps(job),
        notes=tuple(str(n) for n in notes[:12]),
        facts=_facts(job),
        statistics=_statistics(job),
        progress=_progress(job),
        charts=charts(job, events),
        downloads=downloads(job),
        counterexample=counterexample,
        property_text=_shortened(str(prop.get("vnnlib") or job.request.get("config") or "")),
        picture=f"/jobs/{job.id}/files/picture.svg" if job.artifact("picture.svg") else "",
        main_file=_main_file(job),
        cached_from=job.cached_from,
        cancellable=not job.state.final and not job.cancel_requested,
        checkable=job.state.final and job.artifact("certificate") is not None and job.kind is not Kind.CHECK,
        final=job.state.final,
    )


def _main_file(job: Job) -> str:
    """The file that most readers came for, or ""."""
    wanted = ("witness.json", "model.onnx", "certificate")
    return next((f"/jobs/{job.id}/files/{name}" for name in wanted if job.artifact(name)), "")


def listed(value: Any) -> list[Any]:
    """A list, as it came; nothing where it is none. What workers wrote long ago may look otherwise."""
    return list(value) if isinstance(value, list) else []


def _shortened(text: str) -> str:
    return text if len(text) <= _TEXT else text[:_TEXT] + "\n; … cut here"


def _facts(job: Job) -> tuple[tuple[str, str], ...]:
    budget = job.budget
    options: Any = job.request.get("options") or {}
    found = [
        ("Asked", words.moment(job.created)),
        ("Arithmetic", "float32" if options.get("semantics") == "float32" else "real numbers"),
        ("Time limit", words.seconds(budget.timeout_s)),
        ("Memory limit", f"{budget.memory_mb:,} MB"),
    ]
    if budget.max_domains is not None:
        found.append(("Most subproblems", f"{budget.max_domains:,}"))
    if job.started is not None and job.finished is not None:
        found.append(("Took", words.seconds(job.finished - job.started)))
    if job.cpu_seconds:
        found.append(("Processor time", words.seconds(job.cpu_seconds)))
    for key, word in (("method", "Method"), ("strategy", "Strategy")):
        if isinstance(job.result.get(key), str) and job.result[key]:
            found.append((word, str(job.result[key])))
    if job.attempt > 1:
        found.append(("Attempt", f"{job.attempt} of {job.max_attempts}"))
    return tuple(found)


# key of the result -> words; whole numbers of the search tree
_COUNTS: Final = (
    ("domains", "Subproblems"),
    ("leaves", "Leaves of the tree"),
    ("samples", "Samples"),
    ("nodes", "Nodes checked"),
    ("elements", "Elements"),
)


def _statistics(job: Job) -> tuple[tuple[str, str], ...]:
    result, now = job.result, job.progress
    found: list[tuple[str, str]] = []
    if not job.state.final and now is not None:
        if now.domains:
            found += [("Subproblems", f"{now.domains:,}"), ("Still open", f"{now.open:,}")]
        if now.lower_bound is not None:
            found.append(("Worst bound", svg.number(now.lower_bound)))
        return (*found, ("Time so far", words.seconds(now.seconds)))
    found += [(word, f"{result[k]:,}") for k, word in _COUNTS if isinstance(result.get(k), int) and result[k]]
    for key, word in (("lower_bound", "Worst bound"), ("upper", "Proved bound"), ("lower", "At least")):
        value = result.get(key)
        if isinstance(value, int | float):
            found.append((word, svg.number(float(value))))
    if isinstance(result.get("closed_fraction"), float) and job.answer is not Answer.FALSIFIED:
        found.append(("Region settled", f"{result['closed_fraction']:.1%}"))
    if isinstance(result.get("clean"), int | float):
        found.append(("Right without change", f"{result['clean']:.1%}"))
    return tuple(found)


def _progress(job: Job) -> tuple[str, float] | None:
    """Words and a share in [0, 1], while the job runs."""
    now = job.progress
    if job.state.final or now is None:
        return None
    if now.total:
        text = f"{now.phase or 'working'}: {now.done:,} of {now.total:,}"
        return (f"{text}. {now.message}" if now.message else text), now.done / now.total
    text = f"{now.phase or 'working'}: {now.closed_fraction:.1%} of the region settled"
    return text, min(max(now.closed_fraction, 0.0), 1.0)


def charts(job: Job, events: Sequence[Event]) -> tuple[Chart, ...]:
    """The pictures that a job has numbers for."""
    if job.kind is Kind.SWEEP:
        return tuple(c for c in (accuracy([("Certified", job)]), _phases(job)) if c is not None)
    bound, settled = _history(events)
    last = job.result.get("lower_bound")
    took = job.result.get("seconds")
    if isinstance(last, int | float) and isinstance(took, int | float) and bound:
        bound.append((float(took), float(last)))
    found: list[Chart | None] = []
    if len(bound) > 1:
        axes = svg.Axes(
            "Worst bound over time", "seconds", "lower bound", mark=(0.0, "proved above this line")
        )
        found.append(svg.lines("bound", [svg.Series("Lower bound", bound, step="left")], axes))
    if len(settled) > 1:
        axes = svg.Axes(
            "Region settled over time", "seconds", "share of the region", y_from=0, y_to=1, percent=True
        )
        found.append(svg.lines("settled", [svg.Series("Settled", settled, 2, step="left")], axes))
    found.append(_phases(job))
    return tuple(c for c in found if c is not None)


def _history(events: Sequence[Event]) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
    """Bound and settled share by seconds, of the last attempt: another one begins at nought."""
    bound: list[tuple[float, float]] = []
    settled: list[tuple[float, float]] = []
    for event in events:
        if event.name == "state" and event.data.get("state") == "running":
            bound, settled = [], []
        if event.name not in ("progress", "bound"):
            continue
        at, low = event.data.get("seconds"), event.data.get("lower_bound")
        if not isinstance(at, int | float):
            continue
        if isinstance(low, int | float):
            bound.append((float(at), float(low)))
        share = event.data.get("closed_fraction")
        if isinstance(share, int | float) and event.data.get("domains"):
            settled.append((float(at), float(share)))
    return bound, settled


def _phases(job: Job) -> Chart | None:
    phases: Any = job.result.get("phases")
    if not isinstance(phases, dict):
        return None
    spent = [(str(k), float(v), 1) for k, v in phases.items() if isinstance(v, int | float) and v > 0]
    spent.sort(key=lambda p: -p[1])
    return svg.bars("phases", "Where the time went", spent[:8], words.seconds)


def accuracy(sweeps: Sequence[tuple[str, Job]]) -> Chart | None:
    """Certified accuracy by radius; with one sweep also what it cannot exceed.

    Between two radii the larger one's accuracy is proved, and the smaller one's cannot be exceeded.
    """
    series: list[svg.Series] = []
    norms: set[str] = set()
    for i, (name, job) in enumerate(sweeps[:4]):
        rows: Any = job.result.get("radii")
        if not isinstance(rows, list):
            continue
        norms.add(words.NORMS.get(str(job.result.get("norm")), "norm"))
        clean = job.result.get("clean")
        start = [(0.0, float(clean))] if isinstance(clean, int | float) else []
        good: Any = [r for r in rows if isinstance(r, dict) and {"value", "certified"} <= set(r)]
        points = [(float(r["value"]), float(r["certified"])) for r in good if r["value"] > 0]
        series.append(svg.Series(name, [*start, *points], i + 1, "right"))
        if len(sweeps) == 1:
            most = [(float(r["value"]), float(r["upper"])) for r in good if "upper" in r and r["value"] > 0]
            series.append(svg.Series("At most", [*_ceiling(job), *most], 3, "left"))
    title = "Certified accuracy by radius"
    axes = svg.Axes(title, f"radius ({', '.join(sorted(norms))})", "accuracy", y_from=0, y_to=1, percent=True)
    return svg.lines("accuracy", series, axes)


def _ceiling(job: Job) -> list[tuple[float, float]]:
    """What accuracy without any change cannot exceed: samples that are proved wrong count against it."""
    wrong = job.result.get("clean_wrong")
    return [(0.0, 1.0 - float(wrong))] if isinstance(wrong, int | float) else []


def downloads(job: Job) -> tuple[Download, ...]:
    """Files and reports of an ended job."""
    found: list[Download] = []
    for artifact in job.artifacts:
        label, what = _FILES.get(artifact.name, (artifact.name, artifact.media_type))
        found.append(Download(f"/jobs/{job.id}/files/{artifact.name}", label, what, artifact.size))
    if job.state.final:
        found += [
            Download(f"/jobs/{job.id}/report.{form}", f"Report, {label}", what, None)
            for form, label, what in _REPORTS
        ]
    return tuple(found)


def model_row(model: Model) -> ModelRow:
    """A network in a list."""
    facts = model.facts
    parts: list[str] = []
    if isinstance(facts.get("parameters"), int):
        parts.append(f"{facts['parameters']:,} parameters")
    if isinstance(facts.get("neurons"), int):
        parts.append(f"{facts['neurons']:,} ReLU neurons")
    return ModelRow(
        model.sha256, model_name(model, model.sha256), model.size, model.created, ", ".join(parts)
    )
