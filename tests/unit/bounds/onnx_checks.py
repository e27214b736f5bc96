"""Tiny ONNX models against onnxruntime: what the tests of single operators share."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import onnx
from onnx import numpy_helper

from bounds.evaluate import evaluate
from bounds.io.onnx import Model, load_bytes
from bounds.io.session import Session

Array: TypeAlias = Any  # numpy arrays, told apart from shapes by their type


def model_of(
    body: str, opset: int = 18, *, outputs: str = "float y", kind: str = "float", **operands: Any
) -> Model:
    """Imports nodes written in ONNX's text form; tuples are input shapes, arrays are initializers."""
    inputs = {k: v for k, v in operands.items() if isinstance(v, tuple)} or {"x": (2, 3)}
    stored = {k: v for k, v in operands.items() if not isinstance(v, tuple)}
    heads = ", ".join(f"{kind}[{','.join(map(str, s))}] {n}" for n, s in inputs.items())
    text = f'<ir_version: 10, opset_import: ["" : {opset}]> g ({heads}) => ({outputs}) {{ {body} }}'
    proto = onnx.parser.parse_model(text)
    for value in proto.graph.input:
        value.type.tensor_type.shape.SetInParent()  # the text form leaves the shape of a scalar out
    for value in proto.graph.output:
        value.type.tensor_type.ClearField("shape")
    for name, v in stored.items():
        tensor = v if isinstance(v, onnx.TensorProto) else numpy_helper.from_array(np.asarray(v), name)
        proto.graph.initializer.append(tensor)
    return load_bytes(proto.SerializeToString(), "m")


def agree(
    body: str,
    opset: int = 18,
    *,
    spread: float = 1.0,
    whole: bool = False,
    points: int = 4,
    tolerance: float = 2e-5,
    **operands: Any,
) -> Model:
    """The import computes what onnxruntime computes at random points (whole numbers where asked).

    Shapes have to agree too. Returns the model.
    """
    model = model_of(body, opset, **operands)
    session = Session(model)
    rng = np.random.default_rng(len(body))
    x = spread * rng.standard_normal((points, model.graph.input_size))
    x = (np.round(x) if whole else x).astype(np.float32).astype(np.float64)
    found = evaluate(model.graph, x)
    runs = [session.run(point) for point in x]
    for port, y in zip(model.graph.outputs, runs[0], strict=True):
        assert port.shape == y.shape, (port.shape, y.shape)
    wanted = np.stack([np.concatenate([np.asarray(y, np.float64).ravel() for y in run]) for run in runs])
    scale = max(1.0, float(np.abs(wanted).max(initial=0.0)))
    np.testing.assert_allclose(found, wanted, rtol=tolerance, atol=tolerance * scale)
    return model


def w(*shape: int, seed: int = 0) -> Array:
    """Normal float32 numbers."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def ints(*values: int) -> Array:
    """A vector of int64."""
    return np.array(values, np.int64)


def f(*values: float) -> Array:
    """A float32 number, or a vector of them."""
    return np.array(values if len(values) != 1 else values[0], np.float32)
