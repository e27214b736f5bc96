"""The analysis of a function's shape: kinks, jumps, inflections, domains."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from precise import value
from scalar_functions import PIECEWISE, SMOOTH, clip

from bounds.expression import Expr, Fn, X, call, const
from bounds.relax.isolate import FLAT, NEGATIVE, POSITIVE, UNKNOWN
from bounds.relax.scalar import ScalarFunction, scalar_function


def shape(e: Expr, lo: float = -9, hi: float = 9) -> tuple[list[int], list[float]]:
    """Kinds of the stretches of positive width, and where they end, within [lo, hi]."""
    part = ScalarFunction(e).segments(lo, hi)
    kept = [s for s in part.segments if s.lo < hi and lo < s.hi and s.lo < s.hi]
    return [s.kind for s in kept], [s.hi for s in kept[:-1]]


KNOWN = [
    ("sigmoid", [POSITIVE, NEGATIVE], [0.0]),
    ("sigmoid spelled out", [POSITIVE, NEGATIVE], [0.0]),
    ("tanh", [POSITIVE, NEGATIVE], [0.0]),
    ("gelu", [NEGATIVE, POSITIVE, NEGATIVE], [-1.4142135, 1.4142135]),
    ("silu", [NEGATIVE, POSITIVE, NEGATIVE], [-2.399357280515468, 2.399357280515468]),
    ("mish", [NEGATIVE, POSITIVE, NEGATIVE], [-2.2563763963607, 1.4905711794854]),
    ("gaussian", [POSITIVE, NEGATIVE, POSITIVE], [-math.sqrt(0.5), math.sqrt(0.5)]),
    ("pade", [NEGATIVE, POSITIVE, NEGATIVE, POSITIVE], [-math.sqrt(3), 0.0, math.sqrt(3)]),
    ("softsign", [POSITIVE, NEGATIVE], [0.0]),
    ("softplus", [POSITIVE], []),
    ("cube", [NEGATIVE, POSITIVE], [0.0]),
    ("fourth power", [POSITIVE], []),
    ("elu", [POSITIVE, FLAT], [0.0]),
    ("hard swish", [FLAT, POSITIVE, FLAT], [-3.0, 3.0]),
]


@pytest.mark.parametrize(("name", "kinds", "ends"), KNOWN)
def test_known_shapes(name: str, kinds: list[int], ends: list[float]) -> None:
    found, places = shape(SMOOTH[name][0])
    assert found == kinds
    assert places == pytest.approx(ends, abs=1e-7)


@pytest.mark.parametrize("name", [*SMOOTH, *PIECEWISE])
def test_curvature_is_what_it_says(name: str, rng: np.random.Generator) -> None:
    """Second differences have the stated sign."""
    e, low, high = {**SMOOTH, **PIECEWISE}[name]
    for s in ScalarFunction(e).segments(low, high).segments:
        a, b = max(s.lo, low), min(s.hi, high)
        if not a < b or s.kind == UNKNOWN:
            assert not a < b or b - a < 1e-9
            continue
        for t in rng.uniform(0.1, 0.9, 3):
            z, h = Fraction(a + (b - a) * t), Fraction((b - a) / 32)
            bend = value(e, z - h) - 2 * value(e, z) + value(e, z + h)
            assert bend == 0 if s.kind == FLAT else bend * s.kind > 0


def test_kinks_are_exact_rationals() -> None:
    part = ScalarFunction(clip(3 * X + 1, -1, 2)).segments(-9, 9)
    assert part.exact == (Fraction(-2, 3), Fraction(1, 3))
    assert all(b.lo < p < b.hi for b, p in zip(part.boxes, part.exact, strict=True))


def test_jumps_have_three_values() -> None:
    (box,) = ScalarFunction(call(Fn.SIGN, X)).segments(-1, 1).boxes
    assert (box.before, box.value, box.after) == ((-1, -1), (0, 0), (1, 1))


def test_a_staircase_that_ends_is_whole() -> None:
    """The rounding of a clipped function jumps where it is not clipped, and nowhere else."""
    e = PIECEWISE["quantise"][0]
    part = ScalarFunction(e).segments(-9, 9)
    assert part.proved == (-math.inf, math.inf)
    assert sum(b.before != b.after for b in part.boxes) == 31
    assert Fraction(-31, 16) in part.exact


@pytest.mark.parametrize("size", [10.0, 100.0, 900.0])
def test_endless_functions_grow_on_demand(size: float) -> None:
    for e in (call(Fn.SIN, X), call(Fn.FLOOR, X)):
        lo, hi = ScalarFunction(e).segments(-size, size).proved
        assert lo <= -size and size <= hi


@pytest.mark.parametrize(
    ("e", "inside", "outside"),
    [
        (call(Fn.LOG, X), 1.0, -1.0),
        (call(Fn.SQRT, 3 - X), 1.0, 4.0),
        (call(Fn.ASIN, X), 0.5, 2.0),
        (call(Fn.ACOSH, X), 3.0, 0.5),
        (X**0.3, 1.0, -1.0),
        (call(Fn.LOG, call(Fn.SIN, X)), 1.0, 4.0),
    ],
)
def test_domains(e: Expr, inside: float, outside: float) -> None:
    part = scalar_function(e).segments(-5, 5)
    kinds = {z: next(s.kind for s in part.segments if s.lo < z < s.hi) for z in (inside, outside)}
    assert kinds[inside] != UNKNOWN and kinds[outside] == UNKNOWN


def test_nested_switches() -> None:
    """Inner decisions are made before outer ones, and only where they matter."""
    e = call(Fn.WHERE, call(Fn.STEP, call(Fn.ABS, X) - 1), call(Fn.FLOOR, X) * 0 + 5, call(Fn.RELU, X))
    assert shape(e, -3, 3)[1] == [-1.0, 0.0, 1.0]


def test_isolated_points_are_not_lost() -> None:
    """-x^2 >= 0 holds at one point only."""
    f = ScalarFunction(call(Fn.STEP, -(X * X)))
    z = np.array([-1.0]), np.array([1.0])
    assert [v[0] for v in f.range(*z)] == [0, 1]
    f = ScalarFunction(call(Fn.ZERO, X - const(0.3)))
    assert [v[0] for v in f.range(*z)] == [0, 1]
