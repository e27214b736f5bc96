"""What a server does besides answering: tidying, listening, settings that contradict each other."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="pip install 'surebound[service]'")

from service_server import wait_until

from bounds.errors import BadInput
from service.auth import check_start
from service.command import settings_of
from service.server import address, listen, tidied
from service.settings import Settings, loopback
from workers.jobs.artifacts import Artifacts
from workers.jobs.model import Answer, Artifact, Budget, Kind, Model, NewJob, Outcome, State
from workers.jobs.sql import open_store


def test_only_files_that_nothing_names_are_removed(tmp_path: Path) -> None:
    store, artifacts = open_store(str(tmp_path / "db")), Artifacts(tmp_path / "files")

    def put(text: str) -> str:
        digest = artifacts.put_bytes(text.encode())[0]
        os.utime(artifacts.file(digest), (0, 0))
        return digest

    model, of_job, wanted, orphan = (
        put(t) for t in ("model", "of a job", "wanted by a queued job", "orphan")
    )
    young = artifacts.put_bytes(b"just uploaded, its row is on the way")[0]
    store.put_model(Model(model, "t", 5, "", 0.0))
    new = NewJob("t", Kind.SWEEP, {"model": model}, Budget(1.0, 64))
    store.submit(new)
    claim = store.claim("w", ["short"], 30.0)
    assert claim is not None
    done = Outcome(State.FINISHED, Answer.VERIFIED, artifacts=(Artifact("certificate", of_job, 8, "x"),))
    assert store.finish(claim, done)
    job, _ = store.submit(NewJob("t", Kind.SWEEP, {"model": model, "data": wanted}, Budget(1.0, 64)))
    with tidied(Settings(), store, artifacts, every_s=0.01):
        wait_until(lambda: not artifacts.has(orphan))
        assert all(artifacts.has(d) for d in (model, of_job, wanted, young))
        store.cancel(job.id, "t")
        store.delete(claim.job.id, "t")
        wait_until(lambda: not artifacts.has(wanted) and not artifacts.has(of_job))
        assert artifacts.has(model)
    store.close()


def test_what_ended_jobs_left_goes_in_time_unless_somebody_needs_it(tmp_path: Path) -> None:
    clock = [time.time() - 40 * 24 * 3600.0]
    store, artifacts = (
        open_store(str(tmp_path / "jobs.db"), clock=lambda: clock[0]),
        Artifacts(tmp_path / "f"),
    )

    def put(text: str) -> str:
        digest = artifacts.put_bytes(text.encode())[0]
        os.utime(artifacts.file(digest), (0, 0))
        return digest

    def done(*digests: str) -> str:
        job, _ = store.submit(NewJob("t", Kind.SWEEP, {}, Budget(1.0, 64)))
        claim = store.claim("w", ["short"], 30.0)
        assert claim is not None and claim.job.id == job.id
        left = tuple(Artifact(d[:4], d, 8, "x") for d in digests)
        assert store.finish(claim, Outcome(State.FINISHED, Answer.VERIFIED, artifacts=left))
        return job.id

    old, shared, model, asked, late = (put(t) for t in ("old", "shared", "a model", "asked for", "late"))
    first = done(old, shared, model, asked)
    store.put_model(Model(model, "t", 5, "", 0.0))
    store.submit(NewJob("t", Kind.SWEEP, {"data": asked}, Budget(1.0, 64), queue="nobody's"))
    clock[0] += 20 * 24 * 3600.0
    done(late, shared)
    clock[0] = time.time()
    for days, gone, kept in ((0.0, [], [old, late]), (30.0, [old], [late]), (10.0, [late, shared], [])):
        orphan = put(f"orphan {days}")  # to see that it was tidied
        with tidied(Settings(retention_days=days), store, artifacts, every_s=0.01):
            wait_until(lambda o=orphan: not artifacts.has(o))
        assert not any(artifacts.has(d) for d in gone), days
        assert all(artifacts.has(d) for d in (*kept, model, asked)), days
    assert len(store.get(first, "t").artifacts) == 4  # the job still says what there was
    store.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "localhost", "LOCALHOST.", "::1", "[::1]"])
def test_loopback(host: str) -> None:
    assert loopback(host) and not Settings(host=host).keys_required


@pytest.mark.parametrize(
    "host",
    ["0.0.0.0", "::", "10.1.2.3", "localhost.evil.example", "127.0.0.1.evil.example", "", "2130706433"],  # noqa: S104
)
def test_everything_else_needs_keys(host: str) -> None:
    assert not loopback(host) and Settings(host=host).keys_required
    with pytest.raises(BadInput, match="keys create"):
        check_start(Settings(host=host), keys=0)
    check_start(Settings(host=host), keys=1)


def test_settings_that_contradict_each_other_are_refused() -> None:
    for wrong in (
        {"host": "10.0.0.1", "require_keys": False},
        {"default_timeout_s": 9.0, "max_timeout_s": 5.0},
        {"default_memory_mb": 4096, "max_memory_mb": 512},
        {"max_timeout_s": -1.0},
    ):
        with pytest.raises(BadInput, match="setting"):
            settings_of(**wrong)


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUREBOUND_QUOTA_QUEUED", "7")
    assert settings_of(port=None).quota_queued == 7
    assert settings_of(port=1).port == 1


def test_a_port_that_is_taken_is_told() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(BadInput, match="choose another port"):
            listen("127.0.0.1", taken.getsockname()[1])
    free = listen("127.0.0.1", 0)
    assert address(free, "127.0.0.1") == f"http://127.0.0.1:{free.getsockname()[1]}"
    free.close()
