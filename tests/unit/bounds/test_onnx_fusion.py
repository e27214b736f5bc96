"""Fusion: whatever operators spell a function of one tensor, it becomes one SCALAR, and no more than that."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from tiny_models import tiny, weights

from bounds.evaluate import evaluate
from bounds.expression import Fn, nodes
from bounds.graph import Graph, Op
from bounds.io.compare import compare_with_onnxruntime
from bounds.io.fusion import MAX_NODES
from bounds.io.onnx import Model, load_bytes
from bounds.io.session import Session


def numbers(**given: float) -> dict[str, Any]:
    return {k: np.float32(v) for k, v in given.items()}


def model_of(body: str, **kwargs: Any) -> Model:
    model = load_bytes(tiny(body, opset=18, **kwargs).SerializeToString(), "m")
    compare_with_onnxruntime(model)
    return model


def ops(graph: Graph) -> list[Op]:
    return [n.op for n in graph.nodes if n.op is not Op.INPUT]


SPELLED: dict[str, tuple[str, dict[str, Any]]] = {
    "SiLU": ("s = Sigmoid(x) y = Mul(x, s)", {}),
    "quick GELU": ("a = Mul(x, k) s = Sigmoid(a) y = Mul(x, s)", numbers(k=1.702)),
    "GELU, half last": (
        "a = Div(x, k) e = Erf(a) o = Add(e, one) p = Mul(x, o) y = Mul(p, h)",
        numbers(k=2**0.5, one=1, h=0.5),
    ),
    "GELU, half first": (
        "q = Mul(h, x) a = Div(x, k) e = Erf(a) o = Add(one, e) y = Mul(q, o)",
        numbers(k=2**0.5, one=1, h=0.5),
    ),
    "GELU, tanh": (
        "c = Pow(x, p) d = Mul(c, k) a = Add(x, d) b = Mul(a, s) t = Tanh(b) o = Add(t, one) q = Mul(x, o)"
        " y = Mul(q, h)",
        numbers(p=3, k=0.044715, s=0.797, one=1, h=0.5),
    ),
    "Mish": ("e = Exp(x) a = Add(e, one) l = Log(a) t = Tanh(l) y = Mul(x, t)", numbers(one=1)),
    "GoLU": ("n = Neg(x) e = Exp(n) m = Neg(e) g = Exp(m) y = Mul(x, g)", {}),
    "APTx": ("t = Tanh(x) o = Add(t, one) p = Mul(o, x) y = Div(p, two)", numbers(one=1, two=2)),
    "snake": ("s = Sin(x) q = Mul(s, s) y = Add(x, q)", {}),
    "Pade": (
        "q = Mul(x, x) n = Mul(q, c) u = Add(n, x) a = Abs(u) d = Add(a, one) y = Div(x, d)",
        numbers(c=0.5, one=1),
    ),
    "squared ReLU": ("r = Relu(x) y = Mul(r, r)", {}),
    "hard swish": (
        "a = Add(x, three) c = Clip(a, z, six) m = Mul(x, c) y = Div(m, six)",
        numbers(three=3, six=6, z=0),
    ),
    "ELU": (
        "e = Exp(x) a = Sub(e, one) b = Mul(a, k) c = Greater(x, z) y = Where(c, x, b)",
        numbers(one=1, k=0.7, z=0),
    ),
    "hat": (
        "a = GreaterOrEqual(x, l) b = Less(x, r) m = And(a, b) f = Cast<to=1>(m) t = Sub(x, l) u = Sub(r, x)"
        " p = Mul(t, u) y = Mul(p, f)",
        numbers(l=-1, r=1),
    ),
    "sum of three": ("s = Sin(x) c = Cos(x) y = Sum(x, s, c)", {}),
    "two bounds": ("a = Max(x, l) y = Min(a, h)", numbers(l=-1, h=1)),
}


@pytest.mark.parametrize("name", list(SPELLED))
def test_becomes_one_function_of_the_input(name: str) -> None:
    body, stored = SPELLED[name]
    graph = model_of(body, **stored).graph
    assert ops(graph) == [Op.SCALAR]
    assert graph.nodes[1].roundings == (0 if name == "two bounds" else 1)


@pytest.mark.parametrize("name", list(SPELLED))
def test_behind_an_affine_map_it_is_a_function_of_that(name: str) -> None:
    """Affine steps before the function stay outside; values used elsewhere keep their own nodes."""
    body, stored = SPELLED[name]
    graph = model_of(f"v_ = Mul(i_, two_) x = Add(v_, b_) {body} w_ = Mul(y, b_)",
                     inputs="float[1,3] i_", outputs="float[] y, float[] w_", b_=weights(3),
                     **numbers(two_=2), **stored).graph  # fmt: skip
    assert ops(graph) == [Op.SCALE, Op.SCALE, Op.SCALAR, Op.SCALE]


def test_quantisation_is_a_function_of_the_scaled_tensor() -> None:
    stored = numbers(s=0.1, lo=-8, hi=7)
    graph = model_of("a = Div(x, s) c = Clip(a, lo, hi) r = Round(c) y = Mul(r, s)", **stored).graph
    assert ops(graph) == [Op.SCALE, Op.SCALAR]
    assert str(graph.nodes[-1].params["function"]) == "(round(min(max(x, -8), 7)) * 0.100000001)"


@pytest.mark.parametrize(
    ("body", "stored", "wanted"),
    [
        ("y = Relu(x)", {}, [Op.RELU]),
        ("r = Relu(x) y = Mul(r, c)", numbers(c=2), [Op.RELU, Op.SCALE]),
        ("y = LeakyRelu(x)", {}, [Op.RELU, Op.ADD]),
        ("a = Mul(x, c) y = Max(a, x)", numbers(c=0.1), [Op.SCALE, Op.ADD, Op.RELU, Op.ADD]),
        ("y = Clip(x, c)", numbers(c=-1), [Op.SCALE, Op.RELU, Op.SCALE]),
        ("r = Relu(x) y = Sub(x, r)", {}, [Op.RELU, Op.ADD]),
        ("y = Abs(x)", {}, [Op.RELU, Op.ADD]),
        ("y = PRelu(x, c)", {"c": weights(1, 3)}, [Op.SCALE, Op.RELU, Op.SCALE, Op.ADD]),
    ],
)
def test_one_kink_stays_a_rectifier(body: str, stored: dict[str, Any], wanted: list[Op]) -> None:
    assert ops(model_of(body, **stored).graph) == wanted


def test_a_gate_and_its_complement_share_one_function() -> None:
    body = "z = Sigmoid(x) n = Sub(one, z) a = MatMul(z, m) b = MatMul(n, m) y = Sub(a, b)"
    graph = model_of(body, m=weights(3, 3), **numbers(one=1)).graph
    assert [n.source for n in graph.scalars] == ["z"]
    alone = model_of(
        "z = Sigmoid(x) n = Sub(one, z) y = MatMul(n, m)", m=weights(3, 3), **numbers(one=1)
    ).graph
    assert [str(n.params["function"]) for n in alone.scalars] == ["(1 - sigmoid(x))"]


def test_products_without_a_common_tensor() -> None:
    graph = model_of("s = Sigmoid(x) y = Mul(s, w)", inputs="float[1,3] x, float[3] w").graph
    assert ops(graph) == [Op.SCALAR, Op.TAKE, Op.MUL] or ops(graph) == [Op.SCALAR, Op.RESHAPE, Op.MUL]
    quotient = model_of("p = Exp(w) y = Div(x, p)", inputs="float[1,3] x, float[1,3] w").graph
    assert ops(quotient) == [Op.SCALAR, Op.MUL]
    assert str(quotient.scalars[0].params["function"]) == "(1 / exp(x))"


def test_squares_are_powers() -> None:
    graph = model_of("a = Sin(x) b = Sin(x) y = Mul(a, b)").graph
    assert str(graph.scalars[0].params["function"]) == "sin(x)^2"


@pytest.mark.parametrize(
    "stored",
    [
        {"c": weights(1, 3)},  # not one number
        {"c": np.full((2, 3), 0.5, np.float32)},  # makes the tensor larger
    ],
)
def test_constants_that_stay_outside(stored: dict[str, Any]) -> None:
    graph = model_of("s = Sin(x) a = Mul(s, c) y = Sin(a)", **stored).graph
    assert [str(n.params["function"]) for n in graph.scalars] == ["sin(x)", "sin(x)"]


def test_folded_constants_stay_outside() -> None:
    graph = model_of("c = Mul(p, q) s = Sin(x) a = Mul(s, c) y = Sin(a)", **numbers(p=0.1, q=0.3)).graph
    assert len(graph.scalars) == 2


def test_expressions_stay_small() -> None:
    body = "".join(f"s{i} = Sin(x{i}) x{i + 1} = Add(x{i}, s{i}) " for i in range(150))
    graph = model_of(f"x0 = Identity(x) {body} y = Identity(x150)").graph
    sizes = [len(nodes(n.params["function"])) for n in graph.scalars]
    assert max(sizes) <= MAX_NODES
    assert 2 <= len(sizes) <= 4


def test_sharing_costs_no_exponential_time() -> None:
    body = "".join(
        f"p{i} = Add(x{i}, x{i}) q{i} = Add(x{i}, x{i}) x{i + 1} = Mul(p{i}, q{i}) " for i in range(40)
    )
    start = time.perf_counter()
    graph = load_bytes(tiny(f"x0 = Identity(x) {body} y = Mul(x40, x40)").SerializeToString(), "m").graph
    assert len(graph.scalars) == 1
    assert time.perf_counter() - start < 20


def test_inner_tensors_can_be_exposed() -> None:
    model = model_of("s = Sigmoid(x) g = Greater(s, h) y = Where(g, s, x)", **numbers(h=0.5))
    assert ops(model.graph) == [Op.SCALAR]
    assert "s" not in model.tensors
    assert model.known["g"] == ((1, 3), "bool")
    shown = model.exposing(["s"])
    assert shown.tensors["s"] != shown.tensors["y"]
    assert str(shown.graph.nodes[shown.tensors["s"]].params["function"]) == "sigmoid(x)"
    compare_with_onnxruntime(shown.exposing(["s", "g"]))
    assert model.exposing(["y"]) is model


def test_truth_values_and_integers_are_numbers() -> None:
    model = model_of("y = Greater(x, z) i = Cast<to=7>(x)", inputs="float[1,3] x, float[1,3] z",
                     outputs="bool[] y, int64[] i")  # fmt: skip
    assert [p.dtype for p in model.graph.outputs] == ["bool", "int64"]
    x = np.array([1.5, -2.5, 0.5, 1.0, -3.0, 0.5])
    wanted = np.concatenate([np.asarray(v, float).ravel() for v in Session(model).run(x)])
    np.testing.assert_array_equal(evaluate(model.graph, x[None])[0], wanted)


def test_masks_of_minus_infinity_reach_softmax() -> None:
    mask = np.triu(np.full((3, 3), -np.inf, np.float32), 1)
    keep = np.isfinite(mask)
    for body in ("a = Add(x, m) y = Softmax(a)", "a = Add(m, x) y = Softmax(a)",
                 "a = Where(k, x, i) p = Softmax(a) n = IsNaN(p) y = Where(n, z, p)"):  # fmt: skip
        stored = {"m": mask, "k": keep, "i": np.float32(-np.inf), "z": np.float32(0)}
        used = {k: v for k, v in stored.items() if f"({k}," in body or f", {k})" in body or f" {k}," in body}
        model = model_of(body, inputs="float[3,3] x", **used)
        y = evaluate(model.graph, np.ones((1, 9))).reshape(3, 3)
        np.testing.assert_allclose(y, keep / keep.sum(1, keepdims=True))


def test_the_function_mirrors_the_operators() -> None:
    """A power is charged as a power: the expression holds the model's operations, not simpler ones."""
    graph = model_of("a = Div(x, c) y = Exp(a)", **numbers(c=3)).graph
    assert [p.fn for p in nodes(graph.scalars[0].params["function"])] == [Fn.X, Fn.EXP]
    graph = model_of("s = Sin(x) a = Div(s, c) y = Exp(a)", **numbers(c=3)).graph
    found = [p.fn for p in nodes(graph.scalars[0].params["function"])]
    assert found == [Fn.X, Fn.SIN, Fn.CONST, Fn.DIV, Fn.EXP]
