"""Bounds of subproblems that split operands hold at every point of the subproblem, whatever the multipliers.

A reference point decides on which side of each random split the subproblem lies, so no region is empty.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import (
    RULES,
    blur_of,
    exactly,
    node_values,
    objective_faults,
    objective_values,
    output_values,
    points,
    slots_of,
    tape_of,
)
from strategies import Box, boxes, build, examples, networks, objectives

from bounds.graph import Array, Graph
from bounds.methods.multipliers import Multipliers
from bounds.methods.objective import compile_objectives
from bounds.methods.operand_bounder import OperandBounder
from bounds.methods.operand_choice import choose_operands
from bounds.methods.splits import Splits
from bounds.methods.tape import Tape
from bounds.numerics import FLOAT32, FLOAT64, Precision

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

PRECISIONS = {"float32": FLOAT32, "float64": FLOAT64}
MOVES = ("linear", "linear", "add", "take", "smooth", "rational", "product", "relu", "relu", "dense_relu")
SIZES = ((1,), (2,), (3,), (1, 1))
seeds = st.integers(0, 2**32 - 1)


def operand_values(graph: Graph, tape: Tape, values: list[Array]) -> Array:
    """``N Q``: exact values of all operands at ``N`` points, numbered as splits number them."""
    node_of = {slot: node for node, slot in slots_of(graph).items()}
    parts = [values[node_of[o.slot]].reshape(len(values[0]), -1) for o in tape.plan.operands]
    return np.concatenate(parts, axis=1)


def random_splits(rng: np.random.Generator, tape: Tape, at: Array, depth: int) -> Splits:
    """Splits on whose sides the operands' values ``at: Q`` lie, with multipliers of any size and sign."""
    splits = Splits.none(1)
    for _ in range(depth):
        q = int(rng.integers(len(at)))
        which = max(i for i, o in enumerate(tape.plan.operands) if o.offset <= q)
        operand = tape.plan.operands[which]
        lo, hi = tape.relaxations[operand.index].intervals[operand.position]
        low, high = (float(np.asarray(tape.kernels.numpy(v))[0, q - operand.offset]) for v in (lo, hi))
        if not np.isfinite(low) or not np.isfinite(high):
            continue
        point = np.float32(low + rng.random() * (high - low))
        side = 1 if at[q] >= exactly(np.array([point], dtype=np.float64))[0] else -1
        beta = rng.choice([0.0, 1e-3, 1.0, 30.0]) * rng.normal()
        splits = splits.with_split(np.array([q]), np.array([point]), side, np.zeros(1), np.array([beta]))
    return splits


def inside(splits: Splits, operands: Array) -> Array:
    """``N`` bool: points whose operands ``N Q`` obey the splits (in exact arithmetic)."""
    keep = np.ones(len(operands), dtype=bool)
    for q, p, s in zip(splits.operand[0], splits.point[0], splits.side[0], strict=True):
        at = exactly(np.array([p], dtype=np.float64))[0]
        keep &= np.array([(v >= at) if s > 0 else (v <= at) for v in operands[:, q]], dtype=bool)
    return keep


def faults(graph: Graph, box: Box, precision: Precision, rule: str, seed: int) -> list[str]:
    """What a block of random subproblems states wrongly."""
    rng = np.random.default_rng(seed)
    tape, source, blur = tape_of(graph, box, precision, RULES[rule]), objectives(seed, graph), blur_of(graph)
    if not tape.relaxations:
        return []
    x, values = node_values(graph, points(rng, box.lo[0], box.hi[0], count=6)[-16:])
    if not len(x):
        return []
    operands = operand_values(graph, tape, values)
    truth = objective_values(source, x, output_values(graph, values))
    compiled = compile_objectives(tape.plan, source)
    with np.errstate(all="ignore"):
        bounder = OperandBounder(tape, compiled)
    found: list[str] = []
    picks = np.arange(source.rows)
    for _ in range(3):
        splits = random_splits(rng, tape, operands[int(rng.integers(len(x)))], int(rng.integers(1, 5)))
        keep = inside(splits, operands)
        rows = splits.take(np.zeros(source.rows, dtype=np.int64))
        for iterations, stored in ((0, False), (3, False), (2, True)):
            with np.errstate(all="ignore"):
                got = bounder.bound(rows, picks, None, iterations, stored=stored)
                again = bounder.bound(rows, picks, got.parameters, 1)
            for lower in (got.lower, again.lower):
                found += objective_faults(lower, truth[keep], blur)
        found += child_faults(bounder, got, rows, operands, truth, keep, blur)
    return found


def child_faults(
    bounder: OperandBounder, got: Any, rows: Splits, operands: Array, truth: Array, keep: Array, blur: Any
) -> list[str]:
    """Whether bounds of the children that were tried hold in the children."""
    picks = np.arange(len(rows))
    with np.errstate(all="ignore"):
        chosen = choose_operands(got, bounder.objectives, rows, picks, picks, 3, 2)
    found: list[str] = []
    for r, m in np.argwhere(chosen.operand >= 0).tolist():
        for i, side in enumerate((-1, 1)):
            one = np.array([r])
            at = chosen.operand[one, m], chosen.point[one, m]
            child = rows.take(one).with_split(*at, side, one, chosen.beta[one, m, i])
            here = keep & inside(child, operands)
            found += objective_faults(chosen.lower[one, m, i], truth[here][:, one], blur)
    return found


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("rule", ["both", "backward"])
@examples(20)
@given(data=st.data(), seed=seeds)
def test_subproblems_hold_their_points(precision: str, rule: str, data: st.DataObject, seed: int) -> None:
    graph = data.draw(networks(moves=MOVES, most=5, scales=("ordinary", "dyadic", "tiny"), inputs=SIZES))
    box = data.draw(boxes(graph.input_size, most=1, extreme=False))
    assert faults(graph, box, PRECISIONS[precision], rule, seed) == []


def typical(seed: int) -> tuple[Graph, Box]:
    plans = (
        ["linear", "smooth", "linear", "product", "linear", "smooth", "linear"],
        ["linear", "relu", "linear", "relu", "residual", "product", "linear"],
        ["linear", "smooth", "take", "relu", "linear", "product", "linear", "relu", "linear"],
    )
    lo = np.random.default_rng(seed).uniform(-1, 0.5, (1, 3))
    return build(seed, plans[seed % 3], inputs=(3,)), Box(lo, lo + np.array([0.5, 0.1, 1.0]))


@pytest.mark.parametrize("seed", range(9))
def test_typical_networks(seed: int) -> None:
    graph, box = typical(seed)
    for name, precision in PRECISIONS.items():
        assert faults(graph, box, precision, "backward", seed) == [], name


@pytest.mark.parametrize("bug", ["sign", "constant", "end"])
def test_wrong_multipliers_are_noticed(monkeypatch: pytest.MonkeyPatch, bug: str) -> None:
    """Planted bugs: the multiplier's sign, its constant, or the interval's end is wrong."""
    from bounds.methods import backward

    real = backward.add_multipliers

    def wrong(tape: Tape, rows: Any, slot: int, multipliers: Multipliers) -> None:
        before = rows.const
        if bug == "sign":
            part = multipliers.slots[slot]
            held = multipliers.beta.copy()
            real(tape, rows, slot, multipliers)
            tape.kernels.add_at(rows.at[slot], (part.row, part.element), 2 * held[part.pairs])
            return
        if bug == "end":
            multipliers = multipliers.with_beta(multipliers.beta)
            part = multipliers.slots[slot]
            object.__setattr__(part, "lo", part.hi)
        real(tape, rows, slot, multipliers)
        if bug == "constant":
            rows.const = before

    monkeypatch.setattr(backward, "add_multipliers", wrong)
    found = [f for seed in range(9) for f in faults(*typical(seed), FLOAT64, "backward", seed)]
    assert found
