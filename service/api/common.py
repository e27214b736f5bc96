"""What several resources share: path parameters, files as answers, pages."""

from __future__ import annotations

from typing import Annotated, Any, Final
from urllib.parse import urlencode

from fastapi import Path, Query, Request
from fastapi.responses import FileResponse, Response

from service.context import Context
from service.problems import Problem
from service.views import matches
from workers.jobs.model import Job

JobId = Annotated[str, Path(pattern=r"^[A-Za-z0-9_-]{1,64}$", description="A job's id.")]
Sha256 = Annotated[
    str, Path(pattern=r"^[0-9a-f]{64}$", description="SHA-256 in lower-case hexadecimal digits.")
]
Limit = Annotated[int, Query(ge=1, le=200, description="Most items of a page.")]
Cursor = Annotated[
    str, Query(max_length=400, pattern=r"^[A-Za-z0-9_=-]*$", description="next_cursor of the page before.")
]

# shown in the browser as they are; everything else is a download, so that no file becomes a page of ours
_SHOWN: Final = ("application/json", "text/plain")
_TYPES: Final = (*_SHOWN, "image/svg+xml", "application/zip", "application/x-npz")


def error(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """For ``responses=``: problems of these statuses (their schema is filled in afterwards). Whoever needs a
    key may have called too often with it."""
    more = (429,) if 401 in statuses and 429 not in statuses else ()
    return {status: {"description": _WORDS[status]} for status in sorted({*statuses, *more})}


_WORDS: Final = {
    304: "Not changed since",
    400: "Malformed",
    401: "No key, or a wrong one",
    403: "The key lacks a scope",
    404: "No such thing, or another tenant's",
    409: "Not in this state",
    413: "Too large",
    415: "Unsupported media type",
    421: "Wrong host",
    422: "Cannot be used",
    429: "A quota is used up, or too many calls",
    503: "Not available",
}


def stored(
    request: Request, here: Context, sha256: str, *, name: str, media_type: str, immutable: bool = True
) -> Response:
    """A file of the artefact store: streamed, with ranges, tagged by its digest."""
    tag = f'"sha256:{sha256}"'
    cache = "private, max-age=31536000, immutable" if immutable else "private, no-cache"
    headers = {"ETag": tag, "Cache-Control": cache}
    if matches(request.headers.get("if-none-match"), tag):
        return Response(status_code=304, headers=headers)
    if not here.artifacts.has(sha256):
        raise Problem(404, "file-missing", "the file has been removed from the server; run the job again")
    kind = media_type if media_type in _TYPES else "application/octet-stream"
    return FileResponse(
        here.artifacts.file(sha256),
        media_type=kind,
        filename=name,
        headers=headers,
        content_disposition_type="inline" if kind in _SHOWN else "attachment",
    )


def final(job: Job) -> Job:
    """The job, if nothing of it will change.

    Raises:
        Problem: 409 before.
    """
    if not job.state.final:
        what = f"job {job.id} is {job.state.value}; follow {'/v1/jobs/' + job.id}/events, or come again"
        raise Problem(409, "job-not-finished", what, headers={"Retry-After": "1"})
    return job


def next_link(request: Request, cursor: str) -> dict[str, str]:
    """The header that leads to the next page."""
    if not cursor:
        return {}
    query = [(k, v) for k, v in request.query_params.multi_items() if k != "cursor"]
    return {"Link": f'<{request.url.path}?{urlencode([*query, ("cursor", cursor)])}>; rel="next"'}
