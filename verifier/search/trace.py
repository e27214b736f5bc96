"""Who listens to a search: statistics, progress, and the record from which a certificate is written."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

import numpy as np

from bounds.domain import Domains
from bounds.graph import Array
from bounds.methods.bounder import Evidence


class Tracer(Protocol):
    """Receives what happens to subproblems; ids are never reused."""

    def refuted(self, domains: Domains, evidence: Evidence) -> None:
        """Groups were refuted on boxes (``evidence.box`` indexes ``domains``)."""
        ...

    def split(self, domains: Domains, dim: Array, at: Array, first_child: int) -> None:
        """Domain i was split; its children have ids ``first_child + 2 i`` and ``+ 1``."""
        ...


class TreeTracer:
    """Keeps the whole tree and all evidence, for a certificate."""

    def __init__(self) -> None:
        self.splits: list[tuple[Array, Array, Array, int]] = []
        self.evidence: list[tuple[Array, Evidence]] = []

    def refuted(self, domains: Domains, evidence: Evidence) -> None:
        """Keeps the evidence with the nodes' ids; bits only of boxes that have any."""
        if len(evidence.box) == 0:
            return
        used, box = np.unique(evidence.box, return_inverse=True)
        packed = np.packbits(evidence.box_slopes[used], axis=1, bitorder="little")
        bounded = np.packbits(evidence.box_refined[used], axis=1, bitorder="little")
        slim = replace(evidence, box=box, box_slopes=packed, box_refined=bounded)
        self.evidence.append((domains.id[used], slim))

    def split(self, domains: Domains, dim: Array, at: Array, first_child: int) -> None:
        """Keeps the split."""
        self.splits.append((domains.id.copy(), dim.astype(np.int32), at.copy(), first_child))
