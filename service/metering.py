"""Counts of the web process itself; what is said about jobs is read from the store at every scrape."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Histogram

_SECONDS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)


class HttpMetrics:
    """Seconds of requests by route, method and status. A registry of its own: nothing is global."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._seconds = Histogram(
            "surebound_http_request_seconds",
            "Seconds from a request to the end of its answer.",
            ("route", "method", "status"),
            buckets=_SECONDS,
            registry=self.registry,
        )

    def observe(self, route: str, method: str, status: int, seconds: float) -> None:
        """Notes a request. Unknown methods share one label, as a caller chooses them."""
        known = method if method in ("GET", "PUT", "POST", "DELETE", "HEAD", "OPTIONS", "PATCH") else "other"
        self._seconds.labels(route, known, str(status)).observe(seconds)
