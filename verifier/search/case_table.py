"""The rows of very many cases as flat arrays: directions compiled once, one constant a row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from bounds.domain import Objectives
from bounds.graph import Array
from verifier.problem import float64_box
from verifier.search.objectives import constant, objectives_of, scaled
from verifier.spec.model import Case, Row

# distinct directions; every box is bounded in all of them, so few of them must serve many cases
_MOST_DIRECTIONS = 64
# boxes from which the input that differs most is read off
_SAMPLE = 256
_Key = tuple[tuple[tuple[int, int, int], ...], tuple[tuple[int, int, int], ...]]


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows (``R``) and groups (``G``) of a block of cases (``D``), all counted within the block.

    Attributes:
        box, direction, constant: ``R``: the case's place, the direction, and what is added to it.
        group_start, group_size: ``G`` rows of each group; case_start: ``D`` first groups.
        group_case: ``G`` the case of each group; group_place: ``G`` its number within the case.
    """

    box: Array
    direction: Array
    constant: Array
    group_start: Array
    group_size: Array
    case_start: Array
    group_case: Array
    group_place: Array


@dataclass(frozen=True, slots=True)
class CaseTable:
    """Cases that one pass can bound together.

    Attributes:
        cases: number of cases of the property.
        case: ``C`` indices of those in the table.
        directions: linear functions with the constant 0, one a group.
        direction, constant: per row; a row ``expr <= 0`` is refuted by ``direction + constant > 0``.
        group_start: first row of every group, and the end; case_start: first group of every case, the same.
    """

    cases: int
    case: Array
    directions: Objectives
    direction: Array
    constant: Array
    group_start: Array
    case_start: Array
    _listed: Sequence[Case]

    def boxes(self, block: Array) -> tuple[Array, Array]:
        """The boxes ``D d`` of listed cases (places in the table), rounded outwards."""
        cases = [self._listed[i] for i in self.case[block].tolist()]
        lower = [v for c in cases for v in c.lower]
        upper = [v for c in cases for v in c.upper]
        lo, hi = float64_box(lower, upper)
        return lo.reshape(len(cases), -1), hi.reshape(len(cases), -1)

    def neighbours(self) -> Array:
        """Places in the table, neighbours in the input that differs most between cases next to each other.

        The boxes of a block pay for rounding at the largest numbers of all of them, so they should be alike.
        """
        sample = np.linspace(0, len(self.case) - 1, min(len(self.case), _SAMPLE)).astype(np.int64)
        lo, hi = self.boxes(sample)
        with np.errstate(all="ignore"):
            spread = np.ptp(lo / 2 + hi / 2, axis=0)
        widest = int(np.nan_to_num(spread, posinf=0.0).argmax())
        ends = [self._listed[i].lower[widest] for i in self.case.tolist()]
        return np.argsort(float64_box(ends, ())[0], kind="stable")

    def rows_of(self, block: Array) -> Rows:
        """The rows of listed cases (places in the table)."""
        groups, case_start, group_case = _ranges(self.case_start, block)
        rows, group_start, row_group = _ranges(self.group_start, groups)
        return Rows(
            group_case[row_group],
            self.direction[rows],
            self.constant[rows],
            group_start,
            np.diff(self.group_start)[groups],
            case_start,
            group_case,
            np.arange(len(groups)) - case_start[group_case],
        )


def _ranges(start: Array, block: Array) -> tuple[Array, Array, Array]:
    """The concatenated ranges ``start[i]:start[i + 1]`` for i in ``block``: their members, where each range
    begins among these, and the range of each member."""
    sizes = start[block + 1] - start[block]
    begin = np.cumsum(sizes) - sizes
    owner = np.repeat(np.arange(len(block)), sizes)
    return start[block][owner] + np.arange(len(owner)) - begin[owner], begin, owner


def tabulate(
    cases: Sequence[Case], inputs: int, outputs: int, listed_only: Iterable[int] | None = None
) -> CaseTable | None:
    """The table of all (or of the listed) cases that fit one; None where there are none.

    Left out are cases that are empty or partial, that have an empty disjunct, or extreme coefficients, and
    those that would need too many directions.
    """
    known: dict[_Key, int] = {}
    directions: list[Row] = []
    listed: list[int] = []
    direction: list[int] = []
    constants: list[float] = []
    group_sizes: list[int] = []
    case_sizes: list[int] = []
    for index in range(len(cases)) if listed_only is None else listed_only:
        case = cases[index]
        if case.partial or not case.disjuncts or not all(case.disjuncts) or case.empty:
            continue
        rows = [row for disjunct in case.disjuncts for row in disjunct]
        found = _directions(rows, known, directions)
        if found is None:
            continue
        listed.append(index)
        direction += found
        constants += [constant(row.constant) for row in rows]
        group_sizes += [len(disjunct) for disjunct in case.disjuncts]
        case_sizes.append(len(case.disjuncts))
    if not listed:
        return None
    one_each = replace(cases[listed[0]], disjuncts=tuple((row,) for row in directions))
    return CaseTable(
        len(cases),
        np.array(listed),
        objectives_of(one_each, inputs, outputs),
        np.array(direction),
        np.array(constants),
        np.cumsum([0, *group_sizes]),
        np.cumsum([0, *case_sizes]),
        cases,
    )


def _directions(rows: Sequence[Row], known: dict[_Key, int], directions: list[Row]) -> list[int] | None:
    """The direction of each row, new ones added; None where one cannot be added."""
    found: list[int] = []
    for row in rows:
        key = (_entries(row.outputs), _entries(row.inputs))
        place = known.get(key)
        if place is None:
            bare = Row(row.outputs, row.inputs, Fraction(0))
            if len(directions) >= _MOST_DIRECTIONS or scaled(bare) is not bare:
                return None
            place = known[key] = len(directions)
            directions.append(bare)
        found.append(place)
    return found


def _entries(side: Mapping[int, Fraction]) -> tuple[tuple[int, int, int], ...]:
    # whole numbers hash much faster than fractions
    return tuple((i, v.numerator, v.denominator) for i, v in side.items())
