"""Operand splits where every subproblem is a linear program with cuts: few rectifiers behind dense maps.

There the hulls of the rectifiers over the box (:mod:`bounds.methods.hull_cuts`) say much more than their
triangles: dozens of subproblems are left of tens of thousands, and each may cost a program. Whether they do is
seen at the root.
"""

from __future__ import annotations

from dataclasses import fields

import numpy as np

from bounds.domain import Domains
from bounds.graph import Array
from bounds.methods.edge_slopes import edge_steps
from bounds.methods.operand_bounder import OperandBounds
from bounds.methods.operand_choice import OperandChoice, choose_operands
from bounds.methods.splits import Splits
from verifier.search.exact_leaf import Leaves
from verifier.search.operand_search import OperandDomains, OperandSearch

# ambiguous rectifiers (each may be split), their layers, and disjuncts, each of which is searched by itself
_MOST_NEURONS, _MOST_LAYERS, _MOST_GROUPS = 256, 2, 8
# with fewer inputs splits of these are cheaper
_FEWEST_INPUTS = 8
# share of the root's gap that the program must close
_WORTH = 0.5
# subproblems of one block: programs are solved one by one, but bounded together
_BLOCK = 8


class ProgramSearch(OperandSearch):
    """See the module; collaborators as in :class:`verifier.search.operand_search.OperandSearch`."""

    def _step(
        self, batch: OperandDomains, level: int, lo: Array, hi: Array
    ) -> tuple[OperandDomains, Array] | None:
        del level
        with self.budget.phase("bounding"):
            found = self.bounder.bound(
                batch.splits, batch.pick, None, 0, stored=self._stored, should_stop=self.budget.should_stop
            )
            every = np.arange(len(batch))
            said = self._programs(batch, found, every)
        self.outcome.bounded += len(batch)
        self._close(batch, every, said.proofs)
        found.guesses[:] = np.where(said.known[:, None], said.points, found.guesses)
        still = np.flatnonzero(~said.closed)
        self.outcome.sat = self._falsify(batch, found, still, lo, hi)
        if self.outcome.sat is not None:
            return None
        batch.lb[:] = np.fmax(batch.lb, np.where(said.known, np.fmin(said.value, 0), -np.inf))
        return self._divide(batch, found, said, still)

    def _divide(
        self, batch: OperandDomains, found: OperandBounds, said: Leaves, still: Array
    ) -> tuple[OperandDomains, Array]:
        """Children of the open subproblems, split where the program says; they count as not stalled."""
        chosen = OperandChoice(
            said.operand[still, None].astype(np.int32),
            said.at[still, None],
            np.full((len(still), 1, 2), -np.inf),
            np.zeros((len(still), 1, 2), dtype=np.float32),
        )
        lost = np.flatnonzero(chosen.operand[:, 0] < 0)
        if len(lost):
            other = choose_operands(
                found, self.bounder.objectives, batch.splits, batch.pick, still[lost], self.candidates
            )
            chosen.operand[lost], chosen.point[lost] = other.operand, other.point
        possible = chosen.operand[:, 0] >= 0
        self.ledger.abandon(int((~possible).sum()))
        held = batch.take(still[possible])
        parts = (v[possible, 0] for v in (chosen.operand, chosen.point, chosen.lower, chosen.beta))
        children = OperandDomains.concat(self._children(held, *parts))
        return children, np.zeros(len(children), dtype=bool)

    def _block(self, last: int) -> int:
        return min(_BLOCK, 2 * max(last, 1))


def guided(search: OperandSearch, root: Domains, varying: int) -> OperandSearch:
    """The search with a program for every subproblem, if that is worth its price at the root.

    Args:
        search: would go on without.
        root: of which its tape is.
        varying: how many inputs vary.
    """
    plan, groups = search.bounder.plan, np.flatnonzero(root.open[0])
    layers = len(plan.relus)
    if not (0 < layers <= _MOST_LAYERS and len(groups) <= _MOST_GROUPS and varying >= _FEWEST_INPUTS):
        return search
    if len(plan.nonlinear) > layers or len(edge_steps(plan)) < layers or not search.leaves.usable:
        return search
    k = plan.kernels
    ambiguous = sum(int(np.asarray(k.numpy(r.ambiguous)).sum()) for r in search.bounder.anchor.relus)
    if ambiguous > _MOST_NEURONS:
        return search
    picks = search.picks(groups)
    found = search.bounder.bound(Splits.none(len(picks)), picks, None, 0)
    worst = int(np.argmin(found.lower))
    plain = max(float(root.lb[0]), float(found.lower[worst]))
    guide = search.leaves.program.solve(found.tape, worst, search.leaves.row(int(picks[worst])))
    if guide is None or not guide.value > (1 - _WORTH) * plain:
        return search
    return ProgramSearch(*(getattr(search, f.name) for f in fields(search) if f.init))
