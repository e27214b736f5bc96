"""Backward linear bounds (CROWN): rows are pushed from outputs to inputs, with their rounding errors.

Invariant, for every packed row r (a lower bound on some target over box ``dom[r]``):
``target >= sum_slots rows[slot][r] . value(slot) + const[r] - error[r]`` for every x in the box, over the
reals (or, when the plan carries the network's rounding, for every admissible rounded evaluation).
Reference: Zhang et al., Efficient Neural Network Robustness Certification (2018), eq. 3-8; the error
terms are soundness.md's, derived in docs/explanation/floating-point.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bounds.methods.edge_slopes import take_over
from bounds.methods.multipliers import Multipliers
from bounds.methods.tape import Stopped, Tape
from bounds.plan import AffineStep, InputStep, NonlinearStep
from bounds.relax.base import Choice


@dataclass(slots=True)
class Rows:
    """Packed rows on their way to the inputs.

    Attributes:
        at: slot -> ``R n`` coefficients.
        const, error: ``R``.
        dom: ``R`` box of each row; None while rows are the same for all boxes (then the rows are
            repeated, box-major, at the first rectifier).
        pad: ``R``, set by :func:`concretize`: how far rounding pushed the bound down.
    """

    at: dict[int, Any]
    const: Any
    error: Any
    dom: Any = None
    pad: Any = None

    def add(self, tape: Tape, slot: int, part: Any) -> None:
        """Adds coefficients at a slot; a sum pays for its rounding."""
        held = self.at.get(slot)
        if held is None:
            self.at[slot] = part
            return
        total = held + part
        u = tape.kernels.precision.u
        if u:
            self.error = self.error + u * tape.kernels.abs_dot(total, tape.magnitude[slot])
        self.at[slot] = total


def backward(
    tape: Tape,
    rows: Rows,
    first: int,
    choices: Sequence[Choice | None] | None = None,
    record: list[Any] | None = None,
    multipliers: Multipliers | None = None,
) -> Any:
    """Pushes rows to the inputs through all steps before index ``first``.

    Args:
        tape: relaxations of every nonlinear step before ``first``.
        rows: consumed.
        first: steps ``first - 1, ..., 0`` are walked.
        choices: per nonlinear step the parameters (``R n`` each) to use instead of the tape's (None: those).
        record: if given, filled per nonlinear step with the rows that arrived at its output (``R n``).
        multipliers: of splits of operands; rows must then be packed (``dom`` given).

    Returns:
        ``R d`` coefficients over the flat input (``rows.const`` and ``rows.error`` hold the rest).
    """
    plan, k = tape.plan, tape.kernels
    for step in reversed(plan.steps[:first]):
        if multipliers is not None and step.slot in multipliers.slots:
            add_multipliers(tape, rows, step.slot, multipliers)
        if isinstance(step, InputStep):
            continue
        if tape.should_stop():
            raise Stopped
        a = rows.at.pop(step.slot, None)
        if a is None:
            continue
        if isinstance(step, AffineStep):
            rows.error = rows.error + k.abs_dot(a, tape.error[step.slot])
            if step.map.bias is not None:
                rows.const = rows.const + a @ step.map.bias
                rows.error = rows.error + k.precision.u * abs(rows.const)
            for source, part in zip(step.sources, step.map.adjoint(a), strict=True):
                rows.add(tape, source, part)
            continue
        if rows.dom is None:
            rows.at[step.slot] = a
            _repeat(tape, rows)
            a = rows.at.pop(step.slot)
        if record is not None:
            record[step.index] = a
        _through(tape, rows, step, a, None if choices is None else choices[step.index])
    if rows.dom is None:  # nothing nonlinear lay on the way
        _repeat(tape, rows)
    return _at_inputs(tape, rows)


def add_multipliers(tape: Tape, rows: Rows, slot: int, multipliers: Multipliers) -> None:
    """Subtracts from the rows what every point of their regions has at least zero; see the class.

    Soundness: a coefficient to which ``repeats`` numbers are added is off by ``repeats u`` times the sum of
    their magnitudes and its own, which the operand's reach turns into a bound; a constant likewise, each term
    being a product.
    """
    k, u = tape.kernels, tape.kernels.precision.u
    part = multipliers.slots[slot]
    held = rows.at.get(slot)
    a = k.zeros(len(rows.const), tape.plan.sizes[slot]) if held is None else k.copy(held)
    beta = multipliers.beta[part.pairs]
    change = -beta
    before = abs(a[part.row, part.element]) if u else None
    k.add_at(a, (part.row, part.element), change)
    rows.at[slot] = a
    const = k.copy(rows.const)
    shift = k.where(beta > 0, beta * part.lo, k.where(beta < 0, beta * part.hi, 0))
    k.add_at(const, part.row, shift)
    if u:
        cost = part.repeats * (abs(change) + before) * part.reach + (part.most + 2) * abs(shift)
        error = rows.error + u * (part.most + 2) * abs(rows.const)
        k.add_at(error, part.row, u * cost)
        rows.error = error
    rows.const = const


def _through(tape: Tape, rows: Rows, step: NonlinearStep, a: Any, choice: Choice | None) -> None:
    k, u = tape.kernels, tape.kernels.precision.u
    error = tape.error.get(step.slot)
    if error is not None:
        rows.error = rows.error + k.abs_dot(a, error)
    lines = tape.edges.get(step.index)
    if lines is not None:
        a, taken = take_over(tape, lines, a, rows.dom)
        if taken is not None:
            rows.const = rows.const + taken.drop
            rows.error = rows.error + (taken.error + u * abs(rows.const))
            rows.add(tape, lines.slot, taken.part)
    pushed = tape.relaxations[step.index].push(a, rows.dom, choice)
    rows.const = rows.const + pushed.drop
    if u:
        rows.error = rows.error + (pushed.error + u * abs(rows.const))
    for source, part in zip(step.sources, pushed.parts, strict=True):
        if u and source in tape.magnitude:
            rows.error = rows.error + u * k.abs_dot(part, tape.magnitude[source])
        rows.add(tape, source, part)


def _repeat(tape: Tape, rows: Rows) -> None:
    """Gives every box its own copy of shared rows (box-major)."""
    k, boxes, count = tape.kernels, len(tape), len(rows.const)
    index = k.array(_tiled(count, boxes))
    rows.at = {slot: k.take(a, index) for slot, a in rows.at.items()}
    rows.const, rows.error = k.take(rows.const, index), k.take(rows.error, index)
    rows.dom = k.array(_repeated(count, boxes))


def _tiled(count: int, boxes: int) -> Any:
    return np.tile(np.arange(count), boxes)


def _repeated(count: int, boxes: int) -> Any:
    return np.repeat(np.arange(boxes), count)


def _at_inputs(tape: Tape, rows: Rows) -> Any:
    plan, k = tape.plan, tape.kernels
    steps = [s for s in plan.steps if isinstance(s, InputStep)]
    parts = []
    for step in steps:
        a = rows.at.pop(step.slot, None)
        parts.append(k.zeros(len(rows.const), step.stop - step.start) if a is None else a)
    if rows.at:
        raise AssertionError(f"rows left behind at slots {sorted(rows.at)}")
    return parts[0] if len(parts) == 1 else k.concat(parts, axis=1)


def concretize(tape: Tape, a: Any, rows: Rows) -> Any:
    """``R``: rigorous lower bounds of ``a . x + const - error`` over each row's box (and the ball).

    ``|a . c| + |a| . r <= |a| . reach``, so one product bounds every rounding made here.
    """
    k, precision = tape.kernels, tape.kernels.precision
    value = rows.const + k.concretize(a, k.take(tape.centre, rows.dom), k.take(tape.radius, rows.dom))
    if not precision.u:
        rows.pad = rows.error
        return value - rows.error
    scale = k.abs_dot(a, tape.reach) + abs(rows.const)
    lower, rows.pad = _outwards(tape, rows, value, scale)
    if tape.ball is None:
        return lower
    value, scale = _over_ball(tape, a, rows)
    better, _ = _outwards(tape, rows, value, scale)
    return k.where(better > lower, better, lower)  # a NaN is not better


def _outwards(tape: Tape, rows: Rows, value: Any, scale: Any) -> tuple[Any, Any]:
    """The value moved down by all errors, and by how much; ``scale`` bounds the terms of its sums."""
    precision = tape.kernels.precision
    error = rows.error + precision.gamma(tape.plan.input_size + 8) * scale + tape.eta
    pad = error * precision.slack(tape.plan.terms + 8) + 2 * precision.u * abs(value)
    return value - pad, pad


def _over_ball(tape: Tape, a: Any, rows: Rows) -> tuple[Any, Any]:
    """Minimum of ``a . x + const`` over the ball, and the scale of its rounding errors."""
    k, p, ball = tape.kernels, tape.kernels.precision, tape.ball
    assert ball is not None
    if ball.norm == 1:
        dual = k.max0(abs(a).T)
    else:
        # the sum of squares is rounded (gamma) and may underflow (d eta); the root halves the former
        squares = k.rowdot(a, a) + p.eta * a.shape[1]
        dual = squares**0.5 * p.slack(a.shape[1] + 4)
    drop = ball.radius * dual
    return rows.const + a @ ball.centre - drop, k.abs_dot(a, ball.reach) + abs(rows.const) + drop


def minimiser(tape: Tape, a: Any, dom: Any) -> Any:
    """``R d``: where in its box (or, for a 2-norm, roughly in the ball) each row is least; a guess."""
    k = tape.kernels
    corner = k.take(tape.centre, dom) + k.where(a > 0, -1, 1) * k.take(tape.radius, dom)
    ball = tape.ball
    if ball is None or ball.norm != 2:
        return corner
    norm = (k.rowdot(a, a) + k.precision.eta) ** 0.5
    inside = ball.centre - a * (ball.radius / norm)[:, None]
    lo, hi = k.take(tape.centre - tape.radius, dom), k.take(tape.centre + tape.radius, dom)
    return k.minimum(k.maximum(inside, lo), hi)
