"""Who looks at a page: the key in a cookie, forms of our own pages only, and the theme."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Final

import structlog
from fastapi import Depends, Request
from fastapi.responses import Response

from service.auth import Caller, Scope, identify, slow_down
from service.context import context
from service.problems import Problem

KEY_COOKIE: Final = "surebound_key"
THEME_COOKIE: Final = "surebound_theme"
THEMES: Final = ("light", "dark")
_YEAR: Final = 365 * 24 * 3600
_WEEK: Final = 7 * 24 * 3600


def visitor(scope: Scope) -> Callable[[Request], Caller]:
    """A dependency: whose pages these are. Without keys the cookie does not count.

    Raises:
        Problem: 401 without a good key (the page then asks for one), 403 without the scope, 429 too often.
    """

    def caller(request: Request) -> Caller:
        here = context(request)
        key = request.cookies.get(KEY_COOKIE, "") if here.settings.keys_required else ""
        found = identify(here.settings, here.store, key)
        request.scope["surebound.key"] = found.key
        slow_down(here, found.key)
        structlog.contextvars.bind_contextvars(tenant=found.tenant)
        if not found.may(scope):
            what = f"this key lacks the scope '{scope}'; sign in with another, or ask an administrator"
            raise Problem(403, "scope-missing", what)
        return found

    return caller


def own_form(request: Request) -> None:
    """Only our own pages may send forms: another site could otherwise use its reader's cookie.

    Browsers name the origin of every POST; a program should use the API.

    Raises:
        Problem: 403.
    """
    origin = request.headers.get("origin")
    if origin is None:
        same = request.headers.get("sec-fetch-site") == "same-origin"
    else:
        same = origin.partition("://")[2] == request.headers.get("host", "")
    if not same:
        what = "this form was sent from elsewhere; open the page here and send it again (programs: use /v1)"
        raise Problem(403, "foreign-origin", what)


def sign_in(response: Response, request: Request, key: str) -> None:
    """Keeps the key: out of reach of scripts, and never sent along from other sites."""
    response.set_cookie(
        KEY_COOKIE,
        key,
        max_age=_WEEK,
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
    )


def keep_theme(response: Response, theme: str) -> None:
    """Keeps the choice of colours; the empty one is the system's."""
    if theme in THEMES:
        # scripts change it without a round trip, so it is no secret
        response.set_cookie(THEME_COOKIE, theme, max_age=_YEAR, samesite="lax")
    else:
        response.delete_cookie(THEME_COOKIE)


def theme(request: Request) -> str:
    """The chosen colours, or ""."""
    chosen = request.cookies.get(THEME_COOKIE, "")
    return chosen if chosen in THEMES else ""


def inside(path: str, otherwise: str = "/") -> str:
    """A path of this server to go on to: nothing that a browser takes for another host."""
    plain = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable()
    return path if plain and "\\" not in path else otherwise


PageReader = Annotated[Caller, Depends(visitor(Scope.READ))]
PageWriter = Annotated[Caller, Depends(visitor(Scope.WRITE))]
PageAdmin = Annotated[Caller, Depends(visitor(Scope.ADMIN))]
