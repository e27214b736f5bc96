"""From a validated body to a job: limits by policy, its queue, and digests of what is asked."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from service.schemas import CheckJob, NewJobBody, SweepJob, TrainJob, VerifyJob
from service.settings import Settings
from workers.jobs.model import Budget, Idempotency, Json, Kind, NewJob

_POLICY = ("kind", "timeout_s", "memory_mb", "max_domains", "priority", "queue", "fresh")


def request_of(body: NewJobBody) -> Json:
    """What the child gets: the body without what the budget or the queue says."""
    whole = body.model_dump(mode="json")
    return {name: value for name, value in whole.items() if name not in _POLICY}


def new_job(body: NewJobBody, settings: Settings, tenant: str, idempotency: Idempotency | None) -> NewJob:
    """The job that a body asks for."""
    budget = budget_of(body, settings)
    return NewJob(
        tenant=tenant,
        kind=Kind(body.kind),
        request=limited(request_of(body), settings),
        budget=budget,
        queue=body.queue or ("long" if budget.timeout_s > settings.long_after_s else "short"),
        priority=body.priority,
        max_attempts=settings.max_attempts,
        family=family(body, budget),
        question=question(body, budget),
        idempotency=idempotency,
    )


def limited(request: Json, settings: Settings) -> Json:
    """The request after the server's policy: a search is dealt out to so many workers at most."""
    options = request.get("options", {})
    if "shards" not in options:
        return request
    asked = options["shards"]
    # where nothing may be dealt out, nor may what nobody asked for
    shards = asked if asked is None and settings.max_shards > 1 else min(asked or 0, settings.max_shards)
    return request | {"options": options | {"shards": shards}}


def budget_of(body: NewJobBody, settings: Settings) -> Budget:
    """Limits after the server's policy."""
    return Budget(
        timeout_s=min(body.timeout_s or settings.default_timeout_s, settings.max_timeout_s),
        memory_mb=min(body.memory_mb or settings.default_memory_mb, settings.max_memory_mb),
        max_domains=body.max_domains,
    )


def family(body: NewJobBody, budget: Budget) -> str:
    """Jobs of one family can be bounded in one batch: same network, meaning and limits."""
    if not isinstance(body, VerifyJob):
        return ""
    limits = [budget.timeout_s, budget.memory_mb, budget.max_domains]
    return digest(["family", body.kind, body.model, body.options.semantics, limits])


def question(body: NewJobBody, budget: Budget) -> str:
    """Digest of what a decided answer depends on; "" where answers are not kept.

    A decided ``verify`` is true whatever the limits and the seed were, so they do not count; a sweep's and a
    constant's numbers depend on all of it. Training is wanted anew each time.
    """
    if isinstance(body, TrainJob):
        return ""
    request = request_of(body)
    if isinstance(body, VerifyJob | CheckJob):
        return digest([body.kind, {**request, "options": {"semantics": body.options.semantics}}])
    if isinstance(body, SweepJob):
        limits: list[Any] = [budget.timeout_s, budget.max_domains]
        return digest([body.kind, request, limits])
    return digest([body.kind, request, [budget.timeout_s]])


def digest(value: Any) -> str:
    """SHA-256 of a JSON value in its canonical form."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def fingerprint(method: str, path: str, body: Mapping[str, Any]) -> str:
    """What an Idempotency-Key stands for."""
    return digest([method, path, body])
