"""Runs one command with a hard limit and measures it from outside (Linux).

Output goes to files, so that a grandchild that keeps a pipe open cannot hold up the harness. The command is
the leader of a process group of its own; when it ends, or its time is up, the whole group is killed, so
nothing is left that would disturb the next measurement.
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# what programs print when memory runs out; a SIGKILL that is not ours is the kernel's answer to the same
_NO_MEMORY = (
    "MemoryError", "bad_alloc", "out of memory", "Out of memory", "can't allocate memory",
    "Cannot allocate memory", "Unable to allocate",
)  # fmt: skip
_KEPT = 1_000_000  # bytes of output read back from either end


@dataclass(frozen=True)
class Ran:
    """How a command ended.

    Attributes:
        code: exit status, negative for a signal, None if it could not be started.
        stdout, stderr: text, the first and last million bytes where it is longer.
        wall: seconds from start to end; cpu: user and system seconds of the command and of every child it
            waited for (of those killed with it the last reading).
        killed: whether it was ended here, because its time was up.
    """

    code: int | None
    stdout: str
    stderr: str
    wall: float
    cpu: float
    killed: bool

    @property
    def out_of_memory(self) -> bool:
        """Whether it died for want of memory, as far as can be seen."""
        if self.code == 0 or self.killed:
            return False
        return self.code == -signal.SIGKILL or any(word in self.stderr for word in _NO_MEMORY)

    @property
    def complaint(self) -> str:
        """The last line of standard error, or of standard output, or why there is none."""
        for text in (self.stderr, self.stdout):
            lines = text.strip().splitlines()
            if lines:
                return lines[-1].strip()[:300]
        return f"no output, exit status {self.code}"


def run_limited(
    command: Sequence[str], limit: float, folder: Path, env: dict[str, str], memory: int | None = None
) -> Ran:
    """Runs a command in a folder; never raises for what the command does.

    Args:
        command: program and arguments; no shell.
        limit: seconds after which the process group is killed.
        folder: working directory.
        env: the environment.
        memory: bytes of address space for each of its processes, or None.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, _Held() as held:
        start = time.monotonic()
        try:
            child = subprocess.Popen(
                command,
                cwd=folder,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )
        except OSError as e:
            return Ran(None, "", f"cannot start {command[0]}: {e.strerror}", 0.0, 0.0, killed=False)
        watch = _Watch(child.pid, limit)
        try:
            _burden(child.pid, memory)
            watch.start()
            # the dead leader is kept until its group is gone: its number cannot be given to anyone else
            held.release()
            os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
            wall = time.monotonic() - start
        finally:
            held.hold()
            watch.stop()
            lost = _group_cpu(child.pid)
            _kill(child.pid)
            _, status, usage = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
        cpu = usage.ru_utime + usage.ru_stime + max(watch.cpu, lost)
        return Ran(child.returncode, _text(out.fileno()), _text(err.fileno()), wall, cpu, watch.fired)


class _Held:
    """Puts Ctrl-C and SIGTERM off while a child exists that nobody would end, as between fork and wait."""

    def __init__(self) -> None:
        self._pending = False
        self._old: dict[signal.Signals, Any] = {}
        # only the main thread may have handlers, and only it is interrupted
        self._numbers = (signal.SIGINT, signal.SIGTERM) if _in_main_thread() else ()

    def __enter__(self) -> _Held:
        self._old = {number: signal.getsignal(number) for number in self._numbers}
        self.hold()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def hold(self) -> None:
        for number in self._numbers:
            signal.signal(number, self._note)

    def release(self) -> None:
        """Lets signals through again; raises KeyboardInterrupt if one was put off."""
        for number, handler in self._old.items():
            signal.signal(number, handler)
        if self._pending:
            self._pending = False
            raise KeyboardInterrupt

    def _note(self, *_: object) -> None:
        self._pending = True


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


class _Watch:
    """Kills a process group when time is up."""

    def __init__(self, pid: int, limit: float) -> None:
        self.pid, self.fired, self.cpu = pid, False, 0.0
        self._timer = threading.Timer(limit, self._fire)
        self._timer.daemon = True

    def start(self) -> None:
        self._timer.start()

    def stop(self) -> None:
        self._timer.cancel()
        if self._timer.ident is not None:
            self._timer.join()

    def _fire(self) -> None:
        self.fired = True
        self.cpu = _group_cpu(self.pid)
        _kill(self.pid)


def _kill(group: int) -> None:
    try:
        os.killpg(group, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):  # macOS says the latter of a group of dead processes
        return


def _burden(pid: int, memory: int | None) -> None:
    """Limits a child's memory and offers it to the kernel first when memory runs out, not the harness."""
    try:
        if memory is not None and sys.platform == "linux":
            resource.prlimit(pid, resource.RLIMIT_AS, (memory, memory))
        Path(f"/proc/{pid}/oom_score_adj").write_text("1000")
    except (OSError, ValueError):
        return  # it has ended already, or the system knows no such thing


def _group_cpu(group: int) -> float:
    """CPU seconds of the living members of a group besides its leader: nobody will wait for them."""
    total = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == group and stat.parent.name != str(group):
            total += sum(int(v) for v in fields[11:15])
    return total / os.sysconf("SC_CLK_TCK")


def _text(file: int) -> str:
    size = os.fstat(file).st_size
    head = os.pread(file, _KEPT, 0)
    tail = os.pread(file, _KEPT, max(size - _KEPT, _KEPT)) if size > _KEPT else b""
    return (head + tail).decode("utf-8", errors="replace")
