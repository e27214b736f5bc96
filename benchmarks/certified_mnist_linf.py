"""MNIST, a small CNN, L-infinity 0.1: training against bounds, certified by our own rigorous root bounds.

    ./scripts/bench certified_mnist_linf --data mnist.npz --epochs 8 [--losses crown-ibp sabr mtl-ibp]

Certified accuracy is that of report.json: backward bounds with all rounding paid for, on the first --test
examples; branch and bound (``verify robustness``) can only add to it.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
from _common import RESULTS, described, provenance

# per loss: keys of [loss]; the radius trained for is larger than the one certified
SETTINGS: dict[str, dict[str, Any]] = {
    "ibp": {"radius": 0.12},
    "crown-ibp": {"radius": 0.105, "mix_end": 1.0},
    "sabr": {"radius": 0.11, "box": 0.4, "attack_steps": 4},
    "mtl-ibp": {"radius": 0.11, "alpha": 0.3, "attack_steps": 3},
    "cc-ibp": {"radius": 0.12, "alpha": 0.1, "attack_steps": 4},
    "exp-ibp": {"radius": 0.12, "alpha": 0.1, "attack_steps": 4},
    "taps": {"radius": 0.12, "attack_steps": 4},
    "staps": {"radius": 0.12, "box": 0.4, "attack_steps": 4},
}


def run(arguments: argparse.Namespace, loss: str, seed: int) -> dict[str, Any]:
    """One training and its figures."""
    from training import train
    from training.config import from_mapping

    config = from_mapping(
        {
            "seed": seed,
            "data": {"source": "npz", "path": str(arguments.data), "test_limit": arguments.test},
            "model": {
                "kind": "plain",
                "activation": "relu",
                "conv": [16, 32],
                "stride": [2, 2],
                "kernel": 4,
                "hidden": [100],
                "init": "ibp",
            },
            "loss": {"name": loss, "warmup": 0.03, "ramp": 0.45, "balance": 0.5, **SETTINGS[loss]},
            "train": {"epochs": arguments.epochs, "batch": 128, "lr": 0.002, "schedule": "onecycle"},
            "evaluate": {"radii": [0.1], "every": max(1, arguments.epochs // 2), "limit": 1000},
        }
    )
    start = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        outcome = train(config, Path(arguments.keep or folder) / loss)
        report = json.loads(outcome.report.read_text(encoding="utf-8"))
    keys = ("clean", "certified", "attacked", "parameters", "history", "test_examples")
    return {"loss": loss, "seed": seed, "cpu_seconds": time.process_time() - start} | {
        k: report[k] for k in keys
    }


def main() -> None:
    """Runs what is missing in the raw log, then writes the table."""
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--data", type=Path, required=True)
    p.add_argument("--epochs", type=int, default=8)
    p.add_argument("--test", type=int, default=1000)
    p.add_argument("--losses", nargs="+", default=["crown-ibp", "sabr", "mtl-ibp"])
    p.add_argument("--seeds", nargs="+", type=int, default=[0])
    p.add_argument("--keep", help="directory for networks and reports")
    arguments = p.parse_args()
    log = RESULTS / "certified_mnist_linf.jsonl"
    rows = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    done = {(r["loss"], r["seed"], r["history"][-1]["epoch"], r["test_examples"]) for r in rows}
    for seed in arguments.seeds:
        for loss in arguments.losses:
            if (loss, seed, arguments.epochs, arguments.test) not in done:
                rows.append(run(arguments, loss, seed))
                with log.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(rows[-1]) + "\n")
                print({k: v for k, v in rows[-1].items() if k != "history"}, flush=True)
    settings = {k: str(v) for k, v in vars(arguments).items() if k not in ("data", "keep")}
    lines = [
        "# MNIST, small CNN, L-infinity 0.1\n",
        "| loss | seed | epochs | images | clean | certified | under attack | processor seconds |",
        "|---|---|---|---|---|---|---|---|",
        *(
            f"| {r['loss']} | {r['seed']} | {r['history'][-1]['epoch']} | {r['test_examples']}"
            f" | {100 * r['clean']:.2f} | {100 * r['certified']['0.1']:.2f}"
            f" | {100 * r['attacked']['0.1']:.2f} | {r['cpu_seconds']:.0f} |"
            for r in rows
        ),
        "",
        "On the first test images, so many as the table says. " + described(provenance(**settings)),
        "",
    ]
    (RESULTS / "certified_mnist_linf.md").write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
