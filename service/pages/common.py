"""What pages read from the store, gathered."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from service.api.models import FILES, role
from service.auth import Caller
from service.context import Context
from service.pages.view_models import model_name
from workers.jobs.model import Event, Job, Model

_LOOKED_AT: Final = 400  # latest jobs searched for those of one network
_EVENTS: Final = (1000, 20)  # entries of a block, blocks


def names(here: Context, caller: Caller, jobs: Iterable[Job]) -> dict[str, str]:
    """Names of the networks of some jobs, by digest."""
    digests = {str(j.request["model"]) for j in jobs if j.request.get("model")}
    return {d: model_name(here.store.get_model(d, caller.tenant), d) for d in digests}


def networks(here: Context, caller: Caller, *, wanted: str = "models", most: int = 200) -> list[Model]:
    """The tenant's latest files of a role."""
    found, _ = here.store.models(caller.tenant, limit=most)
    return [m for m in found if (role(m) == FILES) == (wanted == FILES)]


def jobs_of(here: Context, caller: Caller, sha256: str) -> list[Job]:
    """The latest jobs about a network, newest first, among the tenant's last few hundred."""
    found: list[Job] = []
    cursor, seen = "", 0
    while seen < _LOOKED_AT:
        page = here.store.page(caller.tenant, cursor=cursor, limit=200)
        found += [j for j in page.items if j.request.get("model") == sha256]
        cursor, seen = page.cursor, seen + len(page.items)
        if not cursor:
            break
    return found


def history(here: Context, job: Job) -> list[Event]:
    """A job's log; of a very long one the beginning."""
    block, most = _EVENTS
    found: list[Event] = []
    for _ in range(most):
        more = here.store.events(job.id, found[-1].number if found else 0, block)
        found += more
        if len(more) < block:
            break
    return found
