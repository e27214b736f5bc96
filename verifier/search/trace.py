"""Who listens to a search: statistics, progress, and the record from which a certificate is written."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from bounds.domain import Domains
from bounds.graph import Array
from bounds.methods.bounder import Evidence
from bounds.methods.edge_slopes import EdgeSlopes
from bounds.methods.parameters import Parameters, refined_elements, tape_parameters
from bounds.methods.row_choices import RowChoices
from bounds.methods.splits import Splits
from bounds.methods.tape import Tape

COPY = -2
"""In place of a dimension: the children are copies."""


@dataclass(frozen=True, slots=True)
class SplitEvidence:
    """Why groups are refuted on nodes whose operands were split.

    Attributes:
        node, group, row: ``E`` (row counted within the group).
        parameters: ``E``, of the rows.
        splits: ``E``, with the multipliers that were used.
        anchor_node, anchor: the node whose intermediate bounds were inherited, and its tape.
        edges: by position among the ``E`` upper lines with a slope for every edge.
    """

    node: Array
    group: Array
    row: Array
    parameters: Parameters
    splits: Splits
    anchor_node: int
    anchor: Tape
    edges: EdgeSlopes


class Numbered(Protocol):
    """Subproblems with ids ``D``."""

    id: Array


class Tracer(Protocol):
    """Receives what happens to subproblems; ids are never reused."""

    @property
    def evidence_kept(self) -> bool:
        """Whether evidence is wanted: bounds must then be such as a certificate can hold."""
        ...

    def settled(self, ids: Array) -> None:
        """Nodes were settled: all of their groups are refuted."""
        ...

    def refuted(self, domains: Domains, evidence: Evidence) -> None:
        """Groups were refuted on boxes (``evidence.box`` indexes ``domains``)."""
        ...

    def refuted_splits(self, found: SplitEvidence) -> None:
        """Groups were refuted on nodes that inherit the intermediate bounds of an anchor (its node, its
        tape)."""
        ...

    def split(self, domains: Numbered, dim: Array, at: Array, first_child: int) -> None:
        """Domain i was split; its children have ids ``first_child + 2 i`` and ``+ 1``.

        Args:
            domains: ``D`` of them.
            dim: ``D`` input elements, or the number of inputs plus that of an operand.
            at: ``D`` float64 points.
            first_child: id of the first child.
        """
        ...

    def copied(self, node: int, first_child: int) -> None:
        """A node got two copies, ``first_child`` and the next."""
        ...


@dataclass(frozen=True, slots=True)
class BoxRecord:
    """What intermediate bounds of the nodes ``node`` used: parameters, and bits of refined elements.

    ``rows``: parameters of single rows (their boxes are positions in ``node``), where they have any.
    """

    node: Array
    slopes: Array
    lines: Array
    mixes: Array
    refined: Array
    refined_scalars: Array
    refined_products: Array
    rows: RowChoices | None = None

    def take(self, which: Array) -> BoxRecord:
        """Those of some boxes (positions, ascending)."""
        parts = (getattr(self, f)[which] for f in _BOX_FIELDS)
        return BoxRecord(*parts, rows=None if self.rows is None else self.rows.of(which))

    def same(self, other: BoxRecord) -> bool:
        """Whether the boxes of both used the same."""
        if not all(np.array_equal(getattr(self, f), getattr(other, f)) for f in _BOX_FIELDS):
            return False
        a, b = (r.rows if r.rows is not None and len(r.rows.box) else None for r in (self, other))
        if a is None or b is None:
            return a is b
        return all(np.array_equal(x, y) for x, y in zip(_in_order(a), _in_order(b), strict=True))


_BOX_FIELDS = ("node", "slopes", "lines", "mixes", "refined", "refined_scalars", "refined_products")


def _in_order(rows: RowChoices) -> tuple[Array, ...]:
    order = np.lexsort((rows.upper, rows.operand, rows.box))
    p = rows.parameters
    return tuple(a[order] for a in (rows.box, rows.operand, rows.upper, p.slopes, p.lines, p.mixes))


@dataclass(frozen=True, slots=True)
class MultiplierRecord:
    """Multipliers ``beta`` (of either sign) of ``operand`` in the rows ``evidence`` of a block (``G``
    each)."""

    evidence: Array
    operand: Array
    beta: Array

    @staticmethod
    def none() -> MultiplierRecord:
        """Nothing kept."""
        empty = np.zeros(0, dtype=np.int64)
        return MultiplierRecord(empty, empty, empty.astype(np.float64))


@dataclass(frozen=True, slots=True)
class EvidenceRecord:
    """Evidence of one block, by node; ``box`` is the node whose intermediate bounds it uses.

    The rows of ``edges`` are positions in the block.
    """

    node: Array
    group: Array
    row: Array
    parameters: Parameters
    exact: Array
    boxes: BoxRecord
    box: Array
    multipliers: MultiplierRecord
    edges: EdgeSlopes = field(default_factory=EdgeSlopes.none)


def _packed(bits: Array) -> Array:
    return np.packbits(bits, axis=1, bitorder="little")


class Tracers:
    """Passes everything on to several tracers.

    Args:
        tracers: who listens.
    """

    def __init__(self, *tracers: Tracer) -> None:
        self._tracers = tracers

    @property
    def evidence_kept(self) -> bool:
        """Whether anyone wants evidence."""
        return any(t.evidence_kept for t in self._tracers)

    def refuted(self, domains: Domains, evidence: Evidence) -> None:
        """To those who keep evidence."""
        for t in self._tracers:
            if t.evidence_kept:
                t.refuted(domains, evidence)

    def refuted_splits(self, found: SplitEvidence) -> None:
        """To those who keep evidence."""
        for t in self._tracers:
            if t.evidence_kept:
                t.refuted_splits(found)

    def split(self, domains: Numbered, dim: Array, at: Array, first_child: int) -> None:
        """To all."""
        for t in self._tracers:
            t.split(domains, dim, at, first_child)

    def copied(self, node: int, first_child: int) -> None:
        """To all."""
        for t in self._tracers:
            t.copied(node, first_child)

    def settled(self, ids: Array) -> None:
        """To all."""
        for t in self._tracers:
            t.settled(ids)


class TreeTracer:
    """Keeps the whole tree and all evidence, for a certificate.

    Attributes:
        splits: nodes, dimensions, points and left children.
        evidence: by block.
        torn: whether one node's intermediate bounds were used with two sets of parameters: such evidence
            fits into no certificate. Only the parts of a search that ran on different machines can differ.
    """

    evidence_kept = True

    def __init__(self) -> None:
        self.splits: list[tuple[Array, Array, Array, Array]] = []
        self.evidence: list[EvidenceRecord] = []
        self.torn = False
        # None: its own bounds were compared with what is kept, or come from here
        self._anchors: dict[int, BoxRecord | None] = {}

    def add(self, splits: tuple[Array, Array, Array, Array], evidence: EvidenceRecord) -> None:
        """Takes over what another tracer kept, in one record."""
        boxes = evidence.boxes
        used = np.unique(evidence.box[evidence.box < evidence.node])  # those that others may inherit from
        known = np.isin(boxes.node, list(self._anchors))
        for place in np.flatnonzero(known | np.isin(boxes.node, used)).tolist():
            self._inherited(boxes.take(np.array([place])))
        self.splits.append(splits)
        self.evidence.append(replace(evidence, boxes=boxes.take(np.flatnonzero(~known))))

    def _inherited(self, box: BoxRecord) -> bool:
        """Whether the one box is known already; its first record stays for comparison."""
        node = int(box.node[0])
        if node not in self._anchors:
            self._anchors[node] = box
            return False
        first = self._anchors[node]
        self.torn = self.torn or (first is not None and not first.same(box))
        return True

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
            None if evidence.box_rows is None else evidence.box_rows.of(used),
        )
        self.evidence.append(
            EvidenceRecord(
                domains.id[used][box],
                evidence.group,
                evidence.row,
                evidence.parameters,
                evidence.exact,
                boxes,
                domains.id[used][box],
                MultiplierRecord.none(),
            )
        )

    def refuted_splits(self, found: SplitEvidence) -> None:
        """Keeps the evidence; the anchor's own bounds once."""
        splits, count = found.splits, len(found.node)
        index, column = splits.pairs()
        keep = splits.beta[index, column] != 0
        index, column = index[keep], column[keep]
        known = found.anchor_node in self._anchors
        if not known or self._anchors[found.anchor_node] is not None:  # once for each tape
            self._inherited(_box_of(found.anchor_node, found.anchor))
            self._anchors[found.anchor_node] = None
        self.evidence.append(
            EvidenceRecord(
                found.node,
                found.group,
                found.row,
                found.parameters,
                np.zeros(count, dtype=bool),
                _no_boxes() if known else _box_of(found.anchor_node, found.anchor),
                np.full(count, found.anchor_node),
                MultiplierRecord(index, splits.operand[index, column], splits.beta[index, column]),
                found.edges,
            )
        )

    def split(self, domains: Numbered, dim: Array, at: Array, first_child: int) -> None:
        """Keeps the split."""
        left = first_child + 2 * np.arange(len(domains.id))
        self.splits.append((domains.id.copy(), dim.astype(np.int32), at.copy(), left))

    def settled(self, ids: Array) -> None:
        """Nothing to keep: evidence says it."""

    def copied(self, node: int, first_child: int) -> None:
        """Keeps the copy."""
        self.splits.append(
            (np.array([node]), np.array([COPY], dtype=np.int32), np.zeros(1), np.array([first_child]))
        )


def _no_boxes() -> BoxRecord:
    return BoxRecord(np.zeros(0, dtype=np.int64), *(np.zeros((0, 0)) for _ in range(6)), rows=None)


def _box_of(node: int, tape: Tape) -> BoxRecord:
    held, refined = tape_parameters(tape), refined_elements(tape)
    return BoxRecord(
        np.array([node]),
        _packed(held.slopes > 0),
        held.lines,
        held.mixes,
        _packed(refined.neurons),
        _packed(refined.scalars),
        _packed(refined.products),
        tape.rows,
    )
