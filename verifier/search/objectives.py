"""From a case's exact rows to the arrays the bounder works on."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from bounds.domain import Objectives
from bounds.graph import Array
from verifier.spec.model import Case, Row


def objectives_of(case: Case, inputs: int, outputs: int) -> Objectives:
    """Every row of every disjunct as an objective; a row ``expr <= 0`` is refuted by ``expr > 0``.

    Args:
        case: none of its disjuncts may be empty.
        inputs, outputs: flat sizes.
    """
    rows = [row for disjunct in case.disjuncts for row in disjunct]
    c, g = np.zeros((len(rows), outputs)), np.zeros((len(rows), inputs))
    d = np.zeros(len(rows))
    rounded = False
    for s, row in enumerate(rows):
        for target, entries in ((c, row.outputs), (g, row.inputs)):
            for i, v in entries.items():
                target[s, i] = near = float(v)
                rounded = rounded or Fraction(near) != v
        d[s] = near = float(row.constant)
        rounded = rounded or Fraction(near) != row.constant
    return Objectives(
        c,
        g,
        d,
        np.array([row.strict for row in rows], dtype=bool),
        np.cumsum([0, *(len(disjunct) for disjunct in case.disjuncts)]),
        rounded,
        lambda: _rational(rows, inputs, outputs),
    )


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
