"""Jobs in SQLite or PostgreSQL, through SQLAlchemy. The row is the truth (ADR 0006)."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from itertools import count
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from bounds.errors import BadInput
from workers.jobs import quotas
from workers.jobs.database import Database
from workers.jobs.model import (
    Answer,
    Artifact,
    Claim,
    Event,
    Job,
    Json,
    NewJob,
    Outcome,
    Page,
    Progress,
    Signal,
    State,
)
from workers.jobs.records import Records
from workers.jobs.rows import Row, cursor, job_of, place, progress_json, row_of
from workers.jobs.store import KeyReused, NotFinished, UnknownJob
from workers.jobs.tables import audit, events, idempotency, jobs, tenants

KEPT_KEYS_S = 24 * 3600.0  # how long a repeated Idempotency-Key finds its job
REMIND_S = 30.0  # queued for longer than this: a message may have got lost
_REMINDED = 500  # ids that one sweep names at most
LOST = "worker-lost"
SUBMITTED = "jobs.submit"  # in the audit log

# said so often that making them anew would cost more than what they do
_ADD_JOB, _ADD_EVENT, _ADD_AUDIT = sa.insert(jobs), sa.insert(events), sa.insert(audit)
_BY_ID = sa.select(jobs).where(jobs.c.id == sa.bindparam("wanted"))
_LOOK = sa.select(jobs.c.revision, jobs.c.state).where(jobs.c.id == sa.bindparam("wanted"))
_GLANCE = "SELECT revision, state FROM job WHERE id = ? AND tenant = ?"
_OWN_LOOK = _LOOK.where(jobs.c.tenant == sa.bindparam("owner"))
_OWN_BY_ID = _BY_ID.where(jobs.c.tenant == sa.bindparam("owner"))

_QUEUED, _RUNNING = State.QUEUED.value, State.RUNNING.value
_DECIDED = (Answer.VERIFIED.value, Answer.FALSIFIED.value)


def open_store(
    url: str,
    *,
    migrate: bool | None = None,
    patience_s: float = 10.0,
    clock: Callable[[], float] | None = None,
) -> SqlStore:
    """Opens a job store.

    Args:
        url: a path (SQLite), ``sqlite:///path`` or ``postgresql://...``.
        migrate: whether to bring its tables up to date; None: for SQLite only.
        patience_s: how long calls are tried again while the database is away.
        clock: seconds since 1970, for tests; None: the database's host's clock.

    Raises:
        BadInput: no such database, or its tables are of another version.
        StoreUnreachable: it does not answer.
    """
    database = Database(url, patience_s=patience_s, clock=clock)
    try:
        if migrate or (migrate is None and database.sqlite):
            database.migrate()
        else:
            database.check()
    except BaseException:
        database.close()
        raise
    return SqlStore(database)


class SqlStore(Records):
    """:class:`workers.jobs.store.JobStore` on a database."""

    def submit(
        self,
        new: NewJob,
        quota: Mapping[str, int] | None = None,
        answered_by: Job | None = None,
        audited: Json | None = None,
    ) -> tuple[Job, bool]:
        """See the port."""
        name, tries = "j" + secrets.token_hex(12), count()

        def work(c: Connection) -> tuple[Job, bool]:
            if next(tries):  # the commit's answer may have been lost
                known = self._row(c, name, None)
                if known is not None:
                    return job_of(known), True
            now = self._db.now(c)
            if quota or new.idempotency:
                self._lock_tenant(c, new.tenant)
            if new.idempotency is not None:
                before = self._repeated(c, new, now)
                if before is not None:
                    return before, False
            if quota and answered_by is None:
                quotas.check(c, new.tenant, quota, now)
            row: Row | None = row_of(new, name, now) | {"events": 1}
            c.execute(_ADD_JOB, dict(row))
            self._log(c, row, "state", {"state": _QUEUED})
            if new.idempotency is not None:
                values = {"tenant": new.tenant, "key": new.idempotency.key, "job": name, "created": now}
                c.execute(sa.insert(idempotency).values(fingerprint=new.idempotency.fingerprint, **values))
            if answered_by is not None:
                row = self._copy_answer(c, name, answered_by, now)
            if audited is not None:
                told = {"job": name, "kind": new.kind.value, **audited}
                c.execute(_ADD_AUDIT, {"at": now, "tenant": new.tenant, "action": SUBMITTED, "detail": told})
            assert row is not None
            return job_of(row), True

        return self._db.write(work)

    def _copy_answer(self, c: Connection, name: str, known: Job, now: float) -> Row | None:
        if known.state is not State.FINISHED or known.answer is None:
            raise BadInput(f"job {known.id} has no answer that another could be given")
        values = {
            "state": State.FINISHED.value, "answer": known.answer.value, "reason": known.reason,
            "result": known.result, "artifacts": [asdict(a) for a in known.artifacts],
            "finished": now, "cached_from": known.cached_from or known.id,
        }  # fmt: skip
        return self._change(c, jobs.c.id == name, values, ("done", _done(values)))

    def _lock_tenant(self, c: Connection, tenant: str) -> None:
        """Whoever counts before inserting takes turns."""
        if self._db.sqlite:
            return  # only one transaction writes at a time
        c.execute(
            sa.text("INSERT INTO tenant (name) VALUES (:name) ON CONFLICT DO NOTHING"), {"name": tenant}
        )
        c.execute(sa.select(tenants).where(tenants.c.name == tenant).with_for_update())

    def _repeated(self, c: Connection, new: NewJob, now: float) -> Job | None:
        given = new.idempotency
        assert given is not None
        c.execute(sa.delete(idempotency).where(idempotency.c.created < now - KEPT_KEYS_S))
        found = c.execute(
            sa.select(idempotency).where(idempotency.c.tenant == new.tenant, idempotency.c.key == given.key)
        ).one_or_none()
        if found is None:
            return None
        if found.fingerprint != given.fingerprint:
            raise KeyReused(
                f"Idempotency-Key '{given.key}' was used for another request; give every request its own"
            )
        row = self._row(c, found.job, new.tenant)
        assert row is not None  # the key goes with its job
        return job_of(row)

    def get(self, job: str, tenant: str | None) -> Job:
        """See the port."""
        row = self._db.read(lambda c: self._row(c, job, tenant))
        if row is None:
            raise _unknown(job)
        return job_of(row)

    def look(self, job: str, tenant: str | None) -> tuple[int, State]:
        """See the port."""
        query = _LOOK if tenant is None else _OWN_LOOK
        row = self._db.read(lambda c: c.execute(query, {"wanted": job, "owner": tenant}).one_or_none())
        if row is None:
            raise _unknown(job)
        return row.revision, State(row.state)

    def glance(self, job: str, tenant: str) -> tuple[int, State] | None:
        """See the port."""
        rows = self._db.glance(_GLANCE, (job, tenant))
        return (int(rows[0][0]), State(rows[0][1])) if rows else None

    def page(
        self, tenant: str | None, *, states: Sequence[State] = (), cursor: str = "", limit: int = 50
    ) -> Page:
        """See the port."""
        query = sa.select(jobs).where(jobs.c.parent == "").order_by(jobs.c.created.desc(), jobs.c.id.desc())
        if tenant is not None:
            query = query.where(jobs.c.tenant == tenant)
        if states:
            query = query.where(jobs.c.state.in_([s.value for s in states]))
        if cursor:
            created, last = place(cursor, 2)
            at = _number(created)
            older = sa.and_(jobs.c.created == at, jobs.c.id < last)
            query = query.where(sa.or_(jobs.c.created < at, older))
        rows = self._db.read(lambda c: c.execute(query.limit(limit + 1)).mappings().all())
        found = [job_of(dict(r)) for r in rows[:limit]]
        return Page(tuple(found), _after(found[-1]) if len(rows) > limit else "")

    def claim(self, worker: str, queues: Sequence[str], lease_s: float) -> Claim | None:
        """See the port."""

        def work(c: Connection) -> Claim | None:
            now = self._db.now(c)
            # two look-ups, because one with OR could not go along the index
            for state, free in ((_QUEUED, sa.true()), (_RUNNING, _expired(now))):
                query = self._free(state).where(free, jobs.c.queue.in_(queues)).limit(1)
                row = c.execute(query).one_or_none()
                if row is not None:
                    return self._take(c, row.id, worker, lease_s, now)
            return None

        return self._db.write(work)

    def claim_job(self, job: str, worker: str, lease_s: float) -> Claim | None:
        """See the port."""

        def work(c: Connection) -> Claim | None:
            now = self._db.now(c)
            for state, free in ((_QUEUED, sa.true()), (_RUNNING, _expired(now))):
                if c.execute(self._free(state).where(free, jobs.c.id == job)).one_or_none() is not None:
                    return self._take(c, job, worker, lease_s, now)
            return None

        return self._db.write(work)

    def claim_family(self, like: Claim, most: int, lease_s: float) -> list[Claim]:
        """See the port."""
        if not like.job.family or most < 1:
            return []

        def work(c: Connection) -> list[Claim]:
            mine = (jobs.c.family == like.job.family, jobs.c.queue == like.job.queue)
            rows = c.execute(self._free(_QUEUED).where(*mine).limit(most)).all()
            now = self._db.now(c)
            return [self._take(c, row.id, like.worker, lease_s, now) for row in rows]

        return self._db.write(work)

    def _free(self, state: str) -> sa.Select[Any]:
        """Jobs that may be taken, the next first; rows that another transaction holds are passed over."""
        rules = (jobs.c.state == state, jobs.c.attempt < jobs.c.max_attempts, ~jobs.c.cancel_requested)
        query = sa.select(jobs.c.id).where(*rules).order_by(jobs.c.rank, jobs.c.seq)
        return query.with_for_update(skip_locked=True)

    def _take(self, c: Connection, job: str, worker: str, lease_s: float, now: float) -> Claim:
        values = {
            "state": _RUNNING, "worker": worker, "attempt": jobs.c.attempt + 1, "lease_until": now + lease_s,
            "lease_s": lease_s, "started": sa.func.coalesce(jobs.c.started, now),
        }  # fmt: skip
        row = self._change(c, jobs.c.id == job, values, ("state", _begun))
        assert row is not None
        return Claim(job_of(row), worker, row["attempt"])

    def heartbeat(self, claim: Claim, progress: Progress | None, lease_s: float) -> Signal:
        """See the port."""

        def work(c: Connection) -> Signal:
            values: dict[str, Any] = {"lease_until": self._db.now(c) + lease_s, "lease_s": lease_s}
            if progress is None:  # nothing that anybody could see has changed
                query = sa.update(jobs).where(*_held(claim)).values(values)
                found = c.execute(query.returning(jobs.c.cancel_requested)).one_or_none()
                return Signal.LOST if found is None else _signal(found.cancel_requested)
            told = progress_json(progress)
            row = self._change(c, sa.and_(*_held(claim)), values | {"progress": told}, ("progress", told))
            return Signal.LOST if row is None else _signal(row["cancel_requested"])

        return self._db.write(work)

    def finish(self, claim: Claim, outcome: Outcome) -> bool:
        """See the port."""
        if not outcome.state.final or (outcome.state is State.FINISHED) != (outcome.answer is not None):
            raise AssertionError(f"{outcome.state} with answer {outcome.answer} is no end of a job")

        def work(c: Connection) -> bool:
            values: dict[str, Any] = {
                "state": outcome.state.value, "reason": outcome.reason, "result": outcome.result,
                "answer": None if outcome.answer is None else outcome.answer.value,
                "error": outcome.error, "artifacts": [asdict(a) for a in outcome.artifacts],
                "cpu_seconds": jobs.c.cpu_seconds + outcome.cpu_seconds,
            }  # fmt: skip
            if self._end(c, sa.and_(*_held(claim)), values):
                quotas.spend(c, claim.job.tenant, outcome.cpu_seconds, self._db.now(c))
                return True
            # the answer to our commit may have got lost: then it is recorded, by this very attempt
            mine = (jobs.c.id == claim.job.id, jobs.c.worker == claim.worker)
            ours = (*mine, jobs.c.attempt == claim.attempt, jobs.c.state == outcome.state.value)
            recorded = jobs.c.finished.is_not(None)
            return c.execute(sa.select(jobs.c.id).where(*ours, recorded)).one_or_none() is not None

        return self._db.write(work)

    def _end(self, c: Connection, where: sa.ColumnElement[bool], values: dict[str, Any]) -> bool:
        """Makes a job final, and ends its shards; False if there is none."""
        now = self._db.now(c)
        final = values | {"finished": now, "lease_until": None}
        row = self._change(c, where, final, ("done", _done))
        if row is None:
            return False
        for shard in c.execute(sa.select(jobs).where(jobs.c.parent == row["id"], _open())).mappings().all():
            self._request_cancel(c, dict(shard))
        return True

    def give_back(self, claim: Claim, checkpoint: Artifact | None, *, counts: bool) -> bool:
        """See the port. An attempt that does not count raises ``max_attempts``: attempts are tokens."""

        def work(c: Connection) -> bool:
            query = sa.select(jobs).where(*_held(claim)).with_for_update()
            row = c.execute(query).mappings().one_or_none()
            if row is None:
                return False
            kept = [a for a in row["artifacts"] if checkpoint is None or a["name"] != checkpoint.name]
            kept += [] if checkpoint is None else [asdict(checkpoint)]
            most = row["max_attempts"] + (0 if counts else 1)
            self._release(c, dict(row) | {"max_attempts": most, "artifacts": kept})
            return True

        return self._db.write(work)

    def _release(self, c: Connection, row: Row) -> bool:
        """Ends the lease of a running job: queued again if it may be, else final. Whether it is queued."""
        mine = jobs.c.id == row["id"]
        values: dict[str, Any] = {"max_attempts": row["max_attempts"], "artifacts": row["artifacts"]}
        if row["cancel_requested"]:
            self._end(c, mine, values | {"state": State.CANCELLED.value, "reason": "cancelled"})
            return False
        if row["attempt"] >= row["max_attempts"]:
            error = f"its worker or child process was lost in each of {row['attempt']} attempts"
            self._end(c, mine, values | {"state": State.FAILED.value, "reason": LOST, "error": error})
            return False
        queued = {"state": _QUEUED, "worker": "", "lease_until": None, "queued": self._db.now(c)}
        self._change(c, mine, values | queued, ("state", {"state": _QUEUED, "attempt": row["attempt"]}))
        return True

    def cancel(self, job: str, tenant: str | None) -> Job:
        """See the port."""

        def work(c: Connection) -> Job | None:
            row = self._row(c, job, tenant, lock=True)
            if row is None:
                return None
            self._request_cancel(c, row)
            for shard in c.execute(sa.select(jobs).where(jobs.c.parent == job, _open())).mappings().all():
                self._request_cancel(c, dict(shard))
            again = self._row(c, job, tenant)
            assert again is not None
            return job_of(again)

        found = self._db.write(work)
        if found is None:
            raise _unknown(job)
        return found

    def _request_cancel(self, c: Connection, row: Row) -> None:
        mine = jobs.c.id == row["id"]
        final = {"state": State.CANCELLED.value, "reason": "cancelled", "cancel_requested": True}
        if row["state"] == _QUEUED and self._end(c, sa.and_(mine, jobs.c.state == _QUEUED), final):
            return
        asked = sa.and_(mine, jobs.c.state == _RUNNING, ~jobs.c.cancel_requested)
        told = {"state": _RUNNING, "cancel_requested": True}
        self._change(c, asked, {"cancel_requested": True}, ("state", told))

    def delete(self, job: str, tenant: str | None) -> None:
        """See the port."""

        def work(c: Connection) -> bool:
            row = self._row(c, job, tenant, lock=True)
            if row is None:
                return False
            if row["state"] == _RUNNING:
                raise NotFinished(f"job {job} is running; cancel it first")
            for name in (*c.scalars(sa.select(jobs.c.id).where(jobs.c.parent == job)).all(), job):
                c.execute(sa.delete(events).where(events.c.job == name))
                c.execute(sa.delete(idempotency).where(idempotency.c.job == name))
                c.execute(sa.delete(jobs).where(jobs.c.id == name))
            return True

        if not self._db.write(work):
            raise _unknown(job)

    def events(self, job: str, after: int, limit: int = 200) -> list[Event]:
        """See the port."""
        query = sa.select(events).where(events.c.job == job, events.c.number > after)
        ordered = query.order_by(events.c.number).limit(limit)
        rows = self._db.read(lambda c: c.execute(ordered).all())
        return [Event(r.job, r.number, r.name, r.at, r.data) for r in rows]

    def log(self, claim: Claim, name: str, data: Json) -> None:
        """See the port."""
        self._db.write(lambda c: self._change(c, sa.and_(*_held(claim)), {}, (name, data)))

    def answered(self, tenant: str, question: str) -> Job | None:
        """See the port."""
        if not question:
            return None
        same = (jobs.c.tenant == tenant, jobs.c.question == question)
        return self._latest(*same)

    def related(self, tenant: str, family: str, limit: int = 100) -> list[Job]:
        """Finished, decided jobs of a family, the latest first: a larger box or a witness may answer too."""
        if not family:
            return []
        mine = (jobs.c.tenant == tenant, jobs.c.family == family, jobs.c.cached_from == "")
        decided = sa.select(jobs).where(*mine, jobs.c.finished.is_not(None), *_decided())
        query = decided.order_by(jobs.c.finished.desc(), jobs.c.seq.desc()).limit(limit)
        return [job_of(dict(r)) for r in self._db.read(lambda c: c.execute(query).mappings().all())]

    def _latest(self, *same: sa.ColumnElement[bool]) -> Job | None:
        query = sa.select(jobs).where(*same, *_decided()).order_by(jobs.c.seq.desc()).limit(1)
        row = self._db.read(lambda c: c.execute(query).mappings().one_or_none())
        return None if row is None else job_of(dict(row))

    def shards(self, parent: str) -> list[Job]:
        """See the port."""
        query = sa.select(jobs).where(jobs.c.parent == parent).order_by(jobs.c.seq)
        return [job_of(dict(r)) for r in self._db.read(lambda c: c.execute(query).mappings().all())]

    def sweep(self) -> list[str]:
        """See the port."""

        def work(c: Connection) -> list[str]:
            now = self._db.now(c)
            lost = sa.select(jobs).where(jobs.c.state == _RUNNING, _expired(now))
            rows = c.execute(lost.with_for_update(skip_locked=True)).mappings().all()
            again = [row["id"] for row in rows if self._release(c, dict(row))]
            old = (jobs.c.state == _QUEUED, jobs.c.queued < now - REMIND_S)
            waiting = sa.select(jobs.c.id).where(*old).order_by(jobs.c.rank, jobs.c.seq)
            return [*again, *c.scalars(waiting.limit(_REMINDED)).all()]

        return self._db.write(work)

    def counts(self) -> Mapping[tuple[str, str, str], int]:
        """See the port."""
        kinds = (jobs.c.state, sa.func.coalesce(jobs.c.answer, ""), jobs.c.queue)
        query = sa.select(*kinds, sa.func.count()).where(jobs.c.parent == "").group_by(*kinds)
        return {(r[0], r[1], r[2]): r[3] for r in self._db.read(lambda c: c.execute(query).all())}

    def oldest(self) -> Mapping[str, float]:
        """Seconds that the longest waiting job of each queue has waited, for metrics."""
        query = sa.select(jobs.c.queue, sa.func.min(jobs.c.queued)).where(jobs.c.state == _QUEUED)

        def work(c: Connection) -> dict[str, float]:
            now = self._db.now(c)
            return {r[0]: max(now - r[1], 0.0) for r in c.execute(query.group_by(jobs.c.queue)).all()}

        return self._db.read(work)

    def _row(self, c: Connection, job: str, tenant: str | None, *, lock: bool = False) -> Row | None:
        query = _BY_ID if tenant is None else _OWN_BY_ID
        given = {"wanted": job, "owner": tenant}
        row = c.execute(query.with_for_update() if lock else query, given).mappings().one_or_none()
        return None if row is None else dict(row)

    def _change(
        self,
        c: Connection,
        where: sa.ColumnElement[bool],
        values: Mapping[str, Any],
        event: tuple[str, Json | Callable[[Row], Json]] | None,
    ) -> Row | None:
        """Changes one job, its revision and its log; the new row, None if there is none."""
        numbered = {} if event is None else {"events": jobs.c.events + 1}
        query = sa.update(jobs).where(where).values(revision=jobs.c.revision + 1, **numbered, **values)
        found = c.execute(query.returning(*jobs.c)).mappings().one_or_none()
        if found is None:
            return None
        row = dict(found)
        if event is not None:
            name, data = event
            self._log(c, row, name, data(row) if callable(data) else data)
        return row

    def _log(self, c: Connection, row: Row, name: str, data: Json) -> None:
        """The entry whose number the row has just been given."""
        values = {"job": row["id"], "number": row["events"], "name": name, "data": data}
        c.execute(_ADD_EVENT, values | {"at": self._db.now(c)})


def _held(claim: Claim) -> tuple[sa.ColumnElement[bool], ...]:
    """What holds of the row while the claim does: no other attempt was begun, and it is not final."""
    return (
        jobs.c.id == claim.job.id,
        jobs.c.state == _RUNNING,
        jobs.c.attempt == claim.attempt,
        jobs.c.worker == claim.worker,
    )


def _expired(now: float) -> sa.ColumnElement[bool]:
    """Leases that ended, or that end later than any given now would: then the clock was put back."""
    return sa.or_(jobs.c.lease_until < now, jobs.c.lease_until > now + 2 * jobs.c.lease_s)


def _open() -> sa.ColumnElement[bool]:
    return jobs.c.state.in_([_QUEUED, _RUNNING])


def _decided() -> tuple[sa.ColumnElement[bool], ...]:
    return (jobs.c.state == State.FINISHED.value, jobs.c.answer.in_(_DECIDED))


def _begun(row: Row) -> Json:
    return {"state": row["state"], "attempt": row["attempt"]}


def _signal(cancel: bool) -> Signal:
    return Signal.CANCEL if cancel else Signal.CONTINUE


def _done(row: Mapping[str, Any]) -> Json:
    return {"state": row["state"], "verdict": row.get("answer"), "reason": row.get("reason", "")}


def _unknown(job: str) -> UnknownJob:
    return UnknownJob(f"there is no job '{job}'; check its id")


def _after(job: Job) -> str:
    return cursor(job.created, job.id)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise BadInput("the cursor is none of this list; begin without one") from None
