"""Evaluation: exact in rationals, and the same function in every arithmetic."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from tiny_models import residual, tiny

from bounds.evaluate import evaluate, evaluate_nodes
from bounds.graph import Op
from bounds.io.onnx import load_bytes
from bounds.shapes import RULES, infer_shape


def dyadic(rng: np.random.Generator, *shape: int) -> np.ndarray[Any, Any]:
    """Small multiples of 1/8: every product and sum below is exact in float64."""
    return (rng.integers(-16, 17, shape) / 8).astype(np.float32)


def exact(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    out = np.empty(x.shape, dtype=object)
    out[...] = np.vectorize(Fraction, otypes=[object])(x)
    return out


def test_rationals_equal_float64_on_dyadic_numbers(rng: np.random.Generator) -> None:
    model = tiny(
        "c = Conv<pads=[1,0,1,2],strides=[1,2],group=2>(x, k, b)"
        " r = Relu(c) t = ConvTranspose<strides=[2,1]>(r, u)"
        "m = MaxPool<kernel_shape=[2,2],pads=[1,1,0,0],strides=[2,2]>(t) z = Pad(m, p, v) f = Flatten(z)"
        "g = Gemm<transB=1>(f, w, a) h = LeakyRelu<alpha=0.5>(g) q = Clip(h, lo, hi) s = Sub(h, q)"
        "e = Concat<axis=1>(q, s) o = ReduceSum<keepdims=1>(e, ax) y = Concat<axis=1>(o, e)",
        inputs="float[1,2,3,4] x",
        k=dyadic(rng, 4, 1, 2, 2), b=dyadic(rng, 4), u=dyadic(rng, 4, 2, 2, 2),
        p=np.array([0, 0, 0, 1, 0, 0, 1, 0]), v=np.float32(0.5), w=dyadic(rng, 3, 64), a=dyadic(rng, 3),
        lo=np.float32(-1.5), hi=np.float32(2.25), ax=np.array([1]),
    )  # fmt: skip
    flat = _flat_size(model)
    for tensor in model.graph.initializer:
        if tensor.name == "w":
            tensor.CopyFrom(_tensor("w", dyadic(rng, 3, flat)))
    graph = load_bytes(model.SerializeToString(), "dyadic").graph
    x = dyadic(rng, 3, graph.input_size).astype(np.float64)
    rational = evaluate(graph, exact(x))
    assert rational.dtype == object
    np.testing.assert_array_equal(rational.astype(np.float64), evaluate(graph, x))
    assert all(Fraction(a) == b for a, b in zip(evaluate(graph, x).ravel(), rational.ravel(), strict=True))


def _flat_size(model: Any) -> int:
    head = onnx.ModelProto()
    head.CopyFrom(model)
    keep = next(i for i, n in enumerate(head.graph.node) if n.op_type == "Gemm")
    del head.graph.node[keep:]
    head.graph.output[0].name = "f"
    return load_bytes(head.SerializeToString(), "head").graph.output_size


def _tensor(name: str, data: np.ndarray[Any, Any]) -> Any:
    return numpy_helper.from_array(data, name)


def test_rationals_do_not_round() -> None:
    model = tiny("y = Mul(x, c)", inputs="float[1] x", c=np.array([0.1], np.float32))
    graph = load_bytes(model.SerializeToString(), "m").graph
    x = np.array([[Fraction(1, 3)]], dtype=object)
    assert evaluate(graph, x)[0, 0] == Fraction(float(np.float32(0.1))) / 3


def test_evaluate_agrees_with_all_nodes(rng: np.random.Generator) -> None:
    graph = load_bytes(residual().SerializeToString(), "m").graph
    x = rng.standard_normal((5, graph.input_size))
    values = evaluate_nodes(graph, x)
    np.testing.assert_array_equal(values[graph.outputs[0].node].reshape(5, -1), evaluate(graph, x))
    one_by_one = np.concatenate([evaluate(graph, x[i : i + 1]) for i in range(5)])
    np.testing.assert_allclose(evaluate(graph, x), one_by_one, rtol=1e-12)


def test_wrong_size_is_refused() -> None:
    graph = load_bytes(residual().SerializeToString(), "m").graph
    with pytest.raises(ValueError, match="expected points"):
        evaluate(graph, np.zeros((1, 3)))


def test_every_primitive_has_a_shape_rule() -> None:
    assert set(RULES) == set(Op)


@pytest.mark.parametrize(
    ("op", "shapes", "params"),
    [
        (Op.LINEAR, [(1, 3)], {"weight": np.zeros((2, 4)), "bias": np.zeros(2)}),
        (Op.LINEAR, [(1, 4)], {"weight": np.zeros((2, 4)), "bias": np.zeros(3)}),
        (Op.SCALE, [(3,)], {"scale": np.zeros((2, 3)), "shift": np.zeros(())}),
        (Op.ADD, [(3,), (1, 3)], {"coefficients": np.ones(2)}),
        (Op.ADD, [], {"coefficients": np.ones(0)}),
        (Op.CONCAT, [(1, 3), (2, 3)], {"axis": 1}),
        (Op.CONCAT, [(1, 3)], {"axis": 2}),
        (Op.SUM, [(1, 3)], {"axes": (1, 1)}),
        (Op.RESHAPE, [(1, 3)], {}),
        (Op.RELU, [(1,), (1,)], {}),
        (Op.TAKE, [(2,)], {"index": np.array([2]), "fill": np.zeros(1)}),
    ],
)
def test_misfits_are_refused(op: Op, shapes: list[tuple[int, ...]], params: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"."):
        infer_shape(op, shapes, params, (1,) if op is Op.TAKE else (4,))
