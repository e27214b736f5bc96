"""The rule where inputs are fixed, whole numbers or unbounded, and where refinement costs too much."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import (
    RULES,
    exactly,
    line_faults,
    node_values,
    pass_of,
    points,
    slot_faults,
    tape_faults,
    tape_of,
)
from strategies import Box, build, examples

from bounds.expression import X, as_expr
from bounds.graph import GraphBuilder, Op
from bounds.kernels.numpy import NumpyKernels
from bounds.methods.bounder import BounderOptions, BoxBounder
from bounds.methods.rule import FORWARD_INPUTS, Rule, relax_boxes, varying
from bounds.numerics import EXACT, FLOAT32, FLOAT64
from bounds.ops.table import bind
from bounds.plan import compile_plan
from verifier.search.objectives import objectives_of
from verifier.spec.model import Case, Row

PRECISIONS = {"float32": FLOAT32, "float64": FLOAT64, "exact": EXACT}
seeds = st.integers(0, 2**32 - 1)


def fixed_in_part(seed, boxes=2, inputs=5):
    """Boxes in which some inputs are one decimal number, rounded to either side or representable."""
    rng = np.random.default_rng(seed)
    lo = rng.uniform(-1, 1, inputs)
    kind = rng.integers(0, 3, inputs)
    wide = np.broadcast_to(lo, (boxes, inputs)) + rng.random((boxes, inputs))
    low = np.where(kind == 2, np.float32(lo).astype(float), lo) + np.zeros((boxes, 1))
    hi = np.where(kind == 0, wide, np.where(kind == 1, np.nextafter(low, 2), low))
    return Box(low, hi), kind == 0


@pytest.mark.parametrize("precision", PRECISIONS)
@examples(10)
@given(seed=seeds)
def test_columns_of_varying_inputs(precision, seed):
    """Only they have one, and every value still lies where the rule says."""
    graph = build(seed % 7, ["dense_relu", "residual", "dense_relu", "linear"], inputs=(5,))
    box, wide = fixed_in_part(seed)
    done = pass_of(graph, box, PRECISIONS[precision], RULES["both"])
    tape = done.tape
    assert np.array_equal(varying(box.lo, box.hi), wide)
    assert np.array_equal(np.asarray(tape.columns), np.flatnonzero(wide))
    for relaxation in tape.relaxations:
        assert all(s is None or s.shape[1] == wide.sum() for s in relaxation.spreads)
    assert line_faults(tape) == []
    rng = np.random.default_rng(seed)
    for b in range(len(box.lo)):
        x, values = node_values(graph, points(rng, box.lo[b], box.hi[b]))
        assert tape_faults(graph, tape, b, values) + slot_faults(graph, done, b, x, values) == []


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_scores_of_fixed_inputs(precision):
    """Loss is booked to the input that moves it, wherever its column is."""
    graph = build(2, ["dense_relu", "dense_relu", "linear"], inputs=(4,))
    rows = ((Row({0: 1}, {}, 0),),)
    objectives = objectives_of(Case((0,) * 4, (1,) * 4, rows), 4, graph.output_size)
    bounder = BoxBounder(graph, objectives, PRECISIONS[precision], BounderOptions())
    lo, hi = np.full((1, 4), -1.0), np.full((1, 4), 1.0)
    hi[0, [0, 2]] = lo[0, [0, 2]] = 0.25
    scores = bounder.bound(lo, hi, np.ones((1, 1), dtype=bool)).scores[0]
    assert (scores[[0, 2]] == 0).all() and (scores[[1, 3]] > 0).all()


def test_forward_forms_for_few_varying_inputs():
    count = FORWARD_INPUTS + 1
    graph = build(0, ["linear"], inputs=(count,))
    objectives = objectives_of(Case((0,), (0,), ((Row({0: 1}, {}, 0),),)), count, graph.output_size)
    for vary, forward in ((None, False), (count, False), (FORWARD_INPUTS, True), (0, True)):
        assert BoxBounder(graph, objectives, FLOAT32, BounderOptions(varying=vary)).rule.forward is forward


def sums(weight, bias):
    b = GraphBuilder()
    x = b.input("x", (weight.shape[1],))
    b.output("y", b.add(Op.LINEAR, (x,), (len(weight),), {"weight": weight, "bias": bias}))
    return b.build()


@pytest.mark.parametrize("precision", ["float32", "float64"])
@examples(40)
@given(seed=seeds)
def test_whole_numbers_are_not_rounded(precision, seed):
    """Small whole weights and ends: the exact interval. Large sums and fractions are outwards of it."""
    rng = np.random.default_rng(seed)
    weight = rng.integers(-3, 4, (4, 6)).astype(float)
    weight[3] *= 2.0**50
    graph = sums(weight, rng.integers(-5, 6, 4).astype(float))
    lo = rng.integers(-4, 5, (1, 6)).astype(float)
    hi = lo + rng.integers(0, 4, (1, 6))
    used = np.flatnonzero(weight[1])
    if len(used):
        lo[0, used[0]] -= 0.1
    tape = tape_of(graph, Box(lo, hi), PRECISIONS[precision], Rule(forward=False, refine=False))
    (low, high) = (exactly(v)[0] for v in tape.outputs[tape.plan.outputs[0]])
    exact = tape_of(graph, Box(lo, hi), EXACT, Rule(forward=False, refine=False))
    (least, most) = (v[0] for v in exact.outputs[exact.plan.outputs[0]])
    assert (low <= least).all() and (most <= high).all()
    whole = np.array([i for i in (0, 2) if not len(used) or weight[i, used[0]] == 0], dtype=int)
    assert (low[whole] == least[whole]).all() and (high[whole] == most[whole]).all()
    if len(used):
        assert low[1] < least[1]


def test_zeros_round_nothing():
    """A sum is as long as it has terms."""
    weight = np.zeros((50, 40))
    weight[:, 0] = 1 / 3
    weight[0, :3] = 1 / 3
    graph = sums(weight, np.zeros(50))
    assert bind(graph.nodes[1], graph, NumpyKernels(FLOAT32)).terms == 50
    weight[3:, 0] = 0
    graph = sums(weight, np.zeros(50))
    assert bind(graph.nodes[1], graph, NumpyKernels(FLOAT32)).terms == 3


def test_refinement_has_a_limit():
    """Nothing is bounded backwards beyond it, what would have been is counted, bounds stay sound."""
    graph = build(1, ["dense_relu", "dense_relu", "dense_relu", "linear"], inputs=(3,))
    plan = compile_plan(graph, NumpyKernels(FLOAT64))
    lo, hi = np.full((2, 3), -2.0), np.full((2, 3), 2.0)
    none, free = (relax_boxes(plan, lo, hi, Rule(forward=False, most=m)) for m in (0, np.inf))
    some = relax_boxes(plan, lo, hi, Rule(forward=False, most=0.7 * free.refined_work / len(lo)))
    plain = relax_boxes(plan, lo, hi, Rule(forward=False, refine=False))
    for a, b in zip(none.relus, plain.relus, strict=True):
        assert (a.lo == b.lo).all() and (a.hi == b.hi).all() and not a.refined[0].any()
    assert none.refined_rows > 0 and plain.refined_rows == 0
    counts = [sum(int(r.refined[0].sum()) for r in t.relus) for t in (none, some, free)]
    assert counts[0] == 0 < counts[1] < counts[2]


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_one_hopeless_box_does_not_spoil_the_block(precision):
    """Rows of a block share what rounding costs; where that is infinite, a box's own intervals count."""
    b = GraphBuilder()
    x = b.input("x", (2,))
    inverse = b.add(Op.SCALAR, (x,), (2,), {"function": as_expr(1.0) / X})
    weight = {"weight": np.array([[1.0, 1.0]]), "bias": np.zeros(1)}
    b.output("y", b.add(Op.LINEAR, (inverse,), (1,), weight))
    graph = b.build()
    objectives = objectives_of(Case((0, 0), (1, 1), ((Row({0: 1}, {}, -1),),)), 2, 1)
    bounder = BoxBounder(graph, objectives, PRECISIONS[precision], BounderOptions())
    lo, hi = np.array([[-1.0, -1.0], [1.0, 1.0]]), np.array([[1.0, 1.0], [1.5, 1.5]])
    with np.errstate(all="ignore"):
        found = bounder.bound(lo, hi, np.ones((2, 1), dtype=bool))
    assert found.lower[0, 0] == -np.inf and not found.refuted[0, 0]
    # 2/3 + 2/3 - 1, from below
    assert 0.33 < found.lower[1, 0] < 1 / 3 and found.refuted[1, 0]
