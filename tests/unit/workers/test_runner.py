"""What a runner believes of a child: files in its own folder, and nothing else."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

pytest.importorskip("sqlalchemy", reason="pip install 'surebound[service]'")

from job_models import HOLDS, absolute, request, upload

from bounds.errors import BadInput
from workers.jobs.artifacts import Artifacts
from workers.jobs.database import StoreUnreachable
from workers.jobs.model import Answer, Budget, Job, Kind, State
from workers.jobs.sql import open_store
from workers.run import OWN_BYTES, failure
from workers.runner import Runner
from workers.task import NO_ROOM, Ending, Left, Task


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    store = open_store(str(tmp_path / "jobs.db"))
    return Runner(store, Artifacts(tmp_path / "files"), tmp_path / "work")


def test_links_and_ways_out_are_refused(runner: Runner, tmp_path: Path) -> None:
    folder = tmp_path / "work" / "job-1"
    folder.mkdir()
    secret = tmp_path / "secret"
    secret.write_text("hidden")
    (folder / "link").symlink_to(secret)
    (folder / "inner").mkdir()
    (folder / "out").symlink_to(tmp_path)
    (folder / "good").write_text("result")
    for name in ("link", "../../secret", str(secret), "inner", "missing", "out/secret"):
        with pytest.raises(BadInput, match="no file in the job's folder"):
            runner._kept(folder, Left("certificate", name, ""))
    assert runner._kept(folder, Left("certificate", "good", "")).size == 6


def test_shards_share_the_time_of_their_job() -> None:
    def seconds(kind: Kind, started: float) -> float:
        job = Job(
            "j", "t", kind, State.RUNNING, {}, Budget(60.0, 64), "short", 0, 1, 3, 1, 1000.0, started=started
        )
        return Task.of(job, {}, {}, Path(), facts=False).timeout_s

    assert seconds(Kind.SHARD, 1000.0) == 60.0 and seconds(Kind.SHARD, 1045.0) == 15.0
    assert 0 < seconds(Kind.SHARD, 2000.0) < 1 and seconds(Kind.SHARD, 999.0) == 60.0
    assert seconds(Kind.VERIFY, 1045.0) == 60.0


def test_endings_survive_the_pipe() -> None:
    left = Left("certificate", "c", "application/zip")
    ending = Ending(Answer.VERIFIED, result={"domains": 1}, files=(left,), shards=((left, 3),))
    import json

    assert Ending.from_json(json.loads(json.dumps(ending.as_json()))) == ending
    with pytest.raises((KeyError, TypeError, ValueError)):
        Ending.from_json({"answer": "maybe", "files": [], "shards": []})


def test_a_full_disk_is_no_jobs_fault(tmp_path: Path) -> None:
    """Whoever tells it, in whatever words: the job is queued again, unless it filled the disk itself."""
    task = Task("j", "verify", {}, 1.0, 64, None, {}, {}, str(tmp_path))

    def told(full: OSError) -> Exception:
        try:
            try:
                raise full
            except OSError:
                raise BadInput("the certificate cannot be written") from None
        except BadInput as error:
            return error

    full = OSError(errno.ENOSPC, "No space left on device")
    for error in (full, told(full)):
        ending = failure(error, task, limited=True)
        assert (ending.returned, ending.reason, ending.error) == (True, NO_ROOM, "")
    other = failure(told(OSError(errno.EACCES, "Permission denied")), task, limited=True)
    assert (other.returned, other.reason) == (False, "bad-input")
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(OWN_BYTES)
    assert failure(full, task, limited=True).reason == "limit-exceeded"


def test_files_that_cannot_be_reached_cost_no_attempt(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An object store that is away: the job goes back to the queue as often as it takes."""
    model = upload(runner.store, runner.artifacts, absolute())
    job, _ = runner.store.submit(request(model, HOLDS))

    def away(_digest: str) -> Path:
        raise StoreUnreachable("the store of artefacts does not answer")

    monkeypatch.setattr(runner.artifacts, "file", away)
    runner.drain.set()  # so that nothing is waited for
    for attempt in (1, 2):
        claim = runner.store.claim("w", ["short"], 30.0)
        assert claim is not None and claim.attempt == attempt
        runner.run([claim])
        found = runner.store.get(job.id, None)
        assert (found.state, found.max_attempts) == (State.QUEUED, 3 + attempt)
    runner.pool.close()
