"""A listener that remembers how a search went, for a picture: samples over time and the tree of splits."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from bounds.domain import Domains
from bounds.graph import Array
from bounds.methods.bounder import Evidence
from verifier.report.model import Cell, Picture, Sample
from verifier.search.trace import Numbered, SplitEvidence

# samples kept: when there are more, every other one is forgotten
_SAMPLES = 400
# rectangles narrower than this share of the picture, or deeper than this, are not drawn
_NARROW, _DEEP = 1 / 400, 60


class Recorder:
    """Keeps ids and splits (no boxes, no evidence); see the module.

    Args:
        roots: ids of the nodes that the picture begins with.
        nodes: number of nodes so far.
    """

    evidence_kept = False

    def __init__(self, roots: Array, nodes: int) -> None:
        self.roots, self.nodes = roots, nodes
        self._splits: list[tuple[Array, int]] = []
        self._settled: list[Array] = []
        self._samples: list[Sample] = []
        self._every, self._calls = 1, 0

    def refuted(self, domains: Domains, evidence: Evidence) -> None:
        """Not kept."""

    def refuted_splits(self, found: SplitEvidence) -> None:
        """Not kept."""

    def split(self, domains: Numbered, dim: Array, at: Array, first_child: int) -> None:  # noqa: ARG002
        """Keeps who has which children."""
        self._splits.append((domains.id.copy(), first_child))

    def copied(self, node: int, first_child: int) -> None:
        """Copies look like children."""
        self._splits.append((np.array([node]), first_child))

    def settled(self, ids: Array) -> None:
        """Keeps them."""
        self._settled.append(ids.copy())

    def sample(self, now: Sample, *, last: bool = False) -> None:
        """One more point in time; the last one is kept in any case."""
        self._calls += 1
        if last or self._calls % self._every == 0:
            self._samples.append(now)
        if len(self._samples) > _SAMPLES:
            self._samples = self._samples[::2]
            self._every *= 2

    def picture(self) -> Picture:
        """What is worth drawing."""
        nodes = self.nodes + 2 * sum(len(ids) for ids, _ in self._splits)
        closed, child = np.zeros(nodes, dtype=bool), np.full(nodes, -1)
        for ids in self._settled:
            closed[ids] = True
        for ids, first in reversed(self._splits):  # children come after their parents
            left = first + 2 * np.arange(len(ids))
            child[ids] = left
            closed[ids] = closed[left] & closed[left + 1]
        return Picture(tuple(self._samples), _cells(self.roots, closed, child), nodes)


def _cells(roots: Array, closed: Array, child: Array) -> tuple[Cell, ...]:
    """Rectangles level by level; a node's children share its width."""
    cells: list[Cell] = []
    node, count = roots, len(roots)
    left, width = np.arange(count) / count, np.full(count, 1 / count)
    if count > 1 / _NARROW:  # too many to draw each: neighbours in one rectangle
        node, left, width, bundles = _bundled(roots, closed)
        cells += bundles
    for depth in range(_DEEP):
        split = child[node] >= 0
        cells += [
            Cell(depth, float(x), float(w), bool(c), bool(s))
            for x, w, c, s in zip(left, width, closed[node], split, strict=True)
        ]
        keep = split & (width / 2 >= _NARROW)
        node, left, half = child[node[keep]], left[keep], width[keep] / 2
        if not len(node):
            break
        node = np.concatenate([node, node + 1])
        left, width = np.concatenate([left, left + half]), np.concatenate([half, half])
    return tuple(cells)


def _bundled(roots: Array, closed: Array) -> tuple[Array, Array, Array, list[Cell]]:
    """Rectangles for runs of roots; none of them is looked into."""
    count = int(1 / _NARROW)
    edges = np.linspace(0, len(roots), count + 1).astype(np.int64)
    cells = [
        Cell(0, float(a / len(roots)), float((b - a) / len(roots)), bool(closed[roots[a:b]].all()), False)
        for a, b in pairwise(edges)
    ]
    none = np.zeros(0, dtype=np.int64)
    return none, none.astype(np.float64), none.astype(np.float64), cells
