"""Do the leaves cover every input, and is every disjunct refuted on the way to each leaf?

Node i < n_cases is the root of case i; an inner node splits its box at ``x[dim] = at`` into
``x[dim] <= at`` and ``x[dim] >= at``, which cover it. So if every non-root node has exactly one parent,
the leaves of a root cover its box, whatever the numbers are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from verifier.check.arithmetic import float_above, float_below
from verifier.check.network import Array
from verifier.check.reader import reject
from verifier.spec.model import Case

_BLOCK = 4096


class Tree:
    """The validated tree of a certificate.

    Raises:
        CertificateRejected: from the constructor, when it is not a forest of splits inside their boxes.
    """

    def __init__(self, arrays: Mapping[str, Array], cases: Sequence[Case]) -> None:
        self.dim, self.at, self.left = arrays["node_dim"], arrays["node_at"], arrays["node_left"]
        self.size, self.roots = len(self.dim), len(cases)
        self.inputs = len(cases[0].lower) if cases else 0
        # an empty case has no box: zeros stand for it, and nothing may be claimed about it
        self.empty = np.array([c.empty for c in cases], bool)
        self.low = np.array([[0.0 if c.empty else float_below(v) for v in c.lower] for c in cases])
        self.high = np.array([[0.0 if c.empty else float_above(v) for v in c.upper] for c in cases])
        self.parent = np.full(self.size, -1, np.int64)
        self._check_shape()
        self.levels = self._levels()
        self._check_splits()

    def _check_shape(self) -> None:
        if self.size < self.roots:
            reject("tree", f"{self.size} nodes for {self.roots} cases")
        self.inner = np.flatnonzero(self.left != -1)
        leaf = self.left == -1
        if np.any(self.dim[leaf] != -1) or not np.all(self.at[leaf] == 0):
            reject("tree", "a leaf has a split")
        if np.any(self.dim[self.inner] < 0) or np.any(self.dim[self.inner] >= self.inputs):
            reject("tree", "a split is of no input element")
        children = np.concatenate(
            [self.left[self.inner].astype(np.int64), self.left[self.inner] + np.int64(1)]
        )
        if not np.array_equal(np.sort(children), np.arange(self.roots, self.size)):
            reject("tree", "some node has no parent, or more than one")
        if np.any(self.left[self.inner] <= self.inner):
            reject("tree", "a child comes before its parent")
        if np.any(~leaf[: self.roots] & self.empty):
            reject("tree", "an empty case is split")
        self.parent[children] = np.concatenate([self.inner, self.inner])

    def _levels(self) -> list[Array]:
        """Nodes by depth, roots first."""
        level, levels = np.arange(self.roots), list[Array]()
        while level.size:
            levels.append(level)
            left = self.left[level].astype(np.int64)
            left = left[left != -1]
            level = np.concatenate([left, left + 1])
        return levels

    def _check_splits(self) -> None:
        for k in range(0, len(self.inner), _BLOCK):
            nodes = self.inner[k : k + _BLOCK]
            low, high, _ = self.boxes(nodes)
            here = np.arange(len(nodes)), self.dim[nodes]
            at = self.at[nodes]
            if not np.all((low[here] <= at) & (at <= high[here])):
                reject("tree", "a split point lies outside its box, or is not a number")

    def boxes(self, nodes: Array) -> tuple[Array, Array, Array]:
        """Boxes (D, inputs) of nodes and the case of each: all splits on the way up to the root."""
        nodes = nodes.astype(np.int64)
        limits = (np.full((len(nodes), self.inputs), np.inf), np.full((len(nodes), self.inputs), -np.inf))
        rows, current = np.arange(len(nodes)), nodes.copy()
        root = nodes.copy()
        while rows.size:
            rows, current = rows[current >= self.roots], current[current >= self.roots]
            parent = self.parent[current]
            dim, at, left = self.dim[parent], self.at[parent], self.left[parent] == current
            for side, chosen, tighter in ((0, left, np.minimum), (1, ~left, np.maximum)):
                spot = rows[chosen], dim[chosen]
                limits[side][spot] = tighter(limits[side][spot], at[chosen])
            root[rows] = current = parent
        return np.maximum(self.low[root], limits[1]), np.minimum(self.high[root], limits[0]), root

    def check_settled(self, cases: Sequence[Case], node: Array, disjunct: Array) -> None:
        """Every disjunct of a leaf's case has evidence at the leaf or at an ancestor."""
        counts = np.array([0 if c.empty else len(c.disjuncts) for c in cases], np.int64)
        wanted = np.zeros(self.size, np.int64)
        wanted[: self.roots] = counts
        for level in self.levels[1:]:
            wanted[level] = wanted[self.parent[level]]
        leaf = self.left == -1
        order = np.argsort(disjunct, kind="stable")
        stops = np.searchsorted(disjunct[order], np.arange(int(counts.max(initial=0)) + 1))
        for d in range(len(stops) - 1):
            settled = np.zeros(self.size, bool)
            settled[node[order[stops[d] : stops[d + 1]]]] = True
            for level in self.levels[1:]:
                settled[level] |= settled[self.parent[level]]
            missing = np.flatnonzero(leaf & (wanted > d) & ~settled)
            if missing.size:
                reject("coverage", f"disjunct {d} is not refuted at leaf {missing[0]}")
