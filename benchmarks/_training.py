"""What the long training tables share: a budget in processor time, runs that go on where they stopped."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

_WARM, _TIMED = 4, 20


def epochs_for(make: Callable[[int], Any], seconds: float, arrays: Any = None) -> int:
    """How many epochs of ``make(epochs)`` fit a budget of processor seconds (at least one)."""
    import torch

    from training import trainer
    from training.data import augment

    with tempfile.TemporaryDirectory() as folder:
        run = trainer.start(make(1), Path(folder), arrays=arrays)
        run.task.model.train()
        generator = torch.Generator().manual_seed(0)
        batch, start = run.config.train.batch, 0.0
        for step in range(_WARM + _TIMED):
            if step == _WARM:
                start = time.process_time()
            part = slice((step % run.steps) * batch, (step % run.steps + 1) * batch)
            x = augment(run.data.train_x[part], run.config.data, generator)
            trainer.one_step(run, x, run.data.train_y[part])
        each = (time.process_time() - start) / _TIMED * run.steps
    return max(1, round(seconds / each))


def run(out: Path, make: Callable[[int], Any], seconds: float, arrays: Any = None) -> dict[str, Any]:
    """Trains within a budget of processor seconds, or goes on with what ``out`` holds of the same run.

    Returns:
        The report, with ``cpu_seconds`` (of all sittings) and ``epochs``.
    """
    from training import train

    out.mkdir(parents=True, exist_ok=True)
    note = out / "sitting.json"
    if note.exists():
        held = json.loads(note.read_text(encoding="utf-8"))
    else:
        held = {"epochs": epochs_for(make, seconds, arrays), "cpu_seconds": 0.0}
        note.write_text(json.dumps(held), encoding="utf-8")
    began, before = time.process_time(), held["cpu_seconds"]

    def heard(progress: Any) -> None:
        if progress.step == 1:  # the checkpoint of the epoch before is written
            spent = before + time.process_time() - began
            note.write_text(json.dumps({**held, "cpu_seconds": spent}), encoding="utf-8")
            best = "" if progress.measured is None else f"{progress.measured.clean:.4f}"
            print(
                f"  epoch {progress.epoch}/{progress.epochs} {spent:.0f} s {best}",
                file=sys.stderr,
                flush=True,
            )

    resume = (out / "checkpoint.safetensors").exists()
    outcome = train(make(held["epochs"]), out, arrays=arrays, resume=resume, listener=heard)
    report = json.loads(outcome.report.read_text(encoding="utf-8"))
    return {**report, "epochs": held["epochs"], "cpu_seconds": before + time.process_time() - began}
