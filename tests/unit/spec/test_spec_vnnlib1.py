"""VNN-LIB 1.0: what is read, and what is refused."""

import contextlib
from fractions import Fraction as F

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bounds.errors import LimitExceeded, SpecError, SureboundError
from verifier.spec.check_point import violation
from verifier.spec.load import loads
from verifier.spec.vnnlib1 import parse

HEAD = (
    "(declare-const X_0 Real)\n(declare-const X_1 Real)\n(declare-const Y_0 Real)\n(declare-const Y_1 Real)\n"
)
BOX = "(assert (>= X_0 0.0)) (assert (<= X_0 1.0)) (assert (>= X_1 -1)) (assert (<= X_1 1e-06))\n"


def read(condition):
    return loads(HEAD + BOX + condition)


def rows_of(prop):
    return [
        [(dict(r.outputs), dict(r.inputs), r.constant, r.strict) for r in rows]
        for case in prop.cases
        for rows in case.disjuncts
    ]


def test_box_and_single_row_are_exact():
    prop = read("(assert (<= Y_0 0.1))")
    (case,) = prop.cases
    assert case.lower == (F(0), F(-1))
    assert case.upper == (F(1), F(1, 10**6))
    assert rows_of(prop) == [[({0: 1}, {}, F(-1, 10), False)]]
    assert (prop.input_size, prop.output_size, prop.language) == (2, 2, "vnnlib-1")
    assert prop.inputs[0].name == "X" and prop.outputs[0].name == "Y"
    assert len(prop.sha256) == 64


@pytest.mark.parametrize(
    ("atom", "row"),
    [
        ("(<= Y_0 Y_1)", ({0: 1, 1: -1}, {}, 0, False)),
        ("(>= Y_0 Y_1)", ({0: -1, 1: 1}, {}, 0, False)),
        ("(< Y_0 Y_1)", ({0: 1, 1: -1}, {}, 0, True)),
        ("(> Y_0 3)", ({0: -1}, {}, 3, True)),
        ("(<= 3 Y_0)", ({0: -1}, {}, 3, False)),
        ("(not (<= Y_0 3))", ({0: -1}, {}, 3, True)),
        ("(not (not (<= Y_0 3)))", ({0: 1}, {}, -3, False)),
        ("(<= (+ Y_0 (* 2.5 Y_1) 1) (- X_0 4))", ({0: 1, 1: F(5, 2)}, {0: -1}, 5, False)),
        ("(<= (- Y_0) (* -1 (- Y_1 X_1 2)))", ({0: -1, 1: 1}, {1: -1}, -2, False)),
        ("(<= (/ Y_0 4) (/ 1 3))", ({0: F(1, 4)}, {}, F(-1, 3), False)),
        ("(<= (* 2 (+ Y_0 Y_0) 3) 0)", ({0: 12}, {}, 0, False)),
        ("(< (+ X_0 X_1) 1)", ({}, {0: 1, 1: 1}, -1, True)),
        ("( <=\n; comment (\nY_0 1.)", ({0: 1}, {}, -1, False)),
        ("( ; comment )\n <= Y_0 .5)", ({0: 1}, {}, F(-1, 2), False)),
        ("(<= Y_0 +1E+2)", ({0: 1}, {}, -100, False)),
    ],
)
def test_atoms(atom, row):
    assert rows_of(read(f"(assert {atom})")) == [[row]]


def test_equality_is_two_rows_and_implication_a_disjunction():
    assert rows_of(read("(assert (= Y_0 2))")) == [[({0: 1}, {}, -2, False), ({0: -1}, {}, 2, False)]]
    implication = read("(assert (=> (<= Y_0 0) (<= Y_1 0)))")
    assert rows_of(implication) == [[({0: -1}, {}, 0, True)], [({1: 1}, {}, 0, False)]]


def test_several_boxes_and_grouping():
    text = """(assert (or (and (<= X_0 0.25) (<= Y_0 0)) (and (>= X_0 0.75) (<= Y_0 1))
                 (and (<= X_0 0.250) (<= Y_1 0))))"""
    prop = read(text)
    assert [c.upper[0] for c in prop.cases] == [F(1, 4), 1]
    assert [len(c.disjuncts) for c in prop.cases] == [2, 1]
    product = read("(assert (or (<= X_0 0.5) (>= X_0 0.5))) (assert (or (<= Y_0 0) (<= Y_1 0) (<= 2 1)))")
    assert [len(c.disjuncts) for c in product.cases] == [2, 2]


def test_strict_input_bound_closes_the_box_and_keeps_a_row():
    prop = read("(assert (< X_0 0.5)) (assert (<= Y_0 0))")
    assert prop.cases[0].upper[0] == F(1, 2)
    assert violation(prop, [F(1, 2), F(0)], [F(0), F(0)]) is None
    assert violation(prop, [F(1, 2) - F(1, 10**30), F(0)], [F(0), F(0)]) == (0, 0)


def test_declaration_forms_and_ignored_commands():
    prop = loads(
        "\ufeff(set-logic QF_LRA)(declare-fun Y_0 () Real)\r\n(declare-fun X_0 ( ) Real)"
        "(assert (and (>= X_0 0) (<= X_0 1) (<= Y_0 0)))(check-sat)(exit)"
    )
    assert (prop.input_size, prop.output_size, len(prop.cases)) == (1, 1, 1)


def test_empty_box_constant_truth_and_constant_falsehood():
    assert read("(assert (>= X_0 2)) (assert (<= Y_0 0))").cases[0].empty
    assert rows_of(read("(assert (<= 1 2)) (assert (<= Y_0 0))")) == [[({0: 1}, {}, 0, False)]]
    assert rows_of(read("(assert (or (<= 1 2) (<= Y_0 0)))")) == [[], [({0: 1}, {}, 0, False)]]
    assert read("(assert (< 1 1))").cases == ()
    assert read("(assert (or (and (< 1 1) (<= Y_0 0)) (not (<= Y_1 Y_1))))").cases == ()


def test_any_depth_of_nesting():
    depth = 20_000
    deep = "(and (<= Y_0 0) " * depth + "(<= Y_1 0)" + ")" * depth
    alternating = "(and (<= Y_0 0) (or (<= Y_1 1) " * 200 + "(<= Y_1 0)" + "))" * 200
    assert len(rows_of(read(f"(assert {'(not ' * depth}(<= Y_0 0){')' * depth})"))) == 1
    assert len(parse(HEAD + f"(assert {deep})").asserted) == 1
    assert len(rows_of(read(f"(assert {alternating})"))) == 201


def test_nested_disjunctions_are_not_copied_level_by_level():
    depth = 20_000
    chain = "(or (<= Y_0 0) " * depth + "(not (and (<= Y_1 0)))" + ")" * depth
    assert len(rows_of(read(f"(assert {chain})"))) == depth + 1
    assert len(rows_of(read(f"(assert (and (or {chain} (<= Y_0 1)) (<= Y_1 2)))"))) == depth + 2


def test_disjunct_limit():
    endless = "(and (<= Y_0 0) (or (<= Y_1 0) " * 5000 + "(<= Y_0 0)" + "))" * 5000
    with pytest.raises(LimitExceeded, match="write fewer nested disjunctions"):
        read(f"(assert {endless})")
    many = "".join("(assert (or (<= Y_0 0) (<= Y_1 0)))" for _ in range(40))
    with pytest.raises(LimitExceeded, match="expands to more than 1000000 disjuncts"):
        read(many)


ERRORS = [
    ("", "empty"),
    ("  \n", "empty"),
    ("; only a comment\n", "declares nothing"),
    ("(declare-const Y_0 Real)", "no inputs are declared"),
    ("(declare-const X_0 Real)", "no outputs are declared"),
    (HEAD + "(declare-const X_3 Real)", "X_3 is declared but X_2 is not"),
    (HEAD + "(declare-const X_0 Real)", ":5:1: X_0 is declared twice"),
    (HEAD + "(declare-const Z_0 Real)", ":5:1: unknown variable 'Z_0'"),
    (HEAD + "(declare-const X_01 Real)", "unknown variable 'X_01'"),
    (HEAD + "(declare-const X_2 Int)", "only Real is supported"),
    (HEAD + "(declare-const X_2)", "malformed declaration"),
    (HEAD + "(declare-fun X_2 Real)", "malformed declaration"),
    (HEAD + "(assert (<= X_7 0))", ":5:13: X_7 is not declared"),
    (HEAD + "\n  (assert (<= x 0))", ":6:15: unknown variable or malformed number 'x'"),
    (HEAD + "(assert (<= X_0 nan))", "malformed number 'nan'"),
    (HEAD + "(assert (<= X_0 inf))", "malformed number 'inf'"),
    (HEAD + "(assert (<= X_0 1.2.3))", "malformed number '1.2.3'"),
    (HEAD + "(assert (<= X_0 .))", "malformed number '.'"),
    (HEAD + "(assert (<= X_0 \u0663))", "malformed number"),
    (HEAD + "(assert (<= X_0 1e999999999))", ":5:17: number '1e999999999' is too long or too large"),
    (HEAD + "(assert (<= X_0 1e-99999999999999999999))", "too long or too large"),
    (HEAD + f"(assert (<= X_0 {'9' * 5000}))", "too long or too large"),
    (HEAD + "(assert (<= X_0 1)", "never closed"),
    (HEAD + "(assert (<= X_0 1)\n(assert (<= X_1 1))", ":6:1: a command begins inside .* line 5; add the"),
    (HEAD + "(assert (<= X_0 1)))", ":5:20: closing parenthesis without an opening one"),
    (HEAD + "(assert (<= X_0))", ":5:9: '<=' takes exactly 2 terms, but has 1"),
    (HEAD + "(assert (<= X_0 1 2))", "'<=' takes exactly 2 terms, but has 3"),
    (HEAD + "(assert)", "'assert' takes exactly 1 formula"),
    (HEAD + "(assert (<= X_0 1) (<= X_1 1))", "'assert' takes exactly 1 formula, but has 2"),
    (HEAD + "(assert (and))", "'and' takes at least 1 formula"),
    (HEAD + "(assert (not (<= X_0 1) (<= X_0 1)))", "'not' takes exactly 1 formula"),
    (HEAD + "(assert (<= (+) 1))", r"'\+' takes at least 1 term"),
    (HEAD + "(assert (<= (/ Y_0) 1))", "'/' takes at least 2 terms"),
    (HEAD + "(assert (<= (/ Y_0 0) 1))", "division by a constant other than zero"),
    (HEAD + "(assert (<= (/ 1 Y_0) 1))", "division by a constant other than zero"),
    (
        HEAD + "(assert (<= (* X_0 Y_0) 1))",
        ":5:13: .*VNN-LIB 1.0 has linear terms only; write the property in VNN-LIB 2.0",
    ),
    (HEAD + "(assert (foo X_0 1))", "unknown operator 'foo'"),
    (HEAD + "(assert ((<= X_0 1)))", "operator is missing"),
    (HEAD + "(assert ())", "operator is missing"),
    (HEAD + "()", "empty command"),
    (HEAD + "(forget X_0)", "unknown command 'forget'"),
    (HEAD + "(assert X_0)", "expected a formula but found 'X_0'"),
    (HEAD + "(assert (and Y_0 (<= Y_0 0)))", "expected a formula but found 'Y_0'"),
    (HEAD + "(assert (and (+ Y_0 1) (<= Y_0 0)))", "'and' needs formulas"),
    (HEAD + "(assert (<= (<= Y_0 0) 0))", "'<=' needs arithmetic terms"),
    (HEAD + "(<= X_0 1)", "outside"),
    (HEAD + "(and (<= X_0 1))", "outside"),
    (HEAD + "hello", r":5:1: expected '\(' but found 'hello'"),
    (
        HEAD + "(assert (<= X_0 1)) (assert (>= X_0 0)) (assert (>= X_1 0))",
        "X_1 has no upper bound.*add .assert .<= X_1",
    ),
    (HEAD + "(assert (<= Y_0 1))", "X_0 has no lower bound"),
    (HEAD + "(assert (or (<= X_0 1) (<= X_1 1)))", "X_0 has no lower bound"),
]


@pytest.mark.parametrize(("text", "message"), ERRORS)
def test_errors_are_one_clear_line(text, message):
    with pytest.raises(SpecError, match=message) as caught:
        loads(text, source="p.vnnlib")
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("p.vnnlib")


@pytest.mark.parametrize("cut", range(0, 330, 7))
def test_truncated_text_never_crashes(cut):
    text = HEAD + BOX + "(assert (or (and (<= Y_0 0.5) (not (>= Y_1 1e-3))) (= (+ Y_0 X_0) 2)))"
    with contextlib.suppress(SureboundError):
        loads(text[:cut])


TOKENS = [
    "(",
    ")",
    " ",
    "\n",
    ";",
    "and",
    "or",
    "not",
    "<=",
    "=",
    "+",
    "-",
    "*",
    "/",
    "assert",
    "declare-const",
]
TOKENS += [
    "X_0",
    "Y_0",
    "Y_1",
    "0",
    "1e9",
    "1e99999",
    "Real",
    '"',
    "\x00",
    "é",
    "(<= Y_0 1)",
    "(assert (<= X_0 1))",
]


@given(st.lists(st.sampled_from(TOKENS), max_size=25).map("".join), st.booleans())
def test_token_soup_gives_properties_or_clear_errors(soup, after_header):
    try:
        loads((HEAD + BOX if after_header else "") + soup)
    except SureboundError as error:
        assert "\n" not in str(error)
