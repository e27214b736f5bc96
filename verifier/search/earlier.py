"""An earlier proof of a similar question: its splits, slopes and multipliers are tried before any new ones.

After a small change of the weights (fine-tuning, quantisation) the tree of the earlier proof nearly always
still proves the property, or needs few more splits: then its inner nodes need not be bounded, nor its
parameters searched for (cf. Ugare et al., "Incremental Verification of Neural Networks", PLDI 2023).

Soundness: nothing is taken over but choices. The search splits as the earlier tree says and books that as its
own splits; every leaf is bounded anew on the present network.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np

from bounds.graph import Array, Graph
from bounds.methods.parameters import Parameters
from verifier.check.reader import Certificate, Listed, read
from verifier.search.trace import COPY
from verifier.verdict import Status

MOST = 1 << 16
"""Subproblems that an earlier tree is unfolded to, at most."""


class Earlier:
    """The tree of an earlier proof, and the choices of its evidence.

    Args:
        held: a well-formed certificate of an ``unsat``. It need not be valid, nor about the same network.

    Attributes:
        dim, at, left: as in the certificate's ``node_`` arrays.
    """

    def __init__(self, held: Certificate) -> None:
        arrays = held.arrays
        self.dim: Array = arrays["node_dim"].astype(np.int64)
        self.at: Array = arrays["node_at"].astype(np.float64)
        self.left: Array = arrays["node_left"].astype(np.int64)
        total = len(self.dim)
        # a tree that is none (children before parents, or nowhere) is cut where it goes wrong
        inner = (self.left > np.arange(total)) & (self.left + 1 < total) & np.isfinite(self.at)
        self.dim[~inner] = -1
        self._parent = np.full(total, -1)
        where = np.flatnonzero(inner)
        for side in (0, 1):
            self._parent[self.left[where] + side] = where
        self._arrays = arrays
        self._key = arrays["ev_node"].astype(np.int64) << 32 | arrays["ev_disjunct"]
        self._order = np.argsort(self._key, kind="stable")
        self._sizes = _sizes(held.relus), _sizes(held.scalars), _sizes(held.products)

    def fits(self, graph: Graph, cases: int) -> bool:
        """Whether its splits mean what they mean here: operands are numbered by the nonlinear nodes."""
        nodes = graph.relus, graph.scalars, graph.products
        same = self._sizes == tuple([n.size for n in part] for part in nodes)
        return same and int((self._parent < 0).sum()) == cases

    def copies(self, case: int) -> dict[int, int]:
        """By group the node below the copies of a case's root where its own tree begins."""
        if case >= len(self.dim) or self.dim[case] != COPY:
            return {}
        found: dict[int, int] = {}
        top = np.arange(len(self.dim))
        root = np.arange(len(self.dim))
        for node in range(len(self.dim)):  # parents come first
            parent = self._parent[node]
            if parent >= 0:
                root[node] = root[parent]
                top[node] = node if self.dim[parent] == COPY else top[parent]
        nodes, groups = self._arrays["ev_node"], self._arrays["ev_disjunct"]
        for node, group in zip(nodes.tolist(), groups.tolist(), strict=True):
            if 0 <= node < len(top) and root[node] == case and self.dim[top[node]] != COPY:
                found.setdefault(group, int(top[node]))
        return found

    def evidence(self, node: Array, group: Array) -> Array:
        """For nodes and groups the number of the evidence about them, -1 for none."""
        wanted = node.astype(np.int64) << 32 | group
        if not len(self._key):
            return np.full(len(wanted), -1)
        key = self._key[self._order]
        place = np.minimum(np.searchsorted(key, wanted), len(key) - 1)
        return np.where(key[place] == wanted, self._order[place], -1)

    def row(self, evidence: Array) -> Array:
        """The row of its group that evidence is about."""
        return self._arrays["ev_row"][evidence].astype(np.int64)

    def parameters(self, evidence: Array) -> Parameters:
        """The choices of evidence."""
        return Parameters(*(self._arrays[f"ev_{n}"][evidence] for n in ("slopes", "lines", "mixes")))

    def multipliers(self, evidence: Array, operand: Array) -> Array:
        """``D K`` float32: multipliers of evidence for split operands ``D K`` (-1: none), else 0."""
        arrays = self._arrays
        key = arrays["beta_ev"].astype(np.int64) << 32 | arrays["beta_operand"]
        out = np.zeros(operand.shape, dtype=np.float32)
        if not len(key):
            return out
        order = np.argsort(key, kind="stable")
        wanted = evidence[:, None].astype(np.int64) << 32 | operand
        place = np.minimum(np.searchsorted(key[order], wanted), len(key) - 1)
        held = (key[order][place] == wanted) & (evidence[:, None] >= 0) & (operand >= 0)
        beta = arrays["beta"][order][place]
        out[held] = beta[held].astype(np.float32)
        return out


def load(path: str | Path) -> tuple[Earlier | None, Array | None]:
    """Reads a certificate: the tree of an ``unsat``, or the point of a ``sat`` (``d``).

    Raises:
        SureboundError: it cannot be read.
    """
    held = read(Path(path))
    if held.verdict is Status.UNSAT:
        return Earlier(held), None
    return None, _point(held)


def _point(held: Certificate) -> Array | None:
    try:
        return np.array([float(Fraction(str(v))) for v in held.witness["x"]])
    except (KeyError, TypeError, ValueError, ZeroDivisionError, OverflowError):
        return None


def _sizes(listed: Listed) -> list[int]:
    return [size for _, size in listed]


__all__ = ("MOST", "Earlier", "load")
