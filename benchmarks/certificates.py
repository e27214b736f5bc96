"""Proof and re-proof: the time of a search that writes a certificate against the time to check it.

ROOT is one family folder (``onnx/``, ``vnnlib/``, ``instances.csv``). Instances are taken evenly from the
list until ``--count`` unsat ones have been proved and checked. Times are those the two commands report
for themselves, in processes of their own.

    ./scripts/bench certificates --root DIR [--count 20] [--timeout 60]
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from _common import ENVIRONMENT, VERIFY, provenance, write


def run(*command: str) -> subprocess.CompletedProcess[str]:
    """One command in the benchmark's environment."""
    return subprocess.run(
        [str(VERIFY), *command], capture_output=True, text=True, env=ENVIRONMENT, check=False
    )


def one(root: Path, onnx: str, vnnlib: str, timeout: float, folder: Path) -> dict[str, Any] | None:
    """Search and check of one instance; None unless it is unsat."""
    files = str(root / onnx), str(root / vnnlib)
    proof, report = folder / "c.sbcert", folder / "r.json"
    for stale in (proof, report):
        stale.unlink(missing_ok=True)
    found = run(*files, "--timeout", str(timeout), "--certificate", str(proof), "--json", str(report))
    if not found.stdout.startswith("unsat"):
        return None
    checked = run("check", str(proof), "--model", files[0], "--property", files[1])
    if not checked.stdout.startswith("unsat"):
        raise SystemExit(f"{onnx} {vnnlib}: the certificate was rejected\n{checked.stderr}")
    seconds = float(checked.stderr.rsplit(",", 1)[1].split()[0])
    stats = json.loads(report.read_text())["stats"]
    return {
        "onnx": onnx,
        "vnnlib": vnnlib,
        "domains": stats["domains"],
        "search_seconds": stats["seconds"],
        "check_seconds": seconds,
        "ratio": seconds / stats["seconds"],
        "bytes": proof.stat().st_size,
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--timeout", type=float, default=60)
    chosen = parser.parse_args()
    with (chosen.root / "instances.csv").open(newline="") as stream:
        rows = [row[:2] for row in csv.reader(stream) if row]
    # a stride that visits every part of the list before any part twice
    order = sorted(range(len(rows)), key=lambda i: (i * 0.618033988749895) % 1.0)
    done: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for i in order:
            if len(done) == chosen.count:
                break
            result = one(chosen.root, *rows[i], chosen.timeout, Path(folder))
            if result is not None:
                done.append(result)
                print(
                    f"{rows[i]}: {result['search_seconds']:.2f} s, check {result['ratio']:.2f} of it",
                    flush=True,
                )
    ratios = [r["ratio"] for r in done]
    middle, most = statistics.median(ratios), max(ratios)
    print(f"{len(done)} certificates accepted; ratio median {middle:.2f}, max {most:.2f}")
    write(
        "certificates",
        {"provenance": provenance(count=chosen.count, timeout=chosen.timeout, seed=0), "instances": done},
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
