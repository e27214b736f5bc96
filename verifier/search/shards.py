"""A checkpoint dealt out to several searches: each gets part of what is open, and closes only that.

Soundness: to a shard's ledger the others' subproblems are open, so a shard concludes nothing about the
property; when its own are refuted, it leaves a checkpoint in which nothing of its own is open. All of these
together are booked in the ledger of the checkpoint that was dealt out, and only that ledger concludes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bounds.errors import BadInput
from verifier.conclude import Ledger
from verifier.proof_part import continued
from verifier.search.checkpoint import Dealt, Part, State
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

    Nothing is dealt where something was abandoned, or a lasting reason stands: that cannot be proved. Nor is
    a shard dealt out again.

    Args:
        state: as it was read from its file.
        count: of shards.
    """
    if state.abandoned or state.reason.value or state.dealt is not None or count < 2:
        return []
    if not state.digest:
        raise AssertionError("only a checkpoint that was read from a file is dealt out")
    every = open_nodes(state)
    shards: list[Shard] = []
    for number in range(count):
        todo = state.todo[number::count]
        parts = [p for p in (_dealt(part, number, count) for part in state.parts) if p is not None]
        own = replace(state, todo=todo, parts=parts, bounded=0, leaves=0, seconds=0.0, source="", digest="")
        nodes = open_nodes(own)
        if not nodes:
            continue
        ids = tuple(own.nodes().tolist())
        own.dealt = Dealt(state.digest, ids, every - nodes, state.splits, state.settled)
        own.kept = None if state.kept is None else continued(state.kept, state.created)
        shards.append(Shard(own, nodes))
    if sum(s.nodes for s in shards) != every:
        raise AssertionError("a subproblem got lost between shards")
    return shards


def book(ledger: Ledger, whole: State, ends: Sequence[State]) -> None:
    """Books what shards closed in the ledger of the checkpoint that was dealt out to them.

    Args:
        ledger: a new one of the same cases.
        whole: the checkpoint that was dealt out.
        ends: what the shards left.

    Raises:
        BadInput: these are not the shards of that checkpoint, each once and all of them.
    """
    ledger.restore(whole.splits, whole.settled, whole.abandoned)
    given: Counter[int] = Counter()
    for end in ends:
        dealt = end.dealt
        if dealt is None or dealt.of != whole.digest or end.query != whole.query:
            raise BadInput(f"{end.source}: is no shard of {whole.source}")
        if (dealt.splits, dealt.settled) != (whole.splits, whole.settled):
            raise BadInput(f"{end.source}: began with other counts than {whole.source}")
        given.update(dealt.nodes)
        ledger.take_over(end.splits - dealt.splits, end.settled - dealt.settled, end.abandoned)
    if given != Counter(whole.nodes().tolist()):
        raise BadInput(f"{whole.source}: some of what it had open is in no shard, or in more than one")


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
