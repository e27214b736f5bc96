"""Distributed branch and bound: a long job's open subproblems as jobs of their own (shards).

The job's child searches until there is somebody to share with, or for a while if it was told so; what is
open then is dealt out (:mod:`verifier.search.shards`), and every part becomes a job that any worker can take.
The slot that leads the job works on its shards too, so that none waits idly. A counterexample in one ends the
others; a lost worker's shard is queued again like any job. When all have closed their parts, a child joins
them into the job's verdict and certificate.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from bounds.errors import BadInput
from workers.jobs.artifacts import Artifacts
from workers.jobs.database import StoreUnreachable
from workers.jobs.model import (
    Answer,
    Artifact,
    Claim,
    Job,
    Kind,
    NewJob,
    Outcome,
    Progress,
    Signal,
    State,
)
from workers.jobs.store import JobStore
from workers.task import CHECKPOINT, END, WHOLE

Announce = Callable[[str, str], None]
SPLIT_AFTER_S = 2.0  # of searching alone, before a job is dealt out
MOST_WORKERS = 16  # that a job is dealt out to without having been asked
PER_WORKER = 4  # shards for each worker that was asked for: they differ in size


@dataclass(frozen=True, slots=True)
class Group:
    """The shards of one attempt, and how many there are."""

    lead: int
    count: int


def may_share(job: Job) -> bool:
    """Whether a job is dealt out without having been asked to: a search of which nothing else was said.

    A limit on subproblems is there to be repeated, which several workers cannot.
    """
    asked = job.request.get("options", {}).get("shards")
    return job.kind is Kind.VERIFY and asked is None and job.budget.max_domains is None


def nobody(job: str, queue: str) -> None:
    """Announces to nobody: workers poll."""
    del job, queue


def submit(
    store: JobStore,
    claim: Claim,
    whole: Artifact,
    files: Sequence[tuple[Artifact, int]],
    seconds: float,
    announce: Announce,
) -> None:
    """Makes the shards of a claimed job.

    Args:
        store, claim: of the job.
        whole: the checkpoint that was dealt out.
        files: of each shard its checkpoint, and its number of open nodes.
        seconds: that are left.
        announce: tells workers.
    """
    job = claim.job
    for number, (file, own) in enumerate(files):
        request = {n: job.request[n] for n in ("model", "property")} | {
            "options": {**job.request.get("options", {}), "shards": 0},
            "checkpoint": file.sha256,
            "whole": whole.sha256,
            "shard": asdict(Group(claim.attempt, len(files))) | {"number": number, "own": own},
        }
        budget = replace(job.budget, timeout_s=max(seconds, 1.0))
        new = NewJob(
            job.tenant,
            Kind.SHARD,
            request,
            budget,
            job.queue,
            # what nobody asked for is for workers that have nothing else to do
            job.priority + (-1 if may_share(job) else 1),
            job.max_attempts,
            parent=job.id,
        )
        made, _ = store.submit(new)
        announce(made.id, made.queue)


def group(store: JobStore, job: Job) -> list[Job]:
    """The latest complete group of shards that a job has."""
    by_lead: dict[int, list[Job]] = {}
    for shard in store.shards(job.id):
        by_lead.setdefault(int(shard.request["shard"]["lead"]), []).append(shard)
    for _, shards in sorted(by_lead.items(), reverse=True):
        if len(shards) == int(shards[0].request["shard"]["count"]):
            return shards
    return []


def decided(shards: Sequence[Job]) -> Outcome | None:
    """What the shards of a job say about it already; None while that is open, or all of them are closed.

    That all are closed proves nothing here: a child joins what they left (:mod:`verifier.join`).
    """
    broken = next((s for s in shards if s.answer is Answer.FALSIFIED), None)
    if broken is not None:
        result = broken.result | sums(shards)
        return Outcome(State.FINISHED, Answer.FALSIFIED, result=result, artifacts=broken.artifacts)
    failed = next((s for s in shards if s.state.final and s.answer is not Answer.VERIFIED), None)
    if failed is None:
        return None
    if failed.state is State.FAILED:
        return Outcome(State.FAILED, reason=failed.reason, error=f"a shard failed: {failed.error}")
    reason = failed.reason or "cancelled"
    return Outcome(State.FINISHED, Answer.UNKNOWN, reason, result=failed.result | sums(shards))


def closed(shards: Sequence[Job]) -> bool:
    """Whether every shard has closed its own part."""
    return bool(shards) and all(s.answer is Answer.VERIFIED for s in shards)


def parts(shards: Sequence[Job]) -> dict[str, str]:
    """The files of a join and their digests: the checkpoint that was dealt out, and what each shard left.

    Raises:
        BadInput: a shard left nothing.
    """
    found = {WHOLE: str(shards[0].request[WHOLE])}
    for shard in shards:
        end = shard.artifact(END)
        if end is None:
            raise BadInput(f"shard {shard.id} left no proof of its part")
        found[f"{END}-{shard.request['shard']['number']}"] = end.sha256
    return found


def sums(shards: Sequence[Job]) -> dict[str, Any]:
    """What a job's result says of its shards."""
    domains = sum(int(s.result.get("domains", 0)) for s in shards)
    return {
        "domains": domains, "shards": len(shards), "workers": len({s.worker for s in shards if s.worker}),
        "shard_seconds": sorted(round(float(s.result.get("seconds", 0.0)), 3) for s in shards),
        "notes": [f"searched in {len(shards)} shards by several workers"],
    }  # fmt: skip


def end_siblings(store: JobStore, shard: Job) -> None:
    """A counterexample decides the whole job: the others need not go on."""
    for other in store.shards(shard.parent):
        if other.id != shard.id and not other.state.final:
            store.cancel(other.id, None)


class Leader:
    """Keeps a job's lease while its shards are worked on.

    Args:
        beat_s, lease_s: as of the runner.
    """

    def __init__(self, store: JobStore, claim: Claim, beat_s: float, lease_s: float) -> None:
        self._store, self._claim, self._beat_s, self._lease_s = store, claim, beat_s, lease_s
        self._end = threading.Event()
        self.signal = Signal.CONTINUE
        self._seconds = 0.0
        self._thread = threading.Thread(target=self._keep, daemon=True)
        self._thread.start()

    def _keep(self) -> None:
        while not self._end.wait(self._beat_s):
            self._seconds += self._beat_s
            try:
                shards = group(self._store, self._claim.job)
                done = sum(s.state.final for s in shards)
                domains = sum(s.progress.domains for s in shards if s.progress)
                closed = done / len(shards) if shards else 0.0
                now = Progress(
                    self._seconds, "shards", domains, closed_fraction=closed, done=done, total=len(shards)
                )
                news = now if int(self._seconds / self._beat_s) % 4 == 0 else None
                self.signal = self._store.heartbeat(self._claim, news, self._lease_s)
            except StoreUnreachable:
                continue

    def wait(self, seconds: float) -> None:
        """A pause between two looks at the shards."""
        self._end.wait(seconds)

    def close(self) -> None:
        """The job is final, or somebody else's."""
        self._end.set()
        self._thread.join()


def drop_files(artifacts: Artifacts, shards: Sequence[Job]) -> None:
    """Checkpoints of shards are of no use once their job is final."""
    for shard in shards:
        end = shard.artifact(END)
        kept = shard.artifact(CHECKPOINT)
        files = [str(shard.request[n]) for n in (CHECKPOINT, WHOLE)]
        for digest in {*files, *(a.sha256 for a in (end, kept) if a is not None)}:
            artifacts.delete(digest)
