"""After a small change of a network the gate begins with the splits of the proof that it kept."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

Verify = Callable[..., Any]
CONFIG = """
version = 1

[models.pendulum]
path = "model.onnx"

[[requirement]]
id = "torque"
kind = "vnnlib"
model = "pendulum"
files = ["limit.vnnlib"]
"""


@pytest.fixture
def repository(tmp_path: Path, examples: Path) -> Path:
    (tmp_path / "surebound.toml").write_text(CONFIG)
    (tmp_path / "model.onnx").write_bytes((examples / "models/pendulum.onnx").read_bytes())
    text = (examples / "properties/pendulum_limit_unsat.vnnlib").read_text()
    (tmp_path / "limit.vnnlib").write_text(text)
    return tmp_path


def tune(model: Path) -> None:
    """Weights that shrink by a thousandth: every proof of a limit holds still."""
    net = onnx.load(model)
    for tensor in net.graph.initializer:
        held = numpy_helper.to_array(tensor)
        if held.dtype == np.float32 and held.size > 1:
            tensor.CopyFrom(numpy_helper.from_array((held * np.float32(0.999)), tensor.name))
    onnx.save(net, model)


def domains(verify: Verify, folder: Path) -> int:
    verify("gate", "--format", "json", "--output", "report.json")
    document = json.loads((folder / "report.json").read_text())
    (question,) = document["requirements"][0]["questions"]
    assert (question["outcome"], question["source"]) == ("holds", "proved")
    return int(question["domains"])


def test_a_kept_proof_helps_with_the_next_network(repository: Path, verify: Verify) -> None:
    first = domains(verify, repository)
    tune(repository / "model.onnx")
    assert domains(verify, repository) < first


def test_a_damaged_earlier_proof_is_done_without(repository: Path, verify: Verify) -> None:
    domains(verify, repository)
    kept = list(repository.rglob("*.sbcert"))
    assert kept
    for path in kept:
        path.write_bytes(b"no certificate")
    tune(repository / "model.onnx")
    domains(verify, repository)
    assert any("of no use" in note for note in json.loads((repository / "report.json").read_text())["notes"])
