"""The search below the root for queries with many inputs: operands of nonlinear steps are split, not inputs.

All subproblems have the root's box and inherit its intermediate bounds. Groups (disjuncts) are searched
apart, each with splits of its own: the tree gets copies of the root, among which the open groups are dealt
out.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from bounds.domain import Domains, Objectives
from bounds.graph import Array
from bounds.methods.operand_bounder import OperandBounder, OperandBounds
from bounds.methods.operand_choice import OperandChoice, choose_operands
from bounds.methods.splits import Splits
from bounds.methods.tape import Stopped, Tape
from bounds.plan import Plan
from verifier.conclude import Ledger, Sat
from verifier.search.budget import Budget
from verifier.search.earlier import MOST, Earlier
from verifier.search.exact_leaf import ExactLeaves, Leaves, Proof
from verifier.search.falsify.falsifier import Falsifier
from verifier.search.frontier import Frontier
from verifier.search.outcome import Left, Outcome, Watch
from verifier.search.trace import SplitEvidence, Tracer
from verifier.verdict import UnknownReason

# steps of improvement for the root's rows and for subproblems (of 10, 20, 40 and 80 steps, 40 closed most in
# equal time on a rectifier network of 4x256; a sigmoid network of 6x200 does as well with 20)
_ROOT_STEPS, _STEPS = 50, 40
# the same where lines have slopes for every edge: many more parameters, but a child begins with its parent's
_HULL_ROOT_STEPS, _HULL_STEPS = 100, 20
# a subproblem whose bound rose by less than this share since its parent gets twice the steps, up to so many
# times: splitting does not help where the optimisation is stuck
_STALLED, _LEVELS = 0.05, 4
# candidates for a split that are tried
_CANDIDATES = 12
# subproblems that a block should have, and splits that are dealt out at once to get there
_WANTED, _DEEPEST = 32, 4
# multiply-adds of one block, and its largest size
_BLOCK_WORK, _BLOCK_MOST = 4e9, 256
# a slope of an edge costs as much as so many multiply-adds
_EDGE_WORK = 40
_FIELDS = ("id", "open", "lb", "volume", "pick", "parameters")


@dataclass(slots=True)
class OperandDomains:
    """A batch of ``D`` subproblems of one box.

    Attributes:
        id, open, lb, volume: as in :class:`bounds.domain.Domains` (volume: share of the tree).
        pick: ``D`` the objective row that is bounded.
        parameters: ``D A`` uint8, relaxations' parameters to begin with.
        splits: how they differ.
    """

    id: Array
    open: Array
    lb: Array
    volume: Array
    pick: Array
    parameters: Array
    splits: Splits

    def __len__(self) -> int:
        return len(self.id)

    def take(self, index: Array | slice) -> OperandDomains:
        """The listed (or masked) subproblems."""
        parts = [getattr(self, f)[index] for f in _FIELDS]
        return OperandDomains(*parts, splits=self.splits.take(index))

    @staticmethod
    def concat(parts: list[OperandDomains]) -> OperandDomains:
        """All of them in order."""
        joined = [np.concatenate([getattr(p, f) for p in parts]) for f in _FIELDS]
        return OperandDomains(*joined, splits=Splits.concat([p.splits for p in parts]))

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return sum(getattr(self, f).nbytes for f in _FIELDS) + self.splits.nbytes


@dataclass(slots=True)
class OperandSearch:
    """Searches one box; collaborators as in :class:`verifier.search.loop.Search`.

    Attributes:
        bounder: of the box's anchor.
        objectives: of the case.
        falsifier, budget, ledger, tracer, watch, outcome: the search's own.
        next_id: hands out node ids.
        leaves: settles what rounding leaves open, and what nothing is left to split of.
        candidates: how many splits are tried for each subproblem.
        earlier: a proof of a similar question, whose splits, slopes and multipliers are tried first.
    """

    bounder: OperandBounder
    objectives: Objectives
    falsifier: Falsifier | None
    budget: Budget
    ledger: Ledger
    tracer: Tracer | None
    watch: Watch | None
    outcome: Outcome
    next_id: int
    leaves: ExactLeaves
    candidates: int = _CANDIDATES
    earlier: Earlier | None = None
    anchor_node: int = -1

    @property
    def _stored(self) -> bool:
        """Whether evidence is kept."""
        return self.tracer is not None and self.tracer.evidence_kept

    def run(self, root: Domains) -> None:
        """Searches the open root; books everything, and the outcome."""
        roots = self._roots(root)
        block = len(roots)
        if self.earlier is not None:
            roots = self._again(self.earlier, *self._unfold(self.earlier, roots, int(root.id[0])))
        levels = [Frontier(roots), *(Frontier[OperandDomains]() for _ in range(_LEVELS - 1))]
        self.go_on(root.lo[0], root.hi[0], levels, block)

    def go_on(self, lo: Array, hi: Array, levels: list[Frontier[OperandDomains]], block: int) -> None:
        """Searches what is open of the box ``lo, hi: d``, in blocks of ``block`` to begin with."""
        out = self.outcome
        left = out.left = Left([*levels], block, None, self.bounder.anchor, self.bounder, self.anchor_node)
        while any(len(f) for f in levels):
            out.reason = self.budget.exhausted(out.bounded, sum(f.bytes for f in levels))
            if out.reason is not UnknownReason.NONE:
                break
            level = next(i for i, f in enumerate(levels) if len(f))
            batch = levels[level].pop(self.budget.allowed(max(1, block >> level), out.bounded))
            try:
                found = self._step(batch, level, lo, hi)
                if found is None:
                    break
                children, stalled = found
            except Stopped:
                levels[level].push(batch)
                out.reason = self.budget.exhausted(out.bounded, 0)
                break
            levels[min(level + 1, _LEVELS - 1)].push(children.take(stalled))
            levels[max(level - 1, 0)].push(children.take(~stalled))
            block = left.block = self._block(block)
            if self.watch:
                self.watch(out.bounded, sum(map(len, levels)), out.closed, _worst(levels))
        out.worst = _worst(levels)

    def _step(
        self, batch: OperandDomains, level: int, lo: Array, hi: Array
    ) -> tuple[OperandDomains, Array] | None:
        """Bounds a block, refutes, tries to falsify and splits; None where a violation was found.

        Returns:
            The children, and which of them have parents whose bounds hardly rose.
        """
        before = batch.lb.copy()
        found, still = self._bound(batch, level)
        if level == _LEVELS - 1 and self.leaves.cheap:
            still = self._by_programs(batch, found, still)
        self.outcome.sat = self._falsify(batch, found, still, lo, hi)
        if self.outcome.sat is not None:
            return None
        split = self._split(batch, before, found, still)
        return split if self.outcome.sat is None else None

    def _roots(self, root: Domains) -> OperandDomains:
        """One copy of the root for each open group; a first copy of all of them is the anchor."""
        groups = np.flatnonzero(root.open[0])
        here, nothing = root.open[0], np.zeros_like(root.open[0])
        self.anchor_node = self._copy(int(root.id[0]), here, here, nothing)
        ids, node = list[int](), self.anchor_node
        for g in groups[:-1]:
            alone = nothing.copy()
            alone[g] = True
            left = self._copy(node, here, alone, here & ~alone)
            ids.append(left)
            node, here = left + 1, here & ~alone
        ids.append(node)
        count = len(groups)
        open_ = np.zeros((count, self.objectives.groups), dtype=bool)
        open_[np.arange(count), groups] = True
        picks = self.picks(groups)
        return OperandDomains(
            np.array(ids),
            open_,
            np.full(count, root.lb[0]),
            np.full(count, root.volume[0] / count),
            picks,
            self.bounder.first_parameters(count),
            Splits.none(count),
        )

    def _unfold(self, tree: Earlier, roots: OperandDomains, case: int) -> tuple[OperandDomains, Array]:
        """The leaves of an earlier proof's trees below the roots, and their nodes there; what is above them
        is split unseen."""
        group = self.objectives.group_of_row[roots.pick]
        tops = tree.copies(case)
        low, high = self.bounder.intervals()
        batch, at = roots, np.array([tops.get(int(g), -1) for g in group])
        leaves, nodes = list[OperandDomains](), list[Array]()
        while len(batch):
            operand, point = tree.dim[at] - self.bounder.plan.input_size, tree.at[at].astype(np.float32)
            known = (at >= 0) & (operand >= 0) & (operand < len(low))
            operand = np.where(known, operand, 0)
            inside = known & (low[operand] < point) & (point < high[operand])
            aside = known & ~inside  # all of the box lies on one side of the split
            full = len(batch) + sum(map(len, leaves)) > MOST
            done = np.ones(len(batch), dtype=bool) if full else ~known
            leaves.append(batch.take(done))
            nodes.append(at[done])
            inside, aside = inside & ~done, aside & ~done
            nothing = np.full((int(inside.sum()), 2), -np.inf)
            children = self._children(
                batch.take(inside), operand[inside], point[inside], nothing, np.zeros_like(nothing)
            )
            left = tree.left[at]
            at = np.concatenate([left[inside], left[inside] + 1, (left + (point <= low[operand]))[aside]])
            batch = OperandDomains.concat([*children, batch.take(aside)])
        return OperandDomains.concat(leaves), np.concatenate(nodes)

    def _as_before(self, tree: Earlier, batch: OperandDomains, node: Array) -> OperandDomains:
        """Subproblems with the choices of an earlier proof's evidence about its nodes ``node: D``."""
        group = self.objectives.group_of_row[batch.pick]
        evidence = tree.evidence(node, group)
        start = self.objectives.start
        pick = start[group] + tree.row(evidence)
        batch.pick = np.where((evidence >= 0) & (pick < start[group + 1]), pick, batch.pick)
        known = np.flatnonzero(evidence >= 0)
        if len(known) and not self.bounder.hull:
            held = tree.parameters(evidence[known])
            batch.parameters[known] = self.bounder.packed(batch.splits.take(known), held)
        row, column = batch.splits.pairs()
        beta = tree.multipliers(evidence, batch.splits.operand)
        batch.splits.beta = np.zeros_like(beta)
        batch.splits.beta[row, column] = beta[row, column]
        return batch

    def _again(self, tree: Earlier, batch: OperandDomains, node: Array) -> OperandDomains:
        """Bounds subproblems with an earlier proof's choices, without improving any; those that stay open."""
        still: list[OperandDomains] = []
        for start in range(0, len(batch), _BLOCK_MOST):
            part = slice(start, start + _BLOCK_MOST)
            piece = self._as_before(tree, batch.take(part), node[part])
            exhausted = self.budget.exhausted(self.outcome.bounded + len(piece), batch.nbytes)
            if not piece.splits.depth or exhausted is not UnknownReason.NONE:
                still.append(batch.take(slice(start, None)))
                break
            try:
                found, index = self._bound(piece, 0, steps=0)
            except Stopped:
                still.append(batch.take(slice(start, None)))
                break
            piece.splits.beta, piece.parameters = found.beta, found.parameters
            still.append(piece.take(index))
            if self.watch:
                left = len(batch) - start - len(piece) + sum(map(len, still))
                self.watch(self.outcome.bounded, left, self.outcome.closed, None)
        return OperandDomains.concat(still)

    def _copy(self, node: int, held: Array, left: Array, right: Array) -> int:
        """Deals a node's open groups out to two copies of it; the left one's id."""
        first = self.next_id
        self.next_id += 2
        self.ledger.copy(held, left, right)
        if self.tracer is not None:
            self.tracer.copied(node, first)
            self.tracer.settled(first + np.flatnonzero([not left.any(), not right.any()]))
        return first

    def picks(self, groups: Array) -> Array:
        """The best row of each group on the whole box."""
        start: list[int] = self.objectives.start.tolist()
        rows = np.concatenate([np.arange(start[g], start[g + 1]) for g in groups.tolist()])
        if len(rows) == len(groups):
            return rows
        found = self.bounder.bound(Splits.none(len(rows)), rows, None, 0)
        lower = np.where(np.isnan(found.lower), -np.inf, found.lower)
        sizes = np.cumsum([0, *(start[g + 1] - start[g] for g in groups.tolist())])
        return np.array([rows[s + lower[s:e].argmax()] for s, e in pairwise(sizes)])

    def _bound(
        self, batch: OperandDomains, level: int, steps: int | None = None
    ) -> tuple[OperandBounds, Array]:
        """Bounds a block, books what was refuted; returns the bounds and the indices still open."""
        out = self.outcome
        whole, hull = batch.splits.depth == 0, self.bounder.hull
        first, usual = (_HULL_ROOT_STEPS, _HULL_STEPS) if hull else (_ROOT_STEPS, _STEPS)
        steps = usual if steps is None else steps
        with self.budget.phase("bounding"):
            found = self.bounder.bound(
                batch.splits,
                batch.pick,
                None if whole else batch.parameters,
                first if whole else steps << level,
                stored=self._stored,
                should_stop=self.budget.should_stop,
            )
        out.bounded += len(batch)
        with self.budget.phase("settling"):
            index = np.flatnonzero(self.leaves.proved(found, batch.pick))
            proofs = [Proof.of(self.bounder, found, batch.splits, index, index)] if len(index) else []
            proofs += self.leaves.settle(found, batch.splits, batch.pick, self.budget.should_stop)
        batch.lb[:] = np.fmax(batch.lb, found.lower)
        return found, self._close(batch, np.arange(len(batch)), proofs)

    def _close(self, batch: OperandDomains, index: Array, proofs: list[Proof]) -> Array:
        """Books what was refuted of the subproblems ``index``; returns those still open."""
        out = self.outcome
        for proof in proofs:
            done = proof.index
            row = batch.pick[done]
            group = self.objectives.group_of_row[row]
            if self.tracer is not None and self._stored:
                place = row - self.objectives.start[group]
                how = (proof.parameters, proof.splits, self.anchor_node, self.bounder.anchor, proof.edges)
                self.tracer.refuted_splits(SplitEvidence(batch.id[done], group, place, *how))
            # the row says something of its own group only; should another be open, the ledger refuses
            batch.open[done, group] = False
            self.ledger.settle(~batch.open[done])
            out.leaves += len(done)
            if self.tracer is not None:
                self.tracer.settled(batch.id[done])
            out.closed += float(batch.volume[done].sum())
        return np.setdiff1d(index, np.concatenate([p.index for p in proofs])) if proofs else index

    def _by_programs(self, batch: OperandDomains, found: OperandBounds, still: Array) -> Array:
        """Tries programs on subproblems whose bounds no longer rise; their points are guesses."""
        if not len(still):
            return still
        said = self._programs(batch, found, still)
        found.guesses[still] = np.where(said.known[:, None], said.points, found.guesses[still])
        return self._close(batch, still, said.proofs)

    def _programs(self, batch: OperandDomains, found: OperandBounds, index: Array) -> Leaves:
        stop = self.budget.should_stop
        return self.leaves.decide(found.tape, batch.splits, batch.pick, index, stop)

    def _falsify(
        self, batch: OperandDomains, found: OperandBounds, still: Array, lo: Array, hi: Array
    ) -> Sat | None:
        """Tries the rows' minimisers, and descent from the worst of them."""
        if self.falsifier is None or not len(still):
            return None
        shape = (len(still), len(lo))
        boxes = Domains(
            np.broadcast_to(lo, shape),
            np.broadcast_to(hi, shape),
            batch.id[still],
            batch.open[still],
            batch.lb[still],
            batch.volume[still],
        )
        lower = np.where(batch.open[still], batch.lb[still][:, None], np.inf)
        return self.falsifier.leaves(boxes, found.guesses[still], lower)

    def _split(
        self, batch: OperandDomains, before: Array, found: OperandBounds, still: Array
    ) -> tuple[OperandDomains, Array]:
        """Children of the open subproblems; those without anything to split are abandoned.

        Returns:
            The children, and which of them have parents whose bounds hardly rose over ``before: D``.
        """
        if not len(still):
            return batch.take(still), np.zeros(0, dtype=bool)
        # few subproblems: deal several splits out at once, a block of one row costs what one of ten does
        most = max(1, min(_DEEPEST, int(np.log2(max(_WANTED // len(still), 1)))))
        chosen = choose_operands(
            found, self.bounder.objectives, batch.splits, batch.pick, still, self.candidates, most
        )
        possible = chosen.operand[:, 0] >= 0
        if not possible.all() and self.leaves.usable:
            still, chosen = self._last_leaves(batch, found, still, chosen)
            possible = chosen.operand[:, 0] >= 0
        self.ledger.abandon(int((~possible).sum()))
        held = batch.take(still[possible])
        held.splits.beta, held.parameters = found.beta[still[possible]], found.parameters[still[possible]]
        gained = held.lb - before[still[possible]] > _STALLED * np.abs(before[still[possible]])
        parent = np.arange(len(held))
        for m in range(most):
            operand = chosen.operand[possible, m][parent]
            keep = operand >= 0
            done, rest = held.take(~keep), parent[~keep]
            now, parent = held.take(keep), parent[keep]
            part = (chosen.point, chosen.lower, chosen.beta)
            children = self._children(now, operand[keep], *(p[possible, m][parent] for p in part))
            held = OperandDomains.concat([*children, done])
            parent = np.concatenate([parent, parent, rest])
        return held, ~gained[parent]

    def _last_leaves(
        self, batch: OperandDomains, found: OperandBounds, still: Array, chosen: OperandChoice
    ) -> tuple[Array, OperandChoice]:
        """Programs where no line seems to cost anything: closed, or a witness, or where one does."""
        last = np.flatnonzero(chosen.operand[:, 0] < 0)
        said = self._programs(batch, found, still[last])
        self._close(batch, still[last], said.proofs)
        chosen.operand[last, 0], chosen.point[last, 0] = said.operand, said.at
        if self.falsifier is not None and not said.closed.all():
            self.outcome.sat = self.falsifier.check(said.points[~said.closed])
        keep = np.ones(len(still), dtype=bool)
        keep[last[said.closed]] = False
        parts = (chosen.operand, chosen.point, chosen.lower, chosen.beta)
        return still[keep], OperandChoice(*(p[keep] for p in parts))

    def _children(
        self, held: OperandDomains, operand: Array, point: Array, lower: Array, beta: Array
    ) -> list[OperandDomains]:
        """The left and the right children of subproblems split at one operand each."""
        ids = self.next_id + 2 * np.arange(len(held))
        if len(held):
            self.ledger.split(len(held))
            if self.tracer is not None:
                dim = self.bounder.plan.input_size + operand
                self.tracer.split(held, dim, point.astype(np.float64), self.next_id)
        self.next_id += 2 * len(held)
        children: list[OperandDomains] = []
        for i, side in enumerate((-1, 1)):
            splits = held.splits.with_split(operand, point, side, held.id, beta[:, i])
            bound = np.fmax(held.lb, lower[:, i])
            one = (ids + i, held.open.copy(), bound, held.volume / 2, held.pick, held.parameters)
            children.append(OperandDomains(*one, splits))
        return children

    def _block(self, last: int) -> int:
        """Size of the next block (deterministic: no clock)."""
        work = (self.bounder.plan.work + _EDGE_WORK * self.bounder.edges) * 3.0 * (_STEPS + self.candidates)
        return int(np.clip(_BLOCK_WORK / work, 1, min(_BLOCK_MOST, 4 * max(last, 1))))


def _worst(levels: list[Frontier[OperandDomains]]) -> float | None:
    found = [w for w in (f.worst() for f in levels) if w is not None]
    return min(found) if found else None


def operand_tape(tape: Tape | None, plan: Plan) -> Tape | None:
    """The tape to search from, or None where there is nothing to split.

    A root bounded with another plan is of no use: its arithmetic was given up.
    """
    return tape if tape is not None and tape.plan is plan and tape.relaxations else None
