"""Invariants 1 and 2: bounds hold every value, for every primitive, method, precision and slope.

Values are exact rationals, compared without tolerance.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import (
    RULES,
    Machine,
    beats_exact,
    exactly,
    interval_faults,
    line_faults,
    objective_faults,
    objective_values,
    points,
    tape_faults,
    tape_of,
    with_slopes,
)
from strategies import MOVES, SCALES, TAME, Box, boxes, build, examples, networks, objectives

from bounds import evaluate as reference
from bounds.kernels.numpy import NumpyKernels
from bounds.methods.bounder import BounderOptions, BoxBounder
from bounds.methods.objective import bound_objectives, compile_objectives, optimise_slopes
from bounds.numerics import EXACT, FLOAT32, FLOAT64, NetworkRounding
from bounds.relax.relu import SLOPE_STEPS

PRECISIONS = {"float32": FLOAT32, "float64": FLOAT64, "exact": EXACT}
seeds = st.integers(0, 2**32 - 1)


def sound_tape(graph, box, precision, rule, seed):
    """Faults of intervals, relaxations, objective bounds (plain, random and optimised slopes)."""
    rng = np.random.default_rng(seed)
    tape = tape_of(graph, box, precision, rule)
    source = objectives(seed, graph)
    compiled = compile_objectives(tape.plan, source)
    found = line_faults(tape)
    with np.errstate(all="ignore"):
        lower = bound_objectives(tape, compiled).lower
        chosen = [
            tape.kernels.array(rng.integers(0, SLOPE_STEPS + 1, r.lo.shape) / SLOPE_STEPS) for r in tape.relus
        ]
        free = with_slopes(tape, compiled, chosen)
        count = len(box.lo)
        where, picks = np.repeat(np.arange(count), source.rows), np.tile(np.arange(source.rows), count)
        best = optimise_slopes(tape, compiled, where, picks, 3, keep_slopes=True)
    assert best.parameters.slopes.max(initial=0) <= SLOPE_STEPS
    for b in range(count):
        x = points(rng, box.lo[b], box.hi[b], count=3)
        values = reference.evaluate_nodes(graph, x)
        found += tape_faults(graph, tape, b, values)
        y = np.concatenate([values[p.node].reshape(len(x), -1) for p in graph.outputs], axis=1)
        truth = objective_values(source, x, y)
        for bound in (lower[b], free[b], best.lower.reshape(count, -1)[b]):
            found += objective_faults(bound, truth)
    return found


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("rule", RULES)
@examples(25)
@given(data=st.data(), seed=seeds)
def test_values_lie_inside(rule, precision, data, seed):
    tame = precision == "exact"  # exact arithmetic has no scales worth testing, and is slow
    graph = data.draw(networks(most=3 if tame else 5, scales=TAME if tame else SCALES))
    box = data.draw(boxes(graph.input_size, most=1 if tame else 3, extreme=not tame))
    assert sound_tape(graph, box, PRECISIONS[precision], RULES[rule], seed) == []


@pytest.mark.parametrize("move", MOVES)
@pytest.mark.parametrize("scale", SCALES)
def test_every_primitive(move, scale):
    for seed in range(3):
        graph = build(seed, ["dense_relu", move, "dense_relu", move], scale=scale, inputs=(2, 1))
        rng = np.random.default_rng(seed)
        lo = rng.standard_normal((2, 3)) * [1.0, 1e-3, 1.0]
        box = Box(lo, lo + rng.random((2, 3)))
        for precision in (FLOAT32, FLOAT64):
            assert sound_tape(graph, box, precision, RULES["both"], seed) == []


@pytest.mark.parametrize("precision", ["float32", "float64"])
@examples(60)
@given(data=st.data(), seed=seeds)
def test_rounding_is_paid_for(precision, data, seed):
    """The rounded bound never exceeds the exact bound made of the very same lines."""
    graph = data.draw(networks(most=4))
    box = data.draw(boxes(graph.input_size))
    for rule in (RULES["intervals"], RULES["both"]):
        tape = tape_of(graph, box, PRECISIONS[precision], rule)
        assert beats_exact(graph, tape, box, objectives(seed, graph)) == []


@pytest.mark.parametrize("precision", ["float32", "float64"])
@examples(60)
@given(data=st.data())
def test_intervals_hold_the_exact_image(precision, data):
    """Stronger than sampling: all of the exact interval image lies inside."""
    graph = data.draw(networks(most=4))
    box = data.draw(boxes(graph.input_size))
    assert interval_faults(graph, tape_of(graph, box, PRECISIONS[precision], RULES["intervals"]), box) == []


@pytest.mark.parametrize("precision", ["float32", "float64"])
@examples(50)
@given(data=st.data(), seed=seeds)
def test_float32_evaluations_lie_inside(precision, data, seed):
    """Level ``float32``: any order, fused or not, flushed or not."""
    graph = data.draw(networks(scales=SCALES[:-2], most=4))
    box = data.draw(boxes(graph.input_size, most=2))
    assert float32_faults(graph, box, PRECISIONS[precision], RULES["both"], seed) == []


def float32_faults(graph, box, precision, rule, seed):
    rng = np.random.default_rng(seed)
    tape = tape_of(graph, box, precision, rule, NetworkRounding())
    source = objectives(seed, graph)
    with np.errstate(all="ignore"):
        lower = bound_objectives(tape, compile_objectives(tape.plan, source)).lower
    machine = Machine(graph, rng)
    found = []
    for b in range(len(box.lo)):
        for x in points(rng, box.lo[b], box.hi[b], count=2, float32=True)[:12]:
            try:
                run = machine.run(x)
            except OverflowError:
                continue
            values = [v[None] for v in run]
            found += tape_faults(graph, tape, b, values)
            y = np.concatenate([values[p.node].reshape(1, -1) for p in graph.outputs], axis=1)
            found += objective_faults(lower[b], objective_values(source, x[None], y))
    return found


def test_summation_order_matters_and_is_covered():
    """1e8 + 1 - 1e8 is 0 or 1 in float32: both lie inside at level float32, only one at level real."""
    from strategies import Sketch

    s = Sketch(np.random.default_rng(0), "dyadic")
    x = s.builder.input("x", (1, 3))
    from bounds.graph import Op

    y = s.put(
        Op.LINEAR, (x,), params={"weight": np.array([[1e8, 1.0, -1e8]]), "bias": np.zeros(1)}, roundings=4
    )
    s.builder.output("y", y)
    graph, box = s.builder.build(), Box(np.ones((1, 3)), np.ones((1, 3)))
    machine = Machine(graph, np.random.default_rng(0))
    seen = {float(machine.run(exactly(np.ones(3)))[y][0, 0]) for _ in range(50)}
    assert seen == {0.0, 1.0}
    lo, hi = tape_of(graph, box, FLOAT64, RULES["both"], NetworkRounding()).outputs[1]
    assert lo[0, 0] <= 0 and hi[0, 0] >= 1
    lo, hi = tape_of(graph, box, FLOAT64, RULES["both"]).outputs[1]
    assert 0.99 < lo[0, 0] <= 1 <= hi[0, 0] < 1.01


@examples(30)
@given(data=st.data(), seed=seeds)
def test_batches_do_not_matter(data, seed):
    """bound(batch)[i] is bound(i): exactly in rationals, up to the rounding pads in floats.

    In floats only where the choice of slopes agrees (a tie may fall either way).
    """
    graph = data.draw(networks(scales=TAME, most=3))
    box = data.draw(boxes(graph.input_size, most=4, extreme=False))
    source = objectives(seed, graph)
    for precision in (FLOAT32, FLOAT64, EXACT):
        whole = tape_of(graph, box, precision, RULES["both"])
        all_ = bound_objectives(whole, compile_objectives(whole.plan, source))
        for b in range(len(box.lo)):
            tape = tape_of(graph, Box(box.lo[b : b + 1], box.hi[b : b + 1]), precision, RULES["both"])
            one = bound_objectives(tape, compile_objectives(tape.plan, source))
            if precision is EXACT:
                assert (one.lower[0] == all_.lower[b]).all()
            elif all(
                (r.lower[0] == w.lower[b]).all() and (r.ambiguous[0] == w.ambiguous[b]).all()
                for r, w in zip(tape.relus, whole.relus, strict=True)
            ):
                gap = abs(one.lower[0].astype(np.float64) - all_.lower[b].astype(np.float64))
                pads = one.pad[0].astype(np.float64) + all_.pad[b].astype(np.float64)
                # intermediate bounds differ by rounding too, hence the factor
                assert (gap <= 16 * pads).all()


@examples(25)
@given(data=st.data(), seed=seeds)
def test_refuted_groups_are_refuted(data, seed):
    """The bounder as the search calls it: a refuted group holds at no sampled point."""
    graph = data.draw(networks(most=4))
    box = data.draw(boxes(graph.input_size, most=4))
    source = objectives(seed, graph, rows=4, groups=3)
    rng = np.random.default_rng(seed)
    wanted = rng.random((len(box.lo), source.groups)) < 0.8
    for precision in (FLOAT32, FLOAT64):
        bounder = BoxBounder(graph, source, precision, BounderOptions(evidence=True))
        with np.errstate(all="ignore"):
            result = bounder.bound(box.lo, box.hi, wanted)
        assert not (result.refuted & ~wanted).any()
        assert not (result.close & result.refuted).any()
        for b in range(len(box.lo)):
            x = points(rng, box.lo[b], box.hi[b], count=3)
            truth = objective_values(source, x, reference.evaluate(graph, x))
            for g in np.flatnonzero(result.refuted[b]):
                rows = slice(source.start[g], source.start[g + 1])
                strict = source.strict[rows]
                holds = np.where(strict, truth[:, rows] < 0, truth[:, rows] <= 0).all(axis=1)
                assert not holds.any()


@examples(30)
@given(data=st.data(), seed=seeds)
def test_narrower_boxes_keep_intervals_narrower(data, seed):
    """Exact interval arithmetic is monotone: a tighter box never loosens it."""
    graph = data.draw(networks(scales=TAME, most=3))
    box = data.draw(boxes(graph.input_size, most=1, extreme=False))
    share = np.random.default_rng(seed).random(2) / 2
    inner = Box(box.lo + share[0] * (box.hi - box.lo), box.hi - share[1] * (box.hi - box.lo))
    inner = Box(np.clip(inner.lo, box.lo, box.hi), np.clip(inner.hi, inner.lo, box.hi))
    wide, narrow = (tape_of(graph, b, EXACT, RULES["intervals"]) for b in (box, inner))
    for outer, now in zip(wide.relus, narrow.relus, strict=True):
        assert (now.lo >= outer.lo).all() and (now.hi <= outer.hi).all()


def overflowing():
    """Networks whose float32 bounds overflow."""
    for seed in range(12):
        moves = ["dense_relu", "scale", "dense_relu", "residual"][: 2 + seed % 3]
        yield build(seed, moves, scale="huge", inputs=(2,))


def test_infinite_bounds_never_prove():
    """1e30 times 1e30 overflows float32: bounds become infinite or NaN and refute nothing wrongly."""
    for seed, graph in enumerate(overflowing()):
        box = Box(np.full((1, 2), -1e30), np.full((1, 2), 1e30))
        source = objectives(seed, graph, rows=4, groups=4)
        rng = np.random.default_rng(seed)
        x = points(rng, box.lo[0], box.hi[0], count=20)
        truth = objective_values(source, x, reference.evaluate(graph, x))
        for precision in (FLOAT32, FLOAT64):
            bounder = BoxBounder(graph, source, precision, BounderOptions())
            with np.errstate(all="ignore"):
                result = bounder.bound(box.lo, box.hi, np.ones((1, source.groups), dtype=bool))
            for g in np.flatnonzero(result.refuted[0]):
                rows = slice(source.start[g], source.start[g + 1])
                assert not (truth[:, rows] < 0).all(axis=1).any()


def test_nan_never_proves():
    graph = build(0, ["dense_relu", "linear"])
    source = replace(objectives(0, graph), d=np.full(3, np.nan))
    bounder = BoxBounder(graph, source, FLOAT32, BounderOptions())
    result = bounder.bound(np.zeros((1, 2)), np.ones((1, 2)), np.ones((1, source.groups), dtype=bool))
    assert not result.refuted.any()


def test_a_nan_interval_is_not_a_fixed_phase():
    """A rectifier whose input bound is NaN must not be taken for an inactive one."""
    from bounds.relax.relu import relax_relu

    kernels = NumpyKernels(FLOAT32)
    lo, hi = np.array([[np.nan, np.nan, -1.0]], np.float32), np.array([[np.nan, 1.0, np.nan]], np.float32)
    with np.errstate(all="ignore"):
        relu = relax_relu(kernels, lo, hi, None)
    assert (relu.ambiguous | ~np.isfinite(relu.upper + relu.offset)).all()
