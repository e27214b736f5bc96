"""The chokepoints with inputs of integer types, and with inputs that have no bounds."""

from fractions import Fraction as F

import numpy as np
import pytest

from verifier import conclude
from verifier.conclude import Ledger
from verifier.spec.model import Case, Row

ROW = Row({0: F(1)}, {}, F(0))


def case(lower=F(0), upper=F(1), *, partial=False, disjuncts=((ROW,),)):
    return Case((lower,), (upper,), disjuncts, partial=partial)


def settled(*cases):
    ledger = Ledger(len(cases), cases)
    ledger.settle(np.ones((len(cases), 1), dtype=bool))
    return ledger


def test_partial_cases_never_give_unsat():
    assert conclude.unsat(settled(case(), case())).value == "unsat"
    with pytest.raises(AssertionError, match="1 cases partial"):
        conclude.unsat(settled(case(), case(partial=True)))


def test_partial_cases_that_cannot_be_violated_do_no_harm():
    nothing = case(F(1), F(0), partial=True), case(partial=True, disjuncts=())
    assert conclude.unsat(settled(*nothing)).value == "unsat"


@pytest.mark.parametrize(
    ("value", "low", "high", "kind", "wanted"),
    [
        (0.4, 0, 3, "int64", 0),
        (2.5, F(1, 2), F(5, 2), "int64", 2),
        (-7.0, F(1, 2), F(5, 2), "int32", 1),
        (np.nan, 1, 3, "int8", 1),
        (np.inf, -3, -1, "int8", -1),
        (0.7, F(3, 5), F(4, 5), "int64", None),
        (300.0, 0, 1000, "uint8", 255),
        (-5.0, -10, -1, "uint8", None),
        (0.6, 0, 5, "bool", 1),
        (1e300, 0, F(10) ** 300, "int64", 2**53),
        (0.0, 2**60 + 1, 2**60 + 1, "int64", None),
    ],
)
def test_whole_numbers_inside_the_box(value, low, high, kind, wanted):
    assert conclude._whole_number(value, F(low), F(high), kind) == wanted
