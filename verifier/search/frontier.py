"""The open subproblems: a stack of batches (newest first keeps it small)."""

from __future__ import annotations

from bounds.domain import Domains


class Frontier:
    """Last in, first out; pops any number at once."""

    def __init__(self, roots: Domains) -> None:
        self._pieces: list[Domains] = [roots] if len(roots) else []
        self._count = len(roots)

    def __len__(self) -> int:
        return self._count

    def push(self, domains: Domains) -> None:
        """Adds open subproblems."""
        if len(domains):
            self._pieces.append(domains)
            self._count += len(domains)

    def pop(self, count: int) -> Domains:
        """Removes and returns up to ``count`` subproblems, the newest ones."""
        taken: list[Domains] = []
        while self._pieces and count > 0:
            piece = self._pieces.pop()
            if len(piece) > count:
                self._pieces.append(piece.take(slice(0, len(piece) - count)))
                piece = piece.take(slice(len(piece) - count, None))
            taken.append(piece)
            count -= len(piece)
            self._count -= len(piece)
        return taken[0] if len(taken) == 1 else Domains.concat(taken)

    @property
    def bytes(self) -> int:
        """Bytes held by the open subproblems."""
        return sum(p.lo.nbytes + p.hi.nbytes + p.open.nbytes + 24 * len(p) for p in self._pieces)

    def worst(self) -> float | None:
        """The least lower bound waiting, or None when nothing is open."""
        return min((float(p.lb.min()) for p in self._pieces), default=None)

    def pieces(self) -> list[Domains]:
        """The waiting batches, oldest first."""
        return list(self._pieces)
