"""``shard``: a part of another job's open subproblems, from a checkpoint that was dealt out."""

from __future__ import annotations

from pathlib import Path

from bounds.errors import BadInput
from verifier.api import verify
from verifier.search.checkpoint import State, load
from verifier.search.resume import Warm
from verifier.verdict import UnknownReason
from workers.jobs.model import Answer
from workers.kinds.common import model_of, property_of
from workers.kinds.verify import certificate_of, ending_of, options_of, progress_of, result_of
from workers.task import CHECKPOINT, END, Ending, Hearer, Left, Task

# of the checkpoint whose shards this child had last
_WARM: dict[str, Warm] = {}


def _warm(state: State) -> Warm:
    """What this child's runs on shards of one checkpoint share."""
    if state.dealt is None:
        raise BadInput("the shard's checkpoint is that of a whole search")
    if state.dealt.of not in _WARM:
        _WARM.clear()
        _WARM[state.dealt.of] = Warm()
    return _WARM[state.dealt.of]


def run(task: Task, hear: Hearer) -> Ending:
    """See :data:`workers.task.Run`. "Verified" says that the shard's own part is closed, and nothing else."""
    model = model_of(task)
    prop = property_of(task.request.get("property"), model)
    if CHECKPOINT not in task.files:
        raise BadInput("the shard's checkpoint is missing")
    path = Path(task.files[CHECKPOINT])
    state = load(path)
    report = verify(
        model,
        prop,
        options=options_of(task, state.seconds),
        certificate=certificate_of(task),
        progress=lambda now: hear.progress(progress_of(now)),
        cancel=hear.cancelled,
        checkpoint=task.out(CHECKPOINT),
        resume=path,
        warm=_warm(state),
    )
    if report.reason is not UnknownReason.PART:
        return ending_of(task, report, prop, model, None)
    left = Left(END, CHECKPOINT, "application/zip")
    return Ending(Answer.VERIFIED, result=result_of(task, report), files=(left,))
