"""Affine operators: matrix products, reductions, BatchNormalization.

Rounding counts: a sum of n products rounds at most n times in any order, plus one for a bias;
an elementwise operation rounds once. Over-counting is sound, so forms that runtimes evaluate in
several ways (BatchNormalization, means) carry the largest count.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from bounds.errors import ModelInvalid
from bounds.graph import Array, Op
from bounds.io import values
from bounds.io.context import Builder, Call, Context
from bounds.io.onnx_ops.arithmetic import inverse_error, sum_of
from bounds.io.onnx_ops.bilinear import product_of_variables
from bounds.io.values import Const, Value, Var

_BATCHED_PRODUCTS = 4096


def _matmul(ctx: Context, call: Call) -> list[Value]:
    return [matrix_product(ctx, call, call.operand(0), call.operand(1))]


def matrix_product(ctx: Context, call: Call, a: Value, b: Value) -> Value:
    """``a @ b`` with numpy's rules for ranks and broadcasting."""
    if isinstance(a, Const) and isinstance(b, Const):
        if not a.is_float:
            return replace(a, data=np.asarray(a.data @ b.data))
        a = ctx.variable(a)  # a folded matrix product has no relative error bound; the graph computes it
    if isinstance(a, Var):
        if isinstance(b, Var):
            return product_of_variables(ctx, a, b)
        return _right_product(ctx, call, a, b)
    assert isinstance(b, Var)
    # A x = (x^T A^T)^T
    weight = replace(a, data=np.swapaxes(a.data, -1, -2) if a.data.ndim > 1 else a.data[:, None])
    if len(b.shape) == 1:
        y = _right_product(ctx, call, ctx.reshape(b, (1, *b.shape)), weight)
        y = ctx.reshape(y, (*y.shape[:-2], y.shape[-1]))
        return ctx.reshape(y, y.shape[:-1]) if a.data.ndim == 1 else y
    y = _right_product(ctx, call, _swap(ctx, b), weight)
    return ctx.reshape(y, y.shape[:-1]) if a.data.ndim == 1 else _swap(ctx, y)


def _swap(ctx: Context, x: Var) -> Var:
    return ctx.take(x, np.swapaxes(ctx.index(x), -1, -2))


def _right_product(ctx: Context, call: Call, x: Var, w: Const) -> Var:
    """``x @ w`` with numpy's rules for ranks and broadcasting."""
    if not x.shape or not w.shape:
        raise ValueError("matrix product with a scalar")
    if w.data.ndim == 1:
        y = _right_product(ctx, call, x, replace(w, data=w.data[:, None]))
        return ctx.reshape(y, y.shape[:-1])
    roundings = w.shape[-2] + 1 + w.roundings
    batch = w.shape[:-2]
    if math.prod(batch) == 1:
        y = ctx.linear(x, w.data.reshape(w.shape[-2:]).T, roundings=roundings, error=w.error)
        return ctx.reshape(y, (1,) * max(0, len(batch) + 2 - max(len(x.shape), 2)) + y.shape)
    if len(x.shape) == 1:
        y = _right_product(ctx, call, ctx.reshape(x, (1, *x.shape)), w)
        return ctx.reshape(y, (*y.shape[:-2], y.shape[-1]))
    batch = np.broadcast_shapes(batch, x.shape[:-2])
    if math.prod(batch) > _BATCHED_PRODUCTS:
        raise call.unsupported(
            f"{math.prod(batch)} different matrices in one product; at most {_BATCHED_PRODUCTS}"
        )
    index = np.broadcast_to(ctx.index(x), (*batch, *x.shape[-2:])).reshape(-1, *x.shape[-2:])
    weights = np.broadcast_to(w.data, (*batch, *w.shape[-2:])).reshape(-1, *w.shape[-2:])
    parts = [
        ctx.linear(ctx.take(x, index[i : i + 1]), weights[i].T, roundings=roundings, error=w.error)
        for i in range(len(weights))
    ]
    y = ctx.add(Op.CONCAT, parts, {"axis": 0})
    return ctx.reshape(y, (*batch, *y.shape[1:]))


def _gemm(ctx: Context, call: Call) -> list[Value]:
    a = _transposed(ctx, call.operand(0), call.attributes.get("transA", 0))
    b = _transposed(ctx, call.operand(1), call.attributes.get("transB", 0))
    c = call.optional(2)
    alpha, beta = (float(call.attributes.get(k, 1.0)) for k in ("alpha", "beta"))
    if isinstance(a, Const) and isinstance(b, Const) and a.is_float:
        a = ctx.variable(a)
    if isinstance(b, Const) and alpha != 1:
        b = _times(ctx, call, b, alpha)
    elif isinstance(a, Const) and alpha != 1:
        a = _times(ctx, call, a, alpha)
    if c is not None and beta != 1:
        c = _times(ctx, call, c, beta) if isinstance(c, Const) else ctx.scale(c, beta, 0.0, roundings=1)
    if isinstance(a, Var) and isinstance(b, Const) and isinstance(c, Const) and _is_row(c, b.shape[-1]):
        bias = np.broadcast_to(c.data.reshape(-1), (b.shape[-1],))
        count = b.shape[0] + 1 + max(b.roundings, c.roundings)
        return [ctx.linear(a, b.data.T, bias, roundings=count, error=max(b.error, c.error))]
    y = matrix_product(ctx, call, a, b)
    if isinstance(a, Var) and isinstance(b, Var) and alpha != 1:
        y = ctx.scale(ctx.variable(y), alpha, 0.0, roundings=1)
    return [y if c is None else sum_of(ctx, y, c, 1.0)]


def _is_row(c: Const, columns: int) -> bool:
    """Whether ``c`` adds the same row to every row, so that it is a bias."""
    return c.data.size in (1, columns) and (c.data.ndim < 2 or c.shape[-2] == 1)


def _times(ctx: Context, call: Call, c: Const, factor: float) -> Const:
    del ctx
    product = (
        values.multiply(c, Const(np.asarray(factor), c.dtype)) if factor else replace(c, data=c.data * 0.0)
    )
    if product is None:
        raise call.unsupported(f"factor {factor} takes '{c.name}' out of the range of accurate arithmetic")
    return product


def _transposed(ctx: Context, value: Value, wanted: int) -> Value:
    if len(value.shape) != 2:
        raise ValueError(f"Gemm needs matrices, got shape {list(value.shape)}")
    return ctx.move(value, np.transpose) if wanted else value


def _batch_normalization(ctx: Context, call: Call) -> list[Value]:
    if call.attributes.get("training_mode", 0) or not call.attributes.get("spatial", 1):
        raise call.unsupported(
            "training mode or spatial=0; export the model in inference mode (model.eval())"
        )
    x = ctx.variable(call.operand(0))
    names = ("scale", "bias", "mean", "variance")
    found = [call.constant(i, name) for i, name in enumerate(names, start=1)]
    if any(c is None or not c.exact for c in found):
        raise call.unsupported("scale, bias, mean and variance must be stored constants")
    shape = (-1, *(1,) * (len(x.shape) - 2))
    gamma, beta, mean, var = (c.data.reshape(shape) for c in found if c is not None)
    spread = var + float(call.attributes.get("epsilon", np.float32(1e-5)))
    if not np.all(spread > 0):
        raise ModelInvalid(
            f"node '{call.name}': variance plus epsilon is not positive; export the model again"
        )
    factor = gamma / np.sqrt(spread)
    if np.any((np.abs(factor) < 2.0**-900) & (gamma != 0)) or np.any(spread < 2.0**-900):
        raise call.unsupported("scale / sqrt(variance + epsilon) is too small for accurate arithmetic")
    # Mean and bias stay apart, so that nothing cancels in a folded constant. Four float64 roundings
    # (sum, root, quotient) give less than 4 * 2^-53. Runtimes compute gamma / sqrt(var + eps), its product
    # with x and with the mean, and two sums, in several orders: at most 8 roundings, relative to
    # |factor| (|x| + |mean|) + |beta|, which counts 8 on each of the two nodes cover.
    centred = ctx.scale(x, 1.0, -mean, roundings=8)
    return [ctx.scale(centred, factor, beta, roundings=8, error=8 * values.ROUND)]


def reduce_axes(call: Call, rank: int) -> tuple[int, ...] | None:
    """The axes of a reduction, from attribute or operand; None for a reduction over no axis at all."""
    axes = call.integers("axes", 1)
    if not axes:
        return None if call.attributes.get("noop_with_empty_axes", 0) else tuple(range(rank))
    if any(not -rank <= a < rank for a in axes):
        raise ValueError(f"axes {list(axes)} of a tensor of rank {rank}")
    return tuple(sorted({a % rank for a in axes}))


def kept(shape: tuple[int, ...], axes: tuple[int, ...], keep: int) -> tuple[int, ...]:
    """The shape after a reduction over ``axes``."""
    return tuple(1 if i in axes else s for i, s in enumerate(shape) if keep or i not in axes)


def _reduce(ctx: Context, call: Call, *, mean: bool) -> list[Value]:
    x = call.operand(0)
    axes = reduce_axes(call, len(x.shape))
    if axes is None:
        return [x]
    keep = call.attributes.get("keepdims", 1)
    if isinstance(x, Const) and not x.is_float and not mean:
        return [replace(x, data=np.asarray(x.data.sum(axis=axes, keepdims=bool(keep))))]
    x = ctx.variable(x)
    n = math.prod(x.shape[a] for a in axes)
    if n == 0:
        raise ValueError("reduction over no elements")
    y = ctx.add(Op.SUM, [x], {"axes": axes}, roundings=n)
    if mean and n > 1:
        y = ctx.scale(y, 1.0 / n, 0.0, roundings=2, error=inverse_error(n))
    return [ctx.reshape(y, kept(x.shape, axes, keep))]


def _reduce_sum(ctx: Context, call: Call) -> list[Value]:
    return _reduce(ctx, call, mean=False)


def _reduce_mean(ctx: Context, call: Call) -> list[Value]:
    return _reduce(ctx, call, mean=True)


def constant_array(call: Call, i: int, what: str) -> Array | None:
    """The data of the optional constant operand ``i``."""
    const = call.constant(i, what)
    return None if const is None else const.data


BUILDERS: Mapping[str, Builder] = {
    "BatchNormalization": _batch_normalization,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "ReduceMean": _reduce_mean,
    "ReduceSum": _reduce_sum,
}
