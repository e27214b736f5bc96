"""Lower bounds of the objectives over a block of boxes, with optional optimisation of lower slopes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bounds.domain import Objectives
from bounds.graph import Array
from bounds.kernels.base import Kernels
from bounds.methods.backward import Rows, backward, concretize, minimiser
from bounds.methods.tape import Tape
from bounds.plan import AffineStep, InputStep, Plan, ReluStep
from bounds.relax.relu import SLOPE_STEPS

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
        arrived: per rectifier the rows at its output (``D S n``), None where no row passes.
    """

    lower: Any
    a: Any
    pad: Any
    arrived: list[Any]


def bound_objectives(tape: Tape, objectives: CompiledObjectives) -> ObjectiveBounds:
    """Bounds all rows on all boxes with the tape's own slopes."""
    rows = _start(tape, objectives, slice(None), None)
    record: list[Any] = [None] * len(tape.relus)
    a = _finish_inputs(tape, objectives, rows, slice(None), record, None)
    lower = concretize(tape, a, rows)
    boxes, count = len(tape), objectives.source.rows
    shaped = [None if r is None else r.reshape(boxes, count, -1) for r in record]
    return ObjectiveBounds(
        lower.reshape(boxes, count), a.reshape(boxes, count, -1), rows.pad.reshape(boxes, count), shaped
    )


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
    for relu, a in zip(tape.relus, bounds.arrived, strict=True):
        if a is None or relu.spread is None:
            continue
        gap = k.where(relu.ambiguous, k.minimum(-relu.lo, relu.hi), 0)
        loss = k.maximum(a, 0) * gap[:, None, :] - k.minimum(a, 0) * relu.offset[:, None, :]
        share = k.sum(loss * weight[:, :, None], 1) / k.maximum(relu.hi - relu.lo, k.precision.eta)
        scores = scores + LOSS_WEIGHT * k.matmul(relu.spread, share[:, :, None])[:, :, 0]
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
    tape: Tape, objectives: CompiledObjectives, rows: Rows, pick: Any, record: Any, lower: Any
) -> Any:
    k = tape.kernels
    shared = rows.dom is None
    a = backward(tape, rows, len(tape.plan.steps), lower, record)
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


@dataclass(slots=True)
class SlopeResult:
    """Optimised rows: ``lower: R``, ``a: R d``, the rounding share ``pad: R`` of that, and the
    slopes, in 1/128, per neuron (``R N`` uint8; empty unless asked for)."""

    lower: Any
    a: Any
    pad: Any
    slopes: Array


def optimise_slopes(
    tape: Tape,
    objectives: CompiledObjectives,
    boxes: Array,
    picks: Array,
    iterations: int,
    *,
    keep_slopes: bool,
) -> SlopeResult:
    """Improves single rows by conditional-gradient steps on their lower slopes.

    With ``x*`` the minimiser of the current linear bound and z(x*) pushed forward through the *chosen*
    lines, the derivative of the bound in a lower slope is ``[A]+ z(x*)`` (closed form; no autograd), so
    the best vertex is slope 1 where ``z(x*) > 0`` and 0 elsewhere. Every iterate is a bound; the best one
    is kept per row. Slopes are multiples of 1/128, so that a certificate stores them exactly.

    Args:
        tape: relaxations of the block.
        objectives: compiled objectives.
        boxes, picks: ``R`` box and objective row of each packed row.
        iterations: steps after the first evaluation.
        keep_slopes: return the slopes (for a certificate).

    Returns:
        The best bound of each row and the slopes that give it.
    """
    k = tape.kernels
    dom, picked = k.array(boxes), k.array(picks)
    slopes = [k.take(r.lower, dom) for r in tape.relus]
    ambiguous = [k.take(r.ambiguous, dom) for r in tape.relus]
    best: Any = None
    pad: Any = None
    for t in range(iterations + 1):
        rows = _start(tape, objectives, picked, dom)
        record: list[Any] = [None] * len(tape.relus)
        a = _finish_inputs(tape, objectives, rows, picked, record, slopes)
        lower, pad = concretize(tape, a, rows), rows.pad
        if best is None:
            best = (lower, a, list(slopes), pad)
        else:
            # a NaN never counts as better
            better = lower > best[0]
            best = (
                k.where(better, lower, best[0]),
                k.where(better[:, None], a, best[1]),
                [k.where(better[:, None], s, b) for s, b in zip(slopes, best[2], strict=True)],
                k.where(better, pad, best[3]),
            )
        if t == iterations:
            break
        step = 0.5 if t == 0 else 2.0 / (t + 2)
        slopes = _Ascent(tape, dom, list(slopes), ambiguous, step).run(a, record)
    stored = _stored(k, best[2], len(boxes)) if keep_slopes else np.zeros((len(boxes), 0), dtype=np.uint8)
    return SlopeResult(best[0], best[1], best[3], stored)


@dataclass(slots=True)
class _Ascent:
    """One conditional-gradient step for packed rows: ``dom: R``, and per rectifier ``R n`` arrays."""

    tape: Tape
    dom: Any
    slopes: list[Any]
    ambiguous: list[Any]
    step: float

    def run(self, a: Any, record: list[Any]) -> list[Any]:
        """New slopes, from the rows' coefficients at the inputs and what arrived at each rectifier."""
        plan = self.tape.plan
        x = minimiser(self.tape, a, self.dom)
        values: dict[int, Any] = {}
        for s in plan.steps:
            if isinstance(s, InputStep):
                values[s.slot] = x[:, s.start : s.stop]
            elif isinstance(s, AffineStep):
                y = s.map.apply([values[i] for i in s.sources])
                values[s.slot] = y if s.map.bias is None else y + s.map.bias
            else:
                values[s.slot] = self._rectifier(s, values[s.source], record[s.index])
        return self.slopes

    def _rectifier(self, s: ReluStep, z: Any, arrived: Any) -> Any:
        """Moves this rectifier's slopes; returns the value of the chosen lines at z."""
        k, relu = self.tape.kernels, self.tape.relus[s.index]
        if arrived is None:  # no row reaches this rectifier
            return k.maximum(z, 0)
        negative, held = arrived < 0, self.slopes[s.index]
        chosen = k.where(negative, k.take(relu.upper, self.dom), held)
        moved = held + self.step * (k.where(z > 0, 1, 0) - held)
        rounded = k.divide((moved * (2 * SLOPE_STEPS) + 1) // 2, SLOPE_STEPS)
        self.slopes[s.index] = k.where(self.ambiguous[s.index] & ~negative, rounded, held)
        return chosen * z + k.where(negative, k.take(relu.offset, self.dom), 0)


def _stored(k: Kernels, slopes: list[Any], rows: int) -> Array:
    if not slopes:
        return np.zeros((rows, 0), dtype=np.uint8)
    flat = np.concatenate([k.numpy(s).reshape(rows, -1) for s in slopes], axis=1)
    return np.rint(flat * SLOPE_STEPS).astype(np.uint8)


def tape_slopes(tape: Tape) -> Array:
    """``D N`` bool: the lower slopes (0 or 1) of the tape's intermediate bounds."""
    k = tape.kernels
    if not tape.relus:
        return np.zeros((len(tape), 0), dtype=bool)
    return np.concatenate([k.numpy(r.lower) > 0.5 for r in tape.relus], axis=1)


def refined_neurons(tape: Tape) -> Array:
    """``D N`` bool: neurons whose input was bounded backwards."""
    k = tape.kernels
    if not tape.relus:
        return np.zeros((len(tape), 0), dtype=bool)
    return np.concatenate([np.asarray(k.numpy(r.refined), dtype=bool) for r in tape.relus], axis=1)
