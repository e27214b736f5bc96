"""What every request passes: an id, a host check, a limit on its body, safe headers, a line in the log.

Plain ASGI, because it wraps streams of events and uploads that must not be buffered.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Iterable, MutableMapping
from typing import Any, Final

import structlog
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service import problems
from service.metering import HttpMetrics
from service.settings import Settings, loopback

_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_TRACE: Final = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
# the only routes whose bodies are files; they count for themselves while streaming
_UPLOAD: Final = re.compile(r"PUT /v1/(?:models|files)/[^/]+|POST /jobs")
_CSP: Final = (
    "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' data:; object-src 'none'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
_HEADERS: Final = (
    (b"content-security-policy", _CSP.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"x-frame-options", b"DENY"),
)


class Guard:
    """The outermost layer of the application."""

    def __init__(self, app: ASGIApp, settings: Settings, metrics: HttpMetrics) -> None:
        self.app = app
        self.settings = settings
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = _headers(scope)
        request = _request_id(headers)
        scope["surebound.request_id"] = request
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request)
        began = time.monotonic()
        status = 0

        async def answered(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                _add_headers(message, request)
            await send(message)

        try:
            refusal = self.refusal(scope, headers)
            if refusal:
                await _refuse(scope, answered, request, *refusal)
            else:
                await self.app(scope, self.limited(scope, receive), answered)
        except ClientDisconnect:
            pass  # nobody is there to be answered; the log says 499
        except Exception as error:
            structlog.get_logger().error("defect", action="request_failed", exc_info=error)
            if status:
                raise  # the answer had begun: the connection breaks off, which is the truth
            text = f"internal error; the log has more under request {request}; please report it"
            await _refuse(scope, answered, request, 500, "internal-error", text)
        finally:
            self.finish(scope, status, time.monotonic() - began)

    def refusal(self, scope: Scope, headers: MutableMapping[str, str]) -> tuple[int, str, str] | None:
        """Why a request is not even looked at: (status, kind, detail)."""
        length = headers.get("content-length", "")
        if length and not length.isdecimal():
            return 400, "invalid-request", "Content-Length is not a number"
        limit = self.limit(scope)
        if length and int(length) > limit:
            return 413, "too-large", f"the body has {length} bytes; the limit is {limit}"
        if self.settings.keys_required:
            return None
        return self.foreign(scope, headers)

    def foreign(self, scope: Scope, headers: MutableMapping[str, str]) -> tuple[int, str, str] | None:
        """Without keys a page of any web site could speak to us through its reader's browser.

        A name that resolves to loopback (DNS rebinding) shows in Host, another site in Origin.
        """
        host = _name(headers.get("host", ""))
        if not (loopback(host) or host in self.settings.allowed_hosts):
            what = f"this server answers to loopback names only, not to {host!r}, as no keys are required"
            return 421, "wrong-host", f"{what}; set SUREBOUND_REQUIRE_KEYS=true or SUREBOUND_ALLOWED_HOSTS"
        origin = headers.get("origin", "")
        same = origin.partition("://")[2] == headers.get("host", "")
        if origin and scope["method"] not in ("GET", "HEAD", "OPTIONS") and not same:
            return 403, "foreign-origin", "requests from pages of other sites are refused without keys"
        return None

    def limit(self, scope: Scope) -> int:
        """The largest body of this request."""
        upload = _UPLOAD.fullmatch(f"{scope['method']} {scope['path']}")
        return self.settings.max_upload if upload else self.settings.max_body

    def limited(self, scope: Scope, receive: Receive) -> Receive:
        """Counts what comes, as Content-Length may be missing (or a lie)."""
        limit = self.limit(scope)
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > limit:
                raise problems.Problem(
                    413, "too-large", f"the body is larger than the limit of {limit} bytes"
                )
            return message

        return counted

    def finish(self, scope: Scope, status: int, seconds: float) -> None:
        """A line in the log, and the metrics by route (never by path: paths hold ids)."""
        route = scope.get("route")
        template = str(getattr(route, "path", "")) or "unmatched"
        self.metrics.observe(template, str(scope["method"]), status or 499, seconds)
        structlog.get_logger().info(
            "request",
            action="request",
            method=scope["method"],
            route=template,
            path=scope["path"][:200],
            status=status or 499,
            duration_s=round(seconds, 6),
            key=scope.get("surebound.key", ""),
        )


def _headers(scope: Scope) -> MutableMapping[str, str]:
    raw: Iterable[tuple[bytes, bytes]] = scope["headers"]
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in raw}


def _name(host: str) -> str:
    """Host without its port."""
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.rpartition(":")[0] or host


def _request_id(headers: MutableMapping[str, str]) -> str:
    given = headers.get("x-request-id", "")
    if _ID.fullmatch(given):
        return given
    trace = _TRACE.fullmatch(headers.get("traceparent", ""))
    return trace[1] if trace else secrets.token_hex(8)


def _add_headers(message: Any, request: str) -> None:
    have = {name.lower() for name, _ in message.get("headers", ())}
    added = [(name, value) for name, value in _HEADERS if name not in have]
    message["headers"] = [*message.get("headers", ()), *added, (b"x-request-id", request.encode())]


async def _refuse(scope: Scope, send: Send, request: str, status: int, kind: str, detail: str) -> None:
    body = problems.render(status, kind, detail, instance=scope["path"], request_id=request)
    headers = [
        (b"content-type", problems.MEDIA_TYPE.encode()),
        (b"content-length", str(len(body)).encode()),
        # whatever is still on its way is not read
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
