"""Proof and re-proof: which proofs does the independent checker accept, and how long does it take?

ROOT holds one folder per family with an ``instances.csv`` (or is such a folder itself). Instances that
``expected.csv`` knows to be unsat (all, where there is no such file) are taken family by family in turns,
in an order that depends on their names only, until ``--count`` have been proved; a family of which
``--patience`` in a row stay undecided within ``--timeout`` seconds is left alone. Each is searched with
``verify --certificate`` and re-proved with ``verify check``, in processes of their own, one at a time. Times
are those that the two commands report for themselves.

A rejected certificate is a defect (exit status 1). A *refused* one is about an operator that the checker
does not read; the table says which.

    ./scripts/bench certificates --root DIR [--family acasxu] [--count 100] [--timeout 30] [--output NAME]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

from _common import ENVIRONMENT, VERIFY, described, provenance, write
from _vnncomp_instances import Instance, read, unpacked

# seconds for a check, in units of the search's limit; one that takes longer counts as such
_CHECK_LIMIT = 10.0


def run(*command: str, limit: float) -> tuple[str, str]:
    """What one command in the benchmark's environment prints, and says on stderr."""
    try:
        done = subprocess.run(
            [str(VERIFY), *command],
            capture_output=True,
            text=True,
            env=ENVIRONMENT,
            check=False,
            timeout=limit,
        )
    except subprocess.TimeoutExpired:
        return "", f"took over {limit:g} s"
    return done.stdout, done.stderr.strip()


def one(root: Path, instance: Instance, timeout: float, folder: Path) -> dict[str, Any]:
    """Search and check of one instance.

    Its ``outcome`` is accepted, rejected, refused (by the checker, which cannot read the model), slow (to be
    checked), or undecided (by the search); ``message`` says more.
    """
    base = root / instance.family
    files = [str(unpacked(base / name, folder)) for name in (instance.onnx, instance.vnnlib)]
    proof, report = folder / "c.sbcert", folder / "r.json"
    for stale in (proof, report):
        stale.unlink(missing_ok=True)
    record: dict[str, Any] = {"family": instance.family, "onnx": instance.onnx, "vnnlib": instance.vnnlib}
    command = (*files, "--timeout", str(timeout), "--certificate", str(proof), "--json", str(report))
    said, trouble = run(*command, limit=3 * timeout + 120)
    if not said.startswith("unsat"):
        return record | {"outcome": "undecided", "message": (said or trouble)[:200]}
    checked, trouble = run(
        *("check", str(proof), "--model", files[0], "--property", files[1]), limit=_CHECK_LIMIT * timeout
    )
    stats = json.loads(report.read_text())["stats"]
    record |= {"domains": stats["domains"], "search_seconds": stats["seconds"], "bytes": proof.stat().st_size}
    if checked.startswith("unsat"):
        seconds = float(trouble.rsplit(",", 1)[1].split()[0])
        ratio = seconds / stats["seconds"]
        return record | {"outcome": "accepted", "check_seconds": seconds, "ratio": ratio}
    outcome = "slow" if trouble.startswith("took") else "rejected" if "reject" in trouble else "refused"
    return record | {"outcome": outcome, "message": " ".join(trouble.split())[:400]}


def in_turns(instances: list[Instance]) -> dict[str, list[Instance]]:
    """By family, each in an order that depends on names only."""
    families: dict[str, list[Instance]] = defaultdict(list)
    for i in sorted(instances, key=lambda i: hashlib.sha256("|".join(i.key).encode()).hexdigest()):
        families[i.family].append(i)
    return dict(sorted(families.items()))


def collect(
    root: Path, families: dict[str, list[Instance]], count: int, timeout: float, patience: int
) -> list[dict[str, Any]]:
    """Rows of all instances tried until ``count`` have been proved; they are printed as they come."""
    rows: list[dict[str, Any]] = []
    proved, vain = 0, dict.fromkeys(families, 0)
    with tempfile.TemporaryDirectory() as folder:
        while any(families.values()) and proved < count:
            for family, left in families.items():
                if not left or proved >= count:
                    continue
                row = one(root, left.pop(0), timeout, Path(folder))
                rows.append(row)
                undecided = row["outcome"] == "undecided"
                proved += not undecided
                vain[family] = vain[family] + 1 if undecided else 0
                if vain[family] >= patience:
                    left.clear()
                shown = f"{row['search_seconds']:.1f} s" if "search_seconds" in row else ""
                more = f"check {row['ratio']:.2f} of it" if "ratio" in row else row.get("message", "")
                print(f"{family}: {row['vnnlib']}: {row['outcome']} {shown} {more}".rstrip(), flush=True)
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """By family: how many of each outcome, and the checker's time in units of the search's."""
    outcomes = ("accepted", "rejected", "refused", "slow", "undecided")
    lines = [
        f"| family | {' | '.join(outcomes)} | check / search, median | largest |",
        "|---|" + "---:|" * (len(outcomes) + 2),
    ]
    for family in [*sorted({r["family"] for r in rows}), "all"]:
        mine = [r for r in rows if family in (r["family"], "all")]
        counts = [str(sum(r["outcome"] == o for r in mine)) for o in outcomes]
        ratios = [r["ratio"] for r in mine if "ratio" in r]
        shown = [f"{statistics.median(ratios):.2f}", f"{max(ratios):.2f}"] if ratios else ["", ""]
        lines.append(f"| {' | '.join([family, *counts, *shown])} |")
    failed = [r for r in rows if r["outcome"] in ("rejected", "refused", "slow")]
    lines += [""] + [f"- {r['family']} {r['onnx']} {r['vnnlib']}: {r['message']}" for r in failed]
    return "\n".join(lines).rstrip() + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--family", nargs="*", default=[])
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--timeout", type=float, default=30)
    parser.add_argument("--patience", type=int, default=3)
    parser.add_argument("--output", default="certificates", help="name of the result")
    chosen = parser.parse_args()
    root, families = chosen.root, chosen.family
    if (root / "instances.csv").exists():
        root, families = root.parent, [root.name]
    instances = [i for i in read(root, families, None, float("inf")) if i.expected in ("unsat", "")]
    rows = collect(root, in_turns(instances), chosen.count, chosen.timeout, chosen.patience)
    text = table(rows)
    about = provenance(count=chosen.count, timeout=chosen.timeout, patience=chosen.patience)
    write(chosen.output, {"provenance": about, "instances": rows}, f"{text}\n{described(about)}\n")
    print(text)
    return int(any(r["outcome"] == "rejected" for r in rows))


if __name__ == "__main__":
    sys.exit(main())
