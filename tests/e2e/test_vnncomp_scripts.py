"""The competition's three scripts on our own examples: the result files are what the scorer reads."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from vnncomp_scorer import SCRIPTS, replay, run_scripts, witness

VERIFY = str(Path(sys.executable).with_name("verify"))
MODELS = "examples/models"


def expected(root: Path) -> list[tuple[str, str, str]]:
    with (root / "examples" / "expected.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows
    return [(r["onnx"], r["vnnlib"], r["expected"]) for r in rows if "hard" not in r["vnnlib"]]


def test_examples_get_their_verdicts(root: Path, tmp_path: Path) -> None:
    seen = set[str]()
    for onnx, vnnlib, verdict in expected(root):
        results = tmp_path / "results.txt"
        model = root / "examples" / onnx
        assert run_scripts(VERIFY, str(model), root / "examples" / vnnlib, results, 60) == verdict
        seen.add(verdict)
        if verdict != "sat":
            assert results.read_text(encoding="utf-8") == f"{verdict}\n"
            continue
        x, y = witness(results)
        # the scorer lets onnxruntime rewrite the graph, which rounds differently
        assert np.allclose(replay(model, x), y, rtol=1e-4, atol=1e-4)
    assert seen == {"sat", "unsat"}


def test_a_counterexample_violates_the_property(root: Path, tmp_path: Path) -> None:
    """Read apart from surebound: leaning right, the controller never pushes right."""
    results = tmp_path / "results.txt"
    model = root / MODELS / "pendulum.onnx"
    run_scripts(VERIFY, str(model), root / "examples/properties/pendulum_pushback_sat.vnnlib", results, 60)
    x, _ = witness(results)
    text = (root / "examples/properties/pendulum_pushback_sat.vnnlib").read_text(encoding="utf-8")
    assert "(and (> Y_0 0))" in text  # what the next lines check
    assert replay(model, x)[0] > 0
    for bound in [line.split() for line in text.splitlines() if line.startswith("(assert") and "X_" in line]:
        _, relation, name, limit = (word.strip("()") for word in bound)
        value = x[int(name.removeprefix("X_"))]
        assert value <= float(limit) if relation == "<=" else value >= float(limit)


@pytest.mark.parametrize("onnx", ["{model}", "[('controller', '{model}')]"])
def test_vnnlib_2(root: Path, tmp_path: Path, onnx: str) -> None:
    """Version 2.0, with the network as a file and as the competition's list of pairs."""
    pytest.importorskip("vnnlib", reason="VNN-LIB 2.0 needs pip install 'surebound[vnnlib2]'")
    query = root / "examples/properties/pendulum_pushback_v2_unsat.vnnlib"
    results = tmp_path / "results.txt"
    named = onnx.format(model=root / MODELS / "pendulum.onnx")
    assert run_scripts(VERIFY, named, query, results, 60) == "unsat"


def test_an_undecided_instance_is_a_timeout(root: Path, tmp_path: Path) -> None:
    """With no time at all the word is the competition's, not ours ('timed-out')."""
    prop = root / "examples/properties/digits_cnn_hard.vnnlib"
    results = tmp_path / "results.txt"
    assert run_scripts(VERIFY, str(root / MODELS / "digits_cnn.onnx"), prop, results, 0.002) == "timeout"
    assert results.read_text(encoding="utf-8") == "timeout\n"


def test_an_instance_that_cannot_be_read(root: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no network")
    prop = str(root / "examples/properties/pendulum_limit_unsat.vnnlib")
    results = tmp_path / "results.txt"
    command = [str(SCRIPTS / "run_instance.sh"), "v1", "c", str(broken), prop, str(results), "20"]
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, env={"SUREBOUND_VERIFY": VERIFY}
    )
    assert (done.returncode, results.read_text(encoding="utf-8")) == (0, "error\n")
    assert "error:" in done.stderr
    missing = [str(SCRIPTS / "prepare_instance.sh"), "v1", "c", str(tmp_path / "none.onnx"), prop]
    done = subprocess.run(
        missing, check=False, capture_output=True, text=True, env={"SUREBOUND_VERIFY": VERIFY}
    )
    assert done.returncode != 0 and "none.onnx: cannot be read" in done.stderr


@pytest.mark.parametrize("name", ["install_tool.sh", "prepare_instance.sh", "run_instance.sh"])
def test_another_version_of_the_interface_is_refused(name: str) -> None:
    done = subprocess.run([str(SCRIPTS / name), "v9"], check=False, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.startswith(f"usage: {name} v1")
