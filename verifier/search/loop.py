"""The search: one loop, no formulas. Bound a block, refute, try to falsify, split, repeat."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from bounds.domain import Domains
from bounds.graph import Array
from bounds.methods.bounder import BoundResult, Effort, Evidence
from bounds.methods.operand_bounder import OperandBounder
from bounds.methods.tape import Stopped, Tape
from verifier.conclude import Ledger, Sat
from verifier.search.branch import input_split
from verifier.search.budget import Budget
from verifier.search.earlier import MOST, Earlier
from verifier.search.falsify.falsifier import Falsifier
from verifier.search.frontier import Frontier
from verifier.search.operand_search import OperandSearch, operand_tape
from verifier.search.outcome import Left, Outcome, Watch
from verifier.search.pace import CHEAP, effort_after_root, hulls_apply, hulls_help
from verifier.search.settle import Settler
from verifier.search.trace import Tracer
from verifier.verdict import UnknownReason

# multiply-adds of one block: large enough to hide the interpreter, small enough for a prompt stop
_BLOCK_WORK = 6e8
_BLOCK_MOST = 512
# share of the restarts of descent that comes before the root is bounded
_EARLY = 0.5


@dataclass(slots=True)
class Search:
    """One case's search and its collaborators.

    Attributes:
        settler: bounds blocks; falsifier: None to prove only.
        budget, ledger, tracer: limits, accounting, listeners (tracer None: no evidence kept).
        next_id: hands out node ids across cases.
        whole: ``d`` bool, inputs that are whole numbers (:mod:`verifier.search.whole`); None: none are.
        watch: called with (bounded, open, closed fraction, worst bound) after every block.
        usual: what an earlier box of the same network came to; None: the root decides.
        earlier: a proof of a similar question, whose splits are tried first.
        hint: ``d``, the counterexample to a similar question.
    """

    settler: Settler
    falsifier: Falsifier | None
    budget: Budget
    ledger: Ledger
    tracer: Tracer | None
    next_id: int
    watch: Watch | None = None
    whole: Array | None = None
    usual: Effort | None = None
    earlier: Earlier | None = None
    hint: Array | None = None
    outcome: Outcome = field(default_factory=Outcome)

    def run(self, lo: Array, hi: Array, root: int, begun: Left | None = None) -> Outcome:
        """Searches the box ``lo, hi: d`` whose tree node is ``root``; ``begun``: goes on from there."""
        out = self.outcome
        groups = self.settler.fast.objectives.groups
        frontier = (
            begun.levels[0]
            if begun
            else Frontier(
                Domains(
                    lo[None].copy(),
                    hi[None].copy(),
                    np.array([root]),
                    np.ones((1, groups), dtype=bool),
                    np.full(1, -np.inf),
                    np.ones(1),
                )
            )
        )
        if begun is None and (found := self._first_points(lo, hi)):
            out.sat = found
            return out
        left = out.left = Left([frontier])
        width, block = hi - lo, begun.block if begun else 1
        effort = left.effort = begun.effort if begun else self.usual
        left.block = block
        tree = None if begun else self.earlier
        while len(frontier):
            out.reason = self.budget.exhausted(out.bounded, frontier.bytes)
            if out.reason is not UnknownReason.NONE:
                break
            batch = frontier.pop(self.budget.allowed(block, out.bounded))
            try:
                result, evidence, share = self._bound(batch, effort, lo, hi)
            except Stopped:
                frontier.push(batch)
                out.reason = self.budget.exhausted(out.bounded, 0)
                break
            if out.sat is not None:
                break
            first = effort is None
            left.root = result.tape if first else left.root
            out.bounded += len(batch)
            still = self._refute(batch, result, evidence)
            batch = batch.take(still)
            if len(batch) and self._falsify(batch, result, still, (lo, hi), share if first else 0.0):
                break
            if first and len(batch) and self._search_operands(batch, result.tape):
                return self.finish()
            if tree is not None and len(batch):
                children, small = self._unfold(tree, batch, root), batch.take(slice(0, 0))
            else:
                children, small = self._split(batch, result, still, width)
            if len(small) and self.falsifier and (found := self.falsifier.check((small.lo + small.hi) / 2)):
                out.sat = found
                break
            frontier.push(children)
            tree = None
            block = self._block(result, block)
            effort = effort or self._effort(lo, hi, result)
            left.block, left.effort = block, effort
            if self.watch:
                self.watch(out.bounded, len(frontier), out.closed, frontier.worst())
        out.worst = frontier.worst()
        return self.finish()

    def _first_points(self, lo: Array, hi: Array) -> Sat | None:
        """A violation at the points that cost nothing."""
        if self.falsifier is None:
            return None
        found = None if self.hint is None else self.falsifier.check(np.clip(self.hint, lo, hi)[None])
        return found or self.falsifier.root(lo, hi)

    def _bound(
        self, batch: Domains, effort: Effort | None, lo: Array, hi: Array
    ) -> tuple[BoundResult, list[tuple[Array, Evidence]], float]:
        """Bounds a block; a root of many inputs only after a cheap look at it and some descent.

        Returns:
            The result, evidence, and the share of descent's restarts that is left; or a violation, as the
            outcome.
        """
        stop, phase = self.budget.should_stop, "bounding" if effort else "root bounds"
        with self.budget.phase(phase):
            look = None if effort else self.settler.cheaply(batch, stop)
        if look is not None:
            if bool((look[0].refuted | ~batch.open).all()):
                return *look, 0.0
            if self.falsifier is not None:
                self.outcome.sat = self.falsifier.descend(lo, hi, look[0].guesses[0], _EARLY)
            if self.outcome.sat is not None:
                return *look, 0.0
        with self.budget.phase(phase):
            result, evidence = self.settler.bound(batch, stop, effort)
        return result, evidence, 1.0 if look is None else 1.0 - _EARLY

    def _falsify(
        self, batch: Domains, result: BoundResult, still: Array, box: tuple[Array, Array], share: float
    ) -> bool:
        """Looks for a violation in open domains, and with a share of descent's restarts in the whole box."""
        if self.falsifier is None:
            return False
        found = self.falsifier.leaves(batch, result.guesses[still], result.lower[still])
        if share and found is None:
            found = self.falsifier.descend(*box, result.guesses[0], share)
        self.outcome.sat = found
        return found is not None

    def finish(self) -> Outcome:
        """The outcome, when the search has come to its end."""
        out = self.outcome
        if out.sat is None and out.reason is UnknownReason.NONE and self.ledger.abandoned:
            out.reason = UnknownReason.PRECISION
        return out

    def _search_operands(self, root: Domains, tape: Tape | None) -> bool:
        """Goes on by splitting operands of nonlinear steps, if that is better; the tape is the root's."""
        tape = operand_tape(tape, self.settler.fast.plan)
        if tape is None or self.settler.guide is not None:
            return False
        if not (self.settler.splits_operands or self._hulls_apply(tape, root)):
            return False
        search = self.operands(tape, root)
        if not (self.settler.splits_operands or search.bounder.hull):
            return False
        search.run(root)
        self.settler.counts.float64 += search.leaves.settled
        self.next_id = search.next_id
        return True

    def _open_rows(self, root: Domains) -> Array:
        return np.flatnonzero(root.open[0][self.settler.fast.objectives.group_of_row])

    def _hulls_apply(self, tape: Tape, root: Domains) -> bool:
        return hulls_apply(tape, len(self._open_rows(root)), self.settler.fast.varying)

    def operands(self, tape: Tape, root: Domains) -> OperandSearch:
        """The search that splits operands of nonlinear steps; the tape is the root's."""
        fast = self.settler.fast
        bounder = OperandBounder(tape, fast.compiled)
        if self._hulls_apply(tape, root):
            rows = self._open_rows(root)
            hulls_help(bounder, rows, fast.objectives.group_of_row[rows], float(root.lb[0]))
        return OperandSearch(
            bounder,
            fast.objectives,
            self.falsifier,
            self.budget,
            self.ledger,
            self.tracer,
            self.watch,
            self.outcome,
            self.next_id,
            self.settler.exact_leaves(bounder, root),
            earlier=self.earlier,
        )

    def _refute(self, batch: Domains, result: BoundResult, evidence: list[tuple[Array, Evidence]]) -> Array:
        """Books what was refuted; returns the mask of domains still open."""
        if self.tracer is not None:
            for index, e in evidence:
                self.tracer.refuted(batch.take(index), e)
        batch.open &= ~result.refuted
        still = batch.open.any(axis=1)
        closed = ~still
        if closed.any():
            self.ledger.settle(~batch.open[closed])
            self.outcome.leaves += int(closed.sum())
            self.outcome.closed += float(batch.volume[closed].sum())
            if self.tracer is not None:
                self.tracer.settled(batch.id[closed])
        batch.lb[:] = np.where(batch.open, result.lower, np.inf).min(axis=1)
        return np.asarray(still)

    def _split(
        self, batch: Domains, result: BoundResult, still: Array, width: Array
    ) -> tuple[Domains, Domains]:
        """Children of the open domains, and those too small to split (abandoned: never counted as proved)."""
        if len(batch) == 0:
            return batch, batch
        dim, at, possible = input_split.choose(batch, result.scores[still], width, self.whole)
        small = batch.take(~possible)
        if len(small):
            self.ledger.abandon(int((~possible).sum()))
            batch, dim, at = batch.take(possible), dim[possible], at[possible]
        return self._divide(batch, dim, at), small

    def _divide(self, batch: Domains, dim: Array, at: Array) -> Domains:
        """Both children of every domain, the left ones first."""
        children = batch.split(dim, at, self.next_id)
        if self.whole is not None:
            children.lo[:, self.whole] = np.ceil(children.lo[:, self.whole])
            children.hi[:, self.whole] = np.floor(children.hi[:, self.whole])
        self.ledger.split(len(batch))
        if self.tracer is not None:
            self.tracer.split(batch, dim, at, self.next_id)
        self.next_id += 2 * len(batch)
        return children

    def _unfold(self, tree: Earlier, root: Domains, node: int) -> Domains:
        """The leaves of an earlier proof's tree below its ``node``, as open domains; what is above them is
        split unseen."""
        if node >= len(tree.dim):
            return root
        leaves: list[Domains] = []
        batch, at = root, np.array([node])
        while len(batch):
            dim, point = tree.dim[at], tree.at[at]
            known = (dim >= 0) & (dim < batch.lo.shape[1])
            column = np.where(known, dim, 0)[:, None]
            low, high = (np.take_along_axis(v, column, 1)[:, 0] for v in (batch.lo, batch.hi))
            inside = known & (low < point) & (point < high)
            aside = known & ~inside  # all of the box lies on one side of the plane
            leaves.append(batch.take(~inside & ~aside))
            full = len(batch) + sum(map(len, leaves)) > MOST
            if full:
                leaves.append(batch.take(inside | aside))
                break
            here = np.flatnonzero(inside)
            parts = [batch.take(aside)]
            nodes = [tree.left[at[aside]] + (point[aside] <= low[aside])]
            if len(here):
                parts.append(self._divide(batch.take(here), dim[here], point[here]))
                nodes += [tree.left[at[here]], tree.left[at[here]] + 1]
            batch, at = Domains.concat(parts), np.concatenate(nodes)
        return Domains.concat(leaves)

    def _effort(self, lo: Array, hi: Array, root: BoundResult) -> Effort:
        def cheaply() -> BoundResult:
            every = np.ones((1, self.settler.fast.objectives.groups), dtype=bool)
            return self.settler.fast.bound(lo[None], hi[None], every, None, CHEAP)

        return effort_after_root(self.settler.fast, root, cheaply)

    def _block(self, result: BoundResult, last: int) -> int:
        """Size of the next block from the work the last one took (deterministic: no clock)."""
        bounder = self.settler.fast
        rows = bounder.objectives.rows * 2 + result.refined / max(len(result.lower), 1)
        wanted = _BLOCK_WORK / (bounder.plan.work * max(rows, 1.0))
        return int(np.clip(wanted, 1, min(_BLOCK_MOST, 4 * last)))
