"""Random functions on random intervals: nothing the scalar engine states is false.

Functions come from a grammar over every operation of :mod:`bounds.expression`. Claims are compared with exact
rational values, or sixty-digit ones (:mod:`precise`), at the ends, at breakpoints, an ulp around them, and
between.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from precise import TooLargeError, UndefinedError, value
from strategies import examples

from bounds.expression import Expr, Fn, X, call, const, is_rational
from bounds.relax import enclose as enclose_module
from bounds.relax.enclose import enclose
from bounds.relax.scalar import ScalarFunction

NUMBERS = st.sampled_from([0.0, 1.0, -1.0, 0.5, 2.0, 3.0, -3.0, 6.0, 0.1, -0.7, 1.4142135, 0.044715, 1e-5])
SMOOTH = [
    Fn.EXP, Fn.LOG, Fn.SQRT, Fn.SIN, Fn.COS, Fn.TAN, Fn.TANH, Fn.SIGMOID, Fn.SOFTPLUS, Fn.ERF, Fn.ATAN,
    Fn.ASIN, Fn.ACOS, Fn.SINH, Fn.COSH, Fn.ASINH, Fn.ACOSH, Fn.ATANH,
]  # fmt: skip
BROKEN = [
    Fn.NEG,
    Fn.ABS,
    Fn.RELU,
    Fn.SIGN,
    Fn.FLOOR,
    Fn.CEIL,
    Fn.TRUNC,
    Fn.ROUND,
    Fn.STEP,
    Fn.STRICT,
    Fn.ZERO,
]
PAIRS = [Fn.ADD, Fn.SUB, Fn.MUL, Fn.MAX, Fn.MIN, Fn.DIV]
POWERS = [2.0, 3.0, 4.0, -1.0, -2.0, 0.5, 1.5, -0.5, 0.3]


@st.composite
def functions(draw: st.DrawFn, *, rational: bool, depth: int | None = None) -> Expr:
    """Functions of up to four operations on top of each other."""
    deep = draw(st.integers(1, 4)) if depth is None else depth
    if deep == 0:
        return const(draw(NUMBERS)) if draw(st.integers(0, 4)) == 0 else X

    def part(less: int = 1) -> Expr:
        return draw(functions(rational=rational, depth=max(deep - less, 0)))

    kind = draw(st.sampled_from(["unary", "unary", "pair", "pair", "scaled", "power", "chosen"]))
    if kind == "unary":
        return call(draw(st.sampled_from(BROKEN if rational else SMOOTH + BROKEN)), part())
    if kind == "pair":
        return call(draw(st.sampled_from(PAIRS)), part(), part(draw(st.integers(1, 3))))
    if kind == "scaled":
        return part() * draw(NUMBERS) + draw(NUMBERS)
    if kind == "power":
        return part() ** draw(st.sampled_from(POWERS[:5] if rational else POWERS))
    condition = call(draw(st.sampled_from([Fn.STEP, Fn.STRICT, Fn.ZERO])), part())
    return call(Fn.WHERE, condition, part(), part(2))


@st.composite
def intervals(draw: st.DrawFn) -> tuple[float, float]:
    scale = draw(st.sampled_from([1.0, 1.0, 1.0, 1e-3, 30.0, 1e-12, 1e4, 1e-40, 1e30]))
    near = draw(st.sampled_from([0.0, 0.5, 1.0, -1.0, 3.0, -2.5, math.pi / 2, 0.7]))
    centre = draw(st.floats(-4, 4)) * scale + draw(st.sampled_from([0.0, near]))
    kind = draw(st.sampled_from(["wide", "wide", "wide", "narrow", "point", "ulp", "from", "to"]))
    width = draw(st.floats(0, 6)) * scale * (1e-6 if kind == "narrow" else 1)
    if kind == "point":
        return centre, centre
    if kind == "ulp":
        return centre, float(np.nextafter(centre, math.inf))
    if kind == "from":
        return near, near + width
    return (near - width, near) if kind == "to" else (centre, centre + width)


def exact_points(function: ScalarFunction, lo: float, hi: float, seed: int) -> Iterator[Fraction]:
    """Places worth a look: ends, breakpoints, an ulp off them, random points, points that are no floats."""
    rng = np.random.default_rng(seed)
    marks = {lo, hi, *rng.uniform(lo, hi, 8)}
    for box in function.segments(lo, hi).boxes:
        marks |= {box.lo, box.hi}
    for z in sorted(marks)[:60]:
        for w in (z, np.nextafter(z, math.inf), np.nextafter(z, -math.inf)):
            if lo <= w <= hi:
                yield Fraction(float(w))
    for t in rng.integers(0, 1001, 6):
        yield Fraction(lo) + (Fraction(hi) - Fraction(lo)) * Fraction(int(t), 1000)
    for place in function.segments(lo, hi).exact[:60]:
        if place is not None and lo <= place <= hi:
            yield place


def tolerance(e: Expr, v: Fraction) -> Fraction:
    """What the judge itself may be off by."""
    return Fraction(0) if is_rational(e) else (abs(v) + 1) / 10**50


def wrong(e: Expr, lo: float, hi: float, slopes: list[float], seed: int) -> list[str]:
    """Claims about ``e`` on the interval that some point contradicts."""
    function = ScalarFunction(e)
    a, b = np.array([lo]), np.array([hi])
    kl, ku = (float(k[0]) for k in function.supporting(a, b, (a + b) / 2))
    assert math.isfinite(kl) and math.isfinite(ku)
    assert np.float32(kl) == kl and np.float32(ku) == ku
    pairs = [(kl, ku), *((k, k) for k in slopes)]
    lines = [(k, q, *function.intercepts(a, b, np.array([k]), np.array([q]))) for k, q in pairs]
    flo, fhi = function.range(a, b)
    natural = enclose(e, a, b)
    assert not np.isnan([flo, fhi, *(v for line in lines for v in line[2:])]).any()
    out: list[str] = []
    for z in exact_points(function, lo, hi, seed):
        try:
            v = value(e, z)
        except TooLargeError:
            continue
        except UndefinedError:
            widths = [fhi[0] - flo[0], *(bu[0] - bl[0] for _, _, bl, bu in lines)]
            if min(widths) < math.inf:
                out.append(f"a claim is finite but {e} is undefined at {float(z)}")
            continue
        slack = tolerance(e, v)
        claims = [("range", flo[0], fhi[0], v), ("enclosure", natural[0][0], natural[1][0], v)]
        for k, q, bl, bu in lines:
            claims.append(("line below", bl[0], math.inf, v - Fraction(k) * z))
            claims.append(("line above", -math.inf, bu[0], v - Fraction(q) * z))
        for name, least, most, what in claims:
            if math.isfinite(least) and what < Fraction(float(least)) - slack:
                out.append(f"{name}: {e} at {float(z)!r} of [{lo!r}, {hi!r}] is {float(what)!r} < {least!r}")
            if math.isfinite(most) and what > Fraction(float(most)) + slack:
                out.append(f"{name}: {e} at {float(z)!r} of [{lo!r}, {hi!r}] is {float(what)!r} > {most!r}")
    return out


SLOPES = st.lists(
    st.sampled_from([0.0, 1.0, -1.0, 0.5, 0.25, 3.0, -0.1, 1e-6, 100.0]) | st.floats(-4, 4, width=32),
    max_size=3,
)


@examples(30)
@given(functions(rational=True), intervals(), SLOPES, st.integers(0, 999))
def test_rational_functions(e: Expr, interval: tuple[float, float], slopes: list[float], seed: int) -> None:
    assert wrong(e, *interval, slopes, seed) == []


@examples(30)
@given(functions(rational=False), intervals(), SLOPES, st.integers(0, 999))
def test_any_functions(e: Expr, interval: tuple[float, float], slopes: list[float], seed: int) -> None:
    assert wrong(e, *interval, slopes, seed) == []


@examples(30)
@given(functions(rational=True), intervals(), SLOPES, st.integers(0, 999))
def test_exact_mode(e: Expr, interval: tuple[float, float], slopes: list[float], seed: int) -> None:
    """Over the rationals: true without any slack, and never looser than floats."""
    function = ScalarFunction(e)
    lo, hi = (Fraction(v) for v in interval)
    a, b = np.array([lo], dtype=object), np.array([hi], dtype=object)
    for k in [0.0, *slopes]:
        q = np.array([Fraction(k)], dtype=object)
        below, above = (v[0] for v in function.intercepts(a, b, q, q))
        assert below == below and above == above
        for z in exact_points(function, *interval, seed):
            try:
                v = value(e, z)
            except TooLargeError:
                continue
            except UndefinedError:
                assert (below, above) == (-math.inf, math.inf)
                continue
            assert below <= v - q[0] * z <= above


@examples(40)
@given(functions(rational=False), intervals(), st.integers(0, 999))
def test_model_error(e: Expr, interval: tuple[float, float], seed: int) -> None:
    """NumPy's float32 evaluation stays within the stated error."""
    lo, hi = interval
    function = ScalarFunction(e)
    error = function.model_error(np.array([lo]), np.array([hi]))[0]
    assert error >= 0
    if not math.isfinite(error):
        return
    z = np.random.default_rng(seed).uniform(lo, hi, 20).astype(np.float32)
    z = np.unique(np.concatenate([z, np.float32([lo, hi])]))
    z = z[(z.astype(np.float64) >= lo) & (z.astype(np.float64) <= hi)]
    computed = function.value(z)
    for x, y in zip(z, computed, strict=True):
        try:
            exact = value(e, Fraction(float(x)))
        except TooLargeError:
            continue
        assert abs(Fraction(float(y)) - exact) <= Fraction(error) + tolerance(e, exact), (x, y, float(exact))


def test_dropped_rounding_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without outward rounding the judge finds false claims."""
    e = (0.1 * X + 0.7) * X - 0.3

    def judge() -> list[str]:
        return [w for i in range(40) for w in wrong(e, 0.1 * i - 2, 0.1 * i - 1.7, [0.3], i)]

    assert judge() == []
    monkeypatch.setattr(enclose_module, "GROW", 0.0)
    monkeypatch.setattr(enclose_module, "TINY", 0.0)
    from bounds.relax import lines

    monkeypatch.setattr(lines, "GROW", 0.0)
    monkeypatch.setattr(lines, "TINY", 0.0)
    assert judge()


def test_grammar_has_every_operation() -> None:
    assert {*SMOOTH, *BROKEN, *PAIRS, Fn.X, Fn.CONST, Fn.POW, Fn.WHERE} == set(Fn)
