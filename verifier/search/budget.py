"""How long and how large a search may be: seconds, subproblems, bytes, and a caller who may cancel."""

from __future__ import annotations

import time
from collections.abc import Callable

from verifier.search.clock import Phase, untimed
from verifier.verdict import UnknownReason


class Budget:
    """Limits on one run, on the monotonic clock.

    Args:
        seconds: time limit from ``started`` on, or None.
        domains: subproblems that may be bounded, or None.
        memory: bytes the open subproblems may take, or None.
        cancelled: polled; true stops the run.
        started: monotonic time at which the clock began (default: now).
        phase: told what the time is spent on.
    """

    def __init__(
        self,
        seconds: float | None = None,
        domains: int | None = None,
        memory: int | None = None,
        cancelled: Callable[[], bool] | None = None,
        *,
        started: float | None = None,
        phase: Phase = untimed,
    ) -> None:
        self.phase = phase
        self.started = time.monotonic() if started is None else started
        self.deadline = None if seconds is None else self.started + seconds
        self.domains = domains
        self.memory = memory
        self._asked = cancelled or (lambda: False)
        self._stopped = False

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.started

    @property
    def remaining(self) -> float:
        """Seconds left (infinite without a limit)."""
        return float("inf") if self.deadline is None else self.deadline - time.monotonic()

    def _cancelled(self) -> bool:
        """Whether the caller has asked to stop; once is enough, even if the callable says no later."""
        self._stopped = self._stopped or self._asked()
        return self._stopped

    def should_stop(self) -> bool:
        """True when time is up or the caller cancelled (cheap: polled inside bounding)."""
        return self._cancelled() or (self.deadline is not None and time.monotonic() >= self.deadline)

    def allowed(self, block: int, domains: int) -> int:
        """How many of a block may be bounded when ``domains`` subproblems have been; at least one."""
        return block if self.domains is None else max(1, min(block, self.domains - domains))

    def exhausted(self, domains: int, held_bytes: int) -> UnknownReason:
        """Why the search must stop now, or ``NONE``."""
        # the clock first: a budget inside another one sees the outer deadline as a cancellation
        if self.deadline is not None and time.monotonic() >= self.deadline:
            return UnknownReason.TIMEOUT
        if self._cancelled():
            return UnknownReason.CANCELLED
        if self.domains is not None and domains >= self.domains:
            return UnknownReason.DOMAINS
        if self.memory is not None and held_bytes > self.memory:
            return UnknownReason.MEMORY
        return UnknownReason.NONE
