"""Announces jobs to Celery's workers. A message is a hint: it may be lost or doubled."""

from __future__ import annotations

import queue
import threading

import kombu.exceptions
import redis.exceptions
from celery import Celery

TASK = "surebound.run"
WAITING = 10_000  # messages that may wait for a broker; a sweep brings back what is dropped


class CeleryDispatcher:
    """See :class:`workers.jobs.dispatch.Dispatcher`. Publishing happens on a thread of its own: a broker that
    hangs must not hold up whoever submits.

    Args:
        app: as of :func:`workers.celery_app.make_app`.
    """

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._waiting: queue.Queue[tuple[str, str] | None] = queue.Queue(WAITING)
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self.failed = 0

    def notify(self, job: str, queue: str) -> None:
        """There is a job; returns at once."""
        with self._lock:
            if self._thread is None:  # not before a fork
                self._thread = threading.Thread(target=self._publish, daemon=True)
                self._thread.start()
        self._offer((job, queue))

    def _offer(self, message: tuple[str, str] | None) -> None:
        try:
            self._waiting.put_nowait(message)
        except queue.Full:
            self.failed += 1

    def _publish(self) -> None:
        while (message := self._waiting.get()) is not None:
            job, name = message
            try:
                self._app.send_task(TASK, args=[job], queue=name, retry=False, ignore_result=True)
            except (kombu.exceptions.OperationalError, redis.exceptions.RedisError, OSError):
                self.failed += 1

    def close(self) -> None:
        """Publishes what is waiting, if the broker lets it, and ends."""
        self._offer(None)
        if self._thread is not None:
            self._thread.join(5.0)
