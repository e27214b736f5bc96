"""Small networks with known functions, as ONNX files, and what reads the command's answers back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

FLOAT, DOUBLE = TensorProto.FLOAT, TensorProto.DOUBLE
Layers = Sequence[tuple[Any, Any]]


def tensor(name: str, shape: Sequence[int | str], element: int = FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, element, shape)


def save(
    path: Path,
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    **stored: Any,
) -> Path:
    """A model file; keyword arguments become its stored tensors."""
    weights = [numpy_helper.from_array(np.asarray(v), name) for name, v in stored.items()]
    graph = helper.make_graph(list(nodes), "g", list(inputs), list(outputs), weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


def dense(
    path: Path,
    layers: Layers,
    *,
    last: str = "",
    batch: int | str = 1,
    width: int | str | None = None,
    element: int = FLOAT,
) -> Path:
    """``x -> Gemm -> Relu -> ... -> Gemm -> y``; the rectifiers' outputs are named h0, h1, ...

    Args:
        path: file to write.
        layers: (weight ``in out``, bias ``out``) pairs.
        last: operator after the last layer, or "".
        batch, width: dimensions of x to declare.
        element: element type of everything.
    """
    kind = helper.tensor_dtype_to_np_dtype(element)
    arrays = [(np.asarray(w, dtype=kind), np.asarray(b, dtype=kind)) for w, b in layers]
    nodes, stored, at = [], {}, "x"
    for i, (w, b) in enumerate(arrays):
        stored |= {f"w{i}": w, f"b{i}": b}
        end = i == len(arrays) - 1
        out = "y" if end and not last else f"g{i}"
        nodes.append(helper.make_node("Gemm", [at, f"w{i}", f"b{i}"], [out], f"dense{i}"))
        at = out
        if not end or last:
            at = "y" if end else f"h{i}"
            nodes.append(helper.make_node(last if end else "Relu", [out], [at], f"act{i}"))
    inputs = [tensor("x", [batch, arrays[0][0].shape[0] if width is None else width], element)]
    return save(path, nodes, inputs, [tensor("y", [batch, arrays[-1][0].shape[1]], element)], **stored)


def absolute(path: Path, factor: float = 1.0) -> Path:
    """``y = factor * |x|``; h0 is ``(max(x, 0), max(-x, 0))``."""
    return dense(path, [([[1.0, -1.0]], [0.0, 0.0]), ([[factor], [factor]], [0.0])])


def positive(path: Path) -> Path:
    """``y = max(x, 0)``."""
    return dense(path, [([[1.0]], [0.0]), ([[1.0]], [0.0])])


def two_by_two(path: Path) -> Path:
    """Inputs ``a: [1,2]`` and ``b: [1]``; outputs ``p = max(a + b, 0): [1,2]`` and ``q = b - a_0: [1,1]``."""
    nodes = [
        helper.make_node("Add", ["a", "b"], ["s"]),
        helper.make_node("Relu", ["s"], ["p"]),
        helper.make_node("Gemm", ["a", "w", "zero"], ["first"]),
        helper.make_node("Add", ["first", "b"], ["q"]),
    ]
    inputs, outputs = [tensor("a", [1, 2]), tensor("b", [1])], [tensor("p", [1, 2]), tensor("q", [1, 1])]
    return save(path, nodes, inputs, outputs, w=np.float32([[-1.0], [0.0]]), zero=np.float32([0.0]))


def vnnlib1(bounds: Sequence[tuple[Any, Any]], outputs: int, *assertions: str) -> str:
    """A VNN-LIB 1.0 property: a box and assertions."""
    lines = [f"(declare-const X_{i} Real)" for i in range(len(bounds))]
    lines += [f"(declare-const Y_{i} Real)" for i in range(outputs)]
    for i, (lo, hi) in enumerate(bounds):
        lines += [f"(assert (>= X_{i} {lo}))", f"(assert (<= X_{i} {hi}))"]
    return "\n".join([*lines, *(f"(assert {a})" for a in assertions)]) + "\n"


def assignment(out: str) -> dict[str, tuple[str, np.ndarray[Any, Any]]]:
    """Name -> (element type, float32 tensor) from the standard's form of an answer."""
    lines = out.splitlines()
    assert lines[0] == "sat"
    found: dict[str, tuple[str, np.ndarray[Any, Any]]] = {}
    at = 1
    while at < len(lines):
        name, element, dims = lines[at].split(" ")
        assert dims[0] == "[" and dims[-1] == "]"
        shape = [int(d) for d in dims[1:-1].split(",") if d]
        size = int(np.prod(shape, dtype=int))
        values = [np.float32(v) for v in lines[at + 1 : at + 1 + size]]
        found[name] = element, np.array(values, dtype=np.float32).reshape(shape)
        at += 1 + size
    return found


def replay(model: Path, inputs: Mapping[str, Any], *wanted: str) -> list[np.ndarray[Any, Any]]:
    """Tensors of a model as onnxruntime computes them; hidden ones become outputs first."""
    proto = onnx.load(model)
    known = {v.name for v in proto.graph.output}
    proto.graph.output.extend(onnx.ValueInfoProto(name=n) for n in wanted if n not in known)
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    feeds = {port.name: np.asarray(inputs[port.name], dtype=np.float32) for port in session.get_inputs()}
    return [np.asarray(v) for v in session.run(list(wanted), feeds)]
