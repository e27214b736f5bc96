"""The example files are complete, small, ours, and mean what their tables say."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

FOLDER = Path(__file__).resolve().parents[2] / "examples"
MODELS = sorted((FOLDER / "models").glob("*.onnx"))
OPERATORS = {"Add", "Conv", "Gemm", "Relu", "Reshape"}


def rows(name: str) -> list[list[str]]:
    with (FOLDER / name).open(newline="") as file:
        return list(csv.reader(file))


@pytest.mark.parametrize("path", MODELS, ids=lambda p: p.stem)
def test_model(path: Path) -> None:
    assert path.stat().st_size < 100_000
    model = onnx.load(path, load_external_data=False)
    onnx.checker.check_model(model, full_check=True)
    assert all(not t.external_data for t in model.graph.initializer)
    assert {n.op_type for n in model.graph.node} <= OPERATORS
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (port,) = session.get_inputs()
    assert all(isinstance(size, int) for size in port.shape)
    (y,) = session.run(None, {port.name: np.zeros(port.shape, dtype=np.float32)})
    assert np.all(np.isfinite(y))


def test_lists_agree_with_the_files() -> None:
    listed = [row[:2] for row in rows("instances.csv")]
    expected = rows("expected.csv")[1:]
    assert [row[:2] for row in expected] == listed
    assert {row[2] for row in expected} == {"sat", "unsat"}
    for model, prop in listed:
        assert (FOLDER / model).is_file() and (FOLDER / prop).is_file()
    on_disk = {f"properties/{p.name}" for p in (FOLDER / "properties").glob("*.vnnlib")}
    assert on_disk - {prop for _, prop in listed} == {"properties/pendulum_pushback_v2_unsat.vnnlib"}


def test_names_agree_with_verdicts() -> None:
    for _, prop, verdict in rows("expected.csv")[1:]:
        role = Path(prop).stem.rpartition("_")[2]
        assert verdict == {"hard": "unsat"}.get(role, role)
