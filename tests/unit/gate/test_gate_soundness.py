"""What the gate certifies holds at sampled points, preprocessed independently; planted bugs are found."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import gate_nets as nets
import numpy as np
import pytest
from gate_nets import decide, only

from verifier.gate.report import Finding, Outcome
from verifier.gate.samples import GateSamples

MEAN, STD, SCALE = np.array([0.4, 0.5, 0.6]), np.array([0.25, 0.5, 0.2]), 255.0
RADIUS = 0.06


def network(path: Path, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(seed)
    sizes = (3 * 2 * 2, 10, 4)
    layers = [(rng.normal(size=s) / np.sqrt(s[0]), rng.normal(size=s[1]) / 4) for s in pairwise(sizes)]
    layers = [
        (w.astype(np.float32).astype(np.float64), b.astype(np.float32).astype(np.float64)) for w, b in layers
    ]
    nets.dense(path, layers, shape=(1, 3, 2, 2))
    return layers


def value(layers: list[tuple[np.ndarray, np.ndarray]], v: np.ndarray) -> np.ndarray:
    """The declared function: from numbers after scaling (``N 3 2 2``) to scores, in float64."""
    z = ((v - MEAN[:, None, None]) / STD[:, None, None]).reshape(len(v), -1)
    for i, (w, b) in enumerate(layers):
        z = z @ w + b
        z = np.maximum(z, 0) if i < len(layers) - 1 else z
    return z


TEXT = f"""
[models.net]
path = "net.onnx"
[data.d]
path = "d.npz"
scale = 255
mean = [0.4, 0.5, 0.6]
std = [0.25, 0.5, 0.2]
clip = [0, 1]
[[requirement]]
id = "r"
kind = "certified-accuracy"
model = "net"
data = "d"
radius = {RADIUS}
at_least = 0
"""


def judged(tmp_path: Path, seed: int) -> tuple[Finding, int, int]:
    """The finding, and how many of its proofs and counterexamples are wrong by the declared function."""
    layers = network(tmp_path / "net.onnx", seed)
    rng = np.random.default_rng(seed + 1)
    raw = rng.integers(0, 256, (25, 3, 2, 2)).astype(np.uint8)
    labels = value(layers, raw / SCALE).argmax(axis=1)
    nets.samples(tmp_path / "d.npz", raw, labels)
    finding = only(decide(TEXT, tmp_path, no_cache=True))
    wrong_proofs = wrong_examples = 0
    for question in finding.questions:
        i = int(question.name.split(",")[0].removeprefix("sample "))
        v = raw[i] / SCALE
        if question.outcome is Outcome.HOLDS:
            corners = rng.choice([-1.0, 1.0], (3000, 3, 2, 2)) * RADIUS
            inner = rng.uniform(-1, 1, (1000, 3, 2, 2)) * RADIUS
            points = np.clip(v + np.concatenate([corners, inner]), 0, 1)
            wrong_proofs += bool((value(layers, points).argmax(axis=1) != labels[i]).any())
    for example in finding.counterexamples:
        i = int(example.question.split(",")[0].removeprefix("sample "))
        at, v = np.array(example.inputs).reshape(3, 2, 2), raw[i] / SCALE
        inside = np.abs(at - v).max() <= RADIUS * (1 + 1e-12) and at.min() >= 0 and at.max() <= 1
        other = value(layers, at[None])[0].argmax() != labels[i]
        wrong_examples += not (inside and other)
    return finding, wrong_proofs, wrong_examples


@pytest.mark.parametrize("seed", range(4))
def test_proofs_and_counterexamples_hold_in_the_declared_units(tmp_path: Path, seed: int) -> None:
    finding, wrong_proofs, wrong_examples = judged(tmp_path, seed)
    counts = {o: sum(q.outcome is o for q in finding.questions) for o in Outcome}
    assert (wrong_proofs, wrong_examples) == (0, 0)
    assert counts[Outcome.HOLDS] + counts[Outcome.VIOLATED] == 25


def test_the_samples_have_both_kinds(tmp_path: Path) -> None:
    outcomes = {q.outcome for seed in range(4) for q in judged(tmp_path, seed)[0].questions}
    assert outcomes == {Outcome.HOLDS, Outcome.VIOLATED}


def without_std(self: GateSamples, v: Any, radius: Fraction) -> Any:
    """A planted bug: the radius is taken in the network's units."""
    s = self.scaling
    return [((a - m) / d - radius, (a - m) / d + radius) for a, m, d in zip(v, s.mean, s.std, strict=True)]


def swapped_channels(self: GateSamples, v: Any, radius: Fraction) -> Any:
    """Another: the divisors are those of other channels."""
    s = self.scaling
    ends = zip(v, s.mean, reversed(s.std), strict=True)
    return [((a - radius - m) / d, (a + radius - m) / d) for a, m, d in ends]


@pytest.mark.parametrize("bug", [without_std, swapped_channels])
def test_planted_bugs_are_found(tmp_path: Path, bug: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(GateSamples, "_ends", bug)
    found = [judged(tmp_path, seed)[1:] for seed in range(4)]
    assert any(proofs or examples for proofs, examples in found)
