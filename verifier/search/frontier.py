"""The open subproblems, least lower bound first.

The order does not change how many subproblems a proof needs, but counterexamples live where bounds are
worst. Subproblems are kept in small batches ordered by their least bound, so that no Python runs
per subproblem.
"""

from __future__ import annotations

import heapq
import itertools
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

from bounds.graph import Array

_PIECE = 64


class Batch(Protocol):
    """Subproblems as parallel arrays."""

    lb: Array

    def __len__(self) -> int: ...

    def take(self, index: Any) -> Any:
        """Some of them."""
        ...

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        ...


B = TypeVar("B", bound=Batch)


class Frontier(Generic[B]):
    """A heap of batches."""

    def __init__(self, roots: B | None = None) -> None:
        self._heap: list[tuple[float, int, B]] = []
        self._order = itertools.count()
        self._count = 0
        self._bytes = 0
        if roots is not None:
            self.push(roots)

    def __len__(self) -> int:
        return self._count

    def push(self, domains: B) -> None:
        """Adds open subproblems."""
        # a NaN bound orders as the worst
        order = np.argsort(np.where(np.isnan(domains.lb), -np.inf, domains.lb), kind="stable")
        for start in range(0, len(order), _PIECE):
            piece = domains.take(order[start : start + _PIECE])
            # among equals the newest first: that keeps the frontier small
            heapq.heappush(self._heap, (_key(piece), -next(self._order), piece))
            self._count += len(piece)
            self._bytes += _size(piece)

    def pop(self, count: int) -> B:
        """Removes and returns up to ``count`` subproblems, those with the least bounds first."""
        taken: list[B] = []
        while self._heap and count > 0:
            _, order, piece = heapq.heappop(self._heap)
            self._bytes -= _size(piece)
            if len(piece) > count:
                rest = piece.take(slice(count, None))
                heapq.heappush(self._heap, (_key(rest), order, rest))
                self._bytes += _size(rest)
                piece = piece.take(slice(0, count))
            taken.append(piece)
            count -= len(piece)
            self._count -= len(piece)
        if len(taken) == 1:
            return taken[0]
        together: Any = type(taken[0])
        return together.concat(taken)

    @property
    def bytes(self) -> int:
        """Bytes held by the open subproblems."""
        return self._bytes

    def peek(self) -> B:
        """The batch with the least lower bound first, left where it is; there must be one."""
        return self._heap[0][2]

    def all(self) -> B | None:
        """All open subproblems in one batch, the order in which they would be taken as far as it is known."""
        parts = [piece for _, _, piece in sorted(self._heap, key=lambda entry: entry[:2])]
        if not parts:
            return None
        together: Any = type(parts[0])
        return together.concat(parts)

    def worst(self) -> float | None:
        """The least lower bound waiting, or None when nothing is open."""
        return self._heap[0][0] if self._heap else None


def _key(piece: Batch) -> float:
    """The least bound of a piece, which is its first one."""
    return float(piece.lb[0]) if np.isfinite(piece.lb[0]) else -np.inf


def _size(piece: Batch) -> int:
    return piece.nbytes
