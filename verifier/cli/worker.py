"""A worker process of a batch: imports everything once, then answers queries until its input ends.

Run as ``python -m verifier.cli.worker``. One JSON object a line in both directions: the parent writes
tasks (:class:`verifier.cli.pool.Task` as an object); the worker writes ``{"ready": true}``, then for
each task any number of ``{"progress": {...}}`` and one ``{"result": {...}}`` or ``{"error": "..."}``.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import queue
import sys
import threading
import time
from pathlib import Path
from typing import Any, TextIO

_PROGRESS_EVERY = 0.5  # seconds


def main() -> None:
    """Serves until standard input ends."""
    out = _private_output()
    tasks: queue.SimpleQueue[str] = queue.SimpleQueue()
    # Reading happens on its own thread, so that the end of input, the sign that the parent has gone
    # in whatever way, ends this process at once, even in the middle of a computation.
    threading.Thread(target=_read, args=(tasks,), daemon=True).start()
    _warm_up()
    _send(out, {"ready": True})
    while True:
        _send(out, _answer(json.loads(tasks.get()), out))


def _private_output() -> TextIO:
    """Keeps the pipe to the parent for us: what libraries print goes to standard error instead."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return out


def _read(tasks: queue.SimpleQueue[str]) -> None:
    for line in sys.stdin:
        tasks.put(line)
    os._exit(0)


def _warm_up() -> None:
    for module in ("numpy", "onnx", "onnxruntime", "verifier.api", "verifier.spec.load"):
        importlib.import_module(module)


def _send(out: TextIO, message: dict[str, Any]) -> None:
    out.write(json.dumps(message) + "\n")
    out.flush()


def _answer(task: dict[str, Any], out: TextIO) -> dict[str, Any]:
    from verifier.cli.main import sentence

    try:
        return {"result": _run(task, out)}
    except Exception as error:  # the instance is marked with it; the batch goes on
        return {"error": sentence(error)}


def _run(task: dict[str, Any], out: TextIO) -> dict[str, Any]:
    from verifier.api import verify
    from verifier.cli.session import load_property
    from verifier.report.emit.assignment import vnncomp
    from verifier.report.emit.json import as_dict
    from verifier.report.progress import Progress

    told = time.monotonic()

    def progress(now: Progress) -> None:
        nonlocal told
        if time.monotonic() - told >= _PROGRESS_EVERY:
            told = time.monotonic()
            _send(out, {"progress": dataclasses.asdict(now)})

    spec, options = load_property(Path(task["spec"]), task["options"])
    certificate = Path(task["certificate"]) if task["certificate"] else None
    report = verify(Path(task["model"]), spec, options=options, certificate=certificate, progress=progress)
    return {"report": as_dict(report, spec), "assignment": vnncomp(report, spec)}


if __name__ == "__main__":
    main()
