"""Errors as RFC 9457 problems: what went wrong, where, and what to do next."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from bounds.errors import SureboundError
from workers.jobs.database import NotMigrated, StoreUnreachable
from workers.jobs.store import KeyReused, NotFinished, QuotaExceeded, UnknownJob

MEDIA_TYPE: Final = "application/problem+json"
TYPES: Final = "urn:problem-type:surebound:"  # docs/reference/service.md lists them
_MOST_ERRORS: Final = 20
_MOST_TEXT: Final = 2000

# status -> title, where nothing more special is known
TITLES: Final[dict[int, str]] = {
    400: "The request is malformed",
    401: "A key is needed",
    403: "Not allowed",
    404: "Not found",
    405: "Method not allowed",
    409: "Conflict",
    411: "Length required",
    412: "Precondition failed",
    413: "Too large",
    415: "Unsupported media type",
    421: "Wrong host",
    422: "The request cannot be used",
    429: "Too many",
    500: "Internal error",
    503: "Not available",
}


class Problem(HTTPException):
    """An error that becomes a problem document.

    Args:
        status: the HTTP status.
        kind: last part of the problem's type URI, such as "job-not-finished".
        detail: a sentence for people.
        headers: of the response.
        errors: places in the body: ``{"pointer": ..., "detail": ...}`` and, in texts, line and column.
    """

    def __init__(
        self,
        status: int,
        kind: str,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        errors: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        super().__init__(status, detail, headers=dict(headers) if headers else None)
        self.kind = kind
        self.errors = tuple(errors)


def response(
    request: Request,
    status: int,
    kind: str,
    detail: str,
    *,
    headers: Mapping[str, str] | None = None,
    errors: Sequence[Mapping[str, Any]] = (),
) -> Response:
    """The problem document as a response."""
    return Response(
        render(
            status, kind, detail, instance=request.url.path, request_id=request_id(request), errors=errors
        ),
        status,
        # without these a 405 lacks Allow, a 401 WWW-Authenticate and a 429 Retry-After
        headers=dict(headers) if headers else None,
        media_type=MEDIA_TYPE,
    )


def render(
    status: int,
    kind: str,
    detail: str,
    *,
    instance: str = "",
    request_id: str = "",
    errors: Sequence[Mapping[str, Any]] = (),
) -> bytes:
    """The bytes of a problem document; pure ASCII, as texts quote callers (lone surrogates too)."""
    document: dict[str, Any] = {
        "type": TYPES + kind if kind else "about:blank",
        "title": TITLES.get(status, "Error"),
        "status": status,
        "detail": _short(detail),
        "instance": _short(instance),
        "request_id": request_id,
    }
    if errors:
        document["errors"] = [dict(e) for e in errors[:_MOST_ERRORS]]
    return json.dumps(document, allow_nan=False).encode("ascii")


def request_id(request: Request) -> str:
    """The id that the middleware gave to this request."""
    return str(request.scope.get("surebound.request_id", ""))


def _short(text: str) -> str:
    return text if len(text) <= _MOST_TEXT else text[:_MOST_TEXT] + " ..."


def _http(request: Request, error: Exception) -> Response:
    http = cast("HTTPException", error)
    kind = http.kind if isinstance(http, Problem) else ""
    errors = http.errors if isinstance(http, Problem) else ()
    detail = http.detail or TITLES.get(http.status_code, "")
    return response(request, http.status_code, kind, detail, headers=http.headers, errors=errors)


def _validation(request: Request, error: Exception) -> Response:
    found = cast("RequestValidationError", error).errors()
    errors = [{"pointer": pointer(e["loc"]), "detail": _short(str(e["msg"]))} for e in found]
    first = f"{errors[0]['pointer']}: {errors[0]['detail']}" if errors else "the request is not valid"
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    detail = f"{first}{more}; see /v1/openapi.json"
    return response(request, 422, "invalid-request", detail, errors=errors)


def pointer(place: Sequence[Any]) -> str:
    """A place as a JSON pointer; the first part says in what (body, query, path, header)."""
    parts = [str(p).replace("~", "~0").replace("/", "~1") for p in place]
    if parts[:1] == ["body"]:
        parts = parts[1:]
    return _short("/" + "/".join(parts))


# error of the store -> (status, kind, headers)
_STORE: Final[tuple[tuple[type[SureboundError], int, str, dict[str, str]], ...]] = (
    (UnknownJob, 404, "unknown-job", {}),
    (KeyReused, 422, "idempotency-key-reused", {}),
    (QuotaExceeded, 429, "quota-exceeded", {"Retry-After": "30"}),
    (NotFinished, 409, "job-not-finished", {"Retry-After": "1"}),
    (StoreUnreachable, 503, "store-unreachable", {"Retry-After": "5"}),
    (NotMigrated, 503, "store-unreachable", {"Retry-After": "60"}),
)


def _deliberate(request: Request, error: Exception) -> Response:
    """An error of the house's list: the caller's doing."""
    for kind, status, name, headers in _STORE:
        if isinstance(error, kind):
            # where the store is (an address, a path) is for the log only
            text = str(error) if status != 503 else "the store cannot be reached; see the log, try again"
            if status == 503:
                structlog.get_logger().error("store", action="store_unreachable", error=str(error))
            return response(request, status, name, text, headers=headers)
    return response(request, 422, "invalid-request", str(error))


def install(app: FastAPI) -> None:
    """Registers the handlers; whatever else is raised is a defect, which the outermost layer answers."""
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(SureboundError, _deliberate)


# statuses of the outermost layer and of the store, which any call may get
_ANYWHERE: Final = ("400", "413", "421", "500", "503")


def document(schema: dict[str, Any]) -> dict[str, Any]:
    """Puts problems into an OpenAPI document: every 4xx and 5xx response is one, in its one media type."""
    schema["components"].setdefault("schemas", {})["Problem"] = PROBLEM_SCHEMA
    for name in ("HTTPValidationError", "ValidationError"):
        schema["components"]["schemas"].pop(name, None)
    reference = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    for operations in schema["paths"].values():
        for operation in operations.values():
            for status in _ANYWHERE:
                operation["responses"].setdefault(status, {"description": TITLES[int(status)]})
            for status, answer in operation["responses"].items():
                if status[0] in "45":
                    answer["content"] = reference
    return schema


PROBLEM_SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "title": "Problem",
    "description": "An error as in RFC 9457.",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string", "description": "What kind of error; stable."},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "What is wrong, where, and what to do next."},
        "instance": {"type": "string"},
        "request_id": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "pointer": {"type": "string", "description": "JSON pointer into the request."},
                    "detail": {"type": "string"},
                    "line": {"type": "integer"},
                    "column": {"type": "integer"},
                },
            },
        },
    },
    "example": {
        "type": TYPES + "property-invalid",
        "title": "The request cannot be used",
        "status": 422,
        "detail": "property:3:9: unknown variable 'Z_0'; declare it",
        "instance": "/v1/jobs",
        "request_id": "9f0c0f0a4e2b4b0d",
        "errors": [{"pointer": "/property/vnnlib", "detail": "unknown variable", "line": 3, "column": 9}],
    },
}
