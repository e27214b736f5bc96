"""Jobs and models as JSON: what the schemas promise, made by hand because every poll goes through here."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, cast

from fastapi import Response

from workers.jobs.model import Artifact, Job, Model, State

# report name -> media type
REPORTS = {
    "json": "application/json",
    "sarif": "application/sarif+json",
    "xml": "application/xml",
    "html": "text/html; charset=utf-8",
}


def moment(seconds: float | None) -> str | None:
    """UTC, ISO 8601, milliseconds."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def job_json(job: Job) -> dict[str, Any]:
    """See :class:`service.schemas.JobView`."""
    model = job.request.get("model")
    return {
        "id": job.id,
        "kind": job.kind.value,
        "state": job.state.value,
        "verdict": job.answer.value if job.answer is not None else None,
        "reason": job.reason,
        "model": model if isinstance(model, str) else None,
        "created": moment(job.created),
        "started": moment(job.started),
        "finished": moment(job.finished),
        "attempt": job.attempt,
        "cancel_requested": job.cancel_requested,
        "progress": _progress(job),
        "result": plain(job.result),
        "error": job.error,
        "budget": {
            "timeout_s": job.budget.timeout_s,
            "memory_mb": job.budget.memory_mb,
            "max_domains": job.budget.max_domains,
        },
        "queue": job.queue,
        "priority": job.priority,
        "cached_from": job.cached_from or None,
        "cpu_seconds": job.cpu_seconds,
        "artifacts": [_artifact(job, a) for a in job.artifacts],
        "links": links(job),
    }


def _progress(job: Job) -> dict[str, Any] | None:
    p = job.progress
    if p is None:
        return None
    return {
        "seconds": p.seconds,
        "phase": p.phase,
        "domains": p.domains,
        "open": p.open,
        "closed_fraction": p.closed_fraction,
        "lower_bound": plain(p.lower_bound),
        "done": p.done,
        "total": p.total,
        "message": p.message,
    }


def _artifact(job: Job, artifact: Artifact) -> dict[str, Any]:
    return {
        "name": artifact.name,
        "sha256": artifact.sha256,
        "size": artifact.size,
        "media_type": artifact.media_type,
        "href": f"/v1/jobs/{job.id}/artifacts/{artifact.name}",
    }


def links(job: Job) -> dict[str, str]:
    """Where to go from here; what cannot be had yet is not listed."""
    here = f"/v1/jobs/{job.id}"
    found = {"self": here, "events": f"{here}/events"}
    if job.state.final:
        found["result"] = f"{here}/result"
        found |= {f"report.{name}": f"{here}/report.{name}" for name in REPORTS}
    else:
        found["cancel"] = f"{here}/cancel"
    if job.artifact("certificate") is not None:
        found["certificate"] = f"{here}/certificate"
    if job.artifact("witness.json") is not None:
        found["witness"] = f"{here}/witness"
    return found


def model_json(model: Model, *, folder: str = "models") -> dict[str, Any]:
    """See :class:`service.schemas.ModelView`."""
    here = f"/v1/{folder}/{model.sha256}"
    return {
        "sha256": model.sha256,
        "size": model.size,
        "name": model.name,
        "created": moment(model.created),
        "facts": plain(dict(model.facts)),
        "links": {"self": here, "content": f"{here}/content"},
    }


def plain(value: Any) -> Any:
    """The value with null for numbers that JSON lacks (NaN, infinities)."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        pairs = cast("Mapping[Any, Any]", value)
        return {str(k): plain(v) for k, v in pairs.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in cast("list[Any]", value)]
    return value


def etag(job: Job) -> str:
    """The entity tag of a job's resource: its revision."""
    return tag_of(job.id, job.revision)


def tag_of(job: str, revision: int) -> str:
    """See :func:`etag`."""
    return f'"{job}.{revision}"'


def matches(given: str | None, tag: str) -> bool:
    """Whether ``If-None-Match`` names the tag."""
    if given is None:
        return False
    names = [part.strip().removeprefix("W/") for part in given.split(",")]
    return tag in names or "*" in names


def answer(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """JSON without the detour through a model."""
    body = json.dumps(value, allow_nan=False, separators=(",", ":")).encode()
    return Response(body, status, headers=dict(headers) if headers else None, media_type="application/json")


def poll_headers(job: Job) -> dict[str, str]:
    """For whoever polls: the tag, and when to come again."""
    return headers_of(etag(job), job.state)


def headers_of(tag: str, state: State) -> dict[str, str]:
    """See :func:`poll_headers`."""
    headers = {"ETag": tag, "Cache-Control": "no-cache"}
    if not state.final:
        headers["Retry-After"] = "1"
    return headers


def final(job: Job) -> bool:
    """Whether nothing will change."""
    return job.state in (State.FINISHED, State.FAILED, State.CANCELLED)
