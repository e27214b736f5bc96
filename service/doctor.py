"""Checks of ``verify doctor`` about servers, found through the entry-point group ``surebound.checks``.

Only what is configured (``SUREBOUND_DATABASE``, ``SUREBOUND_BROKER``, ``SUREBOUND_SERVER``) is asked.
"""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

from bounds.errors import BadInput, SureboundError
from verifier.doctor.model import Finding, Level

PATIENCE_S = 3.0
_PORTS = {"redis": 6379, "rediss": 6379}


def checks() -> Iterator[Finding]:
    """Database, queue and server, each if it is configured."""
    asked = {
        "database": ("SUREBOUND_DATABASE", _database),
        "broker": ("SUREBOUND_BROKER", _broker),
        "server": ("SUREBOUND_SERVER", _server),
    }
    for name, (variable, check) in asked.items():
        if url := os.environ.get(variable, ""):
            yield check(name, url, variable)
        else:
            yield Finding(name, Level.OK, f"not configured ({variable})")


def masked(url: str) -> str:
    """The address without its password."""
    try:
        parts = urlsplit(url)
        if parts.password is None:
            return url
    except ValueError:
        return "(not an address)"
    return parts._replace(netloc=f"{parts.username or ''}:***@{parts.netloc.rpartition('@')[2]}").geturl()


def _database(name: str, url: str, variable: str) -> Finding:
    shown = masked(url)
    try:
        from sqlalchemy.exc import SQLAlchemyError

        from workers.jobs.database import Database, as_url
    except ImportError as error:
        return Finding(
            name, Level.PROBLEM, f"{shown}: needs {error.name}", "pip install 'surebound[service,postgres]'"
        )
    try:
        parsed = as_url(url)
        if parsed.get_backend_name() == "sqlite" and not Path(str(parsed.database)).exists():
            # opening would create it
            return Finding(name, Level.NOTE, f"{shown}: does not exist yet", "'verify serve' creates it")
        database = Database(url, patience_s=PATIENCE_S)
        try:
            database.check()
        finally:
            database.close()
    except (SureboundError, SQLAlchemyError) as error:
        text = str(error).splitlines()[0].replace(url, shown)
        return Finding(name, Level.PROBLEM, f"{shown}: {text}", f"start it, or correct {variable}")
    return Finding(name, Level.OK, f"{shown}: reachable, its tables are current")


def _broker(name: str, url: str, variable: str) -> Finding:
    """Asks Redis for a sign of life by hand: only the queue's two modules may import its library."""
    shown = masked(url)
    try:
        answer = _ping(url)
    except (OSError, ValueError, BadInput) as error:
        return Finding(name, Level.PROBLEM, f"{shown}: {error}", f"start Redis, or correct {variable}")
    if answer.startswith("+PONG"):
        return Finding(name, Level.OK, f"{shown}: answers")
    return Finding(
        name, Level.PROBLEM, f"{shown}: answers '{answer}'", f"correct the user or password in {variable}"
    )


def _ping(url: str) -> str:
    """The first line of the answer to PING, after AUTH where the address has a password."""
    parts = urlsplit(url)
    if parts.scheme not in _PORTS:
        raise BadInput(f"'{parts.scheme}' is not redis or rediss")
    address = (parts.hostname or "127.0.0.1", parts.port or _PORTS[parts.scheme])
    with socket.create_connection(address, PATIENCE_S) as plain:
        stream = (
            ssl.create_default_context().wrap_socket(plain, server_hostname=address[0])
            if parts.scheme == "rediss"
            else plain
        )
        with stream.makefile("rwb") as file:

            def ask(*words: str) -> str:
                coded = [word.encode() for word in words]
                body = b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in coded)
                file.write(b"*%d\r\n%s" % (len(coded), body))
                file.flush()
                return file.readline(200).decode(errors="replace").strip()

            if parts.password is not None:
                user = [unquote(parts.username)] if parts.username else []
                refused = ask("AUTH", *user, unquote(parts.password))
                if not refused.startswith("+OK"):
                    return refused
            return ask("PING")


def _server(name: str, url: str, variable: str) -> Finding:
    import urllib.error
    import urllib.request

    shown = masked(url)
    if urlsplit(url).scheme not in ("http", "https"):
        return Finding(name, Level.PROBLEM, f"{shown}: is no http address", f"correct {variable}")
    try:
        with urllib.request.urlopen(f"{url.rstrip('/')}/readyz", timeout=PATIENCE_S) as answer:  # noqa: S310
            return Finding(name, Level.OK, f"{shown}: ready ({answer.status})")
    except (OSError, urllib.error.URLError, ValueError) as error:
        return Finding(name, Level.PROBLEM, f"{shown}: {error}", f"start it, or correct {variable}")
