"""Who calls: bearer keys ``sb_<id>_<secret>``, kept as digests, with scopes; or loopback without a key."""

from __future__ import annotations

import enum
import hashlib
import hmac
import math
import re
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Final

import anyio.to_thread
import structlog
from fastapi import Depends, Request
from fastapi.security import HTTPBearer
from fastapi.security.http import HTTPAuthorizationCredentials

from bounds.errors import BadInput
from service.context import Context, context
from service.problems import Problem
from service.settings import Settings
from workers.jobs.model import Key
from workers.jobs.store import JobStore

LOCAL_TENANT: Final = "local"
_KEY: Final = re.compile(r"sb_([a-z0-9]{8,32})_([A-Za-z0-9_-]{20,100})")
_CHALLENGE: Final = {"WWW-Authenticate": 'Bearer realm="surebound"'}


class Scope(enum.StrEnum):
    """What a key may do."""

    READ = "jobs:read"
    WRITE = "jobs:write"
    METRICS = "metrics:read"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls: the tenant whose rows are seen, and what may be done."""

    tenant: str
    scopes: frozenset[str]
    key: str = ""

    def may(self, scope: Scope) -> bool:
        """Administrators may everything."""
        return scope in self.scopes or Scope.ADMIN in self.scopes


def create_key(store: JobStore, tenant: str, scopes: frozenset[str], *, note: str, now: float) -> str:
    """Makes a key; the text returned is the only time that the secret is seen.

    Raises:
        BadInput: a scope is unknown, or the tenant's name is not one.
    """
    unknown = sorted(scopes - {s.value for s in Scope})
    if unknown or not scopes:
        raise BadInput(f"unknown scopes {unknown}; choose from {', '.join(s.value for s in Scope)}")
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", tenant):
        raise BadInput(f"{tenant!r} is no tenant's name; use letters, digits, '.', '_' and '-'")
    identity, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
    store.add_key(Key(identity, tenant, digest(secret), scopes, now, note))
    return f"sb_{identity}_{secret}"


def digest(secret: str) -> str:
    """What is kept of a secret. It is random and long, so a plain hash is enough."""
    return hashlib.sha256(secret.encode()).hexdigest()


def check_start(settings: Settings, keys: int) -> None:
    """Refuses to be reachable from other machines without any key.

    Raises:
        BadInput: keys are required and there are none.
    """
    if settings.keys_required and not keys:
        raise BadInput(
            f"{settings.host} needs keys and there are none; make one with "
            "'verify keys create --tenant NAME', or listen on 127.0.0.1"
        )


def identify(settings: Settings, store: JobStore, credentials: str) -> Caller:
    """The caller that a bearer token stands for; "" is a call without one.

    Raises:
        Problem: 401.
    """
    if not credentials:
        if settings.keys_required:
            raise Problem(401, "key-needed", "give a key: 'Authorization: Bearer sb_...'", headers=_CHALLENGE)
        return Caller(LOCAL_TENANT, frozenset({Scope.ADMIN.value}))
    match = _KEY.fullmatch(credentials)
    key = store.key(match[1]) if match else None
    # compared in any case, so that an unknown id takes as long as a wrong secret
    right = hmac.compare_digest(digest(match[2] if match else ""), key.secret_sha256 if key else "0" * 64)
    if key is None or not right:
        raise Problem(
            401, "key-unknown", "the key is unknown or revoked; ask for another", headers=_CHALLENGE
        )
    return Caller(key.tenant, key.scopes, key.id)


def slow_down(here: Context, key: str) -> None:
    """Raises 429 where a key calls too often. Calls without one come from this machine and are not counted.

    Raises:
        Problem: 429.
    """
    wait = here.buckets.take(key) if key else 0.0
    if wait:
        most = f"{here.settings.rate_per_s:g} a second, {here.settings.rate_burst} at once"
        what = f"this key calls too often (at most {most}); wait, or follow events instead of polling"
        raise Problem(429, "too-many-requests", what, headers={"Retry-After": str(math.ceil(wait))})


_bearer = HTTPBearer(auto_error=False, description="A key: sb_<id>_<secret>", scheme_name="key")
Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]


def needs(scope: Scope) -> Callable[[Request, Credentials], Awaitable[Caller]]:
    """A dependency: the caller, who must have the scope."""

    async def caller(request: Request, credentials: Credentials) -> Caller:
        here = context(request)
        if credentials is None and request.headers.get("authorization"):
            raise Problem(
                401, "key-unknown", "the scheme of Authorization must be Bearer", headers=_CHALLENGE
            )
        given = credentials.credentials if credentials else ""
        ask = partial(identify, here.settings, here.store, given)
        # only keys have to be looked up
        found = await anyio.to_thread.run_sync(ask) if given else ask()
        request.scope["surebound.key"] = found.key
        slow_down(here, found.key)
        structlog.contextvars.bind_contextvars(tenant=found.tenant)
        if not found.may(scope):
            challenge = {"WWW-Authenticate": f'Bearer error="insufficient_scope", scope="{scope}"'}
            raise Problem(403, "scope-missing", f"this key lacks the scope '{scope}'", headers=challenge)
        return found

    return caller


Reader = Annotated[Caller, Depends(needs(Scope.READ))]
Writer = Annotated[Caller, Depends(needs(Scope.WRITE))]
Observer = Annotated[Caller, Depends(needs(Scope.METRICS))]
