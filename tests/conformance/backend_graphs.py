"""Random networks that together use every primitive, and the two backends to run them on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from bounds.domain import Objectives
from bounds.graph import Graph, GraphBuilder, Op
from bounds.kernels.base import Kernels
from bounds.kernels.numpy import NumpyKernels
from bounds.numerics import Precision
from bounds.shapes import infer_shape

HOW = "needs PyTorch: pip install 'surebound[torch]'"
TORCH_DEVICES = [
    pytest.param("cpu", marks=pytest.mark.torch),
    pytest.param("cuda", marks=[pytest.mark.torch, pytest.mark.gpu]),
]
ALL_DEVICES = ["numpy", *TORCH_DEVICES]


def kernels_on(device: str, precision: Precision) -> Kernels:
    """Kernels of the backend that a test parameter names; skips where it cannot run."""
    if device == "numpy":
        return NumpyKernels(precision)
    torch = pytest.importorskip("torch", reason=HOW)
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device: run `pytest -m gpu` on a machine that has one")
    from bounds.device import choose

    return choose(0, device=device)(precision)


class Net:
    """A graph builder with float32 random weights and inferred shapes."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.builder = GraphBuilder()

    def weights(self, *shape: int) -> np.ndarray[Any, Any]:
        fan = max(1, int(np.prod(shape[1:])))
        return (self.random.standard_normal(shape) / np.sqrt(fan)).astype(np.float32).astype(np.float64)

    def add(self, op: Op, *inputs: int, shape: tuple[int, ...] = (), **params: Any) -> int:
        shapes = [self.builder.nodes[i].shape for i in inputs]
        return self.builder.add(op, inputs, infer_shape(op, shapes, params, shape), params)

    def linear(self, x: int, out: int) -> int:
        inner = self.builder.nodes[x].shape[-1]
        return self.add(Op.LINEAR, x, weight=self.weights(out, inner), bias=self.weights(out))

    def conv(self, x: int, weight: tuple[int, ...], *, transposed: bool = False, **how: Any) -> int:
        groups = how.get("groups", 1)
        outs = weight[1] * groups if transposed else weight[0]
        params: dict[str, Any] = {
            "weight": self.weights(*weight), "bias": self.weights(outs), "strides": (1, 1),
            "pads": (0, 0, 0, 0), "dilations": (1, 1), "groups": 1, **how,
        }  # fmt: skip
        if transposed:
            params.setdefault("output_padding", (0, 0))
        return self.add(Op.CONV_TRANSPOSE if transposed else Op.CONV, x, **params)

    def relu(self, x: int) -> int:
        return self.add(Op.RELU, x)

    def flat(self, x: int) -> int:
        return self.add(Op.RESHAPE, x, shape=(1, self.builder.nodes[x].size))

    def take(self, x: int, index: Any) -> int:
        index = np.asarray(index)
        fill = np.where(index < 0, self.random.standard_normal(index.shape), 0.0).astype(np.float32)
        flat = {"index": index.reshape(-1), "fill": fill.reshape(-1).astype(np.float64)}
        return self.add(Op.TAKE, x, shape=index.shape, **flat)

    def done(self, *outputs: int) -> Graph:
        for i, node in enumerate(outputs):
            self.builder.output(f"y{i}", node)
        return self.builder.build()


def dense(seed: int) -> Graph:
    net = Net(seed)
    x = net.builder.input("x", (1, 4))
    for width in (12, 10):
        x = net.relu(net.linear(x, width))
    return net.done(net.linear(x, 3))


def convolutions(seed: int) -> Graph:
    net = Net(seed)
    x = net.builder.input("x", (1, 2, 9, 8))
    x = net.relu(net.conv(x, (4, 2, 3, 3), strides=(2, 1), pads=(1, 0, 2, 1)))
    x = net.relu(net.conv(x, (6, 2, 2, 3), groups=2, dilations=(2, 1), pads=(0, 1, 1, 0)))
    x = net.relu(net.conv(x, (6, 1, 3, 2), transposed=True, groups=2, strides=(2, 3), output_padding=(1, 2)))
    shift = net.weights(2, 1, 1)
    x = net.add(Op.SCALE, x, scale=net.weights(1, 2, 1, 1), shift=shift)
    x = net.add(Op.SUM, x, axes=(3,))
    return net.done(net.linear(net.relu(net.flat(x)), 3))


def residual(seed: int) -> Graph:
    net = Net(seed)
    x = net.builder.input("x", (1, 6))
    h = net.relu(net.linear(x, 8))
    r = net.linear(net.relu(net.linear(h, 8)), 8)
    s = net.add(Op.ADD, h, r, coefficients=np.array([1.0, -0.5]))
    y = net.linear(net.relu(s), 3)
    return net.done(net.add(Op.ADD, y, net.linear(h, 3), coefficients=np.array([1.0, 1.0])))


def pooled(seed: int) -> Graph:
    """Maximum of overlapping windows as ``max(a, b) = b + relu(a - b)``, with constants at the border."""
    net = Net(seed)
    x = net.builder.input("x", (1, 1, 4, 4))
    c = net.conv(x, (2, 1, 3, 3), pads=(1, 1, 1, 1))
    place = np.arange(32).reshape(1, 2, 4, 4)
    left = np.concatenate([np.full((1, 2, 4, 1), -1), place[..., :-1]], axis=3)
    a, b = net.take(c, left), net.take(c, place)
    gap = net.add(Op.ADD, a, b, coefficients=np.array([1.0, -1.0]))
    m = net.add(Op.ADD, b, net.relu(gap), coefficients=np.array([1.0, 1.0]))
    twice = net.take(m, np.array([[0, 3, 3, 9, 17, 0, 30, 3]]))
    return net.done(net.linear(net.relu(net.linear(twice, 6)), 3))


def several(seed: int) -> Graph:
    net = Net(seed)
    a, b = net.builder.input("a", (1, 3)), net.builder.input("b", (2, 2))
    h = net.relu(net.linear(b, 3))  # a stack of two vectors
    joined = net.add(Op.CONCAT, net.linear(a, 3), h, axis=0)
    mixed = net.add(Op.CONCAT, joined, joined, axis=1)
    y = net.relu(net.linear(mixed, 4))
    return net.done(net.linear(net.flat(y), 2), net.linear(a, 1))


GRAPHS: dict[str, Callable[[int], Graph]] = {
    "dense": dense, "convolutions": convolutions, "residual": residual, "pooled": pooled, "several": several,
}  # fmt: skip


def objectives_of(graph: Graph, seed: int, rows: int = 4, *, mixed: bool = False) -> Objectives:
    """Random rows in two groups; ``mixed`` rows read inputs as well."""
    random = np.random.default_rng(seed)
    c = random.integers(-3, 4, (rows, graph.output_size)).astype(np.float64)
    g = random.integers(-2, 3, (rows, graph.input_size)).astype(np.float64) * mixed
    d = random.integers(-2, 3, rows).astype(np.float64)
    start = np.array([0, 1, rows])

    def rational() -> Any:
        raise AssertionError("no exact arithmetic here")

    return Objectives(c, g, d, np.zeros(rows, dtype=bool), start, False, rational)


def boxes_of(graph: Graph, seed: int, count: int = 3, radius: float = 0.3) -> tuple[Any, Any]:
    """Random boxes, one side of one of them of width zero."""
    random = np.random.default_rng(seed)
    centre = random.standard_normal((count, graph.input_size))
    half = radius * random.random((count, graph.input_size))
    half[0, 0] = 0.0
    return centre - half, centre + half
