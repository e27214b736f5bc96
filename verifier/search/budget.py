"""How long and how large a search may be: seconds, subproblems, bytes, and a caller who may cancel."""

from __future__ import annotations

import time
from collections.abc import Callable

from bounds.errors import BadInput
from verifier.search.clock import Phase, untimed
from verifier.search.memory import BLOCK_SHARE, SHARE, free_memory, in_words
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
        self.block: int | None = None  # subproblems that one block may have, None: any number
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
        block = block if self.block is None else min(block, self.block)
        return block if self.domains is None else max(1, min(block, self.domains - domains))

    def share_memory(self, asked: int | None, need: int) -> None:
        """Shares memory out between the arrays of a block and what is open.

        Args:
            asked: bytes, or None for a share of what is free.
            need: bytes that one subproblem takes while it is bounded.

        Raises:
            BadInput: what was asked for does not suffice for one subproblem.
        """
        if asked is not None and asked < need:
            raise BadInput(
                f"--memory is {in_words(asked)}, but bounding one subproblem of this network takes about "
                f"{in_words(need)}; give at least --memory {in_words(2 * need)}"
            )
        total = int(free_memory() * SHARE) if asked is None else asked
        self.block = max(1, int(total * BLOCK_SHARE) // max(need, 1))
        self.memory = max(total - min(self.block * need, int(total * BLOCK_SHARE)), 0)

    def inner(self, domains: int) -> Budget:
        """The same limits with fewer subproblems; cancelling this one cancels that one."""
        budget = Budget(None, domains, self.memory, self.should_stop, started=self.started, phase=self.phase)
        budget.deadline, budget.block = self.deadline, self.block
        return budget

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
