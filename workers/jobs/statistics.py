"""Looks over the whole store: what metrics, quotas and the removal of files ask for."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from workers.jobs.database import Database
from workers.jobs.model import Durations, State
from workers.jobs.tables import jobs, models, workers

# upper edges in seconds, spaced evenly by their logarithm
EDGES = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3600.0, 7200.0)
# parts of a request that are files
_FILES = ("model", "data", "certificate", "checkpoint", "whole")
ALIVE_S = 45.0  # since a worker's last sign of life


class Statistics:
    """Part of :class:`workers.jobs.sql.SqlStore`."""

    _db: Database

    def durations(self) -> Durations:
        """See the port. Jobs that ended without having begun count nowhere."""
        ran = (jobs.c.finished.is_not(None), jobs.c.started.is_not(None))
        seconds = jobs.c.finished - jobs.c.started
        up_to = [sa.func.coalesce(sa.func.sum(sa.case((seconds <= e, 1), else_=0)), 0) for e in EDGES]
        sums = [sa.func.count(), sa.func.coalesce(sa.func.sum(seconds), 0.0)]
        query = sa.select(*up_to, *sums).where(*ran)

        def work(c: Connection) -> tuple[Any, float]:
            cpu = c.scalar(sa.select(sa.func.coalesce(sa.func.sum(jobs.c.cpu_seconds), 0.0)))
            return c.execute(query).one(), float(cpu or 0.0)

        row, cpu = self._db.read(work)
        buckets = [(str(e), int(n)) for e, n in zip(EDGES, row, strict=False)]
        return Durations((*buckets, ("+Inf", int(row[-2]))), float(row[-1]), cpu)

    def bytes_of(self, tenant: str) -> int:
        """See the port."""
        query = sa.select(sa.func.coalesce(sa.func.sum(models.c.size), 0)).where(models.c.tenant == tenant)
        return int(self._db.read(lambda c: c.scalar(query)) or 0)

    def idle(self, queue: str) -> int:
        """See the port. A slot that leads a job works on one of its shards: it is counted once."""
        shard = jobs.alias()
        led = sa.select(shard.c.id).where(shard.c.parent == jobs.c.id, shard.c.state == State.RUNNING.value)
        busy = sa.select(sa.func.count()).where(jobs.c.state == State.RUNNING.value, ~sa.exists(led))
        waiting = sa.select(sa.func.count()).where(jobs.c.state == State.QUEUED.value, jobs.c.queue == queue)

        def work(c: Connection) -> int:
            if c.scalar(waiting):
                return 0
            alive = sa.select(workers).where(workers.c.seen >= self._db.now(c) - ALIVE_S)
            slots = [int(r.facts.get("slots", 0)) for r in c.execute(alive) if queue in r.queues]
            return max(sum(slots) - int(c.scalar(busy) or 0), 0)

        return self._db.read(work)

    def named(self, ended_s: float | None = None) -> set[str]:
        """See the port."""
        parent = jobs.alias()
        open_parents = sa.select(parent.c.id).where(parent.c.finished.is_(None))
        waiting = sa.or_(jobs.c.finished.is_(None), jobs.c.parent.in_(open_parents))

        def work(c: Connection) -> set[str]:
            found = set(c.scalars(sa.select(models.c.sha256)).all())
            old = sa.false() if ended_s is None else jobs.c.finished < self._db.now(c) - ended_s
            for files in c.scalars(sa.select(jobs.c.artifacts).where(sa.or_(waiting, ~old))):
                found.update(str(f["sha256"]) for f in files)
            for request in c.scalars(sa.select(jobs.c.request).where(waiting)):
                found.update(str(request[name]) for name in _FILES if request.get(name))
            return found

        return self._db.read(work)
