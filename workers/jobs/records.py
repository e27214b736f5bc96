"""What a job store keeps besides jobs: models, keys, workers, the audit log."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from workers.jobs.database import Database
from workers.jobs.model import Json, Key, Model
from workers.jobs.rows import cursor as place_after
from workers.jobs.rows import key_of, model_of, place
from workers.jobs.statistics import Statistics
from workers.jobs.tables import audit, keys, models, workers

USED_S = 60.0  # between two notes that a key is in use


class Records(Statistics):
    """Part of :class:`workers.jobs.sql.SqlStore`."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def close(self) -> None:
        """Closes connections; the store opens new ones when it is asked again."""
        self._db.close()

    def settle(self) -> bool:
        """Housekeeping that commits would else wait for; whether any was due."""
        return self._db.settle()

    def ping(self) -> None:
        """See the port."""
        self._db.check()

    def put_model(self, model: Model) -> bool:
        """See the port."""

        def work(c: Connection) -> bool:
            if self._model(c, model.sha256, model.tenant) is not None:
                return False
            values = {
                "sha256": model.sha256, "tenant": model.tenant, "size": model.size, "name": model.name,
                "created": self._db.now(c), "facts": dict(model.facts),
            }  # fmt: skip
            c.execute(sa.insert(models).values(values))
            return True

        try:
            return self._db.write(work)
        except IntegrityError:  # somebody else was putting the same one
            return False

    def _model(self, c: Connection, sha256: str, tenant: str | None) -> Any:
        query = sa.select(models).where(models.c.sha256 == sha256)
        if tenant is not None:
            query = query.where(models.c.tenant == tenant)
        return c.execute(query.limit(1)).mappings().one_or_none()

    def get_model(self, sha256: str, tenant: str | None) -> Model | None:
        """The network of that digest, if this tenant has it."""
        row = self._db.read(lambda c: self._model(c, sha256, tenant))
        return None if row is None else model_of(dict(row))

    def delete_model(self, sha256: str, tenant: str) -> bool:
        """Forgets a tenant's network (its file stays while others or jobs name it); False without one."""
        mine = (models.c.sha256 == sha256, models.c.tenant == tenant)
        return self._db.write(lambda c: c.execute(sa.delete(models).where(*mine)).rowcount > 0)

    def models(self, tenant: str | None, *, cursor: str = "", limit: int = 50) -> tuple[list[Model], str]:
        """See the port."""
        query = sa.select(models).order_by(models.c.created.desc(), models.c.sha256.desc())
        if tenant is not None:
            query = query.where(models.c.tenant == tenant)
        if cursor:
            created, last = place(cursor, 2)
            at = float(created)
            older = sa.and_(models.c.created == at, models.c.sha256 < last)
            query = query.where(sa.or_(models.c.created < at, older))
        rows = self._db.read(lambda c: c.execute(query.limit(limit + 1)).mappings().all())
        found = [model_of(dict(r)) for r in rows[:limit]]
        more = len(rows) > limit
        return found, place_after(found[-1].created, found[-1].sha256) if more else ""

    def set_facts(self, sha256: str, facts: Json, tenant: str | None = None) -> None:
        """See the port."""

        def work(c: Connection) -> None:
            mine = [models.c.sha256 == sha256] + ([] if tenant is None else [models.c.tenant == tenant])
            for row in c.execute(sa.select(models).where(*mine).with_for_update()).all():
                whole = {**row.facts, **facts}
                c.execute(sa.update(models).where(models.c.seq == row.seq).values(facts=whole))

        self._db.write(work)

    def add_key(self, key: Key) -> None:
        """Stores a new API key."""
        values = {
            "id": key.id, "tenant": key.tenant, "secret_sha256": key.secret_sha256,
            "scopes": sorted(key.scopes), "created": key.created, "note": key.note,
            "revoked": key.revoked, "last_used": key.last_used,
        }  # fmt: skip
        self._db.write(lambda c: c.execute(sa.insert(keys).values(values)))

    def key(self, id: str) -> Key | None:
        """See the port."""

        def work(c: Connection) -> tuple[Any, float]:
            mine = (keys.c.id == id, ~keys.c.revoked)
            return c.execute(sa.select(keys).where(*mine)).mappings().one_or_none(), self._db.now(c)

        row, now = self._db.read(work)
        if row is None:
            return None
        found = key_of(dict(row))
        # once a minute at most: a write per request would make everybody wait
        if found.last_used is None or abs(now - found.last_used) > USED_S:
            used = sa.update(keys).where(keys.c.id == id).values(last_used=now)
            self._db.write(lambda c: c.execute(used))
        return found

    def keys(self, tenant: str | None = None) -> list[Key]:
        """Every key, the revoked too, the oldest first."""
        query = sa.select(keys).order_by(keys.c.created, keys.c.id)
        if tenant is not None:
            query = query.where(keys.c.tenant == tenant)
        return [key_of(dict(r)) for r in self._db.read(lambda c: c.execute(query).mappings().all())]

    def revoke_key(self, id: str) -> bool:
        """A key is of no use from now on; False if it was not."""
        query = sa.update(keys).where(keys.c.id == id, ~keys.c.revoked).values(revoked=True)
        return self._db.write(lambda c: c.execute(query).rowcount > 0)

    def audit(self, tenant: str, action: str, detail: Json) -> None:
        """See the port."""

        def work(c: Connection) -> None:
            values = {"at": self._db.now(c), "tenant": tenant, "action": action, "detail": detail}
            c.execute(sa.insert(audit).values(values))

        self._db.write(work)

    def audited(self, tenant: str | None = None, limit: int = 100) -> list[tuple[float, str, str, Json]]:
        """The audit log, the latest first: (time, tenant, action, detail)."""
        query = sa.select(audit).order_by(audit.c.seq.desc()).limit(limit)
        if tenant is not None:
            query = query.where(audit.c.tenant == tenant)
        rows = self._db.read(lambda c: c.execute(query).all())
        return [(r.at, r.tenant, r.action, r.detail) for r in rows]

    def beat(self, worker: str, queues: Sequence[str], facts: Json) -> None:
        """See the port."""

        def work(c: Connection) -> None:
            now = self._db.now(c)
            values = {"seen": now, "queues": list(queues), "facts": facts}
            if not c.execute(sa.update(workers).where(workers.c.name == worker).values(values)).rowcount:
                c.execute(sa.insert(workers).values(name=worker, **values))
            c.execute(sa.delete(workers).where(workers.c.seen < now - 24 * 3600))

        self._db.write(work)

    def workers(self, within_s: float) -> list[tuple[str, float, Json]]:
        """See the port."""

        def work(c: Connection) -> list[tuple[str, float, Json]]:
            now = self._db.now(c)
            rows = c.execute(sa.select(workers).where(workers.c.seen >= now - within_s)).all()
            return [(r.name, max(now - r.seen, 0.0), {"queues": r.queues, **r.facts}) for r in rows]

        return self._db.read(work)
