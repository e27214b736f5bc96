"""What a child that has been taken over could reach: it tries, as code of its own would."""

from __future__ import annotations

import ctypes
import io
import json
import os
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sqlalchemy", reason="pip install 'surebound[service]'")

from job_models import HOLDS, box_property, finished, hard, request, store_at, upload

from workers import confine
from workers.children import Child, Home
from workers.jobs.model import Answer, Budget, Kind
from workers.local import Habits, Supervisor
from workers.scrub import Scrub
from workers.task import Task

LINUX = sys.platform == "linux"
needs_landlock = pytest.mark.skipif(
    not LINUX or not confine.version(ctypes.CDLL(None)),
    reason="files are confined by Landlock: Linux 5.13 or later, with 'landlock' among its security modules",
)

PROGRAM = """
import ctypes, json, os, socket, sys, threading
from pathlib import Path
from workers import sandbox
home, other, parent = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
open_before = os.open(other, os.O_RDONLY)
given_up = sandbox.enter(home)
libc = ctypes.CDLL(None, use_errno=True)

def call(name, *arguments):
    if getattr(libc, name)(*arguments) < 0:
        raise OSError(ctypes.get_errno(), name)

def write(path):
    with open(path, "w") as file:
        file.write("x")

tries = {
    "read own input": lambda: (home / "in" / "model").read_bytes(),
    "write own output": lambda: write(home / "out" / "new"),
    "make a folder": lambda: (home / "out" / "folder").mkdir(),
    "rename own output": lambda: (home / "out" / "new").rename(home / "out" / "newer"),
    "remove own output": lambda: (home / "out" / "newer").unlink(),
    "start a thread": lambda: threading.Thread(target=lambda: None).start(),
    "import and compute": lambda: __import__("onnxruntime").get_device(),
    "write own input": lambda: write(home / "in" / "model"),
    "append to own input": lambda: open(home / "in" / "model", "ab").close(),
    "truncate own input": lambda: os.truncate(home / "in" / "model", 0),
    "remove own input": lambda: (home / "in" / "model").unlink(),
    "link own input into output": lambda: os.link(home / "in" / "model", home / "out" / "stolen"),
    "read another's file": lambda: other.read_bytes(),
    "list another's folder": lambda: os.listdir(other.parent),
    "list the store": lambda: os.listdir(home.parent),
    "write beside": lambda: write(home / "x"),
    "read by a link": lambda: ((home / "out" / "l").symlink_to(other), (home / "out" / "l").read_bytes()),
    "read by going up": lambda: (home / "in" / ".." / ".." / other.relative_to(home.parent)).read_bytes(),
    "read /etc/passwd": lambda: open("/etc/passwd").close(),
    "read the home folder": lambda: os.listdir(os.path.expanduser("~")),
    "write to /tmp": lambda: write("/tmp/surebound-should-not-be"),
    "read the parent's environment": lambda: open(f"/proc/{parent}/environ", "rb").close(),
    "read the parent's arguments": lambda: open(f"/proc/{parent}/cmdline", "rb").close(),
    "execute": lambda: execute(),
    "internet socket": lambda: socket.socket(socket.AF_INET).close(),
    "datagram socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).close(),
    "local socket": lambda: socket.socket(socket.AF_UNIX).close(),
    "trace the parent": lambda: call("ptrace", 16, parent, 0, 0),
    "signal the parent": lambda: os.kill(parent, 0),
    "mount": lambda: call("mount", b"none", b"/mnt", b"tmpfs", 0, None),
    "another namespace": lambda: call("unshare", 0x10000000),
}

def execute():
    pid = os.fork()
    if pid == 0:
        try:
            os.execv("/bin/true", ["true"])
        finally:
            os._exit(3)
    if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]):
        raise PermissionError("execv")

told = {}
for name, action in tries.items():
    try:
        action()
        told[name] = "done"
    except (OSError, RuntimeError) as error:
        told[name] = type(error).__name__
print(json.dumps({"given_up": given_up, "told": told}))
"""
ALLOWED = {
    "read own input", "write own output", "make a folder", "rename own output", "remove own output",
    "start a thread", "import and compute",
}  # fmt: skip
BY_CALLS = {
    "internet socket",
    "datagram socket",
    "local socket",
    "trace the parent",
    "mount",
    "another namespace",
}


@pytest.fixture
def told(tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "work").mkdir()
    store = tmp_path / "artifact"
    store.write_bytes(b"the network")
    home = Home(tmp_path / "work")
    home.lend(store).rename(home.lent / "model")
    other = Home(tmp_path / "work").out / "secret"
    other.write_bytes(b"of another tenant")
    found = subprocess.run(
        [sys.executable, "-P", "-c", PROGRAM, str(home.path), str(other), str(os.getpid())],
        check=True, capture_output=True, text=True, cwd=home.out, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert store.read_bytes() == b"the network"
    return json.loads(found.stdout)


@needs_landlock
def test_a_child_reaches_nothing_that_it_was_not_lent(told: dict[str, Any]) -> None:
    assert {name for name, what in told["told"].items() if what == "done"} == ALLOWED | (
        set() if confine.version(ctypes.CDLL(None)) >= 6 else {"signal the parent"}
    ), told
    assert {"files of others", "sockets", "new privileges"} <= set(told["given_up"])


@pytest.mark.skipif(not LINUX, reason="system calls are filtered on Linux")
def test_a_child_opens_no_socket_and_enters_no_other_process(told: dict[str, Any]) -> None:
    assert "sockets" in told["given_up"]
    assert {told["told"][name] for name in BY_CALLS} == {"PermissionError"}, told


@pytest.mark.skipif(not LINUX, reason="system calls are filtered on Linux")
def test_the_real_child_confines_itself(tmp_path: Path) -> None:
    child = Child(tmp_path)
    try:
        while not child.given_up:
            assert child.next(60.0) is not None
        assert "sockets" in child.given_up
        home = child.home.path
        assert home.is_dir()
    finally:
        child.kill()
    assert not home.exists()


def test_no_job_tells_where_things_lie(tmp_path: Path) -> None:
    """An undecided job whose advice was to go on from a file, a set without labels, a file that is none."""
    store, artifacts = store_at(tmp_path)
    model = upload(store, artifacts, hard(12, 60, seed=1))
    broken = upload(store, artifacts, b"no network")
    plain = io.BytesIO()
    np.savez(plain, nothing=np.zeros(3))
    data, _ = artifacts.put_bytes(plain.getvalue())
    undecided = replace(request(model, box_property(12, 3.0)), budget=Budget(60.0, 2048, 40))
    sweep = {"model": model, "data": data, "radii": ["0.1"], "norm": "inf", "options": {}}
    asked = [
        undecided,
        replace(undecided, kind=Kind.SWEEP, request=sweep),
        request(broken, HOLDS),
    ]
    supervisor = Supervisor(store, artifacts, slots=1, habits=Habits(sweep_s=0.5))
    names = [store.submit(new)[0].id for new in asked]
    supervisor.start()
    try:
        jobs = finished(store, names)
    finally:
        supervisor.stop()
    facts = store.get_model(model, None)
    store.close()
    assert jobs[0].answer is Answer.UNKNOWN and jobs[0].result["advice"], jobs[0]
    assert jobs[1].reason == "bad-input" and "in-data.npz" in jobs[1].error
    assert jobs[2].reason == "model-invalid"
    told = [json.dumps([asdict(job) for job in jobs], default=str), json.dumps(asdict(facts), default=str)]
    told += [artifacts.read(a.sha256).decode("utf-8", "replace") for job in jobs for a in job.artifacts]
    for place in (str(tmp_path), str(Path.home()), sys.prefix):
        assert not [text for text in told if place in text], place


def test_names_that_look_like_paths_stay(tmp_path: Path) -> None:
    task = Task("j", "verify", {}, 1.0, 1, None, {}, {"model": f"{tmp_path}/in/ab"}, f"{tmp_path}/out/job-1")
    scrub = Scrub(task)
    kept = {"node": "/conv1/Conv_output_0", "advice": ["raise --timeout"], "n": 1.5, "ratio": "2/255"}
    assert scrub.value(kept) == kept
    told = {"advice": ["go on", f"--resume {tmp_path}/out/job-1/checkpoint"], "x": [f"{tmp_path}/in/ab: bad"]}
    assert scrub.value(told) == {"advice": ["go on"], "x": ["ab: bad"]}
