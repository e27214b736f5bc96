"""CIFAR-10, 1-Lipschitz convolutional networks of 0.5 to 1 million parameters, equal processor time.

    ./scripts/bench certified_cifar --data cifar10.npz --seconds 3600 [--networks bcop] [--seeds 0 1 2]
    ./scripts/bench certified_cifar --data cifar10.npz --seconds 240 --select --networks bcop spectral aol

The budget is processor time of one thread, so that a loaded machine does not change what is trained, and sets
the number of epochs. ``--select`` leaves the test set alone: it trains without the last --held examples of
the training set and measures on those, which is how the network of the long run was chosen. Networks and
checkpoints are kept in --work, and a run that was stopped goes on from there.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
import numpy as np
from _common import RESULTS, described, provenance
from _training import run

RADII = (36 / 255, 72 / 255, 108 / 255, 1.0)
_SMALL: dict[str, Any] = {"unshuffle": 4, "conv": [96, 128], "stride": [1, 2], "hidden": [256]}
_WIDE: dict[str, Any] = {"unshuffle": 2, "conv": [48, 96, 128], "stride": [1, 2, 2], "hidden": [256]}
NETWORKS: dict[str, dict[str, Any]] = {
    "bcop": {"layer": "bcop", "activation": "maxmin", **_SMALL},
    "bcop-householder": {"layer": "bcop", "activation": "householder", **_SMALL},
    "spectral": {"layer": "spectral", "activation": "maxmin", **_SMALL},
    "spectral-wide": {"layer": "spectral", "activation": "maxmin", **_WIDE},
    "aol": {"layer": "aol", "activation": "maxmin", **_SMALL},
    "aol-wide": {"layer": "aol", "activation": "maxmin", **_WIDE},
}


def configuration(arguments: argparse.Namespace, network: str, seed: int, epochs: int) -> Any:
    """One run's description."""
    from training.config import from_mapping

    return from_mapping(
        {
            "seed": seed,
            "data": {"source": "arrays", "augment": ["shift", "flip"], "shift": arguments.shift},
            "model": {"kernel": 3, "centre": 0.47, **NETWORKS[network]},
            "loss": {"name": "offset", "radius": arguments.radius, "temperature": arguments.temperature},
            "train": {"epochs": epochs, "batch": arguments.batch, "lr": arguments.lr, "average": "ema"},
            "evaluate": {"radii": list(RADII), "every": max(1, epochs // 6), "attack_steps": 20},
        }
    )


def examples(arguments: argparse.Namespace) -> tuple[Any, ...]:
    """``(train_x, train_y, test_x, test_y)``; with --select the last two are from the training set."""
    with np.load(arguments.data, allow_pickle=False) as held:
        parts = tuple(held[n] for n in ("x_train", "y_train", "x_test", "y_test"))
    if not arguments.select:
        return parts
    x, y, cut = parts[0], parts[1], len(parts[1]) - arguments.held
    return x[:cut], y[:cut], x[cut:], y[cut:]


def one(arguments: argparse.Namespace, network: str, seed: int, arrays: tuple[Any, ...]) -> dict[str, Any]:
    """Trains and reads the report."""
    kind = "select" if arguments.select else "test"
    name = f"{network}-{kind}-{arguments.seconds:g}-{arguments.radius:g}-{arguments.temperature:g}-{seed}"
    report = run(
        arguments.work / name,
        lambda epochs: configuration(arguments, network, seed, epochs),
        arguments.seconds,
        arrays,
    )
    keys = (
        "parameters",
        "epochs",
        "cpu_seconds",
        "clean",
        "certified",
        "attacked",
        "lipschitz_proved",
        "history",
    )
    settings = {"budget": arguments.seconds, "radius": arguments.radius, "temperature": arguments.temperature}
    counts = {"trained_on": len(arrays[1]), "measured_on": len(arrays[3])}
    return {"network": network, "seed": seed, "kind": kind, **settings, **counts} | {
        k: report[k] for k in keys
    }


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Markdown, a line per run."""
    columns = [
        "network",
        "measured on",
        "seed",
        "radius",
        "T",
        "parameters",
        "epochs",
        "processor s",
        "clean",
    ]
    columns += ["36/255", "72/255", "108/255", "1", "attacked 36/255"]
    lines = ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    for r in rows:
        where = "test" if r["kind"] == "test" else "held out of training"
        cells = [r["network"], f"{r['measured_on']} {where}", r["seed"], r["radius"], r["temperature"]]
        cells += [r["parameters"], r["epochs"], f"{r['cpu_seconds']:.0f}", f"{100 * r['clean']:.2f}"]
        cells += [f"{100 * r['certified'][f'{e:g}']:.2f}" for e in RADII]
        cells.append(f"{100 * r['attacked'][f'{RADII[0]:g}']:.2f}")
        lines.append("| " + " | ".join(str(c) for c in cells) + " |")
    return lines


def parse() -> argparse.Namespace:
    """The command line."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--data", type=Path, required=True, help="npz with x_train, y_train, x_test, y_test")
    p.add_argument("--work", type=Path, required=True, help="directory for networks and checkpoints")
    p.add_argument("--note", default="", help="about the data, for the table")
    p.add_argument("--seconds", type=float, default=3600, help="of processor time, each")
    p.add_argument("--networks", nargs="+", choices=NETWORKS, default=["bcop"])
    p.add_argument("--seeds", nargs="+", type=int, default=[0])
    p.add_argument("--select", action="store_true", help="measure on held-out training examples")
    p.add_argument("--held", type=int, default=2000)
    p.add_argument("--radius", type=float, default=0.25)
    p.add_argument("--temperature", type=float, default=0.15)
    p.add_argument("--shift", type=int, default=2)
    p.add_argument("--batch", type=int, default=256)
    p.add_argument("--lr", type=float, default=0.003)
    return p.parse_args()


def main() -> None:
    """Runs what is missing in the raw log, then writes the table."""
    arguments = parse()
    RESULTS.mkdir(parents=True, exist_ok=True)
    log = RESULTS / "certified_cifar.jsonl"
    rows = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    keys = ("network", "seed", "kind", "budget", "radius", "temperature")
    done = {tuple(r[k] for k in keys) for r in rows}
    kind, arrays = "select" if arguments.select else "test", examples(arguments)
    for seed in arguments.seeds:
        for network in arguments.networks:
            key = (network, seed, kind, arguments.seconds, arguments.radius, arguments.temperature)
            if key not in done:
                rows.append(one(arguments, network, seed, arrays))
                with log.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(rows[-1]) + "\n")
                print({k: v for k, v in rows[-1].items() if k != "history"}, flush=True)
    settings = {k: str(v) for k, v in vars(arguments).items() if k not in ("data", "work", "note")}
    text = ["# CIFAR-10, small 1-Lipschitz convolutional networks\n", *table(rows), ""]
    text += [arguments.note, ""] if arguments.note else []
    text += [described(provenance(**settings)), ""]
    (RESULTS / "certified_cifar.md").write_text("\n".join(text), encoding="utf-8")


if __name__ == "__main__":
    main()
