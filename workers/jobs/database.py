"""Databases: how they are opened, migrated, and asked again when they went away for a moment."""

from __future__ import annotations

import fcntl
import json
import sqlite3
import threading
import time
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import URL, Connection, make_url
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    NoSuchModuleError,
    OperationalError,
    SQLAlchemyError,
)

from bounds.errors import BadInput, SureboundError

HEAD = "0002"  # the latest file of migrations/versions (a test compares)
_MIGRATION_LOCK = 0x5EB0  # of PostgreSQL's advisory locks
SETTLE_BYTES = 4 << 20  # of SQLite's log, from which on a server moves them to the file
AUTO_PAGES = 8000  # (32 MB) from which on whoever commits does, where no server runs
_READ = {"surebound_read": True}
# what a database says when the same transaction may succeed in a moment, besides a lost connection
_AGAIN = (
    "database is locked",
    "database table is locked",
    "deadlock detected",
    "could not serialize",
    "the database system is starting up",
    "the database system is shutting down",
    "connection refused",
    "connection failed",
    "is the server running",
    "server closed the connection",
    "terminating connection",
    "connection is closed",
)

T = TypeVar("T")


class StoreUnreachable(SureboundError):
    """The database does not answer, or its disk is full; the same call may work later."""


class NotMigrated(BadInput):
    """The database's tables are of another version."""


def as_url(text: str) -> URL:
    """The address of a database: a path (SQLite), ``sqlite:///path`` or ``postgresql://...``.

    Raises:
        BadInput: it is neither.
    """
    if "://" not in text:
        text = f"sqlite:///{text}"
    try:
        url = make_url(text)
    except ArgumentError as error:
        raise BadInput(f"--database {text}: {error}; give a path or postgresql://host/name") from None
    name = url.get_backend_name()
    if name in ("postgresql", "postgres"):
        return url.set(drivername="postgresql+psycopg")
    if name != "sqlite":
        raise BadInput(f"--database {text}: '{name}' is not supported; give a path or postgresql://host/name")
    if url.database in (None, "", ":memory:"):
        raise BadInput(f"--database {text}: a job store must be a file; give its path")
    return url


class Database:
    """An engine with the settings that a queue needs, and the two kinds of transactions.

    Args:
        url: see :func:`as_url`.
        patience_s: how long a transaction is tried again after a lost connection or a held lock.
        clock: seconds since 1970; None: the database's host's (SQLite: this one's).
    """

    def __init__(
        self, url: str, *, patience_s: float = 10.0, clock: Callable[[], float] | None = None
    ) -> None:
        self.url, self.patience_s, self._clock = as_url(url), patience_s, clock
        self.sqlite = self.url.get_backend_name() == "sqlite"
        # SQLite lets whoever has to wait for a writer sleep for longer and longer times; threads of one
        # process do better by taking turns
        self._turn: AbstractContextManager[Any] = threading.Lock() if self.sqlite else nullcontext()
        self._glances, self._opened = threading.local(), list[sqlite3.Connection]()
        try:
            self.engine = self._engine()
        except (ImportError, NoSuchModuleError) as error:
            raise BadInput(f"{error}: pip install 'surebound[postgres]'") from None
        self._reads = self.engine.execution_options(**_READ)

    def _engine(self) -> sa.Engine:
        given: dict[str, Any] = {"json_serializer": _dumps}
        if not self.sqlite:
            options = {"connect_timeout": 5, "application_name": "surebound"}
            given |= {"pool_pre_ping": True, "pool_size": 10, "max_overflow": 40, "connect_args": options}
            return sa.create_engine(self.url, **given)
        if sqlite3.sqlite_version_info < (3, 35):  # UPDATE ... RETURNING
            raise BadInput(f"SQLite is {sqlite3.sqlite_version}; 3.35 is the oldest that will do")
        Path(str(self.url.database)).absolute().parent.mkdir(parents=True, exist_ok=True)
        engine = sa.create_engine(self.url, pool_size=10, max_overflow=40, **given)
        event.listen(engine, "connect", _set_up_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine

    def now(self, connection: Connection) -> float:
        """Seconds since 1970, by the clock that leases go by."""
        if self._clock is not None:
            return self._clock()
        if self.sqlite:
            return time.time()
        return float(connection.scalar(sa.text("SELECT extract(epoch FROM clock_timestamp())")) or 0.0)

    def write(self, work: Callable[[Connection], T]) -> T:
        """Runs a short transaction that writes.

        ``work`` may run several times, even after a commit whose answer was lost: it must be repeatable.

        Raises:
            StoreUnreachable: patience has run out.
        """
        return self._patiently(self.engine, work, self._turn)

    def read(self, work: Callable[[Connection], T]) -> T:
        """Runs a transaction that only reads.

        Raises:
            StoreUnreachable: patience has run out.
        """
        return self._patiently(self._reads, work, nullcontext())

    def _patiently(
        self, engine: sa.Engine, work: Callable[[Connection], T], turn: AbstractContextManager[Any]
    ) -> T:
        end, pause = time.monotonic() + self.patience_s, 0.02
        while True:
            try:
                with turn, engine.begin() as connection:
                    return work(connection)
            except DBAPIError as error:
                if not _passing(error):
                    raise self._in_words(error) from error
                if time.monotonic() + pause >= end:
                    raise StoreUnreachable(f"{self}: does not answer ({_one_line(error)})") from error
            time.sleep(pause)
            pause = min(pause * 2, 1.0)

    def _in_words(self, error: DBAPIError) -> Exception:
        """What is wrong, for people, where it is nothing of ours."""
        text = _one_line(error)
        if isinstance(error, OperationalError) or "no such table" in text:
            if "no such table" in text:
                return NotMigrated(f"{self}: has no tables; run 'verify serve --migrate'")
            return StoreUnreachable(f"{self}: {text}; make room or check the database")
        return NotMigrated(f"{self}: {text}") if "does not exist" in text else error

    def glance(self, query: str, values: tuple[object, ...]) -> list[Any] | None:
        """What a short read finds, by a connection that waits for nobody; None where that cannot be had.

        For a thread that must not wait. SQLite only: its readers do not wait for writers, and its answer
        takes less time than to ask another thread for it.
        """
        if not self.sqlite:
            return None
        try:
            raw: sqlite3.Connection | None = getattr(self._glances, "raw", None)
            if raw is None:
                address = f"{Path(str(self.url.database)).absolute().as_uri()}?mode=ro"
                raw = sqlite3.connect(
                    address, uri=True, timeout=0, check_same_thread=False, isolation_level=None
                )
                self._glances.raw = raw
                self._opened.append(raw)
            return raw.execute(query, values).fetchall()  # all, so that no transaction stays open
        except sqlite3.Error:
            return None

    def settle(self) -> bool:
        """SQLite: moves what was committed from the log to the file; whether that was due.

        Whoever commits would have to do it now and then, and to wait for the disk.
        """
        log = Path(f"{self.url.database}-wal")
        if not self.sqlite or not log.exists() or log.stat().st_size < SETTLE_BYTES:
            return False
        try:
            raw = self.engine.raw_connection()  # not within a transaction
            try:
                raw.cursor().execute("PRAGMA wal_checkpoint(PASSIVE)").close()
            finally:
                raw.close()
        except (sqlite3.Error, SQLAlchemyError):
            return False  # somebody else is at it, or the disk is full, which commits will say
        return True

    def close(self) -> None:
        """Closes every connection."""
        self.engine.dispose()
        self._glances = threading.local()
        while self._opened:
            self._opened.pop().close()

    def __str__(self) -> str:
        return self.url.render_as_string(hide_password=True)

    def version(self) -> str:
        """The migration that the tables are at; "" without tables."""

        def work(connection: Connection) -> str:
            if not sa.inspect(connection).has_table("alembic_version"):
                return ""
            return str(connection.scalar(sa.text("SELECT version_num FROM alembic_version")) or "")

        return self.read(work)

    def migrate(self) -> None:
        """Brings the tables to :data:`HEAD`; safe to call from several processes at once."""
        if self.version() == HEAD:
            return
        from alembic import command
        from alembic.config import Config

        with self._alone() as connection:
            config = Config()
            config.set_main_option("script_location", "workers.jobs:migrations")
            config.set_main_option("path_separator", "os")
            config.attributes["connection"] = connection
            command.upgrade(config, "head")

    @contextmanager
    def _alone(self) -> Generator[Connection]:
        """A transaction that no second migration can run beside."""
        if not self.sqlite:
            with self.engine.begin() as connection:
                connection.execute(sa.text(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})"))
                yield connection
            return
        lock = Path(f"{self.url.database}.migrate")
        with lock.open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            with self.engine.begin() as connection:
                yield connection

    def check(self) -> None:
        """Raises unless the database answers and its tables are of this version."""
        found = self.version()
        if found != HEAD:
            raise NotMigrated(
                f"{self}: tables are of version '{found or 'none'}', this program's of '{HEAD}'; "
                "run 'verify serve --migrate', or the program that fits"
            )


def _set_up_sqlite(raw: Any, _record: object) -> None:
    raw.isolation_level = None  # we say BEGIN ourselves
    cursor = raw.cursor()
    settings = ("journal_mode=WAL", "synchronous=NORMAL", "busy_timeout=5000", "foreign_keys=ON")
    for pragma in (*settings, f"wal_autocheckpoint={AUTO_PAGES}"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    # whoever reads first and then writes would fail instead of waiting, unless it begins as a writer
    reads = connection.get_execution_options().get("surebound_read", False)
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")


def _passing(error: DBAPIError) -> bool:
    text = str(error.orig).lower()
    return error.connection_invalidated or any(words in text for words in _AGAIN)


def _one_line(error: DBAPIError) -> str:
    return " ".join(str(error.orig).split())


def _dumps(value: object) -> str:
    return json.dumps(value, allow_nan=False, separators=(",", ":"))
