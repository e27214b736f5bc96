"""The first page: a network, a question, an answer."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import anyio.to_thread
from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response
from starlette.datastructures import FormData, UploadFile

from service.api import jobs as jobs_api
from service.api.health import WORKER_FRESH_S
from service.api.models import FILES
from service.auth import Caller
from service.context import Context, Here
from service.pages import words
from service.pages.common import names, networks
from service.pages.forms import Draft, Mistakes, Reading, Upload, once
from service.pages.render import PageRoute, go, page
from service.pages.session import PageReader, PageWriter, own_form
from service.pages.view_models import job_row, model_row
from service.problems import Problem
from service.schemas import NewJobBody

router = APIRouter(route_class=PageRoute, include_in_schema=False)
_UPLOADS: Final = ("model_file", "vnnlib_file", "point_file", "data_file")
_LATELY: Final = 6
# bytes of a field that is no file: parts of a form are kept in memory, and larger texts come as files
_TEXT: Final = 1 << 20
_FIELDS: Final = 24


@router.get("/", response_model=None)
def home(request: Request, here: Here, caller: PageReader) -> Response:
    """Ask something; ``?model=`` and ``?from=`` (a job) fill in what they can."""
    draft = Draft.of({k: v[:2000] for k, v in request.query_params.items()})
    if earlier := request.query_params.get("from"):
        draft = _again(here, caller, earlier)
    return shown(request, here, caller, draft)


def _again(here: Context, caller: Caller, job_id: str) -> Draft:
    """A draft with what an earlier job asked."""
    job = here.store.get(job_id[:64], caller.tenant)
    asked: Any = job.request
    options: Any = asked.get("options") or {}
    draft = Draft(model=str(asked.get("model") or ""), timeout=f"{job.budget.timeout_s:g}")
    draft.semantics = str(options.get("semantics", "real"))
    ball = words.robustness(job)
    if ball:
        clip: Any = ball.get("clip") or ("", "")
        point = " ".join(repr(v) for v in ball.get("input") or ball.get("image") or ())
        return replace(
            draft, kind="robustness", point=point, label=str(ball["label"]), radius=str(ball["radius"]),
            norm=str(ball.get("norm", "inf")), clip_low=str(clip[0]), clip_high=str(clip[1]),
        )  # fmt: skip
    if job.kind == "sweep":
        radii = " ".join(str(r) for r in asked.get("radii") or ())
        samples = str(asked.get("samples") or "")
        return replace(
            draft, kind="sweep", data=str(asked.get("data") or ""), radii=radii, samples=samples,
            sweep_norm=str(asked.get("norm", "2")),
        )  # fmt: skip
    if job.kind == "lipschitz":
        return replace(draft, kind="lipschitz", lipschitz_norm=str(asked.get("norm", "2")))
    prop: Any = asked.get("property") or {}
    return replace(draft, vnnlib=str(prop.get("vnnlib") or ""))


def shown(
    request: Request,
    here: Context,
    caller: Caller,
    draft: Draft,
    mistakes: Mapping[str, str] | None = None,
    status: int = 200,
) -> Response:
    """The page with a draft in its form."""
    draft.once = secrets.token_hex(8)
    draft.vnnlib, draft.point = (t if len(t.encode()) <= _TEXT else "" for t in (draft.vnnlib, draft.point))
    lately = here.store.page(caller.tenant, limit=_LATELY).items
    named = names(here, caller, lately)
    return page(
        request,
        "home.html",
        status,
        draft=draft,
        mistakes=dict(mistakes or {}),
        models=[model_row(m) for m in networks(here, caller)],
        data=[model_row(m) for m in networks(here, caller, wanted=FILES) if m.name.endswith(".npz")],
        lately=[job_row(j, named) for j in lately],
        workers=len(here.store.workers(WORKER_FRESH_S)),
        default_timeout=here.settings.default_timeout_s,
        default_memory=here.settings.default_memory_mb,
    )


@router.post("/jobs", dependencies=[Depends(own_form)], response_model=None)
async def ask(request: Request, here: Here, caller: PageWriter) -> Response:
    """Takes the form: files are kept, the job is submitted as through the API, its page is shown."""
    # line ends grow on their way through a browser
    async with request.form(max_files=len(_UPLOADS), max_fields=_FIELDS, max_part_size=2 * _TEXT) as form:
        return await anyio.to_thread.run_sync(_asked, request, here, caller, form)


def _asked(request: Request, here: Context, caller: Caller, form: FormData) -> Response:
    draft = Draft.of({k: v for k, v in form.items() if isinstance(v, str)})
    try:
        body = Reading(here, caller, draft, uploads(form)).body()
        job_id = submit(here, caller, body, once(draft, body))
    except Mistakes as error:
        return shown(request, here, caller, error.draft, error.found, 422)
    except Problem as error:
        place = "vnnlib" if error.kind == "property-invalid" else "form"
        found = {place: str(error.detail)}
        return shown(request, here, caller, draft, found, error.status_code)
    return go(f"/jobs/{job_id}")


def uploads(form: FormData) -> dict[str, Upload]:
    """The files that were chosen: an empty field comes as a file without a name."""
    found: dict[str, Upload] = {}
    for name in _UPLOADS:
        value = form.get(name)
        if isinstance(value, UploadFile) and value.filename:
            found[name] = Upload(value.filename, value.file)
    return found


def submit(here: Context, caller: Caller, body: NewJobBody, key: str | None = None) -> str:
    """Submits as the API does; the job's id."""
    answer = jobs_api.submit_job(here, caller, body, key)
    return answer.headers["Location"].rpartition("/")[2]
