"""Small networks with known behaviour, and a folder with a configuration around them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from verifier.gate.config import GateConfig, parse_config
from verifier.gate.report import Finding, GateReport
from verifier.gate.run import GateOptions, run


def dense(
    path: Path, layers: list[tuple[Any, Any]], shape: tuple[int, ...] | None = None, opset: int = 17
) -> Path:
    """``x -> Gemm -> Relu -> ... -> Gemm -> y``; an input of another shape is flattened first."""
    nodes, tensors, at = [], [], "x"
    size = np.asarray(layers[0][0]).shape[0]
    if shape is not None:
        nodes.append(helper.make_node("Flatten", ["x"], ["flat"]))
        at = "flat"
    for i, (w, b) in enumerate(layers):
        tensors += [
            numpy_helper.from_array(np.asarray(w, dtype=np.float32), f"w{i}"),
            numpy_helper.from_array(np.asarray(b, dtype=np.float32), f"b{i}"),
        ]
        last = i == len(layers) - 1
        nodes.append(helper.make_node("Gemm", [at, f"w{i}", f"b{i}"], ["y" if last else f"g{i}"]))
        if not last:
            nodes.append(helper.make_node("Relu", [f"g{i}"], [f"h{i}"]))
            at = f"h{i}"
    ports = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, list(shape or (1, size))),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, np.asarray(layers[-1][0]).shape[1]]),
    ]
    graph = helper.make_graph(nodes, "g", ports[:1], ports[1:], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    onnx.checker.check_model(path)
    return path


def halves(path: Path, gain: float = 1.0) -> Path:
    """A classifier of two numbers: class 0 where x0 > x1; its margin is ``gain (x0 - x1)``."""
    return dense(path, [(gain * np.eye(2), [0, 0])])


def bent(path: Path) -> Path:
    """``y = |x0| + |x1|``: its range on [-1, 1]^2 is [0, 2]; looser at the root than after splits."""
    w = np.array([[1, -1, 0, 0], [0, 0, 1, -1]])
    return dense(path, [(w, np.zeros(4)), (np.ones((4, 1)), [0])])


def samples(path: Path, x: Any, y: Any) -> Path:
    np.savez(path, x=np.asarray(x), y=np.asarray(y))
    return path


def config(text: str, folder: Path) -> GateConfig:
    return parse_config("version = 1\n" + text, str(folder / "surebound.toml"), folder)


def decide(text: str, folder: Path, **options: Any) -> GateReport:
    return run(config(text, folder), GateOptions(**options))


def only(report: GateReport) -> Finding:
    (finding,) = report.findings
    return finding
