"""Tiny models in ONNX text, one operator each, for the importer's conformance tests."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

NEW = (13, 18, 21)
ALL = (7, 9, 11, *NEW)


@dataclass(frozen=True)
class Case:
    """A tiny model: ``body`` in ONNX text, tuples are input shapes, arrays are initializers."""

    body: str
    opsets: tuple[int, ...] = NEW
    inputs: dict[str, tuple[int, ...]] = field(default_factory=dict)
    stored: dict[str, np.ndarray[Any, Any]] = field(default_factory=dict)
    dtype: str = "float32"
    outputs: str = "y"
    result: str = ""  # element type of the outputs in ONNX text, where it is not that of the inputs


def case(
    body: str,
    opsets: tuple[int, ...] = NEW,
    *,
    dtype: str = "float32",
    outputs: str = "y",
    result: str = "",
    **operands: Any,
) -> Case:
    inputs = {k: v for k, v in operands.items() if isinstance(v, tuple)}
    stored = {k: np.asarray(v) for k, v in operands.items() if not isinstance(v, tuple)}
    return Case(body, opsets, inputs or {"x": (1, 4)}, stored, dtype, outputs, result)


def w(*shape: int, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def ints(*values: int) -> np.ndarray[Any, Any]:
    return np.array(values, np.int64)


def f(value: float) -> np.ndarray[Any, Any]:
    return np.array(value, np.float32)


def build(c: Case, opset: int) -> bytes:
    kind = {"float32": "float", "float64": "double"}[c.dtype]
    inputs = ", ".join(f"{kind}[{','.join(map(str, s))}] {n}" for n, s in c.inputs.items())
    outputs = ", ".join(f"{c.result or kind} {name}" for name in c.outputs.split())
    text = f'<ir_version: 8, opset_import: ["" : {opset}]> g ({inputs}) => ({outputs}) {{ {c.body} }}'
    model = onnx.parser.parse_model(text)
    for value, shape in zip(model.graph.input, c.inputs.values(), strict=True):
        value.type.tensor_type.shape.SetInParent()  # the text form leaves the shape of a scalar out
        assert len(value.type.tensor_type.shape.dim) == len(shape)
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")
    model.graph.initializer.extend(numpy_helper.from_array(v, k) for k, v in c.stored.items())
    return model.SerializeToString()


IMAGE = (1, 2, 5, 6)
