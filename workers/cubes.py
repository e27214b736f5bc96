"""Distributed branch and bound: a long job's open subproblems as jobs of their own (shards).

The job's child searches for a while; what is open then is dealt out (:mod:`verifier.search.shards`), and
every part becomes a job that any worker can take. The slot that leads the job works on its shards too, so
that none waits idly. A counterexample in one ends the others; a lost worker's shard is queued again like any
job.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

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

Announce = Callable[[str, str], None]
SPLIT_AFTER_S = 5.0  # of searching alone, before a job is dealt out
PER_WORKER = 4  # shards for each worker that was asked for: they differ in size


@dataclass(frozen=True, slots=True)
class Group:
    """The shards of one attempt; ``nodes``: what the checkpoint had open, all of them together."""

    lead: int
    count: int
    nodes: int


def nobody(job: str, queue: str) -> None:
    """Announces to nobody: workers poll."""
    del job, queue


def submit(
    store: JobStore, claim: Claim, files: Sequence[tuple[Artifact, int]], seconds: float, announce: Announce
) -> None:
    """Makes the shards of a claimed job: (its checkpoint, its open nodes) each."""
    job = claim.job
    nodes = sum(n for _, n in files)
    for number, (file, own) in enumerate(files):
        request = {n: job.request[n] for n in ("model", "property")} | {
            "options": {**job.request.get("options", {}), "certificate": False, "shards": 0},
            "checkpoint": file.sha256,
            "shard": asdict(Group(claim.attempt, len(files), nodes)) | {"number": number, "own": own},
        }
        budget = replace(job.budget, timeout_s=max(seconds, 1.0))
        new = NewJob(
            job.tenant,
            Kind.SHARD,
            request,
            budget,
            job.queue,
            job.priority + 1,
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


def joined(shards: Sequence[Job]) -> Outcome | None:
    """What the shards of a job say about it; None while that is open.

    Soundness: verified only if every shard of the group is, each number once, and their open nodes add up to
    what was dealt out.
    """
    broken = next((s for s in shards if s.answer is Answer.FALSIFIED), None)
    if broken is not None:
        return Outcome(State.FINISHED, Answer.FALSIFIED, result=_sums(shards), artifacts=broken.artifacts)
    failed = next((s for s in shards if s.state.final and s.answer is not Answer.VERIFIED), None)
    if failed is not None:
        if failed.state is State.FAILED:
            return Outcome(State.FAILED, reason=failed.reason, error=f"a shard failed: {failed.error}")
        reason = failed.reason or "cancelled"
        return Outcome(State.FINISHED, Answer.UNKNOWN, reason, result=_sums(shards))
    if not all(s.answer is Answer.VERIFIED for s in shards):
        return None
    told = [s.request["shard"] for s in shards]
    numbers = sorted(int(t["number"]) for t in told)
    whole = numbers == list(range(int(told[0]["count"])))
    if not whole or sum(int(t["own"]) for t in told) != int(told[0]["nodes"]):
        raise AssertionError("the shards are not all that was dealt out")
    return Outcome(State.FINISHED, Answer.VERIFIED, result=_sums(shards))


def _sums(shards: Sequence[Job]) -> dict[str, Any]:
    notes = ["searched in shards by several workers; such a proof leaves no certificate"]
    domains = sum(int(s.result.get("domains", 0)) for s in shards)
    return {"domains": domains, "shards": len(shards), "notes": notes}


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
        artifacts.delete(str(shard.request["checkpoint"]))
