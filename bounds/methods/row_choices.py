"""Parameters of single rows of intermediate bounds, and how a tape is made again from what it chose.

An intermediate bound that was improved has parameters of its own. Who wants to compute the same bounds in
another arithmetic (:class:`Followed`), or to let others do so (a certificate), needs them.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from bounds.graph import Array
from bounds.methods.parameters import Parameters, tape_parameters
from bounds.methods.tape import Tape
from bounds.plan import NonlinearStep, Plan, ReluStep, ScalarStep
from bounds.relax.base import Choice, Relaxation
from bounds.relax.elementwise import ScalarRelaxation, lines_of
from bounds.relax.product import ProductRelaxation
from bounds.relax.relu import SLOPE_STEPS, ReluRelaxation


@dataclass(frozen=True, slots=True)
class RowChoices:
    """Rows of intermediate bounds with parameters of their own.

    Attributes:
        box, operand: ``H`` box of the block, and number of the operand that was bounded.
        upper: ``H`` uint8, 1 for its upper bound, 0 for its lower one.
        parameters: ``H``, in full width; what comes after the operand is 0.
    """

    box: Array
    operand: Array
    upper: Array
    parameters: Parameters

    def of(self, boxes: Array) -> RowChoices:
        """Those of some boxes (ascending), which are counted from 0 in their order then."""
        keep = np.flatnonzero(np.isin(self.box, boxes))
        box = np.searchsorted(boxes, self.box[keep])
        return RowChoices(box, self.operand[keep], self.upper[keep], self.parameters.take(keep))

    @staticmethod
    def concat(parts: list[RowChoices], plan: Plan) -> RowChoices:
        """All of them in order."""
        empty = np.zeros(0, dtype=np.int64)
        none = RowChoices(empty, empty, empty.astype(np.uint8), in_full(Parameters.none(0), plan))
        held = [none, *parts]
        return RowChoices(
            np.concatenate([p.box for p in held]),
            np.concatenate([p.operand for p in held]),
            np.concatenate([p.upper for p in held]),
            Parameters.concat([p.parameters for p in held]),
        )


def in_full(p: Parameters, plan: Plan) -> Parameters:
    """Parameters of the first steps as those of all, with zeros for the rest."""
    rows = len(p.slopes)

    def wide(part: Array, halves: int, size: int) -> Array:
        out = np.zeros((rows, halves, size), dtype=part.dtype)
        out[:, :, : part.shape[1] // halves] = part.reshape(rows, halves, part.shape[1] // halves)
        return out.reshape(rows, halves * size)

    return Parameters(
        wide(p.slopes, 1, plan.neurons), wide(p.lines, 2, plan.scalars), wide(p.mixes, 2, plan.products)
    )


@dataclass(slots=True)
class Followed:
    """What a tape of one box chose, for making it again (:attr:`bounds.methods.rule.Rule.follow`).

    The rule then bounds the same elements with the same parameters, wherever rounding would decide
    otherwise; as :mod:`verifier.check` does with a certificate. Any choice is sound.
    """

    tape: Tape
    parameters: Parameters = field(init=False)
    _places: dict[tuple[int, int], int] = field(init=False)

    def __post_init__(self) -> None:
        if len(self.tape) != 1:
            raise AssertionError("only a tape of one box is followed")
        self.parameters = tape_parameters(self.tape)
        rows = self.tape.rows
        pairs = [] if rows is None else zip(rows.operand.tolist(), rows.upper.tolist(), strict=True)
        self._places = {pair: i for i, pair in enumerate(pairs)}

    def wanted(self, step: NonlinearStep, operand: int) -> Array:
        """``1 n`` bool: elements that were bounded backwards."""
        k = self.tape.kernels
        return np.asarray(k.numpy(self.tape.relaxations[step.index].refined[operand]), dtype=bool)

    def chosen(self, step: NonlinearStep, relaxation: Relaxation) -> Relaxation:
        """A relaxation with the lines that were chosen for intermediate bounds."""
        k: Any = relaxation.kernels  # type: ignore[attr-defined]
        if isinstance(relaxation, ReluRelaxation):
            slopes = self._part(step, self.parameters.slopes)
            return replace(relaxation, lower=k.array((slopes > 0).astype(np.float64)))
        if isinstance(relaxation, ScalarRelaxation):
            lo, hi = (np.asarray(k.numpy(v)) for v in relaxation.intervals[0])
            lines = self._lines(step, self.parameters)
            return replace(relaxation, lines=lines_of(k, relaxation.function, lo, hi, lines))
        assert isinstance(relaxation, ProductRelaxation)
        mixes = tuple(
            k.array(self._part(step, self.parameters.mixes, i).astype(np.float64) / SLOPE_STEPS)
            for i in (0, 1)
        )
        return replace(relaxation, mixes=mixes)

    def choices(self, plan: Plan, relaxations: list[Relaxation], rows: Array, dom: Any) -> list[Choice]:
        """Choices of listed rows (-1: a row without parameters of its own) on the relaxations so far."""
        held = self.tape.rows
        own = np.flatnonzero(rows >= 0)
        out: list[Choice] = []
        for r, step in zip(relaxations, plan.nonlinear, strict=False):
            choice = tuple(np.array(plan.kernels.numpy(c)) for c in r.explicit(dom, r.initial(dom)))
            if len(own) and held is not None:
                new = self._row_choice(step, r, held.parameters.take(rows[own]), dom)
                for part, now in zip(choice, new, strict=True):
                    part[own] = now
            out.append(tuple(plan.kernels.array(c) for c in choice))
        return out

    def _row_choice(self, step: NonlinearStep, r: Relaxation, p: Parameters, dom: Any) -> list[Array]:
        k: Any = r.kernels  # type: ignore[attr-defined]
        some = dom[: len(p.slopes)]  # all rows are about the one box
        if isinstance(r, ReluRelaxation):
            slopes = self._part(step, p.slopes).astype(np.float64) / SLOPE_STEPS
            choice = r.explicit(some, (k.array(slopes),))
        elif isinstance(r, ScalarRelaxation):
            lo, hi = (np.repeat(np.asarray(k.numpy(v)), len(some), axis=0) for v in r.intervals[0])
            choice = (*r.initial(some)[:2], *lines_of(k, r.function, lo, hi, self._lines(step, p)))
        else:
            mixes = (self._part(step, p.mixes, i).astype(np.float64) / SLOPE_STEPS for i in (0, 1))
            choice = r.choose(some, tuple(k.array(m) for m in mixes))
        return [np.asarray(k.numpy(c)) for c in choice]

    def place(self, operand: int, *, upper: bool) -> int:
        """Where the row of a bound has its parameters; -1 for one without."""
        return self._places.get((operand, int(upper)), -1)

    def _lines(self, step: NonlinearStep, p: Parameters) -> tuple[Array, Array]:
        return self._part(step, p.lines).astype(np.float64), self._part(step, p.lines, 1).astype(np.float64)

    def _part(self, step: NonlinearStep, array: Array, half: int = 0) -> Array:
        sizes = self.tape.plan.neurons, self.tape.plan.scalars, self.tape.plan.products
        size = sizes[0 if isinstance(step, ReluStep) else 1 if isinstance(step, ScalarStep) else 2]
        start = half * size + step.offset
        return array[:, start : start + step.size]


def offsets_of(plan: Plan) -> dict[tuple[int, int], int]:
    """Number of the first element of every operand, by index of its step and position."""
    return {(o.index, o.position): o.offset for o in plan.operands}
