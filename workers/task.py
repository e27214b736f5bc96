"""What passes between a worker and its child: JSON objects, one a line, over pipes.

To the child: ``{"tasks": [...]}``, ``{"cancel": ...}``, and ``{"deal": workers}`` where other workers have
nothing to do. From it: ``{"ready": ...}`` once, for each
task ``{"job", "progress"}`` now and then and ``{"job", "ending"}`` at its end; after the last of them
``{"idle": ...}``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from workers.jobs.model import Answer, Job, Json, Kind, Progress

CHECKPOINT = "checkpoint"
# of a job that was dealt out: its checkpoint then, and what its shards left (END, and their numbers)
WHOLE, END = "whole", "end"
NO_ROOM = "no-room"  # why a task was returned: the disk is full


@dataclass(frozen=True, slots=True)
class Task:
    """One attempt, as the child sees it.

    Attributes:
        job: its id; kind, request, timeout_s, memory_mb, max_domains: of the job.
        digests: name -> digest of a file that the job reads ("model", "data", "certificate", "checkpoint").
        files: name -> where that file is.
        folder: where results go; nobody else writes there.
        facts: whether to read off what the network is made of.
    """

    job: str
    kind: str
    request: Json
    timeout_s: float
    memory_mb: int
    max_domains: int | None
    digests: dict[str, str]
    files: dict[str, str]
    folder: str
    facts: bool = False

    @staticmethod
    def of(job: Job, digests: dict[str, str], files: dict[str, str], folder: Path, *, facts: bool) -> Task:
        """The task of a claimed job. Shards share their job's time: it runs while they wait, too."""
        budget, seconds = job.budget, job.budget.timeout_s
        if job.kind is Kind.SHARD:
            waited = max((job.started or job.created) - job.created, 0.0)
            seconds = max(seconds - waited, 0.1)
        return Task(
            job.id, job.kind.value, job.request, seconds, budget.memory_mb, budget.max_domains,
            digests, files, str(folder), facts,
        )  # fmt: skip

    def out(self, name: str) -> Path:
        """Where a result of that name is written."""
        return Path(self.folder) / name

    @property
    def options(self) -> Json:
        """The part of the request that says how."""
        return dict(self.request.get("options") or {})


@dataclass(frozen=True, slots=True)
class Left:
    """A file that a task wrote in its folder."""

    name: str
    file: str
    media_type: str


@dataclass(frozen=True, slots=True)
class Ending:
    """How a task ended.

    Attributes:
        answer: the verdict; None: it failed, or was stopped.
        reason: why unknown or failed, in a word.
        stopped: whether it stopped because it was told to.
        returned: whether it was only looked at together with others (or there was no room for its files), and
            is to be queued again.
        result, error, files: as of :class:`workers.jobs.model.Outcome`.
        facts: about the network, if asked for.
        shards: checkpoints that the job is to go on from, with their numbers of open nodes, or none.
        suspect: whether the child should not be used again.
        cpu_seconds: processor time.
    """

    answer: Answer | None = None
    reason: str = ""
    stopped: bool = False
    returned: bool = False
    result: Json = field(default_factory=dict[str, Any])
    error: str = ""
    files: tuple[Left, ...] = ()
    facts: Json | None = None
    shards: tuple[tuple[Left, int], ...] = ()
    suspect: bool = False
    cpu_seconds: float = 0.0

    def as_json(self) -> Json:
        """For the pipe."""
        return asdict(self) | {"answer": None if self.answer is None else self.answer.value}

    @staticmethod
    def from_json(told: Json) -> Ending:
        """From the pipe; raises KeyError, TypeError or ValueError where it is none."""
        files = tuple(Left(**one) for one in told.pop("files"))
        shards = tuple((Left(**left), int(nodes)) for left, nodes in told.pop("shards"))
        answer = told.pop("answer")
        return Ending(answer=None if answer is None else Answer(answer), files=files, shards=shards, **told)


class Hearer(Protocol):
    """Who a task talks to."""

    def progress(self, now: Progress) -> None:
        """How far it is; passed on a few times a second at most."""
        ...

    def cancelled(self) -> bool:
        """Whether to stop."""
        ...

    def wanted(self) -> int:
        """How many workers the search could be dealt out to; 0: nobody waits for work."""
        ...


Run = Callable[[Task, Hearer], Ending]
