"""Keeps a run's state while it goes on, and writes it to a checkpoint now and then and at the end."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from verifier.conclude import Ledger
from verifier.proof_part import ProofPart
from verifier.search.checkpoint import Dealt, Part, State, part_of, save, untouched
from verifier.search.outcome import Outcome
from verifier.verdict import UnknownReason

EVERY = 60.0
"""Seconds between two checkpoints of a running search."""
SHARE = 20.0
"""They take at most one in so many seconds: evidence can be large."""
LASTING = (UnknownReason.PRECISION, UnknownReason.UNBOUNDED, UnknownReason.ROUNDING)


@dataclass(slots=True)
class Keeper:
    """What a checkpoint needs to know; see :class:`verifier.search.checkpoint.State`.

    Attributes:
        path: where to; query, options, whole, ledger, cases: of the run.
        together: whether the pass over all cases together is done.
        spent: seconds of the runs before this one.
        todo, parts: cases not begun, and in the middle, apart from the current one.
        current, base: the case being searched, its outcome so far, and the share proved before this run.
        proof: what is proved so far, where evidence is kept.
        dealt: of a shard.
        limit: see the state.
    """

    path: Path
    query: dict[str, Any]
    options: dict[str, Any]
    whole: bool
    ledger: Ledger
    cases: int
    spent: float = 0.0
    together: bool = False
    todo: list[int] = field(default_factory=list[int])
    parts: list[Part] = field(default_factory=list[Part])
    current: tuple[int, Outcome] | None = None
    base: float = 0.0
    proof: Callable[[], ProofPart | None] = lambda: None
    dealt: Dealt | None = None
    limit: float | None = None
    _since: float = field(default_factory=time.monotonic)
    _took: float = 0.0
    _started: float = field(default_factory=time.monotonic)

    def begin(self, plan: list[tuple[int, Part | None]]) -> None:
        """The cases that the run goes through, some of them begun before."""
        self.todo = [case for case, part in plan if part is None]
        self.parts = [part for _, part in plan if part is not None]

    def enter(self, case: int, outcome: Outcome, base: float) -> None:
        """A case's search begins, ``base`` of the case being proved already."""
        self.base = base
        self.todo = [c for c in self.todo if c != case]
        self.parts = [p for p in self.parts if p.case != case]
        self.current = (case, outcome)

    def leave(self, case: int, outcome: Outcome, closed: float) -> None:
        """A case's search has ended, with ``closed`` of the case proved."""
        self.current = None
        self.todo = [c for c in self.todo if c != case]
        if outcome.reason is UnknownReason.NONE:
            return
        self._sort_in(case, outcome, closed)

    def _sort_in(self, case: int, outcome: Outcome, closed: float) -> None:
        if untouched(outcome.left):
            self.todo.append(case)
        elif outcome.left is not None:
            part = part_of(case, closed, outcome.left)
            self.parts += [] if part is None else [part]

    def tick(self, total: Outcome) -> None:
        """Writes if it is time to; called between blocks."""
        if time.monotonic() - self._since >= max(EVERY, SHARE * self._took):
            self.write(total)

    def write(self, total: Outcome) -> bool:
        """Writes the state, and says whether: without anything open only a shard has something to tell.

        ``total``: of the cases that are done.
        """
        began = time.monotonic()
        todo, parts, current = list(self.todo), list(self.parts), self.current
        bounded, leaves, closed = total.bounded, total.leaves, total.closed
        if current is not None:
            case, outcome = current
            self._sort_in(case, outcome, outcome.closed)
            bounded, leaves = bounded + outcome.bounded, leaves + outcome.leaves
            closed += (outcome.closed - self.base) / max(self.cases, 1)
        closed -= sum(p.closed for p in self.parts) / max(self.cases, 1)
        ledger = self.ledger
        state = State(
            self.query,
            self.options,
            self.whole,
            self.cases,
            self.todo,
            self.parts,
            ledger.created,
            ledger.splits,
            ledger.settled,
            ledger.abandoned,
            bounded,
            leaves,
            min(max(closed, 0.0), 1.0),
            self.spent + time.monotonic() - self._started,
            self.together,
            total.reason if total.reason in LASTING else UnknownReason.NONE,
            self.limit,
            self.dealt,
            self.proof(),
        )
        self.todo, self.parts = todo, parts
        self._since = time.monotonic()
        if not (state.todo or state.parts or self.dealt):
            return False
        save(self.path, state)
        self._took = time.monotonic() - began
        return True
