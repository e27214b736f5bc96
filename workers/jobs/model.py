"""What a job is: values only. Knows no network, no bound, no HTTP and no queue (ADR 0006, ADR 0015).

Lifecycle and verdict are two fields: a finished job may be undecided, a failed one has no verdict.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeAlias

Json: TypeAlias = dict[str, Any]


class Kind(StrEnum):
    """What is asked for."""

    VERIFY = "verify"
    SWEEP = "sweep"
    LIPSCHITZ = "lipschitz"
    TRAIN = "train"
    CHECK = "check"
    SHARD = "shard"
    """A part of a long ``verify`` job's frontier; made by workers, never by users."""


class State(StrEnum):
    """Where a job is in its life; the last three are final and never change."""

    QUEUED = "queued"
    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        """Whether nothing will change any more."""
        return self in (State.FINISHED, State.FAILED, State.CANCELLED)


class Answer(StrEnum):
    """The verdict of a finished job."""

    VERIFIED = "verified"
    FALSIFIED = "falsified"
    UNKNOWN = "unknown"


class Signal(StrEnum):
    """What a store answers to a heartbeat."""

    CONTINUE = "continue"
    CANCEL = "cancel"
    LOST = "lost"
    """The lease has passed to another attempt, or the job is final: stop, nothing will be recorded."""


@dataclass(frozen=True, slots=True)
class Budget:
    """Limits of one job, after the server's policy: seconds, megabytes, subproblems (None: no limit)."""

    timeout_s: float
    memory_mb: int
    max_domains: int | None = None


@dataclass(frozen=True, slots=True)
class Idempotency:
    """A caller's ``Idempotency-Key`` and the digest of method, path and body that it stood for."""

    key: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class NewJob:
    """A request to be stored.

    Attributes:
        tenant: whose it is ("local" without keys).
        kind: what is asked for.
        request: the validated body: JSON values only; files are named by their digests.
        budget: limits.
        queue: "short", "long" or "gpu".
        priority: the larger, the sooner.
        max_attempts: executions that may be begun.
        family: jobs of the same non-empty family can be bounded in one batch (same model, operators, limits).
        question: digest of everything that the answer depends on, for the cache; "" is never cached.
        parent: the job that this is a shard of, or "".
        idempotency: so that a repeated request is answered with the first one's job.
    """

    tenant: str
    kind: Kind
    request: Json
    budget: Budget
    queue: str = "short"
    priority: int = 0
    max_attempts: int = 3
    family: str = ""
    question: str = ""
    parent: str = ""
    idempotency: Idempotency | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job is; everything optional but the seconds of this attempt."""

    seconds: float
    phase: str = ""
    domains: int = 0
    open: int = 0
    closed_fraction: float = 0.0
    lower_bound: float | None = None
    done: int = 0
    total: int = 0
    message: str = ""


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file that a job left: name within the job, digest (its name in the artefact store), size, type."""

    name: str
    sha256: str
    size: int
    media_type: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt ended.

    Attributes:
        state: FINISHED, FAILED or CANCELLED.
        answer, reason: the verdict of a finished job and, when unknown, why; of a failed one ``reason`` is a
            word such as "bad-input", "out-of-memory", "worker-lost".
        result: small JSON value for the API (counts, bounds, seconds); large things are artifacts.
        error: for people, "" without one.
        artifacts: files, already in the artefact store.
        cpu_seconds: processor time of the attempt.
    """

    state: State
    answer: Answer | None = None
    reason: str = ""
    result: Json = field(default_factory=dict[str, Any])
    error: str = ""
    artifacts: tuple[Artifact, ...] = ()
    cpu_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Job:
    """A stored job, as of ``revision`` (which grows with every change; the entity tag of its resource)."""

    id: str
    tenant: str
    kind: Kind
    state: State
    request: Json
    budget: Budget
    queue: str
    priority: int
    attempt: int
    max_attempts: int
    revision: int
    created: float
    started: float | None = None
    finished: float | None = None
    worker: str = ""
    cancel_requested: bool = False
    answer: Answer | None = None
    reason: str = ""
    result: Json = field(default_factory=dict[str, Any])
    error: str = ""
    artifacts: tuple[Artifact, ...] = ()
    progress: Progress | None = None
    family: str = ""
    question: str = ""
    parent: str = ""
    cached_from: str = ""
    cpu_seconds: float = 0.0

    def artifact(self, name: str) -> Artifact | None:
        """The file of that name."""
        return next((a for a in self.artifacts if a.name == name), None)


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to work on a job until the lease ends; ``attempt`` is the fencing token."""

    job: Job
    worker: str
    attempt: int


@dataclass(frozen=True, slots=True)
class Event:
    """One entry of a job's log: ``number`` grows by one within the job; ``name`` is "state", "progress",
    "bound", "log" or "done"."""

    job: str
    number: int
    name: str
    at: float
    data: Json


@dataclass(frozen=True, slots=True)
class Page:
    """Some jobs, newest first, and where the next ones begin ("" at the end)."""

    items: tuple[Job, ...]
    cursor: str


@dataclass(frozen=True, slots=True)
class Model:
    """A network that was uploaded: digest, owner, size, the file's name, and what was read off it."""

    sha256: str
    tenant: str
    size: int
    name: str
    created: float
    facts: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True)
class Key:
    """An API key: ``id`` is public, the secret is kept as a SHA-256 only."""

    id: str
    tenant: str
    secret_sha256: str
    scopes: frozenset[str]
    created: float
    note: str = ""
    revoked: bool = False
    last_used: float | None = None


@dataclass(frozen=True, slots=True)
class Durations:
    """How long ended jobs ran.

    Attributes:
        buckets: (upper edge in seconds or "+Inf", number of jobs up to it), as Prometheus wants it.
        sum: seconds in all.
        cpu_seconds: of processors.
    """

    buckets: tuple[tuple[str, int], ...]
    sum: float
    cpu_seconds: float
