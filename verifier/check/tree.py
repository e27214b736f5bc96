"""Is every disjunct of every case refuted everywhere, and which region does a node of the tree stand for?

Node i < n_cases is the root of case i. An inner node either splits its region, at ``x[dim] = at`` of the
input or at ``z = at`` of an operand, into parts ``<= at`` and ``>= at`` that cover it; or both its children
are copies of it. So a disjunct is refuted at a node if there is evidence, if it is refuted at both children
of a split, or at one of two copies; whatever the numbers are, as long as every child has one parent.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from verifier.check.arithmetic import float_above, float_below
from verifier.check.network import Array
from verifier.check.reader import reject
from verifier.check.regions import Splits
from verifier.spec.model import Case

COPY = -2
_BLOCK = 4096
_SETTLED = 1 << 26  # of nodes times disjuncts at once


class Tree:
    """The validated tree of a certificate about a network with so many ``operands``.

    ``whole`` (cases, inputs) says which elements stand for whole numbers only: their regions are cut down to
    those that lie in them. (Whatever whole number lies on neither side of a split lies nowhere.)

    Raises:
        CertificateRejected: from the constructor, when it is not a forest of splits and copies.
    """

    def __init__(
        self,
        arrays: Mapping[str, Array],
        cases: Sequence[Case],
        operands: int,
        whole: Array | None = None,
    ) -> None:
        self.dim, self.at, self.left = arrays["node_dim"], arrays["node_at"], arrays["node_left"]
        self.size, self.roots = len(self.dim), len(cases)
        self.inputs = len(cases[0].lower) if cases else 0
        self.operands = operands
        self.whole = np.zeros((self.roots, self.inputs), bool) if whole is None else whole
        # an empty case has no box: zeros stand for it, and nothing may be claimed about it
        self.empty = np.array([c.empty for c in cases], bool)
        ends = [
            ((0,) * self.inputs, (0,) * self.inputs) if empty else (c.lower, c.upper)
            for c, empty in zip(cases, self.empty, strict=True)
        ]
        self.low = np.array([[float_below(v) for v in low] for low, _ in ends])
        self.high = np.array([[float_above(v) for v in high] for _, high in ends])
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
        dim, at = self.dim[self.inner], self.at[self.inner]
        if np.any((dim < 0) & (dim != COPY)) or np.any(dim >= self.inputs + self.operands):
            reject("tree", "a split is of no input element and no operand")
        if not np.all(np.isfinite(at)) or not np.all(at[dim == COPY] == 0):
            reject("tree", "a split point is not finite, or a copy has one")
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
        dim = self.dim[self.inner]
        inner = self.inner[(dim >= 0) & (dim < self.inputs)]
        for k in range(0, len(inner), _BLOCK):
            nodes = inner[k : k + _BLOCK]
            low, high, _ = self.boxes(nodes)
            here = np.arange(len(nodes)), self.dim[nodes]
            at = self.at[nodes]
            if not np.all((low[here] <= at) & (at <= high[here])):
                reject("tree", "a split point of an input lies outside its box")

    def boxes(self, nodes: Array) -> tuple[Array, Array, Array]:
        """Boxes (D, inputs) of nodes and the case of each: all splits of inputs on the way to the root."""
        low, high = (np.full((len(nodes), self.inputs), v) for v in (-np.inf, np.inf))
        root = nodes.astype(np.int64)
        for rows, child, parent in self._ways(nodes):
            dim, at, right = self.dim[parent], self.at[parent], self.left[parent] != child
            cuts = (dim >= 0) & (dim < self.inputs)
            for end, chosen, tighter in ((high, cuts & ~right, np.minimum), (low, cuts & right, np.maximum)):
                spot = rows[chosen], dim[chosen]
                end[spot] = tighter(end[spot], at[chosen])
            root[rows] = parent
        low, high = np.maximum(self.low[root], low), np.minimum(self.high[root], high)
        whole = self.whole[root]
        return np.where(whole, np.ceil(low), low), np.where(whole, np.floor(high), high), root

    def _ways(self, nodes: Array, above: Array | None = None) -> Iterator[tuple[Array, Array, Array]]:
        """Steps up to the roots, or to the nodes ``above``: positions in the list, child, parent."""
        rows, current = np.arange(len(nodes)), nodes.astype(np.int64)
        stop = np.full(len(nodes), -1, np.int64) if above is None else above.astype(np.int64)
        while True:
            onward = (current >= self.roots) & (current > stop[rows])
            rows, current = rows[onward], current[onward]
            if not rows.size:
                return
            parent = self.parent[current]
            yield rows, current, parent
            current = parent

    def splits(self, nodes: Array, above: Array | None = None) -> Splits:
        """Splits of operands on the way from the roots, or from the nodes ``above``, to nodes."""
        parts = [np.zeros((0, 3), np.int64)]
        for rows, child, parent in self._ways(nodes, above):
            mine = self.dim[parent] >= self.inputs
            right = self.left[parent[mine]] != child[mine]
            parts.append(np.stack([rows[mine], parent[mine], right], axis=1))
        of, node, right = np.concatenate(parts).T
        return Splits(of, self.dim[node].astype(np.int64) - self.inputs, self.at[node], right == 1)

    def case_of(self, nodes: Array) -> Array:
        """The roots above nodes."""
        root = nodes.astype(np.int64)
        for rows, _, parent in self._ways(nodes):
            root[rows] = parent
        return root

    def within(self, nodes: Array, above: Array) -> Array:
        """Whether each node is another one or lies below it."""
        reached = nodes.astype(np.int64)
        for rows, _, parent in self._ways(nodes, above):
            reached[rows] = parent
        return reached == above

    def check_settled(self, cases: Sequence[Case], node: Array, disjunct: Array) -> None:
        """Every disjunct of a root's case is refuted there, by what is refuted below it."""
        counts = np.array([0 if c.empty else len(c.disjuncts) for c in cases], np.int64)
        most = int(counts.max(initial=0))
        step = max(1, _SETTLED // max(1, self.size))
        order = np.argsort(disjunct, kind="stable")
        for first in range(0, most, step):
            width = min(step, most - first)
            mine = order[slice(*np.searchsorted(disjunct[order], [first, first + width]))]
            settled = np.zeros((self.size, width), bool)
            settled[node[mine], disjunct[mine] - first] = True
            for level in reversed(self.levels):
                inner = level[self.left[level] != -1]
                left = self.left[inner].astype(np.int64)
                one, two = settled[left], settled[left + 1]
                copied = (self.dim[inner] == COPY)[:, None]
                settled[inner] |= (one & two) | (copied & (one | two))
            wanted = np.arange(first, first + width) < counts[:, None]
            missing = np.argwhere(wanted & ~settled[: self.roots])
            if missing.size:
                c, d = missing[0]
                reject("coverage", f"disjunct {first + d} of case {c} is not refuted everywhere")
