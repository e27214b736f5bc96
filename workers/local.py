"""The embedded supervisor: slots that claim jobs and run them in children. What ``verify serve`` starts."""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import socket
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from workers.children import Pool, PoolLimits
from workers.jobs.artifacts import Artifacts
from workers.jobs.database import StoreUnreachable
from workers.jobs.model import Claim, Kind
from workers.jobs.store import JobStore
from workers.runner import Runner, RunnerLimits

_LOG = logging.getLogger("surebound.workers")
QUEUES = ("short", "long", "gpu")


@dataclass(frozen=True, slots=True)
class Habits:
    """How a supervisor goes about it; times in seconds.

    Attributes:
        poll_s: between two looks at the queue, where no wake-up comes.
        sweep_s: between two sweeps; beat_s: between two signs of life of the worker itself.
        drain_s: for which a stop waits for jobs to be given back.
        together: jobs of one family that are bounded in one batch at most.
    """

    poll_s: float = 0.5
    sweep_s: float = 30.0
    beat_s: float = 10.0
    drain_s: float = 30.0
    together: int = 64


def worker_name() -> str:
    """Unique among all workers that ever were: a lease names its owner."""
    return f"{socket.gethostname()[:60]}-{os.getpid()}-{secrets.token_hex(4)}"


def next_claims(store: JobStore, claim: Claim, together: int, lease_s: float) -> list[Claim]:
    """A claim, and queued jobs that can be bounded with it; not with one that was begun before."""
    if claim.attempt > 1 or together < 2 or claim.job.kind is not Kind.VERIFY:
        return [claim]
    more = store.claim_family(claim, together - 1, lease_s)
    return [claim, *more]


class Supervisor:
    """Slots, a sweeper, and a wake-up. It is a dispatcher too (:class:`workers.jobs.dispatch.Dispatcher`).

    Args:
        store, artifacts: where jobs and files are.
        slots: jobs (or batches) at once.
        queues: which to serve, all alike.
        work: folder for children's files; None: beside the artefacts.
    """

    def __init__(
        self,
        store: JobStore,
        artifacts: Artifacts,
        *,
        slots: int = 1,
        queues: Sequence[str] = QUEUES,
        work: Path | None = None,
        habits: Habits | None = None,
        limits: RunnerLimits | None = None,
    ) -> None:
        self.store, self.artifacts, self.slots, self.queues = store, artifacts, slots, tuple(queues)
        self.habits, self.limits = habits or Habits(), limits or RunnerLimits()
        self.name = worker_name()
        base = work or artifacts.path / "work"
        _remove_left(base)
        self._work = base / f"{os.getpid()}-{secrets.token_hex(4)}"
        self._work.mkdir(parents=True)
        self._pool = Pool(self._work, PoolLimits(idle=max(slots, 2)))
        self._runners = [
            Runner(store, artifacts, self._work, pool=self._pool, limits=self.limits, announce=self.notify)
            for _ in range(slots)
        ]
        self._stop, self._wake = threading.Event(), threading.Condition()
        self._news = 0
        self._threads: list[threading.Thread] = []
        self._busy = 0

    def start(self) -> None:
        """Begins to work, on threads of its own."""
        self._pool.warm()
        loops = [threading.Thread(target=self._serve, args=(r, i)) for i, r in enumerate(self._runners)]
        self._threads = [*loops, threading.Thread(target=self._keep_house)]
        for thread in self._threads:
            thread.daemon = True
            thread.start()

    def notify(self, job: str, queue: str) -> None:
        """There may be work."""
        del job, queue
        with self._wake:
            self._news += 1
            self._wake.notify()

    @property
    def busy(self) -> int:
        """Slots that are at work."""
        return self._busy

    def stop(self) -> None:
        """Takes no more jobs, gives running ones back with what they have, ends the children."""
        self._stop.set()
        for runner in self._runners:
            runner.drain.set()
        with self._wake:
            self._wake.notify_all()
        end = time.monotonic() + self.habits.drain_s
        for thread in self._threads:
            thread.join(max(end - time.monotonic(), 0.1))
        self._pool.close()
        shutil.rmtree(self._work, ignore_errors=True)

    def _serve(self, runner: Runner, slot: int) -> None:
        name = f"{self.name}-{slot}"
        while not self._stop.is_set():
            seen = self._news
            claims = self._next(name)
            if not claims:
                self._sleep(seen)
                continue
            self._busy += 1
            try:
                runner.run(claims)
            except Exception:
                # their leases run out and they are begun again; the slot must not be lost with them
                _LOG.exception("jobs %s", [c.job.id for c in claims])
                self._stop.wait(1.0)
            finally:
                self._busy -= 1

    def _next(self, name: str) -> list[Claim]:
        """What a slot does next; none where there is nothing, or the store cannot say."""
        try:
            claim = self.store.claim(name, self.queues, self.limits.lease_s)
            if claim is None:
                return []
            return next_claims(self.store, claim, self.habits.together, self.limits.lease_s)
        except StoreUnreachable:
            return []
        except Exception:
            # a claim that was made all the same runs out; the slot must not be lost with it
            _LOG.exception("claiming")
            self._stop.wait(1.0)
            return []

    def _sleep(self, seen: int) -> None:
        with self._wake:
            if self._news == seen and not self._stop.is_set():
                self._wake.wait(self.habits.poll_s)

    def _keep_house(self) -> None:
        """Signs of life, sweeps, idle children."""
        beat = sweep = 0.0
        while not self._stop.wait(min(1.0, self.habits.poll_s)):
            now = time.monotonic()
            try:
                if now >= beat:
                    self.store.beat(self.name, self.queues, {"slots": self.slots, "busy": self._busy})
                    beat = now + self.habits.beat_s
                if now >= sweep:
                    sweep = now + self.habits.sweep_s
                    if self.store.sweep():
                        self.notify("", "")
                self._pool.tidy()
            except StoreUnreachable:
                continue
            except Exception:
                _LOG.exception("keeping house")  # it is done again in a moment


def _remove_left(base: Path) -> None:
    """Folders of supervisors that are no more."""
    for folder in base.glob("*-*"):
        pid = folder.name.partition("-")[0]
        if pid.isdigit() and not Path(f"/proc/{pid}").exists() and Path("/proc").exists():
            shutil.rmtree(folder, ignore_errors=True)
