"""Rewrites of graphs through which a counterexample maps back.

A pass returns a new graph with the same function over the reals (to within the weight errors it
states) and the way back from the new graph's inputs to the old one's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeAlias

from bounds.graph import Array, Graph, Node, Port

Emit: TypeAlias = Callable[["Rewriter", Node], int]


def identity(x: Array) -> Array:
    """The inputs are the same."""
    return x


@dataclass(frozen=True, slots=True)
class Rewritten:
    """A rewritten graph.

    Attributes:
        graph: the new graph.
        map_back: points ``(D, input_size)`` of the new graph -> points of the old graph.
    """

    graph: Graph
    map_back: Callable[[Array], Array] = identity


class Pass(Protocol):
    """One rewrite."""

    def apply(self, graph: Graph) -> Rewritten:
        """Rewrites the graph; applying it again to the result changes nothing more."""
        ...


class Rewriter:
    """Copies a graph node by node; ``emit`` may put something else in a node's place.

    Attributes:
        nodes: the new nodes so far.
        old: the graph being read.
        uses: for every *old* node how often it is read (an output counts as a read).
        origin: old id of every new node that is a plain copy or a replacement of an old one.
    """

    def __init__(self, graph: Graph) -> None:
        self.old = graph
        self.nodes: list[Node] = []
        self.renamed: dict[int, int] = {}
        self.uses = [len(c) for c in graph.consumers()]
        for port in graph.outputs:
            self.uses[port.node] += 1

    def put(self, node: Node, inputs: Sequence[int] | None = None) -> int:
        """Appends a node whose inputs are new ids (default: its old inputs, renamed)."""
        ids = tuple(self.renamed[k] for k in node.inputs) if inputs is None else tuple(inputs)
        self.nodes.append(replace(node, id=len(self.nodes), inputs=ids))
        return len(self.nodes) - 1

    def run(self, emit: Emit) -> Graph:
        """Builds the new graph; ``emit(rewriter, old node)`` returns the new id of its value."""
        for node in self.old.nodes:
            self.renamed[node.id] = emit(self, node)
        return Graph(tuple(self.nodes), self._ports(self.old.inputs), self._ports(self.old.outputs))

    def _ports(self, ports: Sequence[Port]) -> tuple[Port, ...]:
        return tuple(replace(p, node=self.renamed[p.node]) for p in ports)


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Applies passes in turn, repeatedly, until the number of nodes no longer falls."""

    passes: Sequence[Pass]

    def apply(self, graph: Graph) -> Rewritten:
        """Rewrites with all passes; the maps back are chained."""
        done = Rewritten(graph)
        while True:
            before = done.graph
            for one in self.passes:
                done = _chain(done, one.apply(done.graph))
            if len(done.graph.nodes) >= len(before.nodes):
                return done


def _chain(first: Rewritten, second: Rewritten) -> Rewritten:
    def back(x: Array) -> Array:
        return first.map_back(second.map_back(x))

    return Rewritten(second.graph, back)
