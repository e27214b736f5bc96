"""A checkpoint dealt out to several searches: each gets part of what is open, and closes only that.

Soundness: a shard's ledger counts what the others have as settled, so its ``unsat`` says that *its own*
subproblems are refuted and nothing else. All of them together, and only together, refute what the checkpoint
had open; whoever joins them compares the counts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from verifier.search.checkpoint import Part, State
from verifier.search.frontier import Frontier
from verifier.search.outcome import Left


@dataclass(frozen=True, slots=True)
class Shard:
    """A part of a checkpoint, and how many open nodes (cases not begun included) it has."""

    state: State
    nodes: int


def open_nodes(state: State) -> int:
    """Subproblems that are open, and cases not begun."""
    return len(state.todo) + sum(part.nodes for part in state.parts)


def deal(state: State, count: int) -> list[Shard]:
    """Deals what is open out to at most ``count`` shards, hard and easy subproblems to each.

    Nothing is dealt where something was abandoned, or a lasting reason stands: that cannot be proved.
    """
    if state.abandoned or state.reason.value or count < 2:
        return []
    shards: list[Shard] = []
    for number in range(count):
        todo = state.todo[number::count]
        parts = [p for p in (_dealt(part, number, count) for part in state.parts) if p is not None]
        nodes = len(todo) + sum(p.nodes for p in parts)
        if not nodes:
            continue
        # what the others have is none of this shard's business
        settled = state.created - state.splits - nodes
        own = replace(state, todo=todo, parts=parts, settled=settled, bounded=0, leaves=0, seconds=0.0)
        shards.append(Shard(own, nodes))
    if sum(s.nodes for s in shards) != open_nodes(state):
        raise AssertionError("a subproblem got lost between shards")
    return shards


def _dealt(part: Part, number: int, count: int) -> Part | None:
    levels: list[Frontier[Any]] = []
    waiting, start = 0.0, 0
    for level in part.left.levels:
        batch: Any = level.all()
        if batch is None:
            levels.append(Frontier[Any]())
            continue
        # by their bounds, so that each gets some of the worst; levels go on where the last one ended
        order = np.argsort(batch.lb, kind="stable")
        mine = np.sort(order[(number - start) % count :: count])
        start += len(batch)
        if len(mine):
            held = batch.take(mine)
            waiting += float(held.volume.sum())
            levels.append(Frontier(held))
        else:
            levels.append(Frontier[Any]())
    if not any(map(len, levels)):
        return None
    left = Left(levels, part.left.block, part.left.effort, anchor_node=part.left.anchor_node)
    return Part(part.case, 1.0 - waiting, part.operands, left)
