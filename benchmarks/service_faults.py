"""500 jobs through the whole service while its parts are killed, stopped, filled and restarted.

What happens and what is counted: ``tests/fault/fault_run.py``, whose short form is part of the tests.
Two runs, on SQLite and on PostgreSQL. A job that is lost, ends twice or with another verdict, a poison
that is not failed, an attempt beyond its limit: each is a failure of this command.

    python benchmarks/service_faults.py --jobs 500 --rounds 3
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from _common import ROOT, described, provenance, write

sys.path.insert(0, str(ROOT / "tests"))
sys.path.insert(0, str(ROOT / "tests" / "fault"))
from fault_run import Site, run  # type: ignore[import-not-found]


def main() -> int:
    """Runs on both databases."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3, help="How often each fault happens.")
    parser.add_argument("--stop-s", type=float, default=30.0, help="Seconds of each silence of the broker.")
    parser.add_argument("--database", choices=["sqlite", "postgresql"], action="append")
    parser.add_argument("--quick", action="store_true", help="Do not write results.")
    given = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    runs: dict[str, Any] = {}
    for database in given.database or ["sqlite", "postgresql"]:
        with (
            tempfile.TemporaryDirectory(prefix="sb-faults-") as name,
            Site(Path(name), postgresql=database == "postgresql", stop_s=given.stop_s) as site,
        ):
            found = run(site, given.jobs, given.rounds, lambda text: print(text, flush=True))
        runs[database] = found.as_json()
        print(json.dumps({database: runs[database]}, indent=1), flush=True)
    record = provenance(jobs=given.jobs, rounds=given.rounds, stop_s=given.stop_s) | {"runs": runs}
    if not given.quick:
        write("service_faults", record, table(record))
    return int(any(found["wrong"] for found in runs.values()))


def table(record: dict[str, Any]) -> str:
    """For people."""
    runs: dict[str, Any] = record["runs"]
    lines = ["# Jobs under faults", "", f"| | {' | '.join(runs)} |", "|---|" + "---|" * len(runs)]
    lines += [
        f"| {row} | {' | '.join(str(runs[d][row]) for d in runs)} |" for row in next(iter(runs.values()))
    ]
    return "\n".join([*lines, "", described(record), ""])


if __name__ == "__main__":
    sys.exit(main())
