"""The report on peers: what several runs of ``vnncomp`` say together.

Run as a program, it reads the raw rows of the runs ``vnncomp_peers_*`` and ``families.json`` from
``results/`` and writes ``results/vnncomp_peers.md``:

    .venv/bin/python benchmarks/_vnncomp_peers.py --root DIR

Nothing is assumed in our favour: where alpha,beta-CROWN was not run on this machine, what its official GPU
run decided counts as decided (likewise where it failed for want of something here), except where that run
took longer than the limit here; those are listed apart.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from _common import RESULTS, described
from _vnncomp_instances import Instance, Key, read
from _vnncomp_summary import Result, Row, is_wrong, results
from _vnncomp_tools import FAILED, OURS, SURE

ABC = "alpha-beta-crown"
LIMIT = 60.0
# networks with up to 30 inputs, where we ask 10 times of ourselves; 4 times elsewhere
SMALL = ("acasxu", "linearizenn", "lsnc", "rl_benchmarks", "safenlp", "tllverifybench")
# runs of both sides on what we left open at 20 s, and side by side
OPEN, BESIDE, OTHERS = "vnncomp_peers_open*", "vnncomp_peers_beside*", "vnncomp_peers_others*"
_TYPES = {"repeat": int, "timeout": float, "wall": float, "cpu": float}


@dataclass(frozen=True)
class Run:
    """Rows of all runs whose names match, with what was recorded about each session."""

    rows: list[Row]
    sessions: list[str]


def load(folder: Path, pattern: str) -> Run:
    """Rows and sessions of the runs ``pattern``; of two rows about the same, the later name's counts.

    So ``NAME_again`` replaces rows of ``NAME``; both stay on disk.
    """
    rows: dict[tuple[str, Key, int], Row] = {}
    sessions: list[str] = []
    for path in sorted(folder.glob(f"{pattern}.csv")):
        with path.open(newline="", encoding="utf-8") as file:
            rows |= {(r.tool, r.key, r.repeat): r for r in map(_row, csv.DictReader(file))}
        record = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        sessions += [f"{path.stem}: {described(s)}" for s in record["sessions"]]
    return Run(list(rows.values()), sessions)


def _row(cells: dict[str, str]) -> Row:
    return Row(**{k: _TYPES.get(k, str)(v) for k, v in cells.items()})  # type: ignore[arg-type]


def decided_in_families(folder: Path) -> set[Key]:
    """What ``families.json`` says that ours decided, rightly as far as that is known."""
    found: set[Key] = set()
    for o in json.loads((folder / "families.json").read_text(encoding="utf-8"))["outcomes"]:
        if o["verdict"] in SURE and (o["expected"] not in SURE or o["expected"] == o["verdict"]):
            found.add((o["family"], o["onnx"], o["vnnlib"]))
    return found


def _solved(found: dict[Key, Result]) -> set[Key]:
    return {key for key, result in found.items() if result.solved}


def count_table(instances: Sequence[Instance], folder: Path) -> str:
    """Instances decided per family: ours against the most that alpha,beta-CROWN can have decided here."""
    runs = [load(folder, pattern) for pattern in (OPEN, BESIDE)]
    found = results([r for run in runs for r in run.rows], instances)
    ours20 = decided_in_families(folder)
    ours_ran = found.get(OURS.name, {})
    abc_ran = {k: r for k, r in found.get(ABC, {}).items() if r.verdict not in FAILED}
    ours = ours20 | _solved(ours_ran)
    lines: list[str] = []
    held = families = 0
    for family in dict.fromkeys(i.family for i in instances):
        group = [i for i in instances if i.family == family]
        keys = {i.key for i in group}
        official = {i.key for i in group if i.official is not None}
        slow = {
            i.key for i in group if i.official is not None and i.official > LIMIT and i.key not in abc_ran
        } - ours
        ran = abc_ran.keys() & keys
        most = len((_solved(abc_ran) & keys) | (official - ran - slow))
        mine = len(ours & keys)
        families += 1
        held += mine >= most
        verdict = "yes" if mine >= most + len(slow) else "yes, if" if mine >= most else "**no**"
        lines.append(
            f"| {family} | {len(group)} | {len(ours20 & keys)} | {mine} | {len(official)} "
            f"| {len(_solved(abc_ran) & keys)} of {len(ran)} | {most} | {len(slow) or '-'} | {verdict} |"
        )
    head = (
        "| family | instances | ours, 20 s | ours, 20 s or 60 s | abC, GPU | abC here, 60 s, of those run "
        "| abC here at most | open, GPU took over 60 s, not run | ours at least as many |\n"
        f"|---|{'---:|' * 7}---|\n"
    )
    return f"{head}{chr(10).join(lines)}\n\nOurs decides at least as many in {held} of {families} families.\n"


def _median(values: Iterable[float]) -> float:
    found = list(values)
    return statistics.median(found) if found else math.nan


def pair_table(instances: Sequence[Instance], rows: Sequence[Row], peer: str) -> str:
    """Ours and one peer on the same instances in the same run."""
    found = results(rows, instances)
    theirs = found.get(peer, {})
    ours = {k: r for k, r in found.get(OURS.name, {}).items() if k in theirs}
    lines: list[str] = []
    for family in [*dict.fromkeys(i.family for i in instances), "**all**"]:
        keys = [k for k in ours if family in (k[0], "**all**")]
        if not keys:
            continue
        both = [k for k in keys if ours[k].solved and theirs[k].solved]
        mine, other = (_median(side[k].wall for k in both) for side in (ours, theirs))
        cpu = _median(theirs[k].cpu for k in both) / _median(ours[k].cpu for k in both) if both else math.nan
        asked = 2 if peer != ABC else 10 if family in SMALL else 4
        ratio = other / mine if both else math.nan
        mark = "-" if not both or family == "**all**" else "yes" if ratio >= asked else "**no**"
        counts = f"{sum(ours[k].solved for k in keys)} | {sum(theirs[k].solved for k in keys)}"
        times = f"{mine:.2f} | {other:.2f} | {ratio:.1f} | {cpu:.1f}" if both else "- | - | - | -"
        want = "-" if family == "**all**" else f"{asked}"
        lines.append(f"| {family} | {len(keys)} | {counts} | {len(both)} | {times} | {want} | {mark} |")
    head = (
        f"| family | instances | ours decides | {peer} decides | both | ours, median s | {peer}, median s "
        f"| ratio | ratio of CPU s | asked | reached |\n|---|{'---:|' * 9}---|\n"
    )
    return head + "\n".join(lines) + "\n"


def wrong_lines(instances: Sequence[Instance], rows: Iterable[Row]) -> list[str]:
    """A line for every answer that contradicts what is known."""
    known = {i.key: i.expected for i in instances}
    return [
        f"- {r.tool}: {' '.join(r.key)}: said {r.answered}, expected {known[r.key]}"
        for r in rows
        if r.key in known and is_wrong(r, known[r.key])
    ]


def report(root: Path, folder: Path, preface: str) -> str:
    """The whole page."""
    instances = read(root, [], None, math.inf)
    every = [load(folder, pattern) for pattern in (OPEN, BESIDE, OTHERS)]
    text = [preface, "## Instances decided\n", count_table(instances, folder)]
    text += ["## Time beside alpha,beta-CROWN\n", pair_table(instances, every[1].rows, ABC)]
    for peer in sorted({r.tool for r in every[2].rows} - {OURS.name}):
        text += [f"## Time beside {peer}\n", pair_table(instances, every[2].rows, peer)]
    wrong = wrong_lines(instances, [r for run in every for r in run.rows])
    text += ["## Wrong answers\n", "\n".join(wrong) if wrong else "None, of any tool.", ""]
    text += ["## Sessions\n", "\n".join(f"- {line}" for run in every for line in run.sessions)]
    return "\n".join(text) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", type=Path, required=True, help="folder of the families")
    parser.add_argument("--folder", type=Path, default=RESULTS)
    args = parser.parse_args()
    preface = (args.folder / "vnncomp_peers_how.md").read_text(encoding="utf-8")
    target = args.folder / "vnncomp_peers.md"
    target.write_text(report(args.root, args.folder, preface), encoding="utf-8")
    print(f"written to {target}")


if __name__ == "__main__":
    main()
