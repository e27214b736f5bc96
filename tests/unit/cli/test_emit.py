"""Numbers and reports as text."""

from __future__ import annotations

import json
import struct
from fractions import Fraction
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from cli_stand_in import SAT, TIMED_OUT, UNSAT
from hypothesis import given
from hypothesis import strategies as st

from verifier.report.emit.decimals import decimal, integer
from verifier.report.emit.json import as_dict, dumps
from verifier.report.model import Report

SCHEMA = json.loads((Path(__file__).parents[3] / "verifier/report/schema.json").read_text(encoding="utf-8"))

FLOAT32 = st.floats(allow_nan=False, allow_infinity=False, width=32)


@given(FLOAT32)
def test_float32_reads_back_directly_and_through_float64(x: float) -> None:
    text = decimal(Fraction(x))
    assert np.float32(text) == x
    assert struct.unpack("f", struct.pack("f", float(text)))[0] == x


@given(FLOAT32)
def test_float32_is_as_short_as_numpy_makes_it(x: float) -> None:
    digits = decimal(Fraction(x)).split("e")[0].replace(".", "").strip("-0")
    shortest = np.format_float_scientific(np.float32(x), trim="-").split("e")[0].replace(".", "").strip("-0")
    assert len(digits) <= len(shortest) + 1  # the one: our text must also survive float64


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_float64_is_exact_unless_it_is_a_float32(x: float) -> None:
    value, number = Fraction(x), Fraction(decimal(Fraction(x)))
    assert number == value or np.float32(float(number)) == x


@given(st.fractions())
def test_any_fraction_is_near(value: Fraction) -> None:
    number = Fraction(decimal(value))
    assert abs(number - value) <= abs(value) * Fraction(1, 10**7)


@given(FLOAT32)
def test_the_text_lies_in_the_box_read_exactly(x: float) -> None:
    value = Fraction(x)
    assert Fraction(decimal(value, value, None)) >= value
    assert Fraction(decimal(value, None, value)) <= value
    assert Fraction(decimal(value, value, value)) == value


@given(st.fractions(max_denominator=1000), st.integers(1, 60))
def test_endless_fractions_stay_inside_thin_boxes(value: Fraction, digits: int) -> None:
    lower = value - Fraction(1, 10**digits)
    assert lower <= Fraction(decimal(value, lower, value)) <= value


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Fraction(0), "0.0"),
        (Fraction(-3), "-3.0"),
        (Fraction(1, 10), "0.1"),
        (Fraction(float(np.float32(0.1))), "0.1"),
        (Fraction(0.1), "0.1000000000000000055511151231257827021181583404541015625"),
        (Fraction(10) ** 40, "1.0e+40"),
        (Fraction(1, 3), "0.33333333333333333333"),
        (Fraction(123456789, 1000), "123456.789"),
    ],
)
def test_examples(value: Fraction, text: str) -> None:
    assert decimal(value) == text


def test_integers() -> None:
    assert integer(Fraction(-7)) == "-7"
    assert integer(Fraction(1, 2)) == "0.5"


@pytest.mark.parametrize("report", [UNSAT, SAT, TIMED_OUT], ids=["unsat", "sat", "timed-out"])
def test_json_follows_its_schema(report: Report) -> None:
    document = json.loads(dumps(as_dict(report)))
    jsonschema.Draft202012Validator(SCHEMA).validate(document)
    assert set(document) == set(SCHEMA["$defs"]["report"]["properties"])  # nothing undocumented


def test_infinite_bounds_are_null() -> None:
    import dataclasses

    assert as_dict(dataclasses.replace(TIMED_OUT, lower_bound=float("-inf")))["lower_bound"] is None
