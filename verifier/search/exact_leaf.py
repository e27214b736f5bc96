"""Subproblems on which steps of ascent get stuck: a linear program says where to look, float64 settles.

A subproblem whose rectifiers are all split has nothing left to split: its best multipliers are the dual
solution of a linear program, or the program's optimum is an input that violates the property. Neither is
taken from the solver. Its dual solution becomes slopes and multipliers from which the ordinary bounder
computes a bound, its point is a candidate for the falsifier. What float32 leaves open within its own rounding
is bounded once more in float64, from the same intermediate bounds computed again with the same parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from bounds.domain import Objectives
from bounds.graph import Array
from bounds.methods.bounder import BoxBounder
from bounds.methods.edge_slopes import EdgeSlopes
from bounds.methods.linear_program import Guidance, NodeProgram, Row
from bounds.methods.operand_bounder import OperandBounder, OperandBounds
from bounds.methods.parameters import Parameters, stored_parameters
from bounds.methods.program_lines import on_grid
from bounds.methods.row_choices import Followed
from bounds.methods.rule import relax_boxes
from bounds.methods.splits import Splits
from bounds.methods.tape import Tape
from bounds.relax.relu import SLOPE_STEPS

# rows of a program that is solved where nothing is left to split, and of one that helps out elsewhere
_MOST_ROWS, _FEW_ROWS = 4000, 200
# steps of ascent from what a program says (it is the optimum but for the slopes' rounding)
_POLISH = 4
# what float64 costs in units of float32, and passes that a subproblem takes, its candidates included: the
# intermediate bounds are computed again when splitting what is close has cost as much
_FINE_COST, _PASSES = 4.0, 150.0
# float64 bounds that are not tried: those of blocks of which so many in a row did not help
_IN_VAIN = 64


@dataclass(frozen=True, slots=True)
class Proof:
    """Subproblems ``index`` of a block whose rows are positive, and the numbers that show it.

    Attributes:
        index: ``E`` positions in the block.
        splits: ``E``, with multipliers; also of operands that were not split (their point is minus infinity).
        parameters: ``E``, as a certificate holds them.
        edges: by position among the ``E`` upper lines with a slope for every edge.
    """

    index: Array
    splits: Splits
    parameters: Parameters
    edges: EdgeSlopes

    @staticmethod
    def of(bounder: OperandBounder, found: OperandBounds, splits: Splits, rows: Array, index: Array) -> Proof:
        """From the listed ``rows`` of a bounded block, which are the subproblems ``index`` of another."""
        k = bounder.kernels
        chosen = [tuple(k.take(p, k.array(rows)) for p in c) for c in found.best.choices]
        held = splits.take(rows)
        held.beta = found.beta[rows]
        return Proof(index, held, stored_parameters(found.tape, chosen, len(rows)), found.edges.take(rows))


@dataclass(frozen=True, slots=True)
class Leaves:
    """What programs said about some subproblems of a block.

    Attributes:
        proofs: of those that are closed.
        closed, known: ``D'`` bool; whether the program has a solution.
        points: ``D' d`` where the others' rows are least, as far as the program knows.
        operand, at: ``D'`` where to split the others: an operand whose lines are not exact there (or -1).
        value: ``D'`` the programs' optima, which prove nothing.
    """

    proofs: list[Proof]
    closed: Array
    known: Array
    points: Array
    operand: Array
    at: Array
    value: Array


@dataclass(slots=True)
class ExactLeaves:
    """Decides subproblems of one anchor.

    Attributes:
        bounder: the search's own.
        objectives: of the case.
        fine: makes the float64 bounder of the same anchor when it is first needed, polling its argument; None
            without one.
        evidence: proofs go into a certificate: its checker gets a margin, and numbers are as it holds them.
    """

    bounder: OperandBounder
    objectives: Objectives
    fine: Callable[[Callable[[], bool]], OperandBounder] | None
    evidence: bool
    rows: int = field(init=False)
    settled: int = 0
    _fine: OperandBounder | None = None
    _program: NodeProgram | None = None
    _vain: int = 0
    _close: int = 0

    def __post_init__(self) -> None:
        self.rows = NodeProgram.rows_of(self.bounder.plan)

    @property
    def _due(self) -> bool:
        """Whether a float64 bounder has earned its making."""
        if self._fine is not None:
            return True
        price = _FINE_COST * self.bounder.anchor.refined_work
        return self._close * _PASSES * self.bounder.plan.work >= price

    @property
    def program(self) -> NodeProgram:
        """Made when it is first needed."""
        if self._program is None:
            self._program = NodeProgram(self.bounder.plan, self.bounder.anchor)
        return self._program

    @property
    def usable(self) -> bool:
        """Whether programs are small enough to be solved where nothing else is left."""
        return self.rows <= _MOST_ROWS

    @property
    def cheap(self) -> bool:
        """Whether they are also worth trying on subproblems that could be split further."""
        return self.rows <= _FEW_ROWS

    def proved(self, found: OperandBounds, picks: Array) -> Array:
        """``D`` bool: rows that refute; the checker walks the same relaxation in other arithmetic, so with
        evidence the rounding share is left once more. A NaN proves nothing."""
        low = found.lower - (found.pad if self.evidence else 0.0)
        return np.asarray((low > 0) | (self.objectives.strict[picks] & (low >= 0)))

    def settle(
        self, found: OperandBounds, splits: Splits, picks: Array, should_stop: Callable[[], bool]
    ) -> list[Proof]:
        """Float64 bounds of a block's subproblems that only rounding leaves open."""
        close = ~self.proved(found, picks) & (found.lower + 2 * found.pad > 0)
        index = np.flatnonzero(close)
        if not len(index) or self.fine is None or self._vain >= _IN_VAIN:
            return []
        self._close += len(index)
        if not self._due:
            return []
        held = splits.take(index)
        held.beta = found.beta[index]
        start = found.parameters[index], found.edges.take(index)
        proofs = self._finely(held, picks[index], start, index, should_stop)
        self._vain = 0 if proofs else self._vain + len(index)
        return proofs

    def _finely(
        self,
        splits: Splits,
        picks: Array,
        start: tuple[Array, EdgeSlopes],
        index: Array,
        should_stop: Callable[[], bool],
    ) -> list[Proof]:
        """Float64 bounds of listed subproblems, from parameters and lines: the proofs that they are."""
        if self.fine is None:
            return []
        if self._fine is None:
            self._fine = self.fine(should_stop)
        found = self._fine.bound(
            splits,
            picks,
            start[0],
            _POLISH,
            stored=self.evidence,
            edges=start[1],
            should_stop=should_stop,
        )
        rows = np.flatnonzero(self.proved(found, picks))
        self.settled += len(rows)
        return [Proof.of(self._fine, found, splits, rows, index[rows])] if len(rows) else []

    def decide(
        self,
        tape: Tape,
        splits: Splits,
        picks: Array,
        index: Array,
        should_stop: Callable[[], bool],
    ) -> Leaves:
        """Programs of the subproblems ``index: D'`` of a block."""
        out = Leaves(
            [],
            np.zeros(len(index), dtype=bool),
            np.zeros(len(index), dtype=bool),
            np.zeros((len(index), self.bounder.plan.input_size)),
            np.full(len(index), -1, dtype=np.int64),
            np.zeros(len(index), dtype=np.float32),
            np.full(len(index), -np.inf),
        )
        said: dict[int, Guidance] = {}
        for i, one in enumerate(index.tolist()):
            if should_stop():
                break
            guide = self.program.solve(tape, one, self.row(int(picks[one])))
            if guide is not None:
                said[i] = guide
                out.known[i], out.value[i] = True, guide.value
                out.points[i], out.operand[i], out.at[i] = guide.point, guide.operand_to_split, guide.split_at
        if not said:
            return out
        at, guides = np.array(list(said)), list(said.values())
        mine, rows = splits.take(index[at]), picks[index[at]]
        held, (start, edges) = with_multipliers(mine, guides), _begin(guides)
        found = self.bounder.bound(
            held, rows, start, _POLISH, stored=self.evidence, edges=edges, should_stop=should_stop
        )
        done = self.proved(found, rows)
        if done.any():
            proved = np.flatnonzero(done)
            out.proofs.append(Proof.of(self.bounder, found, held, proved, index[at[proved]]))
        # what the program thinks positive: once as it says, once with the slopes rounded first
        positive = np.array([g.value > 0 for g in guides])
        for rounded in (False, True):
            again = np.flatnonzero(positive & ~done)
            if not len(again):
                break
            some = [guides[i] for i in again]
            if rounded:
                some = [self._rounded(tape, int(index[at[i]]), int(rows[i]), guides[i]) for i in again]
            held = with_multipliers(mine.take(again), some)
            proofs = self._finely(held, rows[again], _begin(some), index[at[again]], should_stop)
            out.proofs.extend(proofs)
            for proof in proofs:
                done |= np.isin(index[at], proof.index)
        out.closed[at[done]] = True
        return out

    def row(self, pick: int) -> Row:
        """An objective's row, for a program."""
        o = self.objectives
        return Row(o.c[pick], o.g[pick], float(o.d[pick]))

    def _rounded(self, tape: Tape, box: int, pick: int, said: Guidance) -> Guidance:
        """The best multipliers for slopes that are multiples of 1/128."""
        fixed = [tuple(on_grid(p) for p in held) for held in said.parameters]
        found = self.program.solve(tape, box, self.row(pick), fixed, said.edges)
        return said if found is None else replace(found, edges=said.edges)


def _begin(said: list[Guidance]) -> tuple[Array, EdgeSlopes]:
    """Parameters and lines of rows to begin with."""
    lines = [(i, n, t) for i, g in enumerate(said) for n, t in sorted(g.edges, key=lambda e: e[0])]
    return np.stack([packed(g.parameters) for g in said]), EdgeSlopes.of(lines)


def packed(parameters: list[tuple[Array, ...]]) -> Array:
    """``A`` uint8: parameters in the layout of :class:`bounds.methods.operand_bounder.OperandBounder`."""
    return np.concatenate([np.rint(p * SLOPE_STEPS).astype(np.uint8) for held in parameters for p in held])


def with_multipliers(splits: Splits, said: list[Guidance]) -> Splits:
    """The splits with the programs' multipliers instead of their own.

    A multiplier needs a split of its operand that cuts nothing off: at minus infinity.
    """
    most = max((len(s.operand) for s in said), default=0)
    kept = replace(splits, beta=np.zeros_like(splits.beta)).padded(splits.depth + most)
    for i, s in enumerate(said):
        place = slice(splits.depth, splits.depth + len(s.operand))
        kept.operand[i, place], kept.beta[i, place] = s.operand, s.beta
        kept.point[i, place], kept.side[i, place] = -np.inf, 1
    return kept


def fine_bounder(
    fine: BoxBounder, anchor: Tape, lo: Array, hi: Array, should_stop: Callable[[], bool]
) -> OperandBounder:
    """The float64 bounder of an anchor's box ``lo, hi: d``: its intermediate bounds, computed again.

    Soundness: that of the rule; the anchor says only what is bounded, and with which parameters.
    """
    rule = replace(fine.rule, follow=Followed(anchor), most=np.inf, should_stop=should_stop)
    return OperandBounder(relax_boxes(fine.plan, lo[None], hi[None], rule), fine.compiled)
