"""``shard``: a part of another job's open subproblems, from a checkpoint that was dealt out."""

from __future__ import annotations

from workers.kinds.common import model_of, property_of
from workers.kinds.verify import answer
from workers.task import Ending, Hearer, Task


def run(task: Task, hear: Hearer) -> Ending:
    """See :data:`workers.task.Run`. "Verified" speaks about the shard's own part only."""
    model = model_of(task)
    return answer(task, model, property_of(task.request.get("property"), model), hear)
