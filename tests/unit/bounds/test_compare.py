"""The comparison at load notices a wrong import and names the first wrong node."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

import numpy as np
import pytest
from tiny_models import residual, tiny, weights

from bounds.errors import ModelInvalid
from bounds.graph import Graph, Op
from bounds.io.compare import compare_with_onnxruntime
from bounds.io.onnx import Model, load_bytes
from bounds.io.session import Session


def damaged(model: Model, node_id: int, factor: float) -> Model:
    node = model.graph.nodes[node_id]
    name = "weight" if "weight" in node.params else "coefficients"
    params = MappingProxyType({**node.params, name: node.params[name] * factor})
    nodes = [replace(n, params=params) if n.id == node_id else n for n in model.graph.nodes]
    return replace(model, graph=Graph(tuple(nodes), model.graph.inputs, model.graph.outputs))


def test_right_imports_pass() -> None:
    compare_with_onnxruntime(load_bytes(residual().SerializeToString(), "m"))


@pytest.mark.parametrize("tensor", ["c", "d", "e", "h"])
def test_first_wrong_node_is_named(tensor: str) -> None:
    model = load_bytes(residual().SerializeToString(), "m")
    with pytest.raises(ModelInvalid, match=f"first at node '{tensor}'"):
        compare_with_onnxruntime(damaged(model, model.tensors[tensor], 1 + 1e-4))


def test_constant_and_aliased_outputs() -> None:
    proto = tiny(
        "a = Relu(x) b = Identity(a) c = Relu(k)", outputs="float[] a, float[] b, float[] c", k=weights(2)
    )
    model = load_bytes(proto.SerializeToString(), "m")
    assert model.graph.output_size == 8
    compare_with_onnxruntime(model)


def test_fixed_and_symbolic_batch() -> None:
    for inputs in ("float[3,4] x", "float[N,4] x"):
        proto = tiny("h = MatMul(x, w) y = Relu(h)", inputs=inputs, w=weights(4, 2))
        compare_with_onnxruntime(load_bytes(proto.SerializeToString(), "m"))


def test_session_feeds_several_inputs() -> None:
    proto = tiny("y = Sub(x, z)", inputs="float[1,3] x, float[3] z")
    model = load_bytes(proto.SerializeToString(), "m")
    (y,) = Session(model).run(np.arange(6.0))
    np.testing.assert_array_equal(y, [[-3, -3, -3]])
    with pytest.raises(ValueError, match="expected a point"):
        Session(model).run(np.zeros(5))


def test_what_onnxruntime_refuses_is_one_error() -> None:
    model = load_bytes(residual().SerializeToString(), "m")
    with pytest.raises(ModelInvalid, match="onnxruntime"):
        Session(model, onnx_bytes=b"junk")


def test_relus_have_no_parameters() -> None:
    model = load_bytes(residual().SerializeToString(), "m")
    assert all(not n.params for n in model.graph.nodes if n.op is Op.RELU)
