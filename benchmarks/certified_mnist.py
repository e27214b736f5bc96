"""MNIST, 1-Lipschitz: every parameterisation with every activation, the same seconds of training.

    ./scripts/bench certified_mnist --data mnist.npz --seconds 60 [--layers cayley bcop] [--seeds 0 1 2]

The budget is processor time of one thread and sets the number of epochs (at least one), from the time of some
steps; the learning rate runs down over them. Figures are those of report.json: accuracies of the materialised
network, certified radii from proved constants.
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

RADII = (0.1, 0.3, 0.5, 1.0)
OWN = ("sll", "cpl", "sandwich")


def configuration(arguments: argparse.Namespace, layer: str, activation: str, seed: int, epochs: int) -> Any:
    """One run's description."""
    from training.config import from_mapping

    return from_mapping(
        {
            "seed": seed,
            "data": {
                "source": "npz",
                "path": str(arguments.data),
                "augment": arguments.augment,
                "train_limit": arguments.train_limit,
            },
            "model": {
                "layer": layer,
                "activation": activation,
                "hidden": arguments.hidden,
                "conv": arguments.conv,
                "stride": arguments.stride,
                "centre": 0.13,
            },
            "loss": {
                "name": arguments.loss,
                "radius": arguments.radius,
                "temperature": arguments.temperature,
            },
            "train": {
                "epochs": epochs,
                "batch": arguments.batch,
                "lr": arguments.lr,
                "average": "ema",
            },
            "evaluate": {
                "radii": list(RADII),
                "every": max(1, epochs // 5),
                "attack_steps": 0,
                "limit": 2000,
            },
        }
    )


def epochs_for(arguments: argparse.Namespace, layer: str, activation: str) -> int:
    """How many epochs fit the budget."""
    import torch

    from training import trainer
    from training.data import augment

    config = configuration(arguments, layer, activation, 0, 1)
    with tempfile.TemporaryDirectory() as folder:
        run = trainer.start(config, Path(folder))
        run.task.model.train()
        generator = torch.Generator().manual_seed(0)
        steps, start = 0, 0.0
        while steps < 24:
            if steps == 4:
                start = time.process_time()
            part = slice(steps * arguments.batch, (steps + 1) * arguments.batch)
            x = augment(run.data.train_x[part], config.data, generator)
            trainer.one_step(run, x, run.data.train_y[part])
            steps += 1
        each = (time.process_time() - start) / 20 * run.steps
    return max(1, round(arguments.seconds / each))


def one(arguments: argparse.Namespace, layer: str, activation: str, seed: int) -> dict[str, Any]:
    """Trains and reads the report."""
    from training import train

    epochs = epochs_for(arguments, layer, activation)
    began = time.process_time()
    config = configuration(arguments, layer, activation, seed, epochs)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(arguments.keep) if arguments.keep else Path(folder)
        outcome = train(config, out)
        cpu = time.process_time() - began
        report = json.loads(outcome.report.read_text(encoding="utf-8"))
    return {
        "layer": layer,
        "activation": activation,
        "seed": seed,
        "epochs": epochs,
        "seconds": round(cpu, 1),
        "parameters": report["parameters"],
        "clean": report["clean"],
        "certified": report["certified"],
        "lipschitz_proved": report["lipschitz_proved"],
        "history": report["history"],
        "warnings": report["warnings"],
    }


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Markdown; mean and spread over seeds."""
    head = (
        "| layer | activation | seeds | epochs | seconds | clean | "
        + " | ".join(str(r) for r in RADII)
        + " |"
    )
    lines = [head, "|---" * (6 + len(RADII)) + "|"]
    pairs = sorted({(r["layer"], r["activation"]) for r in rows})
    means: list[tuple[float, str]] = []
    for layer, activation in pairs:
        mine = [r for r in rows if (r["layer"], r["activation"]) == (layer, activation)]
        cells = [shown([r["clean"] for r in mine])]
        cells += [shown([r["certified"][f"{e:g}"] for r in mine]) for e in RADII]
        first = mine[0]
        line = f"| {layer} | {activation} | {len(mine)} | {first['epochs']} | {first['seconds']:g} | "
        means.append((-sum(r["certified"]["0.3"] for r in mine) / len(mine), line + " | ".join(cells) + " |"))
    return lines + [line for _, line in sorted(means)]


def shown(values: list[float]) -> str:
    """Percent, with half the range where there are several."""
    mean = 100 * sum(values) / len(values)
    spread = 50 * (max(values) - min(values))
    return f"{mean:.2f}" + (f" ± {spread:.2f}" if len(values) > 1 else "")


def parse() -> argparse.Namespace:
    """The command line."""
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--data", type=Path, required=True, help="npz with x_train, y_train, x_test, y_test")
    p.add_argument("--name", default="certified_mnist", help="results go to results/NAME.*")
    p.add_argument("--seconds", type=float, default=900, help="of training, each")
    names = ["spectral", "aol", "sll", "cpl", "cayley", "bcop", "soc", "lot", "bro", "sandwich"]
    p.add_argument("--layers", nargs="+", default=names)
    p.add_argument("--activations", nargs="+", default=["maxmin", "groupsort4", "householder", "relu"])
    p.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    p.add_argument("--hidden", nargs="*", type=int, default=[256, 256, 256])
    p.add_argument("--conv", nargs="*", type=int, default=[])
    p.add_argument("--stride", nargs="*", type=int, default=[])
    p.add_argument("--augment", nargs="*", default=["shift"])
    p.add_argument("--loss", default="offset")
    p.add_argument("--radius", type=float, default=0.4)
    p.add_argument("--temperature", type=float, default=0.1)
    p.add_argument("--batch", type=int, default=256)
    p.add_argument("--lr", type=float, default=0.003)
    p.add_argument("--train-limit", type=int, default=0)
    p.add_argument("--keep", help="directory for the last run's files")
    return p.parse_args()


def main() -> None:
    """Runs what is missing in the raw log, then writes the table."""
    arguments = parse()
    RESULTS.mkdir(parents=True, exist_ok=True)
    log = RESULTS / f"{arguments.name}.jsonl"
    rows = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    done = {(r["layer"], r["activation"], r["seed"]) for r in rows}
    for seed in arguments.seeds:
        for layer in arguments.layers:
            for activation in ["relu"] if layer in OWN else arguments.activations:
                if (layer, activation, seed) in done:
                    continue
                row = one(arguments, layer, activation, seed)
                rows.append(row)
                with log.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")
                print(layer, activation, seed, row["epochs"], row["clean"], row["certified"], flush=True)
    settings = {k: str(v) if isinstance(v, Path) else v for k, v in vars(arguments).items() if k != "data"}
    record = provenance(**settings)
    text = ["# MNIST, 1-Lipschitz, the same seconds for each\n", *table(rows), "", described(record), ""]
    (RESULTS / f"{arguments.name}.md").write_text("\n".join(text), encoding="utf-8")


if __name__ == "__main__":
    main()
