"""What an assertion may be told, by its arguments, a marker or the configuration; and what it leaves behind.

The plugin opens a :class:`Run` for each test; outside pytest there is none, and the defaults hold.
Nothing here imports numpy: pytest loads this module at its start.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Final

UNDECIDED: Final = ("fail", "skip", "warn")
"""What an assertion does about what it could not decide."""

# marker -> the arguments that it may preset, with their defaults
SETTINGS: Final[Mapping[str, Mapping[str, Any]]] = {
    "certified": {
        "eps": None,
        "norm": "inf",
        "clip": None,
        "semantics": "real",
        "timeout": 60.0,
        "max_domains": None,
        "seed": 0,
        "undecided": "fail",
    },
    "lipschitz": {
        "norm": 2,
        "output_norm": None,
        "method": "auto",
        "timeout": 60.0,
        "seed": 0,
        "undecided": "fail",
    },
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one assertion found.

    Attributes:
        assertion: its name.
        claim: what was to be proved, in words.
        verdict: "proved", "falsified" or "undecided".
        seconds: wall time.
        detail: one line more, or "".
    """

    assertion: str
    claim: str
    verdict: str
    seconds: float
    detail: str = ""


@dataclass(slots=True)
class Run:
    """One test: what its markers and the configuration preset, and what its assertions found."""

    presets: Mapping[str, Mapping[str, Any]]
    outcomes: list[Outcome] = field(default_factory=list[Outcome])


_RUN: ContextVar[Run | None] = ContextVar("surebound_run", default=None)


@contextmanager
def running(run: Run) -> Generator[Run]:
    """Makes a run the current one."""
    token = _RUN.set(run)
    try:
        yield run
    finally:
        _RUN.reset(token)


def resolve(marker: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """All settings of an assertion: its arguments (None: not given), then the presets, then the defaults."""
    run = _RUN.get()
    presets = {} if run is None else run.presets.get(marker, {})
    chosen = {**SETTINGS[marker], **presets}
    return {**chosen, **{name: value for name, value in given.items() if value is not None}}


def leave(outcome: Outcome) -> None:
    """Adds to the current run's outcomes, if there is one."""
    run = _RUN.get()
    if run is not None:
        run.outcomes.append(outcome)
