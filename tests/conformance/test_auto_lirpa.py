"""The second engine against ours, operator by operator; skipped where auto_LiRPA is not installed.

Both must contain what sampling finds, and ours may not be much looser: on every kind of network the mean gap
between an optimised bound and the least sampled value is compared.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from bounds.domain import Objectives
from bounds.errors import BadInput, ModelUnsupported
from bounds.evaluate import evaluate
from bounds.expression import Expr, Fn, X, call
from bounds.graph import Array, Graph, GraphBuilder, Op
from bounds.kernels.numpy import NumpyKernels
from bounds.methods import auto_lirpa
from bounds.methods.objective import compile_objectives, optimise_slopes
from bounds.methods.rule import Rule, relax_boxes
from bounds.numerics import FLOAT64
from bounds.plan import compile_plan
from bounds.shapes import infer_shape

installed = pytest.mark.skipif(
    not auto_lirpa.available(), reason="auto_LiRPA is not installed: see docs/howto/second-engine.md"
)
# the library's import of PyTorch's own deprecated parts
pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]

INPUTS = 6
ITERATIONS = 10
LOOSER = 1.1  # ours may have this multiple of the library's mean gap


class Sketch:
    """A graph under construction on flat or image values."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.builder = GraphBuilder()

    def put(self, op: Op, *inputs: int, shape: tuple[int, ...] | None = None, **params: Any) -> int:
        shapes = [self.builder.nodes[i].shape for i in inputs]
        return self.builder.add(op, inputs, infer_shape(op, shapes, params, shape), params, source=op.value)

    def numbers(self, *shape: int) -> Array:
        return (self.rng.standard_normal(shape) / 1.5).astype(np.float32).astype(np.float64)

    def linear(self, x: int, out: int) -> int:
        inner = self.builder.nodes[x].shape[-1]
        return self.put(Op.LINEAR, x, weight=self.numbers(out, inner), bias=self.numbers(out))

    def scalar(self, x: int, function: Expr) -> int:
        return self.put(Op.SCALAR, x, function=function)

    def done(self, x: int) -> Graph:
        self.builder.output("y", x)
        return self.builder.build()


def mlp(function: Expr | None) -> Callable[[Sketch], Graph]:
    def make(s: Sketch) -> Graph:
        x = s.builder.input("x", (1, INPUTS))
        for width in (8, 8):
            x = s.linear(x, width)
            x = s.put(Op.RELU, x) if function is None else s.scalar(x, function)
        return s.done(s.linear(x, 3))

    return make


def convolutional(s: Sketch) -> Graph:
    x = s.put(Op.RESHAPE, s.builder.input("x", (1, INPUTS)), shape=(1, 1, 2, 3))
    geometry = {"strides": (1, 1), "dilations": (1, 1), "groups": 1}
    x = s.put(Op.CONV, x, weight=s.numbers(2, 1, 2, 2), bias=s.numbers(2), pads=(1, 1, 0, 1), **geometry)
    x = s.put(Op.RELU, x)
    weight, bias = s.numbers(2, 1, 2, 2), s.numbers(1)
    x = s.put(
        Op.CONV_TRANSPOSE, x, weight=weight, bias=bias, pads=(0, 0, 0, 0), output_padding=(0, 0), **geometry
    )
    x = s.put(Op.RESHAPE, s.put(Op.RELU, x), shape=(1, s.builder.nodes[x].size))
    return s.done(s.linear(x, 3))


def structural(s: Sketch) -> Graph:
    x = s.linear(s.builder.input("x", (1, INPUTS)), 6)
    a = s.put(Op.SCALE, s.put(Op.RELU, x), scale=s.numbers(1, 6), shift=s.numbers(1, 6))
    index, fill = np.array([5, -1, 0, 0, 3, 2]), np.array([0, 0.5, 0, 0, 0, 0])
    b = s.put(Op.TAKE, a, shape=(1, 6), index=index, fill=fill)
    c = s.put(Op.ADD, a, b, coefficients=(1.0, -0.5))
    d = s.put(Op.CONCAT, s.put(Op.RESHAPE, c, shape=(2, 3)), s.put(Op.RESHAPE, b, shape=(2, 3)), axis=1)
    e = s.put(Op.SUM, s.put(Op.RELU, s.linear(d, 4)), axes=(0,))
    return s.done(s.linear(s.put(Op.RESHAPE, e, shape=(1, 4)), 3))


def products(s: Sketch) -> Graph:
    x = s.builder.input("x", (1, INPUTS))
    gate = s.scalar(s.linear(x, 8), call(Fn.SIGMOID, X))
    x = s.put(Op.MUL, s.linear(x, 8), gate)
    return s.done(s.linear(s.put(Op.RELU, s.linear(x, 6)), 3))


GELU = 0.5 * X * (1 + call(Fn.ERF, X / 1.4142135623730951))
KINDS: dict[str, Callable[[Sketch], Graph]] = {
    "relu": mlp(None),
    "convolution": convolutional,
    "structure": structural,
    "product": products,
    "sigmoid": mlp(call(Fn.SIGMOID, X)),
    "tanh": mlp(call(Fn.TANH, X)),
    "atan": mlp(call(Fn.ATAN, X)),
    "sin": mlp(call(Fn.SIN, X)),
    "exp": mlp(call(Fn.EXP, X)),
    "square": mlp(X**2),
    "softplus": mlp(call(Fn.SOFTPLUS, X)),  # reaches the library as log(1 + exp(x))
    "abs": mlp(call(Fn.ABS, X)),
    "clip": mlp(call(Fn.MIN, call(Fn.MAX, X, Expr(Fn.CONST, (), -0.5)), Expr(Fn.CONST, (), 0.5))),
    "sqrt": mlp(call(Fn.SQRT, X**2 + 0.5)),
    "reciprocal": mlp(1 / (1 + call(Fn.EXP, X))),
    "gelu": mlp(GELU),
    "silu": mlp(X * call(Fn.SIGMOID, X)),
}


def problem(name: str, seed: int) -> tuple[Graph, Objectives, Array, Array]:
    """A graph of the kind, three outputs and three of their differences as objectives, four boxes."""
    graph = KINDS[name](Sketch(seed))
    rng = np.random.default_rng(seed + 1)
    c = np.concatenate([np.eye(3), np.array([[1, -1, 0], [0, 1, -1], [-1, 0, 1]])])
    g = np.zeros((6, INPUTS))
    g[0, 0] = 0.5 if name == "relu" else 0.0  # one row reads an input
    d = np.arange(6) / 4
    given = Objectives(c, g, d, np.zeros(6, bool), np.arange(7), False, lambda: (c, g, d))
    centre = rng.uniform(-0.5, 0.5, (4, INPUTS)).astype(np.float32).astype(np.float64)
    radius = np.array([0.25, 0.125, 0.0625, 0.5])[:, None]
    return graph, given, centre - radius, centre + radius


def least(graph: Graph, given: Objectives, lo: Array, hi: Array) -> Array:
    """``D S``: the least value of every row at sampled points and corners."""
    rng = np.random.default_rng(5)
    t = np.concatenate([rng.random((2000, INPUTS)), rng.integers(0, 2, (2000, INPUTS))])
    out = []
    for a, b in zip(lo, hi, strict=True):
        x = a + t * (b - a)
        out.append((evaluate(graph, x) @ given.c.T + x @ given.g.T + given.d).min(axis=0))
    return np.array(out)


def optimised(graph: Graph, given: Objectives, lo: Array, hi: Array) -> Array:
    """``D S``: our bounds with all relaxations optimised, those of intermediate bounds included."""
    plan = compile_plan(graph, NumpyKernels(FLOAT64))
    compiled = compile_objectives(plan, given)
    tape = relax_boxes(plan, lo, hi, Rule(sharpen=ITERATIONS))
    boxes = np.repeat(np.arange(len(lo)), given.rows)
    picks = np.tile(np.arange(given.rows), len(lo))
    found = optimise_slopes(tape, compiled, boxes, picks, ITERATIONS, keep_slopes=False)
    return np.asarray(found.lower).reshape(len(lo), given.rows)


@installed
@pytest.mark.parametrize("name", KINDS)
def test_bounds_hold_and_are_comparable(name: str) -> None:
    gaps = np.zeros(2)
    for seed in (1, 2, 3):
        graph, given, lo, hi = problem(name, seed)
        seen = least(graph, given, lo, hi)
        plain = auto_lirpa.bound_with_auto_lirpa(graph, lo, hi, given, method="CROWN")
        theirs = auto_lirpa.bound_with_auto_lirpa(graph, lo, hi, given, iterations=ITERATIONS)
        slack = 1e-4 * (1 + np.abs(seen))  # float32 without accounting: what rounding adds is not its fault
        assert np.all(plain <= seen + slack), "auto_LiRPA, plain"
        assert np.all(theirs <= seen + slack), "auto_LiRPA, optimised"
        ours = optimised(graph, given, lo, hi)
        assert np.all(ours <= seen)
        known = np.isfinite(theirs)
        gaps += [float((seen - ours)[known].sum()), float((seen - theirs)[known].sum())]
    assert gaps[0] <= LOOSER * gaps[1], f"gaps {gaps[0]:.4f}, auto_LiRPA's {gaps[1]:.4f}"


@installed
@pytest.mark.parametrize("name", KINDS)
def test_the_module_computes_the_graph(name: str) -> None:
    import torch

    from bounds.methods.torch_graph import GraphModule

    graph = KINDS[name](Sketch(7))
    x = np.random.default_rng(0).uniform(-1, 1, (50, INPUTS))
    found = GraphModule(graph)(torch.tensor(x, dtype=torch.float32)).detach().numpy()
    np.testing.assert_allclose(found, evaluate(graph, x), rtol=1e-4, atol=1e-4)


@installed
@pytest.mark.parametrize("method", auto_lirpa.METHODS)
def test_the_bounder_refutes_nothing(method: str) -> None:
    graph, given, lo, hi = problem("relu", 2)
    d = given.d + 100.0  # every bound is positive
    start = np.array([0, 1, 3, 6])
    given = Objectives(given.c, given.g, d, given.strict, start, False, lambda: (given.c, given.g, d))
    engine = auto_lirpa.AutoLirpaBounder(graph, given, method=method, iterations=3)
    wanted = np.ones((4, 3), bool)
    wanted[0, 1] = False
    found = engine.bound(lo, hi, wanted)
    assert engine.nominal
    assert not found.refuted.any()
    assert np.array_equal(found.close, wanted)
    assert found.evidence is None
    assert found.scores.shape == found.guesses.shape == lo.shape
    assert np.all((found.guesses >= lo) & (found.guesses <= hi))


@installed
def test_an_operator_the_library_lacks_is_one_clear_error() -> None:
    graph = mlp(call(Fn.ROUND, X))(Sketch(1))
    _, given, lo, hi = problem("relu", 1)
    with pytest.raises(ModelUnsupported, match=r"round.*use the built-in"):
        auto_lirpa.bound_with_auto_lirpa(graph, lo, hi, given)
    graph = mlp(call(Fn.ERF, X))(Sketch(1))
    with pytest.raises(ModelUnsupported, match=r"auto_LiRPA cannot bound it.*use the built-in"):
        auto_lirpa.bound_with_auto_lirpa(graph, lo, hi, given)


@installed
@pytest.mark.parametrize("exponent", [2.0, 4.0])
def test_even_powers_hold_away_from_zero(exponent: float) -> None:
    """The library (0.7.1) bounds ``x ** 2`` on [0.5, 2] by 3.44 from above; it gets ``x * x`` instead."""
    s = Sketch(0)
    graph = s.done(s.scalar(s.builder.input("x", (1, 1)), X**exponent))
    c, g, d = np.array([[1.0], [-1.0]]), np.zeros((2, 1)), np.zeros(2)
    given = Objectives(c, g, d, np.zeros(2, bool), np.arange(3), False, lambda: (c, g, d))
    lo, hi = np.array([[0.5], [-2.0], [-1.0]]), np.array([[2.0], [-1.0], [3.0]])
    lower = auto_lirpa.bound_with_auto_lirpa(graph, lo, hi, given, method="CROWN")
    ends = np.stack([lo, hi]) ** exponent
    assert np.all(-lower[:, 1:] >= ends.max(axis=0) - 1e-4)
    assert np.all(lower[:, :1] <= ends.min(axis=0) + 1e-4)


def test_an_unknown_method_is_an_error() -> None:
    graph, given, lo, hi = problem("relu", 1)
    with pytest.raises(BadInput, match=r"no method 'DeepPoly'.*CROWN-Optimized"):
        auto_lirpa.bound_with_auto_lirpa(graph, lo, hi, given, method="DeepPoly")


def test_without_the_library_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    graph, given, lo, hi = problem("relu", 1)
    with pytest.raises(BadInput, match=r"not installed.*pip install --no-deps"):
        auto_lirpa.bound_with_auto_lirpa(graph, lo, hi, given)
