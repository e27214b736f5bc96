"""Does any mutated upload, property, body or path crash the API, hang it, or leave its folder?

The mutations of ``tests/service_mutations.py``, ROUNDS of each sort, against a ``verify serve``
process without workers. Statuses are counted; 5xx, a broken connection or a server that ends is a failure.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

from _common import ROOT, described, provenance, write
from service_load import served

sys.path.insert(0, str(ROOT / "tests"))
from service_mutations import fuzz  # type: ignore[import-not-found]

SORTS = ("model", "gzip", "vnnlib", "body", "path")


def main() -> int:
    """Runs every sort."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20_000, help="Mutations of each sort.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="Do not write results.")
    given = parser.parse_args()
    found: dict[str, dict[str, float]] = {}
    failed = False
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "data"
        folder.mkdir()
        with served(folder, 0) as (url, _):
            for sort in SORTS:
                begun = time.monotonic()
                tally = fuzz(url, ROOT / "examples", sort, given.rounds, given.seed)
                found[sort] = {str(k): v for k, v in sorted(tally.items())}
                found[sort]["seconds"] = round(time.monotonic() - begun, 1)
                failed |= any(status >= 500 for status in tally)
                print(sort, found[sort], flush=True)
        left = sorted(p.name for p in Path(name).iterdir())
        failed |= left != ["data"]
    record = provenance(rounds=given.rounds, seed=given.seed) | {
        "statuses": found,
        "left": left,
        "failed": failed,
    }
    if not given.quick:
        rows = [f"| {sort} | {json.dumps(tally)} |" for sort, tally in found.items()]
        text = [
            "# Mutated requests",
            "",
            "| sort | statuses |",
            "|---|---|",
            *rows,
            "",
            described(record),
            "",
        ]
        write("service_fuzz", record, "\n".join(text))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
