"""What a tenant may hold and spend: exact at any moment, at a cost that hardly grows with the jobs.

Jobs in a state are counted along an index; processor seconds are added up by the hour as jobs end, so that a
day is some 25 rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from bounds.errors import BadInput
from workers.jobs.model import State
from workers.jobs.store import QuotaExceeded
from workers.jobs.tables import jobs, models, spent

WINDOW_H: Final = 24  # whole hours before the present one over which "cpu_seconds" are added up
HOUR_S: Final = 3600.0
_WORDS: Final = {
    State.QUEUED.value: "queued jobs",
    State.RUNNING.value: "running jobs",
    "cpu_seconds": "CPU seconds",
    "bytes": "bytes of models",
}


def check(c: Connection, tenant: str, quota: Mapping[str, int], now: float) -> None:
    """Raises where a tenant has as much of something as it may; one statement, whatever is limited.

    Raises:
        QuotaExceeded, BadInput.
    """
    unknown = sorted(set(quota) - set(_WORDS))
    if unknown:
        raise BadInput(f"there is no quota of '{unknown[0]}'; choose from {', '.join(_WORDS)}")
    used = c.execute(sa.select(*(_used(name, tenant, now).label(name) for name in quota))).one()
    for (name, most), have in zip(quota.items(), used, strict=True):
        if (have or 0) >= most:
            raise QuotaExceeded(
                f"{have:g} {_WORDS[name]} of at most {most}; wait for some to end, or cancel some"
            )


def _used(name: str, tenant: str, now: float) -> sa.ScalarSelect[Any]:
    if name == "cpu_seconds":
        recent = (spent.c.tenant == tenant, spent.c.hour >= int(now // HOUR_S) - WINDOW_H)
        return sa.select(sa.func.sum(spent.c.cpu_seconds)).where(*recent).scalar_subquery()
    if name == "bytes":
        return sa.select(sa.func.sum(models.c.size)).where(models.c.tenant == tenant).scalar_subquery()
    mine = (jobs.c.tenant == tenant, jobs.c.state == name, jobs.c.parent == "")
    return sa.select(sa.func.count()).select_from(jobs).where(*mine).scalar_subquery()


def spend(c: Connection, tenant: str, seconds: float, now: float) -> None:
    """Adds processor seconds to the present hour of a tenant."""
    if seconds <= 0.0:
        return
    text = (
        "INSERT INTO spent (tenant, hour, cpu_seconds) VALUES (:tenant, :hour, :seconds) ON CONFLICT "
        "(tenant, hour) DO UPDATE SET cpu_seconds = spent.cpu_seconds + excluded.cpu_seconds"
    )
    c.execute(sa.text(text), {"tenant": tenant, "hour": int(now // HOUR_S), "seconds": seconds})
