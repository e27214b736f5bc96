"""The port that tells workers that there may be work; a lost or repeated message costs time, never truth."""

from __future__ import annotations

from typing import Protocol


class Dispatcher(Protocol):
    """Announces jobs."""

    def notify(self, job: str, queue: str) -> None:
        """There is a job; may do nothing (workers poll as well). Never raises for an unreachable broker."""
        ...


class Polling:
    """Workers find queued jobs by themselves."""

    def notify(self, job: str, queue: str) -> None:
        """Nothing to do."""
        del job, queue
