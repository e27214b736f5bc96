"""Operators that only move elements: one mechanism, the same numpy function on data or on indices.

None of them computes, so they count no roundings.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from bounds.graph import Array, Op
from bounds.io.context import Builder, Call, Context
from bounds.io.onnx_ops.lanes import positive_axis
from bounds.io.onnx_ops.scatter import scatter_nd
from bounds.io.onnx_ops.select import gather_by_variable
from bounds.io.onnx_ops.window import scatter_by_variable, slice_by_variable
from bounds.io.values import Const, Value, Var


def _identity(ctx: Context, call: Call) -> list[Value]:
    del ctx
    return [call.operand(0)]


def _dropout(ctx: Context, call: Call) -> list[Value]:
    del ctx
    training = call.constant(2, "training_mode")
    if training is not None and bool(np.any(training.data)):
        raise call.unsupported("training mode; export the model in inference mode (model.eval())")
    return [call.operand(0)]


def _to_shape(ctx: Context, value: Value, shape: tuple[int, ...]) -> list[Value]:
    if isinstance(value, Const):
        return [replace(value, data=value.data.reshape(shape))]
    return [ctx.reshape(value, shape)]


def _flatten(ctx: Context, call: Call) -> list[Value]:
    x = call.operand(0)
    axis = call.attributes.get("axis", 1)
    axis += len(x.shape) if axis < 0 else 0
    if not 0 <= axis <= len(x.shape):
        raise ValueError(f"axis {axis} of a tensor of rank {len(x.shape)}")
    return _to_shape(ctx, x, (math.prod(x.shape[:axis]), math.prod(x.shape[axis:])))


def _reshape(ctx: Context, call: Call) -> list[Value]:
    x = call.operand(0)
    wanted = call.integers("shape", 1)
    if wanted is None:
        raise ValueError("shape is missing")
    shape = [
        x.shape[i] if s == 0 and not call.attributes.get("allowzero", 0) else s for i, s in enumerate(wanted)
    ]
    if shape.count(-1) == 1:
        rest = -math.prod(shape)
        if rest <= 0 or math.prod(x.shape) % rest:
            raise ValueError(f"cannot reshape {list(x.shape)} to {list(wanted)}; export with fixed shapes")
        shape[shape.index(-1)] = math.prod(x.shape) // rest
    if min(shape, default=0) < 0 or math.prod(shape) != math.prod(x.shape):
        raise ValueError(f"cannot reshape {list(x.shape)} to {list(wanted)}; export with batch size 1")
    return _to_shape(ctx, x, tuple(shape))


def _transpose(ctx: Context, call: Call) -> list[Value]:
    order = call.integers("perm")
    return [ctx.move(call.operand(0), lambda a: np.transpose(a, order))]


def _squeeze(ctx: Context, call: Call) -> list[Value]:
    x = call.operand(0)
    axes = call.integers("axes", 1)
    if axes is None:
        axes = tuple(i for i, s in enumerate(x.shape) if s == 1)
    return [ctx.move(x, lambda a: np.squeeze(a, axes))]


def _unsqueeze(ctx: Context, call: Call) -> list[Value]:
    axes = call.integers("axes", 1)
    if axes is None:
        raise ValueError("axes are missing")
    return [ctx.move(call.operand(0), lambda a: np.expand_dims(a, axes))]


def _concat(ctx: Context, call: Call) -> list[Value]:
    parts = [call.operand(i) for i in range(len(call.inputs))]
    axis = call.attributes.get("axis", 1)
    constants = [p for p in parts if isinstance(p, Const)]
    if len(constants) == len(parts):
        data = np.concatenate([c.data for c in constants], axis=axis)
        error, roundings = max(c.error for c in constants), max(c.roundings for c in constants)
        return [replace(constants[0], data=data, error=error, roundings=roundings)]
    axis += len(parts[0].shape) if axis < 0 else 0
    return [ctx.add(Op.CONCAT, [ctx.variable(p) for p in parts], {"axis": axis})]


def _split(ctx: Context, call: Call) -> list[Value]:
    x = call.operand(0)
    axis = call.attributes.get("axis", 0)
    sizes = call.integers("split", 1)
    if sizes is None:
        count = call.attributes.get("num_outputs", len(call.outputs))
        size = -(-x.shape[axis] // count)
        sizes = (size,) * (count - 1) + (x.shape[axis] - size * (count - 1),)
    if len(sizes) < len(call.outputs) or sum(sizes) != x.shape[axis] or min(sizes) < 0:
        raise ValueError(f"cannot split {x.shape[axis]} elements into {list(sizes)}")
    stops = np.cumsum(sizes)
    return [
        ctx.move(x, lambda a, lo=stop - size, hi=stop: np.take(a, np.arange(lo, hi), axis))
        for size, stop in zip(sizes, stops, strict=True)
    ]


def _slice(ctx: Context, call: Call) -> list[Value]:
    x = call.operand(0)
    bounds = [call.optional(1), call.optional(2)]
    if any(isinstance(b, Var) for b in bounds):
        return [_slice_at_computed_place(ctx, call, x)]
    starts, ends = call.integers("starts", 1), call.integers("ends", 2)
    if starts is None or ends is None:
        raise ValueError("starts or ends are missing")
    axes = call.integers("axes", 3) or tuple(range(len(starts)))
    steps = call.integers("steps", 4) or (1,) * len(starts)
    if not len(starts) == len(ends) == len(axes) == len(steps) or 0 in steps:
        raise ValueError(f"starts {starts}, ends {ends}, axes {axes}, steps {steps} do not fit together")
    parts: list[Any] = [slice(None)] * len(x.shape)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        parts[axis] = _clamped(x.shape[axis], start, end, step)
    return [ctx.move(x, lambda a: a[tuple(parts)])]


def _slice_at_computed_place(ctx: Context, call: Call, x: Value) -> Value:
    starts, ends = call.operand(1), call.operand(2)
    if set(call.integers("steps", 4) or (1,)) != {1} or starts.shape != ends.shape:
        raise call.unsupported("a computed slice with a step; export with fixed shapes")
    axes = call.integers("axes", 3) or tuple(range(starts.shape[0]))
    return slice_by_variable(ctx, call, x, (starts, ends), [positive_axis(a, len(x.shape)) for a in axes])


def _scatter_nd(ctx: Context, call: Call) -> list[Value]:
    x, index, updates = (call.operand(i) for i in range(3))
    if not isinstance(index, Var):
        return scatter_nd(ctx, call)
    if not (isinstance(x, Const) and isinstance(updates, Const) and x.exact and updates.exact):
        raise call.unsupported("computed indices with data or updates that are not constants")
    if call.text("reduction", "none") != "none" or np.any(updates.data != updates.data.flat[0]):
        raise call.unsupported("computed indices with a reduction or with different updates")
    value = replace(updates, data=updates.data.reshape(-1)[0])
    return [scatter_by_variable(ctx, call, x, index, value)]


def _clamped(size: int, start: int, end: int, step: int) -> slice:
    """ONNX counts negative positions from the end once, then clamps; Python would wrap -1 again."""
    start = min(max(start + size if start < 0 else start, 0), size if step > 0 else size - 1)
    end = end + size if end < 0 else end
    end = min(max(end, 0 if step > 0 else -1), size)
    return slice(start, None if end < 0 else end, step)


def _gather(ctx: Context, call: Call) -> list[Value]:
    x, axis, index = call.operand(0), int(call.attributes.get("axis", 0)), call.operand(1)
    if isinstance(index, Var):
        return [gather_by_variable(ctx, x, index, axis)]
    _check_index(index.data, x.shape[axis])
    return [ctx.move(x, lambda a: np.take(a, index.data, axis))]


def _check_index(index: Array, size: int) -> None:
    if index.size and not -size <= index.min() <= index.max() < size:
        raise ValueError(f"indices outside an axis of {size} elements")


def _pad(ctx: Context, call: Call) -> list[Value]:
    x = call.operand(0)
    mode = call.text("mode", "constant")
    if mode not in ("constant", "edge", "reflect", "wrap"):
        raise call.unsupported(f"mode {mode}; only constant, edge, reflect and wrap are analysed")
    pads = _pads(call, len(x.shape))
    ctx.guard([s + max(0, p[0]) + max(0, p[1]) for s, p in zip(x.shape, pads, strict=True)])
    fill = call.constant(2, "constant value")
    value = float(call.attributes.get("value", 0.0) if fill is None else fill.data.reshape(-1)[0])
    if fill is not None and not fill.exact:
        raise call.unsupported("constant value must be a stored number")

    def padded(a: Array, blank: float) -> Array:
        crop = tuple(slice(max(0, -lo), a.shape[i] - max(0, -hi)) for i, (lo, hi) in enumerate(pads))
        widths = [(max(0, lo), max(0, hi)) for lo, hi in pads]
        if mode == "constant":
            return np.pad(a[crop], widths, constant_values=blank)
        return np.pad(a[crop], widths, mode=mode)

    if isinstance(x, Const):
        return [replace(x, data=padded(x.data, value))]
    index = padded(ctx.index(x), -1)
    return [ctx.take(x, index, np.where(index < 0, value, 0.0))]


def _pads(call: Call, rank: int) -> list[tuple[int, int]]:
    """(before, after) for every axis."""
    flat = call.integers("pads", 1)
    axes = call.integers("axes", 3) or tuple(range(rank))
    if flat is None or len(flat) != 2 * len(axes):
        raise ValueError(f"pads {flat} for {len(axes)} axes")
    pads = [(0, 0)] * rank
    for i, axis in enumerate(axes):
        pads[axis] = (flat[i], flat[i + len(axes)])
    return pads


def _expand(ctx: Context, call: Call) -> list[Value]:
    x = call.operand(0)
    shape = ctx.guard(np.broadcast_shapes(x.shape, call.integers("shape", 1) or ()))
    return [ctx.move(x, lambda a: np.broadcast_to(a, shape))]


def _tile(ctx: Context, call: Call) -> list[Value]:
    x, repeats = call.operand(0), call.integers("repeats", 1) or ()
    if len(repeats) != len(x.shape) or min(repeats, default=0) < 0:
        raise ValueError(f"repeats {list(repeats)} for shape {list(x.shape)}")
    ctx.guard([s * r for s, r in zip(x.shape, repeats, strict=True)])
    return [ctx.move(x, lambda a: np.tile(a, repeats))]


def _trilu(ctx: Context, call: Call) -> list[Value]:
    x = call.operand(0)
    shift = call.constant(1, "k")
    k = 0 if shift is None or not shift.data.size else int(shift.data.reshape(-1)[0])
    keep = np.tri(x.shape[-2], x.shape[-1], k, dtype=bool)
    if call.attributes.get("upper", 1):
        keep = ~np.tri(x.shape[-2], x.shape[-1], k - 1, dtype=bool)
    if isinstance(x, Const):
        return [replace(x, data=np.where(keep, x.data, np.zeros((), x.data.dtype)))]
    return [ctx.take(x, np.where(keep, ctx.index(x), -1))]


def _compress(ctx: Context, call: Call) -> list[Value]:
    condition = call.constant(1, "condition")
    if condition is None:
        raise ValueError("condition is missing")
    axis = call.attributes.get("axis")
    return [ctx.move(call.operand(0), lambda a: np.compress(condition.data, a, axis))]


def _reverse_sequence(ctx: Context, call: Call) -> list[Value]:
    x, lengths = call.operand(0), call.integers("sequence_lens", 1)
    time, batch = (int(call.attributes.get(f"{name}_axis", i)) for i, name in enumerate(("time", "batch")))
    if lengths is None or {time, batch} != {0, 1} or len(lengths) != x.shape[batch]:
        raise ValueError(f"sequence_lens {lengths} for shape {list(x.shape)}")
    if not all(0 <= n <= x.shape[time] for n in lengths):
        raise ValueError(f"sequence_lens {lengths} of sequences of {x.shape[time]}")

    def reverse(a: Array) -> Array:
        out = np.swapaxes(np.array(a), time, 0)  # time first
        source = np.swapaxes(a, time, 0)
        for i, n in enumerate(lengths):
            out[:n, i] = source[:n, i][::-1]
        return np.swapaxes(out, time, 0)

    return [ctx.move(x, reverse)]


BUILDERS: Mapping[str, Builder] = {
    "Compress": _compress,
    "Concat": _concat,
    "Dropout": _dropout,
    "Expand": _expand,
    "Flatten": _flatten,
    "Gather": _gather,
    "Identity": _identity,
    "Pad": _pad,
    "Reshape": _reshape,
    "ReverseSequence": _reverse_sequence,
    "ScatterND": _scatter_nd,
    "Slice": _slice,
    "Split": _split,
    "Squeeze": _squeeze,
    "Tile": _tile,
    "Transpose": _transpose,
    "Trilu": _trilu,
    "Unsqueeze": _unsqueeze,
}
