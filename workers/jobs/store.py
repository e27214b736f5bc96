"""The port to the truth about jobs. Every adapter passes the same conformance suite."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from bounds.errors import BadInput
from workers.jobs.model import (
    Artifact,
    Claim,
    Durations,
    Event,
    Job,
    Json,
    Key,
    Model,
    NewJob,
    Outcome,
    Page,
    Progress,
    Signal,
    State,
)


class UnknownJob(BadInput):
    """There is no such job (or it is another tenant's, which is the same thing to whoever asks)."""


class KeyReused(BadInput):
    """An ``Idempotency-Key`` came back with another request."""


class QuotaExceeded(BadInput):
    """The tenant has as many queued or running jobs (or bytes, or CPU seconds) as it may."""


class NotFinished(BadInput):
    """The job is running: cancel it first."""


class JobStore(Protocol):
    """Durable jobs. Calls are short transactions; times are the database's host's clock.

    ``tenant`` None means: of anybody (workers and administrators only).
    """

    def submit(
        self,
        new: NewJob,
        quota: Mapping[str, int] | None = None,
        answered_by: Job | None = None,
        audited: Json | None = None,
    ) -> tuple[Job, bool]:
        """Stores a job; (the job, whether it is new). A repeated idempotency key brings the first job back.

        Args:
            quota: "queued", "running": jobs of this tenant in these states, from which on none is taken;
                "cpu_seconds": those of jobs that ended in the last 24 whole hours; "bytes": of models.
            answered_by: a finished job that answers this one as well: it is finished at once, with the same
                outcome and artefacts (``cached_from`` names it), and counts in no quota.
            audited: what the audit log says of a new job besides its id and kind; None: nothing is said.

        Raises:
            KeyReused, QuotaExceeded.
        """
        ...

    def get(self, job: str, tenant: str | None) -> Job:
        """Raises: UnknownJob."""
        ...

    def look(self, job: str, tenant: str | None) -> tuple[int, State]:
        """The revision and the state only, for those who poll. Raises: UnknownJob."""
        ...

    def glance(self, job: str, tenant: str) -> tuple[int, State] | None:
        """Like :meth:`look`, for a caller that must not wait; None where there is no such job, or no answer
        can be had at once."""
        ...

    def page(
        self, tenant: str | None, *, states: Sequence[State] = (), cursor: str = "", limit: int = 50
    ) -> Page:
        """Jobs but shards, newest first."""
        ...

    def claim(self, worker: str, queues: Sequence[str], lease_s: float) -> Claim | None:
        """Takes the next queued job (or one whose lease has expired): attempt + 1, one caller only."""
        ...

    def claim_job(self, job: str, worker: str, lease_s: float) -> Claim | None:
        """Takes this very job, if it may be taken: what a queue's message leads to."""
        ...

    def claim_family(self, like: Claim, most: int, lease_s: float) -> list[Claim]:
        """Takes up to ``most`` queued jobs of the same family as a claimed one, for the same worker."""
        ...

    def heartbeat(self, claim: Claim, progress: Progress | None, lease_s: float) -> Signal:
        """Extends the lease and records progress; says what to do."""
        ...

    def finish(self, claim: Claim, outcome: Outcome) -> bool:
        """Records the end of a job; False: the lease was lost, and nothing is recorded."""
        ...

    def give_back(self, claim: Claim, checkpoint: Artifact | None, *, counts: bool) -> bool:
        """Queues a claimed job again (a worker drains, or its child died), to go on from the checkpoint.

        Args:
            counts: whether the attempt counts; without any attempts left the job fails as "worker-lost".
        """
        ...

    def cancel(self, job: str, tenant: str | None) -> Job:
        """Queued: cancelled at once. Running: requested; shards likewise. Final: nothing changes."""
        ...

    def delete(self, job: str, tenant: str | None) -> None:
        """Raises: UnknownJob, NotFinished."""
        ...

    def events(self, job: str, after: int, limit: int = 200) -> list[Event]:
        """The log after an entry's number."""
        ...

    def log(self, claim: Claim, name: str, data: Json) -> None:
        """Adds to the log, if the claim still holds."""
        ...

    def answered(self, tenant: str, question: str) -> Job | None:
        """A finished, decided job with the same question, the latest."""
        ...

    def related(self, tenant: str, family: str, limit: int = 100) -> list[Job]:
        """Finished, decided jobs of a family, the latest first: a larger box or a witness may answer too."""
        ...

    def shards(self, parent: str) -> list[Job]:
        """The shards of a job."""
        ...

    def idle(self, queue: str) -> int:
        """Slots of live workers on a queue that have nothing to do; 0 while a job waits there."""
        ...

    def sweep(self) -> list[str]:
        """Expired leases: queued again, or failed as "worker-lost" without attempts left. Returns the ids of
        jobs that workers should be told about (also those queued for long)."""
        ...

    def counts(self) -> Mapping[tuple[str, str, str], int]:
        """Number of jobs by (state, verdict or "", queue), for metrics."""
        ...

    def oldest(self) -> Mapping[str, float]:
        """Seconds that the longest waiting job of each queue has waited, for metrics."""
        ...

    def durations(self) -> Durations:
        """How long ended jobs ran, for metrics."""
        ...

    def named(self, ended_s: float | None = None) -> set[str]:
        """Digests of all files that a model, a job or an unfinished request names; others may be removed.

        Args:
            ended_s: what jobs left that ended longer ago does not count; None: it does.
        """
        ...

    def bytes_of(self, tenant: str) -> int:
        """Bytes of a tenant's uploaded files."""
        ...

    def put_model(self, model: Model) -> bool:
        """Records an uploaded network; False if this tenant had it already."""
        ...

    def get_model(self, sha256: str, tenant: str | None) -> Model | None: ...

    def models(self, tenant: str | None, *, cursor: str = "", limit: int = 50) -> tuple[list[Model], str]:
        """Newest first, and the next cursor."""
        ...

    def delete_model(self, sha256: str, tenant: str) -> bool:
        """Forgets a tenant's network (its file stays while others or jobs name it); False without one."""
        ...

    def set_facts(self, sha256: str, facts: Json, tenant: str | None = None) -> None:
        """What a child read off a network (operators, shapes, nonlinear neurons, Lipschitz bounds); added to
        what is known."""
        ...

    def add_key(self, key: Key) -> None: ...

    def key(self, id: str) -> Key | None:
        """A key that is not revoked; notes that it was used."""
        ...

    def keys(self, tenant: str | None = None) -> list[Key]:
        """Every key, the revoked too, the oldest first."""
        ...

    def revoke_key(self, id: str) -> bool: ...

    def audit(self, tenant: str, action: str, detail: Json) -> None:
        """Adds to the audit log."""
        ...

    def beat(self, worker: str, queues: Sequence[str], facts: Json) -> None:
        """A worker is alive (its own heartbeat, with or without a job)."""
        ...

    def workers(self, within_s: float) -> list[tuple[str, float, Json]]:
        """Workers that were alive within so many seconds: name, seconds ago, facts."""
        ...

    def ping(self) -> None:
        """Raises unless the store can be reached and is migrated."""
        ...
