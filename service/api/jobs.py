"""Jobs: asking, polling, listing, cancelling, removing."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

import structlog
from anyio.to_thread import run_sync as in_thread
from fastapi import APIRouter, Body, Header, Query, Request
from fastapi.responses import Response

from service.api.common import Cursor, JobId, Limit, error, next_link
from service.api.models import mine
from service.auth import Caller, Reader, Writer
from service.cache import earlier_answer
from service.context import Context, Here
from service.lint import lint
from service.problems import Problem
from service.questions import fingerprint, new_job
from service.schemas import (
    JOB_EXAMPLES,
    CheckJob,
    JobPage,
    JobView,
    NewJobBody,
    SweepJob,
    TrainJob,
    VerifyJob,
)
from service.views import answer, headers_of, job_json, matches, poll_headers, tag_of
from workers.jobs.model import Idempotency, NewJob, State

router = APIRouter(tags=["jobs"])

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        pattern=r"^[!-~]+$",
        description="Repeating a request with the same key within a day gives the first one's job.",
    ),
]
_HEADERS = {
    "Location": {"schema": {"type": "string"}, "description": "The job."},
    "Retry-After": {"schema": {"type": "integer"}, "description": "When to poll, in seconds."},
}
_SUBMITTED: dict[int | str, dict[str, Any]] = {
    202: {"model": JobView, "description": "Queued, or answered by an earlier job", "headers": _HEADERS},
    **error(400, 401, 403, 404, 413, 422, 429),
}


@router.post("/v1/jobs", status_code=202, responses=_SUBMITTED, response_model=None)
def submit_job(
    here: Here,
    caller: Writer,
    body: Annotated[NewJobBody, Body(openapi_examples=JOB_EXAMPLES)],
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Ask for something. Files are uploaded first; the body names them by their digests."""
    idempotency = None
    if idempotency_key is not None:
        stands_for = fingerprint("POST", "/v1/jobs", body.model_dump(mode="json"))
        idempotency = Idempotency(idempotency_key, stands_for)
    asked = new_job(body, here.settings, caller.tenant, idempotency)
    asked = check_files(here, caller, body, asked)
    check_property(here, body)
    known = None if body.fresh else earlier_answer(here, asked)
    quota = {
        "queued": here.settings.quota_queued,
        "running": here.settings.quota_running,
        "cpu_seconds": int(here.settings.quota_cpu_s),
    }
    job, new = here.store.submit(asked, quota, answered_by=known, audited={"key": caller.key})
    if not job.state.final:
        here.dispatcher.notify(job.id, job.queue)
    structlog.get_logger().info(
        "submitted",
        action="job_submitted",
        job_id=job.id,
        kind=job.kind.value,
        new=new,
        cached=job.cached_from,
    )
    headers = {**poll_headers(job), "Location": f"/v1/jobs/{job.id}"}
    if not new:
        headers["Idempotency-Replayed"] = "true"
    return answer(job_json(job), 202, headers)


def check_files(here: Context, caller: Caller, body: NewJobBody, asked: NewJob) -> NewJob:
    """Every file that is named must be the tenant's own; a certificate may be named by its job."""
    if isinstance(body, TrainJob):
        return asked
    mine(here, caller, body.model)
    if isinstance(body, SweepJob):
        mine(here, caller, body.data)
    if not isinstance(body, CheckJob):
        return asked
    if body.certificate is not None:
        mine(here, caller, body.certificate)
        return asked
    found = here.store.get(body.certificate_of or "", caller.tenant).artifact("certificate")
    if found is None:
        raise Problem(422, "no-certificate", f"job {body.certificate_of} has no certificate")
    request = {**asked.request, "certificate": found.sha256}
    return replace(asked, request=request)


def check_property(here: Context, body: NewJobBody) -> None:
    """Mistakes in a property are told at once."""
    if isinstance(body, VerifyJob | CheckJob) and body.property is not None:
        lint(here, body.property)


@router.get("/v1/jobs", responses={200: {"model": JobPage}, **error(401, 403, 422)}, response_model=None)
def list_jobs(
    request: Request,
    here: Here,
    caller: Reader,
    state: Annotated[list[State] | None, Query(description="Only jobs in these states.")] = None,
    limit: Limit = 50,
    cursor: Cursor = "",
) -> Response:
    """Your jobs, newest first."""
    page = here.store.page(caller.tenant, states=state or (), cursor=cursor, limit=limit)
    body = {"items": [job_json(j) for j in page.items], "next_cursor": page.cursor or None}
    return answer(body, headers=next_link(request, page.cursor))


_JOB: dict[int | str, dict[str, Any]] = {200: {"model": JobView}, **error(401, 403, 404, 422)}
_POLLED: dict[int | str, dict[str, Any]] = {**_JOB, 304: {"description": "Not changed since"}}


@router.get("/v1/jobs/{job_id}", responses=_POLLED, response_model=None)
async def get_job(
    job_id: JobId,
    here: Here,
    caller: Reader,
    if_none_match: Annotated[str | None, Header(max_length=1000)] = None,
) -> Response:
    """A job; 200 in every state. Send the last ETag as If-None-Match to be told only what is new."""
    if if_none_match is not None:
        # most polls find nothing new: neither the request nor the result is read for them, and where the
        # answer can be had at once no other thread has to be waited for
        known = here.store.glance(job_id, caller.tenant)
        revision, state = known or await in_thread(here.store.look, job_id, caller.tenant)
        tag = tag_of(job_id, revision)
        if matches(if_none_match, tag):
            return Response(status_code=304, headers=headers_of(tag, state))
    job = await in_thread(here.store.get, job_id, caller.tenant)
    return answer(job_json(job), headers=poll_headers(job))


@router.post(
    "/v1/jobs/{job_id}/cancel",
    status_code=202,
    responses={
        200: {"model": JobView, "description": "It had ended already, or was queued and is cancelled"},
        202: {"model": JobView, "description": "Asked for; cancelled when its worker has stopped"},
        **error(401, 403, 404, 422),
    },
    response_model=None,
)
def cancel_job(job_id: JobId, here: Here, caller: Writer) -> Response:
    """Stop a job; may be repeated."""
    job = here.store.cancel(job_id, caller.tenant)
    here.store.audit(caller.tenant, "jobs.cancel", {"job": job.id, "key": caller.key})
    return answer(job_json(job), 200 if job.state.final else 202, poll_headers(job))


@router.delete(
    "/v1/jobs/{job_id}",
    status_code=204,
    responses={204: {"description": "Removed"}, **error(401, 403, 404, 409, 422)},
    response_model=None,
)
def delete_job(job_id: JobId, here: Here, caller: Writer) -> Response:
    """Remove a job with what it left; a running one has to be cancelled first."""
    here.store.delete(job_id, caller.tenant)
    here.store.audit(caller.tenant, "jobs.delete", {"job": job_id, "key": caller.key})
    return Response(status_code=204)
