"""Maxima over windows and axes, lowered to a balanced tournament of RELU nodes.

The order is part of the contract with readers of the same model: the candidates of a window are in
C order; level by level the pair (2i, 2i+1) plays ``odd + relu(even - odd)`` (for minima
``odd - relu(odd - even)``), one RELU node per pair; an odd one out passes. Candidates in the padding
are replaced by the window's first candidate inside the input. All of it is exact, so it counts no roundings.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from bounds.io.context import Builder, Call, Context
from bounds.io.onnx_ops.affine import kept, reduce_axes
from bounds.io.onnx_ops.conv import positions, window_of
from bounds.io.values import Const, Value, Var


def maximum(ctx: Context, a: Var, b: Var) -> Var:
    """``max(a, b) = b + relu(a - b)``."""
    return ctx.combine([b, ctx.relu(ctx.combine([a, b], [1, -1]))], [1, 1])


def minimum(ctx: Context, a: Var, b: Var) -> Var:
    """``min(a, b) = b - relu(b - a)``."""
    return ctx.combine([b, ctx.relu(ctx.combine([b, a], [1, -1]))], [1, -1])


def tournament(ctx: Context, candidates: Sequence[Var], *, largest: bool) -> Var:
    """The elementwise largest (or smallest) of the candidates."""
    play = maximum if largest else minimum
    level = list(candidates)
    while len(level) > 1:
        pairs = [play(ctx, level[i], level[i + 1]) for i in range(0, len(level) - 1, 2)]
        level = pairs + level[len(pairs) * 2 :]
    return level[0]


def _max_pool(ctx: Context, call: Call) -> list[Value]:
    if call.attributes.get("storage_order", 0):
        raise call.unsupported("storage_order=1; export with the default storage order")
    x = ctx.variable(call.operand(0))
    window = window_of(call, x.shape[2:], call.integers("kernel_shape") or ())
    flat, inside = positions(window, x.shape[2:])
    if not inside.any(axis=0).all():
        raise ValueError("a window lies entirely in the padding")
    first = flat[inside.argmax(axis=0), np.arange(flat.shape[1])]
    flat = np.where(inside, flat, first)
    image = np.arange(math.prod(x.shape[:2]), dtype=np.int64)[:, None] * math.prod(x.shape[2:])
    ctx.guard((flat.size, image.size))
    shape = (*x.shape[:2], *window.out)
    candidates = [ctx.take(x, (image + slot).reshape(shape)) for slot in flat]
    return [tournament(ctx, candidates, largest=True)]


def _global_max_pool(ctx: Context, call: Call) -> list[Value]:
    x = ctx.variable(call.operand(0))
    return [_over_axes(ctx, x, tuple(range(2, len(x.shape))), keep=1, largest=True)]


def _over_axes(ctx: Context, x: Var, axes: tuple[int, ...], *, keep: int, largest: bool) -> Var:
    rest = tuple(i for i in range(len(x.shape)) if i not in axes)
    slots = np.transpose(ctx.index(x), (*axes, *rest)).reshape(math.prod(x.shape[a] for a in axes), -1)
    if not len(slots):
        raise ValueError("reduction over no elements")
    shape = kept(x.shape, axes, keep)
    return tournament(ctx, [ctx.take(x, slot.reshape(shape)) for slot in slots], largest=largest)


def _reduce(ctx: Context, call: Call, *, largest: bool) -> list[Value]:
    x = call.operand(0)
    axes = reduce_axes(call, len(x.shape))
    keep = call.attributes.get("keepdims", 1)
    if axes is None:
        return [x]
    if isinstance(x, Const) and x.exact:
        function = np.max if largest else np.min
        return [replace(x, data=np.asarray(function(x.data, axis=axes, keepdims=bool(keep))))]
    return [_over_axes(ctx, ctx.variable(x), axes, keep=keep, largest=largest)]


def _reduce_max(ctx: Context, call: Call) -> list[Value]:
    return _reduce(ctx, call, largest=True)


def _reduce_min(ctx: Context, call: Call) -> list[Value]:
    return _reduce(ctx, call, largest=False)


BUILDERS: Mapping[str, Builder] = {
    "GlobalMaxPool": _global_max_pool,
    "MaxPool": _max_pool,
    "ReduceMax": _reduce_max,
    "ReduceMin": _reduce_min,
}
