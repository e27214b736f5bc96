"""Receptive fields: a part of a network bounds its elements as the whole network does."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from oracles import exactly
from strategies import build

from bounds.evaluate import evaluate
from bounds.graph import Graph, GraphBuilder, Op
from bounds.kernels.numpy import NumpyKernels
from bounds.methods import refine
from bounds.methods.crop import Fields, cut_plan, live_elements
from bounds.methods.row_choices import Followed
from bounds.methods.rule import Rule, relax_boxes
from bounds.numerics import EXACT, FLOAT32, FLOAT64
from bounds.plan import compile_plan
from bounds.plan import evaluate as run

PRECISIONS = {"float32": FLOAT32, "float64": FLOAT64, "exact": EXACT}


def convolutional(seed: int, *, side: int = 9) -> Graph:
    """A small residual network: convolutions with padding and stride, a transposed one, element moves."""
    rng, b = np.random.default_rng(seed), GraphBuilder()

    def conv(x: int, channels: int, size: int, out: int, stride: int = 1) -> tuple[int, int]:
        params = {
            "weight": rng.integers(-2, 3, (out, channels, 3, 3)).astype(np.float64),
            "bias": rng.integers(-2, 3, out).astype(np.float64),
            "strides": (stride, stride),
            "pads": (1, 1, 1, 1),
            "dilations": (1, 1),
            "groups": 1,
        }
        size = (size - 1) // stride + 1
        return b.add(Op.CONV, (x,), (1, out, size, size), params), size

    x = b.input("x", (1, 2, side, side))
    h, size = conv(x, 2, side, 3)
    h = b.add(Op.RELU, (h,), (1, 3, size, size), {})
    g, size = conv(h, 3, size, 3)
    g = b.add(Op.ADD, (h, g), (1, 3, size, size), {"coefficients": np.array([1.0, 1.0])})
    g = b.add(Op.RELU, (g,), (1, 3, size, size), {})
    g, size = conv(g, 3, size, 2, stride=2)
    g = b.add(Op.RELU, (g,), (1, 2, size, size), {})
    up = {
        "weight": rng.integers(-2, 3, (2, 2, 2, 2)).astype(np.float64),
        "bias": rng.integers(-2, 3, 2).astype(np.float64),
        "strides": (2, 2),
        "pads": (0, 0, 0, 0),
        "dilations": (1, 1),
        "groups": 1,
        "output_padding": (0, 0),
    }
    g = b.add(Op.CONV_TRANSPOSE, (g,), (1, 2, 2 * size, 2 * size), up)
    first = np.arange(4 * size * size).reshape(1, 1, 2 * size, 2 * size)
    g = b.add(Op.TAKE, (g,), first.shape, {"index": first, "fill": np.zeros(first.size)})
    g = b.add(Op.RELU, (g,), first.shape, {})
    b.output("y", b.add(Op.SUM, (g,), (1, 1), {"axes": (2, 3)}))
    return b.build()


@pytest.fixture
def no_dense(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small convolutions stay convolutions."""
    monkeypatch.setattr("bounds.ops.table.fits_dense", lambda *_: False)


def tapes(graph: Graph, precision: Any, side: int, sharpen: int, monkeypatch: pytest.MonkeyPatch) -> Any:
    plan = compile_plan(graph, NumpyKernels(precision))
    monkeypatch.setattr(refine.Fields, "side", lambda self, slot, _: side if slot in self._images else 0)
    lo = np.random.default_rng(1).integers(-2, 2, (2, graph.input_size)) / 2
    lo, hi = (exactly(v) if precision is EXACT else v for v in (lo, lo + 0.5))
    return relax_boxes(plan, lo, hi, Rule(forward=False, sharpen=sharpen))


@pytest.mark.usefixtures("no_dense")
@pytest.mark.parametrize("side", [1, 2])
def test_fields_give_the_bounds_of_the_whole_walk(side, monkeypatch):
    graph = convolutional(side, side=4)
    whole, tiled = (tapes(graph, EXACT, s, 0, monkeypatch) for s in (0, side))
    assert len(whole.relus) == 4
    for a, b in zip(whole.relus, tiled.relus, strict=True):
        assert (a.lo == b.lo).all() and (a.hi == b.hi).all()


@pytest.mark.usefixtures("no_dense")
@pytest.mark.parametrize("name", ["float32", "float64"])
@pytest.mark.parametrize("sharpen", [0, 4])
def test_fields_are_sound(name, sharpen, monkeypatch):
    graph = convolutional(7)
    whole, tiled = (tapes(graph, PRECISIONS[name], s, sharpen, monkeypatch) for s in (0, 2))
    rng = np.random.default_rng(2)
    centre, radius = tiled.centre[0].astype(np.float64), tiled.radius[0].astype(np.float64)
    x = centre + radius * rng.choice([-1.0, 1.0, 0.3], (64, len(centre)))
    values = {n.id: n for n in graph.nodes if n.op is Op.RELU}
    for a, b, node in zip(whole.relus, tiled.relus, values.values(), strict=True):
        near = 1e-3 * float(np.abs(a.lo).max())  # a part's sums are shorter, and pay less for rounding
        assert np.allclose(a.lo, b.lo, atol=near) and np.allclose(a.hi, b.hi, atol=near)
        made = up_to(graph, node.inputs[0])
        at = evaluate(made, exactly(x[:8])).astype(np.float64)
        assert (b.lo[0] <= at).all() and (at <= b.hi[0]).all()


def up_to(graph: Graph, node: int) -> Graph:
    """The network that ends at a node."""
    b = GraphBuilder()
    ids: dict[int, int] = {}
    for n in graph.nodes[: node + 1]:
        if n.op is Op.INPUT:
            ids[n.id] = b.input("x", n.shape)
        else:
            ids[n.id] = b.add(n.op, tuple(ids[i] for i in n.inputs), n.shape, dict(n.params))
    b.output("y", ids[node])
    return b.build()


@pytest.mark.usefixtures("no_dense")
@pytest.mark.parametrize("side", [0, 2])
def test_improved_rows_of_fields_can_be_followed(side, monkeypatch):
    """What rows within fields chose, spread out over the whole network, gives their bounds again."""
    graph = convolutional(4, side=6)
    monkeypatch.setattr(refine.Fields, "side", lambda self, slot, _: 2 if slot in self._images else 0)
    lo = np.random.default_rng(1).integers(-2, 2, (1, graph.input_size)) / 2
    rule = Rule(forward=False, sharpen=6, keep=True)
    first = relax_boxes(compile_plan(graph, NumpyKernels(FLOAT32)), lo, lo + 0.5, rule)
    assert first.rows is not None and len(first.rows.box) > 20
    plain = relax_boxes(compile_plan(graph, NumpyKernels(FLOAT64)), lo, lo + 0.5, Rule(forward=False))
    monkeypatch.setattr(refine.Fields, "side", lambda self, slot, _: side if slot in self._images else 0)
    again = replace(rule, follow=Followed(first))
    fine = relax_boxes(compile_plan(graph, NumpyKernels(FLOAT64)), lo, lo + 0.5, again)
    better = 0
    for a, b, c in zip(first.relus, fine.relus, plain.relus, strict=True):
        near = 1e-3 * float(np.abs(a.lo).max())
        assert np.allclose(a.lo, b.lo, atol=near) and np.allclose(a.hi, b.hi, atol=near)
        better += int((b.lo > c.lo + near).sum())
    assert better > 0, "nothing was improved, so nothing was tested"


@pytest.mark.usefixtures("no_dense")
def test_a_part_evaluates_as_the_whole():
    graph = convolutional(3)
    plan = compile_plan(graph, NumpyKernels(FLOAT64))
    x = np.random.default_rng(0).integers(-3, 4, (5, graph.input_size)).astype(np.float64)
    for slot in range(1, len(plan.sizes)):
        elements = np.unique(np.random.default_rng(slot).integers(0, plan.sizes[slot], 3))
        cut = cut_plan(plan, slot, elements)
        part = replace(cut.plan, outputs=(slot,), output_sizes=(cut.plan.sizes[slot],))
        full = replace(plan, outputs=(slot,), output_sizes=(plan.sizes[slot],))
        found = run(part, x[:, cut.inputs])[:, np.searchsorted(cut.kept[slot], elements)]
        assert (found == run(full, x)[:, elements]).all()
        assert cut.plan.work <= plan.work


@pytest.mark.usefixtures("no_dense")
def test_live_elements_are_those_that_matter():
    graph = convolutional(5)
    plan = compile_plan(graph, NumpyKernels(FLOAT64))
    slot = plan.relus[1].slot
    live = live_elements(plan, {slot: np.array([0])})
    x = np.random.default_rng(0).normal(size=(1, graph.input_size))
    dead = np.flatnonzero(~live[0])
    assert 0 < len(dead) < graph.input_size
    part = replace(plan, outputs=(slot,), output_sizes=(plan.sizes[slot],))
    moved = x.copy()
    moved[:, dead] += 1.0
    assert run(part, moved)[0, 0] == run(part, x)[0, 0]
    assert not live[plan.relus[3].slot].any()


def test_networks_without_images_have_no_fields():
    plan = compile_plan(build(3, ["dense_relu", "dense_relu"]), NumpyKernels(FLOAT32))
    fields = Fields(plan)
    assert all(fields.side(s, 100) == 0 for s in range(len(plan.sizes)))


def test_large_images_are_divided():
    graph = convolutional(1, side=40)
    plan = compile_plan(graph, NumpyKernels(FLOAT32))
    fields, slot = Fields(plan), plan.relus[1].source
    side = fields.side(slot, 2 * plan.sizes[slot])
    assert 0 < side < 40
    elements = np.arange(plan.sizes[slot])
    tiles = fields.tiles(slot, elements, side)
    assert sorted(np.concatenate(tiles)) == list(elements)
    assert fields.work(slot, side) < fields.work(slot, 0)
