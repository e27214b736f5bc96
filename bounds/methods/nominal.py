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
from typing import Any

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
    """Intervals of a block of boxes: slot -> ``(centre, radius)``, ``D n``."""

    at: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict[int, tuple[Tensor, Tensor]])

    def ends(self, slot: int) -> tuple[Tensor, Tensor]:
        """Lower and upper end."""
        centre, radius = self.at[slot]
        return centre - radius, centre + radius


def intervals(plan: Plan, lo: Tensor, hi: Tensor, stop: int | None = None) -> Intervals:
    """Intervals of every slot (of steps before ``stop``) over boxes ``D d``."""
    found = Intervals()
    whole = (lo + hi) * 0.5, (hi - lo) * 0.5
    for step in plan.steps[:stop]:
        if isinstance(step, InputStep):
            part = slice(step.start, step.stop)
            found.at[step.slot] = whole[0][:, part], whole[1][:, part]
        elif isinstance(step, AffineStep):
            value = step.map.apply([found.at[s][0] for s in step.sources])
            spread = step.map.apply_abs([found.at[s][1] for s in step.sources])
            found.at[step.slot] = value if step.map.bias is None else value + step.map.bias, spread
        elif isinstance(step, ReluStep):
            made: Any = _ReluInterval.apply(*found.at[step.source])
            found.at[step.slot] = made
        elif isinstance(step, ScalarStep):
            low, high = _range(plan, step.function, *found.ends(step.source))
            found.at[step.slot] = (low + high) * 0.5, (high - low) * 0.5
        else:
            raise ModelUnsupported("product", "", "products of two tensors are not trained yet")
    return found


def _where_positive(x: Tensor, of: Tensor) -> Tensor:
    """``x`` where ``of > 0``, else 0: one pass, where a mask and a selection are three."""
    return torch.ops.aten.threshold_backward(x, of, 0)


class _ReluInterval(torch.autograd.Function):
    """Intervals through rectifiers; by hand for speed (see :class:`_ThroughRelu`)."""

    @staticmethod
    def forward(ctx: Any, centre: Tensor, radius: Tensor) -> tuple[Tensor, Tensor]:
        high, low = (centre + radius).clamp_(min=0), (centre - radius).clamp_(min=0)
        ctx.save_for_backward(high, low)
        return (high + low).mul_(0.5), (high - low).mul_(0.5)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        (c, r), (high, low) = grads, ctx.saved_tensors
        up, down = _where_positive(c + r, high), _where_positive(c - r, low)
        return (up + down).mul_(0.5), (up - down).mul_(0.5)


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
            made: Any = _ThroughRelu.apply(a, *found.at[step.source])
            a, drop = made
        else:
            a, drop = _through_scalar(plan, step.function, a, *found.ends(step.source))
        const = const + drop
        _add(rows, step.source, a)
    return inputs, const


def concretize(found: Intervals, rows: Mapping[int, Tensor], const: Tensor) -> Tensor:
    """``D S``: lower bounds of rows over the boxes."""
    centre, radius = centre_and_radius(found, rows, const)
    return centre - radius


def centre_and_radius(found: Intervals, rows: Mapping[int, Tensor], const: Tensor) -> tuple[Tensor, Tensor]:
    """``D S`` twice: the middle of what rows can be over the boxes, and how far from it."""
    spread = torch.zeros_like(const)
    for slot, a in rows.items():
        centre, radius = found.at[slot]
        const = const + (a @ centre[:, :, None])[:, :, 0]
        spread = spread + (a.abs() @ radius[:, :, None])[:, :, 0]
    return const, spread


def _add(rows: dict[int, Tensor], slot: int, part: Tensor) -> None:
    rows[slot] = rows[slot] + part if slot in rows else part


class _ThroughRelu(torch.autograd.Function):
    """Rows through rectifiers, with the adaptive CROWN relaxation.

    By hand because recorded elementwise operations (selections above all) are most of a training step's time:
    with ``p = max(hi, 0)``, ``q = min(lo, 0)`` and ``w = p - q`` the upper line has slope ``u = p / w`` and
    intercept ``-q u``, the lower one slope 1 where ``p > -q``, else 0; stable elements come out right by
    themselves. The gradient at a zero coefficient is the lower slope.
    """

    @staticmethod
    def forward(ctx: Any, a: Tensor, centre: Tensor, radius: Tensor) -> tuple[Tensor, Tensor]:
        p, q = (centre + radius).clamp_(min=0), (centre - radius).clamp_(max=0)
        width = (p - q).clamp_(min=torch.finfo(a.dtype).tiny)
        upper = p / width
        lower = (centre > 0).to(a.dtype)  # the same as p > -q
        ctx.save_for_backward(a, p, q, width, upper, lower)
        negative = a.clamp(max=0)
        drop = (negative @ (upper * q)[:, :, None])[:, :, 0].neg_()
        out = (a - negative).mul_(lower[:, None]).addcmul_(negative, upper[:, None])
        return out, drop

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        (given, dropped), (a, p, q, width, upper, lower) = grads, ctx.saved_tensors
        opposite = -a
        negative = opposite.clamp(min=0)  # less a sign, which the last lines put back
        below = torch.addcmul(given, dropped[:, :, None], q[:, None], value=-1)
        by_upper = (negative * below).sum(1) if a.shape[1] > 1 else (negative * below)[:, 0]
        direct = (dropped[:, None] @ negative)[:, 0].mul_(upper)
        straight = given * lower[:, None]
        bent = below.mul_(upper[:, None]).sub_(straight)
        to_a = straight.add_(_where_positive(bent, opposite))
        slope = by_upper.div_(width).div_(width)
        to_hi = _where_positive(slope * q, p)
        to_lo = _where_positive(direct.addcmul_(slope, p, value=-1), -q)
        return to_a, to_hi + to_lo, to_hi - to_lo


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
