"""Removes nodes that no output depends on; inputs always stay, they are part of the interface."""

from __future__ import annotations

from collections.abc import Iterable

from bounds.graph import Graph, Op
from bounds.passes.base import Rewriter, Rewritten


def drop_dead(graph: Graph, keep: Iterable[int] = ()) -> tuple[Graph, dict[int, int]]:
    """Returns the graph without dead nodes, and old id -> new id of those that stay (``keep`` among them)."""
    live = {p.node for p in graph.outputs} | {n.id for n in graph.nodes if n.op is Op.INPUT} | set(keep)
    for node in reversed(graph.nodes):
        if node.id in live:
            live.update(node.inputs)
    if len(live) == len(graph.nodes):
        return graph, {n.id: n.id for n in graph.nodes}
    rewriter = Rewriter(graph)
    slim = rewriter.run(lambda r, node: r.put(node) if node.id in live else -1)
    return slim, {k: v for k, v in rewriter.renamed.items() if v >= 0}


class DropDead:
    """The pass; exact."""

    def apply(self, graph: Graph) -> Rewritten:
        """Removes what no output depends on."""
        return Rewritten(drop_dead(graph)[0])
