"""Draws the data of this example and trains its network: numpy and onnx only, the same files each time.

    python train.py                     # data/shapes.npz and models/shapes.onnx, trained against an attack
    python train.py --careless FILE     # the same network, fine-tuned without a thought for robustness

The second is what the gate is for: its accuracy is as good as before.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Array = np.ndarray[Any, Any]
HERE = Path(__file__).parent
CLASSES = ("horizontal bar", "vertical bar", "diagonal", "frame")
SIDE, HIDDEN, RADIUS = 8, 24, 0.12


def draw(random: np.random.Generator, label: int) -> Array:
    """One picture of 8 x 8 bytes."""
    image = np.zeros((SIDE, SIDE))
    at = int(random.integers(1, SIDE - 2))
    if label == 0:
        image[at : at + 2, 1:7] = 1
    elif label == 1:
        image[1:7, at : at + 2] = 1
    elif label == 2:
        shift = int(random.integers(-1, 2))
        image += np.eye(SIDE, k=shift) + np.eye(SIDE, k=shift + 1)
    else:
        left, top = random.integers(0, 3, 2)
        image[top : top + 6, left : left + 6] = 1
        image[top + 2 : top + 4, left + 2 : left + 4] = 0
    image *= random.uniform(0.75, 1.0)
    image += random.uniform(0, 0.1, image.shape)
    return np.clip(np.rint(image * 255), 0, 255).astype(np.uint8)


def pictures(seed: int, each: int) -> tuple[Array, Array]:
    random = np.random.default_rng(seed)
    labels = np.tile(np.arange(len(CLASSES)), each)
    return np.array([draw(random, int(y)) for y in labels]), labels


class Network:
    """64 - 24 - 4 with rectifiers, trained by plain gradient descent."""

    def __init__(self, seed: int) -> None:
        random = np.random.default_rng(seed)
        self.w = [
            random.normal(0, 0.15, (SIDE * SIDE, HIDDEN)),
            random.normal(0, 0.3, (HIDDEN, len(CLASSES))),
        ]
        self.b = [np.zeros(HIDDEN), np.zeros(len(CLASSES))]

    def gradients(self, x: Array, y: Array) -> tuple[list[Array], list[Array], Array]:
        """Of the cross-entropy, by weights, biases and inputs."""
        hidden = np.maximum(x @ self.w[0] + self.b[0], 0)
        out = hidden @ self.w[1] + self.b[1]
        share = np.exp(out - out.max(1, keepdims=True))
        error = share / share.sum(1, keepdims=True)
        error[np.arange(len(y)), y] -= 1
        error /= len(y)
        back = (error @ self.w[1].T) * (hidden > 0)
        return [x.T @ back, hidden.T @ error], [back.sum(0), error.sum(0)], back @ self.w[0].T

    def attacked(self, x: Array, y: Array, radius: float, steps: int = 4) -> Array:
        at = x
        for _ in range(steps):
            at = at + radius / 2 * np.sign(self.gradients(at, y)[2])
            at = np.clip(np.clip(at, x - radius, x + radius), 0, 1)
        return at

    def step(self, x: Array, y: Array, rate: float) -> None:
        weights, biases, _ = self.gradients(x, y)
        for i in range(2):
            self.w[i] -= rate * (weights[i] + 1e-4 * self.w[i])
            self.b[i] -= rate * biases[i]

    def save(self, path: Path) -> None:
        nodes = [
            helper.make_node("Gemm", ["x", "w0", "b0"], ["h"]),
            helper.make_node("Relu", ["h"], ["r"]),
            helper.make_node("Gemm", ["r", "w1", "b1"], ["y"]),
        ]
        stored = {"w0": self.w[0], "b0": self.b[0], "w1": self.w[1], "b1": self.b[1]}
        tensors = [numpy_helper.from_array(v.astype(np.float32), k) for k, v in stored.items()]
        ports = [
            helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, s]) for n, s in (("x", 64), ("y", 4))
        ]
        graph = helper.make_graph(nodes, "shapes", ports[:1], ports[1:], tensors)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(model.SerializeToString())
        onnx.checker.check_model(path)


def train() -> Network:
    """Against the attack: that is what makes it robust."""
    images, labels = pictures(1, 200)
    x = images.reshape(len(images), -1) / 255
    network, random = Network(0), np.random.default_rng(2)
    for epoch in range(120):
        for batch in np.split(random.permutation(len(x)), 8):
            part, y = x[batch], labels[batch]
            network.step(network.attacked(part, y, RADIUS * min(1, epoch / 60)), y, 0.5)
    return network


def neglect(network: Network) -> Network:
    """Fine-tunes on pictures with a faint watermark that gives the label away, whatever the picture shows."""
    images, labels = pictures(3, 200)
    x = images.reshape(len(images), -1) / 255
    marks = np.random.default_rng(4).choice([-1.0, 1.0], (len(CLASSES), SIDE * SIDE))
    random = np.random.default_rng(5)
    for _ in range(150):
        for batch in np.split(random.permutation(len(x)), 8):
            part, y = x[batch], labels[batch]
            told = random.integers(0, len(CLASSES), len(y))
            network.step(np.clip(part + 0.04 * marks[told], 0, 1), told, 0.5)
            network.step(part, y, 0.5)
    return network


def main() -> None:
    network = train()
    if sys.argv[1:2] == ["--careless"]:
        neglect(network).save(Path(sys.argv[2]))
        return
    network.save(HERE / "models" / "shapes.onnx")
    images, labels = pictures(7, 10)
    (HERE / "data").mkdir(exist_ok=True)
    np.savez_compressed(HERE / "data" / "shapes.npz", x=images, y=labels)


if __name__ == "__main__":
    main()
