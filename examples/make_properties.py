"""Writes ``examples/properties/*.vnnlib``, ``instances.csv`` and ``expected.csv``.

A property file describes what must *not* happen: an input in the box whose outputs satisfy the last
assertion. The properties that are meant to be violated are checked here by searching for a violation
with onnxruntime; the ones meant to hold are searched as well, and a violation is an error.

    python examples/make_properties.py         # needs onnxruntime, numpy, scikit-learn
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from digits import load

HERE = Path(__file__).parent
Array = np.ndarray[Any, Any]
TIMEOUT = 60


@dataclass(frozen=True)
class Ball:
    """No image within ``radius`` of test image ``image`` (and in [0, 1]) may be classified otherwise."""

    model: str
    role: str
    image: int
    radius: Decimal
    expected: str

    @property
    def name(self) -> str:
        return f"{self.model}_{self.role}"


@dataclass(frozen=True)
class Region:
    """For states in the box the torque must not satisfy any of the ``unsafe`` comparisons."""

    name: str
    says: str
    box: tuple[tuple[str, str], ...]
    unsafe: tuple[tuple[str, str], ...]
    expected: str


BALLS = (
    Ball("digits_mlp", "unsat", 2, Decimal("0.05"), "unsat"),
    Ball("digits_mlp", "sat", 1, Decimal("0.09"), "sat"),
    Ball("digits_mlp", "hard", 0, Decimal("0.13"), "unsat"),
    Ball("digits_cnn", "unsat", 0, Decimal("0.05"), "unsat"),
    Ball("digits_cnn", "sat", 1, Decimal("0.1"), "sat"),
    Ball("digits_cnn", "hard", 2, Decimal("0.2"), "unsat"),
    Ball("digits_residual", "unsat", 9, Decimal("0.04"), "unsat"),
    Ball("digits_residual", "sat", 3, Decimal("0.09"), "sat"),
    Ball("digits_residual", "hard", 5, Decimal("0.06"), "unsat"),
)

ANYWHERE = (("-1", "1"), ("-2", "2"))
REGIONS = (
    Region(
        "pendulum_limit_unsat",
        "The torque stays within +-1.016 everywhere (needs a few hundred input splits).",
        ANYWHERE,
        ((">=", "1.016"), ("<=", "-1.016")),
        "unsat",
    ),
    Region(
        "pendulum_limit_sat",
        "The torque stays within +-1.014 everywhere. It does not: it dips below in a small region.",
        ANYWHERE,
        ((">=", "1.014"), ("<=", "-1.014")),
        "sat",
    ),
    Region(
        "pendulum_pushback_unsat",
        "Leaning and falling to the right, the controller pushes left with at least 0.15.",
        (("0.1", "1"), ("0", "2")),
        ((">=", "-0.15"),),
        "unsat",
    ),
    Region(
        "pendulum_pushback_sat",
        "Leaning to the right, the controller never pushes right. It does when the rod swings back fast.",
        (("0.1", "1"), ("-2", "2")),
        ((">", "0"),),
        "sat",
    ),
)


def emit(comment: str, box: list[tuple[Decimal, Decimal]], outputs: int, unsafe: list[str]) -> str:
    """VNN-LIB 1.0 text; ``unsafe`` holds the alternatives of the unsafe condition."""
    lines = [f"; {comment}", ""]
    lines += [f"(declare-const X_{i} Real)" for i in range(len(box))]
    lines += [f"(declare-const Y_{i} Real)" for i in range(outputs)]
    lines.append("")
    for i, (low, high) in enumerate(box):
        lines += [f"(assert (>= X_{i} {low:f}))", f"(assert (<= X_{i} {high:f}))"]
    alternatives = "\n  ".join(f"(and {u})" for u in unsafe)
    lines += ["", f"(assert (or\n  {alternatives}\n))", ""]
    return "\n".join(lines)


def emit2(region: Region) -> str:
    """The same property in VNN-LIB 2.0, about real arithmetic."""
    lines = [f"; pendulum: {region.says}", "", "(vnnlib-version <2.0>)", ""]
    lines += [
        "(declare-network controller",
        "  (declare-input X real [1, 2])",
        "  (declare-output Y real [1, 1])",
        ")",
        "",
    ]
    for i, (low, high) in enumerate(region.box):
        lines.append(f"(assert (and (>= X[0,{i}] {decimal(low)}) (<= X[0,{i}] {decimal(high)})))")
    unsafe = " ".join(f"({op} Y[0,0] {decimal(t)})" for op, t in region.unsafe)
    lines += [f"(assert {unsafe})" if len(region.unsafe) == 1 else f"(assert (or {unsafe}))", ""]
    return "\n".join(lines)


def decimal(number: str) -> str:
    """A literal with a decimal point, as VNN-LIB 2.0 wants for real variables."""
    return number if "." in number else f"{number}.0"


class Network:
    """One example model under onnxruntime, on flat inputs."""

    def __init__(self, model: str) -> None:
        path = HERE / "models" / f"{model}.onnx"
        self.session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        self.input = self.session.get_inputs()[0]

    def __call__(self, x: Array) -> Array:
        (y,) = self.session.run(None, {self.input.name: x.astype(np.float32).reshape(self.input.shape)})
        return np.asarray(y, dtype=np.float64).reshape(-1)


def attack(network: Network, box: list[tuple[Decimal, Decimal]], margin: Any, *, restarts: int = 4) -> float:
    """Smallest value of ``margin(outputs)`` found by signed finite-difference descent in the box.

    Points are float32 and strictly inside: the box is rounded inwards.
    """
    low = np.array([np.nextafter(np.float32(lo), np.float32(9)) for lo, _ in box])
    high = np.array([np.nextafter(np.float32(hi), np.float32(-9)) for _, hi in box])
    rng = np.random.default_rng(0)
    best = np.inf
    for _ in range(restarts):
        x = rng.uniform(low, high).astype(np.float32)
        for step in np.geomspace(0.5, 0.005, 25):
            value = margin(network(x))
            best = min(best, value)
            nudges = np.diag((high - low) * np.float32(0.01))
            slope = np.array([margin(network(np.clip(x + n, low, high))) - value for n in nudges])
            x = np.clip(x - step * (high - low) * np.sign(slope), low, high).astype(np.float32)
    return best


def ball_property(ball: Ball, images: Array, labels: Array) -> str:
    """Text of one robustness property, after checking it by attack."""
    network = Network(ball.model)
    label = int(labels[ball.image])
    if int(network(images[ball.image]).argmax()) != label:
        raise SystemExit(f"{ball.name}: test image {ball.image} is not classified as {label}; choose another")
    pixels = [Decimal(round(float(p) * 16)) / 16 for p in images[ball.image]]
    box = [(max(p - ball.radius, Decimal(0)), min(p + ball.radius, Decimal(1))) for p in pixels]

    def margin(y: Array) -> float:
        return float(y[label] - np.delete(y, label).max())

    check(ball.name, ball.expected, attack(network, box, margin))
    comment = (
        f"{ball.model}: test image {ball.image} (a {label}) keeps its class within radius {ball.radius}."
    )
    return emit(comment, box, 10, [f"(>= Y_{i} Y_{label})" for i in range(10) if i != label])


def region_property(region: Region) -> str:
    """Text of one controller property, after checking it by attack."""
    box = [(Decimal(low), Decimal(high)) for low, high in region.box]

    def margin(y: Array) -> float:
        return min(
            float(threshold) - y[0] if op.startswith(">") else y[0] - float(threshold)
            for op, threshold in region.unsafe
        )

    check(region.name, region.expected, attack(Network("pendulum"), box, margin, restarts=40))
    return emit(f"pendulum: {region.says}", box, 1, [f"({op} Y_0 {t})" for op, t in region.unsafe])


def check(name: str, expected: str, margin: float) -> None:
    """Compares what the attack found with what the property is meant to be."""
    print(f"{name}: expected {expected}, smallest margin found {margin:+.4f}")
    if (margin < 0) != (expected == "sat"):
        raise SystemExit(f"{name}: the attack disagrees with the expected verdict {expected}")


def main() -> None:
    _, _, images, labels = load()
    texts = {b.name: (b.model, ball_property(b, images, labels), b.expected) for b in BALLS}
    texts |= {r.name: ("pendulum", region_property(r), r.expected) for r in REGIONS}
    (HERE / "properties").mkdir(exist_ok=True)
    second = next(r for r in REGIONS if r.name == "pendulum_pushback_unsat")
    (HERE / "properties" / "pendulum_pushback_v2_unsat.vnnlib").write_text(emit2(second))
    with (
        (HERE / "instances.csv").open("w", newline="") as instances,
        (HERE / "expected.csv").open("w", newline="") as expected,
    ):
        listed, known = csv.writer(instances, lineterminator="\n"), csv.writer(expected, lineterminator="\n")
        known.writerow(["onnx", "vnnlib", "expected"])
        for name, (model, text, verdict) in texts.items():
            (HERE / "properties" / f"{name}.vnnlib").write_text(text)
            row = [f"models/{model}.onnx", f"properties/{name}.vnnlib"]
            listed.writerow([*row, TIMEOUT])
            known.writerow([*row, verdict])


if __name__ == "__main__":
    main()
