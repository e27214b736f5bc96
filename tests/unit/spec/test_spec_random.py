"""Random formulas: every way of reading them gives the same answer at random rational points."""

from fractions import Fraction as F
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from verifier.spec.check_point import inside, violation
from verifier.spec.compile import compile_cases
from verifier.spec.emit import emit_vnnlib1
from verifier.spec.formula import And, Bound, Not, Or, evaluate
from verifier.spec.load import loads
from verifier.spec.model import Case, Row, Variable
from verifier.spec.serial import build, from_json, to_json
from verifier.spec.vnnlib1 import parse

N, M = 2, 2
# few values, so that equality, boundaries and equal boxes are frequent
numbers = st.sampled_from([F(k, 2) for k in range(-4, 5)] + [F(1, 3), F(-2, 7), F(1, 10), F(10) ** -30])
decimals = st.sampled_from([F(k, 2) for k in range(-4, 5)] + [F(1, 10), F(1, 2**60), F(-123456789, 10**4)])
points = st.lists(numbers, min_size=N + M, max_size=N + M)


def rows(values):
    terms = st.dictionaries(st.integers(0, 1), values.filter(bool), max_size=2)
    return st.builds(Row, terms, terms, values, st.booleans()).filter(lambda r: r.outputs or r.inputs)


bounds = st.builds(Bound, st.integers(0, N - 1), numbers, st.booleans(), st.booleans())
formulas = st.recursive(
    st.one_of(bounds, rows(numbers)),
    lambda f: st.one_of(
        st.builds(And, st.lists(f, max_size=3).map(tuple)),
        st.builds(Or, st.lists(f, max_size=3).map(tuple)),
        st.builds(Not, f),
    ),
    max_leaves=8,
)
BOX = [Bound(i, F(s), s > 0, False) for i in range(N) for s in (-2, 2)]


@settings(max_examples=300, deadline=None)
@given(st.lists(formulas, max_size=3), st.lists(points, min_size=1, max_size=6))
def test_compiled_cases_agree_with_the_formula(asserted, samples):
    cases = compile_cases([*BOX, *asserted], N)
    prop = build((Variable("X", "input", (N,)), Variable("Y", "output", (M,))), cases)
    for point in samples:
        x, y = point[:N], point[N:]
        expected = evaluate(And((*BOX, *asserted)), x, y)
        assert (violation(prop, x, y) is not None) == expected


def literal(value):
    """A number as VNN-LIB text; thirds as a quotient."""
    return f"{value.numerator}.0" if value.denominator == 1 else f"(/ {value.numerator} {value.denominator})"


def text_of(formula):
    """An independent writer, with the same number on the left or the right at the whim of its parity."""
    if isinstance(formula, And | Or):
        head = "and" if isinstance(formula, And) else "or"
        constant = "(<= 0 0)" if head == "and" else "(< 0 0)"
        return f"({head} {constant} {' '.join(map(text_of, formula.args))})"
    if isinstance(formula, Not):
        return f"(not {text_of(formula.arg)})"
    if isinstance(formula, Bound):
        op = ("<" if formula.upper else ">") + ("" if formula.strict else "=")
        if formula.value.numerator % 2:
            mirrored = {"<": ">", ">": "<"}[op[0]] + op[1:]
            return f"({mirrored} {literal(formula.value)} X_{formula.input})"
        return f"({op} X_{formula.input} {literal(formula.value)})"
    terms = [f"(* {literal(c)} Y_{i})" for i, c in formula.outputs.items()]
    terms += [f"(* X_{i} {literal(c)})" for i, c in formula.inputs.items()]
    op = "<" if formula.strict else "<="
    return f"({op} (+ {' '.join(terms)} {literal(formula.constant)}) 0)"


HEAD = "".join(f"(declare-const {v}_{i} Real)\n" for v in "XY" for i in range(2))


@settings(max_examples=200, deadline=None)
@given(formulas, st.lists(points, min_size=1, max_size=6))
def test_written_formulas_are_read_back(formula, samples):
    (again,) = parse(HEAD + f"(assert {text_of(formula)})").asserted
    for point in samples:
        assert evaluate(again, point[:N], point[N:]) == evaluate(formula, point[:N], point[N:])


def cases(values):
    side = st.tuples(*[values] * N)
    disjuncts = st.lists(st.lists(rows(values), max_size=3).map(tuple), max_size=3).map(tuple)
    return st.builds(Case, side, side, disjuncts)


def properties(values):
    variables = (Variable("X", "input", (N,)), Variable("Y", "output", (M,)))
    return st.lists(cases(values), max_size=3).map(lambda c: build(variables, c))


@settings(max_examples=200, deadline=None)
@given(properties(numbers), st.lists(points, min_size=1, max_size=6))
def test_emitted_properties_mean_the_same(prop, samples):
    again = loads(emit_vnnlib1(prop))
    for point in samples:
        x, y = point[:N], point[N:]
        assert (violation(prop, x, y) is None) == (violation(again, x, y) is None)


@settings(max_examples=200, deadline=None)
@given(properties(decimals))
def test_emitted_decimals_are_read_back_identically(prop):
    """Same boxes and rows, except where reading rightly does something else (see the filter)."""
    kept = [
        c
        for c in prop.cases
        if c.disjuncts and all(r.outputs or len(r.inputs) > 1 for d in c.disjuncts for r in d)
    ]
    if len({(c.lower, c.upper) for c in kept}) != len(kept) or any(not d for c in kept for d in c.disjuncts):
        return
    prop = build(prop.variables, kept)
    assert loads(emit_vnnlib1(prop)).cases == prop.cases


@given(properties(numbers))
def test_json_round_trip(prop):
    again = from_json(to_json(prop))
    assert again == prop and again.sha256 == prop.sha256


@given(st.lists(numbers, min_size=2, max_size=6, unique=True))
def test_boundary_points_are_exact(values):
    ordered = sorted(values)
    for low, high in pairwise(ordered):
        case = Case((low,), (high,), ((),))
        tiny = F(1, 10**60)
        assert inside(case, [low]) and inside(case, [high])
        assert not inside(case, [low - tiny]) and not inside(case, [high + tiny])
