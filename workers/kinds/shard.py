"""``shard``: a part of another job's open subproblems, from a checkpoint that was dealt out."""

from __future__ import annotations

from pathlib import Path

from bounds.errors import BadInput
from verifier.api import verify
from verifier.verdict import UnknownReason
from workers.jobs.model import Answer
from workers.kinds.common import model_of, property_of
from workers.kinds.verify import certificate_of, ending_of, options_of, progress_of, result_of
from workers.task import CHECKPOINT, END, Ending, Hearer, Left, Task


def run(task: Task, hear: Hearer) -> Ending:
    """See :data:`workers.task.Run`. "Verified" says that the shard's own part is closed, and nothing else."""
    from verifier.search.checkpoint import load

    model = model_of(task)
    prop = property_of(task.request.get("property"), model)
    if CHECKPOINT not in task.files:
        raise BadInput("the shard's checkpoint is missing")
    path = Path(task.files[CHECKPOINT])
    report = verify(
        model,
        prop,
        options=options_of(task, load(path).seconds),
        certificate=certificate_of(task),
        progress=lambda now: hear.progress(progress_of(now)),
        cancel=hear.cancelled,
        checkpoint=task.out(CHECKPOINT),
        resume=path,
    )
    if report.reason is not UnknownReason.PART:
        return ending_of(task, report, prop, model, None)
    left = Left(END, CHECKPOINT, "application/zip")
    return Ending(Answer.VERIFIED, result=result_of(task, report), files=(left,))
