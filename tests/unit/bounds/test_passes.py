"""Rewrites keep the function, state their error, and do nothing when applied again."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from tiny_models import residual, tiny, weights

from bounds.evaluate import evaluate
from bounds.graph import Graph, GraphBuilder, Op
from bounds.io.onnx import load_bytes
from bounds.passes.base import Pass, Pipeline
from bounds.passes.dead import DropDead
from bounds.passes.fold import FoldMoves
from bounds.passes.fuse import FuseScale

PASSES: list[Pass] = [DropDead(), FoldMoves(), FuseScale(exact_only=True), FuseScale(exact_only=False)]


def moves() -> Graph:
    return load_bytes(
        tiny(
            "a = Transpose<perm=[0,2,1]>(x) b = Reshape(a, s) c = Pad(b, p, v) d = Reshape(c, t)"
            " e = Transpose(d)"
            " f = Transpose(e) g = Reshape(f, u) h = Reshape(g, t)"
            " i = Pad(h, q) r = Relu(i) y = Concat<axis=0>(r, h)",
            inputs="float[1,2,3] x", s=np.array([6]), p=np.array([1, 1]), v=np.float32(0.5),
            t=np.array([2, 4]),
            u=np.array([8]), q=np.array([1, 0, 1, 0]),
        ).SerializeToString(), "moves",
    ).graph  # fmt: skip


def network() -> Graph:
    return load_bytes(residual().SerializeToString(), "residual").graph


@pytest.mark.parametrize("graph", [moves(), network()], ids=["moves", "residual"])
@pytest.mark.parametrize("one", PASSES, ids=["dead", "fold", "fuse-exact", "fuse"])
def test_same_function_and_idempotent(one: Pass, graph: Graph, rng: np.random.Generator) -> None:
    done = one.apply(graph)
    x = rng.standard_normal((4, graph.input_size))
    np.testing.assert_allclose(
        evaluate(done.graph, x), evaluate(graph, done.map_back(x)), rtol=1e-12, atol=1e-12
    )
    assert [p.name for p in done.graph.inputs] == [p.name for p in graph.inputs]
    again = Pipeline([one]).apply(done.graph).graph
    assert [n.op for n in Pipeline([one]).apply(again).graph.nodes] == [n.op for n in again.nodes]
    assert [n.shape for n in done.graph.relus] == [n.shape for n in graph.relus]


def test_moves_become_few() -> None:
    done = FoldMoves().apply(moves()).graph
    x = np.arange(6.0)[None]
    np.testing.assert_array_equal(evaluate(done, x), evaluate(moves(), x))
    assert sum(n.op in (Op.TAKE, Op.RESHAPE) for n in done.nodes) <= 4
    assert len(done.nodes) < len(moves().nodes)


def test_bias_is_fused_exactly() -> None:
    proto = tiny("h = MatMul(x, w) g = Add(h, b) y = Relu(g)", w=weights(3, 4), b=weights(4))
    graph = load_bytes(proto.SerializeToString(), "m").graph
    done = FuseScale(exact_only=True).apply(graph).graph
    assert [n.op for n in done.nodes] == [Op.INPUT, Op.LINEAR, Op.RELU]
    linear = done.nodes[1]
    assert (linear.roundings, linear.weight_error, linear.tensor) == (3 + 1 + 1, 0.0, "g")
    np.testing.assert_array_equal(linear.params["bias"], weights(4).astype(np.float64))


def test_exact_only_leaves_scales_alone() -> None:
    proto = tiny("h = MatMul(x, w) y = Mul(h, b)", w=weights(3, 4), b=weights(4))
    graph = load_bytes(proto.SerializeToString(), "m").graph
    assert [n.op for n in FuseScale(exact_only=True).apply(graph).graph.nodes] == [
        Op.INPUT,
        Op.LINEAR,
        Op.SCALE,
    ]
    assert [n.op for n in FuseScale(exact_only=False).apply(graph).graph.nodes] == [Op.INPUT, Op.LINEAR]


@pytest.mark.parametrize("seed", range(10))
def test_fused_constants_are_within_their_error(seed: int) -> None:
    """(c W, c b + s) in rationals against the stored numbers and the stated relative error."""
    rng = np.random.default_rng(seed)
    builder = GraphBuilder()
    x = builder.input("x", (1, 3))
    w, b = rng.standard_normal((4, 3)), rng.standard_normal(4)
    c, s = rng.standard_normal(4), rng.standard_normal(4)
    s[0] = -c[0] * b[0] * (1 + 1e-9 * (seed % 2))  # cancels
    h = builder.add(Op.LINEAR, [x], (1, 4), {"weight": w, "bias": b})
    y = builder.add(Op.SCALE, [h], (1, 4), {"scale": c, "shift": s})
    builder.output("y", y)
    done = FuseScale(exact_only=False).apply(builder.build()).graph
    linear = done.nodes[1]
    e = Fraction(linear.weight_error)
    if len(done.nodes) == 3:
        return  # refused: as good as any error
    for o in range(4):
        true = Fraction(c[o]) * Fraction(b[o]) + Fraction(s[o])
        stored = Fraction(float(linear.params["bias"][o]))
        assert abs(true - stored) <= e * abs(stored)
        for i in range(3):
            stored = Fraction(float(linear.params["weight"][o, i]))
            assert abs(Fraction(c[o]) * Fraction(w[o, i]) - stored) <= e * abs(stored)


def test_scales_merge_also_when_shapes_differ(rng: np.random.Generator) -> None:
    proto = tiny("h = Mul(x, c) g = Add(h, b) y = Mul(g, c)", b=weights(3), c=np.float32(0.3))
    graph = load_bytes(proto.SerializeToString(), "m").graph
    done = FuseScale(exact_only=False).apply(graph).graph
    assert [n.op for n in done.nodes] == [Op.INPUT, Op.SCALE]
    x = rng.standard_normal((3, 3))
    np.testing.assert_allclose(evaluate(done, x), evaluate(graph, x), rtol=1e-14, atol=1e-14)


def test_shared_values_are_not_fused() -> None:
    proto = tiny("h = MatMul(x, w) g = Add(h, b) y = Add(g, h)", w=weights(3, 4), b=weights(4))
    graph = load_bytes(proto.SerializeToString(), "m").graph
    assert len(FuseScale(exact_only=False).apply(graph).graph.nodes) == len(graph.nodes)


def test_pipeline_chains_the_maps_back(rng: np.random.Generator) -> None:
    done = Pipeline(PASSES).apply(network())
    x = rng.standard_normal((2, 16))
    np.testing.assert_array_equal(done.map_back(x), x)
    np.testing.assert_allclose(evaluate(done.graph, x), evaluate(network(), x), rtol=1e-12, atol=1e-12)
