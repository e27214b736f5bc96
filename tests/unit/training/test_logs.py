"""Logging through other libraries, run for real and read back with their own readers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs PyTorch: ./scripts/test installs it")
pytest.importorskip("safetensors", reason="needs safetensors: ./scripts/test installs it")
# what the libraries warn about on import is theirs
pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]

from training import train  # noqa: E402
from training.config import from_mapping  # noqa: E402

HOW = "is not installed: pip install 'surebound[train-logs]'"


def history(out: Path, **log: Any) -> list[dict[str, Any]]:
    """Trains two epochs with these logs; what the report says of them."""
    config = from_mapping(
        {
            "data": {"source": "arrays"},
            "model": {"hidden": [4]},
            "train": {"epochs": 2, "batch": 8},
            "evaluate": {"radii": [0.1], "attack_steps": 0},
            "log": log,
        }
    )
    y = np.arange(24) % 3
    x = np.eye(3, dtype=np.float32)[y]
    outcome = train(config, out, arrays=(x, y, x, y))
    return json.loads(outcome.report.read_text())["history"]


def test_tensorboard(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason=f"TensorBoard {HOW}")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    expected = history(tmp_path, tensorboard=True)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    for name, pick in {
        "clean": lambda h: h["clean"],
        "certified_0.1": lambda h: h["certified"]["0.1"],
    }.items():
        found = events.Scalars(name)
        assert [e.step for e in found] == [1, 2]
        np.testing.assert_allclose([e.value for e in found], [pick(h) for h in expected], rtol=1e-6)


def test_mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow", reason=f"MLflow {HOW}")
    monkeypatch.chdir(tmp_path)
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'runs.db'}")
    expected = history(tmp_path / "out", mlflow="digits")
    client = mlflow.MlflowClient()
    (run,) = client.search_runs([client.get_experiment_by_name("digits").experiment_id])
    assert run.info.status == "FINISHED"
    values = sorted((m.step, m.value) for m in client.get_metric_history(run.info.run_id, "clean"))
    assert values == [(h["epoch"], h["clean"]) for h in expected]
    assert mlflow.active_run() is None
