"""Exact mode: ties are ties."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from scalar_functions import PIECEWISE, SMOOTH, clip

from bounds.expression import Expr, Fn, X, call
from bounds.relax.scalar import scalar_function


def lines(e: Expr, lo: str, hi: str, k: str = "0") -> tuple[Fraction, Fraction]:
    """Exact intercepts for one slope."""
    arrays = [np.array([Fraction(v)], dtype=object) for v in (lo, hi, k, k)]
    below, above = scalar_function(e).intercepts(*arrays)
    return below[0], above[0]


@pytest.mark.parametrize(
    ("e", "lo", "hi", "k", "below", "above"),
    [
        (X**2, "-3", "3", "0", "0", "9"),
        (X**2, "0", "3", "3", "-9/4", "0"),
        (X * X, "-1/3", "1", "0", "0", "1"),
        (X**2, "-1", "3", "2", "-1", "3"),
        (X**3, "0", "2", "0", "0", "8"),
        (X**3, "1", "2", "0", "1", "8"),
        (X**3, "-1", "1", "1", None, None),
        (X**4, "-1", "2", "0", "0", "16"),
        (clip(X, -1, 1), "-9", "9", "0", "-1", "1"),
        (clip(X, 0, 6), "-1", "9", "1", "-3", "1"),
        (clip(3 * X + 1, -1, 2), "-1", "1", "3", "-1", "2"),
        (call(Fn.STEP, X), "-1", "0", "0", "0", "1"),
        (call(Fn.STEP, X), "-1", "-1/1000", "0", "0", "0"),
        (call(Fn.STRICT, X), "-1", "0", "0", "0", "0"),
        (call(Fn.FLOOR, X), "1/2", "1", "0", "0", "1"),
        (call(Fn.FLOOR, X), "1/2", "5/2", "1", "-1", "0"),
        (call(Fn.ROUND, X), "1/2", "3/2", "0", "0", "2"),
        (call(Fn.ROUND, 3 * X), "1/6", "1/3", "0", "0", "1"),
        (1 / X, "1/3", "3", "0", "1/3", "3"),
        (1 / X, "-3", "-1/3", "0", "-3", "-1/3"),
        (X / (1 + call(Fn.ABS, X)), "-1", "3", "0", "-1/2", "3/4"),
        (X * clip(X + 3, 0, 6) / 6, "-4", "4", "0", "-3/8", "4"),
        (0.125 * clip(call(Fn.ROUND, X / 0.125), -16, 15), "-5", "5", "0", "-2", "15/8"),
        (call(Fn.RELU, X) ** 2, "-1", "2", "0", "0", "4"),
    ],
)
def test_ties(e: Expr, lo: str, hi: str, k: str, below: str | None, above: str | None) -> None:
    found = lines(e, lo, hi, k)
    if below is not None and above is not None:
        assert found == (Fraction(below), Fraction(above))
    else:  # an irrational extreme: within a float's precision
        assert float(found[0]) == pytest.approx(-2 / 3 / math.sqrt(3), rel=1e-12)
        assert float(found[1]) == pytest.approx(2 / 3 / math.sqrt(3), rel=1e-12)


def test_undefined_is_infinite() -> None:
    assert lines(1 / X, "-1", "1") == (-math.inf, math.inf)
    assert lines(1 / X, "0", "1") == (-math.inf, math.inf)


ALL = {**SMOOTH, **PIECEWISE}


@pytest.mark.parametrize("name", [n for n, (e, *_) in ALL.items() if scalar_function(e).rational])
def test_no_looser_than_floats(name: str, rng: np.random.Generator) -> None:
    e, low, high = ALL[name]
    f = scalar_function(e)
    lo, hi = np.sort(rng.uniform(low, high, (2, 10)), axis=0)
    exactly = np.frompyfunc(Fraction, 1, 1)
    kl, ku = f.supporting(exactly(lo), exactly(hi), exactly(lo))
    assert all(isinstance(k, Fraction) and float(np.float32(k)) == k for k in (*kl, *ku))
    below, above = f.intercepts(exactly(lo), exactly(hi), kl, ku)
    rounded = f.intercepts(lo, hi, kl.astype(np.float64), ku.astype(np.float64))
    slack = 1e-10 * (1 + np.abs(rounded[0]) + np.abs(rounded[1]))
    assert (below.astype(np.float64) >= rounded[0] - 1e-15).all()
    assert (above.astype(np.float64) <= rounded[1] + 1e-15).all()
    assert (below.astype(np.float64) <= rounded[0] + slack).all()
    assert (above.astype(np.float64) >= rounded[1] - slack).all()


def test_values_and_derivatives() -> None:
    f = scalar_function(X**3 - X)
    z = np.array([Fraction(1, 3)], dtype=object)
    assert f.rational
    assert f.value(z)[0] == Fraction(1, 27) - Fraction(1, 3)
    assert f.derivative(z)[0] == Fraction(1, 3) - 1
    assert f.range(z, z)[0][0] == f.value(z)[0] == f.range(z, z)[1][0]
    assert not scalar_function(call(Fn.EXP, X)).rational
