"""Merges chains of element moves: RESHAPE and TAKE after RESHAPE or TAKE become one; exact."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

import numpy as np

from bounds.graph import Array, Graph, Node, Op
from bounds.passes.base import Rewriter, Rewritten
from bounds.passes.dead import drop_dead


class FoldMoves:
    """The pass; changes no value and no rounding."""

    def apply(self, graph: Graph) -> Rewritten:
        """Merges moves and removes what is left over."""
        return Rewritten(drop_dead(Rewriter(graph).run(_emit))[0])


def _emit(rewriter: Rewriter, node: Node) -> int:
    if node.op not in (Op.RESHAPE, Op.TAKE):
        return rewriter.put(node)
    source = rewriter.nodes[rewriter.renamed[node.inputs[0]]]
    if node.op is Op.RESHAPE and source.op is Op.TAKE:
        # a new shape for the same elements; roundings of a TAKE that holds constants stay with it
        merged = replace(source, shape=node.shape, source=node.source, tensor=node.tensor)
        return rewriter.put(merged, source.inputs)
    if node.op is Op.TAKE and source.op is Op.TAKE:
        node, source = _compose(node, source), rewriter.nodes[source.inputs[0]]
    if source.op is Op.RESHAPE:  # element order is the same, so the reshape does not matter
        source = rewriter.nodes[source.inputs[0]]
    if node.op is Op.TAKE and _is_identity(node, source):
        node = replace(node, op=Op.RESHAPE, params=MappingProxyType({}))
    if node.op is Op.RESHAPE and node.shape == source.shape:
        return source.id
    return rewriter.put(node, (source.id,))


def _compose(outer: Node, inner: Node) -> Node:
    index, fill = outer.params["index"], outer.params["fill"]
    inside = index >= 0
    at = np.where(inside, index, 0)
    if not inner.params["index"].size:
        return outer if not index.size else replace(outer, inputs=inner.inputs)
    params = {
        "index": _frozen(np.where(inside, inner.params["index"][at], -1)),
        "fill": _frozen(np.where(inside, inner.params["fill"][at], fill)),
    }
    return replace(
        outer,
        params=MappingProxyType(params),
        roundings=max(outer.roundings, inner.roundings),
        weight_error=max(outer.weight_error, inner.weight_error),
    )


def _is_identity(node: Node, source: Node) -> bool:
    index = node.params["index"]
    return node.size == source.size and bool(np.array_equal(index, np.arange(source.size)))


def _frozen(array: Array) -> Array:
    array.setflags(write=False)
    return array
