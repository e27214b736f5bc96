"""Warm worker processes: one task each at a time, replaced when they die, killed when they overrun."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any, Final

from bounds.errors import SureboundError
from bounds.threads import VARIABLE
from verifier.cli.codes import THREADS

COMMAND: Final = (sys.executable, "-m", "verifier.cli.worker")
_TICK: Final = 0.2  # seconds between looks at deadlines and at interrupts
_START_LIMIT: Final = 120.0  # seconds that a worker may take to import everything on a busy machine
_DEATHS_AT_START: Final = 3  # then the fault is in the installation, and a fourth start would not help


@dataclass(frozen=True, slots=True)
class Task:
    """What a worker is asked to do.

    Attributes:
        model, spec: files.
        options: keyword arguments of ``Options``, the semantics by its word.
        certificate: file to write, or "".
    """

    model: str
    spec: str
    options: dict[str, Any]
    certificate: str = ""

    @property
    def timeout(self) -> float | None:
        """Seconds that the worker was told."""
        return self.options.get("timeout")


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a task ended.

    Attributes:
        verdict: the report's verdict, "timed-out" after an overrun, or "error".
        seconds: wall time from handing the task over to the answer.
        report: the report's JSON form; None without one.
        assignment: counterexample in VNN-COMP form, or "".
        note: why, for "error" and overruns.
    """

    verdict: str
    seconds: float
    report: dict[str, Any] | None = None
    assignment: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Event:
    """Something a watcher may show: ``key`` started, progressed (``progress``) or ended (``outcome``)."""

    key: int
    progress: dict[str, Any] | None = None
    outcome: Outcome | None = None


def grace(timeout: float) -> float:
    """Seconds beyond its time limit after which a worker is killed."""
    return max(5.0, 0.2 * timeout)


class _Worker:
    """One process and the task it has."""

    def __init__(self, command: Sequence[str]) -> None:
        self.errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  # closed in stop()
        self.process = subprocess.Popen(  # noqa: S603  # our own interpreter and module
            list(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            # parallelism comes from one instance per core; threads inside would fight over the same cores
            env={**os.environ, **dict.fromkeys((VARIABLE, *THREADS), "1")},
            # away from the terminal's process group: ^C is for the parent, which then stops the workers
            start_new_session=True,
        )
        assert self.process.stdin is not None and self.process.stdout is not None
        self.stdin, self.stdout = self.process.stdin, self.process.stdout
        os.set_blocking(self.stdout.fileno(), False)
        self.rest = b""
        self.ready = False
        self.since = time.monotonic()
        self.key: int | None = None
        self.deadline = self.since + _START_LIMIT

    def give(self, key: int, task: Task) -> None:
        self.key, self.since = key, time.monotonic()
        limit = task.timeout
        self.deadline = float("inf") if limit is None else self.since + limit + grace(limit)
        self.stdin.write(json.dumps(dataclasses.asdict(task)).encode() + b"\n")
        self.stdin.flush()

    def take(self) -> tuple[list[dict[str, Any]], bool]:
        """Messages that arrived, and whether the process has closed its end."""
        chunk = self.stdout.read()
        if chunk is None:
            return [], False
        *lines, self.rest = (self.rest + chunk).split(b"\n")
        return [json.loads(line) for line in lines], chunk == b""

    def stop(self) -> None:
        """Kills the process and whatever it started; safe to call twice."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        for file in (self.stdout, self.errors):
            file.close()
        with contextlib.suppress(BrokenPipeError):  # a task was still in the buffer
            self.stdin.close()

    def epitaph(self) -> str:
        """How the process died, with the last thing it said."""
        code = self.process.wait()
        if code >= 0:
            how = f"worker ended with code {code}"
        else:
            how = f"worker was killed by {signal.Signals(-code).name}"
        if code == -signal.SIGKILL:
            how += " (out of memory? lower --jobs or --memory)"
        self.errors.seek(max(0, self.errors.seek(0, os.SEEK_END) - 4096))
        said = self.errors.read().decode(errors="replace").strip().splitlines()
        return f"{how}: {said[-1].strip()[:200]}" if said else how


class Pool:
    """Runs tasks on warm workers; a context manager, which leaves no process behind."""

    def __init__(self, jobs: int, command: Sequence[str] = COMMAND) -> None:
        """Prepares; processes start in :meth:`run`.

        Args:
            jobs: number of processes.
            command: program that speaks the protocol of :mod:`verifier.cli.worker`.
        """
        self._jobs = jobs
        self._command = tuple(command)
        self._workers: list[_Worker] = []
        self._selector = selectors.DefaultSelector()
        self._deaths = 0

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in list(self._workers):
            self._bury(worker)
        self._selector.close()

    def run(self, tasks: Sequence[Task]) -> Iterator[Event | None]:
        """Runs all tasks; yields events as they happen, and None at least every fifth of a second.

        Every task ends in exactly one event with an outcome. ``Event.key`` is its position.

        Raises:
            SureboundError: processes die again and again before they take a task.
        """
        waiting = list(reversed(range(len(tasks))))
        left = len(tasks)
        while left:
            while len(self._workers) < min(self._jobs, left):
                self._hire()
            for event in self._step(tasks, waiting):
                left -= event.outcome is not None
                yield event
            yield None

    def _step(self, tasks: Sequence[Task], waiting: list[int]) -> Iterator[Event]:
        """Hands out tasks, waits a little, collects what happened."""
        for worker in self._workers:
            if worker.ready and worker.key is None and waiting:
                key = waiting.pop()
                yield Event(key)
                with contextlib.suppress(BrokenPipeError):  # it died idle: its end of file tells below
                    worker.give(key, tasks[key])
        for ready, _ in self._selector.select(_TICK):
            yield from self._collect(ready.data)
        now = time.monotonic()
        for worker in [w for w in self._workers if now > w.deadline]:
            yield from self._overrun(worker)

    def _collect(self, worker: _Worker) -> Iterator[Event]:
        messages, ended = worker.take()
        for message in messages:
            if message.get("ready"):
                worker.ready, worker.deadline, self._deaths = True, float("inf"), 0
            elif worker.key is not None:
                yield self._event(worker, worker.key, message)
        if ended:
            key = worker.key
            note = worker.epitaph()
            self._bury(worker)
            if key is not None:
                yield Event(key, outcome=Outcome("error", time.monotonic() - worker.since, note=note))
            elif not worker.ready:
                self._died_at_start(note)

    def _event(self, worker: _Worker, key: int, message: dict[str, Any]) -> Event:
        if "progress" in message:
            return Event(key, progress=message["progress"])
        seconds = time.monotonic() - worker.since
        worker.key, worker.deadline = None, float("inf")
        if "error" in message:
            return Event(key, outcome=Outcome("error", seconds, note=message["error"]))
        report = message["result"]["report"]
        note = "" if report["reason"] is None else report["reason"]["text"]
        return Event(
            key, outcome=Outcome(report["verdict"], seconds, report, message["result"]["assignment"], note)
        )

    def _overrun(self, worker: _Worker) -> Iterator[Event]:
        key, seconds = worker.key, time.monotonic() - worker.since
        self._bury(worker)
        if key is None:
            self._died_at_start(f"worker was not ready after {seconds:.0f} s")
        else:
            note = f"killed after {seconds:.1f} s: it overran its time limit"
            yield Event(key, outcome=Outcome("timed-out", seconds, note=note))

    def _died_at_start(self, note: str) -> None:
        self._deaths += 1
        if self._deaths >= _DEATHS_AT_START:
            raise SureboundError(f"workers cannot start: {note}; try one instance with 'verify run'")

    def _hire(self) -> None:
        worker = _Worker(self._command)
        self._workers.append(worker)
        self._selector.register(worker.stdout, selectors.EVENT_READ, worker)

    def _bury(self, worker: _Worker) -> None:
        self._selector.unregister(worker.stdout)
        self._workers.remove(worker)
        worker.stop()
