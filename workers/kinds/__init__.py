"""What a child can do: one module per kind of job, imported when the first job of its kind comes."""

from __future__ import annotations

from importlib import import_module
from typing import cast

from workers.jobs.model import Kind
from workers.task import Run

MODULES = {
    Kind.VERIFY: "verify",
    Kind.SWEEP: "sweep",
    Kind.LIPSCHITZ: "lipschitz",
    Kind.TRAIN: "train",
    Kind.CHECK: "check",
}


def run_of(kind: Kind) -> Run:
    """The function that does a kind of job."""
    return cast("Run", import_module(f"workers.kinds.{MODULES[kind]}").run)
