"""The example of certified training, as processes: the file's claim is proved anew from the file alone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs PyTorch: ./scripts/test installs it")
pytest.importorskip("safetensors", reason="needs safetensors: ./scripts/test installs it")
pytest.importorskip("sklearn", reason="needs scikit-learn: ./scripts/test installs it")
pytestmark = [pytest.mark.torch, pytest.mark.slow]

VERIFY = Path(sys.executable).parent / "verify"


def verify(*arguments: object) -> str:
    run = subprocess.run(
        [VERIFY, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=600
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_digits(root: Path, tmp_path: Path) -> None:
    verify("train", root / "examples/certified_training/digits.toml", "--out", tmp_path / "out", "--quiet")
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["clean"] >= 0.95
    assert report["certified"]["0.3"] >= 0.8
    assert report["lipschitz"] == 1.0
    model, proof = tmp_path / "out" / "model.onnx", tmp_path / "proof.json"
    bound = float(verify("lipschitz", model, "--certificate", proof).splitlines()[0])
    assert 0.9 < bound <= report["lipschitz"]
    assert float(verify("check", proof, "--model", model).splitlines()[0]) <= report["lipschitz"]
