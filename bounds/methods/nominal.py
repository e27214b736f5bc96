"""Interval and linear bounds without rounding terms: two short walks over a plan, for training.

What :mod:`bounds.methods.rule` and :mod:`bounds.methods.backward` compute with ``u = 0``, less what only
rounding needs (magnitudes, error vectors), which is most of the time of a training step. Intermediate
intervals come from interval arithmetic (CROWN-IBP). Nothing here is evidence.

Scalar functions take ranges and lines from the verifier's engine, as numbers; gradients reach them through
interval ends: where an end attains the range, or touches a line (both ends: the line is the chord).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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
# elements of a temporary: some of them fit the second-level cache
_CACHED = 1 << 17


@dataclass(slots=True)
class Intervals:
    """Intervals of a block of boxes.

    Attributes:
        at: slot -> ``(centre, radius)``, ``D n``.
        bent: slot of a rectifier's operand -> ``(max(hi, 0), min(lo, 0))``.
    """

    at: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict[int, tuple[Tensor, Tensor]])
    bent: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict[int, tuple[Tensor, Tensor]])

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
            found.bent[step.source], found.at[step.slot] = made[:2], made[2:]
        elif isinstance(step, ScalarStep):
            low, high = _range(plan, step.function, *found.ends(step.source))
            found.at[step.slot] = (low + high) * 0.5, (high - low) * 0.5
        else:
            raise ModelUnsupported("product", "", "products of two tensors are not trained yet")
    return found


def _where_positive(x: Tensor, of: Tensor) -> Tensor:
    """``x`` where ``of > 0``, else 0: one pass, where a mask and a selection are three."""
    return torch.ops.aten.threshold_backward(x, of, 0)


def _blocks(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Boxes (axis 0 of all) in blocks so small that temporaries stay in the cache.

    On an image-sized layer an elementwise operation costs what its memory traffic does, and a training step
    has dozens of them.
    """
    boxes = len(tensors[0])
    most = max(t.numel() for t in tensors)
    size = max(1, _CACHED * boxes // max(most, 1))
    if most <= _CACHED:
        yield tensors
        return
    for start in range(0, boxes, size):
        yield tuple(t[start : start + size] for t in tensors)


def relu_interval(centre: Tensor, radius: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Intervals through rectifiers, ``D n`` each.

    Returns:
        ``p = max(hi, 0)`` and ``q = min(lo, 0)`` of the operand, which :func:`relu_rows` makes its lines of;
        centre and radius of the value.
    """
    p, q, middle, spread = (torch.empty_like(centre) for _ in range(4))
    for c, r, high, low, m, s in _blocks(centre, radius, p, q, middle, spread):
        torch.add(c, r, out=high).clamp_(min=0)
        torch.sub(c, r, out=low)
        above = low.clamp(min=0)
        low.clamp_(max=0)
        torch.lerp(above, high, 0.5, out=m)
        torch.sub(high, m, out=s)
    return p, q, middle, spread


def relu_interval_gradient(
    found: tuple[Tensor, ...], to_p: Tensor | None, to_q: Tensor | None, to_middle: Tensor, to_spread: Tensor
) -> tuple[Tensor, Tensor]:
    """What centre and radius receive in :func:`relu_interval`, which had ``found`` this."""
    to_centre, to_radius = torch.empty_like(found[0]), torch.empty_like(found[0])
    with_rows = to_p is not None and to_q is not None
    more = (to_p, to_q) if to_p is not None and to_q is not None else found[:2]
    for p, q, m, s, gp, gq, gm, gs, tc, tr in _blocks(
        *found, *more, to_middle, to_spread, to_centre, to_radius
    ):
        high, low = (gm + gs).mul_(0.5), (gm - gs).mul_(0.5)
        if with_rows:
            high += gp
        high, low = _where_positive(high, p), _where_positive(low, m - s)
        if with_rows:
            low += _where_positive(gq, q.neg())
        torch.add(high, low, out=tc)
        torch.sub(high, low, out=tr)
    return to_centre, to_radius


class _ReluInterval(torch.autograd.Function):
    """:func:`relu_interval`, recorded."""

    @staticmethod
    def forward(ctx: Any, centre: Tensor, radius: Tensor) -> tuple[Tensor, ...]:
        found = relu_interval(centre, radius)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*found)
        return found

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, Tensor]:
        found = ctx.saved_tensors
        ends = [torch.zeros_like(found[0]) if g is None else g for g in grads[2:]]
        return relu_interval_gradient(found, *_both(grads[0], grads[1], found[0]), *ends)


def _both(to_p: Tensor | None, to_q: Tensor | None, like: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """Zeros for one that is missing while the other is not."""
    if to_p is None and to_q is None:
        return None, None
    return tuple(torch.zeros_like(like) if g is None else g for g in (to_p, to_q))  # type: ignore[return-value]


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
            made: Any = _ThroughRelu.apply(a, *found.bent[step.source])
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
        const = const + dot(a, centre)
        spread = spread + dot(a.abs(), radius)
    return const, spread


def _add(rows: dict[int, Tensor], slot: int, part: Tensor) -> None:
    rows[slot] = rows[slot] + part if slot in rows else part


def relu_rows(a: Tensor, p: Tensor, q: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    """Rows of ``z`` and constants ``D S`` from rows ``a: D S n`` of ``relu(z + bias)``, by the adaptive CROWN
    relaxation, p and q being :func:`relu_interval`'s of ``z + bias``.

    By hand because recorded elementwise operations (selections above all) are most of a training step's time:
    with ``w = p - q`` the upper line has slope ``u = p / w`` and intercept ``-q u``, the lower one slope 1
    where ``p + q > 0``, else 0; stable elements come out right by themselves.
    """
    out, drop = torch.empty_like(a), a.new_empty(a.shape[:2])
    for rows, high, low, o, d in _blocks(a, p, q, out, drop):
        upper = high / (high - low).clamp_(min=torch.finfo(a.dtype).tiny)
        negative = rows.clamp(max=0)
        lower = _where_positive(rows - negative, (high + low)[:, None])
        torch.addcmul(lower, negative, upper[:, None], out=o)
        torch.neg(dot(negative, upper.mul_(low)), out=d)
    if bias is not None:
        drop += out @ bias
    return out, drop


def relu_rows_gradient(
    given: Tensor,
    dropped: Tensor,
    a: Tensor,
    ends: tuple[Tensor, Tensor],
    out: Tensor,
    bias: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """What rows, p, q and bias receive in :func:`relu_rows`, whose rows were ``out``.

    The gradient at a zero coefficient is the lower slope. What both directions need is computed anew, in the
    cache: cheaper than fetching it.
    """
    to_a, to_p, to_q = torch.empty_like(a), torch.empty_like(ends[0]), torch.empty_like(ends[1])
    for rows, high, low, g, d, ta, tp, tq in _blocks(a, *ends, given, dropped, to_a, to_p, to_q):
        width = (high - low).clamp_(min=torch.finfo(a.dtype).tiny)
        upper, d = high / width, d[:, :, None]
        opposite = rows.neg()
        negative = opposite.clamp(min=0)  # less a sign, which the last lines put back
        straight = g if bias is None else torch.addcmul(g, d, bias)
        below = torch.addcmul(straight, d, low[:, None], value=-1)
        slope = _sum_rows(negative * below).div_(width).div_(width)
        direct = _sum_rows(negative.mul_(d)).mul_(upper)
        lower = _where_positive(straight, (high + low)[:, None])
        bent = below.mul_(upper[:, None]).sub_(lower)
        torch.add(lower, _where_positive(bent, opposite), out=ta)
        torch.mul(slope, low, out=tp)
        torch.addcmul(direct, slope, high, value=-1, out=tq)
    to_bias = None if bias is None else dropped.reshape(-1) @ out.reshape(-1, out.shape[2])
    return to_a, to_p, to_q, to_bias


class _ThroughRelu(torch.autograd.Function):
    """:func:`relu_rows`, recorded."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, p: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
        out, drop = relu_rows(a, p, q, None)
        ctx.save_for_backward(a, p, q, out)
        return out, drop

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        a, p, q, out = ctx.saved_tensors
        return relu_rows_gradient(grads[0], grads[1], a, (p, q), out, None)[:3]


def dot(rows: Tensor, x: Tensor) -> Tensor:
    """``D S``: rows ``D S n`` times one vector per box, ``D n``."""
    return (rows * x[:, None]).sum(2)  # a batched product of so thin matrices takes several times as long


def _sum_rows(rows: Tensor) -> Tensor:
    """``D n``: over the rows of a box."""
    return rows.sum(1) if rows.shape[1] > 1 else rows[:, 0]


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
