"""Tapes of subproblems that inherit all intermediate bounds but those of the operands they split.

Recomputing intermediate bounds costs a pass per ambiguous element; a split narrows one of them. What else a
split implies is left to the multipliers (Shi et al. 2024, GenBaB, do the same).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from bounds.graph import Array
from bounds.methods.splits import Splits, locate
from bounds.methods.tape import Tape
from bounds.relax.base import Relaxation


def inherit(anchor: Tape, splits: Splits) -> Tape:
    """The tape of ``D`` subproblems of an anchor's only box.

    Args:
        anchor: a tape of one box; its relaxations are prepared here.
        splits: of the subproblems.

    Soundness: an operand's interval is the anchor's one cut at split points, which every point of the
    subproblem obeys; a cut beyond the interval leaves its end (such a subproblem is empty).
    """
    k, plan, boxes = anchor.kernels, anchor.plan, len(splits)
    whole = k.array(np.zeros(boxes, dtype=np.int64))
    tape = Tape(plan, k.take(anchor.centre, whole), k.take(anchor.radius, whole), anchor.reach)
    tape.error, tape.magnitude, tape.eta = anchor.error, anchor.magnitude, anchor.eta
    tape.ends = (k.take(anchor.ends[0], whole), k.take(anchor.ends[1], whole))
    tape.outputs, tape.ball, tape.should_stop = anchor.outputs, anchor.ball, anchor.should_stop
    cuts = _cuts_by_slot(anchor, splits)
    nothing = np.zeros(0, dtype=np.int64)
    for step, held in zip(plan.nonlinear, anchor.relaxations, strict=True):
        held.prepare()
        found = [cuts.get(s) for s in step.sources]
        parts = [c for c in found if c is not None]
        if not parts:
            tape.relaxations.append(held.narrowed(boxes, (nothing, nothing), _nowhere(held)))
            continue
        size = plan.sizes[step.slot]
        places = np.unique(np.concatenate([c[0] * size + c[1] for c in parts]))
        at = places // size, places % size
        intervals = tuple(
            _narrowed(anchor, interval, at, size, c)
            for interval, c in zip(held.intervals, found, strict=True)
        )
        tape.relaxations.append(held.narrowed(boxes, at, intervals))
    return tape


def _cuts_by_slot(anchor: Tape, splits: Splits) -> dict[int, tuple[Array, Array, Array, Array]]:
    """Per slot (subproblem, element, point, side) of all splits there."""
    box, column = np.nonzero(splits.operand >= 0)
    if not len(box):
        return {}
    _, slot, element = locate(anchor.plan.operands, splits.operand[box, column])
    point, side = splits.point[box, column], splits.side[box, column]
    return {int(s): tuple(v[slot == s] for v in (box, element, point, side)) for s in np.unique(slot)}  # type: ignore[misc]


def _nowhere(held: Relaxation) -> tuple[tuple[Any, Any], ...]:
    return tuple((lo[0, :0], hi[0, :0]) for lo, hi in held.intervals)


def _narrowed(
    anchor: Tape,
    interval: tuple[Any, Any],
    at: tuple[Array, Array],
    size: int,
    cuts: tuple[Array, Array, Array, Array] | None,
) -> tuple[Any, Any]:
    """Interval ends ``C`` of an operand at the elements ``at``, cut where it was split."""
    k = anchor.kernels
    element = k.array(at[1])
    lo, hi = (k.numpy(v[0][element]) for v in interval)
    if cuts is not None:
        places = at[0] * size + at[1]
        box, where, point, side = cuts
        index = np.searchsorted(places, box * size + where)
        low, high = lo.copy(), hi.copy()
        right = side > 0
        np.maximum.at(low, index[right], point[right])
        np.minimum.at(high, index[~right], point[~right])
        lo, hi = np.minimum(low, hi), np.maximum(high, lo)
        lo, hi = np.minimum(lo, hi), np.maximum(lo, hi)  # splits that exclude each other
    return k.array(lo), k.array(hi)
