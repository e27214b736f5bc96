"""Reductions that are not affine: norms, products, logarithms of sums; and running sums.

Normal form: the elementwise function (``|x| = 2 relu(x) - x`` or SCALAR ``x^2``), one SUM over the axes, then
the outer function as a SCALAR. ReduceProd multiplies in a balanced tree of MUL (pairs 2i and 2i + 1, an odd
one out passes), the elements of the axes in C order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from bounds.expression import Expr, Fn, X
from bounds.expression import call as apply_fn
from bounds.graph import Op
from bounds.io.context import Builder, Call, Context
from bounds.io.onnx_ops.affine import kept, reduce_axes
from bounds.io.onnx_ops.lanes import lanes, positive_axis, unlanes, whole
from bounds.io.onnx_ops.relu import absolute
from bounds.io.onnx_ops.softmax import log_sum_exp
from bounds.io.values import Const, Value, Var

_ROOT = apply_fn(Fn.SQRT, X)
_LOG = apply_fn(Fn.LOG, X)


def _same(ctx: Context, x: Var) -> Var:
    del ctx
    return x


def _square(ctx: Context, x: Var) -> Var:
    return ctx.apply(X**2, x)


def _reduction(inner: Callable[[Context, Var], Var], outer: Expr | None) -> Builder:
    """``outer(sum inner(x))``; a reduction over no axis still applies both."""

    def build(ctx: Context, call: Call) -> list[Value]:
        x = ctx.variable(call.operand(0))
        axes = reduce_axes(call, len(x.shape))
        y = inner(ctx, x)
        if axes is not None:
            terms = math.prod(x.shape[a] for a in axes)
            if not terms:
                raise ValueError("reduction over no elements")
            y = ctx.add(Op.SUM, [y], {"axes": axes}, roundings=terms)
            y = ctx.reshape(y, kept(x.shape, axes, call.attributes.get("keepdims", 1)))
        return [y if outer is None else ctx.apply(outer, y)]

    return build


def _reduce_log_sum_exp(ctx: Context, call: Call) -> list[Value]:
    x = ctx.variable(call.operand(0))
    axes = reduce_axes(call, len(x.shape))
    if axes is None:
        return [x]
    if not math.prod(x.shape):
        raise ValueError("reduction over no elements")
    y = log_sum_exp(ctx, lanes(ctx, x, axes))
    return [ctx.reshape(y, kept(x.shape, axes, call.attributes.get("keepdims", 1)))]


def _reduce_prod(ctx: Context, call: Call) -> list[Value]:
    x = call.operand(0)
    axes = reduce_axes(call, len(x.shape))
    if axes is None:
        return [x]
    keep = call.attributes.get("keepdims", 1)
    if isinstance(x, Const) and not x.is_float:
        return [replace(x, data=np.asarray(np.prod(x.data, axis=axes, keepdims=bool(keep))))]
    rows = lanes(ctx, ctx.variable(x), axes)
    if not rows.shape[1]:
        raise ValueError("reduction over no elements")
    return [ctx.reshape(product_of_rows(ctx, rows), kept(x.shape, axes, keep))]


def product_of_rows(ctx: Context, x: Var) -> Var:
    """The product of every row ``(R, n) -> (R,)``; n - 1 roundings in any order, charged at every level."""
    index = ctx.index(x)
    level = [ctx.take(x, index[:, k]) for k in range(x.shape[1])]
    while len(level) > 1:
        pairs = [
            ctx.product(level[i], level[i + 1], roundings=x.shape[1]) for i in range(0, len(level) - 1, 2)
        ]
        level = pairs + level[len(pairs) * 2 :]
    return level[0]


def _cum_sum(ctx: Context, call: Call) -> list[Value]:
    """A LINEAR with a triangle of ones over the axis."""
    x, at = call.operand(0), call.constant(1, "axis")
    if at is None:
        raise ValueError("axis is missing")
    axis = positive_axis(int(at.data.reshape(-1)[0]), len(x.shape))
    reverse, exclusive = (bool(call.attributes.get(name, 0)) for name in ("reverse", "exclusive"))
    n = x.shape[axis]
    triangle = np.tril(np.ones(ctx.guard((n, n))), -1 if exclusive else 0)
    triangle = triangle.T if reverse else triangle
    if isinstance(x, Const) and not x.is_float:
        summed = np.moveaxis(np.moveaxis(x.data, axis, -1) @ triangle.T.astype(np.int64), -1, axis)
        return [replace(x, data=summed)]
    x = ctx.variable(whole(x))
    y = ctx.linear(lanes(ctx, x, (axis,)), triangle, roundings=n)
    return [unlanes(ctx, y, x.shape, (axis,))]


BUILDERS: Mapping[str, Builder] = {
    "CumSum": _cum_sum,
    "ReduceL1": _reduction(absolute, None),
    "ReduceL2": _reduction(_square, _ROOT),
    "ReduceLogSum": _reduction(_same, _LOG),
    "ReduceLogSumExp": _reduce_log_sum_exp,
    "ReduceProd": _reduce_prod,
    "ReduceSumSquare": _reduction(_square, None),
}
