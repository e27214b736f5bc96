"""Celery on a real Redis-compatible server: whatever is killed, every job ends once and rightly."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("sqlalchemy", reason="pip install 'surebound[service]'")
pytest.importorskip("celery", reason="pip install 'surebound[redis]'")

from job_models import FAILS, HOLDS, absolute, finished, request, store_at, upload, wait_for
from queue_parts import WORKER, Redis, kill_group, redis, running

from workers.celery_app import SETTINGS, TRANSPORT, dispatcher
from workers.jobs.model import Answer, State


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Redis]:
    with redis(tmp_path / "redis") as server:
        yield server


@pytest.fixture
def place(tmp_path: Path) -> Iterator[tuple[Any, Any, str]]:
    store, artifacts = store_at(tmp_path)
    yield store, artifacts, upload(store, artifacts, absolute())
    store.close()


def arguments(tmp_path: Path, broker: Redis) -> tuple[object, ...]:
    return tmp_path / "jobs.db", tmp_path / "files", broker.url


def submit(place: tuple[Any, Any, str], dispatch: Any, count: int) -> dict[str, Answer]:
    """Jobs with the verdicts that they must end with."""
    store, _, model = place
    wanted: dict[str, Answer] = {}
    for i in range(count):
        holds = i % 2 == 0
        job, _ = store.submit(request(model, HOLDS if holds else FAILS))
        wanted[job.id] = Answer.VERIFIED if holds else Answer.FALSIFIED
        if dispatch is not None:
            dispatch.notify(job.id, job.queue)
    return wanted


def check(store: Any, wanted: dict[str, Answer]) -> None:
    for job in finished(store, wanted, 120):
        assert (job.state, job.answer) == (State.FINISHED, wanted[job.id]), job
        assert job.attempt <= job.max_attempts
        assert [e.name for e in store.events(job.id, 0)].count("done") == 1


def test_settings_are_those_that_were_measured() -> None:
    assert SETTINGS["task_acks_late"] and SETTINGS["worker_prefetch_multiplier"] == 1
    assert SETTINGS["accept_content"] == ["json"] and SETTINGS["task_ignore_result"]
    assert TRANSPORT["visibility_timeout"] >= SETTINGS["task_time_limit"] + 500


def test_messages_lost_doubled_and_for_nobody(tmp_path: Path, broker: Redis, place: Any) -> None:
    """Without messages the sweep's own reminders suffice; with several each job still ends once."""
    dispatch = dispatcher(broker.url)
    with running(WORKER, *arguments(tmp_path, broker)):
        wanted = submit(place, dispatch, 4)
        for job in [*wanted, *wanted, "j-of-nobody"]:
            dispatch.notify(job, "short")
        check(place[0], wanted)
    dispatch.close()


def test_a_killed_worker_and_a_restarted_broker(tmp_path: Path, broker: Redis, place: Any) -> None:
    dispatch = dispatcher(broker.url)
    with running(WORKER, *arguments(tmp_path, broker)) as first:
        wanted = submit(place, dispatch, 6)
        wait_for(lambda: any(s == "finished" for s, _, _ in place[0].counts()), 90)
        kill_group(first)
    broker.restart()
    with running(WORKER, *arguments(tmp_path, broker)):
        wanted |= submit(place, dispatch, 2)
        check(place[0], wanted)
    dispatch.close()


def test_a_broker_that_hangs_holds_up_nobody(broker: Redis, place: Any) -> None:
    dispatch = dispatcher(broker.url)
    broker.pause()
    begun = time.monotonic()
    submit(place, dispatch, 20)
    assert time.monotonic() - begun < 5
    broker.go_on()
    dispatch.close()


def test_sigterm_gives_jobs_back(tmp_path: Path, broker: Redis, place: Any) -> None:
    from job_models import box_property, hard

    store, artifacts, _ = place
    model = upload(store, artifacts, hard(12, 60, seed=1))
    job, _ = store.submit(request(model, box_property(12, 3.0), timeout_s=300))
    dispatch = dispatcher(broker.url)
    with running(WORKER, *arguments(tmp_path, broker)) as worker:
        dispatch.notify(job.id, job.queue)
        wait_for(lambda: store.get(job.id, None).progress is not None)
        worker.terminate()
        worker.wait(60)
    again = store.get(job.id, None)
    assert (again.state, again.attempt, again.max_attempts) == (State.QUEUED, 1, 4)
    assert again.artifact("checkpoint") is not None
    dispatch.close()
