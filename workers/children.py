"""Child processes, and the pool that keeps them warm.

A child serves one tenant and one network, so that what it has loaded is of use again and nothing of one
tenant can reach another. It is given up when it has been idle, has grown, or may be in a bad state.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

from bounds.errors import BadInput
from workers.jobs.model import Json
from workers.task import Task

# all that a child gets to know of its parent's environment: no address or password of a database
PASSED = (
    "PATH", "HOME", "LANG", "LC_ALL", "TZ", "PYTHONPATH", "VIRTUAL_ENV", "LD_LIBRARY_PATH",
    "PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX", "SUREBOUND_CACHE_DIR", "XDG_CACHE_HOME",
    "CUDA_VISIBLE_DEVICES",
)  # fmt: skip
ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
TERM_S = 5.0  # from SIGTERM to SIGKILL
_TAIL = 20  # lines of standard error that are kept


class Home:
    """A child's folder. ``in`` holds what it is lent, which it can read; ``out`` is its own to change.

    A child can reach nothing else of the machine's files, where the system allows that to be forbidden.
    """

    def __init__(self, base: Path) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="child-", dir=base))
        self.lent, self.out = self.path / "in", self.path / "out"
        self.lent.mkdir()
        self.out.mkdir()

    def lend(self, file: Path) -> Path:
        """Where a child finds a file. A link, so that nothing is copied; writing by that way is forbidden."""
        place = self.lent / file.name
        if not place.exists():
            try:
                place.hardlink_to(file)
            except OSError:  # another file system
                shutil.copyfile(file, place)
        return place

    def take_back(self) -> None:
        """Everything that was lent."""
        for place in self.lent.iterdir():
            place.unlink(missing_ok=True)

    def remove(self) -> None:
        """When its child is gone."""
        shutil.rmtree(self.path, ignore_errors=True)


class Child:
    """One child process, in a session (hence a process group) of its own, and its folder below ``work``."""

    def __init__(self, work: Path, module: str = "workers.run") -> None:
        self.home = Home(work)
        environment = {name: os.environ[name] for name in PASSED if name in os.environ}
        environment |= dict.fromkeys(ONE_THREAD, "1")
        environment["TMPDIR"] = str(self.home.out)
        self.process = subprocess.Popen(  # noqa: S603 - our own program
            [sys.executable, "-P", "-m", module, str(self.home.path)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            cwd=self.home.out, env=environment, start_new_session=True, encoding="utf-8", errors="replace",
        )  # fmt: skip
        self.owner: tuple[str, str] | None = None  # tenant, digest of the network
        self.given_up: list[str] = []
        self.resident = 0
        self.idle_since = time.monotonic()
        self._messages: queue.SimpleQueue[Json | None] = queue.SimpleQueue()
        self._errors: deque[str] = deque(maxlen=_TAIL)
        self._readers = [threading.Thread(target=t, daemon=True) for t in (self._read, self._read_errors)]
        for reader in self._readers:
            reader.start()

    @property
    def pid(self) -> int:
        """Of the process, and of its group."""
        return self.process.pid

    @property
    def alive(self) -> bool:
        """Whether it has not ended."""
        return self.process.poll() is None

    def send(self, message: Json) -> bool:
        """False if it has gone."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(message) + "\n")
            self.process.stdin.flush()
        except (OSError, ValueError):
            return False
        return True

    def give(self, tasks: list[Task]) -> bool:
        """Hands tasks over; False if it has gone."""
        return self.send({"tasks": [asdict(t) for t in tasks]})

    def cancel(self) -> None:
        """Asks it to stop what it is doing."""
        self.send({"cancel": "cancel"})

    def deal(self, workers: int) -> None:
        """Lets it know that its search may be dealt out to so many workers."""
        self.send({"deal": workers})

    def next(self, timeout_s: float) -> Json | None:
        """The next message; ``{}`` when none came in time, None when there will be no more."""
        try:
            message = self._messages.get(timeout=max(timeout_s, 0.001))
        except queue.Empty:
            return {}
        if message is None:
            self._messages.put(None)  # for whoever asks again
        return message

    def _read(self) -> None:
        assert self.process.stdout is not None
        try:
            for line in self.process.stdout:
                try:
                    message = json.loads(line)
                except ValueError:
                    break  # not what it should say: it is of no use any more
                if "ready" in message:
                    self.given_up = message["ready"]["given_up"]
                self._messages.put(message)
        finally:
            self._messages.put(None)

    def _read_errors(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self._errors.append(line.rstrip())

    def terminate(self) -> None:
        """SIGTERM to the group, and SIGKILL where that was not enough."""
        self._signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(TERM_S)
        self.kill()

    def kill(self) -> None:
        """SIGKILL to the group; the process is gone afterwards."""
        self._signal(signal.SIGKILL)
        self.process.wait()
        for reader in self._readers:
            reader.join(TERM_S)
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            with contextlib.suppress(OSError, ValueError):
                if pipe is not None:
                    pipe.close()
        self.home.remove()

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    def obituary(self) -> str:
        """How it ended, and its last words."""
        code = self.process.wait()
        words = f"exit code {code}"
        if code < 0:
            name = signal.Signals(-code).name if -code in {s.value for s in signal.Signals} else str(-code)
            words = f"signal {name}"
        last = next((e for e in reversed(self._errors) if e.strip()), "")
        return f"{words}: {last}" if last else words


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """When children are given up: how many may be idle, for how long, and how large."""

    idle: int = 2
    idle_s: float = 300.0
    resident: int = 1 << 30


class Pool:
    """Idle children. Used from several threads."""

    def __init__(self, work: Path, limits: PoolLimits | None = None) -> None:
        self.work, self.limits = work, limits or PoolLimits()
        self._idle: list[Child] = []
        self._closed = False
        self._lock = threading.Lock()

    def take(self, tenant: str, digest: str) -> Child:
        """A warm child of this tenant and network, or a new one."""
        with self._lock:
            for child in self._idle:
                if child.owner in (None, (tenant, digest)) and child.alive:
                    self._idle.remove(child)
                    child.owner = (tenant, digest)
                    return child
        child = Child(self.work)
        child.owner = (tenant, digest)
        return child

    def put(self, child: Child) -> None:
        """Hands a child back that has answered everything."""
        child.idle_since = time.monotonic()
        useful = child.alive and child.resident <= self.limits.resident
        with self._lock:
            if useful and not self._closed:  # after closing nobody would end it
                self._idle.append(child)
                surplus = self._idle[: max(len(self._idle) - self.limits.idle, 0)]
                self._idle = self._idle[len(surplus) :]
            else:
                surplus = [child]
        for old in surplus:
            old.kill()

    def warm(self) -> None:
        """Starts a child that is ready for whatever comes first, if there is room for its folder."""
        with contextlib.suppress(OSError):
            child = Child(self.work)
            with self._lock:
                self._idle.append(child)

    def tidy(self) -> None:
        """Gives up children that were idle for long, or have ended."""
        limit = time.monotonic() - self.limits.idle_s
        with self._lock:
            old = [c for c in self._idle if c.idle_since < limit or not c.alive]
            self._idle = [c for c in self._idle if c not in old]
        for child in old:
            child.kill()

    def close(self) -> None:
        """Ends every idle child."""
        with self._lock:
            self._closed = True
            children, self._idle = self._idle, []
        for child in children:
            child.kill()

    def __len__(self) -> int:
        return len(self._idle)


def open_below(folder: Path, name: str) -> BinaryIO:
    """Opens a regular file that a child left in its folder. It is not trusted: no part of the way may be a
    link, also not one that takes a folder's place while we look.

    Raises:
        BadInput: it is no such file.
    """
    *folders, last = Path(name).parts or ("",)
    held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for part in folders:
            if part in ("/", ".."):
                raise BadInput(f"'{name}' is no file in the job's folder")
            inner = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=held)
            os.close(held)
            held = inner
        # a pipe would keep us waiting for a writer
        file = os.open(last, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=held)
        if not stat.S_ISREG(os.fstat(file).st_mode):
            os.close(file)
            raise BadInput(f"'{name}' is no file in the job's folder")
        return os.fdopen(file, "rb")
    except OSError as error:
        raise BadInput(f"'{name}' is no file in the job's folder ({error.strerror})") from None
    finally:
        os.close(held)
