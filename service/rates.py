"""How often a key may call: a bucket of tokens for each, that fills at a steady rate.

A bucket belongs to one process of the API: behind several, a key has as many. It guards the server against a
client that polls without waiting; what a tenant may hold is limited by quotas, which are exact.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

KEPT: Final = 10_000  # buckets; the one not used for longest is forgotten, which fills it


class Buckets:
    """Used from several threads.

    Args:
        per_s: tokens that a bucket gains in a second; 0: nothing is limited.
        burst: tokens that it holds at most.
        clock: seconds.
    """

    def __init__(self, per_s: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_s, self._burst, self._clock = per_s, float(burst), clock
        self._held: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, key: str) -> float:
        """Takes a token; seconds until there is one, 0 where it was taken."""
        if not self._per_s:
            return 0.0
        with self._lock:
            return self._take(key, self._clock())

    def _take(self, key: str, now: float) -> float:
        tokens, seen = self._held.pop(key, (self._burst, now))
        tokens = min(self._burst, tokens + (now - seen) * self._per_s)
        wait = 0.0 if tokens >= 1.0 else (1.0 - tokens) / self._per_s
        self._held[key] = (tokens if wait else tokens - 1.0, now)
        while len(self._held) > KEPT:
            self._held.popitem(last=False)
        return wait
