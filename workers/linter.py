"""Asks a confined child whether a property can be read (:mod:`workers.lint`).

It tells of mistakes early and is no gate: where the child is busy, slow, or dies of a text, the job's own
child will say what is wrong.
"""

from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from workers.children import Child

TIMEOUT_S: Final = 3.0  # for one property
WAIT_S: Final = 1.0  # for other properties
START_S: Final = 30.0
MEMORY_MB: Final = 1024


@dataclass(frozen=True, slots=True)
class Mistake:
    """What is wrong with a property, and where; line and column are 0 where nobody knows."""

    detail: str
    line: int = 0
    column: int = 0


class Linter:
    """One child, started when it is first needed and again after it has ended. Used from several threads.

    Args:
        work: a folder for the child's own.
        timeout_s: for one property.
    """

    def __init__(self, work: Path, timeout_s: float = TIMEOUT_S) -> None:
        self._work, self._timeout_s = work, timeout_s
        self._child: Child | None = None
        self._lock = threading.Lock()

    def mistake(self, text: str) -> Mistake | None:
        """The mistake in a property, None where none is known."""
        if not self._lock.acquire(timeout=WAIT_S):
            return None
        try:
            return self._ask(text)
        except OSError:  # no room for a folder, or no process to be had
            return None
        finally:
            self._lock.release()

    def _ask(self, text: str) -> Mistake | None:
        child = self._ready()
        if child is not None and child.send({"text": text}):
            answer = child.next(self._timeout_s)
            if answer:
                told = answer.get("read")
                return None if told is None else Mistake(**told)
        self._end()
        return None

    def _ready(self) -> Child | None:
        if self._child is not None and self._child.alive:
            return self._child
        self._end()
        self._work.mkdir(parents=True, exist_ok=True)
        self._child = Child(self._work, "workers.lint")
        end = time.monotonic() + START_S
        while time.monotonic() < end:
            message = self._child.next(1.0)
            if message is None:
                return None
            if "ready" in message:
                return self._child
        return None

    def _end(self) -> None:
        if self._child is not None:
            with contextlib.suppress(OSError):
                self._child.kill()
            self._child = None

    def close(self) -> None:
        """Ends the child."""
        with self._lock:
            self._end()
