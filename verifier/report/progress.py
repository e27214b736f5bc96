"""A snapshot of a running search, for people who watch; nothing is decided from it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Progress:
    """What a run tells a progress callback.

    Attributes:
        domains: subproblems bounded so far.
        open: subproblems waiting.
        closed_fraction: share proved so far, of the input volume or of the tree of operand splits.
        lower_bound: worst proved lower bound over the open subproblems (above 0 would be proved).
        seconds: time since the run began.
        phase: what the engine is doing ("load", "attack", "search", ...).
    """

    domains: int
    open: int
    closed_fraction: float
    lower_bound: float | None
    seconds: float
    phase: str
