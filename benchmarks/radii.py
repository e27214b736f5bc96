"""Certified radii on the digits models: from one constant, from constants of pairs, and from local ones.

``--data`` names an archive with the 8x8 digits (``digits_x``, ``digits_y``, whole numbers up to 16), which is
no part of this repository; scikit-learn's ``load_digits`` has the same images.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from _common import ROOT, described, provenance, write

import sdp
from bounds.io.onnx import load
from sdp.radius import local_radius, margins_at, pair_constants, point_scores
from verifier.robustness.data import Reading, load_samples
from verifier.robustness.points import Attack, plans
from verifier.robustness.result import Radius


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and writes results/radii.{json,md}."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--samples", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    rows = [measure(name, args) for name in ("mlp", "cnn", "residual")]
    record = {**provenance(samples=args.samples, seed=args.seed), "rows": rows}
    write("radii", record, table(rows) + f"\n{described(record)}\n")
    return 0


def measure(name: str, args: argparse.Namespace) -> dict[str, Any]:
    """One model."""
    path = ROOT / "examples" / "models" / f"digits_{name}.onnx"
    graph = load(path).graph
    reading = Reading("digits_x", "digits_y", 16.0, args.samples, args.seed)
    samples = load_samples(args.data, graph.inputs[0].shape, graph.output_size, reading)
    effort = sdp.Effort(seconds=60, sampling=None)
    one = pair_constants(graph, pairs=False, effort=effort)
    pairs = pair_constants(graph, pairs=True, effort=effort)
    attack = Attack(*plans(graph, network=False), "2", None, args.seed)
    found: list[tuple[float, float, float, float]] = []
    start = time.monotonic()
    for x, label in zip(samples.x, samples.y.tolist(), strict=True):
        margin = margins_at(*point_scores(graph, x), label)
        if not np.all(np.delete(margin, label) > 0):
            continue
        plain, paired = (float(c.radii(label, margin).min()) for c in (one, pairs))
        local = local_radius(graph, x, label, margin, start=plain, effort=sdp.Effort(20.0, None))
        found.append((plain, paired, max(local.radius, plain), broken_at(attack, x, label, plain)))
    means = np.array(found).mean(axis=0)
    row = {
        "model": name,
        "samples": len(found),
        "one": means[0],
        "pairs": means[1],
        "local": means[2],
        "attack": means[3],
        "seconds": time.monotonic() - start,
    }
    print(row, flush=True)
    return row


def broken_at(attack: Attack, x: np.ndarray[Any, Any], label: int, radius: float) -> float:
    """The smallest radius of a growing sequence at which the attack succeeds: no proof reaches it."""
    for _ in range(60):
        radius *= 1.05
        if attack.broken(x[None], np.array([label]), Radius("", _fraction(radius)).exact)[0]:
            return radius
    return float("nan")


def _fraction(value: float) -> Any:
    from fractions import Fraction

    return Fraction(value)


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown."""
    lines = [
        "# Certified radii on the digits models, 2-norm\n",
        "Means over samples. `one`: margin over sqrt 2 times the network's constant; `pairs`: over the\n"
        "constants of pairs of classes; `local`: constants around the sample; `attack`: where an attack\n"
        "succeeds, which no proof can reach.\n",
        "| model | samples | one | pairs | local | attack | local/one | local/pairs | attack/pairs | s |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {r['model']} | {r['samples']} | {r['one']:.4f} | {r['pairs']:.4f} | {r['local']:.4f} "
        f"| {r['attack']:.4f} | {r['local'] / r['one']:.2f} | {r['local'] / r['pairs']:.2f} "
        f"| {r['attack'] / r['pairs']:.2f} | {r['seconds']:.0f} |"
        for r in rows
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    raise SystemExit(main())
