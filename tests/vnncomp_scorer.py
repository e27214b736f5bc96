"""A scorer of result files, as the competition describes its own: it trusts the file and onnxruntime only."""

from __future__ import annotations

import gzip
import re
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import onnxruntime

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = ROOT / "vnncomp_scripts"
WORDS = ("sat", "unsat", "unknown", "timeout", "error")
_PAIR = re.compile(r"\(\s*([XY])_([0-9]+)\s+([-+0-9.eE]+)\s*\)")


def run_scripts(verify: str, onnx: str, vnnlib: Path, results: Path, seconds: float) -> str:
    """Prepares and runs one instance as the organisers do; returns the word of the results file."""
    environment = {"SUREBOUND_VERIFY": verify, "PATH": "/usr/local/bin:/usr/bin:/bin"}
    for name, more in (("prepare_instance.sh", []), ("run_instance.sh", [str(results), str(seconds)])):
        command = [str(SCRIPTS / name), "v1", "category", onnx, str(vnnlib), *more]
        done = subprocess.run(
            command, check=False, env=environment, capture_output=True, text=True, timeout=seconds + 60
        )
        assert done.returncode == 0, f"{name}: {done.stderr}"
    word = results.read_text(encoding="utf-8").split("\n", 1)[0]
    assert word in WORDS
    return word


def witness(results: Path) -> tuple[np.ndarray, np.ndarray]:
    """The inputs and outputs that a results file of ``sat`` names: ``((X_0 v) ... (Y_0 v) ...)``."""
    word, _, rest = results.read_text(encoding="utf-8").partition("\n")
    assert word == "sat"
    assert rest.strip().startswith("((X_0 ") and rest.strip().endswith("))"), rest[:80]
    # nothing but pairs inside of one pair of parentheses
    assert re.sub(r"\s", "", _PAIR.sub("", rest)) == "()"
    found: dict[str, dict[int, float]] = {"X": {}, "Y": {}}
    for kind, index, value in _PAIR.findall(rest):
        assert int(index) not in found[kind], "named twice"
        found[kind][int(index)] = float(value)
    for values in found.values():
        assert sorted(values) == list(range(len(values)))
    return tuple(np.array([v for _, v in sorted(found[kind].items())]) for kind in "XY")  # pyright: ignore


def replay(model: Path, x: np.ndarray) -> np.ndarray:
    """The network's flat outputs at a flat input."""
    packed = not model.is_file()
    data = gzip.decompress(model.with_name(model.name + ".gz").read_bytes()) if packed else model.read_bytes()
    with tempfile.NamedTemporaryFile(suffix=".onnx") as file:
        file.write(data)
        file.flush()
        session = onnxruntime.InferenceSession(file.name, providers=["CPUExecutionProvider"])
        port = session.get_inputs()[0]
        shape = [n if isinstance(n, int) else 1 for n in port.shape]
        return session.run(None, {port.name: x.astype(np.float32).reshape(shape)})[0].reshape(-1)
