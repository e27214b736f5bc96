"""Runs ``verify`` on families of competition instances and counts solved, unknown and wrong.

ROOT holds one folder per family with an ``instances.csv`` (onnx,vnnlib,timeout; paths relative to the
family), as the VNN-COMP benchmark repositories do. If ROOT has an ``expected.csv`` (with at least the
columns family,onnx,vnnlib,expected), verdicts are compared with it. Each instance runs in a process of
its own, and its time is that of the whole process.

    ./scripts/bench families --root DIR [--family acasxu safenlp] [--per-family 5] [--timeout 60]
"""

from __future__ import annotations

import argparse
import csv
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from _common import ENVIRONMENT, VERIFY, described, provenance, write

SURE = ("sat", "unsat")
VERDICTS = (*SURE, "unknown", "timed-out")
GRACE = 30.0  # seconds beyond its own limit before a process is killed and counted as an error


@dataclass(frozen=True)
class Instance:
    family: str
    onnx: str
    vnnlib: str
    timeout: float
    expected: str


@dataclass(frozen=True)
class Outcome:
    """``verdict`` is one of VERDICTS or "error"; ``note`` is the last line of standard error then."""

    family: str
    onnx: str
    vnnlib: str
    expected: str
    verdict: str
    seconds: float
    note: str

    @property
    def wrong(self) -> bool:
        return self.verdict in SURE and self.expected in SURE and self.verdict != self.expected


def instances(root: Path, families: list[str], per_family: int, limit: float) -> Iterator[Instance]:
    """The chosen instances, in the order of the files."""
    expected: dict[tuple[str, str, str], str] = {}
    if (root / "expected.csv").exists():
        with (root / "expected.csv").open(newline="") as file:
            expected = {(r["family"], r["onnx"], r["vnnlib"]): r["expected"] for r in csv.DictReader(file)}
    for family in families or sorted(p.parent.name for p in root.glob("*/instances.csv")):
        with (root / family / "instances.csv").open(newline="") as file:
            rows = [row for row in csv.reader(file) if row][:per_family]
        for onnx, vnnlib, timeout in rows:
            known = expected.get((family, onnx, vnnlib), "")
            yield Instance(family, onnx, vnnlib, min(float(timeout), limit), known)


def run(root: Path, instance: Instance, seed: int) -> Outcome:
    """One process, timed from outside."""
    folder = root / instance.family
    command = [str(VERIFY), str(folder / instance.onnx), str(folder / instance.vnnlib)]
    command += ["--timeout", f"{instance.timeout:g}", "--seed", str(seed)]
    start = time.monotonic()
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=instance.timeout + GRACE,
            env=ENVIRONMENT,
            check=False,
        )
        verdict = done.stdout.partition("\n")[0].strip()
        note = ""
        if done.returncode != 0 or verdict not in VERDICTS:
            verdict, note = "error", (done.stderr.strip().splitlines() or ["no output"])[-1][:300]
    except subprocess.TimeoutExpired:
        verdict, note = "error", f"killed {GRACE:g} s after its limit"
    seconds = round(time.monotonic() - start, 3)
    known = (instance.family, instance.onnx, instance.vnnlib, instance.expected)
    return Outcome(*known, verdict, seconds, note)


def table(outcomes: list[Outcome]) -> str:
    """Markdown: one row per family, and the sum."""
    names = ("family", "instances", "unsat", "sat", "undecided", "error", "wrong", "median s solved")
    rows = [f"| {' | '.join(names)} |", "|---|" + "---:|" * (len(names) - 1)]
    families = list(dict.fromkeys(o.family for o in outcomes))
    for family in [*families, "**all**"]:
        group = [o for o in outcomes if family in (o.family, "**all**")]
        solved = [o for o in group if o.verdict in SURE and not o.wrong]
        median = f"{statistics.median(o.seconds for o in solved):.2f}" if solved else "-"
        count = {word: sum(o.verdict == word for o in group) for word in (*VERDICTS, "error")}
        undecided = count["unknown"] + count["timed-out"]
        cells = [family, len(group), count["unsat"], count["sat"], undecided, count["error"]]
        rows.append(f"| {' | '.join(map(str, [*cells, sum(o.wrong for o in group), median]))} |")
    return "\n".join(rows) + "\n"


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--family", nargs="*", default=[])
    parser.add_argument("--per-family", type=int, default=10**9)
    parser.add_argument(
        "--timeout", type=float, default=60.0, help="cap on each instance's own limit, seconds"
    )
    parser.add_argument("--jobs", type=int, default=1, help="instances at a time; 1 for times to be compared")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--name", default="families", help="results go to benchmarks/results/NAME.{json,md}")
    return parser.parse_args(argv)


def main() -> int:
    args = parse()
    chosen = list(instances(args.root, args.family, args.per_family, args.timeout))
    outcomes: list[Outcome] = []
    with ThreadPoolExecutor(args.jobs) as pool:
        for outcome in pool.map(lambda i: run(args.root, i, args.seed), chosen):
            outcomes.append(outcome)
            mark = "WRONG" if outcome.wrong else outcome.note
            place = f"{outcome.family} {outcome.onnx} {outcome.vnnlib}"
            print(f"{outcome.verdict:10}{outcome.seconds:8.2f}  {place}  {mark}", flush=True)
    settings = {"timeout": args.timeout, "jobs": args.jobs, "seed": args.seed, "per_family": args.per_family}
    record = provenance(**settings)
    text = f"{table(outcomes)}\n{described(record)}\n"
    path = write(args.name, record | {"outcomes": [asdict(o) for o in outcomes]}, text)
    print(f"\n{text}\nwritten to {path}")
    return 1 if any(o.wrong for o in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
