"""Several networks side by side as one graph (properties that speak about more than one)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from bounds.graph import Graph, Node, Op, Port


@dataclass(frozen=True, slots=True)
class Part:
    """One network of a joined graph: its graph and a name for messages."""

    name: str
    graph: Graph


@dataclass(frozen=True, slots=True)
class Place:
    """A node of one part."""

    part: str
    node: int


def join(parts: Sequence[Part], inputs: Sequence[Place], outputs: Sequence[tuple[str, Place]]) -> Graph:
    """Builds one graph.

    Args:
        parts: the networks; the same graph may occur under several names.
        inputs: every input node of every part, in the order of the joined flat input.
        outputs: name and place of every output wanted, in order (any node may be an output).

    Returns:
        The joined graph. Input ports are named ``part.port`` when there are several parts.
    """
    graphs: Mapping[str, Graph] = {p.name: p.graph for p in parts}
    nodes: list[Node] = []
    new: dict[tuple[str, int], int] = {}
    ports: list[Port] = []
    for place in inputs:
        old = graphs[place.part].nodes[place.node]
        port = next(p for p in graphs[place.part].inputs if p.node == place.node)
        new[place.part, place.node] = len(nodes)
        name = port.name if len(parts) == 1 else f"{place.part}.{port.name}"
        ports.append(replace(port, node=len(nodes), name=name))
        nodes.append(replace(old, id=len(nodes)))
    for part in parts:
        for old in part.graph.nodes:
            if old.op is Op.INPUT:
                continue
            new[part.name, old.id] = len(nodes)
            sources = tuple(new[part.name, i] for i in old.inputs)
            nodes.append(replace(old, id=len(nodes), inputs=sources))
    ends = tuple(Port(name, new[p.part, p.node], graphs[p.part].nodes[p.node].shape) for name, p in outputs)
    return Graph(tuple(nodes), tuple(ports), ends)
