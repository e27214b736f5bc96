"""Celery as the engine that spreads jobs over hosts: the settings, and one task that claims and runs.

Redelivery is at least once, sometimes several times at once, and a worker that dies takes its message along
or not; hence the message holds a job's id only, and whoever gets it must win the row's lease to work on it.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from celery import Celery, signals

from workers.children import Pool
from workers.dispatch_celery import TASK, CeleryDispatcher
from workers.jobs.database import StoreUnreachable
from workers.jobs.model import Claim, State
from workers.jobs.remote_artifacts import open_artifacts
from workers.jobs.sql import open_store
from workers.jobs.store import JobStore
from workers.local import Habits, next_claims, worker_name
from workers.runner import Runner, RunnerLimits

_LOG = logging.getLogger("surebound.workers")
LONGEST_S = 4 * 3600  # the longest job; with ten minutes more, what a broker waits for an acknowledgement
STUCK_S = 120.0  # a worker that has claimed nothing for so long while jobs wait has lost its broker

# docs/dev/queue-settings.md says why, each
SETTINGS: Final[dict[str, Any]] = {
    "task_acks_late": True,
    "task_reject_on_worker_lost": True,  # bounded by the attempts of the row
    "worker_prefetch_multiplier": 1,
    "task_ignore_result": True,
    "task_track_started": False,
    "worker_send_task_events": False,
    "task_serializer": "json",
    "accept_content": ["json"],
    "task_time_limit": LONGEST_S + 60,
    "worker_cancel_long_running_tasks_on_connection_loss": False,  # the lease decides, not the connection
    "broker_connection_retry_on_startup": True,
    "broker_connection_max_retries": None,
    "worker_proc_alive_timeout": 60,
    "worker_hijack_root_logger": False,
    "task_default_queue": "short",
    "worker_enable_remote_control": False,
}
TRANSPORT: Final[dict[str, Any]] = {
    "visibility_timeout": LONGEST_S + 600,
    "unacked_restore_interval": 10,
    "unacked_restore_throttle": 1,
    "health_check_interval": 25,
    "socket_keepalive": True,
    "socket_timeout": 30,
    "socket_connect_timeout": 5,
    "retry_on_timeout": True,
}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a worker finds its work.

    Attributes:
        database: of the job store; artifacts: the folder of files (shared between hosts).
        broker: redis://...; prefix: of all its keys, one per deployment.
        queues: "short", "long", "gpu".
        concurrency: jobs at once, each in a process of its own.
        files: address of an object store; "": the folder is all there is.
    """

    database: str
    artifacts: Path
    broker: str
    queues: Sequence[str] = ("short", "long")
    prefix: str = "surebound:"
    concurrency: int = 1
    habits: Habits = field(default_factory=Habits)
    limits: RunnerLimits = field(default_factory=RunnerLimits)
    visibility_s: float = LONGEST_S + 600
    files: str = ""


def make_app(broker: str, prefix: str = "surebound:", visibility_s: float = LONGEST_S + 600) -> Celery:
    """The application, for publishing as well as for working."""
    app = Celery("surebound", broker=broker, set_as_current=False)
    app.conf.update(SETTINGS)
    options = TRANSPORT | {"global_keyprefix": prefix, "visibility_timeout": visibility_s}
    app.conf.broker_transport_options = options
    return app


def dispatcher(broker: str, prefix: str = "surebound:") -> CeleryDispatcher:
    """What a web process announces jobs with."""
    return CeleryDispatcher(make_app(broker, prefix))


class _Process:
    """What one process of the worker's pool has: made after the fork."""

    def __init__(self, place: Place, draining: Any, claimed: Any, app: Celery) -> None:
        self.place, self.claimed = place, claimed
        self.name = worker_name()
        self.store = open_store(place.database, migrate=False)
        artifacts = open_artifacts(place.artifacts, place.files)
        work = artifacts.path / "work" / f"{os.getpid()}-celery"
        self.dispatch = CeleryDispatcher(app)
        self.runner = Runner(
            self.store, artifacts, work, pool=Pool(work), limits=place.limits, announce=self.dispatch.notify
        )
        self.runner.drain = draining

    def run(self, job: str) -> None:
        """Claims and runs a job; nothing happens if somebody else has it, or it is over."""
        claim = self.store.claim_job(job, self.name, self.place.limits.lease_s)
        if claim is None:
            return
        self.claimed.value = float("inf")  # at work
        try:
            claims = next_claims(self.store, claim, self.place.habits.together, self.place.limits.lease_s)
            self.runner.run(claims)
            self._announce(claims)
        finally:
            self.claimed.value = time.monotonic()

    def _announce(self, claims: Sequence[Claim]) -> None:
        """Jobs that were given back: for any worker, this one included."""
        for claim in claims:
            job = self.store.get(claim.job.id, None)
            if job.state is State.QUEUED:
                self.dispatch.notify(job.id, job.queue)


def work(place: Place, arguments: Sequence[str] = ()) -> int:
    """Works until it is told to stop (SIGTERM: running jobs are given back with their checkpoints)."""
    app = make_app(place.broker, place.prefix, place.visibility_s)
    context = multiprocessing.get_context("fork")
    draining, claimed = context.Event(), context.Value("d", time.monotonic())
    mine: list[_Process] = []

    def begin(**_: Any) -> None:
        mine.append(_Process(place, draining, claimed, app))

    def end(**_: Any) -> None:
        for process in mine:
            process.runner.pool.close()
            process.dispatch.close()

    def drain(**_: Any) -> None:
        draining.set()

    def ready(**_: Any) -> None:
        keeper = threading.Thread(target=_keep_house, args=(place, app, draining, claimed), daemon=True)
        keeper.start()

    def run(job: str) -> None:
        mine[0].run(job)

    handlers: dict[Any, Callable[..., None]] = {
        signals.worker_process_init: begin,
        signals.worker_process_shutdown: end,
        signals.worker_shutting_down: drain,
        signals.worker_ready: ready,
    }
    for event, handler in handlers.items():
        event.connect(handler, weak=False)
    app.task(run, name=TASK)
    app.worker_main(
        ["worker", "--pool", "prefork", "--concurrency", str(place.concurrency), "--queues",
         ",".join(place.queues), "--without-gossip", "--without-mingle", "--loglevel", "WARNING", *arguments]
    )  # fmt: skip
    return 0


def _keep_house(place: Place, app: Celery, draining: Any, claimed: Any) -> None:
    """Signs of life, sweeps, and messages for jobs that no message may be left of."""
    store, dispatch, name = open_store(place.database, migrate=False), CeleryDispatcher(app), worker_name()
    beat = sweep = 0.0
    while not draining.wait(min(1.0, place.habits.sweep_s)):
        now = time.monotonic()
        try:
            if now >= beat:
                beat = now + place.habits.beat_s
                store.beat(name, place.queues, {"slots": place.concurrency, "broker": "celery"})
            if now >= sweep:
                sweep = now + place.habits.sweep_s
                for job in store.sweep():
                    dispatch.notify(job, store.get(job, None).queue)
                if _stuck(store, place, claimed.value, now):
                    # alive, idle, and deaf: a fresh process has a fresh connection
                    os.kill(os.getpid(), signal.SIGTERM)
                    return
        except StoreUnreachable:
            continue
        except Exception:
            _LOG.exception("keeping house")  # it is done again in a moment


def _stuck(store: JobStore, place: Place, claimed: float, now: float) -> bool:
    waiting = max((s for q, s in store.oldest().items() if q in place.queues), default=0.0)
    return waiting > STUCK_S and now - claimed > STUCK_S
