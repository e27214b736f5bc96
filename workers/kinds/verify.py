"""``verify``: one property of one network."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from bounds.errors import BadInput, SureboundError
from bounds.io.onnx import Model
from verifier.api import verify
from verifier.query import Options
from verifier.report.emit.assignment import assignment
from verifier.report.emit.json import as_dict
from verifier.report.emit.svg import svg
from verifier.report.model import Report
from verifier.report.progress import Progress as Snapshot
from verifier.spec.model import Property
from verifier.together import Question, verify_together
from verifier.verdict import Status, UnknownReason
from workers.jobs.model import Answer, Json, Progress
from workers.kinds.common import facts_of, model_of, property_of, semantics_of, write_json
from workers.task import CHECKPOINT, Ending, Hearer, Left, Task

ANSWERS = {
    Status.UNSAT: Answer.VERIFIED,
    Status.SAT: Answer.FALSIFIED,
    Status.UNKNOWN: Answer.UNKNOWN,
    Status.TIMED_OUT: Answer.UNKNOWN,
}
# work that is rather done again than proved without a certificate
REDONE_S = 60.0


def run(task: Task, hear: Hearer) -> Ending:
    """See :data:`workers.task.Run`."""
    model = model_of(task)
    prop = property_of(task.request.get("property"), model)
    return answer(task, model, prop, hear)


def answer(task: Task, model: Model, prop: Property, hear: Hearer) -> Ending:
    """Decides a property and writes what is left of it."""
    resume, spent = _resume(task)
    certificate = _certificate(task) if resume is None else None
    options = Options(
        timeout=max(task.timeout_s - spent, 1.0),
        semantics=semantics_of(task),
        seed=int(task.options.get("seed", 0)),
        max_domains=task.max_domains,
        memory=max(int(task.memory_mb * 0.6) << 20, 1 << 20),
    )
    report = verify(
        model,
        prop,
        options=options,
        certificate=certificate,
        progress=lambda now: hear.progress(_progress(now)),
        cancel=hear.cancelled,
        picture=True,
        checkpoint=task.out(CHECKPOINT),
        resume=resume,
    )
    facts = facts_of(task, model) if task.facts else None
    return _ending(task, report, prop, model, facts)


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
        questions = [Question(prop, _certificate(task)) for task, prop in pairs]
        options = Options(semantics=semantics_of(alike[0]))
        reports = verify_together(model, questions, options=options, should_stop=hear.cancelled)
        for (task, prop), report in zip(pairs, reports, strict=True):
            if report is not None:
                facts = facts_of(task, model) if task.facts and not found else None
                found[task.job] = _ending(task, report, prop, model, facts)
    return found


def _certificate(task: Task) -> Path | None:
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
        seconds = load(path).seconds
    except BadInput:  # it is damaged: nothing is lost but time
        return None, 0.0
    if wants_certificate(task) and seconds < REDONE_S:
        return None, 0.0
    return path, seconds


def _progress(now: Snapshot) -> Progress:
    return Progress(now.seconds, now.phase, now.domains, now.open, now.closed_fraction, now.lower_bound)


def _ending(task: Task, report: Report, prop: Property, model: Model, facts: Json | None) -> Ending:
    document = as_dict(report, prop) | {"certificate": None, "checkpoint": None}
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
        result=_result(report),
        files=tuple(files),
        facts=facts,
    )


def _result(report: Report) -> Json:
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
        "advice": list(report.advice),
        "notes": list(report.notes),
        "reason": report.reason.value,
        "property_sha256": report.property_sha256,
        "version": report.version,
    }


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
