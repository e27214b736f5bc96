"""Subproblem batches and objectives: plain arrays, no search."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from bounds.graph import Array


@dataclass(frozen=True, slots=True)
class Objectives:
    """Linear functions of outputs and inputs to be bounded from below, in groups.

    ``f_s(x) = c[s] . y(x) + g[s] . x + d[s]``. A group (a disjunct of the property) is refuted on a box
    when one of its rows is positive everywhere on it (``>= 0`` for a strict row).

    Attributes:
        c: ``S outputs``; g: ``S inputs``; d: ``S`` - float64, nearest to the exact values.
        strict: ``S`` bool, true where ``f >= 0`` already refutes.
        start: ``K + 1``: rows ``start[k]:start[k+1]`` are group k; every group has at least one row.
        rounded: some entry is not the exact value (its relative error is at most 2**-53).
        rational: builds (c, g, d) as arrays of ``Fraction`` for exact arithmetic.
    """

    c: Array
    g: Array
    d: Array
    strict: Array
    start: Array
    rounded: bool
    rational: Callable[[], tuple[Array, Array, Array]]

    @property
    def rows(self) -> int:
        """S."""
        return len(self.d)

    @property
    def groups(self) -> int:
        """K."""
        return len(self.start) - 1

    @property
    def group_of_row(self) -> Array:
        """``S``: the group of each row."""
        return np.repeat(np.arange(self.groups), np.diff(self.start))


@dataclass(slots=True)
class Domains:
    """A batch of subproblems as parallel arrays (``D`` of them).

    Attributes:
        lo, hi: ``D x`` float64 boxes.
        id: ``D`` int64, never reused.
        open: ``D K`` bool, groups not refuted here or at an ancestor.
        lb: ``D`` float64, the parent's worst group bound (for ordering and reports).
        volume: ``D`` float64, fraction of the root box.
    """

    lo: Array
    hi: Array
    id: Array
    open: Array
    lb: Array
    volume: Array

    def __len__(self) -> int:
        return len(self.id)

    def take(self, index: Any) -> Domains:
        """The listed (or masked) subproblems."""
        return Domains(*(getattr(self, f)[index] for f in ("lo", "hi", "id", "open", "lb", "volume")))

    @property
    def nbytes(self) -> int:
        """Bytes held, about."""
        return self.lo.nbytes + self.hi.nbytes + self.open.nbytes + 24 * len(self)

    @staticmethod
    def concat(parts: list[Domains]) -> Domains:
        """All of them in order."""
        names = ("lo", "hi", "id", "open", "lb", "volume")
        return Domains(*(np.concatenate([getattr(p, f) for p in parts]) for f in names))

    def split(self, dim: Array, at: Array, first_id: int) -> Domains:
        """Two children for each: ``x[dim] <= at`` and ``x[dim] >= at``.

        Returns:
            ``2 D`` subproblems, left children first; the children of i have ids ``first_id + 2 i`` and
            ``first_id + 2 i + 1``. They cover their parent because both keep the split plane.
        """
        d = len(self)
        rows = np.arange(d)
        hi, lo = self.hi.copy(), self.lo.copy()
        hi[rows, dim] = at
        lo[rows, dim] = at
        ids = first_id + 2 * rows
        return Domains(
            np.concatenate([self.lo, lo]),
            np.concatenate([hi, self.hi]),
            np.concatenate([ids, ids + 1]),
            np.concatenate([self.open, self.open]),
            np.concatenate([self.lb, self.lb]),
            np.concatenate([self.volume, self.volume]) / 2,
        )
