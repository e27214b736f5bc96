"""Starts what 'verify serve' and 'verify worker' are: opens the store, listens, stops in order."""

from __future__ import annotations

import contextlib
import importlib
import signal
import socket
import sys
import threading
from collections.abc import Generator
from types import FrameType, ModuleType

import structlog
import uvicorn

from bounds.errors import BadInput, SureboundError
from service import log
from service.app import create_app
from service.auth import check_start
from service.context import Context
from service.settings import Settings
from workers.jobs.artifacts import Artifacts
from workers.jobs.dispatch import Dispatcher
from workers.jobs.remote_artifacts import open_artifacts
from workers.jobs.sql import SqlStore, open_store

DAY_S = 24 * 3600.0
TIDY_S = 3600.0  # between two removals of files that nothing names
SETTLE_S = 1.0  # between two looks at the database's log
# a request passes three threads; each waits so long for one that computes (reads a property, say)
SWITCH_S = 0.001


def open_all(settings: Settings, *, migrate: bool | None = None) -> tuple[SqlStore, Artifacts]:
    """Store and files of a data folder.

    Raises:
        BadInput: they cannot be opened.
    """
    folder = settings.data.resolve()  # children work elsewhere
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"{settings.data}: {error.strerror}; give another folder by --data") from None
    return open_store(settings.database_url, migrate=migrate), open_artifacts(
        folder / "artifacts", settings.artifacts
    )


class _Server(uvicorn.Server):
    """uvicorn waits for open answers before it stops; streams of events have to be told."""

    def __init__(self, config: uvicorn.Config, context: Context) -> None:
        super().__init__(config)
        self.context = context

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """Unlike uvicorn's, this does not send us the signal again when the server has stopped: jobs
        have to be given back after that."""
        before = {sign: signal.signal(sign, self.handle_exit) for sign in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for sign, handler in before.items():
                signal.signal(sign, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.context.stopping.set()
        super().handle_exit(sig, frame)


def run(settings: Settings, *, migrate: bool = False, log_level: str = "info") -> int:
    """Serves until it is told to stop.

    Raises:
        BadInput: the address cannot be had, or it is reachable from elsewhere and there are no keys.
    """
    log.configure(log_level)
    store, artifacts = open_all(settings, migrate=migrate or None)
    check_start(settings, sum(not k.revoked for k in store.keys()))  # noqa: SIM118 - no mapping
    listener = listen(settings.host, settings.port)
    sys.setswitchinterval(SWITCH_S)
    with (
        announced(settings, store, artifacts) as dispatcher,
        tidied(settings, store, artifacts),
        settled(store),
    ):
        app = create_app(settings, store, artifacts, dispatcher)
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=int(settings.grace_s),
            timeout_keep_alive=30,
            h11_max_incomplete_event_size=64 << 10,
        )
        sys.stdout.write(f"surebound listens on {address(listener, settings.host)}\n")
        sys.stdout.flush()
        _Server(config, app.state.context).run(sockets=[listener])
    store.close()
    structlog.get_logger().info("stopped", action="stopped")
    return 0


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; bound here, so that a port of 0 is known before anything is printed."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # with the protocol named, asyncio switches Nagle's algorithm off: it would cost 40 ms an answer
    found = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((host, port))
        found.listen(1024)
    except OSError as error:
        found.close()
        raise BadInput(
            f"cannot listen on {host} port {port} ({error.strerror}); choose another port"
        ) from None
    found.set_inheritable(False)
    return found


def address(listener: socket.socket, host: str) -> str:
    """What to type into a browser."""
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{listener.getsockname()[1]}"


class _All:
    """Tells everybody."""

    def __init__(self, dispatchers: list[Dispatcher]) -> None:
        self.dispatchers = dispatchers

    def notify(self, job: str, queue: str) -> None:
        for dispatcher in self.dispatchers:
            dispatcher.notify(job, queue)


@contextlib.contextmanager
def announced(settings: Settings, store: SqlStore, artifacts: Artifacts) -> Generator[Dispatcher]:
    """Whoever is told about new jobs: the local supervisor, if it has slots; a broker, if there is one."""
    with contextlib.ExitStack() as stack:
        told: list[Dispatcher] = []
        if settings.slots:
            from workers.local import Supervisor

            supervisor = Supervisor(store, artifacts, slots=settings.slots)
            supervisor.start()
            stack.callback(supervisor.stop)
            told.append(supervisor)
        if settings.broker:
            publisher = _celery().dispatcher(settings.broker)
            stack.callback(publisher.close)
            told.append(publisher)
        yield _All(told)


@contextlib.contextmanager
def settled(store: SqlStore, every_s: float = SETTLE_S) -> Generator[None]:
    """Lets no request wait for the database's own housekeeping."""
    stop = threading.Event()

    def settle() -> None:
        while not stop.wait(every_s):
            store.settle()

    thread = threading.Thread(target=settle, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(5.0)


@contextlib.contextmanager
def tidied(
    settings: Settings, store: SqlStore, artifacts: Artifacts, every_s: float = TIDY_S
) -> Generator[None]:
    """Removes files that nothing needs any more, now and then: a deleted job's, a refused upload's, and what
    jobs left that ended before the time for which files are kept."""
    kept_s = settings.retention_days * DAY_S or None
    stop = threading.Event()

    def tidy() -> None:
        while not stop.wait(every_s):
            try:
                removed = artifacts.collect(store.named(kept_s))
            except (SureboundError, OSError) as error:  # the database is away, or the folder: later, then
                structlog.get_logger().error("tidying failed", action="tidy_failed", error=str(error))
                continue
            structlog.get_logger().info("tidied", action="tidied", removed=removed)

    thread = threading.Thread(target=tidy, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(5.0)


def work(settings: Settings, queues: list[str], processes: int) -> int:
    """Works on queued jobs by Celery until it is told to stop.

    Raises:
        BadInput: no broker, an unknown queue, or a package is missing.
    """
    if not settings.broker:
        raise BadInput("which broker? Give --broker redis://..., or set SUREBOUND_BROKER")
    unknown = sorted(set(queues) - {"short", "long", "gpu"})
    if unknown or not queues:
        raise BadInput(f"unknown queues {unknown}; choose from short, long, gpu")
    log.configure()
    store, artifacts = open_all(settings)
    store.close()  # every process of the pool opens its own after the fork
    adapter = _celery()
    place = adapter.Place(
        database=settings.database_url,
        artifacts=artifacts.path,
        files=settings.artifacts,
        broker=settings.broker,
        queues=tuple(queues),
        concurrency=processes,
    )
    return adapter.work(place)


def _celery() -> ModuleType:
    try:
        return importlib.import_module("workers.celery_app")
    except ImportError as error:
        raise BadInput(f"a broker needs {error.name}: pip install 'surebound[redis]'") from None
