"""Many jobs through every part of the service while the parts are killed, stopped, filled and restarted.

Everything is real: API, supervisor and Celery worker are processes of their own, the broker and PostgreSQL
are servers from wheels, a full disk is a small file system that is filled. The one exception is the clock: a
machine's cannot be set without harm to others, so the processes' stores are opened with a clock that adds
what a file says. Leases, quotas and reminders go by it; time limits of a child go by the monotonic clock,
which never jumps.

What is counted at the end comes from the store's own history of events.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import queue
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from job_models import FAILS, HOLDS, absolute, box_property, hard, wait_for
from queue_parts import Redis, kill_group, start
from store_backends import become_owner

from service.client import Client
from workers.jobs.model import State
from workers.jobs.sql import SqlStore, open_store

ATTEMPTS = 8
POISON = "; poison"
COMMON = """
import functools, json, sys, threading, time
from pathlib import Path
import workers.jobs.sql as sql
place = json.loads(sys.argv[1])
shift = Path(place["clock"])
opened = functools.partial(sql.open_store, clock=lambda: time.time() + float(shift.read_text()))
"""
API = (
    COMMON
    + """
import service.server as server
from service.settings import Settings
server.open_store = opened
settings = Settings(data=place["data"], database=place["database"], broker=place["broker"], slots=0,
                    port=place["port"], max_attempts=place["attempts"])
sys.exit(server.run(settings, log_level="warning"))
"""
)
SUPERVISOR = (
    COMMON
    + """
from workers.jobs.artifacts import Artifacts
from workers.local import Habits, Supervisor
from workers.runner import RunnerLimits
supervisor = Supervisor(opened(place["database"]), Artifacts(place["files"]), slots=1,
    habits=Habits(sweep_s=0.5, together=8), limits=RunnerLimits(lease_s=place["lease"]))
supervisor.start()
threading.Event().wait()
"""
)
WORKER = (
    COMMON
    + """
import workers.celery_app as adapter
from workers.local import Habits
from workers.runner import RunnerLimits
adapter.open_store = opened
adapter.work(adapter.Place(place["database"], Path(place["files"]), place["broker"], ("short", "long"),
    habits=Habits(sweep_s=1.0, beat_s=1.0, together=8), limits=RunnerLimits(lease_s=place["lease"]),
    visibility_s=30))
"""
)
# planted in children from outside: a property with this text ends the process that reads it
PLANTED = f"""
import os, sys
if any('workers.run' in a for a in sys.orig_argv):
    import verifier.spec.load as load
    before = load.loads
    def loads(data, **more):
        if {POISON!r} in data: os.abort()
        return before(data, **more)
    load.loads = loads
"""


@dataclass
class Found:
    """What became of a run."""

    jobs: int = 0
    faults: Counter[str] = field(default_factory=Counter[str])
    left_out: dict[str, str] = field(default_factory=dict[str, str])
    wrong: list[str] = field(default_factory=list[str])
    ends: Counter[str] = field(default_factory=Counter[str])
    attempts: Counter[int] = field(default_factory=Counter[int])
    without_files: int = 0
    seconds: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """For a file of results."""
        return {
            "jobs": self.jobs, "faults": dict(self.faults), "left_out": self.left_out, "wrong": self.wrong,
            "ends": dict(self.ends), "attempts": {str(k): v for k, v in sorted(self.attempts.items())},
            "decided_but_files_lost_to_the_full_disk": self.without_files, "seconds": round(self.seconds, 1),
        }  # fmt: skip


class Site:
    """The parts, and what can be done to them.

    Args:
        folder: for everything.
        postgresql: whether jobs are in PostgreSQL instead of SQLite.
        stop_s: for which the broker is stopped; None: until the jobs that were submitted meanwhile are done.
    """

    def __init__(self, folder: Path, *, postgresql: bool = False, stop_s: float | None = None) -> None:
        self.folder, self.stop_s = folder, stop_s
        self.found = Found()
        self._stack = contextlib.ExitStack()
        self.disk = self._small_disk()
        self.postgres = self._postgres() if postgresql else None
        data = (self.disk or folder) / "data"
        data.mkdir()
        (folder / "redis").mkdir()
        self.redis = Redis(folder / "redis")
        self._stack.callback(self._end_redis)
        self.clock = folder / "clock"
        self._shift(0.0)
        database = self.postgres.get_uri() if self.postgres else str(data / "surebound.db")
        self.place: dict[str, Any] = {
            "data": str(data), "files": str(data / "artifacts"), "database": database, "port": 0,
            "broker": self.redis.url, "clock": str(self.clock), "attempts": ATTEMPTS, "lease": 4.0,
        }  # fmt: skip
        self.store: SqlStore = open_store(database, migrate=True, patience_s=60, clock=self._now)
        self._stack.callback(self.store.close)
        (folder / "planted").mkdir()
        (folder / "planted" / "sitecustomize.py").write_text(PLANTED)
        self.parts: dict[str, subprocess.Popen[bytes]] = {}
        self._stack.callback(self._end_parts)

    def __enter__(self) -> Site:
        self._start("supervisor")
        self._start("worker")
        self._start("api")
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    # -- parts

    def _small_disk(self) -> Path | None:
        disk = self.folder / "disk"
        disk.mkdir()
        mount = shutil.which("mount")
        command = [mount or "mount", "-t", "tmpfs", "-o", "size=96m", "tmpfs", str(disk)]
        if mount is None or subprocess.run(command, check=False, capture_output=True).returncode:
            self.found.left_out["full_disk"] = "this machine lets us mount no small file system"
            return None
        self._stack.callback(subprocess.run, ["umount", "-l", str(disk)], check=False)
        return disk

    def _postgres(self) -> Any:
        import pgserver

        folder = Path(tempfile.mkdtemp(prefix="sb-pg-"))  # short: the server's socket lies in it
        self._stack.callback(shutil.rmtree, folder, ignore_errors=True)
        server = pgserver.get_server(folder / "data", cleanup_mode="stop")
        self._stack.callback(server.cleanup)
        return server

    def _start(self, name: str) -> None:
        program = {"api": API, "supervisor": SUPERVISOR, "worker": WORKER}[name]
        out = subprocess.PIPE if name == "api" else subprocess.DEVNULL
        environment = {"PYTHONPATH": str(self.folder / "planted"), "C_FORCE_ROOT": "1"}
        with (self.folder / f"{name}.log").open("ab") as log:
            process = start(program, json.dumps(self.place), stdout=out, stderr=log, environment=environment)
        self.parts[name] = process
        if name == "api":
            assert process.stdout is not None
            line = process.stdout.readline().decode()
            assert line.startswith("surebound listens on "), (self.folder / "api.log").read_text()
            self.url = line.split()[-1]
            self.place["port"] = int(self.url.rpartition(":")[2])

    def _kill(self, name: str) -> None:
        process = self.parts.pop(name)
        kill_group(process)
        if process.stdout is not None:
            process.stdout.close()

    def _end_parts(self) -> None:
        children = self._children()
        for name in list(self.parts):
            self._kill(name)
        wait_for(lambda: not any(_alive(p) for p in children), 30)

    def _end_redis(self) -> None:
        self.redis.go_on()
        self.redis.kill()

    def _children(self) -> list[int]:
        """Processes that run jobs of ours."""
        listed = subprocess.run(
            ["ps", "-eo", "pid=,ppid=,args="], check=True, capture_output=True, text=True
        ).stdout
        table = {int(p): (int(pp), a) for p, pp, a in (line.split(None, 2) for line in listed.splitlines())}
        mine = {p.pid for p in self.parts.values()}

        def ours(pid: int) -> bool:
            while pid in table and pid not in mine:
                pid = table[pid][0]
            return pid in mine

        return [pid for pid, (_, args) in table.items() if "-m workers.run" in args and ours(pid)]

    def _shift(self, seconds: float) -> None:
        draft = self.clock.with_suffix(".new")
        draft.write_text(str(seconds))
        draft.replace(self.clock)

    def _now(self) -> float:
        return time.time() + float(self.clock.read_text())

    # -- what is done to them

    def kill_child(self) -> None:
        """SIGKILL to a child at work."""
        wait_for(lambda: bool(self._children()))
        for pid in self._children():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def kill_supervisor(self) -> None:
        """SIGKILL to the supervisor; its children notice."""
        self._kill("supervisor")
        self._start("supervisor")

    def kill_worker(self) -> None:
        """SIGKILL to the Celery worker and its pool."""
        self._kill("worker")
        self._start("worker")

    def kill_api(self) -> None:
        """SIGKILL to the API, started again on the same port."""
        self._kill("api")
        self._start("api")

    def kill_redis(self) -> None:
        """SIGKILL to the broker."""
        self.redis.restart()

    def stop_redis(self) -> None:
        """SIGSTOP to the broker: it accepts connections and says nothing."""
        self.redis.pause()
        try:
            if self.stop_s is None:
                self.await_progress()
            else:
                threading.Event().wait(self.stop_s)
        finally:
            self.redis.go_on()

    def await_progress(self) -> None:
        """Until a job more has ended (the others go on: faults must not be all there is)."""
        before = self._ended()
        wait_for(lambda: self._ended() > before or not self._open())

    def clock_forward(self) -> None:
        """An hour: every lease has run out."""
        self._shift(float(self.clock.read_text()) + 3600.0)

    def clock_back(self) -> None:
        """Two hours: every lease would last for long."""
        self._shift(float(self.clock.read_text()) - 7200.0)

    def messages_doubled(self) -> None:
        """Each job that is not over is announced three times more, and one that does not exist."""
        from workers.celery_app import dispatcher

        dispatch = dispatcher(self.redis.url)
        for state in (State.QUEUED, State.RUNNING):
            for job in self.store.page(None, states=[state], limit=500).items:
                for _ in range(3):
                    dispatch.notify(job.id, job.queue)
        dispatch.notify("j-of-nobody", "short")
        dispatch.close()

    def full_disk(self) -> None:
        """No room for files (and none for SQLite), until the API has said so."""
        assert self.disk is not None
        filler = self.disk / "filler"
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        try:
            wait_for(self._refused)
        finally:
            filler.unlink()

    def _refused(self) -> bool:
        """Whether an upload is refused for want of room."""
        data = os.urandom(1 << 16)
        where = f"{self.url}/v1/files/{hashlib.sha256(data).hexdigest()}"
        request = urllib.request.Request(where, data, method="PUT")  # noqa: S310 - our own server
        try:
            urllib.request.urlopen(request, timeout=60).close()  # noqa: S310
        except urllib.error.HTTPError as error:
            error.close()
            return error.code == 503
        except OSError:
            return False
        return False

    def restart_postgresql(self) -> None:
        """Connections are cut, transactions lost."""
        import pgserver

        assert self.postgres is not None
        data = Path(self.postgres.pgdata)
        control = Path(pgserver.__file__).parent / "pginstall" / "bin" / "pg_ctl"
        subprocess.run(
            [str(control), "-D", str(data), "-m", "immediate", "-w", "restart"],
            check=True, stdout=subprocess.DEVNULL, preexec_fn=become_owner(data), cwd="/",
        )  # fmt: skip

    def faults(self) -> list[Callable[[], None]]:
        """Everything that can be done here."""
        known = [
            self.kill_child, self.kill_redis, self.kill_supervisor, self.messages_doubled, self.kill_worker,
            self.clock_forward, self.kill_api, self.stop_redis, self.clock_back,
        ]  # fmt: skip
        if self.disk is not None:
            known.append(self.full_disk)
        if self.postgres is not None:
            known.append(self.restart_postgresql)
        return known

    # -- what the store says

    def _ended(self) -> int:
        return sum(n for (s, _, _), n in self.store.counts().items() if State(s).final)

    def _open(self) -> int:
        return sum(n for (s, _, _), n in self.store.counts().items() if not State(s).final)

    def busy(self) -> bool:
        """Whether a job is running."""
        return any(s == State.RUNNING.value for s, _, _ in self.store.counts())


def _alive(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    try:
        return stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def question(number: int, models: Sequence[str]) -> tuple[dict[str, Any], str]:
    """A job and the verdict that it must end with; each is a question of its own."""
    asked: dict[str, Any] = {"kind": "verify", "timeout_s": 60, "fresh": True, "model": models[0]}
    asked["options"] = {"certificate": number % 3 == 0}
    if number % 100 == 7:
        return asked | {"property": {"vnnlib": f"{HOLDS}\n{POISON} {number}"}}, "failed"
    if number % 8 == 4:
        text = f"{box_property(8, 1.2)}\n; {number}"
        return asked | {"model": models[1], "property": {"vnnlib": text}}, "verified"
    text, verdict = (HOLDS, "verified") if number % 2 else (FAILS, "falsified")
    return asked | {"property": {"vnnlib": f"{text}\n; {number}"}}, verdict


def run(site: Site, jobs: int, rounds: int, tell: Callable[[str], None] = lambda _: None) -> Found:
    """Submits so many jobs while every fault happens so many times, waits for all, counts.

    A wave of jobs goes with every fault; the fault happens when some job is running.
    """
    begun, found = time.monotonic(), site.found
    client = Client(site.url, patience_s=300.0)
    names: list[str] = []
    for data in (absolute(), hard(8, 30, seed=1)):
        path = site.folder / "net.onnx"
        path.write_bytes(data)
        names.append(client.upload(path))
    faults = [fault for _ in range(rounds) for fault in site.faults()]
    wanted: dict[str, str] = {}
    with _submitting(site.url, wanted) as waiting:
        for number, fault in enumerate(faults):
            for i in range(jobs * number // len(faults), jobs * (number + 1) // len(faults)):
                waiting.put(question(i, names))
            wait_for(lambda: site.busy() or not waiting.unfinished_tasks)
            tell(f"{number + 1}/{len(faults)} {fault.__name__}: {dict(site.store.counts())}")
            fault()
            found.faults[fault.__name__] += 1
            site.await_progress()
        waiting.join()
    wait_for(lambda: all(site.store.look(name, None)[1].final for name in wanted), 600)
    found.seconds = time.monotonic() - begun
    _count(site, wanted, jobs)
    return found


@contextlib.contextmanager
def _submitting(url: str, wanted: dict[str, str], clients: int = 4) -> Iterator[queue.Queue[Any]]:
    """Clients that submit what they are given, and come again when nobody answers."""
    waiting: queue.Queue[Any] = queue.Queue()
    failed: list[BaseException] = []

    def submit() -> None:
        client = Client(url, patience_s=300.0)
        while (asked := waiting.get()) is not None:
            try:
                wanted[client.submit(asked[0]).id] = asked[1]
            except BaseException as error:
                failed.append(error)
            finally:
                waiting.task_done()

    threads = [threading.Thread(target=submit, daemon=True) for _ in range(clients)]
    for thread in threads:
        thread.start()
    yield waiting
    for _ in threads:
        waiting.put(None)
    for thread in threads:
        thread.join(60)
    assert failed == []


def _count(site: Site, wanted: dict[str, str], jobs: int) -> None:
    """Completions by the store's own history: none lost, none twice, none wrong, attempts bounded."""
    found, store = site.found, site.store
    have: list[str] = []
    cursor = ""
    while True:
        page = store.page(None, cursor=cursor, limit=200)
        have += [job.id for job in page.items]
        cursor = page.cursor
        if not cursor:
            break
    found.jobs = len(have)
    if len(wanted) != jobs or sorted(have) != sorted(wanted):
        found.wrong.append(f"{jobs} submitted, {len(wanted)} acknowledged, {len(have)} in the store")
    for name, verdict in wanted.items():
        job, events = store.get(name, None), store.events(name, 0, 10_000)
        ended = sum(e.name == "done" for e in events)
        begun = sum(e.name == "state" and e.data.get("state") == "running" for e in events)
        if job.state is State.FAILED:
            outcome = "failed" if job.reason in ("crashed", "worker-lost") else f"failed: {job.reason}"
        else:
            outcome = job.answer.value if job.answer else job.state.value
        found.ends[outcome] += 1
        found.attempts[job.attempt] += 1
        found.without_files += "could not be kept" in job.error
        if outcome != verdict:
            found.wrong.append(f"{name}: {outcome} instead of {verdict} ({job.reason}: {job.error})")
        if ended != 1:
            found.wrong.append(f"{name}: ended {ended} times")
        # an attempt that was given back by a worker that stops does not count, and raises the limit by one
        if begun != job.attempt or job.attempt > job.max_attempts:
            found.wrong.append(f"{name}: {begun} begun, attempt {job.attempt} of {job.max_attempts}")
