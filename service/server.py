"""Starts what 'verify serve' and 'verify worker' are: opens the store, listens, stops in order."""

from __future__ import annotations

import contextlib
import signal
import socket
import sys
from collections.abc import Generator
from types import FrameType

import structlog
import uvicorn

from bounds.errors import BadInput
from service import log
from service.app import create_app
from service.auth import check_start
from service.context import Context
from service.settings import Settings
from workers.jobs.artifacts import Artifacts
from workers.jobs.dispatch import Dispatcher, Polling
from workers.jobs.sql import SqlStore, open_store


def open_all(settings: Settings, *, migrate: bool | None = None) -> tuple[SqlStore, Artifacts]:
    """Store and files of a data folder.

    Raises:
        BadInput: they cannot be opened.
    """
    try:
        settings.data.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"{settings.data}: {error.strerror}; give another folder by --data") from None
    return open_store(settings.database_url, migrate=migrate), Artifacts(settings.data / "artifacts")


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
    dispatcher: Dispatcher = Polling()
    with supervised(settings, store, artifacts) as announced:
        app = create_app(settings, store, artifacts, announced or dispatcher)
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


@contextlib.contextmanager
def supervised(settings: Settings, store: SqlStore, artifacts: Artifacts) -> Generator[Dispatcher | None]:
    """The local supervisor, if it has any slots; announces jobs to it."""
    if not settings.slots:
        yield None
        return
    from workers.local import Supervisor

    supervisor = Supervisor(store, artifacts, slots=settings.slots)
    supervisor.start()
    try:
        yield supervisor
    finally:
        supervisor.stop()


def work(settings: Settings, queues: list[str], broker: str | None) -> int:
    """Works on queued jobs by Celery."""
    raise BadInput(f"not yet: {settings.data} {queues} {broker}")
