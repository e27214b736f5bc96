"""Gathering and scattering by constant indices.

A scatter reads its elements from the concatenation of data and updates. Where several updates meet one
element, the r-th of each (in the order of the updates) forms layer r: without reduction the last wins;
``add`` is one ADD of the data and all layers (zeros elsewhere), ``mul`` a chain of MUL (ones elsewhere),
``max`` and ``min`` a chain as in Max (the data itself elsewhere).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from bounds.graph import Array, Op
from bounds.io.context import Builder, Call, Context
from bounds.io.onnx_ops.lanes import as_node, positive_axis
from bounds.io.onnx_ops.pool import maximum, minimum
from bounds.io.values import Const, Value, Var


def _indices(call: Call, i: int) -> Array:
    const = call.constant(i, "indices")
    if const is None:
        raise ValueError("indices are missing")
    return const.data


def _wrapped(index: Array, size: Array | int) -> Array:
    if np.any((index < -np.asarray(size)) | (index >= np.asarray(size))):
        raise ValueError("indices outside the tensor")
    return np.where(index < 0, index + size, index)


def _gather_elements(ctx: Context, call: Call) -> list[Value]:
    x = call.operand(0)
    axis = positive_axis(int(call.attributes.get("axis", 0)), len(x.shape))
    at = _elements(_indices(call, 1), x.shape, axis)
    return [ctx.move(x, lambda a: a.reshape(-1)[at])]


def _elements(index: Array, shape: tuple[int, ...], axis: int) -> Array:
    """Flat positions in a tensor of ``shape`` that an index tensor of its rank names along ``axis``."""
    if index.ndim != len(shape):
        raise ValueError(f"indices of rank {index.ndim} for a tensor of rank {len(shape)}")
    grid = list(np.indices(index.shape, sparse=True))
    grid[axis] = _wrapped(index, shape[axis])
    return np.asarray(np.ravel_multi_index(np.broadcast_arrays(*grid), shape))


def _gather_nd(ctx: Context, call: Call) -> list[Value]:
    x, index = call.operand(0), _indices(call, 1)
    batch = int(call.attributes.get("batch_dims", 0))
    at = _slices(index, x.shape, batch)
    return [ctx.move(x, lambda a: a.reshape(-1)[at])]


def _slices(index: Array, shape: tuple[int, ...], batch: int) -> Array:
    """Flat positions of what the last axis of an index tensor names after ``batch`` common axes."""
    depth = index.shape[-1]
    if batch + depth > len(shape) or index.shape[:batch] != shape[:batch]:
        raise ValueError(f"indices of shape {list(index.shape)} for a tensor of shape {list(shape)}")
    named = _wrapped(index, np.array(shape[batch : batch + depth], np.int64))
    flat = np.arange(math.prod(shape), dtype=np.int64).reshape(shape)
    lead = np.indices(index.shape[:-1], sparse=True)[:batch]
    return flat[(*lead, *np.moveaxis(named, -1, 0))]


def _scatter_elements(ctx: Context, call: Call) -> list[Value]:
    x = call.operand(0)
    axis = positive_axis(int(call.attributes.get("axis", 0)), len(x.shape))
    return [_scattered(ctx, call, x, _elements(_indices(call, 1), x.shape, axis), call.operand(2))]


def scatter_nd(ctx: Context, call: Call) -> list[Value]:
    """ScatterND by constant indices."""
    x = call.operand(0)
    return [_scattered(ctx, call, x, _slices(_indices(call, 1), x.shape, 0), call.operand(2))]


def _scattered(ctx: Context, call: Call, x: Value, at: Array, updates: Value) -> Value:
    """``x`` with the updates (of the shape of ``at``) combined into its flat positions ``at``."""
    if updates.shape != at.shape:
        raise ValueError(f"updates of shape {list(updates.shape)}, indices name shape {list(at.shape)}")
    mode = call.text("reduction", "none")
    layers = layers_of(at.ravel(), math.prod(x.shape))
    if mode == "none":
        return _replaced(ctx, x, at, updates)
    combine = _REDUCTIONS.get(mode)
    if combine is None:
        raise call.unsupported(f"reduction {mode}; only none, add, mul, max and min are analysed")
    return combine(ctx, as_node(ctx, x), as_node(ctx, updates), layers)


def _replaced(ctx: Context, x: Value, at: Array, updates: Value) -> Value:
    if isinstance(x, Const) and isinstance(updates, Const) and x.exact and updates.exact:
        data = x.data.copy()
        data.reshape(-1)[at] = updates.data
        return Const(data, x.dtype, x.name)
    a, b = as_node(ctx, x), as_node(ctx, updates)
    index = ctx.index(a).copy()
    index.reshape(-1)[at] = ctx.index(b) + index.size
    flat = [ctx.reshape(v, (math.prod(v.shape),)) for v in (a, b)]
    return ctx.take(ctx.add(Op.CONCAT, flat, {"axis": 0}), index)


def layers_of(at: Array, size: int) -> list[Array]:
    """For r = 0, 1, ...: of every element the position of its r-th update, or -1."""
    seen = np.zeros(size, np.int64)
    layers: list[Array] = []
    for position, target in enumerate(at):
        if seen[target] == len(layers):
            layers.append(np.full(size, -1, np.int64))
        layers[seen[target]][target] = position
        seen[target] += 1
    return layers


def _added(ctx: Context, x: Var, updates: Var, layers: list[Array]) -> Var:
    parts = [ctx.take(updates, layer.reshape(x.shape)) for layer in layers]
    return ctx.combine([x, *parts], [1.0] * (len(parts) + 1), roundings=len(parts))


def _multiplied(ctx: Context, x: Var, updates: Var, layers: list[Array]) -> Var:
    for layer in layers:
        x = ctx.product(x, ctx.take(updates, layer.reshape(x.shape), 1.0), roundings=len(layers))
    return x


def _largest(ctx: Context, x: Var, updates: Var, layers: list[Array]) -> Var:
    for layer in layers:
        x = maximum(ctx, x, _or_itself(ctx, x, updates, layer))
    return x


def _smallest(ctx: Context, x: Var, updates: Var, layers: list[Array]) -> Var:
    for layer in layers:
        x = minimum(ctx, x, _or_itself(ctx, x, updates, layer))
    return x


def _or_itself(ctx: Context, x: Var, updates: Var, layer: Array) -> Var:
    n = math.prod(x.shape)
    flat = [ctx.reshape(x, (n,)), ctx.reshape(updates, (math.prod(updates.shape),))]
    both = ctx.add(Op.CONCAT, flat, {"axis": 0})
    return ctx.take(both, np.where(layer < 0, np.arange(n), layer + n).reshape(x.shape))


_REDUCTIONS: Mapping[str, Callable[[Context, Var, Var, list[Array]], Var]] = {
    "add": _added,
    "max": _largest,
    "min": _smallest,
    "mul": _multiplied,
}

BUILDERS: Mapping[str, Builder] = {
    "GatherElements": _gather_elements,
    "GatherND": _gather_nd,
    "Scatter": _scatter_elements,
    "ScatterElements": _scatter_elements,
}
