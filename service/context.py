"""What the application was made of, for the functions that answer requests."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Annotated, cast

from fastapi import Depends, Request

from service.metering import HttpMetrics
from service.rates import Buckets
from service.settings import Settings
from workers.jobs.artifacts import Artifacts
from workers.jobs.dispatch import Dispatcher
from workers.jobs.store import JobStore
from workers.linter import Linter


@dataclass(frozen=True, slots=True)
class Context:
    """Wired once by :func:`service.app.create_app`; nothing here is global.

    Attributes:
        stopping: set when the server goes away, so that streams end.
        reading: how many properties may be read at a time; reading is pure computation, and more of them
            would starve the other threads.
    """

    settings: Settings
    store: JobStore
    artifacts: Artifacts
    dispatcher: Dispatcher
    metrics: HttpMetrics
    buckets: Buckets
    linter: Linter
    stopping: threading.Event = field(default_factory=threading.Event)
    reading: threading.Semaphore = field(default_factory=lambda: threading.BoundedSemaphore(2))


def context(request: Request) -> Context:
    """The application's context."""
    return cast("Context", request.app.state.context)


async def _context(request: Request) -> Context:
    # a coroutine, because FastAPI sends plain functions to a thread, which costs more than they do
    return context(request)


Here = Annotated[Context, Depends(_context)]
