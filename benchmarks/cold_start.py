"""Whole-process time of ``verify`` on easy questions, side by side with importing what it stands on.

The baseline is ``python -c "import numpy, onnx, onnxruntime"`` in the same environment. Baseline and
commands take turns, so that a slow minute of the machine hits all of them.

    ./scripts/bench cold_start [--repeats 10]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from typing import Any

from _common import ENVIRONMENT, ROOT, VERIFY, described, provenance, write

BASELINE = [sys.executable, "-c", "import numpy, onnx, onnxruntime"]
ALLOWANCE = 0.4  # seconds that verify may take beyond the baseline
# name -> (model, property, expected first line)
CASES = {
    "proved at the root": ("digits_mlp", "digits_mlp_unsat", "unsat"),
    "refuted by the first attack": ("pendulum", "pendulum_pushback_sat", "sat"),
}


def timed(command: list[str], expected: str) -> float:
    """Seconds of one run; stops when the answer is not the expected one."""
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, check=False)
    seconds = time.perf_counter() - start
    if done.returncode != 0 or done.stdout.partition("\n")[0] != expected:
        raise SystemExit(f"{' '.join(command)}: expected '{expected}'\n{done.stdout}{done.stderr}")
    return seconds


def commands() -> dict[str, tuple[list[str], str]]:
    """Name -> (command, expected first line of standard output)."""
    folder = ROOT / "examples"
    found: dict[str, tuple[list[str], str]] = {"baseline": (BASELINE, "")}
    for name, (model, prop, expected) in CASES.items():
        files = [str(folder / "models" / f"{model}.onnx"), str(folder / "properties" / f"{prop}.vnnlib")]
        found[name] = ([str(VERIFY), *files], expected)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=10)
    repeats = parser.parse_args().repeats
    runs = commands()
    for command, expected in runs.values():  # once, so that files are in the page cache
        timed(command, expected)
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, (command, expected) in runs.items():
            seconds[name].append(timed(command, expected))
    base = statistics.median(seconds["baseline"])
    summary: dict[str, dict[str, Any]] = {}
    for name, values in seconds.items():
        median = statistics.median(values)
        summary[name] = {
            "median_s": round(median, 4),
            "min_s": round(min(values), 4),
            "ratio": round(median / base, 3),
            "difference_s": round(median - base, 4),
            "within_allowance": median <= base + ALLOWANCE,
            "runs_s": [round(v, 4) for v in values],
        }
    record = provenance(repeats=repeats, allowance_s=ALLOWANCE)
    path = write("cold_start", record | {"results": summary})
    for name, row in summary.items():
        print(f"{name:30}{row['median_s']:8.3f} s  x{row['ratio']:<6} {row['difference_s']:+.3f} s")
    print(f"{described(record)}\nwritten to {path}")
    return 0 if all(row["within_allowance"] for row in summary.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
