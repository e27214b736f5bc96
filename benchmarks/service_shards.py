"""Distributed branch and bound: seconds of one hard question on one and on two supervisor slots.

python benchmarks/service_shards.py --bound 1.3
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

from workers.jobs.artifacts import Artifacts
from workers.jobs.sql import open_store
from workers.local import Supervisor

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from job_models import box_property, hard, request, upload


def measure(slots: int, bound: float) -> dict[str, object]:
    """One question, dealt out after a second."""
    with tempfile.TemporaryDirectory(prefix="sb-bench-") as folder:
        store, artifacts = open_store(f"{folder}/jobs.db"), Artifacts(f"{folder}/files")
        model = upload(store, artifacts, hard(8, 60, seed=1))
        options = {"shards": 2, "split_after_s": 1.0, "certificate": False}
        supervisor = Supervisor(store, artifacts, slots=slots)
        supervisor.start()
        begun = time.monotonic()
        job = store.submit(request(model, box_property(8, bound), timeout_s=600, options=options))[0].id
        while not store.get(job, None).state.final:
            time.sleep(0.05)
        seconds, end = time.monotonic() - begun, store.get(job, None)
        cpu = sum(s.cpu_seconds for s in store.shards(job))
        supervisor.stop()
        store.close()
    return {"slots": slots, "seconds": seconds, "verdict": end.answer, "shard_cpu_seconds": cpu, **end.result}


def main() -> None:
    """Measures and prints JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bound", type=float, default=1.3)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    rows = [measure(slots, given.bound) for slots in (1, 2)]
    text = json.dumps({"bound": given.bound, "rows": rows}, indent=1)
    print(text)
    if given.out:
        given.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
