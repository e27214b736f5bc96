"""The embedded supervisor, its children, files and databases are killed, filled and restarted under it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("sqlalchemy", reason="pip install 'surebound[service]'")

from job_models import (
    FAILS,
    HOLDS,
    absolute,
    box_property,
    finished,
    hard,
    request,
    store_at,
    upload,
    wait_for,
)
from queue_parts import SUPERVISOR, kill_group, running
from store_backends import become_owner

from workers.jobs.artifacts import Artifacts
from workers.jobs.database import StoreUnreachable
from workers.jobs.model import Answer, Budget, State
from workers.jobs.sql import open_store
from workers.local import Habits, Supervisor
from workers.runner import RunnerLimits

LONG = box_property(12, 3.0)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[tuple[Any, Artifacts]]:
    store, artifacts = store_at(tmp_path)
    yield store, artifacts
    store.close()


@contextmanager
def supervising(place: tuple[Any, Artifacts], **limits: float) -> Iterator[Supervisor]:
    supervisor = Supervisor(
        *place, slots=1, habits=Habits(sweep_s=0.5), limits=RunnerLimits(lease_s=3.0, **limits)
    )
    supervisor.start()
    try:
        yield supervisor
    finally:
        supervisor.stop()


def children() -> list[int]:
    """Our child processes that run jobs."""
    command = ["ps", "-o", "pid=,args=", "--ppid", str(os.getpid())]
    listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [int(line.split()[0]) for line in listed.splitlines() if "workers.run" in line]


def test_a_killed_child_costs_an_attempt(place: Any) -> None:
    store, artifacts = place
    model = upload(store, artifacts, hard(12, 60, seed=1))
    with supervising(place):
        job = store.submit(replace(request(model, LONG, timeout_s=120), max_attempts=2))[0].id
        for attempt in (1, 2):
            wait_for(lambda a=attempt: store.get(job, None).attempt == a)
            wait_for(lambda: bool(children()))
            wait_for(lambda: store.get(job, None).progress is not None)
            for pid in children():
                os.kill(pid, signal.SIGKILL)
            if attempt == 1:
                wait_for(lambda: store.get(job, None).attempt == 2)
        end = finished(store, [job])[0]
        assert (end.state, end.reason, end.attempt) == (State.FAILED, "crashed", 2)
        assert "SIGKILL" in end.error
        # and the supervisor goes on
        easy = store.submit(request(upload(store, artifacts, absolute()), HOLDS))[0].id
        assert finished(store, [easy])[0].answer is Answer.VERIFIED


def test_a_poison_job_is_failed_and_others_finish(
    place: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A job whose child dies of it, among jobs of its own family: theirs are not its attempts."""
    # planted in the child from outside: a property with this text ends the process
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys\n"
        "if any('workers.run' in a for a in sys.orig_argv):\n"
        "    import verifier.spec.load as load\n"
        "    before = load.loads\n"
        "    def loads(data, **more):\n"
        "        if '; poison' in data: os.abort()\n"
        "        return before(data, **more)\n"
        "    load.loads = loads\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    store, artifacts = place
    model = upload(store, artifacts, absolute())
    texts = [HOLDS, FAILS, f"{HOLDS} ; poison", HOLDS, FAILS]
    names = [store.submit(request(model, t, family="f"))[0].id for t in texts]
    with supervising(place):
        jobs = finished(store, names, 120)
    assert [j.answer for j in jobs] == [
        Answer.VERIFIED, Answer.FALSIFIED, None, Answer.VERIFIED, Answer.FALSIFIED,
    ]  # fmt: skip
    assert (jobs[2].state, jobs[2].reason) == (State.FAILED, "crashed") and "SIGABRT" in jobs[2].error
    for job in jobs:
        assert job.attempt <= job.max_attempts
        assert [e.name for e in store.events(job.id, 0)].count("done") == 1


@pytest.mark.slow
@pytest.mark.parametrize("together", [1, 8])
def test_killed_supervisors(place: Any, tmp_path: Path, together: int) -> None:
    """SIGKILL of the supervisor (its children end with it), again and again, until all is done."""
    store, artifacts = place
    model = upload(store, artifacts, absolute())
    wanted: dict[str, Answer] = {}
    for i in range(12):
        new = request(model, HOLDS if i % 2 else FAILS, family="f")
        wanted[store.submit(replace(new, max_attempts=6))[0].id] = (
            Answer.VERIFIED if i % 2 else Answer.FALSIFIED
        )
    for kills in (1, 2):
        with running(SUPERVISOR, tmp_path / "jobs.db", tmp_path / "files", together) as process:
            wait_for(
                lambda k=kills: sum(n for (s, _, _), n in store.counts().items() if s == "finished") >= k
            )
            kill_group(process)
    with running(SUPERVISOR, tmp_path / "jobs.db", tmp_path / "files", together):
        for job in finished(store, wanted, 120):
            assert (job.state, job.answer) == (State.FINISHED, wanted[job.id]), job
            assert job.attempt <= job.max_attempts
            assert [e.name for e in store.events(job.id, 0)].count("done") == 1


def test_children_end_with_their_supervisor(place: Any, tmp_path: Path) -> None:
    store, artifacts = place
    model = upload(store, artifacts, hard(12, 60, seed=1))
    job = store.submit(request(model, LONG, timeout_s=300))[0].id
    with running(SUPERVISOR, tmp_path / "jobs.db", tmp_path / "files", 1) as process:
        wait_for(lambda: store.get(job, None).progress is not None)
        command = ["ps", "-o", "pid=", "--ppid", str(process.pid)]
        listed = subprocess.run(command, check=True, capture_output=True, text=True)
        mine = [int(p) for p in listed.stdout.split()]
        assert mine
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        wait_for(lambda: not any(_alive(p) for p in mine), 30)


def _alive(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


def test_a_drained_job_goes_on_from_its_checkpoint(place: Any) -> None:
    store, artifacts = place
    model = upload(store, artifacts, hard(12, 60, seed=1))
    new = request(model, LONG, timeout_s=300, options={"certificate": False})
    job = store.submit(new)[0].id
    with supervising(place):
        wait_for(lambda: (p := store.get(job, None).progress) is not None and p.domains > 50)
    again = store.get(job, None)
    assert (again.state, again.attempt, again.max_attempts) == (State.QUEUED, 1, 4)
    assert again.artifact("checkpoint") is not None
    with supervising(place):
        wait_for(lambda: store.get(job, None).attempt == 2)
        events = store.events(job, 0, 1000)
        begun = next(e.number for e in events if e.data.get("attempt") == 2)
        wait_for(lambda: any(e.name == "progress" for e in store.events(job, begun, 1000)))
        store.cancel(job, None)
        assert finished(store, [job])[0].state is State.CANCELLED
    first = next(e for e in store.events(job, begun, 1000) if e.name == "progress")
    assert first.data["domains"] > 50  # it did not begin anew


def test_a_full_folder_keeps_the_verdict(place: Any) -> None:
    """No room for files: the verdict stands, and the job says what is missing."""
    store, artifacts = place
    model = upload(store, artifacts, absolute())
    artifacts.quota = artifacts.used() + 10
    with supervising(place):
        job = finished(store, [store.submit(request(model, HOLDS))[0].id])[0]
    assert (job.state, job.answer, job.artifacts) == (State.FINISHED, Answer.VERIFIED, ())
    assert "could not be kept" in job.error


@contextmanager
def full(disk: Path) -> Iterator[None]:
    """Leaves no room until the end."""
    filler = disk / "filler"
    with suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    yield
    filler.unlink()


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("mount") is None, reason="needs root, to mount a tmpfs")
def test_a_full_disk_ends_no_job_wrongly(tmp_path: Path) -> None:
    """The disk of database and files fills up, then has room again."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(disk)], check=False)
    if mounted.returncode:
        pytest.skip("this machine allows no mounts; run as root outside of a container")
    try:
        store, artifacts = store_at(disk)
        model = upload(store, artifacts, absolute())
        with supervising((store, artifacts)):
            with full(disk), pytest.raises(StoreUnreachable, match=r"full|room"):
                for _ in range(1000):
                    store.submit(request(model, HOLDS, queue="nobody's"))
            names = [store.submit(request(model, HOLDS))[0].id for _ in range(3)]
            with full(disk):
                threading.Event().wait(1.0)
            for job in finished(store, names, 120):
                assert (job.state, job.answer) == (State.FINISHED, Answer.VERIFIED), job
        store.close()
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=False)


@pytest.mark.slow
def test_postgresql_restarts_under_a_job(tmp_path: Path) -> None:
    from store_backends import HOW

    pytest.importorskip("psycopg", reason=HOW)
    pgserver = pytest.importorskip("pgserver", reason=HOW)
    import tempfile

    folder = Path(tempfile.mkdtemp(prefix="sb-pg-"))
    server = pgserver.get_server(folder / "data", cleanup_mode="stop")
    try:
        store = open_store(server.get_uri(), migrate=True, patience_s=30)
        artifacts = Artifacts(tmp_path / "files")
        model = upload(store, artifacts, absolute())
        wanted = [store.submit(request(model, HOLDS))[0].id for _ in range(3)]
        with supervising((store, artifacts)):
            wait_for(lambda: any(s != "queued" for s, _, _ in store.counts()))
            control = Path(pgserver.__file__).parent / "pginstall" / "bin" / "pg_ctl"
            _restart(control, folder / "data")
            wanted += [store.submit(request(model, HOLDS))[0].id for _ in range(2)]
            for job in finished(store, wanted, 120):
                assert (job.state, job.answer) == (State.FINISHED, Answer.VERIFIED), job
                assert [e.name for e in store.events(job.id, 0)].count("done") == 1
        store.close()
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


def _restart(control: Path, data: Path) -> None:
    """As an operator would, with connections cut: by the user that the server runs as."""
    subprocess.run(
        [str(control), "-D", str(data), "-m", "immediate", "-w", "restart"],
        check=True, stdout=subprocess.DEVNULL, preexec_fn=become_owner(data), cwd="/",
    )  # fmt: skip


def test_a_supervisor_leaves_no_child(place: Any) -> None:
    """What warms a child, uses it, tidies it and ends it is one pool."""
    store, artifacts = place
    models = [upload(store, artifacts, data) for data in (absolute(), hard(4, 8, seed=1))]
    with supervising(place) as supervisor:
        wait_for(lambda: len(children()) == 1)
        warm = children()
        job = store.submit(request(models[0], HOLDS))[0].id
        assert finished(store, [job])[0].answer is Answer.VERIFIED
        assert children() == warm
        finished(store, [store.submit(request(models[1], box_property(4, 100.0)))[0].id])
        assert set(warm) < set(children()) and supervisor._runners[0].pool is supervisor._pool
    assert children() == []
    assert not list((artifacts.path / "work").glob("*-*"))


def test_a_slot_outlives_what_its_code_did_not_expect(
    place: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A claim, a run and a sweep fail once with an error of nobody's; all is logged, and the job is done."""
    store, artifacts = place
    model = upload(store, artifacts, absolute())

    def fails_once(owner: Any, name: str) -> threading.Event:
        whole, failed = getattr(owner, name), threading.Event()

        def call(*given: Any, **more: Any) -> Any:
            if not failed.is_set():
                failed.set()
                raise RuntimeError(f"planted in {name}")
            return whole(*given, **more)

        monkeypatch.setattr(owner, name, call)
        return failed

    supervisor = Supervisor(store, artifacts, habits=Habits(sweep_s=0.2), limits=RunnerLimits(lease_s=1.0))
    planted = [
        fails_once(*one) for one in ((store, "claim"), (store, "sweep"), (supervisor._runners[0], "run"))
    ]
    job = store.submit(request(model, HOLDS))[0].id
    supervisor.start()
    try:
        found = finished(store, [job])[0]
        wait_for(lambda: all(p.is_set() for p in planted))
        wait_for(lambda: "planted in sweep" in caplog.text)
    finally:
        supervisor.stop()
    assert (found.answer, found.attempt) == (Answer.VERIFIED, 2)
    for name in ("claim", "run", "sweep"):
        assert f"planted in {name}" in caplog.text


def test_memory_of_a_job_is_its_own(place: Any) -> None:
    """A job that runs out of memory ends alone; the next one gets a fresh child."""
    store, artifacts = place
    model = upload(store, artifacts, hard(12, 900, seed=2))
    with supervising(place):
        job = store.submit(replace(request(model, LONG), budget=Budget(60.0, 8)))[0].id
        assert finished(store, [job])[0].reason == "out-of-memory"
        easy = store.submit(request(upload(store, artifacts, absolute()), HOLDS))[0].id
        assert finished(store, [easy])[0].answer is Answer.VERIFIED
