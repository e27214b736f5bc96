"""Progress as server-sent events, read from the store: any replica can go on where another stopped."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from functools import partial
from typing import Annotated, Any

import anyio
import anyio.to_thread
from fastapi import APIRouter, Header
from fastapi.responses import Response, StreamingResponse

from service.api.common import JobId, error
from service.auth import Reader
from service.context import Context, Here
from service.views import job_json, moment
from workers.jobs.model import Event, Job
from workers.jobs.store import UnknownJob

router = APIRouter(tags=["jobs"])

_RETRY_MS = 2000
_BLOCK = 200
_SLOWEST_S = 2.0
_EVENTS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Events 'job' (the whole job, first), 'state', 'progress', 'bound', 'log', 'done'.",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    },
    204: {"description": "Everything was sent already: do not come again"},
    **error(401, 403, 404, 422),
}
LastId = Annotated[str | None, Header(alias="Last-Event-ID", max_length=20, pattern=r"^[0-9]{1,18}$")]


@router.get("/v1/jobs/{job_id}/events", responses=_EVENTS, response_model=None)
async def job_events(job_id: JobId, here: Here, caller: Reader, last_event_id: LastId = None) -> Response:
    """Follow a job. After an interruption send the last id as Last-Event-ID; nothing is lost or repeated."""
    job = await anyio.to_thread.run_sync(here.store.get, job_id, caller.tenant)
    after = int(last_event_id) if last_event_id else 0
    if job.state.final and last_event_id is not None:
        left = await anyio.to_thread.run_sync(here.store.events, job_id, after, 1)
        if not left:
            return Response(status_code=204)
    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    return StreamingResponse(stream(here, job, after), media_type="text/event-stream", headers=headers)


async def stream(here: Context, job: Job, after: int) -> AsyncIterator[bytes]:
    """The job as it is, then its log from an entry on, until it is done or the server stops."""
    settings = here.settings
    yield f"retry: {_RETRY_MS}\n\n".encode() + message("job", json.dumps(job_json(job), allow_nan=False))
    wait, spoken = settings.events_poll_s, time.monotonic()
    while not here.stopping.is_set():
        found = await anyio.to_thread.run_sync(partial(here.store.events, job.id, after, _BLOCK))
        if found:
            yield b"".join(encode(e) for e in found)
            after, spoken, wait = found[-1].number, time.monotonic(), settings.events_poll_s
            if found[-1].name == "done":
                return
            if len(found) == _BLOCK:
                continue
        elif time.monotonic() - spoken > settings.events_ping_s:
            if not await anyio.to_thread.run_sync(exists, here, job):
                return  # deleted meanwhile
            yield b": ping\n\n"
            spoken = time.monotonic()
        else:
            wait = min(wait * 1.2, _SLOWEST_S)  # a job that is queued for long need not be asked for often
        await anyio.sleep(wait)


def exists(here: Context, job: Job) -> bool:
    """Whether nobody has deleted the job."""
    try:
        here.store.get(job.id, job.tenant)
    except UnknownJob:
        return False
    return True


def encode(event: Event) -> bytes:
    """One entry of the log."""
    data = {**event.data, "at": moment(event.at)}
    return message(event.name, json.dumps(data), number=event.number)


def message(name: str, data: str, *, number: int | None = None) -> bytes:
    """One event; JSON has no line breaks, so one data line is enough."""
    head = "" if number is None else f"id: {number}\n"
    return f"{head}event: {name}\ndata: {data}\n\n".encode()
