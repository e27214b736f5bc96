"""Lagrange multipliers of operands' intervals, for packed rows.

Every point of a subproblem has ``lo <= z <= hi`` for a split operand z. A row bounded from below may
subtract ``beta (z - lo)`` for any ``beta > 0`` and ``|beta| (hi - z)`` for any ``beta < 0``, both being at
least zero there. Clamping z's interval alone narrows relaxations; only the multiplier moves the row's
minimiser into the region.
References: Wang et al., Beta-CROWN (2021), for the split ends of rectifiers; Shi et al. 2024 (GenBaB) for
other steps. The ends that were not split count as well here: a row's linear map of z may leave its interval.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bounds.graph import Array
from bounds.methods.splits import Splits, locate
from bounds.methods.tape import Tape


@dataclass(frozen=True, slots=True)
class SlotPairs:
    """The (row, operand) pairs that lie in one slot.

    Attributes:
        pairs: ``P'`` positions in the vector of multipliers.
        row, element: ``P'`` packed row, element of the slot.
        lo, hi: ``P'`` the operand's interval.
        reach: ``P'`` bound on ``|z|``.
        repeats: largest number of pairs of one element in a row; most: of any in a row (for rounding).
    """

    pairs: Any
    row: Any
    element: Any
    lo: Any
    hi: Any
    reach: Any
    repeats: int
    most: int


@dataclass(slots=True)
class Multipliers:
    """Multipliers ``beta: P`` of all (row, operand) pairs.

    Attributes:
        beta: ``P``, of either sign.
        row, column: ``P`` where they belong: row, and column of its splits.
        scale: ``P`` the unit in which they are moved (what coefficients there are like).
        slots: slot -> its pairs.
    """

    beta: Any
    row: Any
    column: Any
    scale: Any
    slots: dict[int, SlotPairs]

    def with_beta(self, beta: Any) -> Multipliers:
        """Other values for the same pairs."""
        return Multipliers(beta, self.row, self.column, self.scale, self.slots)


def multipliers_of(
    tape: Tape, splits: Splits, dom: Any, ends: tuple[Array, Array] | None = None
) -> Multipliers | None:
    """The multipliers of rows, as their splits hold them; None without splits.

    Args:
        tape: the subproblems' relaxations.
        splits: of the rows (``R``).
        dom: ``R``, the subproblem of each row.
        ends: ``R`` each, the interval of every row's last split where it differs from the tape's.
    """
    k, plan = tape.kernels, tape.plan
    row, column = splits.pairs()
    if not len(row):
        return None
    q, beta = splits.operand[row, column], splits.beta[row, column]
    boxes = np.asarray(k.numpy(dom)).astype(np.int64)[row]
    operands = plan.operands
    which, slot, element = locate(operands, q)
    lo, hi = np.zeros(len(row)), np.zeros(len(row))
    for w in np.unique(which):
        mine = np.flatnonzero(which == w)
        at = k.array(boxes[mine]), k.array(element[mine])
        low, high = tape.relaxations[operands[w].index].intervals[operands[w].position]
        lo[mine], hi[mine] = k.numpy(low[at]), k.numpy(high[at])
    if ends is not None:
        last = column == splits.depth - 1
        lo[last], hi[last] = ends[0][row[last]], ends[1][row[last]]
    reach = tape.reaches
    slots: dict[int, SlotPairs] = {}
    for s in np.unique(slot):
        pairs = np.flatnonzero(slot == s)
        places = row[pairs] * plan.sizes[int(s)] + element[pairs]
        slots[int(s)] = SlotPairs(
            k.array(pairs),
            k.array(row[pairs]),
            k.array(element[pairs]),
            k.array(lo[pairs]),
            k.array(hi[pairs]),
            k.take(reach[int(s)], k.array(element[pairs])),
            int(np.unique(places, return_counts=True)[1].max()),
            int(np.bincount(row[pairs]).max()),
        )
    held = k.array(beta.astype(np.float64))
    return Multipliers(held, k.array(row), k.array(column), k.zeros(len(row)), slots)
