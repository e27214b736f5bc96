"""Normalisations: by mean and variance, by root mean square, by p-norms, across channels.

Normal form, for rows ``(R, n)`` of elements that are normalised together: the deviation from the mean (one
LINEAR with ``I - 1/n``; for long rows SUM, SCALE, TAKE, ADD), SCALAR ``x^2``, SUM, SCALE ``x / n + epsilon``,
SCALAR ``x^(-1/2)``, TAKE, MUL. Scale and bias follow as ordinary operators. Runtimes compute the variance
as ``mean(x^2) - mean(x)^2`` or in two passes, which round very differently (``UNMODELLED``); exports that
spell the normalisation out in elementary operators are charged for what they spell.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from bounds.expression import Expr, Fn, X, const
from bounds.expression import call as apply_fn
from bounds.graph import UNMODELLED
from bounds.io import values
from bounds.io.context import Builder, Call, Context
from bounds.io.onnx_ops.arithmetic import inverse_error, sum_of, times
from bounds.io.onnx_ops.average import power
from bounds.io.onnx_ops.bilinear import summed
from bounds.io.onnx_ops.lanes import lanes, positive_axis, unlanes
from bounds.io.values import Value, Var

_DENSE = 512  # rows up to this length are centred by one matrix, which gives tighter intervals
_INVERSE_ROOT = X**-0.5
_MVN_EPSILON = 1e-9  # fixed by the operator's definition


@dataclass(frozen=True, slots=True)
class _Standard:
    """Standardised rows ``(R, n)``, their means and the factors ``(R, 1)`` they were multiplied by."""

    rows: Var
    mean: Var | None
    factor: Var


def _mean(ctx: Context, x: Var) -> Var:
    """``(R, n) -> (R, 1)``."""
    n = x.shape[1]
    y = ctx.scale(summed(ctx, x, roundings=n), 1.0 / n, 0.0, roundings=2, error=inverse_error(n))
    return ctx.reshape(y, (x.shape[0], 1))


def _centred(ctx: Context, x: Var) -> Var:
    n = x.shape[1]
    if n <= _DENSE:
        weight = np.eye(n) - 1.0 / n  # both numbers in it are within one rounding of the true ones
        return ctx.linear(x, weight, roundings=UNMODELLED, error=2 * inverse_error(n))
    return ctx.combine([x, _mean(ctx, x)], [1.0, -1.0], roundings=UNMODELLED)


def _standard(
    ctx: Context, x: Var, epsilon: float, *, centre: bool, outer: Expr = _INVERSE_ROOT
) -> _Standard:
    """``c * outer(mean(c^2) + epsilon)`` with c the (centred) rows."""
    n = x.shape[1]
    if n == 0:
        raise ValueError("normalisation of no elements")
    c = _centred(ctx, x) if centre else x
    total = summed(ctx, ctx.apply(X**2, c), roundings=UNMODELLED)
    spread = ctx.scale(total, 1.0 / n, epsilon, error=inverse_error(n))
    factor = ctx.reshape(ctx.apply(outer, spread, roundings=UNMODELLED), (x.shape[0], 1))
    return _Standard(ctx.product(c, factor), _mean(ctx, x) if centre else None, factor)


def _epsilon(call: Call) -> float:
    value = float(call.attributes.get("epsilon", np.float32(1e-5)))
    if not value >= 0:
        raise ValueError(f"epsilon {value}")
    return value


def _affine(ctx: Context, y: Var, scale: Value | None, bias: Value | None) -> Value:
    out: Value = y if scale is None else times(ctx, y, scale)
    return out if bias is None else sum_of(ctx, out, bias, 1.0)


def _layer_normalization(ctx: Context, call: Call) -> list[Value]:
    x = ctx.variable(call.operand(0))
    axis = positive_axis(int(call.attributes.get("axis", -1)), len(x.shape))
    axes = tuple(range(axis, len(x.shape)))
    done = _standard(ctx, lanes(ctx, x, axes), _epsilon(call), centre=True)
    y = _affine(ctx, unlanes(ctx, done.rows, x.shape, axes), call.operand(1), call.optional(2))
    assert done.mean is not None
    reduced = (*x.shape[:axis], *(1,) * len(axes))
    return [y, ctx.reshape(done.mean, reduced), ctx.reshape(done.factor, reduced)]


def _rms_normalization(ctx: Context, call: Call) -> list[Value]:
    x = ctx.variable(call.operand(0))
    axes = tuple(range(positive_axis(int(call.attributes.get("axis", -1)), len(x.shape)), len(x.shape)))
    done = _standard(ctx, lanes(ctx, x, axes), _epsilon(call), centre=False)
    return [_affine(ctx, unlanes(ctx, done.rows, x.shape, axes), call.operand(1), None)]


def _per_channel(ctx: Context, value: Value, rank: int, repeats: int = 1) -> Value:
    """A vector over channels (or, repeated, over groups of them) against ``(N, C, ...)``."""
    return ctx.move(value, lambda a: np.repeat(a, repeats).reshape((-1, *(1,) * (rank - 2))))


def _grouped(ctx: Context, call: Call, x: Var, groups: int, repeats: int) -> list[Value]:
    channels, rank = x.shape[1], len(x.shape)
    if groups < 1 or channels % groups:
        raise ValueError(f"{groups} groups of {channels} channels")
    rows = ctx.reshape(x, (x.shape[0] * groups, channels // groups * math.prod(x.shape[2:])))
    y = ctx.reshape(_standard(ctx, rows, _epsilon(call), centre=True).rows, x.shape)
    scale, bias = (_per_channel(ctx, call.operand(i), rank, repeats) for i in (1, 2))
    return [_affine(ctx, y, scale, bias)]


def _instance_normalization(ctx: Context, call: Call) -> list[Value]:
    x = ctx.variable(call.operand(0))
    return _grouped(ctx, call, x, x.shape[1], 1)


def _group_normalization(ctx: Context, call: Call) -> list[Value]:
    x, groups = ctx.variable(call.operand(0)), int(call.attributes.get("num_groups", 0))
    per_group = call.opset < 21  # later one number per channel
    return _grouped(ctx, call, x, groups, x.shape[1] // groups if per_group and groups else 1)


def _mean_variance_normalization(ctx: Context, call: Call) -> list[Value]:
    x = ctx.variable(call.operand(0))
    rank = len(x.shape)
    axes = tuple(sorted(positive_axis(a, rank) for a in call.integers("axes") or (0, 2, 3)))
    outer = const(1.0) / (apply_fn(Fn.SQRT, X) + _MVN_EPSILON)
    done = _standard(ctx, lanes(ctx, x, axes), 0.0, centre=True, outer=outer)
    return [unlanes(ctx, done.rows, x.shape, axes)]


def _lp_normalization(ctx: Context, call: Call) -> list[Value]:
    x = ctx.variable(call.operand(0))
    axis = (positive_axis(int(call.attributes.get("axis", -1)), len(x.shape)),)
    p = int(call.attributes.get("p", 2))
    if p not in (1, 2):
        raise ValueError(f"p = {p}")
    rows = lanes(ctx, x, axis)
    total = summed(ctx, power(ctx, rows, p), roundings=rows.shape[1])
    inverse = ctx.apply(const(1.0) / X if p == 1 else _INVERSE_ROOT, total, roundings=UNMODELLED)
    y = ctx.product(rows, ctx.reshape(inverse, (rows.shape[0], 1)))
    return [unlanes(ctx, y, x.shape, axis)]


def _lrn(ctx: Context, call: Call) -> list[Value]:
    """``x / (bias + alpha / size * sum of squares of neighbouring channels) ** beta``."""
    x, size = ctx.variable(call.operand(0)), int(call.attributes.get("size", 0))
    if size < 1:
        raise ValueError(f"size {size}")
    alpha, beta = (float(call.attributes.get(k, np.float32(v))) for k, v in (("alpha", 1e-4), ("beta", 0.75)))
    rows = lanes(ctx, x, (1,))
    squares = ctx.apply(X**2, rows)
    near = np.arange(rows.shape[1])[:, None] + np.arange(size) - (size - 1) // 2
    outside = (near < 0) | (near >= rows.shape[1])
    index = np.where(outside, -1, ctx.index(squares)[:, np.where(outside, 0, near)])
    total = summed(ctx, ctx.take(squares, index), roundings=size)
    bias = float(call.attributes.get("bias", 1.0))
    base = ctx.scale(total, alpha / size, bias, error=values.ROUND)
    y = ctx.product(rows, ctx.apply(X**-beta, base, roundings=UNMODELLED))
    return [unlanes(ctx, y, x.shape, (1,))]


BUILDERS: Mapping[str, Builder] = {
    "GroupNormalization": _group_normalization,
    "InstanceNormalization": _instance_normalization,
    "LRN": _lrn,
    "LayerNormalization": _layer_normalization,
    "LpNormalization": _lp_normalization,
    "MeanVarianceNormalization": _mean_variance_normalization,
    "RMSNormalization": _rms_normalization,
}
