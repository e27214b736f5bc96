"""The checker's lines below and above functions: rigorous, and tight."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import checker_nets as nets
import numpy as np
import pytest

from bounds.errors import CertificateRejected
from verifier.check.cells import extent, least
from verifier.check.functions import Function, X, call, compose, const, power, rational
from verifier.check.jets import SMOOTH, Jets
from verifier.check.rounding import model_error

Array = np.ndarray

SIGMOID, ONE = call("sigmoid", X), const(1)
HALF_AWAY = call("-", X, call("round", X))
FLOOR = call("floor", X)
NARROW = ("log", "sqrt", "acosh", "asin", "acos", "atanh", "tan")
FUNCTIONS: dict[str, Function] = {
    **{name: call(name, X) for name in SMOOTH if name not in NARROW},
    "tan": call("tan", call("/", X, const(3))),
    "log": call("log", call("+", X, const(5))),
    "sqrt": call("sqrt", call("+", X, const(4))),
    "acosh": call("acosh", call("+", call("abs", X), const(1.25))),
    **{name: call(name, call("/", X, const(4))) for name in ("asin", "acos", "atanh")},
    "square": power(X, 2),
    "cube": power(X, 3),
    "quartic": call("-", power(X, 4), call("*", const(3), power(X, 2))),
    "root": power(call("+", X, const(4)), 1.5),
    "inverse power": power(call("+", call("abs", X), ONE), -2),
    "gelu": call("*", X, call("+", ONE, call("erf", call("/", X, const(1.5))))),
    "silu": call("*", X, SIGMOID),
    "mish": call("*", X, call("tanh", call("softplus", X))),
    "golu": call("*", X, call("exp", call("neg", call("exp", call("neg", X))))),
    "rational": call("/", X, call("+", ONE, power(X, 2))),
    "clip": call("min", call("max", X, const(-1)), const(0.5)),
    "hard swish": call("*", X, call("min", call("max", call("+", X, ONE), const(0)), const(2))),
    "elu": call("+", call("relu", X), call("-", call("exp", call("min", X, const(0))), ONE)),
    "leaky": call("max", X, call("*", const(0.25), X)),
    "two kinks": call("-", call("abs", call("-", X, ONE)), call("abs", X)),
    "step": call("step", X),
    "strict": call("strict", call("-", X, const(0.5))),
    "zero": call("zero", X),
    "sign": call("sign", X),
    **{name: call(name, X) for name in ("floor", "ceil", "trunc", "round")},
    "saw": HALF_AWAY,
    "quantised": call("*", call("min", call("round", call("*", X, const(8))), const(9)), const(0.125)),
    "many steps": call("/", call("floor", call("*", X, const(64))), const(64)),
    "steps chosen": call("where", call("strict", call("-", const(-0.9), FLOOR)), call("neg", FLOOR), FLOOR),
    "where": call("where", call("strict", X), X, call("-", call("exp", X), ONE)),
    "jump": call("where", call("step", call("-", X, ONE)), power(X, 2), call("sin", X)),
}  # fmt: skip
RATIONAL = [name for name, f in FUNCTIONS.items() if rational(f)]


def intervals(rng: np.random.Generator, n: int) -> tuple[Array, Array, Array]:
    """Random intervals in [-3.9, 3.9], wide and narrow and points, and slopes."""
    ends = rng.uniform(-3.9, 3.9, (2, n))
    ends[1, : n // 3] = ends[0, : n // 3] + rng.uniform(-1, 1, n // 3) * 10.0 ** rng.integers(-9, 0, n // 3)
    ends[1, : n // 10] = ends[0, : n // 10]
    ends = np.clip(ends, -3.9, 3.9)
    ends[:, -n // 5 :] = np.clip(np.round(ends[:, -n // 5 :] * 2) / 2, -3.5, 3.5)  # ends on kinks and jumps
    slopes = rng.standard_normal(n).astype(np.float32).astype(np.float64)
    slopes[::4] = 0.0
    return ends.min(0), ends.max(0), slopes


def points(low: Array, high: Array, count: int = 400) -> Array:
    """Points of each interval, ends, and what lies next to whole numbers and halves: (n, count)."""
    t = np.linspace(0, 1, count)
    z = np.clip(low[:, None] * (1 - t) + high[:, None] * t, low[:, None], high[:, None])
    grid = np.round(z * 2) / 2
    edges = np.concatenate([np.nextafter(grid, np.inf), grid, np.nextafter(grid, -np.inf)], axis=1)
    return np.concatenate([z, np.clip(edges, low[:, None], high[:, None])], axis=1)


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("sign", [1, -1])
def test_lines_lie_below_and_touch(name: str, sign: int) -> None:
    f = FUNCTIONS[name] if sign > 0 else call("neg", FUNCTIONS[name])
    low, high, slope = intervals(np.random.default_rng(len(name)), 200)
    with np.errstate(all="ignore"):
        found = least(f, low, high, slope, exact=False)
        z = points(low, high)
        values = nets.plain_value(f, z) - slope[:, None] * z
    attained = values.min(axis=1)
    scale = 1 + np.abs(attained) + np.abs(slope) * 4
    assert np.all(found <= attained + 1e-13 * scale)
    # close to what is attained between the samples: their spacing times the steepest slope, squared if smooth
    spacing = (high - low) / 400 * (1 + np.abs(slope)) * 60
    assert np.all(found >= attained - spacing - 1e-9 * scale)
    assert np.median(attained - found) < 1e-3


@pytest.mark.parametrize("name", RATIONAL)
def test_rational_lines_against_exact_values(name: str) -> None:
    """In both arithmetics the bound is below the exact value everywhere; in exact arithmetic it is tight."""
    f, rng = FUNCTIONS[name], np.random.default_rng(5)
    low, high, slope = intervals(rng, 24)
    ours = least(f, low, high, slope, exact=False)
    exact = [np.asarray(np.frompyfunc(Fraction, 1, 1)(v), object) for v in (low, high, slope)]
    strict = least(f, *exact, exact=True)
    for i in range(len(low)):
        a, b, k = (v[i] for v in exact)
        best: Any = None
        for j in range(65):
            z = a + (b - a) * Fraction(j, 64)
            value = nets.value_at(f, z) - k * z
            assert Fraction(float(ours[i])) <= value and strict[i] <= value
            best = value if best is None else min(best, value)
        assert best - strict[i] <= (b - a) * (1 + abs(k)) * 8


TIES: list[tuple[Function, Any, Any, Any, Any]] = [
    (call("neg", FUNCTIONS["clip"]), -3, 3, 0, Fraction(-1, 2)),
    (FUNCTIONS["clip"], -3, 3, 0, -1),
    (FUNCTIONS["clip"], Fraction(-1, 3), Fraction(1, 3), 1, 0),
    (power(X, 2), -3, 2, 0, 0),
    (call("neg", power(X, 2)), 0, 3, 0, -9),
    (power(X, 2), Fraction(1, 7), 5, Fraction(2, 3), Fraction(-1, 9)),  # the tangent at 1/3
    (call("neg", power(X, 2)), Fraction(-1, 3), 5, Fraction(-14, 3), Fraction(-5, 3)),  # the chord
    (call("relu", X), -1, 3, Fraction(1, 2), 0),
    (call("neg", call("relu", X)), -1, 3, Fraction(-3, 4), Fraction(-3, 4)),
    (call("abs", X), -1, 1, Fraction(1, 3), 0),
    (call("floor", X), Fraction(1, 2), Fraction(3, 2), 0, 0),
    (call("neg", call("step", X)), -1, 1, 0, -1),
    (HALF_AWAY, -5, 5, 0, Fraction(-1, 2)),
]


@pytest.mark.parametrize("case", TIES, ids=lambda c: f"{c[0][-1].fn}-{c[1]}-{c[3]}")
def test_ties_are_exact(case: Any) -> None:
    f, low, high, slope, wanted = case
    arrays = [np.array([Fraction(v)], object) for v in (low, high, slope)]
    assert least(f, *arrays, exact=True)[0] == wanted


@np.errstate(all="ignore")  # as where evidence is proved
def test_ends_and_domains() -> None:
    """Nothing is said outside a domain; bounded functions have bounds on unbounded intervals."""
    one, inf = np.ones(1), np.full(1, np.inf)
    for name in ("log", "sqrt"):
        assert extent(call(name, X), -one, one, exact=False)[0][0] == -np.inf
    assert extent(call("atanh", X), 0 * one, 2 * one, exact=False)[1][0] == np.inf
    assert extent(call("/", ONE, X), -one, one, exact=False)[1][0] == np.inf
    low, high = extent(SIGMOID, -inf, inf, exact=False)
    assert (low[0], high[0]) == (0.0, 1.0)  # exactly: a property may say that probabilities are at most 1
    assert least(call("exp", X), -inf, one, 0 * one, exact=False)[0] == 0.0
    assert least(SIGMOID, -inf, inf, one, exact=False)[0] == -np.inf
    assert extent(call("exp", X), 1e3 * one, 2e3 * one, exact=False)[1][0] == np.inf
    assert not np.isnan(least(call("*", X, X), -inf, inf, one, exact=False)).any()
    with pytest.raises(CertificateRejected, match="exact"):
        least(call("/", ONE, X), -np.array([Fraction(1)]), *[np.array([Fraction(1)])] * 2, exact=True)
    with pytest.raises(CertificateRejected, match="no function wobble"):
        least(call("wobble", X), one, one, one, exact=False)


@pytest.mark.parametrize("name", SMOOTH)
def test_derivatives_enclose_differences(name: str) -> None:
    f, rng = FUNCTIONS[name], np.random.default_rng(1)
    low = rng.uniform(-3, 3, 300)
    jet = Jets(f, exact=False).over(low, low + 0.5)
    z = low[:, None] + 0.5 * np.linspace(0, 1, 41)
    v = nets.plain_value(f, z)
    first, second = np.diff(v) / 0.0125, np.diff(v, n=2) / 0.0125**2
    ok = np.isfinite(v).all(axis=1)
    assert jet.c is not None
    for x, values, slack in ((jet.v, v, 1e-12), (jet.d, first, 1e-9), (jet.c, second, 1e-6)):
        scale = slack * (1 + np.abs(values).max(axis=1))
        assert np.all((x[0] <= values.min(axis=1) + scale)[ok])
        assert np.all((x[1] >= values.max(axis=1) - scale)[ok])


def test_composition_is_substitution() -> None:
    f = compose(FUNCTIONS["silu"], FUNCTIONS["gelu"])
    z = np.linspace(-3, 3, 31)
    inner = nets.plain_value(FUNCTIONS["gelu"], z)
    np.testing.assert_array_equal(nets.plain_value(f, z), nets.plain_value(FUNCTIONS["silu"], inner))
    assert compose(X, f) == compose(f, X) == f
    assert len(call("+", f, f)) == len(f) + 1  # shared steps are stored once


FLOAT32 = [name for name in FUNCTIONS if name not in ("zero", "sign")]


@pytest.mark.parametrize("name", FLOAT32)
def test_model_errors_cover_float32(name: str) -> None:
    """numpy's float32, step by step, against float64."""
    f, rng = FUNCTIONS[name], np.random.default_rng(2)
    centre = rng.uniform(-3.5, 3.5, (300, 1))
    z = (centre + rng.uniform(-0.05, 0.05, (300, 40))).astype(np.float32)
    low, high = z.min(axis=1).astype(np.float64), z.max(axis=1).astype(np.float64)
    with np.errstate(all="ignore"):
        off = np.abs(nets.plain_value(f, z).astype(np.float64) - nets.plain_value(f, z.astype(np.float64)))
    allowed = model_error(f, low, high)
    assert np.all(off.max(axis=1) <= allowed)
    if not {step.fn for step in f} & {"floor", "round"}:
        assert np.median(allowed) < 1e-4 * (1 + np.abs(nets.plain_value(f, low)).max())


def test_model_errors_say_when_nothing_is_known() -> None:
    one = np.ones(1)
    assert model_error(call("exp", X), 100 * one, 101 * one)[0] == np.inf
    assert model_error(call("log", X), -one, one)[0] == np.inf
    assert model_error(call("/", ONE, X), -one, one)[0] == np.inf
    assert model_error(call("step", X), -one, one)[0] == 0.0
    assert 1 <= model_error(call("step", call("*", const(3), X)), -one, one)[0] < 1 + 1e-8
