"""Slots of a plan that only move data: where their elements come from, and which fill boxes."""

from __future__ import annotations

from typing import Any

import numpy as np

from bounds.plan import AffineStep, InputStep, Plan


def origin_of(plan: Plan, slot: int) -> tuple[int, Any]:
    """The slot whose elements a slot merely repeats, and where each comes from (None: the slot itself).

    The index is ``n`` int64, -1 for a constant.
    """
    index: Any = None
    while True:
        step = plan.steps[plan.producer[slot]]
        moves = step.map.moves if isinstance(step, AffineStep) else None
        if moves is None:
            return slot, index
        assert isinstance(step, AffineStep)
        index = moves if index is None else np.where(index >= 0, moves[np.maximum(index, 0)], -1)
        slot = step.sources[0]


def boxlike_slots(plan: Plan) -> frozenset[int]:
    """Slots whose elements depend on one input element each, no two on the same: their values fill a box."""
    found: set[int] = set()
    for step in plan.steps:
        if isinstance(step, AffineStep):
            if step.map.separate and step.sources[0] in found:
                found.add(step.slot)
        elif isinstance(step, InputStep):
            found.add(step.slot)
    return frozenset(found)
