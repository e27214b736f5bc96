"""Lines with a slope for every edge lie above their rectifiers, and rows that use them below their values."""

from __future__ import annotations

import itertools
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from oracles import exactly, tape_of
from strategies import Box

from bounds.graph import Array, Graph, GraphBuilder, Op
from bounds.methods import edge_slopes
from bounds.methods.edge_ascent import even_slopes
from bounds.methods.edge_slopes import EdgeLayer, EdgeSlopes, edge_lines, edge_steps
from bounds.methods.hull_cuts import facets
from bounds.methods.linear_program import NodeProgram, Row
from bounds.methods.objective import compile_objectives
from bounds.methods.operand_bounder import OperandBounder
from bounds.methods.rule import Rule
from bounds.methods.splits import Splits
from bounds.methods.tape import Tape
from bounds.numerics import EXACT, FLOAT32, FLOAT64, Precision
from verifier.search.objectives import objectives_of
from verifier.spec.model import Case
from verifier.spec.model import Row as PropertyRow

PRECISIONS = (FLOAT32, FLOAT64, EXACT)
SIZES = (4, 12, 6, 1)
Layers = list[tuple[Array, Array]]


def layers_of(seed: int, sizes: tuple[int, ...] = SIZES) -> Layers:
    rng = np.random.default_rng(seed)
    made = [
        (rng.normal(size=(b, a)) / np.sqrt(a), rng.normal(size=b) / 2) for a, b in itertools.pairwise(sizes)
    ]
    return [tuple(v.astype(np.float32).astype(np.float64) for v in pair) for pair in made]  # type: ignore[misc]


def graph_of(layers: Layers) -> Graph:
    builder = GraphBuilder()
    at = builder.input("x", (1, layers[0][0].shape[1]))
    for i, (w, b) in enumerate(layers):
        at = builder.add(Op.LINEAR, (at,), (1, len(b)), params={"weight": w, "bias": b})
        if i < len(layers) - 1:
            at = builder.add(Op.RELU, (at,), (1, len(b)))
    builder.output("y", at)
    return builder.build()


def box_of(seed: int, inputs: int) -> Box:
    rng = np.random.default_rng(seed)
    lo = rng.uniform(-1, 0.2, (1, inputs))
    return Box(lo, lo + rng.choice([0.0, 0.1, 1.0, 1.5], (1, inputs)))


def values(layers: Layers, x: Array) -> list[Array]:
    """Exact: inputs, operands and values of all layers at points ``x: N d`` (rationals)."""
    out = [x]
    for i, (w, b) in enumerate(layers):
        z = out[-1] @ exactly(w).T + exactly(b)
        out.append(z)
        if i < len(layers) - 1:
            out.append(np.maximum(z, Fraction(0)))
    return out


def points(rng: np.random.Generator, box: Box, count: int = 12) -> Array:
    """Corners and others, exactly."""
    d = box.lo.shape[1]
    corners = np.array(list(itertools.product((0, 1), repeat=d)), dtype=object)
    inner = exactly(rng.integers(0, 65, (count, d)) / 64)
    lo, hi = exactly(box.lo[0]), exactly(box.hi[0])
    return np.concatenate([corners, inner]) * (hi - lo) + lo


def objectives(inputs: int) -> Any:
    return objectives_of(Case((), (), ((PropertyRow({0: Fraction(1)}, {}, Fraction(0)),),)), inputs, 1)


def faults(precision: Precision, seed: int) -> list[str]:
    """Lines that lie below their rectifier somewhere, and rows above a value that is attained."""
    rng, layers, box = np.random.default_rng(seed), layers_of(seed), box_of(seed, SIZES[0])
    graph = graph_of(layers)
    tape = tape_of(graph, box, precision, Rule(forward=False))
    found: list[str] = []
    known = values(layers, points(rng, box))
    for number, step in enumerate(edge_steps(tape.plan).values()):
        layer = EdgeLayer.of(tape, step)
        element = np.arange(step.relu.size)
        x, h = known[2 * number], known[2 * number + 2]
        best, _ = facets(*hull_of(layer), np.asarray(x[-1], dtype=np.float64))
        kinds = (
            rng.integers(0, 129, (len(element), step.dense.inner)).astype(np.uint8),
            np.rint(best * 128).astype(np.uint8),
            even_slopes(layer, element),
        )
        for t in kinds:
            lines = edge_lines(tape, layer, np.zeros(len(element), dtype=np.int64), element, t)
            line = x @ exactly(lines.a).T + exactly(lines.c)
            found += [f"{precision.name}: layer {number}, element {e}" for e in np.argwhere(line < h)[:, 1]]
    bounder = OperandBounder(tape, compile_objectives(tape.plan, objectives(SIZES[0])))
    truth, picks = known[-1].min(), np.zeros(1, dtype=np.int64)
    every = EdgeSlopes.of(
        [
            (0, s.relu.offset + e, rng.integers(0, 129, s.dense.inner).astype(np.uint8))
            for s in edge_steps(tape.plan).values()
            for e in range(s.relu.size)
        ]
    )
    got = [bounder.bound(Splits.none(1), picks, None, n, edges=every).lower[0] for n in (0, 3)]
    if bounder.use_hulls():
        first = bounder.bound(Splits.none(1), picks, None, 12, stored=True)
        again = bounder.bound(Splits.none(1), picks, first.parameters, 0)
        assert precision is EXACT or np.isclose(again.lower[0], first.lower[0], rtol=1e-3, atol=1e-4)
        got += [first.lower[0], again.lower[0]]
    # exact bounds are handed out rounded to nearest
    limit = float(truth) if precision is EXACT else truth
    found += [f"{precision.name}: row {v} above {float(truth)}" for v in got if Fraction(float(v)) > limit]
    return found


def hull_of(layer: EdgeLayer) -> tuple[Array, Array, Array, Array]:
    """Weights, the box (from the two ends of products), and the operands' largest values, in float64."""
    w, least, most, top = (
        np.asarray(v, dtype=np.float64) for v in (layer.weight, layer.least, layer.most, layer.top)
    )
    row = np.abs(w).argmax(axis=0), np.arange(w.shape[1])
    ends = least[row] / w[row], most[row] / w[row]
    return w, np.minimum(*ends), np.maximum(*ends), top


@pytest.mark.parametrize("precision", PRECISIONS, ids=lambda p: p.name)
@pytest.mark.parametrize("seed", range(6))
def test_lines_and_rows_enclose(precision: Precision, seed: int) -> None:
    assert faults(precision, seed) == []


@pytest.mark.parametrize("bug", ["idle", "active", "part"])
def test_wrong_constants_are_noticed(monkeypatch: pytest.MonkeyPatch, bug: str) -> None:
    """Planted bugs: one of a constant's two sums is left out, or a row forgets what lines hand on."""
    real = edge_slopes.edge_lines

    def wrong(anchor: Tape, layer: EdgeLayer, row: Array, element: Array, t: Array) -> Any:
        from dataclasses import replace

        lines, share = real(anchor, layer, row, element, t), t / 128
        idle = -(share * np.asarray(layer.least)[element]).sum(axis=1)
        active = np.asarray(layer.top)[element] - (share * np.asarray(layer.most)[element]).sum(axis=1)
        if bug == "part":
            return replace(lines, a=lines.a * 0)
        return replace(lines, c=idle + 1e-5 if bug == "active" else active + 1e-5)

    monkeypatch.setattr(edge_slopes, "edge_lines", wrong)
    monkeypatch.setitem(globals(), "edge_lines", wrong)
    assert [f for seed in range(6) for f in faults(FLOAT64, seed)]


def test_facets_are_the_least_of_all_lines() -> None:
    """At a point no line with any slopes lies below the facet, which has the value it is said to have."""
    rng = np.random.default_rng(0)
    for seed in range(20):
        layers, box = layers_of(seed), box_of(seed, SIZES[0])
        (w, b), (lo, hi) = layers[0], (box.lo[0], box.hi[0])
        top = np.maximum(w, 0) @ hi + np.minimum(w, 0) @ lo + b
        x = lo + rng.random(len(lo)) * (hi - lo)
        t, value = facets(w, lo, hi, top, x)
        bottom = np.maximum(w, 0) @ lo + np.minimum(w, 0) @ hi + b
        open_ = (bottom < 0) & (top > 0)

        def at(t: Array, w: Array = w, b: Array = b, lo: Array = lo, hi: Array = hi, x: Array = x) -> Array:
            a, rest = t * w, w - t * w
            idle = np.maximum(-a, 0) @ hi - np.maximum(a, 0) @ lo
            active = np.maximum(rest, 0) @ hi + np.minimum(rest, 0) @ lo + b
            return a @ x + np.maximum(idle, active)

        assert np.allclose(at(t)[open_], value[open_])
        for _ in range(50):
            other = np.clip(t + rng.normal(size=t.shape) * 0.3, 0, 1)
            assert (at(other) >= at(t) - 1e-9)[open_].all()


@pytest.mark.parametrize("seed", range(4))
def test_hulls_say_what_no_triangle_can(seed: int) -> None:
    """A threshold between the best bound by triangles (a linear program's optimum) and that by hulls."""
    sizes = (8, 16, 1)
    layers = layers_of(seed, sizes)
    box = Box(-np.ones((1, 8)), np.ones((1, 8)))
    tape = tape_of(graph_of(layers), box, FLOAT32, Rule(forward=False))
    bounder = OperandBounder(tape, compile_objectives(tape.plan, objectives(8)))
    none, picks = Splits.none(1), np.zeros(1, dtype=np.int64)
    plain, row = bounder.bound(none, picks, None, 0), Row(np.ones(1), np.zeros(8), 0.0)
    triangles = NodeProgram(bounder.plan).solve(plain.tape, 0, row)
    hulls = NodeProgram(bounder.plan, tape).solve(plain.tape, 0, row)
    assert triangles is not None and hulls is not None and bounder.use_hulls()
    found = bounder.bound(none, picks, None, 200).lower[0]
    x = np.random.default_rng(seed).choice([-1.0, 1.0], (4096, 8))
    (w, b), (v, c) = layers
    least = float((np.maximum(x @ w.T + b, 0) @ v.T + c).min())
    assert triangles.value < found <= least and triangles.value < hulls.value <= least + 1e-6
    assert found > triangles.value + 0.8 * (hulls.value - triangles.value)
    # what the program says becomes a bound as good as its optimum, but for the slopes' rounding
    lines = EdgeSlopes.of([(0, n, t) for n, t in sorted(hulls.edges, key=lambda e: e[0])])
    bounder.hull = False
    packed = np.concatenate([np.rint(p * 128).astype(np.uint8) for held in hulls.parameters for p in held])
    said = bounder.bound(none, picks, packed[None], 4, edges=lines).lower[0]
    assert hulls.value - 0.1 * (hulls.value - triangles.value) - 1e-3 < said <= least
