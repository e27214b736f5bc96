"""Verification of neural networks: properties, search, verdicts, certificates, reports, command line.

``verifier.verify(model, property, ...) -> Report`` is the entry point. Importing this package loads
nothing heavy; the names below load what they need on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from verifier.api import verify
    from verifier.query import Options
    from verifier.report.model import Report

__all__ = ["Options", "Report", "verify"]

_HOMES = {"verify": "verifier.api", "Options": "verifier.query", "Report": "verifier.report.model"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
