"""Exact evaluation of a property at one point: no tolerance anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from bounds.errors import QueryMismatch

from .model import Case, Property


def inside(case: Case, x: Sequence[Fraction]) -> bool:
    """Whether ``x`` lies in the case's box and, where there is one, in its ball."""
    if not all(lo <= v <= hi for lo, v, hi in zip(case.lower, x, case.upper, strict=True)):
        return False
    return case.ball is None or case.ball.contains(x)


def violation(prop: Property, x: Sequence[Fraction], y: Sequence[Fraction]) -> tuple[int, int] | None:
    """Where the property is violated by inputs ``x`` whose hidden and output values are ``y``.

    Args:
        prop: the property.
        x: flat inputs, exact.
        y: flat hidden and output elements, exact.

    Returns:
        Indices of the first (case, disjunct) that holds, or None when none does.

    Raises:
        QueryMismatch: ``x`` or ``y`` has the wrong length.
    """
    for what, given, wanted in (
        ("inputs", len(x), prop.input_size),
        ("outputs", len(y), prop.output_size),
    ):
        if given != wanted:
            raise QueryMismatch(f"the point has {given} {what}, the property {wanted}; give {wanted} values")
    xs, ys = dict(enumerate(x)), dict(enumerate(y))
    for c, case in enumerate(prop.cases):
        if not inside(case, x):
            continue
        for d, rows in enumerate(case.disjuncts):
            if all(row.holds(row.value(xs, ys)) for row in rows):
                return c, d
    return None
