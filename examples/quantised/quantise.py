"""Makes an int8 version of a float network, and asks how far the two can differ.

    python examples/quantised/quantise.py     # needs onnx, onnxruntime, numpy; writes beside this file

The network is ``examples/models/pendulum.onnx``. Weights become int8 with one scale for each output,
activations uint8 with one scale for each layer, calibrated on a grid of states, in the usual QDQ form:
QuantizeLinear and DequantizeLinear around every operator. ``difference.onnx`` is both networks in one, the
float one's output less the int8 one's.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, compose, helper, numpy_helper

HERE = Path(__file__).parent
FLOAT = HERE.parent / "models" / "pendulum.onnx"
RANGES = ((-1, 1), (-2, 2))  # rad, rad/s
NEAR = ((-0.02, 0.02), (-0.05, 0.05))
OPSET, IR = 18, 10  # as the float network has them
Array = np.ndarray[Any, Any]


def layers() -> list[tuple[Array, Array]]:
    """Weights ``(outputs, inputs)`` and biases of the dense layers."""
    model = onnx.load(FLOAT)
    values = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    found = []
    for node in model.graph.node:
        if node.op_type == "Gemm":
            by = next((a.i for a in node.attribute if a.name == "transB"), 0)
            weight = values[node.input[1]]
            found.append((weight if by else weight.T, values[node.input[2]]))
    return found


class Builder:
    """Collects nodes and constants of the quantised graph."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, name: str, value: Array) -> str:
        self.constants.append(numpy_helper.from_array(value, name))
        return name

    def add(self, op: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(op, inputs, [output], output, **attributes))
        return output

    def rounded(self, name: str, low: float, high: float) -> str:
        """The tensor through uint8 and back."""
        low, high = min(low, 0.0), max(high, 0.0)
        step = np.float32((high - low) / 255)
        zero = np.uint8(np.clip(np.round(-low / step), 0, 255))
        scale = self.constant(f"{name}_scale", np.array(step))
        at = self.constant(f"{name}_zero", np.array(zero, dtype=np.uint8))
        self.add("QuantizeLinear", [name, scale, at], f"{name}_q")
        return self.add("DequantizeLinear", [f"{name}_q", scale, at], f"{name}_dq")

    def weight(self, name: str, value: Array) -> str:
        """An int8 constant, read back to float32."""
        step = (np.abs(value).max(axis=1) / 127).astype(np.float32)
        scale = self.constant(f"{name}_scale", step)
        whole = np.clip(np.round(value / step[:, None]), -127, 127).astype(np.int8)
        zeros = self.constant(f"{name}_zero", np.zeros(len(step), dtype=np.int8))
        return self.add("DequantizeLinear", [self.constant(f"{name}_q", whole), scale, zeros], name, axis=0)


def grid() -> Array:
    axes = [np.linspace(low, high, 41, dtype=np.float32) for low, high in RANGES]
    return np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, 2)


def quantised() -> onnx.ModelProto:
    build, value, name = Builder(), grid(), "x"
    dense = layers()
    for k, (weight, bias) in enumerate(dense):
        name = build.rounded(name, float(value.min()), float(value.max()))
        value = value @ weight.T + bias
        inputs = [name, build.weight(f"w{k}", weight), build.constant(f"b{k}", bias)]
        last = k == len(dense) - 1
        name = build.add("Gemm", inputs, "y" if last else f"z{k}", transB=1)
        if not last:
            value, name = np.maximum(value, 0), build.add("Relu", [name], f"a{k}")
    ports = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, s]) for n, s in (("x", 2), ("y", 1))]
    graph = helper.make_graph(build.nodes, "pendulum_int8", ports[:1], ports[1:], build.constants)
    return _model(graph)


def _model(graph: onnx.GraphProto) -> onnx.ModelProto:
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR)
    onnx.checker.check_model(model, full_check=True)
    return model


def difference(int8: onnx.ModelProto) -> onnx.ModelProto:
    """Both networks on one input; the output is that of the first less that of the second."""
    parts = [compose.add_prefix(onnx.load(FLOAT), "float_"), compose.add_prefix(int8, "int8_")]
    nodes = [helper.make_node("Identity", ["x"], [p.graph.input[0].name]) for p in parts]
    nodes += [node for p in parts for node in p.graph.node]
    nodes.append(helper.make_node("Sub", [p.graph.output[0].name for p in parts], ["d"]))
    ports = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, s]) for n, s in (("x", 2), ("d", 1))]
    values = [tensor for p in parts for tensor in p.graph.initializer]
    return _model(helper.make_graph(nodes, "difference", ports[:1], ports[1:], values))


def about_the_difference(most: str, says: str) -> str:
    """VNN-LIB 1.0: unsafe is a state at which the difference is ``most`` or more, either way."""
    box = [
        f"(assert ({r} X_{i} {v}))"
        for i, ends in enumerate(RANGES)
        for r, v in zip((">=", "<="), ends, strict=True)
    ]
    names = [f"(declare-const {name} Real)" for name in ("X_0", "X_1", "Y_0")]
    unsafe = f"(assert (or (and (>= Y_0 {most})) (and (<= Y_0 -{most}))))"
    return "\n".join([f"; {says}", *names, *box, unsafe, ""])


def about_both(most: str, box: tuple[tuple[float, float], ...], says: str) -> str:
    """VNN-LIB 2.0: the same about two networks whose inputs are equal."""
    box = "\n".join(
        f"(assert (and (>= X[0,{i}] {low:.2f}) (<= X[0,{i}] {high:.2f})))"
        for i, (low, high) in enumerate(box)
    )
    return f"""; {says}
(vnnlib-version <2.0>)
(declare-network float
  (declare-input X real [1, 2])
  (declare-output Y real [1, 1]))
(declare-network int8
  (declare-input V real [1, 2])
  (declare-output W real [1, 1]))
{box}
(assert (== X[0,0] V[0,0]))
(assert (== X[0,1] V[0,1]))
(assert (or (>= (- Y[0,0] W[0,0]) {most}) (<= (- Y[0,0] W[0,0]) -{most})))
"""


def main() -> None:
    path = HERE / "pendulum_int8.onnx"
    onnx.save(quantised(), path)
    both = [onnxruntime.InferenceSession(str(p), providers=["CPUExecutionProvider"]) for p in (FLOAT, path)]
    answers = np.array([[s.run(None, {"x": p[None]})[0].item() for p in grid()] for s in both])
    print(f"on the grid the two differ by at most {np.abs(answers[0] - answers[1]).max():.4f} Nm")
    onnx.save(difference(onnx.load(path)), HERE / "difference.onnx")
    texts = {
        "agree_unsat": about_the_difference(
            "0.1", "the two torques are within 0.1 Nm of each other, everywhere"
        ),
        "near_v2_unsat": about_both("0.1", NEAR, "the same near the upright position, as two networks"),
        "closer_v2_sat": about_both("0.01", RANGES, "within 0.01 Nm, which is too much to ask of 8 bits"),
    }
    for name, text in texts.items():
        (HERE / f"{name}.vnnlib").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
