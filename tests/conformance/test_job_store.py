"""What every job store must do, on each database."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from store_backends import postgres

pytest.importorskip("sqlalchemy", reason="pip install 'surebound[service]'")

from bounds.errors import BadInput
from workers.jobs.database import HEAD, NotMigrated, StoreUnreachable
from workers.jobs.model import (
    Answer,
    Artifact,
    Budget,
    Claim,
    Idempotency,
    Key,
    Kind,
    Model,
    NewJob,
    Outcome,
    Progress,
    Signal,
    State,
)
from workers.jobs.sql import SqlStore, open_store
from workers.jobs.store import KeyReused, NotFinished, QuotaExceeded, UnknownJob

LEASE = 30.0
NEW = NewJob("local", Kind.VERIFY, {"model": "m"}, Budget(10.0, 512))
PROVED = Outcome(State.FINISHED, Answer.VERIFIED, result={"domains": 3}, cpu_seconds=1.5)
FILE = Artifact("certificate", "ab" * 32, 5, "application/zip")


class Clock:
    """Time that passes when told."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def postgres_url() -> Iterator[str]:
    with postgres() as url:
        yield url


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["sqlite", "postgresql"])
def reopen(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Iterator[Callable[[], SqlStore]]:
    """Opens the same database, as another process would."""
    if request.param == "sqlite":
        url = str(tmp_path / "jobs.db")
    else:
        url = request.getfixturevalue("postgres_url")
        _empty(url)
    opened: list[SqlStore] = []

    def again() -> SqlStore:
        opened.append(open_store(url, migrate=True, clock=clock))
        return opened[-1]

    yield again
    for one in opened:
        one.close()


def _empty(url: str) -> None:
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")


@pytest.fixture
def store(reopen: Callable[[], SqlStore]) -> SqlStore:
    return reopen()


def submit(store: SqlStore, new: NewJob = NEW) -> str:
    return store.submit(new)[0].id


def take(store: SqlStore, worker: str = "w") -> Claim:
    claim = store.claim(worker, ["short"], LEASE)
    assert claim is not None
    return claim


class TestLife:
    def test_from_submission_to_the_end(self, store: SqlStore) -> None:
        job, fresh = store.submit(NEW)
        assert fresh and (job.state, job.attempt, job.answer) == (State.QUEUED, 0, None)
        claim = take(store)
        assert (claim.job.id, claim.attempt, claim.job.state) == (job.id, 1, State.RUNNING)
        assert store.heartbeat(claim, Progress(0.5, "search", lower_bound=-1.0), LEASE) is Signal.CONTINUE
        assert store.finish(claim, replace(PROVED, artifacts=(FILE,)))
        done = store.get(job.id, "local")
        assert (done.state, done.answer, done.result) == (State.FINISHED, Answer.VERIFIED, {"domains": 3})
        assert done.artifact("certificate") == FILE and done.cpu_seconds == 1.5
        assert done.progress is not None and done.progress.lower_bound == -1.0
        assert [e.name for e in store.events(job.id, 0)] == ["state", "state", "progress", "done"]
        assert [e.number for e in store.events(job.id, 2)] == [3, 4]
        assert store.claim("w", ["short"], LEASE) is None

    def test_revisions_grow(self, store: SqlStore) -> None:
        job = submit(store)
        seen = [store.get(job, None).revision]
        claim = take(store)
        seen.append(store.get(job, None).revision)
        store.heartbeat(claim, Progress(1.0), LEASE)
        seen.append(store.get(job, None).revision)
        store.finish(claim, PROVED)
        seen.append(store.get(job, None).revision)
        assert seen == sorted(set(seen))

    def test_infinite_bounds_are_no_bounds(self, store: SqlStore) -> None:
        submit(store)
        claim = take(store)
        store.heartbeat(claim, Progress(1.0, lower_bound=float("-inf")), LEASE)
        progress = store.get(claim.job.id, None).progress
        assert progress is not None and progress.lower_bound is None

    def test_the_end_needs_an_answer_exactly_when_finished(self, store: SqlStore) -> None:
        submit(store)
        claim = take(store)
        wrong = [(State.FINISHED, None), (State.FAILED, Answer.VERIFIED), (State.QUEUED, None)]
        for outcome in (Outcome(*pair) for pair in wrong):
            with pytest.raises(AssertionError):
                store.finish(claim, outcome)

    def test_what_was_stored_survives_a_restart(self, reopen: Callable[[], SqlStore]) -> None:
        job = submit(reopen())
        assert reopen().get(job, "local").id == job


class TestClaims:
    def test_order_is_priority_then_age(self, store: SqlStore) -> None:
        names = [submit(store), submit(store, replace(NEW, priority=5)), submit(store)]
        assert [take(store).job.id for _ in names] == [names[1], names[0], names[2]]

    def test_only_the_queues_asked_for(self, store: SqlStore) -> None:
        submit(store, replace(NEW, queue="gpu"))
        assert store.claim("w", ["short", "long"], LEASE) is None
        assert store.claim("w", ["long", "gpu"], LEASE) is not None

    def test_this_very_job_once(self, store: SqlStore) -> None:
        job = submit(store)
        assert store.claim_job(job, "a", LEASE) is not None
        assert store.claim_job(job, "b", LEASE) is None
        assert store.claim_job("j0", "b", LEASE) is None

    def test_a_family_together(self, store: SqlStore) -> None:
        alike = replace(NEW, family="f")
        names = [submit(store, alike) for _ in range(4)]
        submit(store, replace(NEW, family="g"))
        submit(store, replace(alike, queue="long"))
        first = take(store)
        more = store.claim_family(first, 2, LEASE)
        assert [c.job.id for c in (first, *more)] == names[:3]
        assert all(c.job.state is State.RUNNING and c.attempt == 1 for c in more)
        assert store.claim_family(replace(first, job=replace(first.job, family="")), 5, LEASE) == []

    def test_many_at_once_take_each_job_once(self, reopen: Callable[[], SqlStore]) -> None:
        store = reopen()
        wanted = {submit(store) for _ in range(40)}
        taken: list[str] = []

        def work(name: str) -> None:
            mine = reopen()
            while (claim := mine.claim(name, ["short"], LEASE)) is not None:
                taken.append(claim.job.id)
                assert mine.finish(claim, PROVED)

        threads = [threading.Thread(target=work, args=(f"w{i}",)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(taken) == sorted(wanted)
        assert dict(store.counts()) == {("finished", "verified", "short"): 40}


class TestLeases:
    def test_an_expired_lease_goes_to_the_next_and_the_first_is_refused(
        self, store: SqlStore, clock: Clock
    ) -> None:
        submit(store)
        old = take(store, "old")
        clock.now += LEASE - 1
        assert store.claim("new", ["short"], LEASE) is None
        clock.now += 2
        new = take(store, "new")
        assert new.attempt == 2
        assert store.heartbeat(old, None, LEASE) is Signal.LOST
        assert store.heartbeat(old, Progress(1.0), LEASE) is Signal.LOST
        assert not store.finish(old, Outcome(State.FAILED, reason="late"))
        assert not store.give_back(old, None, counts=True)
        assert store.finish(new, PROVED)
        assert store.get(new.job.id, None).answer is Answer.VERIFIED

    def test_heartbeats_keep_the_lease(self, store: SqlStore, clock: Clock) -> None:
        submit(store)
        claim = take(store)
        for _ in range(5):
            clock.now += LEASE - 1
            assert store.heartbeat(claim, None, LEASE) is Signal.CONTINUE
        assert store.sweep() == [] and store.claim("b", ["short"], LEASE) is None

    def test_a_second_end_changes_nothing(self, store: SqlStore) -> None:
        submit(store)
        claim = take(store)
        assert store.finish(claim, PROVED)
        assert not store.finish(claim, Outcome(State.FAILED, reason="again"))
        # the same end again is the answer that got lost on the way
        assert store.finish(claim, PROVED)
        done = [e for e in store.events(claim.job.id, 0) if e.name == "done"]
        assert len(done) == 1 and store.get(claim.job.id, None).state is State.FINISHED

    def test_sweep_queues_again_until_attempts_run_out(self, store: SqlStore, clock: Clock) -> None:
        job = submit(store, replace(NEW, max_attempts=2))
        for attempt in (1, 2):
            claim = take(store)
            assert claim.attempt == attempt
            clock.now += LEASE + 1
            assert store.sweep() == ([job] if attempt == 1 else [])
        lost = store.get(job, None)
        assert (lost.state, lost.reason, lost.attempt) == (State.FAILED, "worker-lost", 2)
        assert store.claim("w", ["short"], LEASE) is None and store.sweep() == []

    def test_sweep_names_what_has_waited_long(self, store: SqlStore, clock: Clock) -> None:
        job = submit(store)
        assert store.sweep() == []
        clock.now += 60
        assert store.sweep() == [job] and store.oldest() == {"short": 60.0}

    def test_a_clock_put_forward_costs_an_attempt_only(self, store: SqlStore, clock: Clock) -> None:
        submit(store)
        first = take(store, "a")
        clock.now += 86400
        store.sweep()
        second = take(store, "b")
        assert not store.finish(first, PROVED) and store.finish(second, PROVED)

    def test_a_clock_put_back_holds_no_lease_for_ever(self, store: SqlStore, clock: Clock) -> None:
        submit(store)
        claim = take(store)
        clock.now -= 86400
        assert store.heartbeat(claim, None, LEASE) is Signal.CONTINUE  # the living set their lease anew
        assert store.sweep() == []
        clock.now -= 86400
        assert store.sweep() == [claim.job.id]  # and the dead are found

    def test_giving_back(self, store: SqlStore) -> None:
        job = submit(store, replace(NEW, max_attempts=2))
        mark = replace(FILE, name="checkpoint")
        assert store.give_back(take(store), mark, counts=False)
        again = take(store)
        assert again.job.artifact("checkpoint") == mark
        newer = replace(mark, sha256="cd" * 32)
        assert store.give_back(again, newer, counts=True)
        last = take(store)
        assert last.attempt == 3 and last.job.artifacts == (newer,)
        assert store.give_back(last, None, counts=True)
        assert store.get(job, None).reason == "worker-lost"


class TestCancelling:
    def test_queued_at_once(self, store: SqlStore) -> None:
        job = submit(store)
        assert store.cancel(job, "local").state is State.CANCELLED
        assert store.claim("w", ["short"], LEASE) is None
        assert store.cancel(job, "local").state is State.CANCELLED

    def test_running_when_it_stops(self, store: SqlStore, clock: Clock) -> None:
        job = submit(store)
        claim = take(store)
        assert store.cancel(job, "local").cancel_requested
        assert store.heartbeat(claim, None, LEASE) is Signal.CANCEL
        assert store.heartbeat(claim, Progress(1.0), LEASE) is Signal.CANCEL
        clock.now += LEASE + 1
        assert store.claim("b", ["short"], LEASE) is None
        assert store.sweep() == []
        assert store.get(job, None).state is State.CANCELLED

    def test_giving_back_a_cancelled_job_ends_it(self, store: SqlStore) -> None:
        job = submit(store)
        claim = take(store)
        store.cancel(job, "local")
        assert store.give_back(claim, None, counts=False)
        assert store.get(job, None).state is State.CANCELLED

    def test_finished_stays(self, store: SqlStore) -> None:
        submit(store)
        claim = take(store)
        store.finish(claim, PROVED)
        assert store.cancel(claim.job.id, None).state is State.FINISHED

    def test_shards_end_with_their_parent(self, store: SqlStore) -> None:
        parent = submit(store)
        claim = take(store)
        shard = replace(NEW, kind=Kind.SHARD, parent=parent)
        names = [submit(store, shard) for _ in range(3)]
        running = take(store)
        assert [j.id for j in store.shards(parent)] == names
        assert store.finish(claim, replace(PROVED, answer=Answer.FALSIFIED))
        states = [store.get(n, None).state for n in names]
        assert states == [State.RUNNING, State.CANCELLED, State.CANCELLED]
        assert store.heartbeat(running, None, LEASE) is Signal.CANCEL
        assert [j.id for j in store.page(None).items] == [parent]

    def test_deleting(self, store: SqlStore) -> None:
        job = submit(store)
        claim = take(store)
        with pytest.raises(NotFinished):
            store.delete(job, "local")
        store.finish(claim, PROVED)
        with pytest.raises(UnknownJob):
            store.delete(job, "other")
        store.delete(job, "local")
        assert store.events(job, 0) == []
        with pytest.raises(UnknownJob):
            store.get(job, None)


class TestRequests:
    def test_idempotency(self, store: SqlStore, clock: Clock) -> None:
        new = replace(NEW, idempotency=Idempotency("k", "f1"))
        first, fresh = store.submit(new)
        again, second = store.submit(new)
        assert (fresh, second, again.id) == (True, False, first.id)
        with pytest.raises(KeyReused):
            store.submit(replace(new, idempotency=Idempotency("k", "f2")))
        other, fresh = store.submit(replace(new, tenant="other"))
        assert fresh and other.id != first.id
        clock.now += 25 * 3600
        assert store.submit(new)[1]

    def test_one_key_from_many_threads_makes_one_job(self, reopen: Callable[[], SqlStore]) -> None:
        new = replace(NEW, idempotency=Idempotency("k", "f1"))
        stores, made = [reopen() for _ in range(4)], set[str]()
        threads = [threading.Thread(target=lambda s=s: made.add(submit(s, new))) for s in stores]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(made) == 1 and len(stores[0].page(None).items) == 1

    def test_quotas_are_kept_by_threads_together(self, reopen: Callable[[], SqlStore]) -> None:
        stores, refused = [reopen() for _ in range(4)], list[int]()

        def work(store: SqlStore) -> None:
            for _ in range(3):
                try:
                    store.submit(NEW, {"queued": 5})
                except QuotaExceeded:
                    refused.append(1)

        threads = [threading.Thread(target=work, args=(s,)) for s in stores]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(stores[0].page(None).items) == 5 and len(refused) == 7
        assert stores[0].submit(replace(NEW, tenant="other"), {"queued": 5})[1]

    def test_quota_of_time_and_running(self, store: SqlStore) -> None:
        submit(store)
        claim = take(store)
        with pytest.raises(QuotaExceeded, match="running"):
            store.submit(NEW, {"running": 1})
        store.finish(claim, PROVED)
        store.submit(NEW, {"running": 1, "cpu_seconds": 2})
        with pytest.raises(QuotaExceeded, match="CPU"):
            store.submit(NEW, {"cpu_seconds": 1})

    def test_processor_time_is_that_of_a_day_and_stays_spent(self, store: SqlStore, clock: Clock) -> None:
        job = submit(store)
        store.finish(take(store), PROVED)
        store.delete(job, "local")  # which gives no time back
        for _ in range(2):
            with pytest.raises(QuotaExceeded, match=r"1\.5 CPU seconds of at most 1"):
                store.submit(NEW, {"cpu_seconds": 1})
            clock.now += 12 * 3600
        store.submit(replace(NEW, tenant="other"), {"cpu_seconds": 1})
        clock.now += 2 * 3600
        assert store.submit(NEW, {"cpu_seconds": 1})[1]

    def test_a_quota_that_does_not_exist_is_refused(self, store: SqlStore) -> None:
        with pytest.raises(BadInput, match="no quota of 'shoes'"):
            store.submit(NEW, {"shoes": 1})

    def test_a_submission_is_audited_once(self, store: SqlStore) -> None:
        new = replace(NEW, idempotency=Idempotency("k", "f"))
        job, _ = store.submit(new, audited={"key": "a"})
        store.submit(new, audited={"key": "a"})
        store.submit(NEW)
        told = {"job": job.id, "kind": "verify", "key": "a"}
        assert [entry[1:] for entry in store.audited()] == [("local", "jobs.submit", told)]

    def test_who_polls_sees_revisions_and_states(self, store: SqlStore) -> None:
        job = submit(store)
        assert store.look(job, "local") == (1, State.QUEUED)
        take(store)
        whole = store.get(job, None)
        assert store.look(job, None) == (whole.revision, State.RUNNING) and whole.revision > 1
        with pytest.raises(UnknownJob):
            store.look(job, "other")
        assert store.glance(job, "other") is None and store.glance("j", "local") is None
        # at once, or not at all
        assert store.glance(job, "local") in (store.look(job, "local"), None)
        assert store.glance(job, "local") is not None or not store._db.sqlite
        store.close()
        assert store.glance(job, "local") in (store.look(job, "local"), None)

    def test_a_glance_waits_for_no_writer(self, store: SqlStore) -> None:
        job = submit(store)
        with store._db.engine.begin() as connection:
            connection.exec_driver_sql("UPDATE job SET revision = revision + 1")
            assert store.glance(job, "local") in ((1, State.QUEUED), None)
        assert store.glance(job, "local") in ((2, State.QUEUED), None)

    def test_known_answers(self, store: SqlStore) -> None:
        new = replace(NEW, question="q", family="f")
        assert store.answered("local", "q") is None and store.answered("local", "") is None
        submit(store, new)
        claim = take(store)
        assert store.answered("local", "q") is None
        store.finish(claim, replace(PROVED, artifacts=(FILE,)))
        known = store.answered("local", "q")
        assert known is not None and store.answered("other", "q") is None
        assert [j.id for j in store.related("local", "f")] == [known.id]
        copy, fresh = store.submit(new, {"queued": 0}, known)
        assert fresh and (copy.state, copy.answer, copy.cached_from) == (known.state, known.answer, known.id)
        assert copy.artifacts == (FILE,) and copy.cpu_seconds == 0
        assert [e.name for e in store.events(copy.id, 0)] == ["state", "done"]

    def test_undecided_jobs_answer_nothing(self, store: SqlStore) -> None:
        submit(store, replace(NEW, question="q"))
        store.finish(take(store), Outcome(State.FINISHED, Answer.UNKNOWN, "timeout"))
        assert store.answered("local", "q") is None

    def test_pages(self, store: SqlStore, clock: Clock) -> None:
        names = []
        for i in range(5):
            clock.now += i % 2  # two of them at the same instant
            names.append(submit(store))
        submit(store, replace(NEW, tenant="other"))
        seen, cursor = [], ""
        while True:
            page = store.page("local", cursor=cursor, limit=2)
            seen += [j.id for j in page.items]
            cursor = page.cursor
            if not cursor:
                break
        assert sorted(seen) == sorted(names) and len(seen) == 5
        assert [j.created for j in store.page("local").items] == sorted(
            (store.get(n, None).created for n in names), reverse=True
        )
        assert store.page("local", states=[State.RUNNING]).items == ()
        assert len(store.page(None).items) == 6
        for wrong in ("x", "eCd5", cursor_of("1")):
            with pytest.raises(BadInput, match="cursor"):
                store.page("local", cursor=wrong)

    def test_tenants_see_their_own(self, store: SqlStore) -> None:
        job = submit(store)
        for call in (store.get, store.cancel, store.delete):
            with pytest.raises(UnknownJob):
                call(job, "other")
        assert store.get(job, None).state is State.QUEUED


def cursor_of(*parts: str) -> str:
    from workers.jobs.rows import cursor

    return cursor(*parts)


class TestRecords:
    def test_models(self, store: SqlStore, clock: Clock) -> None:
        first = Model("aa" * 32, "local", 7, "net.onnx", 0.0)
        assert store.put_model(first) and not store.put_model(first)
        assert store.put_model(replace(first, tenant="other"))
        clock.now += 1
        assert store.put_model(replace(first, sha256="bb" * 32))
        store.set_facts("aa" * 32, {"nodes": 3})
        found = store.get_model("aa" * 32, "local")
        assert found is not None and found.facts == {"nodes": 3} and found.created == clock.now - 1
        assert store.get_model("cc" * 32, None) is None and store.get_model("bb" * 32, "other") is None
        page, cursor = store.models("local", limit=1)
        rest, end = store.models("local", cursor=cursor)
        assert [m.sha256[:2] for m in (*page, *rest)] == ["bb", "aa"] and end == ""
        assert store.delete_model("aa" * 32, "local") and not store.delete_model("aa" * 32, "local")
        assert store.get_model("aa" * 32, "other") is not None

    def test_keys(self, store: SqlStore, clock: Clock) -> None:
        key = Key("k1", "local", "ab" * 32, frozenset({"jobs:read"}), 5.0, "ci")
        store.add_key(key)
        assert store.key("k1") == key and store.key("k2") is None
        assert store.keys()[0].last_used == clock.now
        clock.now += 59
        assert store.key("k1") is not None and store.keys()[0].last_used == clock.now - 59
        clock.now += 2
        assert store.key("k1") is not None and store.keys()[0].last_used == clock.now
        assert store.revoke_key("k1") and not store.revoke_key("k1")
        assert store.key("k1") is None and [k.revoked for k in store.keys("local")] == [True]
        assert store.keys("other") == []

    def test_audit_log(self, store: SqlStore) -> None:
        store.audit("local", "key.created", {"id": "k1"})
        store.audit("other", "job.deleted", {})
        assert [a[2] for a in store.audited()] == ["job.deleted", "key.created"]
        assert [a[3] for a in store.audited("local")] == [{"id": "k1"}]

    def test_workers(self, store: SqlStore, clock: Clock) -> None:
        store.beat("a", ["short"], {"slots": 2})
        clock.now += 10
        store.beat("b", ["long"], {})
        store.beat("b", ["long"], {"slots": 1})
        assert sorted(store.workers(60)) == [
            ("a", 10.0, {"queues": ["short"], "slots": 2}),
            ("b", 0.0, {"queues": ["long"], "slots": 1}),
        ]
        assert [w[0] for w in store.workers(5)] == ["b"]

    def test_idle_slots(self, store: SqlStore, clock: Clock) -> None:
        assert store.idle("short") == 0
        store.beat("a", ["short"], {"slots": 3})
        store.beat("b", ["long"], {"slots": 5})
        assert store.idle("short") == 3
        parent = submit(store)
        assert store.idle("short") == 0  # a job waits
        claim = take(store)
        assert store.idle("short") == 2
        shard = replace(NEW, kind=Kind.SHARD, parent=parent)
        names = [submit(store, shard) for _ in range(2)]
        assert store.idle("short") == 0
        running = [store.claim_job(name, "w", LEASE) for name in names]
        assert store.idle("short") == 1  # the slot that leads the job works on one of its shards
        for one in running:
            assert one is not None and store.finish(one, PROVED)
        assert store.finish(claim, PROVED)
        assert store.idle("short") == 3
        clock.now += 3600
        assert store.idle("short") == 0  # nobody has been heard of

    def test_files_of_shards_are_kept_while_their_job_goes_on(self, store: SqlStore) -> None:
        parent = submit(store)
        claim = take(store)
        files = {"model": "m", "property": {}, "checkpoint": "part", "whole": "all"}
        shard = submit(store, replace(NEW, kind=Kind.SHARD, parent=parent, request=files))
        assert {"part", "all"} <= store.named()
        assert store.finish(store.claim_job(shard, "w", LEASE), PROVED)
        assert {"part", "all"} <= store.named()  # they are still to be joined
        assert store.finish(claim, PROVED)
        assert not {"part", "all"} & store.named()

    def test_ping(self, store: SqlStore) -> None:
        store.ping()


class TestMigrations:
    def test_tables_are_those_of_the_program(self, store: SqlStore) -> None:
        from alembic.autogenerate import compare_metadata
        from alembic.migration import MigrationContext

        from workers.jobs.tables import metadata

        with store._db.engine.connect() as connection:
            context = MigrationContext.configure(connection, opts={"compare_type": True})
            assert compare_metadata(context, metadata) == []
            assert context.get_current_revision() == HEAD

    def test_head_is_the_latest_file(self) -> None:
        from alembic.config import Config
        from alembic.script import ScriptDirectory

        config = Config()
        config.set_main_option("script_location", "workers.jobs:migrations")
        config.set_main_option("path_separator", "os")
        assert ScriptDirectory.from_config(config).get_heads() == [HEAD]

    def test_several_processes_may_begin_at_once(self, reopen: Callable[[], SqlStore]) -> None:
        failed: list[BaseException] = []

        def work() -> None:
            try:
                submit(reopen())
            except BaseException as error:
                failed.append(error)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failed == [] and len(reopen().page(None).items) == 4

    def test_what_older_tables_held_is_kept(self, reopen: Callable[[], SqlStore]) -> None:
        """Down to the first version, and up again with the jobs in it."""
        store = reopen()
        urgent = submit(store, replace(NEW, priority=5))
        store.finish(take(store), PROVED)
        plain, first = submit(store), submit(store, replace(NEW, priority=7))
        version(store, "0001")
        assert store._db.version() == "0001"
        store.close()
        again = reopen()
        assert again._db.version() == HEAD
        assert again.get(urgent, None).answer is Answer.VERIFIED
        assert [take(again).job.id, take(again).job.id] == [first, plain]
        with pytest.raises(QuotaExceeded, match=r"1\.5 CPU"):
            again.submit(NEW, {"cpu_seconds": 1})

    def test_postgresql_is_migrated_when_told(self, postgres_url: str) -> None:
        _empty(postgres_url)
        with pytest.raises(NotMigrated, match="--migrate"):
            open_store(postgres_url)
        open_store(postgres_url, migrate=True).close()
        open_store(postgres_url).close()


def test_a_server_that_is_down_is_asked_again(tmp_path: Path) -> None:
    """While PostgreSQL restarts its socket is gone; that passes, and is waited for."""
    pytest.importorskip("psycopg", reason="pip install --group workers")
    with pytest.raises(StoreUnreachable, match="does not answer"):
        open_store(f"postgresql:///jobs?host={tmp_path}", patience_s=0.1)
    with pytest.raises(StoreUnreachable, match="does not answer"):
        open_store("postgresql://127.0.0.1:1/jobs", patience_s=0.1)


def version(store: SqlStore, wanted: str) -> None:
    """Takes tables back to an older version."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", "workers.jobs:migrations")
    config.set_main_option("path_separator", "os")
    with store._db.engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, wanted)


def test_what_is_asked_often_goes_along_an_index(tmp_path: Path) -> None:
    """However many jobs there are: no table is read whole, and nothing is sorted, on the way of a job."""
    import sqlalchemy as sa

    store, plans = open_store(str(tmp_path / "jobs.db")), list[str]()

    def watch(connection: sa.Connection, _cursor: object, text: str, values: object, *_: object) -> None:
        if text.startswith(("SELECT", "UPDATE", "DELETE")):
            raw = connection.connection.cursor().execute(f"EXPLAIN QUERY PLAN {text}", values)
            plans.extend(f"{row[-1]} <- {text}" for row in raw.fetchall())

    sa.event.listen(store._db.engine, "before_cursor_execute", watch)
    new = replace(NEW, family="f", question="q")
    quota = {"queued": 10, "running": 10, "cpu_seconds": 10}
    names = [store.submit(new, quota)[0].id for _ in range(4)]
    claim = store.claim("w", ["short", "long"], LEASE)
    assert claim is not None
    assert len(store.claim_family(claim, 2, LEASE)) == 2
    store.heartbeat(claim, Progress(0.5, "search"), LEASE)
    assert store.finish(claim, PROVED)
    store.get(names[0], "local"), store.look(names[0], "local"), store.events(names[0], 0)
    store.answered("local", "q"), store.related("local", "f")
    store.page("local"), store.page("local", states=[State.QUEUED]), store.cancel(names[3], "local")
    store.close()
    assert len(plans) > 15
    assert [p for p in plans if p.startswith("SCAN") and "CONSTANT" not in p] == []
    assert [p for p in plans if "TEMP B-TREE" in p] == []


def test_a_log_is_moved_to_the_file_when_it_is_due(tmp_path: Path) -> None:
    from workers.jobs.database import SETTLE_BYTES

    store = open_store(str(tmp_path / "jobs.db"))
    assert not store.settle()
    log, file = tmp_path / "jobs.db-wal", tmp_path / "jobs.db"
    large = replace(NEW, request={"model": "m" * 100_000})
    while log.stat().st_size < SETTLE_BYTES:
        submit(store, large)
    before = file.stat().st_size
    assert store.settle() and file.stat().st_size > before
    names = [submit(store, large) for _ in range(5)]
    assert log.stat().st_size < 2 * SETTLE_BYTES  # it is written from the beginning again
    store.close()
    again = open_store(str(tmp_path / "jobs.db"))
    assert [again.get(name, None).state for name in names] == [State.QUEUED] * 5
    again.close()


def test_sums_over_the_store(store: SqlStore, clock: Clock) -> None:
    assert store.durations().sum == 0 and store.durations().buckets[-1] == ("+Inf", 0)
    for seconds in (0.2, 20.0):
        store.submit(NEW)
        claim = store.claim("w", ["short"], LEASE)
        assert claim is not None
        clock.now += seconds
        assert store.finish(claim, PROVED)
    store.submit(NEW)
    store.cancel(store.submit(NEW)[0].id, "local")  # never ran: counts nowhere
    took = store.durations()
    assert dict(took.buckets) | {"10.0": 1, "30.0": 2, "+Inf": 2, "0.1": 0, "0.3": 1} == dict(took.buckets)
    assert round(took.sum, 3) == 20.2 and took.cpu_seconds == 3.0


def test_bytes_are_added_up_for_each_tenant(store: SqlStore) -> None:
    for tenant, digest, size in (("a", "1" * 64, 5), ("a", "2" * 64, 7), ("b", "1" * 64, 5)):
        store.put_model(Model(digest, tenant, size, "", 0.0))
    assert (store.bytes_of("a"), store.bytes_of("b"), store.bytes_of("c")) == (12, 5, 0)


def test_files_in_use_are_named(store: SqlStore) -> None:
    store.put_model(Model("1" * 64, "a", 5, "", 0.0))
    waiting, _ = store.submit(
        replace(NEW, request={"model": "2" * 64, "data": "3" * 64, "certificate": None})
    )
    claim = store.claim("w", ["short"], LEASE)
    assert claim is not None
    assert store.named() == {"1" * 64, "2" * 64, "3" * 64}
    assert store.finish(claim, replace(PROVED, artifacts=(FILE,)))
    assert store.named() == {"1" * 64, FILE.sha256}
    store.delete(waiting.id, None)
    assert store.named() == {"1" * 64}
