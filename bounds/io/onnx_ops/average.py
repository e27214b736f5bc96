"""Averages and p-norms over windows, lowered to depthwise convolutions.

An average of n is a sum (n roundings) and one division or product with a rounded 1/n (2). A p-norm is
the elementwise power (``|x|``, or SCALAR ``x^2``, or SCALAR ``|x|^p``), the sum, and a SCALAR root (none for
p = 1).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from bounds.expression import Fn, X
from bounds.expression import call as apply_fn
from bounds.graph import Array
from bounds.io.context import Builder, Call, Context
from bounds.io.onnx_ops.arithmetic import inverse_error
from bounds.io.onnx_ops.conv import Filter, Window, convolve, window_of
from bounds.io.onnx_ops.relu import absolute
from bounds.io.values import Value, Var


def _average_pool(ctx: Context, call: Call) -> list[Value]:
    x = ctx.variable(call.operand(0))
    window = window_of(call, x.shape[2:], call.integers("kernel_shape") or ())
    include = bool(call.attributes.get("count_include_pad", 0))
    counts, window = _counted(window, x.shape[2:], include=include)
    if counts.min() < 1:
        raise ValueError("a window lies entirely in the padding")
    n = math.prod(window.kernel)
    if np.all(counts == counts.flat[0]):
        divisor = int(counts.flat[0])
        y = _windows(ctx, call, x, window, 1.0 / divisor, n + 2, inverse_error(divisor))
        return [y]
    y = _windows(ctx, call, x, window, 1.0, n, 0.0)
    inexact = max(inverse_error(int(c)) for c in np.unique(counts))
    return [ctx.scale(y, 1.0 / counts, 0.0, roundings=2, error=inexact)]


def _counted(window: Window, spatial: tuple[int, ...], *, include: bool) -> tuple[Array, Window]:
    """Elements that each window averages over; the window with the padding that ceil_mode reaches into."""
    counts = np.ones(())
    after = list(window.after)
    for i, size in enumerate(spatial):
        at = np.arange(window.kernel[i])[:, None] * window.dilations[i]
        at = at + np.arange(window.out[i]) * window.strides[i] - window.before[i]
        low, high = (-window.before[i], size + window.after[i]) if include else (0, size)
        counts = counts[..., None] * ((at >= low) & (at < high)).sum(axis=0)
        after[i] = max(0, int(at.max()) + 1 - size)
    return counts, replace(window, after=tuple(after))


def _windows(
    ctx: Context, call: Call, x: Var, window: Window, weight: float, roundings: int, error: float
) -> Var:
    """``weight`` times the sum of every window."""
    channels = x.shape[1]
    weights = np.full(ctx.guard((channels, 1, *window.kernel)), weight)
    filters = Filter(weights, np.zeros(channels), channels, roundings, error)
    return convolve(ctx, call, x, filters, window)


def _global_average_pool(ctx: Context, call: Call) -> list[Value]:
    x = ctx.variable(call.operand(0))
    n = math.prod(x.shape[2:])
    window = _everything(x)
    return [_windows(ctx, call, x, window, 1.0 / n, n + 2, inverse_error(n))]


def _everything(x: Var) -> Window:
    ones, zeros = (1,) * (len(x.shape) - 2), (0,) * (len(x.shape) - 2)
    return Window(x.shape[2:], ones, ones, zeros, zeros, ones)


def _lp_pool(ctx: Context, call: Call) -> list[Value]:
    x = ctx.variable(call.operand(0))
    window = window_of(call, x.shape[2:], call.integers("kernel_shape") or ())
    _, window = _counted(window, x.shape[2:], include=True)
    return [_norm(ctx, call, x, window)]


def _global_lp_pool(ctx: Context, call: Call) -> list[Value]:
    x = ctx.variable(call.operand(0))
    return [_norm(ctx, call, x, _everything(x))]


def _norm(ctx: Context, call: Call, x: Var, window: Window) -> Var:
    p = float(call.attributes.get("p", 2))
    total = _windows(ctx, call, power(ctx, x, p), window, 1.0, math.prod(window.kernel), 0.0)
    return root(ctx, total, p)


def power(ctx: Context, x: Var, p: float) -> Var:
    """``|x| ** p``."""
    if p < 1:
        raise ValueError(f"p = {p} of a norm")
    if p == 1:
        return absolute(ctx, x)
    return ctx.apply(X**2 if p == 2 else apply_fn(Fn.ABS, X) ** p, x)


def root(ctx: Context, x: Var, p: float) -> Var:
    """``x ** (1 / p)``."""
    if p == 1:
        return x
    return ctx.apply(apply_fn(Fn.SQRT, X) if p == 2 else X ** (1 / p), x)


BUILDERS: Mapping[str, Builder] = {
    "AveragePool": _average_pool,
    "GlobalAveragePool": _global_average_pool,
    "GlobalLpPool": _global_lp_pool,
    "LpPool": _lp_pool,
}
