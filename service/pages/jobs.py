"""Pages of jobs: the queue and its history, one job, its files."""

from __future__ import annotations

from typing import Annotated, Any, Final
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Header, Query, Request
from fastapi.responses import Response

from service.api import artifacts as artifacts_api
from service.api import events as events_api
from service.api import jobs as jobs_api
from service.api.artifacts import Form, Name
from service.api.common import Cursor, JobId
from service.auth import Caller
from service.context import Context, Here
from service.pages import counterexample
from service.pages.ask import submit
from service.pages.common import history, names
from service.pages.render import PageRoute, go, page
from service.pages.session import PageReader, PageWriter, own_form
from service.pages.view_models import JobPage, job_page, job_row
from service.schemas import CheckJob
from workers.jobs.model import Job, State

router = APIRouter(route_class=PageRoute, include_in_schema=False)
_FILTERS: Final = (
    ("", "All"),
    ("queued", "Waiting"),
    ("running", "Running"),
    ("finished", "Finished"),
    ("failed", "Failed"),
    ("cancelled", "Cancelled"),
)
_PAGE: Final = 25


@router.get("/jobs", response_model=None)
def job_list(
    request: Request,
    here: Here,
    caller: PageReader,
    state: Annotated[State | None, Query()] = None,
    cursor: Cursor = "",
    part: bool = False,
) -> Response:
    """The queue and the history, newest first; ``part`` is the list alone, for refreshing it."""
    found = here.store.page(caller.tenant, states=[state] if state else (), cursor=cursor, limit=_PAGE)
    named = names(here, caller, found.items)
    more = {"cursor": found.cursor} | ({"state": state.value} if state else {})
    return page(
        request,
        "job_rows.html" if part else "jobs.html",
        rows=[job_row(j, named) for j in found.items],
        filters=_FILTERS,
        state=state.value if state else "",
        more=f"/jobs?{urlencode(more)}" if found.cursor else "",
        first=not cursor,
        moving=any(not j.state.final for j in found.items),
    )


@router.get("/jobs/{job_id}", response_model=None)
def job(
    request: Request,
    job_id: JobId,
    here: Here,
    caller: PageReader,
    part: bool = False,
    still: bool = False,
) -> Response:
    """A job; ``part`` is what changes while it runs, ``still`` a page that does not reload itself."""
    found = here.store.get(job_id, caller.tenant)
    template = "job_body.html" if part else "job.html"
    return page(request, template, job=_view(here, caller, found), still=still)


def _view(here: Context, caller: Caller, found: Job) -> JobPage:
    named = names(here, caller, [found])
    return job_page(found, history(here, found), named, counterexample.of_job(here, found))


@router.get("/jobs/{job_id}/events", response_model=None)
async def job_events(
    job_id: JobId,
    here: Here,
    caller: PageReader,
    last_event_id: Annotated[str | None, Header(max_length=20, pattern=r"^[0-9]{1,18}$")] = None,
) -> Response:
    """The API's stream, for whoever has a cookie instead of a header."""
    return await events_api.job_events(job_id, here, caller, last_event_id)


@router.get("/jobs/{job_id}/files/{name}", response_model=None)
def job_file(request: Request, job_id: JobId, name: Name, here: Here, caller: PageReader) -> Response:
    """A file that the job left."""
    return artifacts_api.get_artifact(request, job_id, name, here, caller)


@router.get("/jobs/{job_id}/report.{form}", response_model=None)
def job_report(request: Request, job_id: JobId, form: Form, here: Here, caller: PageReader) -> Response:
    """A report about the job."""
    return artifacts_api.get_report(request, job_id, form, here, caller)


@router.post("/jobs/{job_id}/cancel", dependencies=[Depends(own_form)], response_model=None)
def cancel(job_id: JobId, here: Here, caller: PageWriter) -> Response:
    """Asks for an end."""
    jobs_api.cancel_job(job_id, here, caller)
    return go(f"/jobs/{job_id}")


@router.post("/jobs/{job_id}/delete", dependencies=[Depends(own_form)], response_model=None)
def delete(job_id: JobId, here: Here, caller: PageWriter) -> Response:
    """Removes an ended job."""
    jobs_api.delete_job(job_id, here, caller)
    return go("/jobs")


@router.post("/jobs/{job_id}/check", dependencies=[Depends(own_form)], response_model=None)
def check(job_id: JobId, here: Here, caller: PageWriter) -> Response:
    """Has the job's certificate checked against the property that was asked."""
    found = here.store.get(job_id, caller.tenant)
    prop: Any = found.request.get("property")
    body = CheckJob.model_validate(
        {
            "kind": "check",
            "model": found.request.get("model"),
            "property": prop,
            "certificate_of": found.id,
            "timeout_s": max(found.budget.timeout_s, 60.0),
        }
    )
    return go(f"/jobs/{submit(here, caller, body)}")
