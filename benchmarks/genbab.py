"""Branching on smooth networks: how many queries do variants of the engine decide within a limit each?

Trains (once; files are kept outside the repository) perceptrons of 4x100, 4x200 and 6x100 neurons with
sigmoid, tanh, sine and GELU, an LSTM and a vision transformer, on MNIST and CIFAR-10 from ``--data``
(``mnist.npz``, ``cifar10*.npz``), or on scikit-learn's digits without it. Per network, images and one
radius are chosen so that the root's bounds prove 20 to 40 % of the queries. Every variant of VARIANTS then
runs on every query, in a child process of its own that is killed when its time is up; variants take turns.
``--prepare`` stops before that.

    ./scripts/bench genbab [--data DIR] [--network mnist_sigmoid_4x100 ...] [--variant full "no split"]
        [--images 20] [--timeout 60] [--out NAME] [--resume]

The exit status is 1 when variants contradict one another.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from _common import ENVIRONMENT, RESULTS, described, provenance
from _vnncomp_journal import Journal
from _vnncomp_process import Ran, run_limited

from bounds.methods import operand_choice
from bounds.relax.relu import ReluRelaxation
from verifier import Options, Report, verify
from verifier.search import operand_search

SURE = ("unsat", "sat")
_GRACE = 10.0  # seconds a child has beyond its limit, for start-up and for stopping by itself

Variant = Callable[[Path, Path, float], Report]


def full(onnx: Path, vnnlib: Path, timeout: float) -> Report:
    """The product."""
    return verify(onnx, vnnlib, options=Options(timeout=timeout))


def no_split(onnx: Path, vnnlib: Path, timeout: float) -> Report:
    """The root alone."""
    return verify(onnx, vnnlib, options=Options(timeout=timeout, max_domains=1))


def babsr_like(onnx: Path, vnnlib: Path, timeout: float) -> Report:
    """Splits where the lines' estimated loss is largest: no child is bounded to choose among candidates."""
    tried = operand_search.choose_operands

    def choose(*given: Any) -> Any:
        found, objectives, splits, picks, index, _, most = given
        return tried(found, objectives, splits, picks, index, 1, most)

    operand_search.choose_operands = choose
    return full(onnx, vnnlib, timeout)


def midpoints(onnx: Path, vnnlib: Path, timeout: float) -> Report:
    """Splits every interval in the middle (rectifiers too)."""
    operand_choice._points = lambda _step, lo, hi: ((lo + hi) / 2).astype(np.float32)
    return full(onnx, vnnlib, timeout)


def rectifiers_only(onnx: Path, vnnlib: Path, timeout: float) -> Report:
    """Splits nothing but rectifiers."""
    splittable = operand_choice._splittable

    def only(relaxation: Any, lo: Any, hi: Any) -> Any:
        found = splittable(relaxation, lo, hi)
        return found if isinstance(relaxation, ReluRelaxation) else np.zeros_like(found)

    operand_choice._splittable = only
    return full(onnx, vnnlib, timeout)


# name -> a function that runs in a child; an ablation changes its search here, it is no option of the product
VARIANTS: dict[str, Variant] = {
    "full": full,
    "loss as score": babsr_like,
    "midpoints": midpoints,
    "rectifiers only": rectifiers_only,
    "no split": no_split,
}


@dataclass(frozen=True)
class Row:
    """One variant on one query; ``wall`` and ``cpu`` are seconds of the child, ``domains`` subproblems."""

    network: str
    vnnlib: str
    variant: str
    verdict: str
    wall: float
    cpu: float
    search: float
    domains: int
    root: str
    note: str

    @property
    def decided(self) -> bool:
        return self.verdict in SURE


def child(variant: str, onnx: str, vnnlib: str, timeout: str) -> int:
    """What a child process does: the last line of its output is the answer."""
    report = VARIANTS[variant](Path(onnx), Path(vnnlib), float(timeout))
    answer = {
        "verdict": report.status.value,
        "seconds": report.stats.seconds,
        "domains": report.stats.domains,
        "note": report.reason.value,
    }
    print(json.dumps(answer))
    return 0


def run(network: str, onnx: Path, vnnlib: Path, root: bool, variant: str, timeout: float) -> Row:
    """One child, measured from outside."""
    command = [sys.executable, str(Path(__file__).resolve()), "--child", variant, str(onnx), str(vnnlib)]
    with tempfile.TemporaryDirectory(prefix="genbab-") as folder:
        ran = run_limited([*command, str(timeout)], timeout + _GRACE, Path(folder), ENVIRONMENT)
    verdict, search, domains, note = answer_of(ran, timeout)
    times = (round(ran.wall, 3), round(ran.cpu, 3), round(search, 3))
    where = f"{vnnlib.parent.name}/{vnnlib.name}"
    return Row(network, where, variant, verdict, *times, domains, "proved" if root else "open", note)


def answer_of(ran: Ran, timeout: float) -> tuple[str, float, int, str]:
    """Verdict, seconds, subproblems and remark; a decision after the limit is "timed-out"."""
    if ran.killed:
        return "timed-out", timeout, 0, "killed"
    if ran.out_of_memory:
        return "out-of-memory", 0.0, 0, ran.complaint
    try:
        answer = json.loads(ran.stdout.strip().rpartition("\n")[2])
        verdict, seconds, domains = str(answer["verdict"]), float(answer["seconds"]), int(answer["domains"])
    except (ValueError, KeyError, TypeError):
        return "error", 0.0, 0, ran.complaint
    if ran.code != 0:
        return "error", seconds, domains, ran.complaint
    if verdict in SURE and seconds > timeout:
        return "timed-out", seconds, domains, f"{verdict} after the limit"
    return verdict, seconds, domains, str(answer.get("note", ""))


def contradictions(rows: Sequence[Row]) -> list[str]:
    """Queries that one variant calls sat and another unsat."""
    said: dict[tuple[str, str], set[str]] = {}
    for row in rows:
        if row.decided:
            said.setdefault((row.network, row.vnnlib), set()).add(row.verdict)
    return [f"{network} {vnnlib}" for (network, vnnlib), verdicts in said.items() if len(verdicts) > 1]


def table(rows: Sequence[Row], timeout: float) -> str:
    """Markdown: per network and variant what was decided and how long it took; then all networks."""
    variants = list(dict.fromkeys(r.variant for r in rows))
    names = ["network", "queries", "root"]
    names += [f"{v}: {word}" for v in variants for word in (*SURE, "s")]
    lines = [f"| {' | '.join(names)} |", "|---|" + "---:|" * (len(names) - 1)]
    for network in [*dict.fromkeys(r.network for r in rows), "**all**"]:
        group = [r for r in rows if network in (r.network, "**all**")]
        queries = {(r.network, r.vnnlib): r.root for r in group}
        cells = [network, str(len(queries)), str(sum(v == "proved" for v in queries.values()))]
        for variant in variants:
            mine = [r for r in group if r.variant == variant]
            cells += [str(sum(r.verdict == word for r in mine)) for word in SURE]
            cells.append(f"{mean_seconds(mine, timeout):.2f}" if mine else "-")
        lines.append(f"| {' | '.join(cells)} |")
    bad = [f"{v}: {n}" for v in variants if (n := sum(_failed(r) for r in rows if r.variant == v))]
    note = (
        "root: proved by the bounds of the root when the radius was chosen. s: mean seconds in the engine, "
        f"the limit of {timeout:g} s where undecided. Errors: {', '.join(bad) or 'none'}."
    )
    return "\n".join(lines) + f"\n\n{note}\n"


def mean_seconds(rows: Sequence[Row], timeout: float) -> float:
    """Mean seconds, the limit for what was not decided."""
    return statistics.fmean(r.search if r.decided else timeout for r in rows) if rows else math.nan


def _failed(row: Row) -> bool:
    return row.verdict in ("error", "out-of-memory")


def prepare(args: argparse.Namespace) -> list[tuple[str, Path, Path, bool]]:
    """Trains and chooses what is not there yet; (network, onnx, vnnlib, proved at the root) of all."""
    from _genbab_instances import queries
    from _genbab_networks import default_cache, load_data, recipes, trained

    found: list[tuple[str, Path, Path, bool]] = []
    cache = args.cache or default_cache()
    for data in load_data(args.data):
        folder = cache / f"{data.name}-{data.digest}"
        for recipe in recipes(data.name):
            if args.network and recipe.name not in args.network:
                continue
            made = queries(trained(recipe, data, folder), data, args.images, folder)
            chosen = f"accuracy {made.accuracy:.3f}, radius {made.radius:g}, {len(made.queries)} queries"
            proved = f"{made.root_share:.0%} proved at the root, {made.passed_over} images attacked"
            print(f"{made.network:22} {chosen}, {proved}", flush=True)
            onnx = folder / made.onnx
            found += [(made.network, onnx, folder / q.vnnlib, q.root) for q in made.queries]
    return found


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="folder with mnist.npz, cifar10*.npz; default: digits")
    parser.add_argument("--network", nargs="*", default=[], help="default: all")
    parser.add_argument("--variant", nargs="*", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--images", type=int, default=20, help="queries per network")
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds per query and variant")
    parser.add_argument("--cache", type=Path, help="where networks and queries are kept")
    parser.add_argument("--prepare", action="store_true", help="train and choose queries, then stop")
    parser.add_argument("--out", default="genbab", help="results go to benchmarks/results/NAME.{csv,json,md}")
    parser.add_argument("--resume", action="store_true", help="go on with the run of that name")
    parser.add_argument("--fresh", action="store_true", help="replace an unfinished run of that name")
    return parser.parse_args(argv)


def run_all(
    journal: Journal[Row],
    todo: Sequence[tuple[str, Path, Path, bool]],
    variants: Sequence[str],
    timeout: float,
) -> bool:
    """Runs what the journal does not have yet; returns whether it came to the end."""
    done = {(r.network, r.vnnlib, r.variant) for r in journal.rows}
    try:
        for place, (network, onnx, vnnlib, root) in enumerate(todo):
            shift = place % len(variants)
            for variant in (*variants[shift:], *variants[:shift]):
                if (network, f"{vnnlib.parent.name}/{vnnlib.name}", variant) in done:
                    continue
                row = run(network, onnx, vnnlib, root, variant, timeout)
                journal.add(row)
                numbers = f"{row.verdict:13}{row.wall:8.2f} s{row.domains:9d} domains"
                print(f"{numbers}  {variant:20} {row.vnnlib}  {row.note}", flush=True)
    except KeyboardInterrupt:
        print(f"\ninterrupted; {len(journal.rows)} rows are kept, --resume goes on", file=sys.stderr)
        return False
    return True


def main(argv: list[str] | None = None, folder: Path = RESULTS) -> int:
    arguments = sys.argv[1:] if argv is None else argv
    if arguments[:1] == ["--child"]:
        return child(*arguments[1:])
    args = parse(arguments)
    os.environ.update(ENVIRONMENT)
    todo = prepare(args)
    if args.prepare:
        return 0
    settings = {
        "timeout": args.timeout,
        "images": args.images,
        "variants": args.variant,
        "queries": [f"{vnnlib.parent.name}/{vnnlib.name}" for _, _, vnnlib, _ in todo],
    }
    try:
        made = provenance(timeout=args.timeout, images=args.images)
        journal = Journal(folder, args.out, Row, made, settings)
        journal.open(resume=args.resume, fresh=args.fresh)
    except ValueError as e:
        print(f"error: {e}", file=sys.stderr)
        return 2
    complete = run_all(journal, todo, args.variant, args.timeout)
    wrong = contradictions(journal.rows)
    journal.write({"contradictions": wrong}, finished=complete)
    lines = [table(journal.rows, args.timeout), *(f"CONTRADICTION: {line}\n" for line in wrong)]
    text = "\n".join([*lines, *(described(s) for s in journal.sessions)]) + "\n"
    (folder / f"{args.out}.md").write_text(text, encoding="utf-8")
    print(f"\n{text}\nwritten to {journal.csv}")
    return 1 if wrong else 0 if complete else 130


if __name__ == "__main__":
    sys.exit(main())
