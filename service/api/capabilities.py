"""What this server can do, and within which limits."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any

from fastapi import APIRouter
from fastapi.responses import Response

from service.api.common import error
from service.auth import Reader
from service.context import Here
from service.views import REPORTS, answer
from verifier.version import VERSION
from workers.jobs.model import Answer, Kind, State

router = APIRouter(tags=["operations"])


@cache
def table() -> dict[str, Any]:
    """Operators and functions, written by docs/gen_service.py: the importer itself needs onnx, which is not
    loaded into the web process."""
    return json.loads(files("service").joinpath("capabilities.json").read_text(encoding="utf-8"))


_OBJECT: dict[str, Any] = {"content": {"application/json": {"schema": {"type": "object"}}}}


@router.get("/v1/capabilities", responses={200: _OBJECT, **error(401, 403)}, response_model=None)
def capabilities(here: Here, caller: Reader) -> Response:  # noqa: ARG001 - the scope is checked
    """Kinds of jobs, operators, functions, forms of reports, limits."""
    s = here.settings
    return answer(
        {
            "version": VERSION,
            "kinds": [k.value for k in Kind if k is not Kind.SHARD],
            "states": [x.value for x in State],
            "verdicts": [a.value for a in Answer],
            **table(),
            "reports": list(REPORTS),
            "limits": {
                "max_upload_bytes": s.max_upload,
                "max_unpacked_bytes": s.max_unpacked,
                "max_body_bytes": s.max_body,
                "max_property_bytes": s.max_property,
                "default_timeout_s": s.default_timeout_s,
                "max_timeout_s": s.max_timeout_s,
                "default_memory_mb": s.default_memory_mb,
                "max_memory_mb": s.max_memory_mb,
                "max_attempts": s.max_attempts,
                "max_shards": s.max_shards,
                "queued_jobs": s.quota_queued,
                "running_jobs": s.quota_running,
                "bytes": s.quota_bytes,
                "cpu_seconds_per_day": s.quota_cpu_s,
            },
        }
    )
