"""Interval evaluation: contains the exact value, is tight, and says so when it knows nothing."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from precise import TooLargeError, UndefinedError, value

from bounds.evaluate_scalar import UNARY
from bounds.expression import Expr, Fn, X, call, const
from bounds.relax.enclose import ULPS, enclose

ELEMENTARY = [fn for fn in ULPS if fn is not Fn.POW]
HALF_PI = math.pi / 2


def points(rng: np.random.Generator) -> np.ndarray:
    return np.concatenate(
        [
            rng.normal(size=40) * 4,
            np.exp(rng.uniform(-200, 6, 20)) * rng.choice([-1, 1], 20),
            rng.uniform(-1, 1, 20),
            1 - np.exp(rng.uniform(-35, 0, 8)),
            np.arange(-4, 5) * HALF_PI,
            [0.0, 1.0, -1.0, 5e-324, 700.0, -700.0, -745.0, 40.0, 123456.789, 1e8],
        ]
    )


def between(low: float, exact: Fraction, high: float) -> bool:
    return (low == -math.inf or Fraction(low) <= exact) and (high == math.inf or exact <= Fraction(high))


@pytest.mark.parametrize("fn", ELEMENTARY)
def test_points(fn: Fn, rng: np.random.Generator) -> None:
    z = points(rng)
    lo, hi = enclose(call(fn, X), z, z)
    for x, below, above in zip(z, lo, hi, strict=True):
        try:
            exact = value(call(fn, X), Fraction(float(x)))
        except TooLargeError:
            assert max(abs(below), above) > 1e300
            continue
        except UndefinedError:
            assert math.isnan(below) and math.isnan(above)
            continue
        if math.isnan(below):  # at a pole's nearest floats nothing is claimed
            assert fn in (Fn.TAN, Fn.ATANH)
            continue
        assert between(below, exact, above), (fn, x, below, float(exact), above)


@pytest.mark.parametrize("fn", ELEMENTARY)
def test_declared_ulps_have_margin(fn: Fn, rng: np.random.Generator) -> None:
    """NumPy and SciPy are at least twice as accurate as the table says."""
    z = points(rng)
    with np.errstate(all="ignore"):
        computed = UNARY[fn](z)
    for x, y in zip(z, computed, strict=True):
        try:
            exact = value(call(fn, X), Fraction(float(x)))
        except (UndefinedError, TooLargeError):
            continue
        if math.isfinite(y) and abs(exact) > Fraction(1, 2**1000):
            assert abs(Fraction(float(y)) - exact) <= abs(exact) * Fraction(max(ULPS[fn] / 2, 1)) / 2**52, x


@pytest.mark.parametrize("fn", ELEMENTARY)
def test_intervals(fn: Fn, rng: np.random.Generator) -> None:
    """Contain values inside; are as narrow as the samples let expect."""
    low, high = (-0.9, 0.9) if fn in (Fn.ASIN, Fn.ACOS, Fn.ATANH, Fn.TAN) else (0.1, 9.0)
    low = 1.1 if fn is Fn.ACOSH else low
    a = rng.uniform(low, high, 30)
    b = np.minimum(a + rng.exponential(1.5, 30), high if high < 1 else math.inf)
    lo, hi = enclose(call(fn, X), a, b)
    z = a + (b - a) * np.linspace(0, 1, 2001)[:, None]
    sampled = UNARY[fn](np.clip(z, a, b))
    assert (lo <= sampled.min(0)).all() and (sampled.max(0) <= hi).all()
    assert np.allclose(lo, sampled.min(0), atol=1e-5) and np.allclose(hi, sampled.max(0), atol=1e-5)


def test_sine_over_peaks() -> None:
    e = call(Fn.SIN, X)
    lo, hi = enclose(
        e, np.array([0.0, 1.0, 3.0, -10.0, 1e12, 0.1]), np.array([1.0, 2.0, 5.0, 10.0, 2e12, 0.1])
    )
    assert hi[1] == 1 and lo[2] == -1
    assert (lo[3:5] == -1).all() and (hi[3:5] == 1).all()
    assert 0.84 < hi[0] < 0.8415


@pytest.mark.parametrize(
    ("e", "a", "b"),
    [
        (call(Fn.LOG, X), -1.0, 2.0),
        (call(Fn.LOG, X), 0.0, 2.0),
        (call(Fn.SQRT, X), -1e-300, 2.0),
        (1 / X, -1.0, 1.0),
        (1 / X, 0.0, 1.0),
        (call(Fn.ASIN, X), 0.5, 1.5),
        (call(Fn.TANH, call(Fn.LOG, X)), -1.0, 2.0),
        (0 * call(Fn.LOG, X), -1.0, 2.0),
        (call(Fn.MAX, call(Fn.SQRT, X), const(3)), -1.0, 2.0),
        (call(Fn.STEP, 1 / X), -1.0, 1.0),
        (X**0.5, -1.0, 1.0),
        (X**-1, -1.0, 1.0),
        (call(Fn.TAN, X), 1.0, 2.0),
    ],
)
def test_outside_the_domain_nothing_is_known(e: Expr, a: float, b: float) -> None:
    lo, hi = enclose(e, np.array([a]), np.array([b]))
    assert np.isnan(lo).all() and np.isnan(hi).all()


def test_selected_branch_only() -> None:
    e = call(Fn.WHERE, call(Fn.STEP, X), call(Fn.SQRT, X), const(0))
    lo, hi = enclose(e, np.array([-2.0, 1.0]), np.array([-1.0, 4.0]))
    assert (lo[0], hi[0]) == (0, 0)
    assert 0.99 < lo[1] <= 1 and 2 <= hi[1] < 2.01


def test_unbounded_ends() -> None:
    a, b = np.array([-np.inf, 0.0]), np.array([np.inf, np.inf])
    assert [tuple(v) for v in enclose(call(Fn.TANH, X), a, b)] == [(-1, 0), (1, 1)]
    lo, hi = enclose(X * X - X, a, b)
    assert (lo == -np.inf).all() and (hi == np.inf).all()
    lo, hi = enclose(X * call(Fn.EXP, -X), a, b)
    assert lo[1] == 0 and hi[1] == np.inf
    assert not np.isnan(enclose(1 / (1 + call(Fn.EXP, -X)), a, b)).any()


def test_overflow_and_underflow() -> None:
    z = np.array([1000.0, -1000.0, 1e-200])
    lo, hi = enclose(call(Fn.EXP, X), z, z)
    assert hi[0] == np.inf and np.isfinite(lo[0])
    assert lo[1] == 0 < hi[1]
    lo, hi = enclose(X * X * X, z, z)
    assert lo[2] <= 0 < hi[2]
    lo, hi = enclose(X * X, z, z)
    assert lo[2] >= -5e-324 and hi[2] > 0


@pytest.mark.parametrize("fn", [Fn.FLOOR, Fn.CEIL, Fn.TRUNC, Fn.ROUND, Fn.SIGN, Fn.STEP, Fn.STRICT, Fn.ZERO])
def test_steps_are_exact(fn: Fn) -> None:
    a, b = np.array([-0.5, 0.0, 1.5, -2.0]), np.array([0.5, 0.0, 2.5, -2.0])
    lo, hi = enclose(call(fn, X), a, b)
    z = a + (b - a) * np.linspace(0, 1, 101)[:, None]
    sampled = UNARY[fn](z)
    assert (lo == sampled.min(0)).all() and (hi == sampled.max(0)).all()
