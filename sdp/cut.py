"""Where to cut a network: the narrowest sets of values that everything later is a function of.

Nonlinear nodes have levels (the longest path counts them). The state after a level is a smallest vertex cut
between what is known by then and what comes later, nodes weighing their size; among equals the latest one,
which keeps value functions well conditioned (they then live on operands of rectifiers).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import breadth_first_order, maximum_flow

from bounds.graph import Graph, Op

NONLINEAR = frozenset({Op.RELU, Op.SCALAR, Op.MUL})
_NO_LIMIT = 1 << 29


@dataclass(frozen=True, slots=True)
class Levels:
    """The nonlinear nodes of each level, and the state (node ids) in front of each, the output's last.

    ``states[k]`` is what level k + 1 reads; ``states[0]`` is a function of the inputs, and ``outputs`` one of
    ``states[-1]``.
    """

    nonlinear: tuple[tuple[int, ...], ...]
    states: tuple[tuple[int, ...], ...]


def cut(graph: Graph) -> Levels:
    """Levels and states of a graph."""
    level = levels_of(graph)
    depth = max(level, default=0)
    nonlinear = tuple(
        tuple(n.id for n in graph.nodes if n.op in NONLINEAR and level[n.id] == k)
        for k in range(1, depth + 1)
    )
    known = tuple(n.id for n in graph.nodes if n.op is Op.INPUT)
    states: list[tuple[int, ...]] = []
    for k in range(depth + 1):
        sources = known if k == 0 else (*states[-1], *nonlinear[k - 1])
        states.append(_smallest(graph, level, k, sources))
    return Levels(nonlinear, tuple(states))


def levels_of(graph: Graph) -> list[int]:
    """How many nonlinear nodes the longest path to each node has, itself included."""
    level: list[int] = []
    for node in graph.nodes:
        before = max((level[i] for i in node.inputs), default=0)
        level.append(before + (node.op in NONLINEAR))
    return level


def _smallest(graph: Graph, level: Sequence[int], k: int, sources: Sequence[int]) -> tuple[int, ...]:
    """The latest smallest cut between ``sources`` and what levels above ``k`` (or the outputs) read."""
    wanted = {p.node for p in graph.outputs}
    for node in graph.nodes:
        if level[node.id] > k:
            wanted.update(i for i in node.inputs if level[i] <= k)
    reach = _between(graph, sources, wanted)
    number = {node: i for i, node in enumerate(reach)}
    # node i becomes an arc 2i -> 2i + 1 of its size's capacity; 2n is the source, 2n + 1 the sink
    n = len(reach)
    arcs: list[tuple[int, int, int]] = []
    for node, i in number.items():
        arcs.append((2 * i, 2 * i + 1, max(graph.nodes[node].size, 1)))
        if node in sources:
            arcs.append((2 * n, 2 * i, _NO_LIMIT))
        else:
            arcs.extend(
                (2 * number[j] + 1, 2 * i, _NO_LIMIT) for j in set(graph.nodes[node].inputs) if j in number
            )
        if node in wanted:
            arcs.append((2 * i + 1, 2 * n + 1, _NO_LIMIT))
    rows, columns, capacities = np.array(arcs, dtype=np.int32).T
    capacity = csr_array((capacities, (rows, columns)), shape=(2 * n + 2, 2 * n + 2), dtype=np.int32)
    flow = maximum_flow(capacity, 2 * n, 2 * n + 1).flow
    residual = csr_array(capacity - flow)
    residual.eliminate_zeros()
    # from which nodes the sink can still be reached: the cut nearest to the sink
    back = csr_array(residual.T)
    open_ = set(breadth_first_order(back, 2 * n + 1, return_predecessors=False).tolist())
    return tuple(sorted(node for node, i in number.items() if 2 * i + 1 in open_ and 2 * i not in open_))


def _between(graph: Graph, sources: Sequence[int], wanted: set[int]) -> list[int]:
    """Nodes on the way from the sources to the wanted ones, wanted ones included."""
    found: set[int] = set()
    stack = list(wanted)
    while stack:
        node = stack.pop()
        if node in found:
            continue
        found.add(node)
        if node not in sources:
            stack.extend(graph.nodes[node].inputs)
    return sorted(found)
