"""Jobs per second of the embedded supervisor, with and without bounding compatible jobs together.

Robustness questions about digits (or random points without scikit-learn) on an example network, all submitted
before the supervisor starts. Also measured: verifying the same ones one by one in a warm process, and one
process for each (a few of them).

    python benchmarks/service_batching.py --jobs 200 --radius 0.01
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from bounds.io.onnx import load
from bounds.io.session import Session
from verifier.api import verify
from verifier.query import Options
from verifier.spec.region import around
from verifier.spec.robustness import local_robustness
from workers.jobs.artifacts import Artifacts
from workers.jobs.model import Answer, Budget, Kind, Model, NewJob
from workers.jobs.sql import open_store
from workers.local import Habits, Supervisor

ROOT = Path(__file__).resolve().parents[1]


def samples(path: Path, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Points and the classes that the network gives them."""
    size = load(path).graph.input_size
    try:
        from sklearn.datasets import load_digits

        x = (load_digits().data[:count] / 16).astype(np.float32)
    except ImportError:
        x = np.random.default_rng(0).uniform(0, 1, (count, size)).astype(np.float32)
    session = Session(load(path))
    scores = [np.asarray(session.run(row.astype(np.float64))[0]).reshape(-1) for row in x]
    return x, np.array([int(s.argmax()) for s in scores])


def serve(path: Path, x: np.ndarray, y: np.ndarray, radius: str, together: int) -> dict[str, float]:
    """Seconds from the supervisor's start (its child already warm) to the last job's end."""
    with tempfile.TemporaryDirectory(prefix="sb-bench-") as folder:
        store, artifacts = open_store(f"{folder}/jobs.db"), Artifacts(f"{folder}/files")
        digest, size = artifacts.put_bytes(path.read_bytes())
        store.put_model(Model(digest, "local", size, path.name, 0.0))
        supervisor = Supervisor(store, artifacts, slots=1, habits=Habits(together=together))
        supervisor.start()
        warm, _ = store.submit(question(digest, x[0], y[0], radius, ""))
        while not store.get(warm.id, None).state.final:
            time.sleep(0.02)
        begun = time.monotonic()
        for point, label in zip(x, y, strict=True):
            store.submit(question(digest, point, label, radius, "family"))
        submitted = time.monotonic() - begun
        while any(state in ("queued", "running") for state, _, _ in store.counts()):
            time.sleep(0.05)
        seconds = time.monotonic() - begun
        counts = {answer: n for (_, answer, _), n in store.counts().items()}
        cpu = sum(j.cpu_seconds for j in store.page(None, limit=len(x) + 1).items)
        supervisor.stop()
        store.close()
    return {
        "seconds": seconds, "submitting": submitted, "per_second": len(x) / seconds, "child_cpu_seconds": cpu,
        "verified": counts.get(Answer.VERIFIED.value, 0), "falsified": counts.get(Answer.FALSIFIED.value, 0),
    }  # fmt: skip


def question(digest: str, point: np.ndarray, label: int, radius: str, family: str) -> NewJob:
    """One robustness question."""
    asked = {"input": [float(v) for v in point], "label": int(label), "radius": radius}
    body = {"model": digest, "property": {"robustness": asked}, "options": {"certificate": True}}
    return NewJob("local", Kind.VERIFY, body, Budget(30.0, 2048), family=family)


def one_by_one(path: Path, x: np.ndarray, y: np.ndarray, radius: str) -> dict[str, float]:
    """The same in this process, warm, with the model loaded once."""
    from fractions import Fraction

    model = load(path)
    with tempfile.TemporaryDirectory() as folder:
        begun, cpu = time.monotonic(), time.process_time()
        for point, label in zip(x, y, strict=True):
            region = around([float(v) for v in point], Fraction(radius))
            prop = local_robustness(region, label=int(label), outputs=model.graph.output_size)
            verify(model, prop, options=Options(timeout=30), certificate=Path(folder) / "c.sbcert")
        seconds, used = time.monotonic() - begun, time.process_time() - cpu
    return {"seconds": seconds, "per_second": len(x) / seconds, "cpu_seconds": used}


def one_process_each(path: Path, x: np.ndarray, radius: str) -> dict[str, float]:
    """A new ``verify`` for each of a few points."""
    from verifier.spec.serial import to_json

    graph = load(path).graph
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "p.json"
        begun = time.monotonic()
        for point in x:
            region = around([float(v) for v in point], radius)
            file.write_text(to_json(local_robustness(region, label=0, outputs=graph.output_size)))
            command = [sys.executable, "-m", "verifier.cli.main", str(path), str(file), "--timeout", "30"]
            subprocess.run(command, check=False, capture_output=True)
        seconds = time.monotonic() - begun
    return {"seconds": seconds, "per_second": len(x) / seconds, "count": len(x)}


def main() -> None:
    """Measures and prints JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=ROOT / "examples" / "models" / "digits_cnn.onnx")
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--radius", default="0.01")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    x, y = samples(given.model, given.jobs)
    result = {
        "model": given.model.name, "jobs": given.jobs, "radius": given.radius,
        "together": serve(given.model, x, y, given.radius, 64),
        "alone": serve(given.model, x, y, given.radius, 1),
        "one_by_one_in_a_warm_process": one_by_one(given.model, x, y, given.radius),
        "one_process_each": one_process_each(given.model, x[:5], given.radius),
    }  # fmt: skip
    text = json.dumps(result, indent=1)
    print(text)
    if given.out:
        given.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
