"""Products of inputs and outputs of a graph as one more output (polynomial properties).

The products are not the model's: they are exact, no rounding of the model is charged for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np

from bounds.expression import X
from bounds.graph import Graph, Node, Op, Port

# (is an output, flat index among the inputs or outputs, exponent)
Factor: TypeAlias = tuple[bool, int, int]
Factors: TypeAlias = Sequence[Factor]  # sorted, each variable once


def with_products(graph: Graph, monomials: Sequence[Factors]) -> Graph:
    """The graph with the values of ``monomials`` as its last output, of shape ``(len(monomials),)``.

    Every variable's power is a ``SCALAR`` (one node for each exponent above 1, ascending), every product a
    chain of ``MUL`` in the order of its factors (one node for each step, for all monomials at once).
    Without monomials the graph itself is returned.
    """
    return _Extension(graph).run(monomials) if monomials else graph


class _Extension:
    """State of one call."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.nodes = list(graph.nodes)

    def run(self, monomials: Sequence[Factors]) -> Graph:
        """See :func:`with_products`."""
        factors, place = self.factors(monomials)
        # what the factors of every monomial are multiplied to so far; positions in the final concatenation
        part = self.take(factors, [place[m[0]] for m in monomials])
        parts, start = [part], 0
        last = list(range(len(monomials)))
        alive = list(range(len(monomials)))
        for step in range(1, max(map(len, monomials))):
            keep = [i for i, m in enumerate(alive) if len(monomials[m]) > step]
            left = self.take(part, keep)
            alive = [alive[i] for i in keep]
            right = self.take(factors, [place[monomials[m][step]] for m in alive])
            start += self.nodes[part].size
            part = self.add(Op.MUL, (left, right), len(alive), {})
            parts.append(part)
            for i, m in enumerate(alive):
                last[m] = start + i
        values = self.take(self.concat(parts), last)
        ports = (*self.graph.outputs, Port("products", values, (len(monomials),)))
        return Graph(tuple(self.nodes), self.graph.inputs, ports)

    def factors(self, monomials: Sequence[Factors]) -> tuple[int, dict[Factor, int]]:
        """A node with all variables that occur and their powers, and the place of each in it."""
        keys = sorted({f for m in monomials for f in m})
        variables = sorted({(output, index) for output, index, _ in keys})
        parts: list[int] = []
        for output, ports in ((False, self.graph.inputs), (True, self.graph.outputs)):
            start = 0
            for port in ports:
                size = self.nodes[port.node].size
                used = [i - start for o, i in variables if o == output and start <= i < start + size]
                start += size
                if used:
                    parts.append(self.take(port.node, used))
        values = self.concat(parts)
        place: dict[Factor, int] = {(output, index, 1): k for k, (output, index) in enumerate(variables)}
        parts = [values]
        for exponent in sorted({e for _, _, e in keys if e > 1}):
            mine = [(o, i) for o, i, e in keys if e == exponent]
            source = self.take(values, [place[o, i, 1] for o, i in mine])
            parts.append(self.add(Op.SCALAR, (source,), len(mine), {"function": X**exponent}))
            place.update({(o, i, exponent): len(place) + k for k, (o, i) in enumerate(mine)})
        return self.concat(parts), place

    def take(self, source: int, index: Sequence[int]) -> int:
        """Elements of a node by flat index."""
        if list(index) == list(range(self.nodes[source].size)) and len(self.nodes[source].shape) == 1:
            return source
        params = {"index": _frozen(np.array(index, np.int64)), "fill": _frozen(np.zeros(len(index)))}
        return self.add(Op.TAKE, (source,), len(index), params)

    def concat(self, parts: Sequence[int]) -> int:
        """Vectors one after the other."""
        if len(parts) == 1:
            return parts[0]
        return self.add(Op.CONCAT, tuple(parts), sum(self.nodes[p].size for p in parts), {"axis": 0})

    def add(self, op: Op, inputs: tuple[int, ...], size: int, params: dict[str, Any]) -> int:
        """Appends a node with a vector of ``size`` elements."""
        node = Node(len(self.nodes), op, inputs, (size,), MappingProxyType(params), source="property")
        self.nodes.append(node)
        return node.id


def _frozen(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    array.setflags(write=False)
    return array
