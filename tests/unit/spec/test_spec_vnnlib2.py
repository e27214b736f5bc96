"""VNN-LIB 2.0 through the official parser, and our checks of what that parser lets through."""

import contextlib
import sys
from fractions import Fraction as F

import pytest

from bounds.errors import SpecError
from verifier.spec.check_point import violation
from verifier.spec.load import loads
from verifier.spec.model import NetworkRef, Variable

pytest.importorskip("vnnlib", reason="the official VNN-LIB 2.0 parser is not installed")

VERSION = "(vnnlib-version <2.0>)\n"
NET = "(declare-network f (declare-input X real [1,2]) (declare-output Y real [2]))\n"
BOX = "".join(f"(assert (>= X[0,{i}] -1.0)) (assert (<= X[0,{i}] 1.0))\n" for i in range(2))


def read(condition, net=NET, box=BOX):
    return loads(VERSION + net + box + condition, source="q.vnnlib")


def rows_of(prop):
    return [
        [(dict(r.outputs), dict(r.inputs), r.constant, r.strict) for r in rows]
        for case in prop.cases
        for rows in case.disjuncts
    ]


def test_single_network():
    prop = read("(assert (<= Y[1] 0.1))")
    assert prop.language == "vnnlib-2"
    assert prop.variables == (
        Variable("X", "input", (1, 2), "real", "f"),
        Variable("Y", "output", (2,), "real", "f"),
    )
    assert prop.networks == (NetworkRef("f"),)
    assert prop.cases[0].lower == (F(-1), F(-1))
    assert rows_of(prop) == [[({1: 1}, {}, F(-1, 10), False)]]
    assert len(prop.sha256) == 64


@pytest.mark.parametrize(
    ("atom", "rows"),
    [
        ("(< Y[0] Y[1])", [[({0: 1, 1: -1}, {}, 0, True)]]),
        ("(> Y[0] 3.0)", [[({0: -1}, {}, 3, True)]]),
        ("(== Y[0] 3.0)", [[({0: 1}, {}, -3, False), ({0: -1}, {}, 3, False)]]),
        ("(!= Y[0] 3.0)", [[({0: 1}, {}, -3, True)], [({0: -1}, {}, 3, True)]]),
        ("(<= (* 2.0 3.0 Y[0]) (- X[0,1] Y[1] 1.0))", [[({0: 6, 1: 1}, {1: -1}, 1, False)]]),
        ("(<= (+ Y[0] Y[0] (- Y[1])) 0.0)", [[({0: 2, 1: -1}, {}, 0, False)]]),
        ("(<= (* (+ Y[0] 1.0) 2.0) 0.0)", [[({0: 2}, {}, 2, False)]]),
        (
            "(<= Y[0] 123456789012345678901234567890.5)",
            [[({0: 1}, {}, -F("123456789012345678901234567890.5"), False)]],
        ),
        ("(or (<= Y[0] 0.0) (and (<= Y[1] 0.0)))", [[({0: 1}, {}, 0, False)], [({1: 1}, {}, 0, False)]]),
    ],
)
def test_atoms(atom, rows):
    assert rows_of(read(f"(assert {atom})")) == rows


def test_negative_coefficients_bound_inputs():
    prop = read(
        "(assert (<= Y[0] 0.0))",
        box="""
        (assert (<= (* -2.0 X[0,0]) 1.0)) (assert (<= (- X[0,0] 4.0) 0.0))
        (assert (== X[0,1] 0.25))""",
    )
    assert (prop.cases[0].lower, prop.cases[0].upper) == ((F(-1, 2), F(1, 4)), (F(4), F(1, 4)))


def test_hidden_nodes_many_ports_and_scalars():
    net = """(declare-network f ; comment with (parentheses
        (declare-input A float32 [2]) (declare-input B float32 [])
        (declare-hidden H float32 [1,2] "name ; with (odd) \\"signs\\"")
        (declare-output C float32 [1]) (declare-output D float32 []))
    """
    box = "(assert (and (>= A[0] 0.0) (<= A[0] 1.0) (== A[1] 0.5) (>= B 0.0) (<= B 2.0)))"
    prop = read("(assert (<= (+ H[0,1] C[0] D B) 0.0))", net, box)
    kinds = [(v.name, v.kind, v.shape, v.element, v.onnx) for v in prop.variables]
    assert kinds == [
        ("A", "input", (2,), "float32", ""),
        ("B", "input", (), "float32", ""),
        ("H", "hidden", (1, 2), "float32", 'name ; with (odd) "signs"'),
        ("C", "output", (1,), "float32", ""),
        ("D", "output", (), "float32", ""),
    ]
    assert prop.input_size == 3 and prop.output_size == 4
    assert rows_of(prop) == [[({1: 1, 2: 1, 3: 1}, {2: 1}, 0, False)]]


PAIR = """(declare-network f (declare-input X real [2]) (declare-output Y real [1]))
(declare-network g ({relation} f) (declare-input X2 real [2]) (declare-output Y2 real [1]))
"""


@pytest.mark.parametrize(("word", "relation"), [("equal-to", "equal"), ("isomorphic-to", "isomorphic")])
def test_related_networks_and_bounds_through_equalities(word, relation):
    box = "".join(f"(assert (>= X[{i}] 0.0)) (assert (<= X[{i}] 1.0))" for i in range(2))
    condition = "(assert (and (== X2[0] X[0]) (<= X2[1] (+ X[1] 0.5)) (>= X2[1] X[1]) (< Y2[0] Y[0])))"
    prop = read(condition, PAIR.format(relation=word), box)
    assert prop.networks == (NetworkRef("f"), NetworkRef("g", relation, "f"))
    (case,) = prop.cases
    assert case.lower == (0, 0, 0, 0) and case.upper == (1, 1, 1, F(3, 2))
    point = [F(1, 3), F(1, 2), F(1, 3), F(1)]
    assert violation(prop, point, [F(1), F(0)]) == (0, 0)
    assert violation(prop, point, [F(1), F(1)]) is None
    assert violation(prop, [*point[:2], F(1, 4), F(1)], [F(1), F(0)]) is None


def test_independent_networks():
    net = PAIR.format(relation="equal-to").replace("(equal-to f)", "")
    box = "".join(f"(assert (== {v}[{i}] 0.5))" for v in ("X", "X2") for i in range(2))
    assert read("(assert (<= Y[0] Y2[0]))", net, box).networks == (NetworkRef("f"), NetworkRef("g"))


ELEMENTS = (
    "real float16 float32 float64 bfloat16 float8e4m3fn float8e5m2 float8e4m3fnuz float8e5m2fnuz float4e2m1"
)


@pytest.mark.parametrize("element", ELEMENTS.split())
def test_float_element_types_are_carried(element):
    prop = read("(assert (<= Y[0] 0.0))", NET.replace("real", element))
    assert {v.element for v in prop.variables} == {element}


@pytest.mark.parametrize("element", ["int8", "int16", "int32", "int64", "uint8", "uint64"])
def test_integer_element_types_are_carried(element):
    net = f"(declare-network f (declare-input X {element} [1]) (declare-output Y float32 [1]))"
    prop = read("(assert (<= Y[0] 0.0))", net, "(assert (and (>= X[0] 0) (<= X[0] 7)))")
    assert prop.inputs[0].element == element


def test_old_spelling_of_real_and_later_minor_versions(capfd):
    text = (VERSION + NET + BOX + "(assert (<= Y[0] 0.0))").replace("real", "Real")
    assert loads(text.replace("2.0", "2.1", 1)).variables[0].element == "real"
    assert loads("; comment\n\n" + text).language == "vnnlib-2"
    assert capfd.readouterr() == ("", "")


BAD_NETS = [
    (NET.replace("real", "string"), "2:37: X has element type 'string'; supported are real and"),
    (NET.replace("real", "floaty"), "X has element type 'floaty'"),
    (NET.replace("real", "complex64"), "complex64"),
    (NET.replace("X real", "X float32"), "'real' is mixed with others"),
    (NET.replace("[2]", "[1.5]"), r"2:\d+: Y has the shape \[1.5\]"),
    (NET.replace("[2]", "[-2]"), "shape"),
    (NET.replace("[2]", "[0]"), "Dimension|dimension"),
    (NET.replace("[1,2]", "[1,2] initialized"), "'initialized' .of X. is not supported"),
    (NET.replace("Y real", "X real"), "2:.*Duplicate variable declaration .X."),
    (PAIR.format(relation="equal-to f) (isomorphic-to"), "g is both equal-to and isomorphic-to"),
    (PAIR.format(relation="equal-to").replace("X2 real [2]", "X2 real [3]"), "[Ss]hape"),
    (PAIR.format(relation="equal-to").replace("-to f", "-to h"), "h"),
]


@pytest.mark.parametrize(("net", "message"), BAD_NETS)
def test_bad_declarations(net, message):
    with pytest.raises(SpecError, match=message) as caught:
        read("(assert (<= Y[0] 0.0))", net, "")
    assert "\n" not in str(caught.value)


BAD_ASSERTIONS = [
    (f"(assert (<= (* {'X[0,0] ' * 201}) 0.0))", "5:1: a product .* multiplies out to over degree 200"),
    ("(assert (<= (* Y[0] Z[0]) 0.0))", "5:21: Undeclared variable .Z."),
    ("(assert (<= (* Y[0] Y[2]) 0.0))", "5:21: Index out of bounds"),
    ("(assert (<= (* Y[0] Y[1] 2) 0.0))", "5:26: Type mismatch"),
    ("(assert (<= (^ Y[0] 1.5) 0.0))", "5:14: syntax error near '.'.*powers are products"),
    ("(assert (<= (pow Y[0] 2.0) 0.0))", "5:14: syntax error near 'pow'.*powers are products"),
    ("(assert (<= Y[2] 0.0))", "5:13: Index out of bounds"),
    ("(assert (<= Y[-1] 0.0))", r"5:1: index \[-1\] does not fit Y of shape \[2\]"),
    ("(assert (<= X[0] 0.0))", "Not enough indices"),
    ("(assert (<= Z[0] 0.0))", "5:13: Undeclared variable .Z."),
    ("(assert (<= Y[0] 0))", "Type mismatch"),
    ("(assert (<= Y[0] 1e-3))", r"5:19: syntax error near 'e.*no exponents"),
    ("(assert (= Y[0] 1.0))", "5:10: syntax error.*equality is '=='"),
    ("(assert (<= Y[0] 1.0)", "syntax error at the end of the file"),
    ("(assert (and))", "syntax error"),
    (f"(assert (<= Y[0] {'9' * 3000}.0))", "beyond what the official parser reads"),
    ("(assert (<= Y[99999999999999999999999] 0.0))", "q.vnnlib"),
    (f"(assert {'(and ' * 6000}(<= Y[0] 0.0){')' * 6000})", "more than 5000 nested parentheses"),
]


@pytest.mark.parametrize(("assertion", "message"), BAD_ASSERTIONS)
def test_bad_assertions(assertion, message):
    with pytest.raises(SpecError, match=message) as caught:
        read(assertion)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("q.vnnlib:")


def test_deep_nesting_is_read():
    depth = 2000
    assert len(rows_of(read(f"(assert {'(or ' * depth}(<= Y[0] 0.0){')' * depth})"))) == 1


def test_unbounded_input_is_named_as_written():
    with pytest.raises(SpecError, match=r"X\[0,1\] has no lower bound.*\(assert \(>= X\[0,1\] \.\.\.\)\)"):
        read("(assert (<= Y[0] 0.0))", box="(assert (and (>= X[0,0] 0.0) (<= X[0,0] 1.0)))")


def test_versions():
    with pytest.raises(SpecError, match=r"q:1:1: VNN-LIB version 3\.1 is not supported; use version 2\.0"):
        loads((VERSION + NET).replace("2.0", "3.1"), source="q")
    with pytest.raises(SpecError, match="q:1:1: malformed version"):
        loads("(vnnlib-version 2.0)\n" + NET, source="q")
    with pytest.raises(SpecError, match="syntax error at the end of the file"):
        loads(VERSION + NET, source="q")


def test_missing_parser_is_a_clear_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "vnnlib", None)
    with pytest.raises(SpecError, match=r"pip install surebound\[vnnlib2\]"):
        read("(assert (<= Y[0] 0.0))")


@pytest.mark.parametrize("cut", range(0, 260, 9))
def test_truncated_text_never_crashes(cut):
    text = VERSION + NET + BOX + "(assert (or (<= Y[0] 0.5) (== Y[1] 0.0)))"
    with contextlib.suppress(SpecError):
        loads(text[:cut])
