"""A domain limit and a seed repeat a run bit for bit, in another process as well."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from test_many_cases import network, prop
from test_operand_search import hard


def queries(folder: Path, examples: Path, kind: str) -> tuple[Path, Path]:
    if kind == "inputs":
        return examples / "models/pendulum.onnx", examples / "properties/pendulum_limit_unsat.vnnlib"
    if kind == "many":
        model = network(folder / "m.onnx", 2.0)
        return model, prop(folder, model, 0.06, radius=0.2)
    return hard(folder, kind, 0.3 if kind == "product" else 0.4)


def run(folder: Path, query: tuple[Path, Path], number: int, *more: str) -> tuple[dict[str, Any], str, Any]:
    """One run in a process of its own: report, digest of the certificate, contents of the checkpoint."""
    report, cert, ckpt = (folder / f"{name}{number}" for name in ("report", "cert", "ckpt"))
    args = [*map(str, query), "--seed", "5", "--json", str(report), *more]
    if "--max-domains" in more:
        args += ["--checkpoint", str(ckpt)]
    else:
        args += ["--certificate", str(cert)]
    env = {**os.environ, "PYTHONHASHSEED": str(number)}
    subprocess.run(
        [sys.executable, "-m", "verifier.cli.main", *args],
        check=True,
        env=env,
        capture_output=True,
        timeout=120,
    )
    told = json.loads(report.read_text())
    for changing in ("certificate", "checkpoint", "advice"):  # paths, and advice that names them
        del told[changing]
    del told["stats"]["seconds"], told["stats"]["phases"]
    proof = hashlib.sha256(cert.read_bytes()).hexdigest() if cert.exists() else ""
    return told, proof, contents(ckpt) if ckpt.exists() else None


def contents(path: Path) -> dict[str, Any]:
    """A checkpoint without what tells the time (and the digest of that)."""
    with zipfile.ZipFile(path) as z:
        held: dict[str, Any] = {name: z.read(name) for name in z.namelist() if name != "digest"}
    held["checkpoint.json"] = json.loads(held["checkpoint.json"])
    del held["checkpoint.json"]["seconds"]
    return held


@pytest.mark.parametrize("kind", ["inputs", "Relu", "product", "many"])
def test_a_proof_repeats(kind: str, tmp_path: Path, examples: Path) -> None:
    query = queries(tmp_path, examples, kind)
    first, second = (run(tmp_path, query, number) for number in (1, 2))
    assert first[0]["verdict"] == "unsat"
    assert first[1]
    assert first == second


@pytest.mark.parametrize("kind", ["inputs", "Relu", "product", "many"])
def test_a_stopped_search_repeats(kind: str, tmp_path: Path, examples: Path) -> None:
    query = queries(tmp_path, examples, kind)
    first, second = (run(tmp_path, query, number, "--max-domains", "50") for number in (1, 2))
    assert (first[0]["verdict"], first[0]["stats"]["domains"]) == ("unknown", 50)
    assert first[0]["lower_bound"] is not None
    assert first[2] is not None
    assert first == second
