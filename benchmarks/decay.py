"""The decay of signals in AOL and SLL networks: formulas against measurement, and what remedies do.

    ./scripts/bench decay

1. Variance of the entries of one Gaussian AOL layer against ``1 / (d + (n - 1) e_d)``, widths 16 to 256.
2. Mean square and pair distance by depth, per start and remedy, at one width.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
import torch
from _common import described, provenance, write
from torch import Tensor

WIDTHS = (16, 32, 64, 128, 256)
DEPTHS = (5, 20, 50)


def variances(seeds: int) -> list[dict[str, Any]]:
    """Rows of the first table."""
    from training.decay import aol_gain, aol_variance, expected_overlap
    from training.layers import make_dense

    rows: list[dict[str, Any]] = []
    for n in WIDTHS:
        layers = max(seeds, 40_000 // n**2)
        second, gains = 0.0, 0.0
        overlap = 0.0
        for seed in range(layers):
            torch.manual_seed(seed)
            layer = make_dense("aol", n, n).double()
            with torch.no_grad():
                layer.raw.normal_(0, 5.0)  # the scale cancels
                w = layer.matrix()
                x = torch.randn(256, n, dtype=torch.float64)
                gram = (layer.raw.mT @ layer.raw / 25).abs()
            second += float((w**2).mean()) / layers
            gains += float(((x @ w.mT) ** 2).mean() / (x**2).mean()) / layers
            overlap += float((gram.sum() - gram.trace()) / (n * (n - 1))) / layers
        expected = aol_variance(n, n)
        rows.append(
            {
                "width": n,
                "layers": layers,
                "overlap": overlap,
                "overlap_formula": expected_overlap(n),
                "variance": second,
                "formula": expected,
                "off": second / expected - 1,
                "gain": gains,
                "gain_formula": aol_gain(n),
                "gain_off": gains / aol_gain(n) - 1,
            }
        )
    return rows


def stack(
    layer: str, start: str, activation: str, n: int, depth: int, options: dict[str, Any]
) -> list[Callable[[Tensor], Tensor]]:
    """Layers with their activations."""
    from training.initialise import initialise
    from training.layers import make_activation, make_dense

    out: list[Callable[[Tensor], Tensor]] = []
    for _ in range(depth):
        made = make_dense(layer, n, n, **options)
        initialise(made, start)
        if layer == "sll" and options.get("slack"):
            with torch.no_grad():  # relative to the T of this very start
                made.slack.copy_(options["slack"] * (made.raw @ made.raw.mT).abs().sum(1))
        made = made.double().eval()
        act = None if layer in ("sll", "cpl", "sandwich") else make_activation(activation, n)
        out.append(lambda x, made=made, act=act: made(x) if act is None else act(made(x)))
    return out


CASES: tuple[tuple[str, str, str, str, dict[str, Any]], ...] = (
    ("AOL Gaussian, ReLU", "aol", "gaussian", "relu", {}),
    ("AOL Gaussian, MaxMin", "aol", "gaussian", "maxmin", {}),
    ("AOL orthogonal, ReLU", "aol", "orthogonal", "relu", {}),
    ("AOL orthogonal, MaxMin (remedy)", "aol", "orthogonal", "maxmin", {}),
    ("AOL near identity, MaxMin (remedy)", "aol", "identity", "maxmin", {}),
    ("SLL Gaussian", "sll", "gaussian", "relu", {}),
    ("SLL orthogonal (remedy)", "sll", "orthogonal", "relu", {}),
    ("SLL Gaussian, 4 rectifiers (remedy)", "sll", "gaussian", "relu", {"hidden": 4}),
    ("SLL Gaussian, slack 9 T (remedy)", "sll", "gaussian", "relu", {"slack": 9.0}),
    ("Cayley, MaxMin", "cayley", "default", "maxmin", {}),
    ("sandwich, default", "sandwich", "default", "relu", {}),
)


def by_depth(n: int, seeds: int) -> list[dict[str, Any]]:
    """Rows of the second table: geometric means over seeds."""
    from training.decay import through

    rows: list[dict[str, Any]] = []
    for name, layer, start, activation, options in CASES:
        squares = dict.fromkeys(DEPTHS, 0.0)
        ratios = dict.fromkeys(DEPTHS, 0.0)
        for seed in range(seeds):
            torch.manual_seed(seed)
            layers = stack(layer, start, activation, n, max(DEPTHS), options)
            for point in through(layers, torch.randn(256, n, dtype=torch.float64), DEPTHS):
                squares[point.depth] += math.log(point.mean_square) / seeds
                ratios[point.depth] += math.log(point.distance) / seeds
        rows.append(
            {
                "case": name,
                "mean_square": {d: math.exp(v) for d, v in squares.items()},
                "distance": {d: math.exp(v) for d, v in ratios.items()},
            }
        )
    return rows


def main() -> None:
    """Writes both tables."""
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--width", type=int, default=64)
    p.add_argument("--seeds", type=int, default=5)
    arguments = p.parse_args()
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float32)
    first, second = variances(arguments.seeds), by_depth(arguments.width, arguments.seeds)
    record = {**provenance(**vars(arguments)), "variances": first, "by_depth": second}
    lines = [
        "# Decay at initialisation\n",
        "One square Gaussian AOL layer against the formulas of `training.decay`:\n",
        "| width | mean abs. overlap | formula | variance | formula | off | gain | formula | off |",
        "|---|---|---|---|---|---|---|---|---|",
        *(
            f"| {r['width']} | {r['overlap']:.4f} | {r['overlap_formula']:.4f} | {r['variance']:.4e}"
            f" | {r['formula']:.4e} | {100 * r['off']:+.1f} % | {r['gain']:.4f} | {r['gain_formula']:.4f}"
            f" | {100 * r['gain_off']:+.1f} % |"
            for r in first
        ),
        f"\nWidth {arguments.width}, {arguments.seeds} seeds (geometric means): mean square / median"
        " ratio of pair distances, relative to the inputs, after so many layers:\n",
        "| network | " + " | ".join(f"{d} layers" for d in DEPTHS) + " |",
        "|---" * (1 + len(DEPTHS)) + "|",
        *(
            f"| {r['case']} | "
            + " | ".join(f"{r['mean_square'][d]:.2g} / {r['distance'][d]:.2g}" for d in DEPTHS)
            + " |"
            for r in second
        ),
        "",
        described(record),
        "",
    ]
    write("decay", record, "\n".join(lines))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
