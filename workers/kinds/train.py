"""``train``: a certifiably robust network, with its proof."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from bounds.errors import BadInput
from training.config import Config, read_config
from workers.jobs.model import Answer, Progress
from workers.kinds.common import named
from workers.task import CHECKPOINT, Ending, Hearer, Left, Task

if TYPE_CHECKING:
    from training.trainer import Progress as Step

# what a configuration may read: a set that comes with a library, or the job's own file
SOURCES = ("digits", "npz")


class Stopped(Exception):
    """Training was told to stop, or its time was up."""


def run(task: Task, hear: Hearer) -> Ending:
    """See :data:`workers.task.Run`."""
    config = _config(task)
    try:
        from training.api import train
        from training.trainer import CHECKPOINT as FILE
    except ImportError as error:
        raise BadInput(
            f"this worker cannot train: {error.name} is missing; install surebound[train]"
        ) from None
    out = task.out("training")
    out.mkdir(exist_ok=True)
    resume = CHECKPOINT in task.files
    if resume:
        (out / FILE).write_bytes(Path(task.files[CHECKPOINT]).read_bytes())
    begun = time.monotonic()

    def listener(now: Step) -> None:
        seconds = time.monotonic() - begun
        if hear.cancelled() or seconds > task.timeout_s:
            raise Stopped
        done = (now.epoch - 1) * now.steps + now.step
        total = now.epochs * now.steps
        text = f"epoch {now.epoch}/{now.epochs}, loss {now.loss:.4f}"
        hear.progress(
            Progress(seconds, "train", closed_fraction=done / total, done=done, total=total, message=text)
        )

    try:
        outcome = train(config, out, resume=resume, listener=listener)
    except Stopped:
        kept = (Left(CHECKPOINT, f"training/{FILE}", "application/octet-stream"),)
        files = kept if (out / FILE).exists() else ()
        if hear.cancelled():
            return Ending(reason="cancelled", stopped=True, files=files)
        return Ending(Answer.UNKNOWN, "timeout", files=files)
    report = json.loads(outcome.report.read_text(encoding="utf-8"))
    files = (
        Left("model.onnx", "training/model.onnx", "application/octet-stream"),
        Left("report.json", "training/report.json", "application/json"),
        Left("picture.svg", "training/certified.svg", "image/svg+xml"),
    )
    proved = outcome.lipschitz is not None
    small = {name: value for name, value in report.items() if name not in ("history", "config")}
    return Ending(
        Answer.VERIFIED if proved else Answer.UNKNOWN, "" if proved else "nothing-claimed",
        result=small, files=files,
    )  # fmt: skip


def _config(task: Task) -> Config:
    path = task.out("training.toml")
    path.write_text(str(task.request["config"]), encoding="utf-8")
    config = read_config(path)
    source = config.data.source
    if source not in SOURCES:
        raise BadInput(f"data source '{source}' is not for jobs; choose one of {', '.join(SOURCES)}")
    if source == "npz":
        data = replace(config.data, path=str(named(task, "data", ".npz")))
        config = replace(config, data=data)
    return config
