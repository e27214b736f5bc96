"""Lower bounds of the objectives over a block of boxes, with optional optimisation of the relaxations."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from bounds.domain import Objectives
from bounds.graph import Array
from bounds.methods.backward import Rows, backward, concretize
from bounds.methods.improve import Run, improve
from bounds.methods.multipliers import Multipliers
from bounds.methods.parameters import Parameters, stored_parameters
from bounds.methods.tape import Tape
from bounds.plan import Plan
from bounds.relax.base import Choice

# weight of relaxation losses against the linear part; 0.5 to 8 differ by a few per cent (benchmarks)
LOSS_WEIGHT = 2.0


@dataclass(frozen=True, slots=True)
class CompiledObjectives:
    """Objectives in a plan's precision: ``at[slot]: S n``, ``inputs: S d``, ``const: S``; ``penalty`` is
    the relative error of the stored coefficients (0 when exact); ``mixed``: some row reads an input."""

    source: Objectives
    at: dict[int, Any]
    inputs: Any
    const: Any
    penalty: float
    mixed: bool


def compile_objectives(plan: Plan, objectives: Objectives) -> CompiledObjectives:
    """Converts objectives to the plan's precision."""
    k, p = plan.kernels, plan.kernels.precision
    exact = p.u == 0
    c, g, d = objectives.rational() if exact else (objectives.c, objectives.g, objectives.d)
    # a tensor may be an output twice; then the columns are added as rationals and rounded once
    repeated = len(set(plan.outputs)) < len(plan.outputs)
    if repeated and not exact:
        c = objectives.rational()[0]
    at: dict[int, Any] = {}
    start = 0
    for slot, size in zip(plan.outputs, plan.output_sizes, strict=True):
        part = c[:, start : start + size]
        at[slot] = at[slot] + part if slot in at else part
        start += size
    at = {slot: k.array(part if exact else part.astype(np.float64)) for slot, part in at.items()}
    penalty = 0 if exact else max(_penalty(p.u, objectives), 3 * p.u * repeated)
    const = d if exact else _constants(objectives, p.dtype)
    return CompiledObjectives(objectives, at, k.array(g), k.array(const), penalty, bool(np.any(g)))


def _constants(objectives: Objectives, dtype: Any) -> Array:
    """Constants as numbers of ``dtype``; rounding is covered by the penalty, or else goes down.

    Soundness: the penalty is a bound relative to each number, which holds for normal numbers only. A row
    with a coefficient below them loses its proof here: its constant becomes minus infinity.
    """
    info = np.finfo(dtype)
    smallest, largest = float(info.tiny), float(info.max)
    d = objectives.d.copy()
    d[d < -largest] = -np.inf
    d[d > largest] = largest
    d[(d > 0) & (d < smallest)] = 0.0
    d[(d < 0) & (d > -smallest)] = -smallest
    for a in (objectives.c, objectives.g):
        size = np.abs(a)
        d[((size > largest) | ((size > 0) & (size < smallest))).any(axis=1)] = -np.inf
    return d


def _penalty(u: float, objectives: Objectives) -> float:
    if u > 2.0**-30:
        fits = all(
            np.array_equal(a.astype(np.float32).astype(np.float64), a)
            for a in (objectives.c, objectives.g, objectives.d)
        )
        return 0.0 if fits and not objectives.rounded else 2.0 * u
    return 2.0 * u if objectives.rounded else 0.0


@dataclass(slots=True)
class ObjectiveBounds:
    """Lower bounds of every objective on every box.

    Attributes:
        lower: ``D S``.
        a: ``D S d``: the linear lower bounds' coefficients over the inputs.
        pad: ``D S``: how far rounding pushed each bound down.
        arrived: per nonlinear step the rows at its output (``D S n``), None where no row passes.
    """

    lower: Any
    a: Any
    pad: Any
    arrived: list[Any]


def bound_objectives(tape: Tape, objectives: CompiledObjectives) -> ObjectiveBounds:
    """Bounds all rows on all boxes with the tape's own slopes."""
    rows = _start(tape, objectives, slice(None), None)
    record: list[Any] = [None] * len(tape.relaxations)
    a = _finish_inputs(tape, objectives, rows, slice(None), record, None)
    lower = concretize(tape, a, rows)
    boxes, count = len(tape), objectives.source.rows
    pad, finite = rows.pad, abs(lower) < math.inf
    if not tape.kernels.precision.u:
        lower = tape.kernels.maximum(lower, _by_intervals(tape, objectives).reshape(-1))
    elif not np.all(tape.kernels.numpy(finite)):
        lower, pad = _or_by_intervals(tape, objectives, lower, pad, finite)
    shaped = [None if r is None else r.reshape(boxes, count, -1) for r in record]
    return ObjectiveBounds(
        lower.reshape(boxes, count), a.reshape(boxes, count, -1), pad.reshape(boxes, count), shaped
    )


def _by_intervals(tape: Tape, objectives: CompiledObjectives) -> Any:
    """``D S``: all rows on all boxes from the outputs' intervals alone, in exact arithmetic.

    Ties need it: ``1 - sigmoid(z) >= 0`` holds with equality in the limit, and a line that has slope 0 there
    is far from the one that lies closest in the middle.
    """
    k = tape.kernels
    at = [(part, *tape.outputs[slot]) for slot, part in objectives.at.items()]
    at.append((objectives.inputs, tape.centre - tape.radius, tape.centre + tape.radius))
    total = objectives.const[None, :]
    for c, lo, hi in at:
        total = total + lo @ k.maximum(c, 0).T + hi @ k.minimum(c, 0).T
    return total


def _or_by_intervals(
    tape: Tape, objectives: CompiledObjectives, lower: Any, pad: Any, finite: Any
) -> tuple[Any, Any]:
    """Bounds and rounding shares, by the intervals alone for rows that have no finite bound.

    Rows pay for rounding at the largest numbers of all boxes of the block: one box on which nothing is known
    would keep the others from what their own intervals say.
    """
    k, p = tape.kernels, tape.kernels.precision
    at = [(part, *tape.outputs[slot]) for slot, part in objectives.at.items()]
    if objectives.mixed:
        at.append((objectives.inputs, *tape.ends))
    total, size, terms = objectives.const[None, :], abs(objectives.const)[None, :], 2
    for c, lo, hi in at:
        up, down = k.maximum(c, 0).T, k.minimum(c, 0).T
        total = total + lo @ up + hi @ down
        size = size + abs(lo) @ up - abs(hi) @ down
        terms += 2 * c.shape[1] + 2
    error = (p.gamma(terms) + objectives.penalty) * size * p.slack(terms) + p.eta * terms
    found = (total - error - 2 * p.u * abs(total)).reshape(-1)
    # a NaN is not larger
    better = ~finite & (found > -math.inf)
    return k.where(better, found, lower), k.where(better, error.reshape(-1), pad)


def split_scores(tape: Tape, bounds: ObjectiveBounds, weight: Any) -> Any:
    """``D d``: estimated gain of halving each input.

    Two effects of a split of input i: the linear bound itself varies by ``|a_i| r_i`` over the box, and
    every relaxation gets narrower in proportion to its input's share ``|G_i|`` of the range (``spread``).
    The second is weighted by what the neuron's relaxation can cost the row (``loss``); it matters most
    where rows are flat.
    In our measurements on small control networks it saves 40 to 90 % of all domains over ``|a_i| r_i`` alone.

    Args:
        tape, bounds: results for the block.
        weight: ``D S``, which rows count (0 for settled groups).
    """
    k = tape.kernels
    if not k.precision.u:
        return k.zeros(len(tape), tape.plan.input_size)  # exact arithmetic settles, it never splits
    scores = k.sum(abs(bounds.a) * weight[:, :, None], 1) * tape.radius
    columns = k.array(tape.columns)
    for relaxation, a in zip(tape.relaxations, bounds.arrived, strict=True):
        if a is None or all(spread is None for spread in relaxation.spreads):
            continue
        for spread, share in zip(relaxation.spreads, relaxation.shares(a, weight), strict=True):
            scores[:, columns] += LOSS_WEIGHT * k.matmul(spread, share[:, :, None])[:, :, 0]
    return scores


def _start(tape: Tape, objectives: CompiledObjectives, pick: Any, dom: Any) -> Rows:
    """Rows at the outputs: shared by all boxes (``dom`` None) or one listed row per entry of ``pick``."""
    k = tape.kernels
    const = objectives.const[pick]
    error = k.zeros(len(const))
    rows = Rows({}, const, error, dom)
    for slot, part in objectives.at.items():
        a = part[pick]
        rows.at[slot] = a
        if objectives.penalty:
            lo, hi = tape.outputs[slot]
            peak = k.max0(k.maximum(abs(lo), abs(hi)))
            rows.error = rows.error + objectives.penalty * k.abs_dot(a, peak)
    if objectives.penalty:
        inputs = k.abs_dot(objectives.inputs[pick], tape.reach)
        rows.error = rows.error + objectives.penalty * (abs(const) + inputs)
    return rows


def _finish_inputs(
    tape: Tape,
    objectives: CompiledObjectives,
    rows: Rows,
    pick: Any,
    record: Any,
    choices: Any,
    multipliers: Multipliers | None = None,
) -> Any:
    k = tape.kernels
    shared = rows.dom is None
    a = backward(tape, rows, len(tape.plan.steps), choices, record, multipliers)
    if not objectives.mixed:
        return a
    direct = objectives.inputs[pick]
    if not np.any(k.numpy(direct)):
        return a
    if shared:
        direct = k.take(direct, k.array(np.tile(np.arange(len(direct)), len(tape))))
    total = a + direct
    if k.precision.u:
        rows.error = rows.error + k.precision.u * k.abs_dot(total, tape.reach)
    return total


def objective_rows(tape: Tape, objectives: CompiledObjectives, dom: Any, picked: Any) -> Run:
    """Bounds listed rows ``picked: R`` over boxes ``dom: R``; see :data:`bounds.methods.improve.Run`."""

    def run(
        choices: list[Choice], record: list[Any], multipliers: Multipliers | None
    ) -> tuple[Any, Any, Any]:
        rows = _start(tape, objectives, picked, dom)
        a = _finish_inputs(tape, objectives, rows, picked, record, choices, multipliers)
        return concretize(tape, a, rows), a, rows.pad

    return run


@dataclass(slots=True)
class SlopeResult:
    """Optimised rows: ``lower: R``, ``a: R d``, the rounding share ``pad: R`` of that, and the parameters
    that give them (empty unless asked for)."""

    lower: Any
    a: Any
    pad: Any
    parameters: Parameters


def optimise_slopes(
    tape: Tape,
    objectives: CompiledObjectives,
    boxes: Array,
    picks: Array,
    iterations: int,
    *,
    keep_slopes: bool,
) -> SlopeResult:
    """Improves single rows over the parameters of all relaxations; see :mod:`bounds.methods.improve`.

    Args:
        tape: relaxations of the block.
        objectives: compiled objectives.
        boxes, picks: ``R`` box and objective row of each packed row.
        iterations: steps after the first evaluation.
        keep_slopes: return the parameters (for a certificate).

    Returns:
        The best bound of each row and the parameters that give it.
    """
    k = tape.kernels
    dom, picked = k.array(boxes), k.array(picks)

    run = objective_rows(tape, objectives, dom, picked)
    best = improve(tape, dom, run, len(tape.plan.steps), iterations, stored=keep_slopes)
    parameters = (
        stored_parameters(tape, best.choices, len(boxes)) if keep_slopes else Parameters.none(len(boxes))
    )
    return SlopeResult(best.lower, best.a, best.pad, parameters)
