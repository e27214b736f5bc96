"""Splits of operands: what tells subproblems apart that share an input box and its intermediate bounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bounds.graph import Array
from bounds.plan import Operand


@dataclass(slots=True)
class Splits:
    """The operand splits on the way to each of ``D`` subproblems, padded to the deepest (``K``).

    Attributes:
        operand: ``D K`` int32 number of the operand (:attr:`bounds.plan.Plan.operands`), -1 for none.
        point: ``D K`` float32 where it was split.
        side: ``D K`` int8, 1 where the subproblem has ``z >= point``, -1 where ``z <= point``.
        node: ``D K`` int64 the tree's node that was split.
        beta: ``D K`` float32 multipliers found so far; of several splits of one operand only the last has
        one.
    """

    operand: Array
    point: Array
    side: Array
    node: Array
    beta: Array

    def __len__(self) -> int:
        return len(self.operand)

    @property
    def depth(self) -> int:
        """K."""
        return self.operand.shape[1]

    @staticmethod
    def none(count: int) -> Splits:
        """Subproblems without splits."""
        empty = np.zeros((count, 0))
        return Splits(
            empty.astype(np.int32),
            empty.astype(np.float32),
            empty.astype(np.int8),
            empty.astype(np.int64),
            empty.astype(np.float32),
        )

    def take(self, index: Array | slice) -> Splits:
        """The listed (or masked) subproblems."""
        return Splits(*(getattr(self, f)[index] for f in _FIELDS))

    @staticmethod
    def concat(parts: list[Splits]) -> Splits:
        """All of them in order."""
        depth = max(p.depth for p in parts)
        padded = [p.padded(depth) for p in parts]
        return Splits(*(np.concatenate([getattr(p, f) for p in padded]) for f in _FIELDS))

    def padded(self, depth: int) -> Splits:
        """With room for ``depth`` splits."""
        more = ((0, 0), (0, depth - self.depth))
        return Splits(
            np.pad(self.operand, more, constant_values=-1),
            *(np.pad(getattr(self, f), more) for f in _FIELDS[1:]),
        )

    def with_split(self, operand: Array, point: Array, side: int, node: Array, beta: Array) -> Splits:
        """One more split for each subproblem (all arguments ``D``, one side for all)."""
        return Splits(
            np.column_stack([self.operand, operand.astype(np.int32)]),
            np.column_stack([self.point, point.astype(np.float32)]),
            np.column_stack([self.side, np.full(len(self), side, dtype=np.int8)]),
            np.column_stack([self.node, node.astype(np.int64)]),
            np.column_stack([self.beta, beta.astype(np.float32)]),
        )

    def pairs(self) -> tuple[Array, Array]:
        """Subproblem and column of the last split of every operand that was split."""
        row, column = np.nonzero(self.operand >= 0)
        order = np.lexsort((column, self.operand[row, column], row))
        row, column = row[order], column[order]
        q = self.operand[row, column]
        last = np.ones(len(row), dtype=bool)
        last[:-1] = (row[1:] != row[:-1]) | (q[1:] != q[:-1])
        return row[last], column[last]

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return sum(getattr(self, f).nbytes for f in _FIELDS)


_FIELDS = ("operand", "point", "side", "node", "beta")


def locate(operands: Sequence[Operand], numbers: Array) -> tuple[Array, Array, Array]:
    """Which of a plan's operands numbers ``P`` are, in which slots they lie, and their elements there."""
    offsets = np.array([o.offset for o in operands])
    which = np.searchsorted(offsets, numbers, side="right") - 1
    return which, np.array([o.slot for o in operands])[which], numbers - offsets[which]
