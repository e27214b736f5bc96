"""What readers give."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bounds.graph import Array


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a reader has to know.

    Attributes:
        inputs, labels: names of arrays or columns, "" for the usual ones.
        channels: of images, from the network's shape (1 or 3), 0 where that does not say.
    """

    inputs: str
    labels: str
    channels: int = 0


@dataclass(frozen=True, slots=True)
class Raw:
    """All samples as a file holds them.

    Attributes:
        labels: ``N``, whatever the file has. count: N.
        names: of samples, for people.
        take: places -> their numbers ``len(places) *x``, of the file's own type.
        where: for messages.
    """

    labels: Array
    names: Sequence[str]
    take: Callable[[Array], Array]
    where: str

    @property
    def count(self) -> int:
        """How many samples there are."""
        return len(self.names)
