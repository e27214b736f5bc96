"""Train, export, prove, re-check: the whole way, with the exported file as the only link between the steps.

    python examples/certified_training/end_to_end.py [--config digits.toml] [--out DIR] [--radius 0.3]

1. ``verify train`` writes model.onnx, whose claim is a Lipschitz constant of 1, and certified accuracies from
margins. 2. ``verify lipschitz`` proves a constant of the file by an SDP's multipliers; it must be at most the
claim. 3. ``verify robustness`` certifies test samples of the file by constants of margins, then by branch and
   bound; its certified accuracy must be at least that of the margins.
4. ``verify check`` re-proves the certificates of both with a checker that shares no arithmetic with them.
5. ``verify gate`` states both promises in a surebound.toml, as a repository would that must keep them.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
GATE = """version = 1

[models.digits]
path = "model.onnx"

[data.test]
path = "test.npz"

[budget]
query_seconds = 10

[[requirement]]
id = "gain"
about = "a change of the picture changes the scores by no more"
kind = "lipschitz"
model = "digits"
at_most = {claim}

[[requirement]]
id = "robust"
kind = "certified-accuracy"
model = "digits"
data = "test"
radius = "0.02"
at_least = 0.8
samples = 20
"""
VERIFY = Path(sys.executable).parent / "verify"


def verify(*arguments: Any) -> str:
    """Runs the command and returns its standard output."""
    print("$ verify", *arguments, flush=True)
    run = subprocess.run(
        [VERIFY, *map(str, arguments)], stdout=subprocess.PIPE, text=True, check=False
    )  # fmt: skip
    if run.returncode:
        raise SystemExit(f"verify ended with code {run.returncode}")
    print(run.stdout, flush=True)
    return run.stdout


def require(condition: bool, what: str) -> None:
    """Stops unless a promise is kept."""
    print(("holds:  " if condition else "FAILS:  ") + what, flush=True)
    if not condition:
        raise SystemExit(1)


def test_samples(config: Path, path: Path) -> None:
    """The test set as a file for the verifier."""
    from training.config import read_config
    from training.data import load

    data = load(read_config(config).data)
    np.savez(path, x=data.test_x.numpy(), y=data.test_y.numpy())


def draw(path: Path, report: dict[str, Any]) -> None:
    """The picture with the verifier's figure in it."""
    from training.curve import write_curve

    write_curve(path, report)


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--config", type=Path, default=HERE / "digits.toml")
    p.add_argument("--out", type=Path)
    p.add_argument("--radius", default="0.3")
    p.add_argument("--sample-timeout", type=float, default=1.0)
    arguments = p.parse_args()
    out = arguments.out or Path(tempfile.mkdtemp(prefix="surebound-"))
    start = time.monotonic()
    verify("train", arguments.config, "--out", out)
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    model = out / "model.onnx"

    verify(
        "lipschitz", model, "--certificate", out / "lipschitz.json", "--json", out / "bound.json"
    )  # fmt: skip
    bound = json.loads((out / "bound.json").read_text(encoding="utf-8"))
    claim = report["lipschitz"]
    require(bound["upper"] <= claim, f"the file's proved constant {bound['upper']:.9g} is at most {claim:g}")
    verify("check", out / "lipschitz.json", "--model", model)

    test_samples(arguments.config, out / "test.npz")
    certificates = out / "certificates"
    certificates.mkdir(exist_ok=True)
    verify(
        "robustness", model, "--data", out / "test.npz", "--radii", arguments.radius, "--sample-timeout",
        arguments.sample_timeout, "--certificates", certificates, "--json", out / "robustness.json",
    )  # fmt: skip
    found = json.loads((out / "robustness.json").read_text(encoding="utf-8"))
    proved, margins = found["radii"][0]["certified"], report["certified"][arguments.radius]
    require(proved >= margins, f"certified by the verifier {proved:.4f}, by margins {margins:.4f}")
    report["branched"] = {arguments.radius: proved}
    draw(out / "certified.svg", report)
    files = sorted(certificates.glob("*.json"))
    for file in files[:3]:
        verify("check", file, "--model", model)
    (out / "surebound.toml").write_text(GATE.format(claim=claim), encoding="utf-8")
    verify("gate", "--config", out / "surebound.toml")
    seconds = time.monotonic() - start
    print(f"re-checked {min(3, len(files))} of {len(files)} certificates; {seconds:.0f} s, files in {out}")


if __name__ == "__main__":
    main()
