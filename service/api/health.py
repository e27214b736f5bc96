"""Whether the process lives, and whether it can work."""

from __future__ import annotations

from typing import Any

import structlog
from fastapi import APIRouter
from fastapi.responses import Response

from bounds.errors import SureboundError
from service.context import Here
from service.problems import Problem
from service.views import answer
from verifier.version import VERSION

router = APIRouter(tags=["operations"])

WORKER_FRESH_S = 60.0
_OBJECT: dict[str, Any] = {"content": {"application/json": {"schema": {"type": "object"}}}}


@router.get("/livez", responses={200: _OBJECT}, response_model=None)
def livez() -> Response:
    """The process answers; nothing else is asked."""
    return answer({"status": "ok", "version": VERSION})


@router.get("/readyz", responses={200: _OBJECT, 503: {"description": "Not available"}}, response_model=None)
def readyz(here: Here) -> Response:
    """The store can be reached and is migrated. Without workers jobs are taken in all the same."""
    try:
        here.store.ping()
        alive = here.store.workers(WORKER_FRESH_S)
    except (SureboundError, OSError) as error:
        structlog.get_logger().error("not ready", action="not_ready", error=str(error))
        # why is in the log only: the address of a database is nobody's business
        problem = Problem(
            503, "not-ready", "the store cannot be reached; see the log", headers={"Retry-After": "5"}
        )
        raise problem from None
    return answer({"status": "ok", "store": "ok", "workers": len(alive)})
