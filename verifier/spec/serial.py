"""Properties as canonical JSON: exact, so that a built property can travel with its certificate.

Numbers are strings, ``"p"`` or ``"p/q"``. Equal properties have equal text, and a built property is
identified by the SHA-256 of its text.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any, cast

from bounds.errors import BadInput, LimitExceeded, SpecError

from .formula import MAX_DEGREE
from .model import NO_PRODUCTS, Ball, Case, Monomial, NetworkRef, Power, Property, Row, Variable

FORMAT = "surebound-property"
VERSION = 2  # 1 where no row has products: version 1 does not know them
_NUMBER = re.compile(r"(-?[0-9]+)(?:/([1-9][0-9]*))?")


def to_json(prop: Property) -> str:
    """Canonical JSON text of what the property means (not of where it came from).

    Raises:
        BadInput: an input has no bounds.
        LimitExceeded: a number has more digits than Python converts (4300).
    """
    variables = [
        {"name": v.name, "kind": v.kind, "shape": list(v.shape), "element": v.element}
        | {"network": v.network, "onnx": v.onnx}
        for v in prop.variables
    ]
    networks = [{"name": n.name, "relation": n.relation, "same_as": n.same_as} for n in prop.networks]
    products = any(row.products for case in prop.cases for rows in case.disjuncts for row in rows)
    if any(case.partial for case in prop.cases):
        raise BadInput("an input of the property has no bounds; bound it before saving the property")
    version = VERSION if products else 1
    document = {"format": FORMAT, "version": version, "variables": variables, "networks": networks}
    try:
        document["cases"] = [_case_out(c) for c in prop.cases]
    except ValueError:
        raise LimitExceeded("a number of the property has over 4300 digits; round it before saving") from None
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def build(
    variables: Sequence[Variable], cases: Sequence[Case], networks: Sequence[NetworkRef] = (NetworkRef(""),)
) -> Property:
    """A property made by a program, with its canonical text and digest."""
    bare = Property(tuple(variables), tuple(cases), tuple(networks), "built")
    text = to_json(bare)
    return replace(bare, text=text, sha256=hashlib.sha256(text.encode()).hexdigest())


def from_json(text: str, *, source: str = "") -> Property:
    """Reads :func:`to_json`'s text; the result is a built property.

    Raises:
        SpecError: not such a text, with the place inside the document.
    """
    where = source or "<property>"
    try:
        document = json.loads(text)
    except json.JSONDecodeError as error:
        what = f"malformed JSON ({error.msg}); expected a saved property"
        raise SpecError(what, file=where, line=error.lineno, column=error.colno) from None
    except (RecursionError, ValueError):
        raise SpecError(
            "JSON nested too deeply, or a huge number in it; is this a property?", file=where
        ) from None
    try:
        if document["format"] != FORMAT or document["version"] not in {1, VERSION}:
            raise ValueError(f"format is not {FORMAT} version 1 or {VERSION}")
        variables = [_variable_in(v) for v in _list(document["variables"])]
        names = [v.name for v in variables]
        if len(set(names)) != len(names):
            raise ValueError("two variables have the same name")
        networks = [_network_in(n) for n in _list(document["networks"])]
        sizes = [sum(v.size for v in variables if (v.kind == "input") == side) for side in (True, False)]
        cases = [_case_in(c, sizes[0], sizes[1]) for c in _list(document["cases"])]
        if document["version"] == 1 and any(r.products for c in cases for rows in c.disjuncts for r in rows):
            raise ValueError("version 1 has no products")
    except KeyError as error:
        raise SpecError(f"saved property lacks {error}; save it again", file=where) from None
    except (TypeError, ValueError, AttributeError) as error:
        reason = " ".join(str(error).split())[:120]
        raise SpecError(f"not a valid saved property ({reason}); save it again", file=where) from None
    return replace(build(variables, cases, networks), source=source)


def number_out(value: Fraction) -> str:
    """``"p"`` or ``"p/q"``."""
    return str(value)


def number_in(text: object) -> Fraction:
    """Exact value of :func:`number_out`'s text; ValueError for anything else."""
    match = _NUMBER.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise ValueError(f"{str(text)[:40]!r} is not a number p or p/q in a string")
    return Fraction(int(match[1]), int(match[2] or "1"))


def _terms_out(terms: Mapping[int, Fraction]) -> list[list[int | str]]:
    return [[i, number_out(terms[i])] for i in sorted(terms)]


def _products_out(products: Mapping[Monomial, Fraction]) -> list[list[Any]]:
    return [
        [[["y" if p.output else "x", p.element, p.exponent] for p in m], number_out(products[m])]
        for m in sorted(products)
    ]


def _case_out(case: Case) -> dict[str, Any]:
    result: dict[str, Any] = {
        "lower": [number_out(v) for v in case.lower],
        "upper": [number_out(v) for v in case.upper],
        "disjuncts": [
            [
                {"y": _terms_out(r.outputs), "x": _terms_out(r.inputs)}
                | {"c": number_out(r.constant), "strict": r.strict}
                | ({"p": _products_out(r.products)} if r.products else {})
                for r in rows
            ]
            for rows in case.disjuncts
        ],
    }
    if case.ball is not None:
        ball = case.ball
        center = [number_out(v) for v in ball.center]
        result["ball"] = {"center": center, "radius": number_out(ball.radius), "norm": ball.norm}
    return result


def _list(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError("a list is expected")
    return cast("list[Any]", value)


def _str(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("a string is expected")
    return value


def _variable_in(value: Mapping[str, Any]) -> Variable:
    kind = _str(value["kind"])
    shape = tuple(_list(value["shape"]))
    if kind not in {"input", "hidden", "output"}:
        raise ValueError(f"unknown kind {kind[:40]!r}")
    if any(type(s) is not int or s < 1 for s in shape):
        raise ValueError("a shape must hold positive integers")
    names = [_str(value[key]) for key in ("name", "element", "network", "onnx")]
    return Variable(names[0], kind, shape, names[1], names[2], names[3])


def _network_in(value: Mapping[str, Any]) -> NetworkRef:
    return NetworkRef(_str(value["name"]), _str(value["relation"]), _str(value["same_as"]))


def _vector(value: object, size: int) -> tuple[Fraction, ...]:
    values = _list(value)
    if len(values) != size:
        raise ValueError(f"a vector has {len(values)} entries instead of {size}")
    return tuple(number_in(v) for v in values)


def _terms_in(value: object, size: int) -> dict[int, Fraction]:
    terms: dict[int, Fraction] = {}
    for pair in _list(value):
        index, coefficient = _list(pair)
        if type(index) is not int or not 0 <= index < size or index in terms:
            raise ValueError("a row has an index that is repeated or out of range")
        terms[index] = number_in(coefficient)
    return terms


def _products_in(value: object, inputs: int, outputs: int) -> dict[Monomial, Fraction]:
    products: dict[Monomial, Fraction] = {}
    for pair in _list(value):
        powers, coefficient = _list(pair)
        monomial = tuple(_power_in(p, inputs, outputs) for p in _list(powers))
        distinct = len({p[:2] for p in monomial}) == len(monomial)
        degree = sum(p.exponent for p in monomial)
        if monomial in products or not distinct or list(monomial) != sorted(monomial) or degree < 2:
            raise ValueError("a product is repeated, not sorted, or of degree below 2")
        if degree > MAX_DEGREE:
            raise ValueError(f"a product has a degree over {MAX_DEGREE}")
        products[monomial] = number_in(coefficient)
    return products


def _power_in(value: object, inputs: int, outputs: int) -> Power:
    kind, index, exponent = _list(value)
    if kind not in ("x", "y") or type(index) is not int or type(exponent) is not int:
        raise ValueError("a factor is not of the form [x or y, index, exponent]")
    if not 0 <= index < (outputs if kind == "y" else inputs) or exponent < 1:
        raise ValueError("a factor's index or exponent is out of range")
    return Power(kind == "y", index, exponent)


def _row_in(value: Mapping[str, Any], inputs: int, outputs: int) -> Row:
    strict = value["strict"]
    if type(strict) is not bool:
        raise ValueError("'strict' must be true or false")
    terms = _terms_in(value["y"], outputs), _terms_in(value["x"], inputs)
    products = _products_in(value["p"], inputs, outputs) if "p" in value else NO_PRODUCTS
    return Row(*terms, number_in(value["c"]), strict, products)


def _case_in(value: Mapping[str, Any], inputs: int, outputs: int) -> Case:
    lower, upper = _vector(value["lower"], inputs), _vector(value["upper"], inputs)
    disjuncts = tuple(
        tuple(_row_in(r, inputs, outputs) for r in _list(rows)) for rows in _list(value["disjuncts"])
    )
    ball: Ball | None = None
    if "ball" in value:
        center = _vector(value["ball"]["center"], inputs)
        radius, norm = number_in(value["ball"]["radius"]), value["ball"]["norm"]
        if radius < 0 or type(norm) is not int or norm not in {1, 2}:
            raise ValueError("a ball needs a radius of at least 0 and norm 1 or 2")
        ball = Ball(center, radius, norm)
    return Case(lower, upper, disjuncts, ball)
