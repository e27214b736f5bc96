"""Tiny ONNX models for the tests of this folder, written in ONNX's text form."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper


def tiny(
    body: str, *, inputs: str = "float[1,3] x", outputs: str = "float[] y", opset: int = 13, **stored: Any
) -> onnx.ModelProto:
    """A model with the given nodes; arrays become initializers, output shapes are left open."""
    text = f'<ir_version: 8, opset_import: ["" : {opset}]> g ({inputs}) => ({outputs}) {{ {body} }}'
    model: onnx.ModelProto = onnx.parser.parse_model(text)
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(v), k) for k, v in stored.items())
    return model


def weights(*shape: int, seed: int = 0) -> np.ndarray[Any, Any]:
    """Normal float32 numbers."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def residual() -> onnx.ModelProto:
    """Convolution, BatchNorm, pooling, a residual branch, a constant branch, a dense head."""
    return tiny(
        "c = Conv<pads=[1,1,1,1]>(x, k) n = BatchNormalization(c, s, b, m, v) r = Relu(n)"
        "d = Conv<pads=[1,1,1,1]>(r, k2, b2) e = Add(d, c) p = MaxPool<kernel_shape=[2,2],strides=[2,2]>(e)"
        "f = Flatten(p) h = MatMul(f, w) g = Add(h, a) q = LeakyRelu<alpha=0.25>(g) y = Clip(q, lo, hi)",
        inputs="float[1,1,4,4] x",
        k=weights(2, 1, 3, 3), s=weights(2), b=weights(2), m=weights(2), v=abs(weights(2)),
        k2=weights(2, 2, 3, 3), b2=weights(2), w=weights(8, 3), a=weights(3),
        lo=np.float32(-2.0), hi=np.float32(3.0),
    )  # fmt: skip
