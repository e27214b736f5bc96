"""An earlier answer is used only where it is right: checked against the meaning of properties at points."""

from __future__ import annotations

import json
from fractions import Fraction
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="pip install 'surebound[service]'")

from hypothesis import given, settings
from hypothesis import strategies as st

from service.implied import proved_by, read, violated_by
from verifier.spec.check_point import violation
from verifier.spec.model import Property

# few values, so that boxes often lie in each other and points in them
small = st.integers(-1, 1)
points = st.lists(st.integers(-3, 3).map(lambda n: Fraction(n, 2)), min_size=2, max_size=2)


@st.composite
def texts(draw: st.DrawFn) -> str:
    lines = [f"(declare-const X_{i} Real)" for i in range(2)] + [
        f"(declare-const Y_{i} Real)" for i in range(2)
    ]
    for i in range(2):
        low, width = draw(small), draw(st.integers(0, 2))
        lines += [f"(assert (>= X_{i} {low}))", f"(assert (<= X_{i} {low + width}))"]
    atom = st.builds(
        lambda i, n, s: f"({s} Y_{i} {n})", st.integers(0, 1), small, st.sampled_from(["<=", ">="])
    )
    disjuncts = draw(st.lists(st.lists(atom, min_size=1, max_size=2), min_size=1, max_size=3))
    lines.append("(assert (or " + " ".join("(and " + " ".join(d) + ")" for d in disjuncts) + "))")
    return "\n".join(lines)


def vnnlib(text: str) -> Property:
    found = read({"vnnlib": text})
    assert found is not None
    return found


@settings(max_examples=1000)
@given(new=texts(), old=texts(), x=points, y=points)
def test_where_a_proof_carries_over_no_point_says_otherwise(
    new: str, old: str, x: list[Fraction], y: list[Fraction]
) -> None:
    if proved_by(vnnlib(new), vnnlib(old)) and violation(vnnlib(new), x, y) is not None:
        assert violation(vnnlib(old), x, y) is not None


@given(text=texts(), x=points, y=points)
def test_a_witness_is_used_exactly_where_it_violates(text: str, x: list[Fraction], y: list[Fraction]) -> None:
    prop = vnnlib(text)
    assert violated_by(prop, witness(x, y)) == (violation(prop, x, y) is not None)


def witness(x: list[Any], y: list[Any], kind: str = "replayed") -> bytes:
    values = {"input": [float(v) for v in x], "output": [float(v) for v in y]}
    return json.dumps({"kind": kind, "values": values}).encode()


BOX = """(declare-const X_0 Real)
(declare-const Y_0 Real)
(assert (>= X_0 {}))
(assert (<= X_0 {}))
(assert {})
"""


@pytest.mark.parametrize(
    ("low", "high", "unsafe", "carries"),
    [
        (0, 1, "(>= Y_0 5)", True),
        (-1, 2, "(>= Y_0 5)", True),
        (0, 1, "(and (>= Y_0 5) (<= Y_0 9))", True),  # a stronger unsafe condition is less to prove
        (0, 3, "(>= Y_0 5)", False),
        (0, 1, "(>= Y_0 4)", False),
        (0, 1, "(> Y_0 5)", False),  # would be right, but is not compared: only costs time
        (0, 1, "(or (>= Y_0 5) (<= Y_0 0))", False),
    ],
)
def test_proofs_carry_over_to_less(low: int, high: int, unsafe: str, carries: bool) -> None:
    old = vnnlib(BOX.format(-1, 2, "(>= Y_0 5)"))
    assert proved_by(vnnlib(BOX.format(low, high, unsafe)), old) == carries


def test_a_proof_of_an_alternative_does_not_prove_the_whole() -> None:
    both = vnnlib(BOX.format(0, 1, "(or (>= Y_0 5) (<= Y_0 0))"))
    one = vnnlib(BOX.format(0, 1, "(>= Y_0 5)"))
    assert proved_by(one, both) and not proved_by(both, one)


def robust(**changed: Any) -> Property:
    found = read({"robustness": {"input": [0.5, 0.5], "label": 1, "radius": 0.25, "norm": "inf", **changed}})
    assert found is not None
    return found


def test_robustness_carries_over_to_smaller_balls_of_the_same_kind() -> None:
    assert proved_by(robust(radius=0.125), robust())
    assert proved_by(robust(radius="1/8"), robust())
    assert proved_by(robust(clip=[0, 0.6]), robust())
    assert proved_by(robust(norm="2", radius=0.2), robust())  # a ball lies in its box
    assert not proved_by(robust(), robust(norm="2"))
    assert proved_by(robust(norm="2", radius=0.1), robust(norm="2"))
    assert not proved_by(robust(norm="2", input=[0.5, 0.4], radius=0.1), robust(norm="2"))
    assert not proved_by(robust(label=0), robust())
    assert not proved_by(robust(), robust(radius=0.125))


def test_doubtful_witnesses_are_not_used() -> None:
    prop = vnnlib(BOX.format(0, 1, "(>= Y_0 5)"))
    assert violated_by(prop, witness([0.5], [6]))
    assert not violated_by(prop, witness([0.5], [6], kind="rigorous"))
    assert not violated_by(prop, witness([0.1], [6]))  # no float32: the network was not run there
    assert not violated_by(prop, witness([0.5, 0.5], [6]))
    assert not violated_by(prop, witness([0.5], [4]))
    assert not violated_by(prop, witness([2], [6]))
    for broken in (b"", b"{}", b"[]", b'{"kind": "replayed", "values": {"input": [NaN], "output": [6]}}',
                   b'{"kind": "replayed", "values": {"input": ["0.5"], "output": [6]}}'):  # fmt: skip
        assert not violated_by(prop, broken)


def test_what_is_large_or_in_another_language_is_asked_anew() -> None:
    assert read(None) is None
    assert read({"vnnlib": BOX.format(0, 1, "(>= Y_0 5)") + "; " + "a" * 200_000}) is None
    assert read({"vnnlib": "(vnnlib-version <2.0>)"}) is None
    assert read({"vnnlib": "nonsense"}) is None
    assert read({"robustness": {"input": [0.0] * 10_000, "label": 1, "radius": 1}}) is None
