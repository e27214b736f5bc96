"""``verify``: one property of one network."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bounds.errors import BadInput, SureboundError
from bounds.io.onnx import Model
from verifier.api import verify
from verifier.join import join
from verifier.query import Options
from verifier.report.emit.assignment import assignment
from verifier.report.emit.json import as_dict
from verifier.report.emit.svg import svg
from verifier.report.model import Report
from verifier.report.progress import Progress as Snapshot
from verifier.spec.model import Property
from verifier.together import Question, verify_together
from verifier.verdict import Status, UnknownReason
from workers.cubes import PER_WORKER, SPLIT_AFTER_S
from workers.jobs.model import Answer, Json, Progress
from workers.kinds.common import facts_of, model_of, property_of, semantics_of, write_json
from workers.task import CHECKPOINT, END, WHOLE, Ending, Hearer, Left, Task

ANSWERS = {
    Status.UNSAT: Answer.VERIFIED,
    Status.SAT: Answer.FALSIFIED,
    Status.UNKNOWN: Answer.UNKNOWN,
    Status.TIMED_OUT: Answer.UNKNOWN,
}


def run(task: Task, hear: Hearer) -> Ending:
    """See :data:`workers.task.Run`."""
    model = model_of(task)
    prop = property_of(task.request.get("property"), model)
    if WHOLE in task.files:
        return _joined(task, model, prop)
    return answer(task, model, prop, hear)


def answer(task: Task, model: Model, prop: Property, hear: Hearer) -> Ending:
    """Decides a property and writes what is left of it, or deals out what is open."""
    resume, before = _resume(task)
    spent = before
    sharing = Sharing(task, hear)
    certificate = certificate_of(task)
    while True:
        report = verify(
            model,
            prop,
            options=options_of(task, spent),
            certificate=certificate,
            progress=sharing.progress,
            cancel=sharing.stop,
            picture=True,
            checkpoint=task.out(CHECKPOINT),
            resume=resume,
        )
        if not sharing.due or report.reason is not UnknownReason.CANCELLED or hear.cancelled():
            break
        shards = sharing.deal() if report.checkpoint else ()
        if shards:
            return Ending(facts=facts_of(task, model) if task.facts else None, shards=shards)
        spent, resume = before + sharing.again(), task.out(CHECKPOINT) if report.checkpoint else resume
    facts = facts_of(task, model) if task.facts else None
    return ending_of(task, report, prop, model, facts)


def options_of(task: Task, spent: float = 0.0) -> Options:
    """How a task is to be searched, of whose seconds some are ``spent``."""
    return Options(
        timeout=max(task.timeout_s - spent, 0.1),
        semantics=semantics_of(task),
        seed=int(task.options.get("seed", 0)),
        max_domains=task.max_domains,
        memory=max(int(task.memory_mb * 0.6) << 20, 1 << 20),
    )


def _joined(task: Task, model: Model, prop: Property) -> Ending:
    """The end of a job that was dealt out."""
    ends = [Path(file) for name, file in sorted(task.files.items()) if name.startswith(f"{END}-")]
    try:
        report = join(
            model, prop, task.files[WHOLE], ends, options=options_of(task), certificate=certificate_of(task)
        )
    except MemoryError:  # the evidence of all parts together: the verdict needs none of it
        report = join(model, prop, task.files[WHOLE], ends, options=options_of(task))
        note = f"no certificate: putting it together needed more than memory_mb = {task.memory_mb}"
        report = replace(report, notes=(*report.notes, note))
    ending = ending_of(task, report, prop, model, facts_of(task, model) if task.facts else None)
    return replace(ending, result=ending.result | {"shards": len(ends)})


class Sharing:
    """When a search is dealt out, and how.

    A task that asks for ``shards`` (a number of workers) is after some seconds; one that says nothing of them
    is when its worker hears of others without work; one that asks for 0 is not.
    """

    def __init__(self, task: Task, hear: Hearer) -> None:
        self._task, self._hear = task, hear
        self._begun = time.monotonic()
        self._open = 0
        self._alone = float(task.options.get("split_after_s", SPLIT_AFTER_S))
        asked = task.options.get("shards")
        self._asked = None if asked is None else int(asked)
        self.workers = 0

    @property
    def due(self) -> bool:
        """Whether the search was stopped to be dealt out."""
        return self.workers > 1

    def progress(self, now: Snapshot) -> None:
        """Passes it on."""
        self._open = now.open
        self._hear.progress(progress_of(now))

    def stop(self) -> bool:
        """Whether the search is to stop: it was cancelled, or is to be dealt out now."""
        return self._hear.cancelled() or self._ready()

    def _ready(self) -> bool:
        if self._asked is None:
            wanted = self._hear.wanted()
        else:
            wanted = self._asked if time.monotonic() - self._begun >= self._alone else 0
        # with fewer there would be workers without any
        if wanted > 1 and self._open >= wanted * PER_WORKER:
            self.workers = wanted
        return self.due

    def deal(self) -> tuple[tuple[Left, int], ...]:
        """The checkpoint just written, dealt out; nothing where that does not help."""
        from verifier.search.checkpoint import load, save
        from verifier.search.shards import deal

        shards = deal(load(self._task.out(CHECKPOINT)), self.workers * PER_WORKER)
        if len(shards) < 2:
            return ()
        found: list[tuple[Left, int]] = []
        for number, shard in enumerate(shards):
            name = f"shard-{number}"
            save(self._task.out(name), shard.state)
            found.append((Left(name, name, "application/zip"), shard.nodes))
        return tuple(found)

    def again(self) -> float:
        """Goes on alone, for it could not be dealt out; the seconds that are spent."""
        self.workers, self._asked = 0, 0
        return time.monotonic() - self._begun


def together(tasks: Sequence[Task], hear: Hearer) -> dict[str, Ending]:
    """What one block of bounds proves of tasks about one network; the others are not in the answer."""
    model = model_of(tasks[0])
    found: dict[str, Ending] = {}
    by_meaning: dict[str, list[Task]] = {}
    for task in tasks:
        if CHECKPOINT not in task.files:
            by_meaning.setdefault(semantics_of(task).value, []).append(task)
    for alike in by_meaning.values():
        pairs: list[tuple[Task, Property]] = []
        for task in alike:
            with suppress(SureboundError):  # it will fail by itself, with its reason
                pairs.append((task, property_of(task.request.get("property"), model)))
        questions = [Question(prop, certificate_of(task)) for task, prop in pairs]
        options = Options(semantics=semantics_of(alike[0]))
        reports = verify_together(model, questions, options=options, should_stop=hear.cancelled)
        for (task, prop), report in zip(pairs, reports, strict=True):
            if report is not None:
                facts = facts_of(task, model) if task.facts and not found else None
                found[task.job] = ending_of(task, report, prop, model, facts)
    return found


def certificate_of(task: Task) -> Path | None:
    """Where the certificate is written, if one is wanted."""
    return task.out("certificate.sbcert") if wants_certificate(task) else None


def wants_certificate(task: Task) -> bool:
    """Whether a proof is to be kept."""
    return bool(task.options.get("certificate", True))


def _resume(task: Task) -> tuple[Path | None, float]:
    """The checkpoint to go on from, and the seconds before it; none where a certificate is worth more."""
    if CHECKPOINT not in task.files:
        return None, 0.0
    from verifier.search.checkpoint import load

    path = Path(task.files[CHECKPOINT])
    try:
        state = load(path)
    except BadInput:  # it is damaged: nothing is lost but time
        return None, 0.0
    if wants_certificate(task) and state.kept is None:
        return None, 0.0
    return path, state.seconds


def progress_of(now: Snapshot) -> Progress:
    """A snapshot as the store knows it."""
    return Progress(now.seconds, now.phase, now.domains, now.open, now.closed_fraction, now.lower_bound)


def ending_of(task: Task, report: Report, prop: Property, model: Model, facts: Json | None) -> Ending:
    """The ending of a task whose report is known; writes its files."""
    hidden = {"certificate": None, "checkpoint": None, "resumed": CHECKPOINT if report.resumed else None}
    document = as_dict(report, prop) | hidden | _shown(task, report)
    files = [write_json(task, "report.json", document)]
    if report.certificate:
        files.append(Left("certificate", Path(report.certificate).name, "application/zip"))
    if report.checkpoint:
        files.append(Left(CHECKPOINT, CHECKPOINT, "application/zip"))
    if report.witness is not None:
        files += write_witness(task, report, prop, model)
    if report.picture is not None and report.stats.domains > 1:  # else there is nothing to see
        task.out("picture.svg").write_text(svg(report), encoding="utf-8")
        files.append(Left("picture.svg", "picture.svg", "image/svg+xml"))
    return Ending(
        ANSWERS[report.status],
        report.reason.name.lower().replace("none", ""),
        stopped=report.reason is UnknownReason.CANCELLED,
        result=result_of(task, report),
        files=tuple(files),
        facts=facts,
    )


def result_of(task: Task, report: Report) -> Json:
    """The small part of a report."""
    return {
        "domains": report.stats.domains,
        "leaves": report.stats.leaves,
        "seconds": report.stats.seconds,
        "phases": dict(report.stats.phases),
        "lower_bound": report.lower_bound,
        "closed_fraction": report.closed_fraction,
        "semantics": report.semantics.value,
        "strategy": report.strategy,
        "explanation": list(report.explanation),
        "reason": report.reason.value,
        "property_sha256": report.property_sha256,
        "version": report.version,
    } | _shown(task, report)


def _shown(task: Task, report: Report) -> Json:
    """Advice and notes for people who have neither this command line nor this machine's files."""
    notes = list(report.notes)
    for name, path in (*task.files.items(), (CHECKPOINT, str(task.out(CHECKPOINT)))):
        notes = [note.replace(path, f"the {name}") for note in notes]
    return {"advice": [a for a in report.advice if "--" not in a], "notes": notes}


def write_witness(task: Task, report: Report, prop: Property, model: Model) -> list[Left]:
    """A counterexample: exact in text, rounded as arrays in the shapes of the network's tensors."""
    witness = report.witness
    assert witness is not None
    x, y = (np.array([float(v) for v in values]) for values in (witness.x, witness.y))
    shapes: dict[str, list[int]] = {}
    arrays: dict[str, Any] = {"input": x, "output": y}
    for name, ports, values in (("input", model.graph.inputs, x), ("output", model.graph.outputs, y)):
        if len(ports) == 1 and int(np.prod(ports[0].shape)) == len(values):
            shapes[name] = [int(n) for n in ports[0].shape]
            arrays[name] = values.reshape(shapes[name])
    np.savez(task.out("witness.npz"), **arrays)
    told = as_dict(report, prop)["witness"]
    shown = {"shapes": shapes, "values": {"input": x.tolist(), "output": y.tolist()}}
    text = assignment(report, prop)
    return [
        write_json(task, "witness.json", told | shown | {"assignment": text}),
        Left("witness.npz", "witness.npz", "application/octet-stream"),
    ]
