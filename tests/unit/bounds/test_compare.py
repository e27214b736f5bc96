"""The comparison at load notices a wrong import and names the first wrong node."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

import numpy as np
import pytest
from tiny_models import residual, tiny, weights

from bounds.errors import ModelInvalid
from bounds.evaluate_scalar import evaluate_expression
from bounds.expression import Expr, Fn, X, call
from bounds.graph import Graph, Op
from bounds.io.compare import compare_with_onnxruntime
from bounds.io.deviation import deviation
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


CURVED = "h = MatMul(x, w) s = Sigmoid(h) g = Exp(s) r = Relu(x) m = Mul(g, r) f = Floor(h) y = Add(m, f)"


def curved() -> Model:
    return load_bytes(tiny(CURVED, w=weights(3, 3)).SerializeToString(), "m")


def test_curved_models_pass() -> None:
    compare_with_onnxruntime(curved())


@pytest.mark.parametrize("tensor", ["g", "m", "f"])
def test_a_wrong_function_is_noticed(tensor: str) -> None:
    model = curved()
    node = model.graph.nodes[model.tensors[tensor]]
    if node.op is Op.SCALAR:
        wrong = replace(node, params=MappingProxyType({"function": node.params["function"] * (1 + 1e-4)}))
    else:
        wrong = replace(node, inputs=(node.inputs[0], node.inputs[0]))
    nodes = tuple(wrong if n is node else n for n in model.graph.nodes)
    with pytest.raises(ModelInvalid, match=f"first at node '{tensor}'"):
        compare_with_onnxruntime(replace(model, graph=replace(model.graph, nodes=nodes)))


@pytest.mark.parametrize(
    ("e", "lo", "hi"),
    [
        (X * call(Fn.SIGMOID, X), -5, 5),
        (call(Fn.EXP, X**3) / (1.0 + X**2), -1.5, 1.5),
        (call(Fn.LOG, 1.0 + call(Fn.ABS, X)) - call(Fn.SIN, 3.0 * X), -4, 4),
        (call(Fn.WHERE, call(Fn.STRICT, X), X, call(Fn.EXP, X) - 1.0), -3, 3),
        (call(Fn.ROUND, 4.0 * X) * 0.25, -3, 3),
        (call(Fn.TAN, X), -1.4, 1.4),
    ],
)
def test_deviation_covers_rounded_arithmetic(e: Expr, lo: float, hi: float) -> None:
    rng = np.random.default_rng(0)
    x = rng.uniform(lo, hi, 2000)
    error = 10.0 ** rng.uniform(-9, -3, x.shape)
    bound = deviation(e, x, error, 2.0**-24, 2.0**-126)
    near = (x + error * rng.uniform(-1, 1, x.shape)).astype(np.float32)
    gap = np.abs(evaluate_expression(e, near).astype(np.float64) - evaluate_expression(e, x))
    assert np.all(gap <= bound + 2.0**-24 * 10)
    tight = deviation(e, x, np.zeros_like(x), 2.0**-24, 2.0**-126)
    assert np.median(tight) < 1e-4


def test_deviation_knows_nothing_across_poles_and_jumps() -> None:
    x, error = np.array([0.0, 0.5]), np.array([0.1, 0.1])
    assert deviation(1.0 / X, x, error, 0.0, 0.0)[0] == np.inf
    assert deviation(call(Fn.LOG, X), x, error, 0.0, 0.0)[0] == np.inf
    assert deviation(call(Fn.TAN, X), x + np.pi / 2, error, 0.0, 0.0)[0] == np.inf
    assert deviation(call(Fn.ZERO, X), x + 0.05, error, 0.0, 0.0).tolist() == [1.0, 0.0]
    assert deviation(call(Fn.FLOOR, X), x, error, 0.0, 0.0).tolist() == [1.0, 0.0]
