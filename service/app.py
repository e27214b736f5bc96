"""The application: wiring only. It imports neither torch nor onnx; workers' children open networks."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import anyio.to_thread
from fastapi import FastAPI
from fastapi.routing import APIRoute

from service import problems
from service.api import artifacts as artifacts_api
from service.api import capabilities, events, health, jobs, metrics, models
from service.context import Context
from service.metering import HttpMetrics
from service.middleware import Guard
from service.pages import routes as pages
from service.rates import Buckets
from service.schemas import VIEW_EXAMPLES
from service.settings import Settings
from verifier.version import VERSION
from workers.jobs.artifacts import Artifacts
from workers.jobs.dispatch import Dispatcher
from workers.jobs.store import JobStore
from workers.linter import Linter

# enough for short transactions; more threads than this only fight for two cores
THREADS = 16
_TEXT = """Verification of neural networks as jobs: upload a network, ask, follow, fetch the certificate.

Lifecycle (`state`) and answer (`verdict`) are two fields. Errors are problem documents (RFC 9457). Every
time is UTC in ISO 8601. Another tenant's job is answered like one that does not exist.
"""


def create_app(settings: Settings, store: JobStore, artifacts: Artifacts, dispatcher: Dispatcher) -> FastAPI:
    """The ASGI application.

    Args:
        settings: what the operator decided.
        store: the truth about jobs.
        artifacts: where files lie.
        dispatcher: who is told about new jobs.
    """
    buckets = Buckets(settings.rate_per_s, settings.rate_burst)
    linter = Linter(artifacts.path / "work" / f"{os.getpid()}-lint")
    here = Context(settings, store, artifacts, dispatcher, HttpMetrics(), buckets, linter)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:  # noqa: ARG001
        anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS
        yield
        here.stopping.set()
        await anyio.to_thread.run_sync(linter.close)

    app = FastAPI(
        title="surebound",
        version=VERSION,
        description=_TEXT,
        openapi_url="/v1/openapi.json",
        # their pages load scripts from elsewhere, which our policy of content forbids
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        generate_unique_id_function=_operation_id,
    )
    app.state.context = here
    # routes are compared one after the other: what is polled comes first
    for part in (jobs, models, artifacts_api, events, capabilities, health, metrics):
        app.include_router(part.router)
    pages.install(app)
    problems.install(app)
    app.add_middleware(Guard, settings=settings, metrics=here.metrics)
    _document(app)
    return app


def _operation_id(route: APIRoute) -> str:
    """Stable names for generated clients."""
    return route.name


def _document(app: FastAPI) -> None:
    """The OpenAPI document with problems in it, made once."""
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = problems.document(plain())
            for name, example in VIEW_EXAMPLES.items():
                document["components"]["schemas"][name]["example"] = example
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi
