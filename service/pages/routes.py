"""Puts the pages into the application."""

from __future__ import annotations

from fastapi import FastAPI
from starlette.staticfiles import StaticFiles

from service.pages import account, ask, jobs, models


def install(app: FastAPI) -> None:
    """Adds every page and the files that they need."""
    for part in (ask, jobs, models, account):
        app.include_router(part.router)
    app.mount("/static", StaticFiles(packages=[("service", "static")]), name="static")
