"""Databases that the store's conformance suite runs on: SQLite, and a real PostgreSQL where one can be had.

PostgreSQL is the wheel ``pgserver``, or the server that SUREBOUND_POSTGRES names (postgresql://...).
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

HOW = "install the dependency group 'workers' (pip install --group workers), or set SUREBOUND_POSTGRES"


@contextmanager
def postgres() -> Iterator[str]:
    """The address of an empty database on a server of one's own."""
    given = os.environ.get("SUREBOUND_POSTGRES", "")
    if given:
        yield given
        return
    pytest.importorskip("psycopg", reason=HOW)
    pgserver = pytest.importorskip("pgserver", reason=HOW)
    # a short path: the server's socket lies in it, and the system limits its length
    folder = Path(tempfile.mkdtemp(prefix="sb-pg-"))
    server = pgserver.get_server(folder / "data", cleanup_mode="stop")
    try:
        yield server.get_uri()
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


def become_owner(data: Path) -> Callable[[], None]:
    """For ``preexec_fn``: what controls a server has to be the user that it runs as."""
    owner, group = data.stat().st_uid, data.stat().st_gid

    def become() -> None:
        os.setgid(group)
        os.setuid(owner)

    return become
