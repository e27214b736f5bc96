"""Running a command with a hard limit: measured, and really dead afterwards."""

from __future__ import annotations

import os
import select
import sys
from pathlib import Path

import pytest
from _vnncomp_process import Ran, run_limited

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the harness measures on Linux")

AMPLE = 120.0  # seconds: no test waits for it


def shell(script: str, folder: Path, limit: float = AMPLE, memory: int | None = None) -> Ran:
    return run_limited(["sh", "-c", script], limit, folder, dict(os.environ), memory)


def test_output_and_status(tmp_path: Path) -> None:
    ran = shell("echo out; echo err >&2; pwd; exit 3", tmp_path)
    assert (ran.code, ran.killed, ran.stderr) == (3, False, "err\n")
    assert ran.stdout == f"out\n{tmp_path}\n"
    assert ran.complaint == "err"


def test_cpu_seconds_include_children(tmp_path: Path) -> None:
    burn = f"{sys.executable} -c 'import time\nwhile time.process_time() < 0.5: pass'"
    ran = shell(f"{burn}; true", tmp_path)
    assert ran.code == 0
    assert ran.cpu >= 0.5


@pytest.mark.parametrize("ending", ["wait", "exit 0"], ids=["over its limit", "ended by itself"])
def test_nothing_of_the_group_survives(tmp_path: Path, ending: str) -> None:
    """A grandchild nobody waits for holds a FIFO open; the kernel says when its last writer is gone."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    try:
        script = f"exec 9>{fifo}; echo started >&9; sleep 1000 & {ending}"
        ran = shell(script, tmp_path, limit=3.0 if ending == "wait" else AMPLE)
        assert ran.killed == (ending == "wait")
        watch = select.poll()
        watch.register(reader, select.POLLHUP)
        assert watch.poll(60_000), "a process of the group is alive"
        assert os.read(reader, 100) == b"started\n"
    finally:
        os.close(reader)


def test_a_trapped_signal_does_not_help(tmp_path: Path) -> None:
    ran = shell("trap '' TERM INT HUP; echo up; while true; do sleep 1000; done", tmp_path, limit=2.0)
    assert ran.killed
    assert ran.code == -9
    assert not ran.out_of_memory


def test_an_open_pipe_does_not_hold_up(tmp_path: Path) -> None:
    """Output goes to files: a grandchild that inherited it would keep a pipe from ending."""
    ran = shell("sleep 1000 & echo done", tmp_path)
    assert (ran.code, ran.stdout) == (0, "done\n")


def test_what_cannot_start_is_no_exception(tmp_path: Path) -> None:
    ran = run_limited([str(tmp_path / "nothing")], AMPLE, tmp_path, {})
    assert ran.code is None
    assert "cannot start" in ran.complaint


@pytest.mark.parametrize("script", ["kill -9 $$", "echo 'MemoryError' >&2; exit 1"])
def test_lack_of_memory_is_recognised(tmp_path: Path, script: str) -> None:
    assert shell(script, tmp_path).out_of_memory


def test_memory_limit_reaches_the_command(tmp_path: Path) -> None:
    """The limit is set on the living process, so the command waits for it to have come into force."""
    greedy = (
        "import resource, time\n"
        "while resource.getrlimit(resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY: time.sleep(0)\n"
        "b'x' * (4 << 30)"
    )
    ran = run_limited([sys.executable, "-c", greedy], AMPLE, tmp_path, dict(os.environ), memory=1 << 30)
    assert ran.code == 1
    assert ran.out_of_memory


def test_a_crash_is_not_lack_of_memory(tmp_path: Path) -> None:
    ran = shell("kill -SEGV $$", tmp_path)
    assert ran.code == -11
    assert not ran.out_of_memory
    assert ran.complaint == "no output, exit status -11"


def test_long_output_keeps_both_ends(tmp_path: Path) -> None:
    ran = shell("echo sat; head -c 5000000 /dev/zero | tr '\\0' x; echo; echo end", tmp_path)
    assert ran.stdout.startswith("sat\n")
    assert ran.stdout.endswith("x\nend\n")
    assert len(ran.stdout) == 2_000_000
