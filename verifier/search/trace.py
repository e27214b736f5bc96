"""Who listens to a search: statistics, progress, and the record from which a certificate is written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from bounds.domain import Domains
from bounds.graph import Array
from bounds.methods.bounder import Evidence
from bounds.methods.parameters import Parameters


class Tracer(Protocol):
    """Receives what happens to subproblems; ids are never reused."""

    def refuted(self, domains: Domains, evidence: Evidence) -> None:
        """Groups were refuted on boxes (``evidence.box`` indexes ``domains``)."""
        ...

    def split(self, domains: Domains, dim: Array, at: Array, first_child: int) -> None:
        """Domain i was split; its children have ids ``first_child + 2 i`` and ``+ 1``."""
        ...


@dataclass(frozen=True, slots=True)
class BoxRecord:
    """What intermediate bounds of the nodes ``node`` used: parameters, and bits of refined elements."""

    node: Array
    slopes: Array
    lines: Array
    mixes: Array
    refined: Array
    refined_scalars: Array
    refined_products: Array


@dataclass(frozen=True, slots=True)
class EvidenceRecord:
    """Evidence of one block, by node."""

    node: Array
    group: Array
    row: Array
    parameters: Parameters
    exact: Array
    boxes: BoxRecord


def _packed(bits: Array) -> Array:
    return np.packbits(bits, axis=1, bitorder="little")


class TreeTracer:
    """Keeps the whole tree and all evidence, for a certificate."""

    def __init__(self) -> None:
        self.splits: list[tuple[Array, Array, Array, int]] = []
        self.evidence: list[EvidenceRecord] = []

    def refuted(self, domains: Domains, evidence: Evidence) -> None:
        """Keeps the evidence with the nodes' ids; bits only of boxes that have any."""
        if len(evidence.box) == 0:
            return
        used, box = np.unique(evidence.box, return_inverse=True)
        held, refined = evidence.box_parameters, evidence.box_refined
        boxes = BoxRecord(
            domains.id[used],
            _packed(held.slopes[used] > 0),
            held.lines[used],
            held.mixes[used],
            _packed(refined.neurons[used]),
            _packed(refined.scalars[used]),
            _packed(refined.products[used]),
        )
        self.evidence.append(
            EvidenceRecord(
                domains.id[used][box],
                evidence.group,
                evidence.row,
                evidence.parameters,
                evidence.exact,
                boxes,
            )
        )

    def split(self, domains: Domains, dim: Array, at: Array, first_child: int) -> None:
        """Keeps the split."""
        self.splits.append((domains.id.copy(), dim.astype(np.int32), at.copy(), first_child))
