"""How many threads large single operations may use (everything else runs on one)."""

from __future__ import annotations

import os
from typing import Final

VARIABLE: Final = "SUREBOUND_THREADS"
"""Of the environment; not set: OMP_NUM_THREADS, or as many as there are cores."""


def threads() -> int:
    """At least 1."""
    asked = (os.environ.get(VARIABLE) or os.environ.get("OMP_NUM_THREADS", "")).strip()
    return int(asked) if asked.isdigit() and int(asked) else cores()


def cores() -> int:
    """Cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux only
    return len(affinity(0)) if affinity else os.cpu_count() or 1
