"""Lines around scalar functions: sound for any slope, tight, and the best ones where asked for."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from precise import value
from scalar_functions import PIECEWISE, SMOOTH

from bounds.expression import Expr, Fn, X, call, const
from bounds.relax.isolate import FLAT
from bounds.relax.scalar import ScalarFunction, scalar_function
from bounds.relax.segments import Partition, Segment

ALL = {**SMOOTH, **PIECEWISE}
SAMPLES = 2001


def intervals(name: str, rng: np.random.Generator, n: int) -> tuple[Expr, np.ndarray, np.ndarray]:
    """Random intervals within the function's range of interest, a few of them tiny or points."""
    e, low, high = ALL[name]
    ends = np.sort(rng.uniform(low, high, (2, n)), axis=0)
    lo, hi = ends
    hi[: n // 6] = lo[: n // 6] + (hi - lo)[: n // 6] * 1e-5
    hi[0] = lo[0]
    return e, lo, hi


def sampled(e: Expr, lo: np.ndarray, hi: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    z = np.clip(lo[:, None] + (hi - lo)[:, None] * np.linspace(0, 1, SAMPLES), lo[:, None], hi[:, None])
    return z, scalar_function(e).value(z)


def missed(lo: np.ndarray, hi: np.ndarray, f: np.ndarray) -> np.ndarray:
    """How far sampling may be off: a multiple of what it sees change between neighbours, twice."""
    bends = np.abs(np.diff(f, 2, axis=1))
    return 0.5 * np.minimum(bends.max(1), 1e-3) + 1e-6 * (1 + np.abs(f).max(1))


def hull(z: np.ndarray, f: np.ndarray, at: float) -> float:
    """The lower convex hull of points at ``at``."""
    kept: list[tuple[float, float]] = []
    for p in zip(z.tolist(), f.tolist(), strict=True):
        while len(kept) > 1 and (kept[-1][0] - kept[-2][0]) * (p[1] - kept[-2][1]) <= (
            kept[-1][1] - kept[-2][1]
        ) * (p[0] - kept[-2][0]):
            kept.pop()
        kept.append(p)
    return float(np.interp(at, [p[0] for p in kept], [p[1] for p in kept]))


@pytest.mark.parametrize("name", ALL)
def test_any_slope(name: str, rng: np.random.Generator) -> None:
    """Sound against exact values at random points, and within sampling error of the best intercept."""
    e, lo, hi = intervals(name, rng, 30)
    f = scalar_function(e)
    z, v = sampled(e, lo, hi)
    for k in (np.zeros(30), rng.normal(size=30).astype(np.float32).astype(np.float64)):
        bl, bu = f.intercepts(lo, hi, k, k)
        g = v - k[:, None] * z
        slack = missed(lo, hi, v)
        if name in SMOOTH:  # sampling near jumps sees neither side's limit
            assert (bl >= g.min(1) - slack).all() and (bu <= g.max(1) + slack).all()
        for i in range(0, 30, 5):
            for t in rng.uniform(lo[i], hi[i], 3):
                exact = value(e, Fraction(float(t))) - Fraction(float(k[i])) * Fraction(float(t))
                assert Fraction(float(bl[i])) <= exact <= Fraction(float(bu[i]))


@pytest.mark.parametrize("name", ALL)
def test_best_slopes(name: str, rng: np.random.Generator) -> None:
    """At the chosen point the lines reach the envelopes of densely sampled points."""
    e, lo, hi = intervals(name, rng, 12)
    f = scalar_function(e)
    z, v = sampled(e, lo, hi)
    slack = missed(lo, hi, v) if name in SMOOTH else np.full(12, 1e-5)
    for place in (0.5, 0.1):
        at = lo + (hi - lo) * place
        kl, ku = f.supporting(lo, hi, at)
        assert np.array_equal(kl.astype(np.float32), kl) and np.array_equal(ku.astype(np.float32), ku)
        bl, bu = f.intercepts(lo, hi, kl, ku)
        for i in range(12):
            # samples can only make the envelope look less extreme, except that they miss one-sided limits
            below, above = hull(z[i], v[i], at[i]), -hull(z[i], -v[i], at[i])
            jump = (v[i].max() - v[i].min()) / SAMPLES * 40 if name not in SMOOTH else 0.0
            assert kl[i] * at[i] + bl[i] >= below - slack[i] - jump
            assert ku[i] * at[i] + bu[i] <= above + slack[i] + jump


@pytest.mark.parametrize("name", ALL)
def test_range(name: str, rng: np.random.Generator) -> None:
    e, lo, hi = intervals(name, rng, 40)
    below, above = scalar_function(e).range(lo, hi)
    _, v = sampled(e, lo, hi)
    assert (below <= v.min(1)).all() and (v.max(1) <= above).all()
    if name in SMOOTH:
        slack = missed(lo, hi, v)
        assert (below >= v.min(1) - slack).all() and (above <= v.max(1) + slack).all()


@pytest.mark.parametrize("name", ["sigmoid", "gelu", "square", "relu6"])
@pytest.mark.parametrize("scale", [1e-30, 1e-6, 1e5, 1e30])
def test_scales(name: str, scale: float) -> None:
    """The same function in other units: the same line in other units."""
    inner, low, high = ALL[name]
    from bounds.expression import compose

    e = compose(inner, X / scale)
    lo, hi = np.array([low * 0.4]), np.array([high * 0.7])
    f, g = scalar_function(inner), ScalarFunction(e)
    kl, ku = f.supporting(lo, hi, (lo + hi) / 2)
    expected = f.intercepts(lo, hi, kl, ku)
    found = g.intercepts(lo * scale, hi * scale, kl / scale, ku / scale)
    assert np.allclose(found, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["sigmoid", "tanh", "gelu", "silu", "relu6", "sine"])
def test_unbounded(name: str) -> None:
    """Bounded functions keep their range; other claims are infinite, never NaN."""
    f = scalar_function(ALL[name][0])
    lo, hi = np.array([-np.inf, -np.inf, 0.0]), np.array([np.inf, 1.0, np.inf])
    k = np.zeros(3)
    for claims in (f.range(lo, hi), f.intercepts(lo, hi, k, k), f.intercepts(lo, hi, k + 1, k - 1)):
        assert not np.isnan(claims).any()
    assert np.isfinite(f.supporting(lo, hi, k)).all()
    below, above = f.range(lo, hi)
    if name not in ("gelu", "silu"):  # infinity times zero
        assert np.isfinite([below, above]).all() and (above - below < 6.1).all()


def test_undefined_parts_are_infinite() -> None:
    f = scalar_function(call(Fn.LOG, X))
    lo, hi = np.array([-1.0, 0.0, 1.0]), np.array([2.0, 2.0, 2.0])
    k = np.zeros(3)
    below, above = f.intercepts(lo, hi, k, k)
    assert list(below) == [-np.inf, -np.inf, pytest.approx(0, abs=1e-12)]
    assert list(above[:2]) == [np.inf, np.inf]
    assert np.isfinite(f.supporting(lo, hi, hi)).all()


@pytest.mark.parametrize("e", [0 * call(Fn.TAN, X), call(Fn.TAN, X) * call(Fn.COS, X), X - call(Fn.TAN, X)])
def test_poles_are_not_simplified_away(e: Expr) -> None:
    f = scalar_function(e)
    lo, hi, k = np.array([-1.0, 1.0]), np.array([1.0, 2.0]), np.zeros(2)
    for below, above in (f.intercepts(lo, hi, k, k), f.range(lo, hi)):
        assert np.isfinite([below[0], above[0]]).all()
        assert (below[1], above[1]) == (-np.inf, np.inf)


def test_reversed_intervals_claim_nothing() -> None:
    f = scalar_function(X**2)
    one = np.ones(1)
    assert [v[0] for v in f.intercepts(one, -one, one, one)] == [-np.inf, np.inf]
    nan = np.full(1, np.nan)
    assert [v[0] for v in f.range(nan, one)] == [-np.inf, np.inf]
    assert [v[0] for v in f.intercepts(-one, one, nan, nan)] == [-np.inf, np.inf]


def test_shapes_broadcast() -> None:
    f = scalar_function(ALL["gelu"][0])
    lo, hi = np.zeros((1, 3, 1)) - 1, np.ones((2, 1, 4))
    kl, ku = f.supporting(lo, hi, 0.0)
    assert kl.shape == ku.shape == (2, 3, 4)
    assert f.intercepts(lo, hi, kl[..., :1], 0.0)[0].shape == (2, 3, 4)
    assert f.range(lo, hi)[1].shape == (2, 3, 4)
    assert f.value(np.zeros((2, 0))).shape == (2, 0)
    empty = np.zeros((0, 3))
    assert f.intercepts(empty, empty, empty, empty)[0].shape == (0, 3)
    assert f.supporting(empty, empty, empty)[0].shape == (0, 3)


def test_float32_points_and_slopes() -> None:
    f = scalar_function(call(Fn.SQRT, X))
    z = np.array([0.0, 1.0, 4.0], dtype=np.float32)
    assert f.value(z).dtype == np.float32
    assert f.derivative(z).dtype == np.float32 and np.isfinite(f.derivative(z)).all()
    assert f.derivative(z)[2] == 0.25


def test_batches_do_not_matter(rng: np.random.Generator) -> None:
    """An element's lines do not depend on its neighbours."""
    e, lo, hi = intervals("mish", rng, 300)
    f = scalar_function(e)
    at = (lo + hi) / 2
    together = f.supporting(lo, hi, at)
    alone = [f.supporting(lo[i : i + 1], hi[i : i + 1], at[i : i + 1]) for i in range(0, 300, 37)]
    assert [(k[0], q[0]) for k, q in alone] == [(together[0][i], together[1][i]) for i in range(0, 300, 37)]


def test_wide_intervals_of_endless_functions() -> None:
    """Beyond every analysis constants remain, and lines are sound."""
    f = scalar_function(X + call(Fn.SIN, X))
    lo, hi = np.array([-1e7, 5e6]), np.array([1e7, 5e6 + 3])
    k = np.ones(2)
    below, above = f.intercepts(lo, hi, k, k)
    assert below[0] == pytest.approx(-1, abs=1e-6) and above[0] == pytest.approx(1, abs=1e-6)
    v = np.sin(np.linspace(lo[1], hi[1], 1001))
    assert v.min() - 0.1 < below[1] <= v.min() and v.max() <= above[1] < v.max() + 0.1
    f = scalar_function(call(Fn.SIN, X))
    assert f.intercepts(lo, hi, 0 * k, 0 * k)[0][0] == pytest.approx(-1)


def test_a_missing_segment_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """If a convex stretch were taken for affine, lines would cut through the function."""
    f = ScalarFunction(X**2)
    part = f.segments(-1, 1)
    broken = Partition(
        tuple(Segment(s.lo, s.hi, FLAT, s.expr) for s in part.segments), part.boxes, part.exact
    )
    lo, hi, k = np.array([-1.0]), np.array([1.0]), np.zeros(1)
    assert f.intercepts(lo, hi, k, k)[0][0] <= 0
    monkeypatch.setitem(f.__dict__["_partitions"], 2, broken)
    assert f.intercepts(lo, hi, k, k)[0][0] > 0


def test_constants() -> None:
    f = scalar_function(const(2.5) + 0 * X)
    lo, hi = np.array([-1.0]), np.array([3.0])
    assert [v[0] for v in f.supporting(lo, hi, lo)] == [0, 0]
    assert [v[0] for v in f.range(lo, hi)] == pytest.approx([2.5, 2.5])
    assert not math.isnan(f.model_error(lo, hi)[0])
