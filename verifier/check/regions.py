"""What splits of operands say: limits of elements of tensors, and multipliers of those splits in rows.

A region is an input box with conditions ``z <= p`` or ``z >= p`` on elements of tensors. Shapes: ``R`` rows,
``K`` and ``G`` single facts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from verifier.check.arithmetic import Arithmetic
from verifier.check.network import Array
from verifier.check.nonlinear import Relaxed
from verifier.check.state import Choices, Interval, Layout, Marks, Rows, State, unbounded


@dataclass(frozen=True, slots=True)
class Splits:
    """Splits of operands on the way to nodes of the tree; all (K,).

    Attributes:
        of: which node, as a position in the list of nodes asked about.
        operand: the operand's number.
        at: the split point, float64.
        right: whether the node lies where ``z >= at``, otherwise ``z <= at``.
    """

    of: Array
    operand: Array
    at: Array
    right: Array


@dataclass(frozen=True, slots=True)
class Limits:
    """``low <= z[element] <= high`` for one tensor, on region ``of``; all (K,), (of, element) distinct."""

    of: Array
    element: Array
    low: Array
    high: Array

    def apply(self, low: Array, high: Array) -> tuple[Array, Array, Array]:
        """Intervals (regions, n) cut down, and the regions (regions,) where that would leave nothing.

        There the upper end stands for both: whatever is said about points that do not exist is true.
        """
        low, high, at = low.copy(), high.copy(), (self.of, self.element)
        there = np.asarray(low[at] <= high[at], bool)
        least, most = np.maximum(low[at], self.low), np.minimum(high[at], self.high)
        crossed = there & np.asarray(least > most, bool)
        low[at], high[at] = np.where(crossed, most, least), most
        empty = np.zeros(len(low), bool)
        empty[self.of[crossed]] = True
        return low, high, empty


def limits_of(layout: Layout, to: Arithmetic, splits: Splits) -> dict[int, Limits]:
    """By tensor, so that every reader of it learns of them."""
    tensor, element = layout.locate(splits.operand)
    found: dict[int, Limits] = {}
    for t in np.unique(tensor).tolist():
        mine = tensor == t
        size = layout.network.nodes[t].size
        pairs, back = np.unique(splits.of[mine] * size + element[mine], return_inverse=True)
        at, right = splits.at[mine], splits.right[mine]
        low, high = np.full(len(pairs), -np.inf), np.full(len(pairs), np.inf)
        np.maximum.at(low, back[right], at[right])
        np.minimum.at(high, back[~right], at[~right])
        found[t] = Limits(*np.divmod(pairs, size), to.array(low), to.array(high))
    return found


@dataclass(frozen=True, slots=True)
class Sharp:
    """Parameters of single rows of step 3 that replace the box's own.

    Attributes:
        box, operand: (H,) position of the box in the block, and the number of the operand bounded.
        upper: (H,) 1 for its upper, 0 for its lower bound.
        choices: H lines.
    """

    box: Array
    operand: Array
    upper: Array
    choices: Choices

    def among(self, first: int, count: int) -> Sharp:
        """The rows about ``count`` operands from number ``first`` on, which becomes 0."""
        mine = np.flatnonzero((self.operand >= first) & (self.operand < first + count))
        return Sharp(self.box[mine], self.operand[mine] - first, self.upper[mine], self.choices[mine])


@dataclass(frozen=True, slots=True)
class Given:
    """What a certificate says about the boxes of a block.

    Attributes:
        choice: the boxes' own lines.
        marks: what step 3 bounds; None: nothing.
        limits: the conditions of the boxes' regions on operands, by tensor.
        sharp: rows of step 3 with choices of their own.
    """

    choice: Choices | None = None
    marks: Marks | None = None
    limits: Mapping[int, Limits] = field(default_factory=dict[int, Limits])
    sharp: Sharp | None = None


NOTHING = Given()


@dataclass(frozen=True, slots=True)
class Multipliers:
    """Terms ``-weight (z - end)`` of rows, z an element of a tensor.

    With a positive weight the end is a lower bound of z, with a negative one an upper bound: a term is never
    positive, so rows with such terms lie below those without.

    Attributes:
        row, tensor, element, weight, end: (G,); ends are numbers.
        lost: (R,) rows with terms whose end is infinite, of which nothing is known.
    """

    row: Array
    tensor: Array
    element: Array
    weight: Array
    end: Array
    lost: Array

    def into_constant(self, to: Arithmetic, rows: Rows) -> None:
        """Adds ``weight end``: every product and partial sum rounds once."""
        if not len(self.row):
            return
        terms = self.weight * self.end
        total, size = rows.constant * 0, rows.constant * 0
        np.add.at(total, self.row, terms)
        np.add.at(size, self.row, np.abs(terms))
        rows.constant = rows.constant + total
        most = int(np.bincount(self.row).max())
        spent = to.gamma(most) * size + (most + 1) * to.tiny + 2 * to.u * np.abs(rows.constant)
        rows.error = rows.error + spent

    def into(self, to: Arithmetic, state: State, rows: Rows, i: int, a: Array | None) -> Array | None:
        """Coefficients (R, n) of tensor i together with those of the terms; every sum rounds once."""
        mine = np.flatnonzero(self.tensor == i)
        if not mine.size:
            return a
        row, element, weight = self.row[mine], self.element[mine], self.weight[mine]
        sums = np.zeros((len(rows.box), state.low[i].shape[1]), to.dtype) if a is None else a.copy()
        size = np.abs(sums[row, element]) + np.abs(weight)
        np.subtract.at(sums, (row, element), weight)
        if not to.exact:
            # k terms on one element are off by at most gamma_k (|a| + their sizes), wherever z is
            mag = state.mag[i][rows.box[row], element]
            most = int(np.unique(row * sums.shape[1] + element, return_counts=True)[1].max())
            np.add.at(rows.error, row, to.gamma(most) * size * mag + to.tiny * (1 + mag))
        return sums


@dataclass(frozen=True, slots=True)
class Regions:
    """The parts of their boxes that rows are about, one for each of R rows.

    Attributes:
        box: (R,) the rows' boxes.
        low, high: (R, inputs) input boxes.
        operands, relaxed: intervals (R, n) of operands, and relaxations, of those nonlinear nodes of which
            operands are limited further than in the box.
        empty: (R,) whether no point satisfies the conditions.
    """

    box: Array
    low: Array
    high: Array
    operands: Mapping[int, list[Interval]]
    relaxed: Mapping[int, Relaxed]
    empty: Array

    def multipliers(
        self, to: Arithmetic, layout: Layout, state: State, terms: tuple[Array, Array, Array]
    ) -> Multipliers:
        """Terms given as rows, operand numbers and weights (G,), with the ends known in these regions.

        Any end of a computed interval will do: it bounds z for every point of the region.
        """
        row, operand, weight = terms
        slot, element = layout.slot(operand)
        tensor, _ = layout.locate(operand)
        end = np.zeros(len(row), to.dtype)
        for s in np.unique(slot).tolist():
            _, i, k = layout.slots[s]
            mine = slot == s
            whole = i not in self.operands
            low, high = state.operands[i][k] if whole else self.operands[i][k]
            at = (self.box[row[mine]] if whole else row[mine]), element[mine]
            end[mine] = np.where(weight[mine] > 0, low[at], high[at])
        used, open_ = np.asarray(weight != 0, bool), unbounded(end) | np.asarray(end != end, bool)
        lost = np.zeros(len(self.box), bool)
        lost[row[used & open_]] = True
        known = used & ~open_
        return Multipliers(row[known], tensor[known], element[known], weight[known], end[known], lost)
