"""What jobs leave behind: results, certificates, witnesses, reports."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from fastapi.responses import Response

from service.api.common import JobId, error, final, stored
from service.auth import Reader
from service.context import Here
from service.problems import Problem
from service.reports import RENDERERS
from service.schemas import JobView
from service.views import REPORTS, answer, etag, job_json, matches
from workers.jobs.model import Job

router = APIRouter(tags=["results"])

_BYTES: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}
_FILE: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/octet-stream": _BYTES, "application/json": {}, "image/svg+xml": _BYTES,
                      "application/zip": _BYTES, "text/plain": _BYTES}},
    304: {"description": "Not changed since"},
    **error(401, 403, 404, 409, 422),
}  # fmt: skip
_REPORT: dict[int | str, dict[str, Any]] = {
    200: {"content": {kind.partition(";")[0]: {} for kind in REPORTS.values()}},
    304: {"description": "Not changed since"},
    **error(401, 403, 404, 409, 422),
}
_RESULT: dict[int | str, dict[str, Any]] = {
    200: {"model": JobView},
    304: {"description": "Not changed since"},
    **error(401, 403, 404, 409, 422),
}
Name = Annotated[str, Path(pattern=r"^[A-Za-z0-9._-]{1,100}$", description="Name of the file in the job.")]
Form = Annotated[str, Path(pattern="^(json|sarif|xml|html)$", description="Form of the report.")]
_FINAL = {"Cache-Control": "private, max-age=31536000, immutable"}


@router.get("/v1/jobs/{job_id}/result", responses=_RESULT, response_model=None)
def get_result(request: Request, job_id: JobId, here: Here, caller: Reader) -> Response:
    """The finished job; it never changes again."""
    job = final(here.store.get(job_id, caller.tenant))
    headers = {"ETag": etag(job), **_FINAL}
    if matches(request.headers.get("if-none-match"), etag(job)):
        return Response(status_code=304, headers=headers)
    return answer(job_json(job), headers=headers)


@router.get("/v1/jobs/{job_id}/certificate", responses=_FILE, response_model=None)
def get_certificate(request: Request, job_id: JobId, here: Here, caller: Reader) -> Response:
    """The proof, for 'verify check'."""
    job = final(here.store.get(job_id, caller.tenant))
    return _artifact(request, here, job, "certificate")


@router.get("/v1/jobs/{job_id}/witness", responses=_FILE, response_model=None)
def get_witness(request: Request, job_id: JobId, here: Here, caller: Reader) -> Response:
    """The counterexample."""
    job = final(here.store.get(job_id, caller.tenant))
    return _artifact(request, here, job, "witness.json")


@router.get("/v1/jobs/{job_id}/artifacts/{name}", responses=_FILE, response_model=None)
def get_artifact(request: Request, job_id: JobId, name: Name, here: Here, caller: Reader) -> Response:
    """A file by its name in the job's list."""
    return _artifact(request, here, here.store.get(job_id, caller.tenant), name)


def _artifact(request: Request, here: Here, job: Job, name: str) -> Response:
    found = job.artifact(name)
    if found is None:
        have = ", ".join(a.name for a in job.artifacts) or "none"
        raise Problem(404, "no-such-artifact", f"job {job.id} has no file '{name}' (it has: {have})")
    suffix = "" if "." in name else ".sbcert" if name == "certificate" else ".bin"
    return stored(
        request,
        here,
        found.sha256,
        name=f"{job.id}-{name}{suffix}",
        media_type=found.media_type,
        immutable=job.state.final,
    )


@router.get("/v1/jobs/{job_id}/report.{form}", responses=_REPORT, response_model=None)
def get_report(request: Request, job_id: JobId, form: Form, here: Here, caller: Reader) -> Response:
    """The report as JSON, SARIF, JUnit XML or a page."""
    job = final(here.store.get(job_id, caller.tenant))
    if form == "json" and job.artifact("report.json") is not None:
        return _artifact(request, here, job, "report.json")
    headers = {"ETag": f'"{job.id}.{job.revision}.{form}"', **_FINAL}
    if matches(request.headers.get("if-none-match"), headers["ETag"]):
        return Response(status_code=304, headers=headers)
    return Response(RENDERERS[form](job), media_type=REPORTS[form], headers=headers)
