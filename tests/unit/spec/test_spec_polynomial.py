"""Products of variables in properties: reading, exact values, linear cases, saved properties."""

from fractions import Fraction as F

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bounds.errors import BadInput, SpecError
from verifier.spec.check_point import violation
from verifier.spec.emit import emit_vnnlib1
from verifier.spec.formula import MAX_TERMS, Term, combine, product
from verifier.spec.load import loads
from verifier.spec.model import Case, Power, Row, Variable
from verifier.spec.polynomial import interval, linear_cases, monomials
from verifier.spec.serial import build, from_json, to_json

pytest.importorskip("vnnlib", reason="the official VNN-LIB 2.0 parser is not installed")

numbers = st.sampled_from([F(k, 2) for k in range(-6, 7)] + [F(1, 3), F(-2, 7), F(1, 10)])
X0, X1, Y0, Y1 = (Power(o, i, 1) for o in (False, True) for i in (0, 1))


def variable(power):
    one = {power.element: F(1)}
    return Term(one, {}, F(0)) if power.output else Term({}, one, F(0))


def value(term, x, y):
    row = Row(term.outputs, term.inputs, term.constant, False, term.products)
    return row.value(dict(enumerate(x)), dict(enumerate(y)))


# expressions as nested tuples, evaluated directly and through terms
leaves = st.one_of(numbers, st.sampled_from([X0, X1, Y0, Y1]))
trees = st.recursive(leaves, lambda t: st.tuples(st.sampled_from("+-*"), t, t), max_leaves=7)


def term_of(tree):
    if isinstance(tree, Power):
        return variable(tree)
    if isinstance(tree, F):
        return Term({}, {}, tree)
    op, left, right = tree[0], term_of(tree[1]), term_of(tree[2])
    if op == "*":
        return product([left, right])
    return combine([(F(1), left), (F(1) if op == "+" else F(-1), right)])


def direct(tree, x, y):
    if isinstance(tree, Power):
        return (y if tree.output else x)[tree.element]
    if isinstance(tree, F):
        return tree
    left, right = direct(tree[1], x, y), direct(tree[2], x, y)
    return left * right if tree[0] == "*" else left + right if tree[0] == "+" else left - right


points = st.lists(numbers, min_size=4, max_size=4)


@given(trees, points)
def test_multiplying_out_keeps_the_value(tree, point):
    x, y = point[:2], point[2:]
    term = term_of(tree)
    assert value(term, x, y) == direct(tree, x, y)
    for m in term.products:
        assert list(m) == sorted(m) and sum(p.exponent for p in m) >= 2 and term.products[m] != 0
        assert len({(p.output, p.element) for p in m}) == len(m)


def test_products_that_cancel_disappear():
    square = product([variable(X0), variable(X0)])
    assert combine([(F(1), square), (F(-1), square)]).is_constant
    assert product([]).constant == 1
    assert product([variable(X0), Term({}, {}, F(0))]).is_constant


def test_absurd_sizes_are_refused():
    wide = Term({}, {i: F(1) for i in range(1000)}, F(0))
    assert MAX_TERMS < 1001**2
    with pytest.raises(OverflowError):
        product([wide, wide])


monomial_lists = st.dictionaries(
    st.tuples(st.booleans(), st.integers(0, 1)), st.integers(1, 4), min_size=1, max_size=3
).map(lambda d: tuple(Power(*k, d[k]) for k in sorted(d)))


@given(monomial_lists, points, st.lists(st.tuples(numbers, numbers), min_size=2, max_size=2))
def test_interval_contains_and_is_attained(monomial, point, ends):
    low, high = [min(e) for e in ends], [max(e) for e in ends]
    x = point[:2]
    y = [min(max(v, lo), hi) for v, lo, hi in zip(point[2:], low, high, strict=True)]
    least, most = interval(monomial, x, low, high)
    at = Row({}, {}, F(0), False, {monomial: F(1)}).value(dict(enumerate(x)), dict(enumerate(y)))
    assert least <= at <= most
    assert interval(monomial, x, y, y) == (at, at)


# ------------------------------------------------------------------ reading
HEAD = """(vnnlib-version <2.0>)
(declare-network f (declare-input X real [2]) (declare-hidden H real [1] "h") (declare-output Y real [2]))
(assert (and (>= X[0] -1.0) (<= X[0] 1.0) (>= X[1] -1.0) (<= X[1] 1.0)))
"""


def read(condition):
    return loads(HEAD + f"(assert {condition})", source="q.vnnlib")


def only_row(condition):
    (case,) = read(condition).cases
    ((row,),) = case.disjuncts
    return row


def test_reading_products():
    row = only_row("(>= (* 2.0 X[0] Y[1] X[0]) (+ 1.5 (* H[0] Y[0] 0.5)))")
    assert row.products == {
        (Power(False, 0, 2), Power(True, 2, 1)): -2,
        (Power(True, 0, 1), Power(True, 1, 1)): F(1, 2),
    }
    assert (row.constant, row.outputs, row.inputs) == (F(3, 2), {}, {})
    row = only_row("(< (* (- X[0] 1.0) (+ X[0] 1.0)) Y[0])")
    assert row.products == {(Power(False, 0, 2),): 1}
    assert (dict(row.outputs), row.constant, row.strict) == ({1: -1}, -1, True)


def test_products_of_inputs_bound_nothing():
    with pytest.raises(SpecError, match=r"X\[1\] has no upper bound"):
        loads(HEAD.replace("(<= X[1] 1.0)", "(<= (* X[1] X[1]) 1.0)") + "(assert (<= Y[0] 0.0))")


def test_points_are_compared_exactly():
    prop = read("(and (>= (* X[0] X[1]) 1.0) (< (* Y[0] Y[0] Y[0]) 0.001))")
    y = [F(0), F(1, 10), F(5)]
    assert violation(prop, [F(1), F(1)], y) is None
    assert violation(prop, [F(1), F(1)], [F(0), F(1, 10) - F(1, 10**40), F(5)]) == (0, 0)
    assert violation(prop, [F(1), 1 - F(1, 10**40)], [F(0), F(0), F(5)]) is None


def test_linear_cases():
    prop = read(
        "(or (and (<= (* X[0] X[1]) 0.5) (<= (+ Y[0] (* X[0] X[1]) (* Y[1] Y[1])) X[0])) (<= Y[0] 0.0))"
    )
    assert monomials(prop) == ((Power(False, 0, 1), Power(False, 1, 1)), (Power(True, 2, 2),))
    (case,) = linear_cases(prop)
    (first, second), (third,) = case.disjuncts
    assert (dict(first.outputs), dict(first.inputs), first.constant) == ({3: 1}, {}, F(-1, 2))
    assert (dict(second.outputs), dict(second.inputs)) == ({1: 1, 3: 1, 4: 1}, {0: -1})
    assert not any(r.products for r in (first, second, third))
    assert (case.lower, case.upper) == (prop.cases[0].lower, prop.cases[0].upper)
    plain = read("(<= Y[0] 0.0)")
    assert linear_cases(plain) is plain.cases


def test_negation_of_products():
    prop = read("(!= (* X[0] X[1]) 0.25)")
    assert violation(prop, [F(1, 2), F(1, 2)], [F(0)] * 3) is None
    assert violation(prop, [F(1, 2), F(1, 3)], [F(0)] * 3) is not None


# ------------------------------------------------------------------ saved properties
def polynomial_property():
    row = Row({0: F(1)}, {}, F(1, 3), True, {(Power(False, 0, 2), Power(True, 1, 1)): F(-1, 7)})
    variables = (Variable("X", "input", (2,)), Variable("Y", "output", (2,)))
    return build(variables, [Case((F(0), F(0)), (F(1), F(1)), ((row,),))])


def test_saved_and_read_again():
    prop = polynomial_property()
    assert '"version":2' in prop.text
    assert from_json(to_json(prop)) == prop


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"version":2', '"version":1', "version 1 has no products"),
        ('["x",0,2]', '["x",0,1.5]', "not of the form"),
        ('["x",0,2]', '["x",0,0]', "out of range"),
        ('["x",0,2]', '["x",2,2]', "out of range"),
        ('["x",0,2]', '["z",0,2]', "not of the form"),
        ('["x",0,2]', '["y",1,2]', "repeated, not sorted"),
        ('[["x",0,2],["y",1,1]]', '[["y",1,1],["x",0,2]]', "repeated, not sorted"),
        ('[["x",0,2],["y",1,1]]', '[["y",1,1]]', "degree below 2"),
        ('["x",0,2]', '["x",0,500]', "degree over"),
    ],
)
def test_damaged_saved_products(old, new, message):
    text = polynomial_property().text
    assert old in text
    with pytest.raises(SpecError, match=message):
        from_json(text.replace(old, new))


def test_version_1_text_of_linear_properties_has_not_changed():
    variables = (Variable("X", "input", (1,)), Variable("Y", "output", (1,)))
    prop = build(variables, [Case((F(0),), (F(1),), ((Row({0: F(1)}, {}, F(0)),),))])
    assert '"version":1' in prop.text and '"p"' not in prop.text


def test_vnnlib1_cannot_express_products():
    with pytest.raises(BadInput, match="no products of variables; save the property as JSON"):
        emit_vnnlib1(polynomial_property())


# ------------------------------------------------------------------ inputs without bounds
def test_open_inputs_give_partial_cases():
    text = HEAD.replace("(<= X[1] 1.0)", "") + "(assert (<= Y[0] 0.0))"
    with pytest.raises(SpecError, match=r"X\[1\] has no upper bound"):
        loads(text)
    (case,) = loads(text, open_inputs=True).cases
    assert case.partial and case.lower == (-1, -1) and case.upper[0] == 1 and case.upper[1] > 0
    with pytest.raises(BadInput, match="has no bounds"):
        to_json(loads(text, open_inputs=True))
    (bounded,) = loads(HEAD + "(assert (<= Y[0] 0.0))", open_inputs=True).cases
    assert not bounded.partial


def test_open_inputs_in_one_disjunct_only():
    text = HEAD.replace("(<= X[1] 1.0)", "") + "(assert (or (<= X[1] 0.5) (<= Y[0] 0.0)))"
    assert sorted(c.partial for c in loads(text, open_inputs=True).cases) == [False, True]
