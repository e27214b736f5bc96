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
from collections import Counter
from pathlib import Path
from typing import Any

from _common import RESULTS, ROOT, described, provenance, write
from service_load import served

sys.path.insert(0, str(ROOT / "tests"))
from service_mutations import fuzz  # type: ignore[import-not-found]

SORTS = ("model", "gzip", "vnnlib", "body", "path")


def main() -> int:
    """Runs every sort."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20_000, help="Mutations of each sort.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sort", choices=SORTS, action="append", help="Only these sorts.")
    parser.add_argument(
        "--append", action="store_true", help="Add to the results that are there (give another seed)."
    )
    parser.add_argument("--quick", action="store_true", help="Do not write results.")
    given = parser.parse_args()
    found: dict[str, dict[str, float]] = {}
    failed = False
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "data"
        folder.mkdir()
        with served(folder, 0) as (url, _):
            for sort in given.sort or SORTS:
                begun = time.monotonic()
                tally = fuzz(url, ROOT / "examples", sort, given.rounds, given.seed)
                found[sort] = {str(k): v for k, v in sorted(tally.items())}
                found[sort]["seconds"] = round(time.monotonic() - begun, 1)
                failed |= any(status >= 500 for status in tally)
                print(sort, found[sort], flush=True)
        left = sorted(p.name for p in Path(name).iterdir())
        failed |= left != ["data"]
    piece = provenance(rounds=given.rounds, seed=given.seed) | {
        "statuses": found,
        "left": left,
        "failed": failed,
    }
    if not given.quick:
        path = RESULTS / "service_fuzz.json"
        before = json.loads(path.read_text()).get("pieces", []) if given.append else []
        if any(p["settings"] == piece["settings"] and set(p["statuses"]) & set(found) for p in before):
            raise SystemExit("these very mutations are among the results already; give another --seed")
        write("service_fuzz", {"pieces": [*before, piece]}, table([*before, piece]))
    return 1 if failed else 0


def table(pieces: list[dict[str, Any]]) -> str:
    """For people: the sums over all pieces."""
    sums: dict[str, Counter[str]] = {sort: Counter() for sort in SORTS}
    for piece in pieces:
        for sort, tally in piece["statuses"].items():
            sums[sort].update({k: v for k, v in tally.items() if k != "seconds"})
    count = sum(tally.total() for tally in sums.values())
    failed = sum(piece["failed"] for piece in pieces)
    lines = [
        "# Mutated requests",
        "",
        f"{count} mutations in {len(pieces)} runs, {failed} of which failed.",
        "",
    ]
    lines += ["| sort | mutations | statuses |", "|---|---:|---|"]
    lines += [f"| {k} | {t.total()} | {json.dumps(dict(sorted(t.items())))} |" for k, t in sums.items()]
    return "\n".join([*lines, "", *(f"- {described(piece)}" for piece in pieces), ""])


if __name__ == "__main__":
    sys.exit(main())
