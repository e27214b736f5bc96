"""Writes properties in VNN-LIB 1.0."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import lcm

from bounds.errors import BadInput

from .exact import exact_decimal
from .model import Case, Property, Row


def emit_vnnlib1(prop: Property) -> str:
    """VNN-LIB 1.0 text with the same meaning, exactly.

    Numbers without an exact decimal notation are avoided by multiplying the comparison out.

    Raises:
        BadInput: VNN-LIB 1.0 cannot express it (several networks, hidden nodes, balls, products).
    """
    if len(prop.networks) != 1 or any(v.kind == "hidden" for v in prop.variables):
        raise BadInput("VNN-LIB 1.0 has one network and no hidden nodes; save the property as JSON instead")
    if any(case.ball is not None for case in prop.cases):
        raise BadInput("VNN-LIB 1.0 has no 1-norm or 2-norm balls; save the property as JSON instead")
    if any(row.products for case in prop.cases for rows in case.disjuncts for row in rows):
        raise BadInput("VNN-LIB 1.0 has no products of variables; save the property as JSON instead")
    if any(case.partial for case in prop.cases):
        raise BadInput("an input has no bounds, and the box read is only a part of what is allowed; bound it")
    lines = [f"(declare-const X_{i} Real)" for i in range(prop.input_size)]
    lines += [f"(declare-const Y_{i} Real)" for i in range(prop.output_size)]
    if len(prop.cases) == 1:
        lines += [f"(assert {atom})" for atom in _box(prop.cases[0])]
        lines += _condition(prop.cases[0].disjuncts)
    elif not prop.cases:
        # no input can violate the property; the reader still wants a box
        lines += [f"(assert (= X_{i} 0.0))" for i in range(prop.input_size)] + [f"(assert {_FALSE})"]
    else:
        lines += ["(assert (or"]
        for case in prop.cases:
            # one line per disjunct, as the competition files have it
            box = _box(case)
            wanted = case.disjuncts or ((_NEVER,),)
            lines += [f"  {_junction('and', [*box, *(_atom(r) for r in rows)])}" for rows in wanted]
        lines += ["))"]
    return "\n".join(lines) + "\n"


_FALSE = "(<= 1.0 0.0)"
_NEVER = Row({}, {}, Fraction(1))


def _condition(disjuncts: Sequence[Sequence[Row]]) -> list[str]:
    if len(disjuncts) == 1:
        return [f"(assert {_atom(row)})" for row in disjuncts[0]]
    if any(not rows for rows in disjuncts):
        return []
    written = [f"  {_junction('and', [_atom(r) for r in rows])}" for rows in disjuncts]
    return ["(assert (or", *written, "))"] if written else [f"(assert {_FALSE})"]


def _junction(head: str, atoms: list[str]) -> str:
    return atoms[0] if len(atoms) == 1 else f"({head} {' '.join(atoms)})"


def _box(case: Case) -> list[str]:
    atoms: list[str] = []
    for i, (lower, upper) in enumerate(zip(case.lower, case.upper, strict=True)):
        atoms.append(_comparison(">=", [(Fraction(1), f"X_{i}")], lower))
        atoms.append(_comparison("<=", [(Fraction(1), f"X_{i}")], upper))
    return atoms


def _atom(row: Row) -> str:
    terms = [(c, f"Y_{i}") for i, c in sorted(row.outputs.items()) if c]
    terms += [(c, f"X_{j}") for j, c in sorted(row.inputs.items()) if c]
    op = "<" if row.strict else "<="
    if len(terms) == 1 and terms[0][0] < 0:
        return _comparison(op.replace("<", ">"), [(-terms[0][0], terms[0][1])], row.constant)
    if sorted(c for c, _ in terms) == [-1, 1] and row.constant == 0:
        # the usual comparison of two variables
        names = dict(terms)
        return f"({op} {names[Fraction(1)]} {names[Fraction(-1)]})"
    return _comparison(op, terms, -row.constant)


def _comparison(op: str, terms: list[tuple[Fraction, str]], bound: Fraction) -> str:
    """``sum of terms op bound``, multiplied out when some number has no decimal notation."""
    numbers = [bound, *(c for c, _ in terms)]
    if any(exact_decimal(n) is None for n in numbers):
        scale = lcm(*(n.denominator for n in numbers))
        terms, bound = [(c * scale, name) for c, name in terms], bound * scale
    written = [name if c == 1 else f"(* {exact_decimal(c)} {name})" for c, name in terms]
    if not written:
        left = "0.0"
    else:
        left = written[0] if len(written) == 1 else f"(+ {' '.join(written)})"
    return f"({op} {left} {exact_decimal(bound)})"
