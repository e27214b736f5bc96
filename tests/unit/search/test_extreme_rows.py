"""Rows whose numbers lie outside float64's or float32's range are weakened, never silently rounded away."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from bounds.methods.objective import _constants  # pyright: ignore[reportPrivateUsage]
from verifier.search.objectives import objectives_of
from verifier.spec.model import Case, Row


def objectives(outputs: dict[int, Fraction], constant: Fraction):
    case = Case((Fraction(0),), (Fraction(1),), ((Row(outputs, {}, constant),),))
    return objectives_of(case, 1, 2)


@pytest.mark.parametrize("exponent", [-1000, -47, 0, 47, 1000])
def test_a_common_scale_is_taken_out(exponent: int) -> None:
    """expr <= 0 and factor * expr <= 0 are the same condition."""
    scale = Fraction(10) ** exponent
    found = objectives({0: scale, 1: -2 * scale}, 3 * scale)
    assert found.c[0, 1] / found.c[0, 0] == pytest.approx(-2)
    assert found.d[0] / found.c[0, 0] == pytest.approx(3)
    assert np.isfinite(_constants(found, np.float32)).all()


def test_a_coefficient_that_is_lost_takes_the_proof_with_it() -> None:
    """1e-50 is 0 in float32, and 1e-50 * y is not: only float64 may refute such a row. 1e-400: nobody."""
    found = objectives({0: Fraction(1), 1: Fraction(-1, 10**50)}, Fraction(1))
    assert found.d[0] == 1.0
    assert _constants(found, np.float32)[0] == -np.inf
    assert _constants(found, np.float64)[0] == 1.0
    assert objectives({0: Fraction(1), 1: Fraction(-1, 10**400)}, Fraction(1)).d[0] == -np.inf


@pytest.mark.parametrize(
    "value", [Fraction(10**400), Fraction(1, 10**400), Fraction(10**39), Fraction(1, 10**45)]
)
@pytest.mark.parametrize("sign", [1, -1])
def test_constants_beyond_the_range_go_down(value: Fraction, sign: int) -> None:
    found = objectives({0: Fraction(1)}, sign * value)
    for dtype in (np.float32, np.float64):
        with np.errstate(over="ignore"):
            d = float(_constants(found, dtype).astype(dtype)[0])
        assert d == -np.inf or Fraction(d) <= sign * value or abs(Fraction(d) / (sign * value) - 1) < 2**-23
