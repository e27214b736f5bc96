"""Small networks for the Lipschitz tests, as ONNX bytes and as graphs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from bounds.io.onnx import Model, load_bytes

Array = np.ndarray[Any, np.dtype[Any]]


class Net:
    """Builds an ONNX graph line by line; the value of interest is ``self.x``."""

    def __init__(self, inputs: int) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.stored: list[onnx.TensorProto] = []
        self.inputs, self.size, self.x = inputs, inputs, "X"

    def const(self, values: Any, dtype: Any = np.float32) -> str:
        name = f"c{len(self.stored)}"
        self.stored.append(numpy_helper.from_array(np.asarray(values, dtype=dtype), name))
        return name

    def op(self, kind: str, *operands: str, outputs: int = 1, **attributes: Any) -> list[str]:
        names = [f"t{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(
            helper.make_node(kind, list(operands), names, name=f"n{len(self.nodes)}", **attributes)
        )
        return names

    def dense(self, weight: Array, x: str | None = None) -> Net:
        """``x W^T``."""
        (self.x,) = self.op("MatMul", x or self.x, self.const(weight.T))
        self.size = len(weight)
        return self

    def apply(self, kind: str, **attributes: Any) -> Net:
        (self.x,) = self.op(kind, self.x, **attributes)
        return self

    def maxmin(self) -> Net:
        """(max, min) of consecutive pairs, as exporters write it."""
        (pairs,) = self.op("Reshape", self.x, self.const([1, self.size // 2, 2], np.int64))
        a, b = self.op("Split", pairs, outputs=2, axis=2, num_outputs=2)
        (high,), (low,) = self.op("Max", a, b), self.op("Min", a, b)
        (both,) = self.op("Concat", high, low, axis=2)
        (self.x,) = self.op("Reshape", both, self.const([1, self.size], np.int64))
        return self

    def group_sort(self, k: int) -> Net:
        """Sorts groups of k by a bubble network of Max and Min."""
        (groups,) = self.op("Reshape", self.x, self.const([1, self.size // k, k], np.int64))
        wires = self.op("Split", groups, outputs=k, axis=2, num_outputs=k)
        for end in range(k - 1, 0, -1):
            for i in range(end):
                a, b = wires[i], wires[i + 1]
                wires[i], wires[i + 1] = self.op("Min", a, b)[0], self.op("Max", a, b)[0]
        (both,) = self.op("Concat", *wires, axis=2)
        (self.x,) = self.op("Reshape", both, self.const([1, self.size], np.int64))
        return self

    def householder(self, u: Array) -> Net:
        """``x + 2 u relu(-u' x)``."""
        (v,) = self.op("MatMul", self.x, self.const(-u[:, None]))
        (r,) = self.op("Relu", v)
        (step,) = self.op("MatMul", r, self.const(2 * u[None, :]))
        (self.x,) = self.op("Add", self.x, step)
        return self

    def conv(self, rng: np.random.Generator) -> Net:
        """A convolution of channels of 2 by 2 pixels, with rectifiers."""
        channels = self.size // 4
        (x,) = self.op("Reshape", self.x, self.const([1, channels, 2, 2], np.int64))
        kernel = self.const(rng.standard_normal((channels, channels, 3, 3)) / np.sqrt(4 * channels))
        (x,) = self.op("Relu", self.op("Conv", x, kernel, pads=[1] * 4)[0])
        (self.x,) = self.op("Reshape", x, self.const([1, self.size], np.int64))
        return self

    def residual(self, w: Array, g: Array, kind: str = "Relu") -> Net:
        """``x + G act(W x)``."""
        skip = self.x
        self.dense(w).apply(kind).dense(g)
        (self.x,) = self.op("Add", skip, self.x)
        return self

    def dense_skip(self, w: Array, kind: str = "Relu") -> Net:
        """``[x, act(W x)]``."""
        skip, before = self.x, self.size
        self.dense(w).apply(kind)
        (self.x,) = self.op("Concat", skip, self.x, axis=1)
        self.size = before + len(w)
        return self

    def bytes(self) -> bytes:
        graph = helper.make_graph(
            self.nodes,
            "net",
            [helper.make_tensor_value_info("X", TensorProto.FLOAT, [1, self.inputs])],
            [helper.make_tensor_value_info(self.x, TensorProto.FLOAT, [1, self.size])],
            self.stored,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
        onnx.checker.check_model(model)
        return model.SerializeToString()

    def model(self) -> Model:
        return load_bytes(self.bytes(), "net")


def random_net(rng: np.random.Generator, kind: str, widths: Sequence[int]) -> Net:
    """Dense layers with an activation (an ONNX operator's name, or a structure) between them."""
    net = Net(widths[0])
    for i, n in enumerate(widths[1:]):
        net.dense(rng.standard_normal((n, net.size)) / np.sqrt(net.size) * 1.5)
        if i == len(widths) - 2:
            break
        if kind == "maxmin":
            net.maxmin()
        elif kind.startswith("groupsort"):
            net.group_sort(int(kind[-1]))
        elif kind == "householder":
            u = rng.standard_normal(n)
            net.householder(u / np.linalg.norm(u))
        elif kind == "residual":
            net.residual(rng.standard_normal((n, n)) / n, rng.standard_normal((n, n)) / n)
        elif kind == "conv":
            net.conv(rng)
        elif kind == "product":
            (net.x,) = net.op("Mul", net.x, net.op("MatMul", net.x, net.const(np.eye(n)[::-1]))[0])
        elif kind == "Swish":
            (net.x,) = net.op("Mul", net.x, net.op("Sigmoid", net.x)[0])
        elif kind == "Gelu":
            (e,) = net.op("Erf", net.op("Mul", net.x, net.const([0.5**0.5]))[0])
            (net.x,) = net.op("Mul", net.x, net.op("Add", e, net.const([1.0]))[0])
        elif kind == "dense-skip":
            net.dense_skip(rng.standard_normal((3, n)) / np.sqrt(n))
        else:
            net.apply(kind)
    return net
