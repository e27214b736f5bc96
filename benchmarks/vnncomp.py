"""Competition instances with their own time limits: ``verify`` and other verifiers in turns.

ROOT holds one folder per family with an ``instances.csv`` (onnx,vnnlib,timeout; paths relative to the
family). Each instance runs in one process per tool, one at a time on the same cores, the tools in a
rotating order; what runs over its limit is killed with its process group (after ``--grace`` seconds; an
answer after the limit does not count). Crashes, time-outs and lack of memory are rows of the result.
``--expected`` (default ROOT/expected.csv) has known verdicts and alpha,beta-CROWN's official times on a
GPU; all times are those of whole processes.

A peer is a preset (vibecheck-nn, maraboupy, neuralsat, alpha-beta-crown, nnenum; see ``--list-peers``) or a
template NAME='cmd {onnx} {vnnlib} {timeout}'. Rows are on disk as soon as they are made: Ctrl-C prints the
table of what there is, and ``--resume`` goes on. The exit status is 1 after a wrong verdict of ``verify``.

    ./scripts/bench vnncomp --root DIR [--family acasxu safenlp] [--instances LIST.csv] [--official]
        [--per-family 5 | --sample 50] [--timeout-cap 60] [--repeat 3]
        [--peer vibecheck-nn] [--peer other='/opt/other/run {onnx} {vnnlib} {timeout} {out}']
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from _common import RESULTS, described, provenance
from _vnncomp_instances import Instance, listed, read, sample, unpacked
from _vnncomp_journal import Journal
from _vnncomp_process import Ran, run_limited
from _vnncomp_summary import Row, as_record, disagreements, is_wrong, results, summary, table
from _vnncomp_tools import OURS, PRESETS, SURE, Tool, tool

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class Conditions:
    """What is the same for every run: see the options of the same names."""

    root: Path
    seed: int
    grace: float
    threads: int
    memory: int | None
    unpacked: Path


def run(one: Tool, instance: Instance, repeat: int, with_: Conditions) -> Row:
    """One tool on one instance, in a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="vnncomp-") as folder:
        out = Path(folder) / "result"
        base = with_.root / instance.family
        try:
            onnx, vnnlib = (
                unpacked(base / name, with_.unpacked) for name in (instance.onnx, instance.vnnlib)
            )
        except (OSError, EOFError) as e:
            return _row(one, instance, repeat, None, ("error", f"cannot read the instance: {e}"))
        values = {
            "onnx": str(onnx),
            "vnnlib": str(vnnlib),
            "timeout": f"{instance.timeout:g}",
            "family": instance.family,
            "out": str(out),
            "seed": str(with_.seed),
        }
        env = {**os.environ, **dict.fromkeys(_THREADS, str(with_.threads))}
        limit = instance.timeout + with_.grace
        ran = run_limited(one.command(values, env), limit, Path(folder), env, with_.memory)
        return _row(one, instance, repeat, ran, one.verdict(ran, out))


def _row(one: Tool, instance: Instance, repeat: int, ran: Ran | None, said: tuple[str, str]) -> Row:
    answered, note = said
    ran = ran or Ran(None, "", "", 0.0, 0.0, killed=False)
    verdict = answered
    if answered in SURE and ran.wall > instance.timeout:
        verdict, note = "timed-out", "answered after the limit"
    which = (one.name, *instance.key, repeat, instance.timeout)
    code = "none" if ran.code is None else str(ran.code)
    times = (round(ran.wall, 3), round(ran.cpu, 3))
    return Row(*which, verdict, answered, *times, code, " ".join(note.split()))


def turns(
    instances: Sequence[Instance], tools: Sequence[Tool], repeats: int
) -> list[tuple[Tool, Instance, int]]:
    """Everything to be run, in order; each instance starts with another tool than the one before."""
    found: list[tuple[Tool, Instance, int]] = []
    for repeat in range(repeats):
        for place, instance in enumerate(instances):
            shift = (place + repeat) % len(tools)
            found += [(one, instance, repeat) for one in (*tools[shift:], *tools[:shift])]
    return found


def chosen(args: argparse.Namespace) -> list[Instance]:
    """The instances the options ask for."""
    cap = float("inf") if args.timeout_cap is None else args.timeout_cap
    found = read(args.root, args.family, args.expected, cap)
    if args.instances is not None:
        found = listed(found, args.instances)
    if args.official:
        found = [i for i in found if i.official is not None]
    if args.per_family is not None:
        seen: dict[str, int] = {}
        kept: list[Instance] = []
        for instance in found:
            seen[instance.family] = seen.get(instance.family, 0) + 1
            if seen[instance.family] <= args.per_family:
                kept.append(instance)
        found = kept
    return found if args.sample is None else sample(found, args.sample, args.seed)


def report(journal: Journal[Row], instances: Sequence[Instance]) -> str:
    """The table and what stands below it."""
    text = [table(summary(journal.rows, instances))]
    if wrong := disagreements(journal.rows, instances):
        text += ["Contradictions:\n", *(f"- {line}" for line in wrong), ""]
    notes = (
        "Whole processes. PAR-2: mean seconds, twice the limit where nothing right was said in time. Ratios: "
        "the tool's median over ours on the instances both solve. Official: alpha,beta-CROWN on a GPU, "
        "solved within the limit used here; faster: of the instances both solve."
    )
    return "\n".join([*text, notes, "", *(described(s) for s in journal.sessions)]) + "\n"


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", type=Path, help="folder of the families")
    parser.add_argument("--family", nargs="*", default=[])
    parser.add_argument(
        "--instances", type=Path, help="CSV file with family,onnx,vnnlib: only these, e.g. an earlier result"
    )
    parser.add_argument("--official", action="store_true", help="only what the official GPU run decided")
    parser.add_argument("--per-family", type=_count, help="the first so many of each family's list")
    parser.add_argument("--sample", type=_count, help="so many in all, spread over families and verdicts")
    parser.add_argument("--timeout-cap", type=_seconds, help="greatest limit, seconds")
    parser.add_argument("--grace", type=_seconds, default=5.0, help="seconds over the limit before the kill")
    parser.add_argument("--expected", type=Path, help="known verdicts; default ROOT/expected.csv")
    parser.add_argument("--peer", action="append", default=[], metavar="PRESET|NAME[:PARSER]=COMMAND")
    parser.add_argument("--only-peers", action="store_true", help="leave out our own verify")
    parser.add_argument("--list-peers", action="store_true", help="print the presets and stop")
    parser.add_argument("--repeat", type=_count, default=1)
    parser.add_argument("--threads", type=_count, default=_cores(), help="of BLAS and OpenMP, for every tool")
    parser.add_argument("--memory", type=float, help="GiB of address space a process may take")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--out", default="vnncomp", help="results go to benchmarks/results/NAME.{csv,json,md}"
    )
    parser.add_argument("--resume", action="store_true", help="go on with the run of that name")
    parser.add_argument("--fresh", action="store_true", help="replace an unfinished run of that name")
    return parser.parse_args(argv)


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("give a whole number above 0")
    return value


def _seconds(text: str) -> float:
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError("give seconds above 0")
    return value


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _terminated(*_: object) -> None:
    raise KeyboardInterrupt


def run_all(journal: Journal[Row], todo: Sequence[tuple[Tool, Instance, int]], with_: Conditions) -> bool:
    """Runs what the journal does not have yet; returns whether it came to the end."""
    done = {(r.tool, r.key, r.repeat) for r in journal.rows}
    left = [(one, i, repeat) for one, i, repeat in todo if (one.name, i.key, repeat) not in done]
    try:
        for number, (one, instance, repeat) in enumerate(left, 1):
            row = run(one, instance, repeat, with_)
            journal.add(row)
            mark = "WRONG" if is_wrong(row, instance.expected) else row.note
            place = f"{one.name:12} {' '.join(instance.key)}"
            times = f"{row.wall:8.2f} s{row.cpu:8.2f} CPU s"
            print(f"{number}/{len(left)} {row.verdict:13}{times}  {place}  {mark}", flush=True)
    except KeyboardInterrupt:
        print(f"\ninterrupted; {len(journal.rows)} rows are kept, --resume goes on", file=sys.stderr)
        return False
    return True


def main(argv: list[str] | None = None, folder: Path = RESULTS) -> int:
    args = parse(argv)
    if args.list_peers:
        for preset in PRESETS.values():
            print(f"{preset.name}\n    {preset.template}\n    needs: {dict(preset.defaults)}")
        return 0
    try:
        if args.root is None:
            raise ValueError("give --root")
        tools = [*([] if args.only_peers else [OURS]), *(tool(text) for text in args.peer)]
        if not tools or len({t.name for t in tools}) < len(tools):
            raise ValueError("give every tool a name of its own, and at least one")
        instances = chosen(args)
        settings = {
            "timeout_cap": args.timeout_cap,
            "grace": args.grace,
            "threads": args.threads,
            "cores": _cores(),
            "memory": args.memory,
            "seed": args.seed,
            "repeat": args.repeat,
            "tools": {t.name: t.template for t in tools},
            "instances": [" ".join(i.key) for i in instances],
        }
        made = provenance(threads=args.threads, seed=args.seed, cap=args.timeout_cap, repeat=args.repeat)
        journal = Journal(folder, args.out, Row, made, settings)
        journal.open(resume=args.resume, fresh=args.fresh)
    except ValueError as e:
        print(f"error: {e}", file=sys.stderr)
        return 2
    before = signal.signal(signal.SIGTERM, _terminated)
    with tempfile.TemporaryDirectory(prefix="vnncomp-unpacked-") as cache:
        memory = None if args.memory is None else int(args.memory * 2**30)
        with_ = Conditions(args.root, args.seed, args.grace, args.threads, memory, Path(cache))
        complete = run_all(journal, turns(instances, tools, args.repeat), with_)
    signal.signal(signal.SIGTERM, before)
    journal.write({"lines": as_record(summary(journal.rows, instances))}, finished=complete)
    text = report(journal, instances)
    (folder / f"{args.out}.md").write_text(text, encoding="utf-8")
    print(f"\n{text}\nwritten to {journal.csv}")
    if any(r.wrong for r in results(journal.rows, instances).get(OURS.name, {}).values()):
        return 1
    return 0 if complete else 130


if __name__ == "__main__":
    sys.exit(main())
