"""The bounding rule and its parts: what the certificate's reference text says about them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from oracles import RULES, beats_exact, exactly, objective_faults, objective_values, tape_of
from strategies import Box, build, objectives

from bounds.graph import GraphBuilder, Op
from bounds.kernels.numpy import NumpyKernels
from bounds.methods.bounder import BounderOptions, BoxBounder
from bounds.methods.objective import bound_objectives, compile_objectives
from bounds.methods.rule import Rule, relax_boxes
from bounds.methods.tape import Stopped
from bounds.numerics import EXACT, FLOAT32, FLOAT64, box_to_centre
from bounds.plan import compile_plan
from bounds.relax.relu import SLOPE_STEPS, relax_relu
from verifier.search.objectives import objectives_of
from verifier.spec.model import Case, Row

PRECISIONS = {"float32": FLOAT32, "float64": FLOAT64, "exact": EXACT}


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(
    ("lo", "hi"),
    [
        (-1, 1),
        (-1, 2),
        (-2, 1),
        (0, 0),
        (0, 1),
        (-1, 0),
        (-1, 1e-30),
        (-1e-30, 1),
        (-1e30, 3),
        (-7e-46, 1e-45),
    ],
)
def test_relaxation_of_the_rectifier(precision, lo, hi):
    """Both lines are valid at both ends, exactly; slopes are what CROWN chooses."""
    kernels = NumpyKernels(PRECISIONS[precision])
    ends = [kernels.array(np.array([[float(v)]])) for v in (lo, hi)]
    relu = relax_relu(kernels, *ends, None)
    low, high, offset = (exactly(v)[0, 0] for v in (relu.lower, relu.upper, relu.offset))
    for end in ends:
        z = exactly(end)[0, 0]
        assert low * z <= max(z, 0) <= high * z + offset
    assert 0 <= high <= 1 and low in (0, 1)
    a, b = (exactly(e)[0, 0] for e in ends)
    assert bool(relu.ambiguous[0, 0]) == (a < 0 < b)
    if a < 0 < b:
        assert low == (1 if b > -a else 0)
    else:
        assert offset == 0 and high == (1 if a >= 0 else 0)


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("scale", [1.0, 1e30, 1e-30, 1e-42, 5e-324])
def test_box_to_centre_holds_the_box(precision, scale):
    rng = np.random.default_rng(0)
    lo = np.sort(rng.standard_normal((20, 2)) * scale, axis=1)[:, :1]
    hi = lo + np.abs(rng.standard_normal((20, 1))) * scale * (rng.random((20, 1)) < 0.7)
    centre, radius = box_to_centre(lo, hi, PRECISIONS[precision])
    c, r = exactly(centre), exactly(radius)
    assert (c - r <= exactly(lo)).all() and (exactly(hi) <= c + r).all()


def test_a_representable_point_has_no_radius():
    x = np.array([[0.0, -0.0, 1.5, -(2.0**-20)]])
    for precision in (FLOAT32, FLOAT64):
        centre, radius = box_to_centre(x, x, precision)
        assert not radius.any() and (centre == x).all()


@pytest.mark.parametrize("name", RULES)
def test_stop_is_polled(name):
    """``should_stop`` ends a pass that bounds neurons backwards."""
    graph = build(1, ["dense_relu", "dense_relu", "dense_relu"])
    plan = compile_plan(graph, NumpyKernels(FLOAT32))
    rule = dataclasses.replace(RULES[name], should_stop=lambda: True)
    lo, hi = np.full((4, 2), -9.0), np.full((4, 2), 9.0)
    if rule.refine:
        with pytest.raises(Stopped):
            relax_boxes(plan, lo, hi, rule)
    else:
        assert len(relax_boxes(plan, lo, hi, rule).relus) == 3


def test_memory_pieces_do_not_change_bounds():
    """Packed rows in small pieces give the bounds of one large piece."""
    graph = build(3, ["dense_relu", "residual", "dense_relu", "linear"])
    lo = np.random.default_rng(0).uniform(-2, 0, (40, 2))
    plan = compile_plan(graph, NumpyKernels(EXACT))
    few, many = (
        relax_boxes(plan, exactly(lo[:6]), exactly(lo[:6] + 2), Rule(row_bytes=b)) for b in (1, 10**9)
    )
    for a, b in zip(few.relus, many.relus, strict=True):
        assert (a.lo == b.lo).all() and (a.hi == b.hi).all()


def test_refining_never_loosens():
    graph = build(5, ["dense_relu", "dense_relu", "dense_relu"])
    box = Box(np.full((1, 2), -1.0), np.full((1, 2), 1.0))
    plain, better = (tape_of(graph, box, EXACT, RULES[r]) for r in ("intervals", "both"))
    for a, b in zip(plain.relus, better.relus, strict=True):
        assert (b.lo >= a.lo).all() and (b.hi <= a.hi).all()


def test_rows_that_pass_no_rectifier():
    """A rectifier that no output depends on does not change the number of rows."""
    b = GraphBuilder()
    x = b.input("x", (2,))
    b.add(Op.RELU, (x,), (2,))
    w = {"weight": np.array([[1.0, 2.0]]), "bias": np.array([0.5])}
    b.output("y", b.add(Op.LINEAR, (x,), (1,), w, roundings=3))
    graph = b.build()
    box = Box(np.zeros((3, 2)), np.ones((3, 2)))
    tape = tape_of(graph, box, FLOAT64, RULES["both"])
    found = bound_objectives(tape, compile_objectives(tape.plan, objectives(0, graph)))
    assert found.lower.shape == (3, 3)


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_one_value_under_two_output_names(precision):
    """Coefficients of outputs that are one value add up exactly: 2^k + 1 is no number of that precision."""
    b = GraphBuilder()
    x = b.input("x", (1,))
    y = b.add(Op.LINEAR, (x,), (1,), {"weight": np.eye(1), "bias": np.zeros(1)})
    for name in ("y", "z"):
        b.output(name, b.add(Op.RESHAPE, (y,), (1, 1)))
    graph = b.build()
    big = 2 ** (24 if precision == "float32" else 53)
    rows = ((Row({0: big, 1: 1}, {}, -big),),)
    source = objectives_of(Case((0,), (1,), rows), 1, 2)
    box = Box(np.array([[-1.0]]), np.array([[-1.0]]))
    tape = tape_of(graph, box, PRECISIONS[precision], RULES["both"])
    assert beats_exact(graph, tape, box, source) == []
    wide = dataclasses.replace(source, d=source.d * 0)
    compiled = compile_objectives(tape.plan, wide)
    (coefficients,) = compiled.at.values()
    assert compiled.penalty > 0 or exactly(coefficients)[0, 0] == big + 1


def test_strict_rows_are_refuted_at_zero():
    """``y >= 0`` refutes a strict row and no other; only exact arithmetic can see it."""
    b = GraphBuilder()
    x = b.input("x", (1,))
    b.output("y", b.add(Op.RELU, (x,), (1,)))
    graph = b.build()
    rows = tuple((Row({0: 1}, {}, 0, strict),) for strict in (True, False))
    source = objectives_of(Case((-1,), (1,), rows), 1, 1)
    bounder = BoxBounder(graph, source, EXACT, BounderOptions())
    lo, hi = exactly(np.array([[-1.0]])), exactly(np.array([[0.0]]))
    assert bounder.bound(lo, hi, np.ones((1, 2), dtype=bool)).refuted.tolist() == [[True, False]]


def test_evidence_slopes_reprove():
    """The stored slopes, in 1/128, give a bound that refutes the row again."""
    from oracles import with_slopes

    graph = build(11, ["dense_relu", "dense_relu", "linear"])
    source = objectives(4, graph, rows=6, groups=6)
    rng = np.random.default_rng(0)
    lo = rng.uniform(-1, 0.5, (12, 2))
    bounder = BoxBounder(graph, source, FLOAT64, BounderOptions(evidence=True))
    wanted = np.ones((12, source.groups), dtype=bool)
    result = bounder.bound(lo, lo + 0.5, wanted)
    e = result.evidence
    assert e is not None and len(e.box) == int(result.refuted.sum()) > 0
    tape = relax_boxes(bounder.plan, lo, lo + 0.5, bounder.rule)
    for box, group, row, slopes in zip(e.box, e.group, e.row, e.parameters.slopes, strict=True):
        s = source.start[group] + row
        own = [
            np.repeat((slopes[r.offset : r.offset + r.size] / SLOPE_STEPS)[None], len(tape), axis=0)
            for r in bounder.plan.relus
        ]
        bound = with_slopes(tape, bounder.compiled, own)[box, s]
        assert bound > 0 or (source.strict[s] and bound >= 0)


def test_guesses_lie_in_their_boxes():
    graph = build(2, ["dense_relu", "dense_relu"])
    source = objectives(2, graph)
    lo = np.full((3, 2), -1.0)
    result = BoxBounder(graph, source, FLOAT64, BounderOptions()).bound(
        lo, lo + 1, np.ones((3, source.groups), dtype=bool)
    )
    # to within the rounding of centre and radius; the chokepoint moves a candidate into the exact box
    assert (np.abs(result.guesses - (lo + 0.5)) <= 0.5 + 2.0**-50).all()


def test_a_bound_is_reached_by_a_stable_network():
    """No ambiguous neuron: the bound is the true minimum, up to rounding, so nothing is needlessly loose."""
    b = GraphBuilder()
    x = b.input("x", (2,))
    w = {"weight": np.array([[1.0, 1.0], [-1.0, 0.5]]), "bias": np.array([3.0, -3.0])}
    z = b.add(Op.RELU, (b.add(Op.LINEAR, (x,), (2,), w, roundings=3),), (2,))
    b.output("y", z)
    graph = b.build()
    box = Box(np.full((1, 2), -1.0), np.full((1, 2), 1.0))
    source = objectives_of(Case((-1, -1), (1, 1), ((Row({0: 1}, {}, 0),),)), 2, 2)
    for precision in (FLOAT32, FLOAT64):
        tape = tape_of(graph, box, precision, RULES["both"])
        lower = float(bound_objectives(tape, compile_objectives(tape.plan, source)).lower[0, 0])
        assert 1 - 2.0**-16 < lower <= 1
    y = np.array([[1, 0]], dtype=object)
    assert objective_faults([lower], objective_values(source, exactly(np.array([[-1.0, -1.0]])), y)) == []
