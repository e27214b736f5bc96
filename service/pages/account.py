"""Keys, colours, help."""

from __future__ import annotations

import time
from typing import Annotated

from fastapi import APIRouter, Depends, Form, Query, Request
from fastapi.responses import Response

from service.api.capabilities import table
from service.auth import Caller, Scope, create_key, identify
from service.context import Context, Here
from service.pages.render import PageRoute, go, page
from service.pages.session import (
    KEY_COOKIE,
    PageAdmin,
    inside,
    keep_theme,
    own_form,
    sign_in,
    visitor,
)
from service.problems import Problem

router = APIRouter(route_class=PageRoute, include_in_schema=False)
_OFFERED = (
    (Scope.READ, "look at jobs and networks"),
    (Scope.WRITE, "submit, cancel and remove"),
    (Scope.METRICS, "read metrics"),
    (Scope.ADMIN, "everything, keys too"),
)
Text = Annotated[str, Form(max_length=400)]
_DENIED = (401, 403)


@router.get("/help", response_model=None)
def help_page(request: Request, here: Here) -> Response:
    """How to go about it; needs no key, as it says nothing about anybody."""
    return page(request, "help.html", table=table(), settings=here.settings)


@router.get("/keys", response_model=None)
def keys(
    request: Request,
    here: Here,
    next: Annotated[str, Query(max_length=400)] = "/",
    why: Annotated[str, Query(max_length=20)] = "",
) -> Response:
    """Where a key is given, and for administrators the tenant's keys."""
    wrong = "That key is unknown or revoked. Ask for another." if why == "refused" else ""
    return _keys(request, here, next=next, wrong=wrong)


def _keys(
    request: Request, here: Context, *, next: str = "/", wrong: str = "", made: str = "", status: int = 200
) -> Response:
    caller = _who(request)
    admin = caller is not None and caller.may(Scope.ADMIN)
    return page(
        request,
        "keys.html",
        status,
        caller=caller,
        admin=admin,
        keys=here.store.keys(caller.tenant) if admin and caller is not None else [],
        scopes=_OFFERED,
        next=inside(next),
        wrong=wrong,
        made=made,
    )


def _who(request: Request) -> Caller | None:
    """Who is signed in, if anybody."""
    try:
        return visitor(Scope.READ)(request)
    except Problem as error:
        if error.status_code not in _DENIED:
            raise
        return None


@router.post("/keys/use", dependencies=[Depends(own_form)], response_model=None)
def use(request: Request, here: Here, key: Text = "", next: Text = "/") -> Response:
    """Signs in with a key."""
    try:
        if not key.strip():
            raise Problem(401, "key-needed", "Paste a key; it begins with sb_.")
        identify(here.settings, here.store, key.strip())
    except Problem as error:
        return _keys(request, here, next=next, wrong=str(error.detail), status=error.status_code)
    response = go(inside(next))
    sign_in(response, request, key.strip())
    return response


@router.post("/keys/leave", dependencies=[Depends(own_form)], response_model=None)
def leave() -> Response:
    """Signs out."""
    response = go("/keys")
    response.delete_cookie(KEY_COOKIE)
    return response


@router.post("/keys", dependencies=[Depends(own_form)], response_model=None)
def make(
    request: Request,
    here: Here,
    caller: PageAdmin,
    scope: Annotated[list[str] | None, Form(max_length=8)] = None,
    note: Text = "",
) -> Response:
    """Makes a key for the own tenant; its text is shown this once."""
    if not scope:
        return _keys(request, here, wrong="Choose at least one thing that the key may do.", status=422)
    made = create_key(here.store, caller.tenant, frozenset(scope), note=note[:200], now=time.time())
    here.store.audit(caller.tenant, "keys.create", {"scopes": sorted(scope), "key": caller.key})
    return _keys(request, here, made=made)


@router.post("/keys/{key_id}/revoke", dependencies=[Depends(own_form)], response_model=None)
def revoke(key_id: str, here: Here, caller: PageAdmin) -> Response:
    """Makes a key of the own tenant useless; somebody else's is not there."""
    if key_id not in {k.id for k in here.store.keys(caller.tenant)}:
        raise Problem(404, "unknown-key", "there is no such key; it may have been removed")
    here.store.revoke_key(key_id)
    here.store.audit(caller.tenant, "keys.revoke", {"revoked": key_id, "key": caller.key})
    return go("/keys")


@router.post("/theme", dependencies=[Depends(own_form)], response_model=None)
def set_theme(theme: Text = "", back: Text = "/") -> Response:
    """Keeps the choice of colours."""
    response = go(inside(back))
    keep_theme(response, theme)
    return response
