"""Symbolic derivatives: right, small, of provable sign in the tails."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from precise import value
from scalar_functions import SMOOTH

from bounds.expression import Expr, Fn, X, call, const, nodes
from bounds.relax.derivative import derivative, number, recognise, simplify, slope_and_offset
from bounds.relax.enclose import enclose
from bounds.relax.rational import sign_of_derivative

STEP = Fraction(1, 10**12)


def difference(e: Expr, z: Fraction) -> Fraction:
    """Central difference: off by f''' STEP^2 / 6."""
    return (value(e, z + STEP) - value(e, z - STEP)) / (2 * STEP)


@pytest.mark.parametrize("name", SMOOTH)
def test_first_and_second(name: str, rng: np.random.Generator) -> None:
    e, low, high = SMOOTH[name]
    first = derivative(e)
    for z in rng.uniform(low, high, 5):
        at = Fraction(float(z))
        assert float(value(first, at)) == pytest.approx(float(difference(e, at)), rel=1e-15, abs=1e-15)
        exact = difference(first, at)
        assert float(value(derivative(first), at)) == pytest.approx(float(exact), rel=1e-15, abs=1e-15)


@pytest.mark.parametrize("name", SMOOTH)
def test_derivatives_stay_small(name: str) -> None:
    e = recognise(SMOOTH[name][0])
    assert len(nodes(derivative(derivative(e)))) <= 12 * len(nodes(e))


@pytest.mark.parametrize(
    "name", ["sigmoid", "sigmoid spelled out", "tanh", "gelu", "silu", "mish", "golu", "telu", "gelu tanh"]
)
@pytest.mark.parametrize("sign", [-1, 1])
def test_tails_have_a_sign(name: str, sign: int) -> None:
    second = derivative(derivative(simplify(recognise(SMOOTH[name][0]))))
    ends = np.array([10.0, 20.0])
    a, b = (ends[:1], ends[1:]) if sign > 0 else (-ends[1:], -ends[:1])
    lo, hi = enclose(second, a, b)
    assert lo[0] >= 0 or hi[0] <= 0


def test_special_cases() -> None:
    assert derivative(X**2) == 2 * X
    assert derivative(const(3) + 0 * X) == const(0)
    assert derivative(call(Fn.FLOOR, X)) == const(0)
    assert derivative(3 * X + 1) == const(3)


@pytest.mark.parametrize("v", [Fraction(1, 3), Fraction(10**400)])
def test_numbers_are_exact_or_refused(v: Fraction) -> None:
    assert number(v) is None


def test_long_numbers() -> None:
    v = Fraction(0.1) * Fraction(0.7)
    found = number(v)
    assert found is not None and value(found, Fraction(0)) == v


def test_recognised_functions_keep_their_domain() -> None:
    assert recognise(1 / (1 + call(Fn.EXP, -X))) == call(Fn.SIGMOID, X)
    assert recognise(call(Fn.LOG, call(Fn.EXP, X) + 1)) == call(Fn.SOFTPLUS, X)
    e = X * (1 / X)
    assert recognise(e) == e


def test_affine_parts() -> None:
    assert slope_and_offset((3 * X - 1) / 4 + X) == (Fraction(7, 4), Fraction(-1, 4))
    assert slope_and_offset(-(X * 0.1)) == (-Fraction(0.1), Fraction(0))
    assert slope_and_offset(X * X) is None
    assert slope_and_offset(1 / X) is None


def test_sign_of_rational_functions(rng: np.random.Generator) -> None:
    e = (1 + X + X * X) / (1 + X * X) - X / (3 + X**4)
    for order, exact in ((1, derivative(e)), (2, derivative(derivative(e)))):
        sign = sign_of_derivative(e, order)
        assert sign is not None
        for z in rng.normal(size=50) * 5:
            at = Fraction(float(z))
            assert (value(sign, at) > 0) == (value(exact, at) > 0)
    assert sign_of_derivative(call(Fn.EXP, X), 2) is None
