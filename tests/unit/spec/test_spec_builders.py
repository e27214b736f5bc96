"""Builders, exact point checks, saved properties."""

import json
from decimal import Decimal
from fractions import Fraction as F
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bounds.errors import BadInput, LimitExceeded, QueryMismatch, SpecError
from verifier.spec.check_point import inside, violation
from verifier.spec.emit import emit_vnnlib1
from verifier.spec.exact import decimal_literal, exact_decimal, to_fraction
from verifier.spec.load import loads
from verifier.spec.model import Ball, Case, NetworkRef
from verifier.spec.monotone import monotone
from verifier.spec.output_range import output_range
from verifier.spec.region import Region, around, box
from verifier.spec.robustness import local_robustness, targeted_robustness
from verifier.spec.serial import from_json, to_json

scores = st.lists(st.integers(-3, 3).map(F), min_size=4, max_size=4)
HERE = [F(0)]
POINT = box([0], [0])


@given(scores, st.integers(0, 3), st.integers(1, 4), st.booleans())
def test_top_k_means_what_it_says(y, label, k, ties):
    prop = local_robustness(POINT, label=label, outputs=4, top_k=k, ties_violate=ties)
    rivals = [v for j, v in enumerate(y) if j != label and (v >= y[label] if ties else v > y[label])]
    assert (violation(prop, HERE, y) is not None) == (len(rivals) >= k)


@given(scores, st.integers(0, 3), st.booleans())
def test_targeted_means_the_target_is_largest(y, target, ties):
    prop = targeted_robustness(POINT, target=target, outputs=4, ties_violate=ties)
    others = [v for j, v in enumerate(y) if j != target]
    wins = all(y[target] >= v if ties else y[target] > v for v in others)
    assert (violation(prop, HERE, y) is not None) == wins


def test_linf_region_is_exact_and_clipped():
    region = around(["0.1", 0.1, F(1, 3), Decimal("0.7"), 1], "0.3", clip=(0, "0.9"))
    assert region.lower == (0, 0, F(1, 30), F(2, 5), F(7, 10))
    assert region.upper == (F(2, 5), F(0.1) + F(3, 10), F(19, 30), F(9, 10), F(9, 10))
    assert region.ball is None
    assert around([0, 0], [1, "0.5"]).upper == (1, F(1, 2))


@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_balls_are_exact_to_the_last_digit(norm):
    prop = local_robustness(around([0, 0], 5, norm=norm), label=0, outputs=1, top_k=1)
    assert prop.cases[0].lower == (-5, -5) and prop.cases[0].upper == (5, 5)
    assert violation(prop, [F(0), F(0)], [F(0)]) is None  # a single output has no rival
    case = prop.cases[0]
    on = [F(3), F(4)] if norm == "l2" else [F(2), F(-3)]
    assert inside(case, on)
    assert not inside(case, [on[0], on[1] * (1 + F(1, 10**40))])
    assert inside(case, [F(5), F(0)]) and not inside(case, [F(5), F(1)])


def test_ball_clipped_to_the_valid_range():
    region = around(["0.5", "0.5"], "0.5", norm="l2", clip=(0, "0.6"))
    case = Case(region.lower, region.upper, ((),), region.ball)
    assert inside(case, [F(3, 5), F(1, 2)]) and not inside(case, [F(7, 10), F(1, 2)])


def test_output_range_allows_its_limits():
    prop = output_range(box([-1], [1]), {1: ("0.1", 2), 0: (None, 0)}, outputs=2)
    for y0, y1, bad in ((0, 2, None), (0, "0.1", None), (1, 1, 0), (0, "0.09", 1), (0, "2.01", 2)):
        found = violation(prop, [F(0)], [F(y0), F(y1)])
        assert found == (None if bad is None else (0, bad))


def test_monotone_relates_two_copies():
    prop = monotone(box([0, 0], [1, 1]), input_index=1, output_index=0, outputs=2)
    assert prop.networks == (NetworkRef("f"), NetworkRef("g", "equal", "f"))
    assert [(v.name, v.network) for v in prop.variables] == [("X", "f"), ("Y", "f"), ("X2", "g"), ("Y2", "g")]
    half, one = F(1, 2), F(1)
    falling = [F(1), F(0), F(0), F(0)]  # Y = (1, 0), Y2 = (0, 0)
    assert violation(prop, [half, half, half, one], falling) == (0, 0)
    assert violation(prop, [half, half, half, half], falling) == (0, 0)
    assert violation(prop, [half, one, half, half], falling) is None
    assert violation(prop, [half, half, one, one], falling) is None
    assert violation(prop, [half, half, half, one], [F(1), F(0), F(1), F(-1)]) is None
    rising = monotone(box([0], [1]), input_index=0, output_index=0, outputs=1, increasing=False)
    assert violation(rising, [F(0), F(1)], [F(0), F(1)]) == (0, 0)
    assert violation(rising, [F(0), F(1)], [F(1), F(0)]) is None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: around([float("nan")], 1), r"center\[0\] is 'nan'"),
        (lambda: around([1], float("inf")), "epsilon is 'inf'"),
        (lambda: around([1], "1e999999999"), "epsilon is '1e999999999'"),
        (lambda: around([1], "x"), "not a finite number"),
        (lambda: around(["1/0"], 1), "not a finite number"),
        (lambda: around([1], -1), "epsilon is negative"),
        (lambda: around([1], 1, norm="l7"), "unknown norm 'l7'; choose one of linf, l1, l2"),
        (lambda: around([1, 2], [1, 2], norm="l2"), "give one number"),
        (lambda: around([1, 2], [1]), "epsilon has 1 entries"),
        (lambda: around([], 1), "center has no numbers"),
        (lambda: around([1], 1, clip=(1, 0)), "clip range"),
        (lambda: box([1], [1, 2]), "1 lower and 2 upper"),
        (lambda: box([], []), "0 lower"),
        (lambda: local_robustness(POINT, label=3, outputs=3), "from 0 to 2"),
        (lambda: local_robustness(POINT, label=0, outputs=3, top_k=0), "top_k 0"),
        (lambda: targeted_robustness(POINT, target=-1, outputs=3), "target -1"),
        (lambda: output_range(POINT, {}, outputs=1), "nothing to prove"),
        (lambda: output_range(POINT, {1: (0, 1)}, outputs=1), "limits name output 1"),
        (lambda: monotone(POINT, input_index=1, output_index=0, outputs=1), "input 1 does not exist"),
        (lambda: monotone(POINT, input_index=0, output_index=1, outputs=1), "output 1 does not exist"),
        (
            lambda: monotone(around([0], 1, norm="l1"), input_index=0, output_index=0, outputs=1),
            "not on a 1-norm",
        ),
        (lambda: emit_vnnlib1(monotone(POINT, input_index=0, output_index=0, outputs=1)), "one network"),
        (lambda: emit_vnnlib1(output_range(around([0], 1, norm="l1"), {0: (0, 1)}, outputs=1)), "balls"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(BadInput, match=message):
        make()


def test_too_many_combinations():
    with pytest.raises(LimitExceeded, match="lower top_k"):
        local_robustness(POINT, label=0, outputs=1000, top_k=5)


def test_wrong_point_length():
    prop = output_range(POINT, {0: (0, 1)}, outputs=1)
    with pytest.raises(QueryMismatch, match="the point has 2 inputs, the property 1"):
        violation(prop, [F(0), F(0)], [F(0)])


def test_saved_text_is_canonical_and_exact():
    prop = local_robustness(around([0.1, "1/3"], "0.25", norm="l2"), label=1, outputs=3)
    assert prop.language == "built" and json.loads(prop.text)["format"] == "surebound-property"
    again = from_json(json.dumps(json.loads(prop.text), indent=3))
    assert again == prop
    assert loads(prop.text).cases == prop.cases
    copies = monotone(box([0], [1]), input_index=0, output_index=0, outputs=1)
    assert from_json(copies.text) == copies
    read = loads("(declare-const X_0 Real)(declare-const Y_0 Real)(assert (= X_0 1))(assert (<= Y_0 1e-30))")
    assert from_json(to_json(read)).cases == read.cases


GOOD = output_range(box([0], [1]), {0: (0, 1)}, outputs=1).text


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("{", "[", "malformed JSON"),
        ('"surebound-property"', '"other"', "format is not surebound-property version 1"),
        ('"version":1', '"version":3', "format is not"),
        ('"lower":["0"]', '"lower":["0","1"]', "2 entries instead of 1"),
        ('"lower":["0"]', '"lower":["0.5"]', "not a number p or p/q"),
        ('"lower":["0"]', '"lower":["1/0"]', "not a number p or p/q"),
        ('"lower":["0"]', '"lower":[0]', "not a number p or p/q"),
        ('"lower":["0"]', f'"lower":["{"9" * 5000}"]', "not a valid saved property"),
        ('"lower":["0"],', "", "lacks 'lower'"),
        ('"strict":true', '"strict":1', "'strict' must be"),
        ('[[0,"1"]]', '[[1,"1"]]', "out of range"),
        ('[[0,"1"]]', '[[0,"1"],[0,"1"]]', "repeated"),
        ('[[0,"1"]]', "3", "a list is expected"),
        ('"kind":"input"', '"kind":"odd"', "unknown kind"),
        ('"shape":[1]', '"shape":[-1]', "positive integers"),
        ('"name":"X"', '"name":"Y"', "same name"),
        ('"name":"X"', '"name":3', "a string is expected"),
        ('"cases":[{', '"cases":[{"ball":{"center":["0"],"radius":"-1","norm":2},', "radius of at least 0"),
        ('"cases":[{', '"cases":[{"ball":3,', "not a valid saved property"),
        ('"cases":[{', '"cases":[7,{', "not a valid saved property"),
    ],
)
def test_damaged_saved_properties(old, new, message):
    assert old in GOOD
    text = GOOD.replace(old, new, 1) if new != "[" else "{" + GOOD
    with pytest.raises(SpecError, match=message) as caught:
        from_json(text, source="p.json")
    assert str(caught.value).startswith("p.json")


def test_too_deep_json():
    with pytest.raises(SpecError, match="nested too deeply"):
        loads('{"a":' + "[" * 100_000)


@given(st.fractions(), st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_survive_writing(fraction, number):
    for value in (fraction, F(number)):
        assert to_fraction(str(value), "v") == value
        text = exact_decimal(value)
        assert text is None or decimal_literal(text) == value
    assert exact_decimal(F(number)) is not None or abs(number) < 1e-300


def test_every_corner_of_a_ball_in_three_dimensions():
    ball = Ball((F(0),) * 3, F(1), 2)
    for signs in product((-1, 1), repeat=3):
        assert ball.contains([F(s, 2) for s in signs])
        assert not ball.contains([F(3 * s, 5) for s in signs])
    assert isinstance(around([0], 1, norm="l2"), Region)
