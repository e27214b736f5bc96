"""A first pass over very many small cases together.

Properties of learnt indexes have thousands of cases, each a small box with rows of its own, and mostly the
same few linear functions of the outputs, compared with other constants. The functions (*directions*) are
compiled once, boxes of many cases are bounded in one block, and each case compares with its own constants.
What is refuted whole is settled here; the rest is left to the search of single cases.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from bounds.domain import Domains
from bounds.graph import Array, Graph
from bounds.methods.bounder import BounderOptions, Effort, Evidence
from bounds.methods.directions import BoundedBoxes, DirectionBounder
from bounds.methods.parameters import Parameters
from bounds.methods.tape import Stopped
from bounds.numerics import FLOAT32, FLOAT64, Precision
from bounds.plan import Plan
from verifier.conclude import Ledger, Sat
from verifier.search.budget import Budget
from verifier.search.case_table import CaseTable, Rows
from verifier.search.falsify.falsifier import nearly_zero
from verifier.search.falsify.points import Descent
from verifier.search.outcome import Watch
from verifier.search.trace import Tracer
from verifier.verdict import UnknownReason

FEWEST = 16
"""Cases below which a pass over all of them is not worth its preparation."""
# multiply-adds of one block, and its largest size
_BLOCK_WORK, _BLOCK_MOST = 6e8, 1024
# each stage sees what the ones before left; a stage that closed less than this share of it is the last one
_STAGES: tuple[tuple[Precision, Effort], ...] = (
    (FLOAT32, Effort(refine=False, iterations=0)),
    (FLOAT32, Effort(iterations=6)),
    (FLOAT64, Effort(iterations=6)),
)
_WORTH = 0.02
# candidates that are confirmed on the original model: of a block, and in all
_BLOCK_TRIED, _TRIED = 4, 64


@dataclass(slots=True)
class ManyOutcome:
    """How the pass ended.

    Attributes:
        sat: a concluded violation; reason: why it stopped early.
        bounded: boxes bounded (each case once).
        settled: per case of the property, whether it was refuted whole.
        lower: per case its worst disjunct's bound (minus infinity where it was not bounded).
        float64: cases that float64 settled.
    """

    settled: Array
    lower: Array
    sat: Sat | None = None
    reason: UnknownReason = UnknownReason.NONE
    bounded: int = 0
    float64: int = 0


@dataclass(slots=True)
class _Refuted:
    """Groups of a block: ``proved: G``, the proved (or best) ``row: G`` and its ``lower: G``; and which of
    them took optimised parameters (indices into the block's groups, and the parameters)."""

    proved: Array
    row: Array
    lower: Array
    improved: Array
    parameters: Parameters


@dataclass(slots=True)
class ManyCases:
    """The pass and its collaborators.

    Attributes:
        graph, table: the network and the cases.
        options: of the bounders; plans: compiled networks by precision, shared with the searches.
        budget, ledger, tracer, watch: as in :class:`verifier.search.loop.Search`.
        confirm: the chokepoint for a case and a point; None: no attack.
    """

    graph: Graph
    table: CaseTable
    options: BounderOptions
    plans: dict[str, Plan]
    budget: Budget
    ledger: Ledger
    tracer: Tracer | None
    confirm: Callable[[int, Array], Sat | None] | None
    watch: Watch | None = None
    _tried: int = 0
    _bounders: dict[str, DirectionBounder] = field(default_factory=dict[str, DirectionBounder])

    def run(self) -> ManyOutcome:
        """Bounds every case of the table and settles what is refuted."""
        table = self.table
        out = ManyOutcome(np.zeros(table.cases, dtype=bool), np.full(table.cases, -np.inf))
        left = table.neighbours()
        for number, (precision, effort) in enumerate(_STAGES):
            bounder = self._bounder(precision)
            if number and not bounder.inner.rule.forward:
                break  # many inputs: rows bounded backwards cost too much before a case has its turn
            before, size, start = len(left), self._block(bounder, 0.0, 1), 0
            while start < before:
                out.reason = self.budget.exhausted(out.bounded, 0)
                if out.reason is not UnknownReason.NONE:
                    return out
                block = left[start : start + self.budget.allowed(size, out.bounded)]
                try:
                    refined = self._bound(block, bounder, effort, out)
                except Stopped:
                    out.reason = self.budget.exhausted(out.bounded, 0)
                    return out
                start += len(block)
                out.bounded += len(block) if number == 0 else 0
                if out.sat is not None:
                    return out
                size = self._block(bounder, refined if effort.refine else 0.0, size)
                if self.watch:
                    done = int(out.settled.sum())
                    self.watch(out.bounded, table.cases - done, done / table.cases, None)
            left = left[~out.settled[table.case[left]]]
            if not len(left) or before - len(left) < _WORTH * before:
                break
        return out

    @property
    def forward(self) -> bool:
        """Whether the forward pass was part of the bounding rule."""
        return self._bounder(FLOAT32).inner.rule.forward

    def _bounder(self, precision: Precision) -> DirectionBounder:
        made = self._bounders.get(precision.name)
        if made is None:
            plan = self.plans.get(precision.name)
            made = DirectionBounder(self.graph, self.table.directions, precision, self.options, plan=plan)
            self.plans[precision.name], self._bounders[precision.name] = made.plan, made
        return made

    def _block(self, bounder: DirectionBounder, refined: float, last: int) -> int:
        """Size of the next block from the rows of a box of the last one (deterministic: no clock)."""
        rows = self.table.directions.rows + bounder.inner.varying + refined
        wanted = _BLOCK_WORK / (bounder.plan.work * max(rows, 1.0))
        return int(np.clip(wanted, 1, min(_BLOCK_MOST, 64 * last)))

    def _bound(self, block: Array, bounder: DirectionBounder, effort: Effort, out: ManyOutcome) -> float:
        """Bounds a block of cases (places in the table), books it; returns the rows refined per box."""
        table, rows = self.table, self.table.rows_of(block)
        lo, hi = table.boxes(block)
        settling = bounder.plan.kernels.precision is FLOAT64
        with self.budget.phase("settling" if settling else "bounding"):
            bounded = bounder.bound(lo, hi, self.budget.should_stop, effort)
            found = self._refute(bounded, rows, effort.iterations)
        done = np.logical_and.reduceat(found.proved, rows.case_start)
        case = table.case[block]
        out.lower[case] = np.fmax(out.lower[case], np.minimum.reduceat(found.lower, rows.case_start))
        if done.any():
            if self.tracer is not None:
                self.tracer.settled(case[done])
            if self.tracer is not None and self.tracer.evidence_kept:
                domains = Domains(
                    lo, hi, case, np.ones((len(block), 1), dtype=bool), out.lower[case], lo[:, 0]
                )
                self.tracer.refuted(domains, self._evidence(bounded, rows, found, done))
            self.ledger.settle(done[done][:, None])
            out.settled[case[done]] = True
            out.float64 += int(done.sum()) if settling else 0
        if self.confirm is not None and not done.all():
            with self.budget.phase("attack"):
                out.sat = self._attack(bounder, bounded, rows, found, np.flatnonzero(~done), case, (lo, hi))
        return bounded.refined / len(block)

    def _refute(self, bounded: BoundedBoxes, rows: Rows, iterations: int) -> _Refuted:
        """Compares every row with its own constant; optimises the best row of groups that are still open."""
        lower, pad = bounded.lower[rows.box, rows.direction], bounded.pad[rows.box, rows.direction]
        value = lower + rows.constant
        value = np.where(np.isnan(value), -np.inf, value)
        row = _best(value, rows)
        best = value[row]
        proved = self._proved(lower[row], pad[row], rows.constant[row])
        found = _Refuted(proved, row, best, np.zeros(0, dtype=np.int64), Parameters.none(0))
        if not iterations or proved.all():
            return found
        todo = np.flatnonzero(~proved)
        picks = row[todo]
        low, share, parameters = bounded.improve(rows.box[picks], rows.direction[picks], iterations)
        now = self._proved(low, share, rows.constant[picks])
        found.lower[todo] = np.fmax(best[todo], low + rows.constant[picks])
        found.proved[todo] = now
        found.improved, found.parameters = todo[now], parameters.take(now)
        return found

    def _proved(self, lower: Array, pad: Array, constant: Array) -> Array:
        """Rows whose bound plus constant is positive; NaN compares false, hence never proves.

        When evidence is kept, a bound must clear zero by its rounding share once more; see
        :meth:`bounds.methods.bounder.BoxBounder`.

        Soundness: nothing is added. A constant is the float64 nearest to its exact value c, or lies below c;
        rounding to nearest is monotone, so a constant above the float64 number ``-lower`` says that c is.
        """
        if self.options.evidence:
            lower = lower - pad
        return np.asarray(constant > -lower, dtype=bool)

    def _evidence(self, bounded: BoundedBoxes, rows: Rows, found: _Refuted, done: Array) -> Evidence:
        """Evidence of the cases that are refuted whole."""
        kept = done[rows.group_case]
        plain = kept.copy()
        plain[found.improved] = False
        optimised = kept[found.improved]
        group = np.concatenate([np.flatnonzero(plain), found.improved[optimised]])
        boxes = bounded.parameters
        parts = [boxes.take(rows.group_case[plain])]
        if len(found.improved):
            parts.append(found.parameters.take(optimised))
        return Evidence(
            rows.group_case[group],
            rows.group_place[group],
            found.row[group] - rows.group_start[group],
            Parameters.concat(parts),
            boxes,
            bounded.refined_elements,
            np.zeros(len(group), dtype=bool),
        )

    def _attack(
        self,
        bounder: DirectionBounder,
        bounded: BoundedBoxes,
        rows: Rows,
        found: _Refuted,
        open_: Array,
        case: Array,
        box: tuple[Array, Array],
    ) -> Sat | None:
        """Tries centres, ends and the linear bounds' minimisers of open boxes."""
        lo, hi = (side[open_] for side in box)
        worst = _worst_groups(found, rows)[open_]
        row = found.row[worst]
        points = [(lo + hi) / 2, bounded.minimisers(open_, rows.direction[row]), lo, hi]
        descent = Descent(bounder.plan, self.table.directions)
        candidates: list[tuple[float, int, Array]] = []
        inside = np.isin(rows.box, open_)
        for x in points:
            full = np.zeros((len(case), lo.shape[1]))
            full[open_] = np.clip(x, lo, hi)
            with np.errstate(all="ignore"):
                values = descent.values(full)[rows.box, rows.direction] + rows.constant
            # a group holds where its largest row is not positive
            groups = np.maximum.reduceat(np.where(inside, values, np.inf), rows.group_start)
            cases = np.minimum.reduceat(groups, rows.case_start)
            near = np.flatnonzero(cases <= nearly_zero(values))
            candidates += [(float(cases[i]), int(i), full[i]) for i in near]
        candidates.sort(key=lambda c: c[:2])
        for _, i, x in candidates[: min(_BLOCK_TRIED, _TRIED - self._tried)]:
            self._tried += 1
            sat = self.confirm(int(case[i]), x) if self.confirm else None
            if sat is not None:
                return sat
        return None


def _best(value: Array, rows: Rows) -> Array:
    """``G``: the row with the largest value in each group (NaN-free)."""
    top = np.maximum.reduceat(value, rows.group_start)
    hit = np.flatnonzero(value == np.repeat(top, rows.group_size))
    first = np.searchsorted(hit, rows.group_start)
    return np.asarray(hit[first])


def _worst_groups(found: _Refuted, rows: Rows) -> Array:
    """One open group of each case, that with the least bound (any group where none is open)."""
    lower = np.where(found.proved, np.inf, found.lower)
    top = np.minimum.reduceat(lower, rows.case_start)
    hit = np.flatnonzero(lower == top[rows.group_case])
    return np.asarray(hit[np.searchsorted(hit, rows.case_start)])
