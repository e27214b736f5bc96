"""A worker's child: ``python -m workers.run HOME``. The only process that reads what users sent.

It confines itself (:mod:`workers.sandbox`), then answers tasks (:mod:`workers.task`) until its input ends,
which is the sign that its parent has gone, in whatever way.
"""

from __future__ import annotations

import errno
import importlib
import json
import os
import queue
import resource
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import TextIO

from workers import sandbox
from workers.jobs.model import Json, Kind, Progress
from workers.jobs.rows import progress_json
from workers.scrub import scrubbed
from workers.task import NO_ROOM, Ending, Task

EVERY = 0.25  # seconds between two messages of progress

OWN_BYTES = 256 << 20  # of files that a job wrote, from which on a full disk is its own doing

# what went wrong -> the reason of the failed job; names, so that no module is loaded for it
REASONS = {
    "ModelInvalid": "model-invalid",
    "ModelUnsupported": "model-unsupported",
    "LimitExceeded": "limit-exceeded",
    "SpecError": "property-invalid",
    "QueryMismatch": "property-mismatch",
    "CertificateInvalid": "certificate-invalid",
    "CertificateRejected": "certificate-rejected",
}


class Line:
    """The pipe to the parent, and what came from it."""

    def __init__(self) -> None:
        # what libraries print goes to standard error instead
        self._out: TextIO = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)
        self.batches: queue.SimpleQueue[list[Json]] = queue.SimpleQueue()
        self.stop = threading.Event()
        self.deal = 0  # workers

    def listen(self) -> None:
        """Reads on a thread of its own, so that an end of input or a cancellation is heard at any time."""
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for text in sys.stdin:
            message = json.loads(text)
            if "cancel" in message:
                self.stop.set()
            elif "deal" in message:
                self.deal = int(message["deal"])
            else:
                self.stop.clear()
                self.deal = 0
                self.batches.put(message["tasks"])
        os._exit(0)

    def say(self, message: Json) -> None:
        """One line to the parent."""
        self._out.write(json.dumps(message, allow_nan=False) + "\n")
        self._out.flush()


class Teller:
    """Passes progress of one job on (see :class:`workers.task.Hearer`)."""

    def __init__(self, line: Line, job: str) -> None:
        self._line, self._job, self._told = line, job, 0.0

    def progress(self, now: Progress) -> None:
        """Not more often than a parent wants to hear."""
        moment = time.monotonic()
        if moment - self._told < EVERY:
            return
        self._told = moment
        self._line.say({"job": self._job, "progress": progress_json(now)})

    def cancelled(self) -> bool:
        """Whether the parent said so."""
        return self._line.stop.is_set()

    def wanted(self) -> int:
        """What the parent said last."""
        return self._line.deal


def main() -> None:
    """Serves until standard input ends."""
    line = Line()
    taken = sandbox.enter(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
    _warm_up()
    line.listen()
    line.say({"ready": {"pid": os.getpid(), "given_up": taken}})
    while True:
        tasks = [Task(**one) for one in line.batches.get()]
        for task in together(tasks, line):
            line.say({"job": task.job, "ending": attempt(task, Teller(line, task.job)).as_json()})
        line.say({"idle": {"resident": sandbox.resident()}})


def together(tasks: list[Task], line: Line) -> list[Task]:
    """Bounds several tasks in one block and tells what that decides; the task to go on with.

    The others that are left are returned to the queue, where any worker can search them.
    """
    if len(tasks) < 2:
        return tasks
    begun = _cpu()
    sandbox.allow_memory(max(t.memory_mb for t in tasks))
    sandbox.allow_time(sum(t.timeout_s for t in tasks))
    try:
        from workers.kinds.verify import together as decide

        decided = decide(tasks, Teller(line, tasks[0].job))
    except Exception as error:
        # whatever it is, each of them will meet it alone if it is to blame
        sys.stderr.write(f"not bounded together: {type(error).__name__}: {error}\n")
        decided = {}
    share = (_cpu() - begun) / max(len(decided), 1)
    left = [t for t in tasks if t.job not in decided]
    by_name = {t.job: t for t in tasks}
    for job, ending in decided.items():
        whole = scrubbed(by_name[job], replace(ending, cpu_seconds=share))
        line.say({"job": job, "ending": whole.as_json()})
    for task in left[1:]:
        line.say({"job": task.job, "ending": Ending(returned=True).as_json()})
    return left[:1]


def _warm_up() -> None:
    for module in ("numpy", "onnx", "onnxruntime", "workers.kinds.verify", "verifier.spec.load"):
        importlib.import_module(module)


def attempt(task: Task, hear: Teller) -> Ending:
    """Does a task; every error becomes a failure with a reason."""
    begun = _cpu()
    limited = sandbox.allow_memory(task.memory_mb)
    sandbox.allow_time(task.timeout_s)
    try:
        from workers.kinds import run_of

        ending = run_of(Kind(task.kind))(task, hear)
    except Exception as error:
        ending = failure(error, task, limited=limited)
    return scrubbed(task, replace(ending, cpu_seconds=_cpu() - begun))


def failure(error: Exception, task: Task, *, limited: bool) -> Ending:
    """What an error means to whoever asked."""
    from bounds.errors import SureboundError

    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, MemoryError) or "bad allocation" in text or "bad_alloc" in text:
        most = f"its limit of {task.memory_mb} MB" if limited else "the machine's memory"
        words = f"the job needed more than {most}; raise memory_mb, or ask about a smaller network"
        return Ending(reason="out-of-memory", error=words, suspect=True)
    if _no_room(error):
        if _bytes(Path(task.folder)) < OWN_BYTES:
            return Ending(returned=True, reason=NO_ROOM)  # none of its doing: it waits for room
        words = "the job wrote more than the disk has room for; ask for less at a time"
        return Ending(reason="limit-exceeded", error=words)
    if isinstance(error, SureboundError):
        return Ending(reason=REASONS.get(type(error).__name__, "bad-input"), error=text)
    words = f"{type(error).__name__}: {text}; this is a defect of surebound, please report it"
    return Ending(reason="internal-error", error=words, suspect=True)


def _no_room(error: BaseException | None) -> bool:
    """Whether a full disk is behind an error, in whatever words it was told."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        error = error.__cause__ or error.__context__
    return False


def _bytes(folder: Path) -> int:
    """Of all files in a folder, as far as they can be seen."""
    return sum(f.lstat().st_size for f in folder.rglob("*") if f.is_file())


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
