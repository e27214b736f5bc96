"""Distributed branch and bound: one hard question on one worker process, and on two.

``python benchmarks/service_shards.py`` prints the ratio of the two times (``--out``: also as JSON). Each
worker is a process of its own with one slot; all wait, warm, before the question comes. The one worker
searches alone (``shards: 0``). The certificate of the two is checked by the independent checker.

The last figure is how long other shards go on after a counterexample has been found in one of them (which is
reported here, in the name of a third worker).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from verifier.check.main import check
from workers import cubes
from workers.jobs.artifacts import Artifacts
from workers.jobs.model import Answer, Job, Outcome, State
from workers.jobs.sql import SqlStore, open_store

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from job_models import box_property, hard, request, upload

INPUTS, WIDTH, SEED = 8, 100, 1
WORKER = """
import sys, threading
from workers.jobs.artifacts import Artifacts
from workers.jobs.sql import open_store
from workers.local import Supervisor
supervisor = Supervisor(open_store(sys.argv[1]), Artifacts(sys.argv[2]), slots=1)
supervisor.start()
threading.Event().wait()
"""


@contextmanager
def workers(count: int, folder: Path) -> Generator[None]:
    """Worker processes, killed at the end."""
    environment = os.environ | dict.fromkeys(
        ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"
    )
    command = [sys.executable, "-P", "-c", WORKER, str(folder / "jobs.db"), str(folder / "files")]
    running = [subprocess.Popen(command, env=environment) for _ in range(count)]
    try:
        yield
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.kill()
            process.wait()


def ended(store: SqlStore, job: str) -> Job:
    """The job, when it is final."""
    while not (found := store.get(job, None)).state.final:
        time.sleep(0.02)
    return found


def measure(
    count: int, bound: float, options: dict[str, Any], *, folder: Path, checked: bool
) -> dict[str, Any]:
    """One question to so many worker processes."""
    store, artifacts = open_store(str(folder / "jobs.db")), Artifacts(folder / "files")
    net, text = hard(INPUTS, WIDTH, seed=SEED), box_property(INPUTS, bound)
    model = upload(store, artifacts, net)
    with workers(count, folder):
        # every worker has a child that has begun once, as in a service that runs
        warm = [store.submit(request(model, box_property(INPUTS, 100.0 + i)))[0].id for i in range(4 * count)]
        for job in warm:
            ended(store, job)
        while len(store.workers(60)) < count:
            time.sleep(0.05)
        load, begun = os.getloadavg()[0], time.monotonic()
        job = store.submit(request(model, text, timeout_s=900, options=options))[0].id
        end = ended(store, job)
        seconds = time.monotonic() - begun
    shards = store.shards(job)
    row: dict[str, Any] = {
        "workers": count, "seconds": seconds, "load": load, "verdict": end.answer, "reason": end.reason,
        "cpu_seconds": end.cpu_seconds + sum(s.cpu_seconds for s in shards), "shards": len(shards),
        "domains": end.result.get("domains"), "by_worker": by_worker(shards),
        "shard_seconds": [round(float(s.result.get("seconds", 0)), 2) for s in shards],
        "until_dealt": min((s.created for s in shards), default=end.finished or 0) - (end.started or 0),
        "joining": end.result.get("phases", {}).get("join"),
    }  # fmt: skip
    made = end.artifact("certificate")
    if made is not None and checked:
        (folder / "net.onnx").write_bytes(net)
        (folder / "p.vnnlib").write_text(text)
        begun = time.monotonic()
        found = check(artifacts.file(made.sha256), {"": folder / "net.onnx"}, folder / "p.vnnlib")
        row |= {"certificate": found.verdict, "certificate_bytes": made.size, "nodes": found.nodes}
        row["check_seconds"] = time.monotonic() - begun
    store.close()
    return row


def by_worker(shards: Sequence[Job]) -> list[float]:
    """Processor seconds of shards, worker by worker."""
    names = sorted({s.worker for s in shards})
    return [round(sum(s.cpu_seconds for s in shards if s.worker == name), 2) for name in names]


def stopping(bound: float, folder: Path) -> dict[str, Any]:
    """Seconds that shards at work go on after a counterexample in another."""
    store, artifacts = open_store(str(folder / "jobs.db")), Artifacts(folder / "files")
    model = upload(store, artifacts, hard(INPUTS, WIDTH, seed=SEED))
    options = {"shards": 2, "split_after_s": 0.5}
    with workers(2, folder):
        job = store.submit(request(model, box_property(INPUTS, bound), timeout_s=900, options=options))[0].id
        while sum(s.state is State.RUNNING for s in store.shards(job)) < 2:
            time.sleep(0.02)
        running = {s.id for s in store.shards(job) if s.state is State.RUNNING}
        last = store.shards(job)[-1]
        claim = store.claim_job(last.id, "third", 60.0)
        if claim is None:
            raise SystemExit("the search was over too soon; take a harder --bound")
        begun = time.monotonic()
        store.finish(claim, Outcome(State.FINISHED, Answer.FALSIFIED))
        cubes.end_siblings(store, last)
        found, after = len(running), list[float]()
        while running:
            time.sleep(0.01)
            done = {s.id for s in store.shards(job) if s.id in running and s.state.final}
            after += [time.monotonic() - begun] * len(done)
            running -= done
        end = ended(store, job)
    store.close()
    return {"verdict": end.answer, "running": found, "stopped_after": after}


def main() -> None:
    """Measures, prints, and writes JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bound", type=float, default=1.3)
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--shards", type=int, help="as asked for; without it, workers find out by themselves")
    parser.add_argument("--no-certificate", action="store_true")
    parser.add_argument(
        "--unchecked", action="store_true", help="without checking certificates, which takes longest"
    )
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    plain = {"certificate": not given.no_certificate}
    asked = plain if given.shards is None else plain | {"shards": given.shards, "split_after_s": 1.0}
    rows: list[dict[str, Any]] = []
    for _ in range(given.repeat):
        for count, options in ((1, plain | {"shards": 0}), (2, asked)):
            with tempfile.TemporaryDirectory(prefix="sb-bench-") as folder:
                checked = count > 1 and not given.unchecked
                rows.append(measure(count, given.bound, options, folder=Path(folder), checked=checked))
            print(json.dumps(rows[-1]), flush=True)
    with tempfile.TemporaryDirectory(prefix="sb-bench-") as folder:
        stopped = stopping(given.bound, Path(folder))
    print(json.dumps(stopped))
    one, two = (statistics.median(r["seconds"] for r in rows if r["workers"] == n) for n in (1, 2))
    document = {
        "machine": platform.machine(), "cores": len(os.sched_getaffinity(0)), "bound": given.bound,
        "network": [INPUTS, WIDTH, WIDTH, 2], "seed": SEED,
        "one": one, "two": two, "ratio": one / two, "rows": rows, "counterexample": stopped,
    }  # fmt: skip
    print(f"one worker {one:.1f} s, two workers {two:.1f} s: {one / two:.2f} times as fast")
    if given.out:
        given.out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
