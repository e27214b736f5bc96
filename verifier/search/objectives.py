"""From a case's exact rows to the arrays the bounder works on."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from bounds.domain import Objectives
from bounds.graph import Array
from verifier.spec.model import Case, Row

# smallest normal float64: below it a rounded number's relative error has no bound
_SMALLEST = float(np.finfo(np.float64).tiny)
# rows whose largest coefficient lies between 2**-60 and 2**60 are taken as they are
_MODERATE = 60
# numbers between 2**-1000 and 2**1000 are well within float64's normal range
_SAFE = 1000


def objectives_of(case: Case, inputs: int, outputs: int) -> Objectives:
    """Every row of every disjunct as an objective; a row ``expr <= 0`` is refuted by ``expr > 0``.

    Args:
        case: none of its disjuncts may be empty.
        inputs, outputs: flat sizes.

    Soundness: float64 rounds coefficients with a bounded relative error. A row for which it cannot (its
    coefficients differ by more than float64's range) gets the constant minus infinity, so that only exact
    arithmetic can refute it.
    """
    rows = [scaled(row) for disjunct in case.disjuncts for row in disjunct]
    c, g = np.zeros((len(rows), outputs)), np.zeros((len(rows), inputs))
    d = np.zeros(len(rows))
    rounded = False
    for s, row in enumerate(rows):
        lost = False
        for target, entries in ((c, row.outputs), (g, row.inputs)):
            for i, v in entries.items():
                target[s, i] = near = float(v)
                rounded = rounded or Fraction(near) != v
                lost = lost or (v != 0 and abs(near) < _SMALLEST)
        d[s] = near = -np.inf if lost else constant(row.constant)
        rounded = rounded or not np.isfinite(near) or Fraction(near) != row.constant
    return Objectives(
        c,
        g,
        d,
        np.array([row.strict for row in rows], dtype=bool),
        np.cumsum([0, *(len(disjunct) for disjunct in case.disjuncts)]),
        rounded,
        lambda: _rational(rows, inputs, outputs),
    )


def scaled(row: Row) -> Row:
    """The row times the power of two that makes its largest coefficient a moderate number.

    Only rows in which it is extreme are touched; the row's sign, all that matters, stays.
    """
    largest = max((abs(v) for v in (*row.outputs.values(), *row.inputs.values())), default=Fraction(0))
    shift = largest.numerator.bit_length() - largest.denominator.bit_length()
    if not largest or abs(shift) <= _MODERATE:
        return row
    factor = Fraction(1, 1 << shift) if shift > 0 else Fraction(1 << -shift)
    outputs = {i: v * factor for i, v in row.outputs.items()}
    inputs = {j: v * factor for j, v in row.inputs.items()}
    return Row(outputs, inputs, row.constant * factor, row.strict)


def constant(value: Fraction) -> float:
    """The nearest float64 within its normal range, beyond it one below the value: that weakens a bound."""
    if abs(value.numerator.bit_length() - value.denominator.bit_length()) < _SAFE:
        return float(value)
    limit = Fraction(float(np.finfo(np.float64).max))
    if abs(value) > limit:
        return float(limit) if value > 0 else -np.inf
    near = float(value)
    if value != 0 and abs(near) < _SMALLEST:
        return 0.0 if value > 0 else -_SMALLEST
    return near


def _rational(rows: Sequence[Row], inputs: int, outputs: int) -> tuple[Array, Array, Array]:
    c = np.full((len(rows), outputs), Fraction(0), dtype=object)
    g = np.full((len(rows), inputs), Fraction(0), dtype=object)
    d = np.full(len(rows), Fraction(0), dtype=object)
    for s, row in enumerate(rows):
        for i, v in row.outputs.items():
            c[s, i] = Fraction(v)
        for j, v in row.inputs.items():
            g[s, j] = Fraction(v)
        d[s] = Fraction(row.constant)
    return c, g, d
