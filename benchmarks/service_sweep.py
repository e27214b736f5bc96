"""Certified accuracy on 1,000 digit images: one sweep of the service, one process each, one by one when warm.

The same question each time: is the network right everywhere in a ball of the infinity norm around the image?

- *service*: a ``verify serve`` process that is up; seconds from the submission of a ``sweep`` to its final
  state, on the client, with network and images uploaded before (their upload is told apart). Its child is
  warm, but has not seen the network.
- *one by one*: ``verifier.api.verify`` in a loop in this process, the network loaded once.
- *one process each*: the command ``verify`` on a network and a property file, for some of the images.

Verdicts of the first two are compared image by image. Runs of the three take turns, so that other work on the
machine meets them alike.

    python benchmarks/service_sweep.py --images 1000 --radius 0.02
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from _common import ENVIRONMENT, ROOT, VERIFY, described, provenance, write
from service_load import call, served

sys.path.insert(0, str(ROOT / "examples"))
import digits  # type: ignore[import-not-found]

from bounds.io.onnx import load
from service.client import Client
from verifier.api import verify
from verifier.query import Options
from verifier.spec.model import Property
from verifier.spec.region import around
from verifier.spec.robustness import local_robustness
from verifier.spec.serial import to_json
from verifier.verdict import Status

WORDS = {Status.UNSAT: "certified", Status.SAT: "broken"}  # as a sweep says it


def question(point: np.ndarray, label: int, radius: str) -> Property:
    """Exactly what a sweep asks of a sample."""
    region = around([float(v) for v in point], Fraction(radius))
    return local_robustness(region, label=int(label), outputs=10)


def sweep(client: Client, url: str, data: Path, model: Path, radius: str) -> dict[str, Any]:
    """One job."""
    begun = time.monotonic()
    network, images = client.upload(model), client.upload(data, folder="files")
    uploaded = time.monotonic()
    asked = {
        "kind": "sweep", "model": network, "data": images, "radii": [radius], "norm": "inf",
        "timeout_s": 600, "fresh": True,
    }  # fmt: skip
    job = client.wait(client.submit(asked).id)
    seconds = time.monotonic() - uploaded
    report = call(url, "GET", f"/v1/jobs/{job.id}/artifacts/report.json")
    return {
        "state": job.state, "seconds": seconds, "upload_seconds": uploaded - begun,
        "child_cpu_seconds": job.document["cpu_seconds"], "phases": report["phases"],
        "verdicts": [r["radii"][0] for r in report["results"]], "row": report["radii"][0],
    }  # fmt: skip


def one_by_one(model: Path, x: np.ndarray, y: np.ndarray, radius: str) -> dict[str, Any]:
    """In this process, warm."""
    loaded = load(model)
    verify(loaded, question(x[0], y[0], radius), options=Options(timeout=10))  # everything is imported
    begun, cpu = time.monotonic(), time.process_time()
    options = Options(timeout=10)
    found = [verify(loaded, question(p, k, radius), options=options) for p, k in zip(x, y, strict=True)]
    seconds, used = time.monotonic() - begun, time.process_time() - cpu
    verdicts = [WORDS.get(r.status, "open") for r in found]
    return {"seconds": seconds, "cpu_seconds": used, "verdicts": verdicts}


def one_process_each(model: Path, x: np.ndarray, y: np.ndarray, radius: str) -> dict[str, Any]:
    """The command."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "p.json"
        begun, before = time.monotonic(), os.times()
        for point, label in zip(x, y, strict=True):
            file.write_text(to_json(question(point, label, radius)))
            command = [str(VERIFY), str(model), str(file), "--timeout", "10"]
            subprocess.run(command, check=False, capture_output=True, env=ENVIRONMENT)
        after = os.times()
        cpu = after.children_user + after.children_system - before.children_user - before.children_system
        return {"seconds": time.monotonic() - begun, "cpu_seconds": cpu, "images": len(x)}


def main() -> int:
    """Takes turns, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=ROOT / "examples" / "models" / "digits_cnn.onnx")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--processes", type=int, default=10, help="Images that get a process each, per turn.")
    parser.add_argument("--radius", default="0.02")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="Do not write results.")
    given = parser.parse_args()
    train, train_labels, test, test_labels = digits.load()
    x = np.concatenate([test, train])[: given.images]
    y = np.concatenate([test_labels, train_labels])[: given.images]
    turns: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        data = Path(name) / "images.npz"
        np.savez(data, x=x, y=y)
        (Path(name) / "served").mkdir()
        with served(Path(name) / "served", 1) as (url, _):
            client = Client(url)
            for turn in range(given.turns):
                print("turn", turn, flush=True)
                turns.append({
                    "service": sweep(client, url, data, given.model, given.radius),
                    "one_by_one": one_by_one(given.model, x, y, given.radius),
                    "one_process_each": one_process_each(
                        given.model, x[: given.processes], y[: given.processes], given.radius
                    ),
                })  # fmt: skip
    record = provenance(
        model=given.model.name, images=len(x), radius=given.radius, turns=given.turns, seed=0
    ) | summary(turns, len(x))
    print(json.dumps(record["ratios"], indent=1), "differing verdicts:", record["differing"])
    if not given.quick:
        write("service_sweep", record, table(record))
    return int(bool(record["differing"]))


def summary(turns: list[dict[str, Any]], images: int) -> dict[str, Any]:
    """Images a second, ratios turn by turn, and images on which two ways disagree."""
    ratios: dict[str, list[float]] = {"to_one_process_each": [], "to_one_by_one": []}
    differing: list[Any] = []
    for turn in turns:
        pairs = zip(turn["service"].pop("verdicts"), turn["one_by_one"].pop("verdicts"), strict=True)
        differing += [(i, a, b) for i, (a, b) in enumerate(pairs) if a != b]
        for way in turn.values():
            way["per_second"] = way.get("images", images) / way["seconds"]
        mine = turn["service"]["per_second"]
        ratios["to_one_process_each"].append(round(mine / turn["one_process_each"]["per_second"], 1))
        ratios["to_one_by_one"].append(round(mine / turn["one_by_one"]["per_second"], 2))
    return {"turns": turns, "ratios": ratios, "differing": differing, "load": os.getloadavg()[0]}


def table(record: dict[str, Any]) -> str:
    """For people."""
    lines = ["# Certified accuracy of digits: the service, one by one, one process each", ""]
    lines += ["| turn | way | images per second | seconds | processor seconds |", "|---|---|---:|---:|---:|"]
    for number, turn in enumerate(record["turns"]):
        for name, way in turn.items():
            cpu = way.get("cpu_seconds", way.get("child_cpu_seconds"))
            lines.append(
                f"| {number} | {name} | {way['per_second']:.1f} | {way['seconds']:.2f} | {cpu:.2f} |"
            )
    row = record["turns"][0]["service"]["row"]
    lines += [
        "",
        f"Throughput of the service to one process each: {record['ratios']['to_one_process_each']} times;",
    ]
    lines += [f"to one by one in a warm process: {record['ratios']['to_one_by_one']} times (turn by turn)."]
    lines += [f"Verdicts that differ: {len(record['differing'])}. Sweep: {row}.", ""]
    return "\n".join([*lines, f"{described(record)}; load {record['load']:.1f}", ""])


if __name__ == "__main__":
    sys.exit(main())
