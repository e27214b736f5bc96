"""Where the time of a run goes: one phase at a time, nested phases not counted twice."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext

Phase = Callable[[str], AbstractContextManager[None]]


def untimed(_name: str) -> AbstractContextManager[None]:
    """For those whom nobody times."""
    return nullcontext()


class Clock:
    """Books seconds under the name of the current phase.

    Args:
        name: the first phase.
    """

    def __init__(self, name: str) -> None:
        self.seconds: dict[str, float] = {name: 0.0}
        self._name, self._since = name, time.monotonic()

    def switch(self, name: str) -> str:
        """Ends the current phase and begins another; the name of the one that ended."""
        now, before = time.monotonic(), self._name
        self.seconds[before] += now - self._since
        self.seconds.setdefault(name, 0.0)
        self._name, self._since = name, now
        return before

    @contextmanager
    def phase(self, name: str) -> Generator[None, None, None]:
        """A phase for the time of a block; afterwards the one before goes on."""
        before = self.switch(name)
        try:
            yield
        finally:
            self.switch(before)
