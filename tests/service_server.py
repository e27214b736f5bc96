"""A real server on loopback for tests: uvicorn in a thread, SQLite in a folder."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import structlog
import uvicorn

from service.app import create_app
from service.auth import create_key
from service.server import listen
from service.settings import Settings
from workers.jobs.artifacts import Artifacts
from workers.jobs.dispatch import Dispatcher, Polling
from workers.jobs.model import Answer, Artifact, Claim, Outcome, State
from workers.jobs.sql import SqlStore, open_store

VNNLIB = """(declare-const X_0 Real)
(declare-const Y_0 Real)
(assert (>= X_0 -1.0))
(assert (<= X_0 1.0))
(assert (>= Y_0 5.0))
"""
MODEL = b"any bytes: the web process opens no network"
DIGEST = hashlib.sha256(MODEL).hexdigest()


@dataclass
class Running:
    """A server and what it is made of."""

    url: str
    settings: Settings
    store: SqlStore
    artifacts: Artifacts
    server: uvicorn.Server

    def client(self, key: str = "") -> httpx.Client:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        # the environment's proxies are for other hosts
        return httpx.Client(base_url=self.url, headers=headers, timeout=30, trust_env=False)

    def key(self, tenant: str, *scopes: str) -> str:
        wanted = frozenset(scopes or ("jobs:read", "jobs:write"))
        return create_key(self.store, tenant, wanted, note="", now=time.time())

    def claim(self) -> Claim:
        found = self.store.claim("test", ["short", "long", "gpu"], 30.0)
        assert found is not None
        return found

    def finish(self, claim: Claim, answer: Answer | None = Answer.VERIFIED, **fields: Any) -> None:
        state = State.FAILED if answer is None else State.FINISHED
        assert self.store.finish(claim, Outcome(state, answer, **fields))

    def keep(self, name: str, data: bytes, media_type: str = "application/json") -> Artifact:
        digest, size = self.artifacts.put_bytes(data)
        return Artifact(name, digest, size, media_type)


@contextlib.contextmanager
def serving(
    folder: Path, *, dispatcher: Dispatcher | None = None, port: int = 0, **given: Any
) -> Iterator[Running]:
    """A running server; it is stopped in order afterwards."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("error"))
    settings = Settings(data=folder, slots=0, events_poll_s=0.02, port=port, **given)
    store = open_store(settings.database_url)
    artifacts = Artifacts(folder / "artifacts")
    app = create_app(settings, store, artifacts, dispatcher or Polling())
    listener = listen("127.0.0.1", port)
    config = uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=5)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    running = Running(f"http://127.0.0.1:{listener.getsockname()[1]}", settings, store, artifacts, server)
    try:
        wait_until(lambda: server.started)
        yield running
    finally:
        app.state.context.stopping.set()
        server.should_exit = True
        thread.join(20)
        store.close()
        assert not thread.is_alive()


def wait_until(true: Any, timeout_s: float = 60.0) -> None:
    """Until something holds; fails loudly if it never does."""
    until = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.01)


def put(client: httpx.Client, data: bytes = MODEL, folder: str = "models") -> str:
    digest = hashlib.sha256(data).hexdigest()
    answer = client.put(f"/v1/{folder}/{digest}", content=data)
    assert answer.status_code in (200, 201), answer.text
    return digest


def body(**more: Any) -> dict[str, Any]:
    return {"kind": "verify", "model": DIGEST, "property": {"vnnlib": VNNLIB}, "timeout_s": 5, **more}


def submit(client: httpx.Client, **more: Any) -> dict[str, Any]:
    put(client)
    answer = client.post("/v1/jobs", json=body(**more))
    assert answer.status_code == 202, answer.text
    return answer.json()


def bomb(size: int) -> bytes:
    """A small gzip file of many zeros."""
    return gzip.compress(bytes(size))
