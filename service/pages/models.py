"""Pages of networks: all of them, one, two side by side."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response

from service.api import models as models_api
from service.api.common import Cursor, Sha256
from service.api.models import FILES, mine, role
from service.context import Here
from service.pages import svg, words
from service.pages.common import jobs_of, networks
from service.pages.drawing import drawing
from service.pages.render import PageRoute, go, page
from service.pages.session import PageReader, PageWriter, own_form
from service.pages.view_models import accuracy, job_row, listed, model_row
from workers.jobs.model import Job, Kind, Model, State

router = APIRouter(route_class=PageRoute, include_in_schema=False)
Digest = Annotated[str, Query(pattern=r"^([0-9a-f]{64})?$")]
_MOST_ROWS = 40


@router.get("/models", response_model=None)
def model_list(request: Request, here: Here, caller: PageReader, cursor: Cursor = "") -> Response:
    """The tenant's networks and data sets."""
    found, more = here.store.models(caller.tenant, cursor=cursor, limit=50)
    return page(
        request,
        "models.html",
        models=[model_row(m) for m in found if role(m) != FILES],
        files=[model_row(m) for m in found if role(m) == FILES],
        more=f"/models?cursor={more}" if more else "",
    )


@router.get("/models/{sha256}", response_model=None)
def model(request: Request, sha256: Sha256, here: Here, caller: PageReader) -> Response:
    """A network: what it is made of, what was asked about it."""
    found = mine(here, caller, sha256)
    jobs = jobs_of(here, caller, sha256)
    row = model_row(found)
    return page(
        request,
        "model.html",
        model=row,
        facts=facts_of(found, jobs),
        operators=_operators(found.facts),
        functions=_functions(found.facts),
        problem=str(found.facts.get("problem") or ""),
        known="operators" in found.facts,
        drawing=drawing(found.facts),
        accuracy=accuracy([(_sweep_name(j), j) for j in finished(jobs, Kind.SWEEP)[:4]]),
        jobs=[job_row(j, {sha256: row.name}) for j in jobs[:_MOST_ROWS]],
        others=[model_row(m) for m in networks(here, caller) if m.sha256 != sha256],
    )


@router.get("/models/{sha256}/content", response_model=None)
def content(request: Request, sha256: Sha256, here: Here, caller: PageReader) -> Response:
    """The network's file."""
    return models_api.get_model_content(request, sha256, here, caller)


@router.post("/models/{sha256}/delete", dependencies=[Depends(own_form)], response_model=None)
def delete(sha256: Sha256, here: Here, caller: PageWriter) -> Response:
    """Forgets a file of the tenant."""
    models_api.delete_model(sha256, here, caller)
    return go("/models")


@router.get("/compare", response_model=None)
def compare(request: Request, here: Here, caller: PageReader, a: Digest = "", b: Digest = "") -> Response:
    """Two networks side by side."""
    choices = [model_row(m) for m in networks(here, caller)]
    pair = [mine(here, caller, s) for s in (a, b) if s]
    if len(pair) < 2:
        nothing: dict[str, Any] = {"names": (), "facts": (), "questions": (), "accuracy": None}
        return page(request, "compare.html", choices=choices, a=a, b=b, **nothing)
    jobs = [jobs_of(here, caller, m.sha256) for m in pair]
    rows = [model_row(m) for m in pair]
    told = [dict(facts_of(m, j)) for m, j in zip(pair, jobs, strict=True)]
    labels = list(dict.fromkeys([*told[0], *told[1]]))
    sweeps = [
        (r.name, j) for r, found in zip(rows, jobs, strict=True) for j in finished(found, Kind.SWEEP)[:1]
    ]
    return page(
        request,
        "compare.html",
        choices=choices,
        a=a,
        b=b,
        names=(rows[0].name, rows[1].name),
        facts=[(label, told[0].get(label, "–"), told[1].get(label, "–")) for label in labels],
        questions=same_questions(jobs[0], jobs[1]),
        accuracy=accuracy(sweeps),
    )


def finished(jobs: Sequence[Job], kind: Kind) -> list[Job]:
    """The ended ones of a kind."""
    return [j for j in jobs if j.kind is kind and j.state is State.FINISHED]


def same_questions(left: Sequence[Job], right: Sequence[Job]) -> list[tuple[str, Any, Any]]:
    """Questions that both networks were asked: (words, the one's job, the other's), the latest of each."""
    other = {_asked(j): j for j in reversed(right) if j.kind in (Kind.VERIFY, Kind.LIPSCHITZ)}
    found: dict[str, tuple[str, Any, Any]] = {}
    for job in left:
        key = _asked(job)
        if key in other and key not in found:
            found[key] = (words.question(job), job_row(job, {}), job_row(other[key], {}))
    return list(found.values())[:_MOST_ROWS]


def _asked(job: Job) -> str:
    """What was asked without about which network."""
    request = {k: v for k, v in job.request.items() if k not in ("model", "options")}
    return json.dumps([job.kind.value, request], sort_keys=True)


def facts_of(found: Model, jobs: Sequence[Job]) -> list[tuple[str, str]]:
    """What is known of a network, as words."""
    facts: Any = found.facts
    rows = [("File", words.size(found.size))]
    for key, word in (("inputs", "Input"), ("outputs", "Output")):
        ports = [p for p in listed(facts.get(key)) if isinstance(p, dict)]
        rows += [(word, f"{p.get('name')}  {p.get('shape')}") for p in ports[:6]]
    for key, word in (("parameters", "Parameters"), ("neurons", "ReLU neurons"), ("opset", "ONNX opset")):
        if isinstance(facts.get(key), int):
            rows.append((word, f"{facts[key]:,}"))
    if facts.get("producer"):
        rows.append(("Written by", str(facts["producer"])))
    bounds: dict[str, float] = {}
    for job in finished(jobs, Kind.LIPSCHITZ):
        upper = job.result.get("upper")
        if isinstance(upper, int | float):
            norm = words.NORMS.get(str(job.result.get("norm")), "norm")
            bounds[norm] = min(float(upper), bounds.get(norm, float("inf")))
    rows += [(f"Lipschitz, {norm}", f"≤ {svg.number(v)}") for norm, v in bounds.items()]
    return rows


def _operators(facts: Mapping[str, Any]) -> list[tuple[str, str, bool]]:
    """Name, how often, whether it is understood."""
    rows = [r for r in listed(facts.get("operators")) if isinstance(r, dict)]
    return [(str(r.get("name")), str(r.get("count", "")), r.get("supported") is not False) for r in rows]


def _functions(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Nonlinear functions other than ReLU, and how many neurons have them."""
    found = facts.get("functions")
    return [(str(k), str(v)) for k, v in found.items()] if isinstance(found, dict) else []


def _sweep_name(job: Job) -> str:
    method = job.result.get("method")
    samples = job.result.get("samples")
    return f"{samples} samples, {method}" if samples and method else job.id
