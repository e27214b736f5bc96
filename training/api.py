"""``training.train``: from a configuration to a proved ONNX file and a report."""

from __future__ import annotations

import hashlib
import json
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from training import decay, export, tasks, trainer
from training.config import Config, as_mapping
from training.curve import write_curve


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run left behind.

    Attributes:
        model, report: files.
        clean: accuracy on the test set.
        certified: radius to proved accuracy.
        lipschitz: the claimed (and proved) L2 constant; None for plain networks.
    """

    model: Path
    report: Path
    clean: float
    certified: dict[str, float]
    lipschitz: float | None


def train(
    config: Config,
    out: str | Path,
    *,
    arrays: Any = None,
    resume: bool = False,
    listener: trainer.Listener | None = None,
) -> Outcome:
    """Trains, proves, exports and reports.

    Args:
        config: see :func:`training.config.read_config`.
        out: directory for ``model.onnx``, ``report.json``, ``certified.svg`` and the checkpoint.
        arrays: examples for ``source = "arrays"``.
        resume: go on from the checkpoint in ``out``.
        listener: hears about every step.

    Raises:
        BadInput: the configuration cannot be used.
        SureboundError: training failed; the message says what to do.
    """
    out = Path(out)
    run = trainer.start(config, out, arrays=arrays, resume=resume)
    warning = decay.warning_of(run.task.model, run.data.train_x[:64]) if not run.state.epoch else ""
    trainer.run_to_end(run, listener)
    run.task.model.eval()
    with trainer.Averaged(run):
        return _finish(run, warning)


def _finish(run: trainer.Run, warning: str) -> Outcome:
    config, data = run.config, run.data
    x, y = data.test_x.cpu(), data.test_y.cpu()
    run.task.model.cpu()
    product = run.task.finish(x, y, config.evaluate.radii)
    shown = product.measured
    model = run.out / "model.onnx"
    # the claim is 1: what is proved lies below it by a headroom that another proof's rounding may use
    claim = None if product.lipschitz is None else 1.0
    if product.lipschitz is not None and not product.lipschitz <= 1.0:
        raise AssertionError("a materialised network is scaled to a constant of at most 1")
    metadata = {"surebound.norm": product.norm, "surebound.config": json.dumps(as_mapping(config))}
    if claim is not None:
        metadata |= {
            "surebound.lipschitz": repr(claim),
            "surebound.lipschitz_proved": repr(product.lipschitz),
        }
    export.export(product.module, data.shape, model, metadata)
    clip = getattr(run.task, "clip", None)
    bounds_above = (
        tasks.attacked(
            product.module, x, y, product.norm, config.evaluate.radii, config.evaluate.attack_steps, clip
        )
        if config.evaluate.attack_steps
        else {}
    )
    report = {
        "clean": shown.clean,
        "certified": shown.certified,
        "attacked": bounds_above,
        "norm": product.norm,
        "lipschitz": claim,
        "lipschitz_proved": product.lipschitz,
        "model": model.name,
        "model_sha256": hashlib.sha256(model.read_bytes()).hexdigest(),
        "export_difference": export.differences(model, product.module, x[:32]),
        "test_examples": len(y),
        "train_examples": len(data.train_y),
        "parameters": sum(p.numel() for p in run.task.model.parameters()),
        "seconds": run.seconds,
        "examples_per_second": run.examples / run.seconds if run.seconds else None,
        "warnings": [warning] if warning else [],
        "history": run.state.history or [],
        "config": as_mapping(config),
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
    }
    path = run.out / "report.json"
    path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    write_curve(run.out / "certified.svg", report)
    return Outcome(model, path, shown.clean, shown.certified, claim)
