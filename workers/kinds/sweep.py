"""``sweep``: clean and certified accuracy of a classifier on a data set."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from bounds.errors import BadInput
from verifier.robustness.data import Reading, load_samples
from verifier.robustness.measure import RobustnessOptions, robustness
from verifier.robustness.picture import picture
from verifier.robustness.result import RobustnessReport
from workers.jobs.model import Answer, Progress
from workers.kinds.common import exact, facts_of, model_of, named, semantics_of, write_json
from workers.task import Ending, Hearer, Left, Task


class Stopped(Exception):
    """The sweep was told to stop."""


def run(task: Task, hear: Hearer) -> Ending:
    """See :data:`workers.task.Run`. The verdict is of "every sample is certified at every radius"."""
    asked, model = task.request, model_of(task)
    if len(model.graph.inputs) != 1:
        raise BadInput(f"the model has {len(model.graph.inputs)} inputs; a classifier of samples has one")
    seed = int(task.options.get("seed", 0))
    reading = Reading(count=asked.get("samples"), seed=seed, scale=asked.get("scale"))
    data = named(task, "data", ".npz")
    samples = load_samples(data, model.graph.inputs[0].shape, model.graph.output_size, reading)
    clip: Any = asked.get("clip")
    options = RobustnessOptions(
        norm=str(asked.get("norm", "2")),
        method=str(asked.get("method", "auto")),
        clip=None if clip is None else (exact(clip[0]), exact(clip[1])),
        semantics=semantics_of(task),
        timeout=task.timeout_s,
        sample_timeout=float(asked.get("sample_timeout_s", 10.0)),
        seed=seed,
    )
    begun = time.monotonic()

    def watch(phase: str) -> None:
        if hear.cancelled():
            raise Stopped
        name, _, message = phase.partition(": ")
        hear.progress(Progress(time.monotonic() - begun, name, total=len(samples), message=message))

    try:
        with np.errstate(all="ignore"):
            report = robustness(
                model, samples, [str(r) for r in asked["radii"]], options=options, watch=watch
            )
    except Stopped:
        return Ending(reason="cancelled", stopped=True)
    return _ending(task, report, facts=facts_of(task, model) if task.facts else None)


def _ending(task: Task, report: RobustnessReport, facts: Any) -> Ending:
    document = report.as_dict()
    files = [write_json(task, "report.json", document)]
    task.out("picture.svg").write_text(picture(report), encoding="utf-8")
    files.append(Left("picture.svg", "picture.svg", "image/svg+xml"))
    small = {name: value for name, value in document.items() if name != "results"}
    table = report.table
    if bool(table.robust.all()):
        found, reason = Answer.VERIFIED, ""
    elif bool(table.broken.any()):
        found, reason = Answer.FALSIFIED, ""
    else:
        found, reason = Answer.UNKNOWN, "open-samples"
    return Ending(found, reason, result=small, files=tuple(files), facts=facts)
