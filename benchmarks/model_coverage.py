"""Imports every network of a folder of competition families, compares it with onnxruntime and bounds it.

ROOT holds one folder per family with ``onnx/`` and an ``instances.csv`` (onnx,vnnlib,timeout; paths relative
to the family), as the VNN-COMP benchmark repositories do. For each network the objectives of the first
property that ``instances.csv`` pairs it with are bounded on that property's (first) input box: with backward
bounds of ambiguous neurons, or, when these do not fit the time, from interval bounds and one backward
pass; where that leaves some objective without a finite bound, from the parts that the search divides the box
into. Each network has a process of its own under a limit of memory and time, so that refusals and crashes
are rows of the table like any other.

    ./scripts/bench model_coverage --root DIR [--family vit lsnc] [--memory 8] [--timeout 300]
"""

from __future__ import annotations

import argparse
import csv
import json
import resource
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from _common import ENVIRONMENT, described, provenance, write

GIB = 1 << 30
REFINE_SHARE = 0.5  # of the time limit, for the bounds that refine every neuron
STAGES = ("import", "compare", "bounds")


@dataclass(frozen=True)
class Row:
    """One network.

    Attributes:
        family, model, property: paths relative to the family; no property if no instance names the model.
        inputs, outputs: flat sizes.
        neurons: kind of relaxed primitive -> number of elements.
        stage: the stage that failed, or "" when all went through.
        error: what it said.
        method: "refined", "intervals" (then one backward pass), or how many parts; "" when nothing was
        bounded.
        rows, finite, refuted: disjuncts of the property's case, those with a finite lower bound of some row,
            and those refuted at the root.
        seconds: of every stage.
        peak_bytes: of the process.
    """

    family: str
    model: str
    property: str
    inputs: int
    outputs: int
    neurons: dict[str, int]
    stage: str
    error: str
    method: str
    rows: int
    finite: int
    refuted: int
    seconds: dict[str, float]
    peak_bytes: int

    @property
    def complete(self) -> bool:
        return not self.stage and self.rows == self.finite


def models(root: Path, families: list[str]) -> Iterator[tuple[str, str, str]]:
    """(family, onnx, first vnnlib or "") of every network."""
    for family in families or sorted(p.parent.name for p in root.glob("*/instances.csv")):
        first: dict[str, str] = {}
        with (root / family / "instances.csv").open(newline="") as file:
            for row in csv.reader(file):
                if row:
                    first.setdefault(row[0].removesuffix(".gz"), row[1])
        for path in sorted((root / family / "onnx").rglob("*.onnx*")):
            name = str(path.relative_to(root / family)).removesuffix(".gz")
            yield family, name, first.get(name, "")


# -- the process of one network ----------------------------------------------------------------------------


def say(**facts: Any) -> None:
    """Facts go out as they are known: what follows may kill the process."""
    print(json.dumps(facts), flush=True)


def timed(stage: str, work: Callable[[], Any]) -> Any:
    """Runs a stage; announces it first."""
    say(stage=stage)
    start = time.monotonic()
    result = work()
    say(seconds={stage: round(time.monotonic() - start, 3)})
    return result


def one(model: Path, prop: Path | None, memory: int, limit: float) -> None:
    """What the child does; prints one JSON object per line."""
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    import numpy as np

    from bounds.errors import SureboundError
    from bounds.io.compare import compare_with_onnxruntime
    from bounds.io.onnx import load

    np.seterr(all="ignore")
    try:
        loaded = timed("import", lambda: load(model))
        graph = loaded.graph
        say(inputs=graph.input_size, outputs=graph.output_size, neurons=neurons(graph))
        timed("compare", lambda: compare_with_onnxruntime(loaded))
        if prop is not None:
            timed("bounds", lambda: bound(loaded, prop, limit))
        say(stage="")
    except MemoryError as error:
        say(error=f"memory refused at {memory / GIB:g} GiB ({error or 'MemoryError'})")
    except SureboundError as error:
        say(error=f"{type(error).__name__}: {error}".replace(str(model), model.name))
    say(peak_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


def neurons(graph: Any) -> dict[str, int]:
    """Elements per kind of node that needs a relaxation."""
    from bounds.graph import Op

    kinds: Counter[str] = Counter()
    for node in graph.nodes:
        if node.op is Op.SCALAR:
            kinds[label(node.params["function"])] += node.size
        elif node.op in (Op.RELU, Op.MUL):
            kinds[node.op.name.lower()] += node.size
    return dict(kinds.most_common())


def label(expression: Any) -> str:
    """The functions that a scalar expression is made of, in alphabetical order."""
    found: set[str] = set()
    queue = [expression]
    while queue:
        e = queue.pop()
        if e.args:
            found.add(e.fn.name.lower())
            queue.extend(e.args)
    return "+".join(sorted(found)) or "identity"


def bound(loaded: Any, path: Path, limit: float) -> None:
    """Bounds the objectives of a property's first case at its box."""
    import numpy as np

    from bounds.methods.bounder import BounderOptions, BoxBounder, Effort
    from bounds.methods.rule import Stopped
    from bounds.numerics import FLOAT32
    from verifier.problem import float64_box, make_problem
    from verifier.search.objectives import objectives_of
    from verifier.spec.load import load as load_property
    from verifier.verdict import Semantics

    prop = load_property(path)
    case = next((c for c in prop.cases if not c.empty and c.disjuncts and all(c.disjuncts)), None)
    if case is None:
        say(method="nothing to bound")
        return
    names = [n.name for n in prop.networks]
    problem = make_problem(prop, dict.fromkeys(names, loaded), Semantics.REAL)
    objectives = objectives_of(case, problem.graph.input_size, problem.graph.output_size)
    lo, hi = (np.asarray(v)[None] for v in float64_box(case.lower, case.upper))
    varying = sum(low != high for low, high in zip(case.lower, case.upper, strict=True))
    bounder = BoxBounder(problem.graph, objectives, FLOAT32, BounderOptions(varying=varying))
    wanted = np.ones((1, objectives.groups), dtype=bool)
    end = time.monotonic() + REFINE_SHARE * limit
    for method, refine in (("refined", True), ("intervals", False)):
        try:
            found = bounder.bound(
                lo,
                hi,
                wanted,
                (lambda: time.monotonic() > end) if refine else None,
                Effort(refine=refine, iterations=0),
            )
        except Stopped:
            continue
        finite = int(np.isfinite(found.lower).sum())
        say(method=method, rows=objectives.groups, finite=finite, refuted=int(found.refuted.sum()))
        if finite < objectives.groups:
            by_parts(loaded, path, objectives.groups, end + REFINE_SHARE * limit - time.monotonic())
        return


def by_parts(loaded: Any, path: Path, groups: int, seconds: float) -> None:
    """What has no finite bound on the whole box may have one on each of the parts the search makes of it."""
    from verifier import Options, verify
    from verifier.verdict import Status

    report = verify(loaded.path, path, options=Options(timeout=max(seconds, 1.0)))
    if report.status is Status.UNSAT:  # every part was bounded, and above zero
        say(method=f"{report.stats.leaves} parts", finite=groups, refuted=groups)


# -- the parent --------------------------------------------------------------------------------------------


def run(root: Path, family: str, model: str, prop: str, *, memory: int, limit: float) -> Row:
    """One process; whatever ends it becomes part of the row."""
    folder = root / family
    path = folder / model if (folder / model).exists() else folder / f"{model}.gz"
    command = [
        sys.executable,
        __file__,
        "--one",
        str(path),
        "--memory",
        str(memory / GIB),
        "--timeout",
        str(limit),
    ]
    command += ["--property", str(folder / prop)] if prop else []
    facts: dict[str, Any] = {"seconds": {}, "neurons": {}, "stage": "start", "error": "", "method": ""}
    facts |= dict.fromkeys(("inputs", "outputs", "rows", "finite", "refuted", "peak_bytes"), 0)
    with subprocess.Popen(
        command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        try:
            out, err = child.communicate(timeout=limit)
            late = False
        except subprocess.TimeoutExpired:
            child.kill()
            out, err = child.communicate()
            late = True
    for line in out.splitlines():
        fact = json.loads(line)
        facts["seconds"] |= fact.pop("seconds", {})
        facts |= fact
    if late:
        facts["error"] = f"no result within {limit:g} s"
    elif child.returncode < 0:
        facts["error"] = f"ended by {signal.Signals(-child.returncode).name}"
    elif child.returncode > 0:
        facts["error"] = f"defect: {(err.strip().splitlines() or ['no output'])[-1]}"[:300]
    return Row(family, model, prop, **facts)


def table(rows: list[Row]) -> str:
    """Markdown: a summary per family, then one row per network, then what the failures said."""
    names = ("family", "networks", "imported", "agree", "bounded", "all finite", "largest GiB", "slowest s")
    lines = [f"| {' | '.join(names)} |", "|---|" + "---:|" * (len(names) - 1)]
    for family in [*dict.fromkeys(r.family for r in rows), "**all**"]:
        group = [r for r in rows if family in (r.family, "**all**")]
        reached = [sum(stage in r.seconds for r in group) for stage in STAGES]
        cells = (family, len(group), *reached, sum(r.complete for r in group))
        peak = max(r.peak_bytes for r in group) / GIB
        slow = max(sum(r.seconds.values()) for r in group)
        lines.append(f"| {' | '.join(map(str, cells))} | {peak:.2f} | {slow:.1f} |")
    names = ("network", "inputs", "outputs", "relaxed elements", "bounds", "finite", "refuted", "s", "GiB")
    lines += ["", f"| {' | '.join(names)} |", "|---|---:|---:|---|---|---:|---:|---:|---:|"]
    for r in rows:
        kinds = ", ".join(f"{k} {n}" for k, n in r.neurons.items()) or "none"
        what = f"{r.stage}: failed" if r.stage else r.method or "no property"
        cells = (f"{r.family}/{Path(r.model).stem}", r.inputs, r.outputs, kinds, what, f"{r.finite}/{r.rows}")
        seconds = sum(r.seconds.values())
        lines.append(
            f"| {' | '.join(map(str, cells))} | {r.refuted} | {seconds:.1f} | {r.peak_bytes / GIB:.2f} |"
        )
    failures = [f"- {r.family}/{Path(r.model).stem}, {r.stage}: {r.error}" for r in rows if r.error]
    return "\n".join([*lines, *(["", "Failures:", "", *failures] if failures else []), ""])


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", type=Path)
    parser.add_argument("--family", nargs="*", default=[])
    parser.add_argument("--memory", type=float, default=8.0, help="GiB of address space per network")
    parser.add_argument("--timeout", type=float, default=300.0, help="seconds per network")
    parser.add_argument(
        "--name", default="model_coverage", help="results go to benchmarks/results/NAME.{json,md}"
    )
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--property", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.one is None and args.root is None:
        parser.error("--root is missing: the folder with one subfolder per family")
    return args


def main() -> int:
    args = parse()
    memory = int(args.memory * GIB)
    if args.one is not None:
        one(args.one, args.property, memory, args.timeout)
        return 0
    record = provenance(memory_gib=args.memory, timeout=args.timeout)
    rows: list[Row] = []
    for family, model, prop in models(args.root, args.family):
        row = run(args.root, family, model, prop, memory=memory, limit=args.timeout)
        rows.append(row)
        state = f"{row.method} {row.finite}/{row.rows}" if not row.stage else f"{row.stage}: {row.error}"
        print(f"{sum(row.seconds.values()):8.2f} s  {family} {model}  {state}", flush=True)
    text = f"{table(rows)}\n{described(record)}\n"
    path = write(args.name, record | {"networks": [asdict(r) for r in rows]}, text)
    print(f"\n{text}\nwritten to {path}")
    return 0 if all(r.complete or not r.property for r in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
