"""From view models to HTML; errors too become pages with words."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from functools import cache
from typing import Any, Final, cast
from urllib.parse import urlencode

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from fastapi.routing import APIRoute
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from starlette.exceptions import HTTPException

from bounds.errors import SureboundError
from service.context import context
from service.pages import words
from service.pages.session import KEY_COOKIE, theme
from service.pages.svg import number
from service.views import moment
from verifier.version import VERSION

# error -> the handler of the application that knows its status and its words
_HANDLED: Final = (HTTPException, RequestValidationError, SureboundError)
_PRIVATE: Final = {"Cache-Control": "no-store", "Vary": "Cookie"}


@cache
def _environment() -> Environment:
    """Everything is escaped; a name that is missing is an error, not an empty place."""
    environment = Environment(
        loader=PackageLoader("service", "templates"),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: dict[str, Any] = {"ago": words.ago, "moment": moment, "seconds": words.seconds}
    environment.filters.update(filters | {"size": words.size, "number": number})
    return environment


def page(request: Request, template: str, status: int = 200, **values: Any) -> Response:
    """A page (or a part of one), never kept by caches: it shows a tenant's own things."""
    here = context(request)
    shown = {
        "path": request.url.path,
        "theme": theme(request),
        "version": VERSION,
        "keys_required": here.settings.keys_required,
        "signed_in": here.settings.keys_required and bool(request.cookies.get(KEY_COOKIE)),
        **values,
    }
    text = _environment().get_template(template).render(shown)
    return HTMLResponse(text, status, headers=_PRIVATE)


def go(address: str) -> Response:
    """On to another page after a form was handled."""
    return RedirectResponse(address, 303, headers=_PRIVATE)


class PageRoute(APIRoute):
    """A route whose errors are pages. A missing key leads to where one is given."""

    def get_route_handler(self) -> Callable[[Request], Awaitable[Response]]:  # type: ignore[override]
        """See fastapi."""
        handle = super().get_route_handler()

        async def handled(request: Request) -> Response:
            try:
                return await handle(request)
            except _HANDLED as error:
                return await failed(request, error)

        return handled


async def failed(request: Request, error: Exception) -> Response:
    """The page of an error, in the words of the API's problem."""
    problem = told(request, error)
    status = int(problem["status"])
    if status == 401:
        back = {"next": request.url.path} if request.method == "GET" else {}
        if request.cookies.get(KEY_COOKIE):
            back["why"] = "refused"
        return go("/keys" + ("?" + urlencode(back) if back else ""))
    return page(request, "error.html", status, problem=problem)


def told(request: Request, error: Exception) -> dict[str, Any]:
    """An error as the API's handlers put it: status, title, detail, request_id and perhaps errors."""
    kind = next(k for k in _HANDLED if isinstance(error, k))
    handlers = cast("dict[Any, Callable[[Request, Exception], Response]]", request.app.exception_handlers)
    return json.loads(bytes(handlers[kind](request, error).body))
