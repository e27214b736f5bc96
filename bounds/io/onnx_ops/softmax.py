"""Softmax and its kin, from differences only.

``softmax(x)_i = 1 / (1 + sum_{j != i} exp(x_j - x_i))`` cannot overflow where the quotient of sums can,
and shows that adding a constant to all elements changes nothing. Runtimes shift by the maximum and
divide; how far that rounds away from this form is not analysed (``UNMODELLED``).

Normal form, for rows ``(R, K)``: TAKE of ``x_j`` and of ``x_i`` to ``(R, K, K - 1)`` (j ascending, i left
out), ADD, SCALAR ``exp``, SUM, SCALE ``+ 1``, SCALAR ``1 / x`` (log-softmax: ``-log x``). Two elements:
``s = sigmoid(x_0 - x_1)`` of shape ``(R, 1)`` and CONCAT with SCALE ``1 - s``; log-softmax
``-softplus(x_j - x_i)``. One element: a constant.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from bounds.expression import Fn, X, call, const
from bounds.graph import UNMODELLED, Array, Op
from bounds.io.context import Builder, Call, Context
from bounds.io.onnx_ops.bilinear import summed
from bounds.io.onnx_ops.lanes import lanes, positive_axis, unlanes
from bounds.io.values import Const, Value, Var

_EXP = call(Fn.EXP, X)
_INVERSE = const(1.0) / X
_MINUS_LOG = -call(Fn.LOG, X)
_MINUS_SOFTPLUS = -call(Fn.SOFTPLUS, X)
_SIGMOID = call(Fn.SIGMOID, X)
_FLATTENING = 13  # before this opset all axes from `axis` on are one


def others(n: int) -> Array:
    """``(n, n - 1)``: in row i all of ``0..n-1`` but i, ascending."""
    column = np.arange(n - 1)
    return column + (column >= np.arange(n)[:, None])


def differences(ctx: Context, x: Var) -> Var:
    """``x_j - x_i`` for every i and every other j: ``(R, K) -> (R, K, K - 1)``."""
    rows, n = x.shape
    index = ctx.index(x)
    shape = ctx.guard((rows, n, n - 1))
    other = ctx.take(x, index[:, others(n)])
    own = ctx.take(x, np.broadcast_to(index[:, :, None], shape))
    return ctx.combine([other, own], [1.0, -1.0])


def softmax(ctx: Context, x: Var, keep: Array | None = None) -> Var:
    """Softmax of every row of ``x`` ``(R, K)``; elements outside ``keep`` count as minus infinity."""
    n = x.shape[1]
    if keep is not None and not np.all(keep.any(axis=1)):
        raise ValueError("a row of a softmax is masked entirely")
    if n == 1:
        return _constant(ctx, x, 1.0)
    if n == 2 and keep is None:
        index = ctx.index(x)
        d = ctx.combine([ctx.take(x, index[:, :1]), ctx.take(x, index[:, 1:])], [1.0, -1.0])
        s = ctx.apply(_SIGMOID, d, roundings=UNMODELLED)
        return ctx.add(Op.CONCAT, [s, ctx.scale(s, -1.0, 1.0)], {"axis": 1})
    terms = ctx.apply(_EXP, differences(ctx, x), roundings=0)
    if keep is not None:
        terms = ctx.take(terms, np.where(keep[:, others(n)], ctx.index(terms), -1))
    total = ctx.scale(summed(ctx, terms, roundings=0), 1.0, 1.0)
    y = ctx.apply(_INVERSE, total, roundings=UNMODELLED)
    return y if keep is None else ctx.take(y, np.where(keep, ctx.index(y), -1))


def log_softmax(ctx: Context, x: Var) -> Var:
    """Logarithm of the softmax of every row of ``x`` ``(R, K)``."""
    rows, n = x.shape
    if n == 1:
        return _constant(ctx, x, 0.0)
    d = differences(ctx, x)
    if n == 2:
        return ctx.reshape(ctx.apply(_MINUS_SOFTPLUS, d, roundings=UNMODELLED), (rows, n))
    total = ctx.scale(summed(ctx, ctx.apply(_EXP, d, roundings=0), roundings=0), 1.0, 1.0)
    return ctx.apply(_MINUS_LOG, total, roundings=UNMODELLED)


def log_sum_exp(ctx: Context, x: Var) -> Var:
    """``log sum_j exp(x_j)`` of every row ``(R, K)``, as ``x_0 + log(1 + sum_{j > 0} exp(x_j - x_0))``."""
    rows, n = x.shape
    index = ctx.index(x)
    first = ctx.take(x, index[:, 0])
    if n == 1:
        return first
    start = ctx.take(x, np.broadcast_to(index[:, :1], (rows, n - 1)))
    d = ctx.combine([ctx.take(x, index[:, 1:]), start], [1.0, -1.0])
    if n == 2:
        rest = ctx.reshape(ctx.apply(call(Fn.SOFTPLUS, X), d, roundings=UNMODELLED), (rows,))
    else:
        total = ctx.scale(summed(ctx, ctx.apply(_EXP, d, roundings=0), roundings=0), 1.0, 1.0)
        rest = ctx.apply(call(Fn.LOG, X), total, roundings=UNMODELLED)
    return ctx.combine([first, rest], [1.0, 1.0])


def _constant(ctx: Context, x: Var, value: float) -> Var:
    return ctx.variable(Const(np.full(x.shape, value), x.dtype))


def rows_of(ctx: Context, call: Call) -> tuple[Var, tuple[int, ...]]:
    """The operand, and the axes that belong together (all from ``axis`` on in old opsets)."""
    x = ctx.variable(call.operand(0))
    old = call.opset < _FLATTENING
    rank = len(x.shape)
    axis = int(call.attributes.get("axis", 1 if old else -1))
    if old and axis == rank:
        return x, ()
    axis = positive_axis(axis, rank)
    axes = tuple(range(axis, rank)) if old else (axis,)
    if not math.prod(x.shape):
        raise ValueError("softmax over no elements")
    return x, axes


def _softmax(ctx: Context, call: Call) -> list[Value]:
    x, axes = rows_of(ctx, call)
    rows = lanes(ctx, x, axes)
    keep = None if rows.masked is None else ~rows.masked
    return [unlanes(ctx, softmax(ctx, replace(rows, masked=None), keep), x.shape, axes)]


def _log_softmax(ctx: Context, call: Call) -> list[Value]:
    x, axes = rows_of(ctx, call)
    return [unlanes(ctx, log_softmax(ctx, lanes(ctx, x, axes)), x.shape, axes)]


BUILDERS: Mapping[str, Builder] = {
    "LogSoftmax": _log_softmax,
    "Softmax": _softmax,
}
