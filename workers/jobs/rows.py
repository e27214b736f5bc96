"""Between rows of the database and values."""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from bounds.errors import BadInput
from workers.jobs.model import Answer, Artifact, Budget, Job, Json, Key, Kind, Model, NewJob, Progress, State

Row = Mapping[str, Any]


def job_of(row: Row) -> Job:
    """A row of the table ``job``."""
    return Job(
        id=row["id"],
        tenant=row["tenant"],
        kind=Kind(row["kind"]),
        state=State(row["state"]),
        request=row["request"],
        budget=Budget(**row["budget"]),
        queue=row["queue"],
        priority=row["priority"],
        attempt=row["attempt"],
        max_attempts=row["max_attempts"],
        revision=row["revision"],
        created=row["created"],
        started=row["started"],
        finished=row["finished"],
        worker=row["worker"],
        cancel_requested=row["cancel_requested"],
        answer=None if row["answer"] is None else Answer(row["answer"]),
        reason=row["reason"],
        result=row["result"],
        error=row["error"],
        artifacts=tuple(Artifact(**a) for a in row["artifacts"]),
        progress=None if row["progress"] is None else Progress(**row["progress"]),
        family=row["family"],
        question=row["question"],
        parent=row["parent"],
        cached_from=row["cached_from"],
        cpu_seconds=row["cpu_seconds"],
    )


def row_of(new: NewJob, job: str, now: float) -> dict[str, Any]:
    """A request as a row of the table ``job``."""
    return {
        "id": job,
        "tenant": new.tenant,
        "kind": new.kind.value,
        "state": State.QUEUED.value,
        "request": new.request,
        "budget": asdict(new.budget),
        "queue": new.queue,
        "priority": new.priority,
        "rank": -new.priority,
        "attempt": 0,
        "max_attempts": new.max_attempts,
        "revision": 1,
        "events": 0,
        "created": now,
        "queued": now,
        "started": None,
        "finished": None,
        "worker": "",
        "cancel_requested": False,
        "answer": None,
        "reason": "",
        "result": {},
        "error": "",
        "artifacts": [],
        "progress": None,
        "family": new.family,
        "question": new.question,
        "parent": new.parent,
        "cached_from": "",
        "cpu_seconds": 0.0,
    }


def model_of(row: Row) -> Model:
    """A row of the table ``model``."""
    return Model(row["sha256"], row["tenant"], row["size"], row["name"], row["created"], row["facts"])


def key_of(row: Row) -> Key:
    """A row of the table ``key``."""
    return Key(
        row["id"], row["tenant"], row["secret_sha256"], frozenset(row["scopes"]), row["created"], row["note"],
        row["revoked"], row["last_used"],
    )  # fmt: skip


def progress_json(progress: Progress) -> Json:
    """For the table and the log: JSON knows no infinities, so a bound that says nothing is left out."""
    told = asdict(progress)
    bound = told["lower_bound"]
    if bound is not None and not math.isfinite(bound):
        told["lower_bound"] = None
    return told


def cursor(*parts: object) -> str:
    """A place in a list, opaque to whoever hands it back."""
    return base64.urlsafe_b64encode("\n".join(map(repr, parts)).encode()).decode().rstrip("=")


def place(text: str, count: int) -> list[str]:
    """What :func:`cursor` made, as text.

    Raises:
        BadInput: it did not.
    """
    try:
        parts = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode().split("\n")
    except (binascii.Error, UnicodeError, ValueError):
        parts = []
    if len(parts) != count:
        raise BadInput("the cursor is none of this list; begin without one")
    return [p.strip("'") for p in parts]
