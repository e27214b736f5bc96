"""Tiny ONNX networks and VNN-LIB texts, written to files and verified through the public entry point."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from verifier import Options, verify
from verifier.report.model import Report

Layers = Sequence[tuple[Any, Any]]


def dense(path: Path, layers: Layers, *, name: str = "f", double: bool = False) -> Path:
    """A dense ReLU network ``x -> W0 x + b0 -> relu -> ...`` as MatMul, Add and Relu nodes."""
    kind, proto = (np.float64, TensorProto.DOUBLE) if double else (np.float32, TensorProto.FLOAT)
    nodes, stored, value = [], [], "X"
    for i, (w, b) in enumerate(layers):
        w, b = np.asarray(w, kind), np.asarray(b, kind)
        stored += [numpy_helper.from_array(w.T.copy(), f"W{i}"), numpy_helper.from_array(b, f"b{i}")]
        last = i == len(layers) - 1
        nodes.append(helper.make_node("MatMul", [value, f"W{i}"], [f"m{i}"], f"matmul{i}"))
        nodes.append(helper.make_node("Add", [f"m{i}", f"b{i}"], ["Y" if last else f"z{i}"], f"add{i}"))
        value = f"r{i}"
        if not last:
            nodes.append(helper.make_node("Relu", [f"z{i}"], [value], f"relu{i}"))
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info("X", proto, [1, np.asarray(layers[0][0]).shape[1]])],
        [helper.make_tensor_value_info("Y", proto, [1, np.asarray(layers[-1][0]).shape[0]])],
        stored,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def text(value: Any) -> str:
    """A number as VNN-LIB writes it, exact for floats and for decimal strings."""
    if isinstance(value, str):
        return value
    number = Fraction(value)
    sign, number = ("-" if number < 0 else ""), abs(number)
    twos = 0
    denominator = number.denominator
    while denominator % 2 == 0:
        denominator, twos = denominator // 2, twos + 1
    if denominator != 1:
        raise ValueError(f"{value} has no finite decimal form")
    digits = str(number.numerator * 5**twos).rjust(twos + 1, "0")
    whole, part = (digits, "0") if twos == 0 else (digits[:-twos], digits[-twos:])
    return f"{sign}{whole}.{part}"


def vnnlib(path: Path, box: Sequence[tuple[Any, Any]], outputs: int, *conditions: str) -> Path:
    """A VNN-LIB 1.0 property: a box and asserted conditions."""
    lines = [f"(declare-const X_{i} Real)" for i in range(len(box))]
    lines += [f"(declare-const Y_{i} Real)" for i in range(outputs)]
    for i, (lo, hi) in enumerate(box):
        lines += [f"(assert (>= X_{i} {text(lo)}))", f"(assert (<= X_{i} {text(hi)}))"]
    lines += [f"(assert {c})" for c in conditions]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def ask(
    tmp: Path,
    layers: Layers,
    box: Sequence[tuple[Any, Any]],
    *conditions: str,
    double: bool = False,
    **options: Any,
) -> Report:
    """Writes the query's files and verifies it (with a limit that repeats exactly)."""
    options = {"max_domains": 2000, **options}
    model = dense(tmp / "f.onnx", layers, double=double)
    outputs = np.asarray(layers[-1][0]).shape[0]
    return verify(model, vnnlib(tmp / "p.vnnlib", box, outputs, *conditions), options=Options(**options))


# |x| as relu(x) + relu(-x)
ABS: Layers = [([[1.0], [-1.0]], [0.0, 0.0]), ([[1.0, 1.0]], [0.0])]


def spike(centre: float, width: float, height: float) -> Layers:
    """A triangle of this height on ``centre +- width``, 0 elsewhere: three rectifiers."""
    s = height / width
    return [
        ([[1.0], [1.0], [1.0]], [-(centre - width), -centre, -(centre + width)]),
        ([[s, -2 * s, s]], [0.0]),
    ]
