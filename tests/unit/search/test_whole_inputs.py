"""Inputs that the network reads rounded: which they are, and that a search over whole numbers decides."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from strategies import build

from bounds.expression import Expr, Fn, X
from bounds.graph import Graph, GraphBuilder, Op
from verifier.conclude import Ledger
from verifier.search.budget import Budget
from verifier.search.loop import Search
from verifier.search.objectives import objectives_of
from verifier.search.settle import Settler
from verifier.search.trace import TreeTracer
from verifier.search.whole import ROUNDINGS, first_rounding, in_whole_numbers, rounded_inputs
from verifier.spec.model import Ball, Case, Row
from verifier.verdict import UnknownReason

TRUNC, FLOOR = (Expr(fn, (X,)) for fn in (Fn.TRUNC, Fn.FLOOR))


def of_inputs(*readers: Expr | None, size: int = 1) -> Graph:
    """Every reader sees all inputs, moved about; None hands them on as they are."""
    b = GraphBuilder()
    x = b.input("x", (size,))
    back = b.add(Op.TAKE, (x,), (size,), {"index": np.arange(size)[::-1], "fill": np.zeros(size)})
    again = b.add(Op.RESHAPE, (back,), (1, size))
    for i, e in enumerate(readers):
        b.output(f"y{i}", again if e is None else b.add(Op.SCALAR, (again,), (1, size), {"function": e}))
    return b.build()


@pytest.mark.parametrize(
    ("expression", "found"),
    [
        (X, None),
        (TRUNC, Fn.TRUNC),
        (TRUNC * TRUNC + 1.0, Fn.TRUNC),
        (TRUNC + FLOOR, None),
        (TRUNC + X, None),
        (Expr(Fn.TRUNC, (X + 1.0,)), None),
        (Expr(Fn.ZERO, (TRUNC - 3.0,)), Fn.TRUNC),
        (Expr(Fn.STEP, (X,)), None),
    ],
)
def test_the_rounding_that_comes_first(expression, found):
    assert first_rounding(expression) is found


@pytest.mark.parametrize(
    ("readers", "found"),
    [
        ((TRUNC,), Fn.TRUNC),
        ((TRUNC, TRUNC + 1.0), Fn.TRUNC),
        ((TRUNC, FLOOR), None),
        ((TRUNC, None), None),
        ((X * X,), None),
    ],
)
def test_every_reader_counts(readers, found):
    expected = {} if found is None else dict.fromkeys(range(3), found)
    assert rounded_inputs(of_inputs(*readers, size=3)) == expected


def test_other_readers_take_the_number_itself():
    graph = build(0, ["linear", "relu"], inputs=(3,))
    assert rounded_inputs(graph) == {}


@pytest.mark.parametrize("fn", ROUNDINGS)
@pytest.mark.parametrize("ends", [("-7/3", "5/2"), ("-1/2", "1/2"), ("3/2", "7/2"), ("1/10", "9/10")])
def test_the_whole_box_holds_every_value(fn, ends):
    """And nothing that no input gives: its ends are values, what lies between follows."""
    lo, hi = map(Fraction, ends)
    case, whole = in_whole_numbers(Case((lo,), (hi,), ((Row({0: 1}, {}, 0),),)), {0: fn})
    values = {ROUNDINGS[fn](lo + (hi - lo) * k / 240) for k in range(241)}
    assert whole.tolist() == [True]
    assert values == set(range(int(case.lower[0]), int(case.upper[0]) + 1))


def test_numbers_that_matter_themselves_stay():
    """In a ball, in a row, fixed, or too large to count in float64."""
    rounded = dict.fromkeys(range(3), Fn.TRUNC)
    half, big = Fraction(1, 2), Fraction(2**60)
    rows = ((Row({0: 1}, {0: 1}, 0),),)
    case = Case((half, half, half), (5 * half, half, big), rows)
    same, whole = in_whole_numbers(case, rounded)
    assert not whole.any() and same == case
    ball = Case((half,), (5 * half,), ((Row({0: 1}, {}, 0),),), Ball((half,), half, 2))
    assert in_whole_numbers(ball, rounded) == (ball, np.zeros(1))


def marks(size: int) -> Graph:
    """``y = sum of (trunc x = k)`` for k < size: one mark is set, but a closed box may see two."""
    b = GraphBuilder()
    x = b.input("x", (1,))
    t = b.add(Op.SCALAR, (x,), (1,), {"function": TRUNC})
    spread = b.add(Op.TAKE, (t,), (size,), {"index": np.zeros(size, dtype=int), "fill": np.zeros(size)})
    place = b.add(Op.SCALE, (spread,), (size,), {"scale": np.ones(()), "shift": -np.arange(float(size))})
    mark = b.add(Op.SCALAR, (place,), (size,), {"function": Expr(Fn.ZERO, (X,))})
    weight = {"weight": np.ones((1, size)), "bias": np.zeros(1)}
    b.output("y", b.add(Op.LINEAR, (mark,), (1,), weight))
    return b.build()


@pytest.mark.parametrize("known", [True, False])
def test_search_between_jumps(known):
    """Exactly one mark is set at every input; closed boxes that touch at a jump never show it."""
    graph = marks(6)
    case = Case((Fraction(0),), (Fraction(11, 2),), ((Row({0: 2}, {}, -1),),))
    case, whole = in_whole_numbers(case, rounded_inputs(graph) if known else {})
    settler = Settler(graph, case, objectives_of(case, 1, 1), network=None, evidence=True)
    lo, hi = (np.array([float(v) for v in ends]) for ends in (case.lower, case.upper))
    tracer, ledger = TreeTracer(), Ledger(1, [case])
    found = Search(settler, None, Budget(domains=200), ledger, tracer, 1, whole=whole).run(lo, hi, 0)
    if not known:
        assert found.reason is UnknownReason.DOMAINS
        return
    assert found.reason is UnknownReason.NONE and ledger.open == 0
    assert found.bounded == 11  # six whole numbers, five boxes of several
    assert all((at % 1 == 0.5).all() for _, _, at, _ in tracer.splits)
