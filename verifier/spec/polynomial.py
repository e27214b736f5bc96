"""Polynomial atoms as linear ones: every product of variables counts as one more output.

Whoever bounds a network extends it by these outputs (:mod:`bounds.monomials`); confirming a point needs
nothing of this, as rows evaluate their products exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

from .model import Case, Monomial, Property, Row


def monomials(prop: Property) -> tuple[Monomial, ...]:
    """The distinct products of variables in a property, in order of first appearance."""
    found: dict[Monomial, None] = {}
    for case in prop.cases:
        for rows in case.disjuncts:
            for row in rows:
                found.update(dict.fromkeys(row.products))
    return tuple(found)


def linear_cases(prop: Property) -> tuple[Case, ...]:
    """The same cases without products: monomial number k is output element ``output_size + k``."""
    place = {m: prop.output_size + k for k, m in enumerate(monomials(prop))}
    if not place:
        return prop.cases

    def linear(row: Row) -> Row:
        if not row.products:
            return row
        outputs = {**row.outputs, **{place[m]: c for m, c in row.products.items()}}
        return Row(outputs, row.inputs, row.constant, row.strict)

    return tuple(
        replace(case, disjuncts=tuple(tuple(map(linear, rows)) for rows in case.disjuncts))
        for case in prop.cases
    )


def interval(
    monomial: Monomial, x: Sequence[Fraction], low: Sequence[Fraction], high: Sequence[Fraction]
) -> tuple[Fraction, Fraction]:
    """Limits of a product at inputs ``x``, for all outputs between ``low`` and ``high``; exact arithmetic."""
    least = most = Fraction(1)
    for output, index, exponent in monomial:
        a, b = (low[index], high[index]) if output else (x[index], x[index])
        ends = [a**exponent, b**exponent]
        if a < 0 < b and exponent % 2 == 0:
            ends.append(Fraction(0))
        products = [p * q for p in (least, most) for q in (min(ends), max(ends))]
        least, most = min(products), max(products)
    return least, most
