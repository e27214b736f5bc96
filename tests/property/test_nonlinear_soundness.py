"""Bounds of networks with functions and products hold every value: intervals, forms, lines, optimised rows.

Values are exact rationals, or sixty-digit ones behind functions that leave the rationals.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import (
    RULES,
    Machine,
    beats_exact,
    blur_of,
    exactly,
    node_values,
    objective_faults,
    objective_values,
    output_values,
    pass_of,
    points,
    slot_faults,
    stored_choice,
    tape_faults,
    tape_of,
    with_choices,
)
from strategies import WILD_FUNCTIONS, Box, Sketch, boxes, build, examples, networks, objectives

from bounds.domain import Objectives
from bounds.expression import Fn, X, call
from bounds.graph import Graph, Op
from bounds.methods.objective import bound_objectives, compile_objectives, optimise_slopes
from bounds.methods.parameters import Parameters
from bounds.methods.rule import Rule
from bounds.methods.tape import Tape
from bounds.numerics import EXACT, FLOAT32, FLOAT64, NetworkRounding, Precision

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

PRECISIONS = {"float32": FLOAT32, "float64": FLOAT64}
RATIONAL = ("linear", "dense_relu", "add", "take", "rational", "rational", "product", "relu", "sum")
SMOOTH = ("linear", "linear", "add", "take", "smooth", "smooth", "smooth", "rational", "product", "relu")
WILD = (*SMOOTH, "wild", "wild")
SIZES = ((1,), (2,), (3,), (1, 1))
seeds = st.integers(0, 2**32 - 1)
rules = st.builds(
    lambda name, sharpen: replace(RULES[name], sharpen=sharpen),
    st.sampled_from([*RULES]),
    st.sampled_from([0, 2]),
)


def optimised(tape: Tape, source: Objectives, *, keep: bool, iterations: int = 4) -> tuple[Any, Parameters]:
    """``D S`` bounds of all rows on all boxes after some steps, and their parameters."""
    count = len(tape)
    where, picks = np.repeat(np.arange(count), source.rows), np.tile(np.arange(source.rows), count)
    compiled = compile_objectives(tape.plan, source)
    with np.errstate(all="ignore"):
        best = optimise_slopes(tape, compiled, where, picks, iterations, keep_slopes=keep)
    return best.lower.reshape(count, -1), best.parameters


def sound(
    graph: Graph, box: Box, precision: Precision, rule: Rule, seed: int, *, count: int = 3
) -> list[str]:
    """Faults at level ``real`` of everything the bounds state about the network on the boxes."""
    rng = np.random.default_rng(seed)
    done = pass_of(graph, box, precision, rule)
    tape, source, blur = done.tape, objectives(seed, graph), blur_of(graph)
    compiled = compile_objectives(tape.plan, source)
    with np.errstate(all="ignore"):
        bounds = [bound_objectives(tape, compiled).lower, with_choices(tape, compiled, randomly(tape, rng))]
    bounds += [optimised(tape, source, keep=keep)[0] for keep in (True, False)]
    found: list[str] = []
    for b in range(len(box.lo)):
        x, values = node_values(graph, points(rng, box.lo[b], box.hi[b], count=count)[-12:])
        if not len(x):
            continue
        found += tape_faults(graph, tape, b, values, blur)
        found += slot_faults(graph, done, b, x, values, blur)
        truth = objective_values(source, x, output_values(graph, values))
        for lower in bounds:
            found += objective_faults(lower[b], truth, blur)
    return found


def randomly(tape: Tape, rng: np.random.Generator) -> Any:
    """Random parameters for every relaxation."""

    def choose(index: int, dom: Any) -> Any:
        relaxation, size = tape.relaxations[index], tape.plan.nonlinear[index].size
        relaxation.prepare()
        shares = [tape.kernels.array(rng.random((len(dom), size))) for _ in range(relaxation.parameters)]
        return relaxation.choose(dom, tuple(shares))

    return choose


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("kind", ["rational", "smooth", "wild"])
@examples(25)
@given(data=st.data(), seed=seeds, rule=rules)
def test_values_lie_inside(kind: str, precision: str, data: st.DataObject, seed: int, rule: Rule) -> None:
    moves = {"rational": RATIONAL, "smooth": SMOOTH, "wild": WILD}[kind]
    scales = ("ordinary", "ordinary", "dyadic", "tiny", "huge", "float64")
    graph = data.draw(networks(moves=moves, most=5, scales=scales, inputs=SIZES))
    box = data.draw(boxes(graph.input_size, most=2))
    assert sound(graph, box, PRECISIONS[precision], rule, seed) == []


@examples(12)
@given(data=st.data(), seed=seeds, rule=rules)
def test_values_lie_inside_exactly(data: st.DataObject, seed: int, rule: Rule) -> None:
    """In rationals; functions that leave them have rigorous float64 lines."""
    graph = data.draw(
        networks(moves=data.draw(st.sampled_from([RATIONAL, WILD])), most=3, scales=("dyadic",), inputs=SIZES)
    )
    box = data.draw(boxes(graph.input_size, most=1, extreme=False))
    assert sound(graph, box, EXACT, rule, seed) == []


@pytest.mark.parametrize("seed", range(6))
def test_typical_networks(seed: int) -> None:
    """Deep enough that every part of the pass is used: functions of functions, products, shared values."""
    plans = (
        ["linear", "smooth", "linear", "product", "linear", "smooth"],
        ["linear", "rational", "take", "rational", "residual", "product", "linear"],
        ["linear", "smooth", "smooth", "product", "relu", "linear"],
    )
    graph = build(seed, plans[seed % 3], inputs=(3,))
    lo = np.random.default_rng(seed).uniform(-1, 0.5, (2, 3))
    for precision in (FLOAT32, FLOAT64):
        for rule in (RULES["both"], replace(RULES["backward"], sharpen=2)):
            assert (
                sound(graph, Box(lo, lo + np.array([0.5, 0.01, 1.0])), precision, rule, seed, count=8) == []
            )


@pytest.mark.parametrize("precision", PRECISIONS)
@examples(40)
@given(data=st.data(), seed=seeds)
def test_rounding_is_paid_for(precision: str, data: st.DataObject, seed: int) -> None:
    """The rounded bound never exceeds the exact bound made of the very same lines."""
    graph = data.draw(networks(moves=SMOOTH, most=4, scales=("ordinary", "dyadic", "tiny"), inputs=SIZES))
    box = data.draw(boxes(graph.input_size, most=2, extreme=False))
    for rule in (RULES["intervals"], RULES["both"]):
        tape = tape_of(graph, box, PRECISIONS[precision], rule)
        assert beats_exact(graph, tape, box, objectives(seed, graph)) == []


@pytest.mark.parametrize("precision", PRECISIONS)
@examples(25)
@given(data=st.data(), seed=seeds)
def test_float32_evaluations_lie_inside(precision: str, data: st.DataObject, seed: int) -> None:
    """Level ``float32``: any order of summation, functions operation by operation."""
    graph = data.draw(networks(moves=SMOOTH, most=4, scales=("ordinary", "dyadic", "tiny"), inputs=SIZES))
    box = data.draw(boxes(graph.input_size, most=2, extreme=False))
    assert float32_faults(graph, box, PRECISIONS[precision], RULES["both"], seed) == []


@pytest.mark.parametrize("precision", PRECISIONS)
def test_float32_evaluations_at_points(precision: str) -> None:
    """Boxes without width: nothing but the model's own rounding is between a bound and a value."""
    for seed in range(8):
        graph = build(seed, ["linear", "smooth", "product", "linear", "rational", "linear"], inputs=(3,))
        at = np.random.default_rng(seed).standard_normal((2, 3)).astype(np.float32).astype(np.float64)
        assert float32_faults(graph, Box(at, at), PRECISIONS[precision], RULES["both"], seed) == []


def float32_faults(graph: Graph, box: Box, precision: Precision, rule: Rule, seed: int) -> list[str]:
    """Faults at level ``float32`` for some machines' evaluations."""
    rng = np.random.default_rng(seed)
    done = pass_of(graph, box, precision, rule, NetworkRounding())
    source = objectives(seed, graph)
    with np.errstate(all="ignore"):
        lower = bound_objectives(done.tape, compile_objectives(done.tape.plan, source)).lower
    better = optimised(done.tape, source, keep=True)[0]
    machine, found = Machine(graph, rng), []
    for b in range(len(box.lo)):
        for x in points(rng, box.lo[b], box.hi[b], count=2, float32=True)[-8:]:
            try:
                values = [v[None] for v in machine.run(x)]
            except OverflowError:
                continue
            found += tape_faults(graph, done.tape, b, values, Fraction(0))
            found += slot_faults(graph, done, b, x[None], values)
            truth = objective_values(source, x[None], output_values(graph, values))
            found += objective_faults(lower[b], truth) + objective_faults(better[b], truth)
    return found


@pytest.mark.parametrize("precision", [*PRECISIONS, "exact"])
@examples(15)
@given(data=st.data(), seed=seeds)
def test_a_parents_parameters_hold_on_its_children(precision: str, data: st.DataObject, seed: int) -> None:
    """Stored slopes and mixtures are sound on any box, and keep the bound they were stored for."""
    kind = PRECISIONS.get(precision, EXACT)
    moves = RATIONAL if kind is EXACT else SMOOTH
    graph = data.draw(
        networks(moves=moves, most=3 if kind is EXACT else 4, scales=("ordinary", "dyadic"), inputs=SIZES)
    )
    box = data.draw(boxes(graph.input_size, most=1, extreme=False))
    rng, source, blur = np.random.default_rng(seed), objectives(seed, graph), blur_of(graph)
    parent = tape_of(graph, box, kind, RULES["both"])
    best, parameters = optimised(parent, source, keep=True)
    dimension = int(rng.integers(graph.input_size))
    for side in (0, 1):
        child = Box(box.lo.copy(), box.hi.copy())
        middle = (box.lo[0, dimension] + box.hi[0, dimension]) / 2
        (child.hi if side == 0 else child.lo)[0, dimension] = middle
        tape = tape_of(graph, child, kind, RULES["both"])
        compiled = compile_objectives(tape.plan, source)
        with np.errstate(all="ignore"):
            lower = with_choices(tape, compiled, lambda i, dom, t=tape: stored_choice(t, i, dom, parameters))
        x, values = node_values(graph, points(rng, child.lo[0], child.hi[0], count=4)[-10:])
        if len(x):
            truth = objective_values(source, x, output_values(graph, values))
            assert objective_faults(lower[0], truth, blur) == []
    compiled = compile_objectives(parent.plan, source)
    with np.errstate(all="ignore"):
        again = with_choices(parent, compiled, lambda i, dom: stored_choice(parent, i, dom, parameters))
    known = again == again
    if kind is EXACT:
        assert (again[known] == best[known]).all()
    else:
        # stored numbers give the very same rows: the same operations on the same numbers
        assert (
            np.abs(again - best)[known & np.isfinite(best)]
            <= 2.0**-40 * (1 + np.abs(best))[known & np.isfinite(best)]
        ).all()


def test_products_of_infinite_and_zero_bounds() -> None:
    """x in [0, 1] times f(y) in [e, infinity]: 0 is reached, though 0 times infinity is no number."""
    s = Sketch(np.random.default_rng(0), "dyadic")
    x, y = (s.builder.input(name, (1, 1)) for name in "xy")
    steep = s.put(Op.SCALAR, (y,), params={"function": WILD_FUNCTIONS["exp-exp"]}, roundings=1)
    s.builder.output("z", s.put(Op.MUL, (x, steep), roundings=1))
    graph, box = s.builder.build(), Box(np.zeros((1, 2)), np.array([[1.0, 10.0]]))
    at = exactly(np.array([[0.0, 0.5], [0.0, 0.25], [1.0, 1.0]]))
    for precision in (FLOAT32, FLOAT64, EXACT):
        done = pass_of(graph, box, precision, RULES["both"])
        assert slot_faults(graph, done, 0, *node_values(graph, at)) == []


def test_far_from_zero_forms_pay_for_their_rounding() -> None:
    """Around x = 4096 a form's centre and a line's intercept nearly cancel: rounding is relative to both."""
    for seed in range(10):
        rng = np.random.default_rng(seed)
        s = Sketch(rng, "ordinary")
        x = s.builder.input("x", (1, 4))
        far = 4096.0 + rng.integers(0, 512)
        s.builder.output(
            "y", s.put(Op.SCALAR, (x,), params={"function": call(Fn.TANH, X - far)}, roundings=1)
        )
        graph = s.builder.build()
        lo = far + rng.uniform(-1, 1, (1, 4))
        done = pass_of(graph, Box(lo, lo + 1e-9), FLOAT32, RULES["forward"])
        at, values = node_values(graph, points(rng, lo[0], lo[0] + 1e-9, count=2)[:4])
        assert slot_faults(graph, done, 0, at, values, blur_of(graph)) == []
