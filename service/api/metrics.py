"""Metrics in Prometheus' text format: jobs from the store at every scrape, requests from here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastapi import APIRouter
from fastapi.responses import Response
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from service.api.common import error
from service.api.health import WORKER_FRESH_S
from service.auth import Observer
from service.context import Here
from workers.jobs.model import State
from workers.jobs.store import JobStore

router = APIRouter(tags=["operations"])
MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_TEXT: dict[str, Any] = {"content": {"text/plain": {"schema": {"type": "string"}}}}


@router.get("/metrics", responses={200: _TEXT, **error(401, 403)}, response_model=None)
def metrics(here: Here, caller: Observer) -> Response:  # noqa: ARG001 - the scope is checked
    """For Prometheus. Numbers are about all tenants, so with keys the scope 'metrics:read' is needed."""
    registry = CollectorRegistry()
    registry.register(_Jobs(here.store))
    body = generate_latest(registry) + generate_latest(here.metrics.registry)
    return Response(body, headers={"Content-Type": MEDIA_TYPE})


class _Jobs:
    """Reads the store, so that it does not matter how many processes there are."""

    def __init__(self, store: JobStore) -> None:
        self.store = store

    def collect(self) -> Iterator[Metric]:
        """One scrape."""
        counts = self.store.counts()
        jobs = GaugeMetricFamily("surebound_jobs", "Jobs by state and verdict.", labels=("state", "verdict"))
        depth = GaugeMetricFamily("surebound_queue_depth", "Queued jobs.", labels=("queue",))
        by_state: dict[tuple[str, str], int] = {}
        by_queue: dict[str, int] = {}
        for (state, verdict, queue), number in counts.items():
            by_state[state, verdict] = by_state.get((state, verdict), 0) + number
            if state == State.QUEUED.value:
                by_queue[queue] = by_queue.get(queue, 0) + number
        for labels, number in sorted(by_state.items()):
            jobs.add_metric(labels, number)
        for queue, number in sorted(by_queue.items()):
            depth.add_metric((queue,), number)
        oldest = GaugeMetricFamily(
            "surebound_queue_oldest_seconds", "How long the oldest queued job has waited.", labels=("queue",)
        )
        for queue, seconds in sorted(self.store.oldest().items()):
            oldest.add_metric((queue,), seconds)
        workers = GaugeMetricFamily("surebound_workers", "Workers heard of in the last minute.")
        workers.add_metric((), len(self.store.workers(WORKER_FRESH_S)))
        yield from (jobs, depth, oldest, workers)
        yield from self.totals()

    def totals(self) -> Iterator[Metric]:
        """What ended jobs took."""
        took = self.store.durations()
        seconds = HistogramMetricFamily("surebound_job_seconds", "Seconds that ended jobs ran.")
        seconds.add_metric((), [(edge, number) for edge, number in took.buckets], took.sum)
        cpu = CounterMetricFamily("surebound_cpu_seconds", "Processor seconds of jobs.")
        cpu.add_metric((), took.cpu_seconds)
        yield from (seconds, cpu)
