"""Interval and linear bounds without rounding terms: two short walks over a plan, for training.

What :mod:`bounds.methods.rule` and :mod:`bounds.methods.backward` compute with ``u = 0``, less what only
rounding needs (magnitudes, error vectors), which is most of the time of a training step. Intermediate
intervals come from interval arithmetic (CROWN-IBP). Nothing here is evidence.

Scalar functions take ranges and lines from the verifier's engine, as numbers; gradients reach them through
interval ends: where an end attains the range, or touches a line (both ends: the line is the chord).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from bounds.errors import ModelUnsupported
from bounds.plan import AffineStep, InputStep, Plan, ReluStep, ScalarStep
from bounds.relax.elementwise import relax_scalar, scalar_range
from bounds.relax.scalar import ScalarFunction

# two numbers of the engine and of the tensors are one if they differ by less than one part in this many
_SAME = 1 << 16


@dataclass(slots=True)
class Intervals:
    """Intervals of a block of boxes: slot -> ``(lo, hi)``, ``D n``."""

    at: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict[int, tuple[Tensor, Tensor]])


def intervals(plan: Plan, lo: Tensor, hi: Tensor, stop: int | None = None) -> Intervals:
    """Intervals of every slot (of steps before ``stop``) over boxes ``D d``."""
    found = Intervals()
    for step in plan.steps[:stop]:
        if isinstance(step, InputStep):
            part = slice(step.start, step.stop)
            found.at[step.slot] = lo[:, part], hi[:, part]
        elif isinstance(step, AffineStep):
            centres = [(found.at[s][0] + found.at[s][1]) * 0.5 for s in step.sources]
            radii = [(found.at[s][1] - found.at[s][0]) * 0.5 for s in step.sources]
            value, spread = step.map.apply(centres), step.map.apply_abs(radii)
            if step.map.bias is not None:
                value = value + step.map.bias
            found.at[step.slot] = value - spread, value + spread
        elif isinstance(step, ReluStep):
            a, b = found.at[step.source]
            found.at[step.slot] = a.clamp(min=0), b.clamp(min=0)
        elif isinstance(step, ScalarStep):
            found.at[step.slot] = _range(plan, step.function, *found.at[step.source])
        else:
            raise ModelUnsupported("product", "", "products of two tensors are not trained yet")
    return found


def points(plan: Plan, x: Tensor) -> Tensor:
    """``D outputs`` at points ``D d``, with gradients through every step."""
    return _run(plan, {}, 0, x)


def points_from(plan: Plan, step: int, value: Tensor) -> Tensor:
    """``D outputs`` from the value of step number ``step``, which everything later must be a function of."""
    return _run(plan, {plan.steps[step].slot: value}, step + 1, value)


def _run(plan: Plan, at: dict[int, Tensor], first: int, x: Tensor) -> Tensor:
    for step in plan.steps[first:]:
        if isinstance(step, InputStep):
            at[step.slot] = x[:, step.start : step.stop]
        elif isinstance(step, AffineStep):
            value = step.map.apply([at[s] for s in step.sources])
            at[step.slot] = value if step.map.bias is None else value + step.map.bias
        elif isinstance(step, ReluStep):
            at[step.slot] = at[step.source].clamp(min=0)
        elif isinstance(step, ScalarStep):
            at[step.slot] = value_at(step.function, at[step.source])
        else:
            raise ModelUnsupported("product", "", "products of two tensors are not trained yet")
    return torch.cat([at[s] for s in plan.outputs], dim=1)


def backward(
    plan: Plan, found: Intervals, at: Mapping[int, Tensor], const: Tensor, stop: int | None = None
) -> tuple[dict[int, Tensor], Tensor]:
    """Pushes rows of lower bounds to the inputs.

    Args:
        plan: the network.
        found: intervals of every nonlinear step's operands.
        at: slot -> ``D S n`` coefficients.
        const: ``D S``.
        stop: steps before it are walked.

    Returns:
        Input slot -> ``D S n`` coefficients, and constants.
    """
    rows = dict(at)
    inputs: dict[int, Tensor] = {}
    for step in reversed(plan.steps[:stop]):
        a = rows.pop(step.slot, None)
        if a is None:
            continue
        if isinstance(step, InputStep):
            inputs[step.slot] = a
            continue
        if isinstance(step, AffineStep):
            if step.map.bias is not None:
                const = const + a @ step.map.bias
            flat = a.reshape(-1, a.shape[-1])
            for source, part in zip(step.sources, step.map.adjoint(flat), strict=True):
                _add(rows, source, part.reshape(*a.shape[:2], -1))
            continue
        assert isinstance(step, ReluStep | ScalarStep)
        if isinstance(step, ReluStep):
            a, drop = _through_relu(a, *found.at[step.source])
        else:
            a, drop = _through_scalar(plan, step.function, a, *found.at[step.source])
        const = const + drop
        _add(rows, step.source, a)
    return inputs, const


def concretize(plan: Plan, found: Intervals, rows: Mapping[int, Tensor], const: Tensor) -> Tensor:
    """``D S``: lower bounds of rows over the boxes."""
    del plan
    for slot, a in rows.items():
        lo, hi = found.at[slot]
        centre, radius = (lo + hi) * 0.5, (hi - lo) * 0.5
        const = const + (a @ centre[:, :, None])[:, :, 0] - (a.abs() @ radius[:, :, None])[:, :, 0]
    return const


def _add(rows: dict[int, Tensor], slot: int, part: Tensor) -> None:
    rows[slot] = rows[slot] + part if slot in rows else part


def relu_lines(lo: Tensor, hi: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """``(lower slope, upper slope, upper intercept)`` of the adaptive CROWN relaxation."""
    ambiguous = (lo < 0) & (hi > 0)
    width = torch.where(ambiguous, hi - lo, 1.0)
    active = (lo >= 0).to(lo.dtype)
    upper = torch.where(ambiguous, hi / width, active)
    lower = torch.where(ambiguous, (hi > -lo).to(lo.dtype), active)
    return lower, upper, torch.where(ambiguous, -lo * upper, 0.0)


def _through_relu(a: Tensor, lo: Tensor, hi: Tensor) -> tuple[Tensor, Tensor]:
    lower, upper, offset = relu_lines(lo, hi)
    below = a < 0
    slope = torch.where(below, upper[:, None], lower[:, None])
    drop = (a.clamp(max=0) @ offset[:, :, None])[:, :, 0]
    return a * slope, drop


def _through_scalar(
    plan: Plan, function: ScalarFunction, a: Tensor, lo: Tensor, hi: Tensor
) -> tuple[Tensor, Tensor]:
    kl, ku, bl, bu = scalar_lines(plan, function, lo, hi)
    below = a < 0
    slope = torch.where(below, ku[:, None], kl[:, None])
    shift = torch.where(below, bu[:, None], bl[:, None])
    return a * slope, (a * shift).sum(2)


def value_at(function: ScalarFunction, x: Tensor) -> Tensor:
    """The function at a tensor, with its first derivative as the gradient."""
    held = x.detach().cpu().double().numpy()
    value = torch.as_tensor(np.array(function.value(held)), dtype=x.dtype, device=x.device)
    slope = torch.as_tensor(np.array(function.derivative(held)), dtype=x.dtype, device=x.device)
    return value + slope * (x - x.detach())


def _near(a: Tensor, b: Tensor, size: Tensor) -> Tensor:
    return (a.detach() - b.detach()).abs() * _SAME <= size + torch.finfo(a.dtype).tiny


def _range(plan: Plan, function: ScalarFunction, lo: Tensor, hi: Tensor) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        ends = scalar_range(plan.kernels, function, lo.detach(), hi.detach())
    at_lo, at_hi = value_at(function, lo), value_at(function, hi)
    size = at_lo.detach().abs() + at_hi.detach().abs()
    made: list[Tensor] = []
    for end in ends:
        by_hi = torch.where(_near(at_hi, end, size), at_hi, end)
        made.append(torch.where(_near(at_lo, end, size), at_lo, by_hi))
    return made[0], made[1]


def scalar_lines(plan: Plan, function: ScalarFunction, lo: Tensor, hi: Tensor) -> tuple[Tensor, ...]:
    """``(kl, ku, bl, bu)``: the verifier's lines, with gradients in the interval's ends."""
    with torch.no_grad():
        lines = relax_scalar(plan.kernels, function, lo.detach(), hi.detach(), None).lines
    at_lo, at_hi = value_at(function, lo), value_at(function, hi)
    size = at_lo.detach().abs() + at_hi.detach().abs() + lo.detach().abs() + hi.detach().abs()
    wide = (hi - lo).detach() * _SAME > size
    chord = (at_hi - at_lo) / torch.where(wide, hi - lo, 1.0)
    slopes: list[Tensor] = []
    shifts: list[Tensor] = []
    for k, b in zip(lines[:2], lines[2:], strict=True):
        from_lo, from_hi = at_lo - k * lo, at_hi - k * hi
        low, high = _near(from_lo, b, size), _near(from_hi, b, size)
        both = low & high & wide
        shift = torch.where(low, from_lo, torch.where(high, from_hi, b))
        # the numbers stay the engine's, which encloses; only gradients are taken from the ends
        slopes.append(torch.where(both, k + (chord - chord.detach()), k))
        moved = torch.where(both, at_lo - chord * lo, shift)
        shifts.append(b + (moved - moved.detach()))
    return slopes[0], slopes[1], shifts[0], shifts[1]
