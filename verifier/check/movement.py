"""ONNX operators that only move elements, or act on constants alone (shape arithmetic)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from verifier.check.calls import Call, Operator, moved
from verifier.check.network import Array, Chain, Const, Lowering, Take, Value, Var, guard, whole


def _move(function: Callable[[Array, Call], Array]) -> Operator:
    """An operator that is one numpy function on data, or equally on indices."""
    return lambda net, call: [moved(net, call.operand(0), lambda a: function(a, call))]


def _flatten(a: Array, call: Call) -> Array:
    axis = int(call.attributes.get("axis", 1))
    axis += a.ndim if axis < 0 else 0
    return a.reshape(math.prod(a.shape[:axis]), -1)


def _reshape(a: Array, call: Call) -> Array:
    wanted = call.integers("shape", 1) or ()
    copy = not call.attributes.get("allowzero", 0)
    return a.reshape([a.shape[i] if s == 0 and copy else s for i, s in enumerate(wanted)])


def _squeeze(a: Array, call: Call) -> Array:
    return np.squeeze(a, call.integers("axes", 1))


def _unsqueeze(a: Array, call: Call) -> Array:
    return np.expand_dims(a, call.integers("axes", 1) or ())


def _slice(a: Array, call: Call) -> Array:
    starts, ends = call.integers("starts", 1) or (), call.integers("ends", 2) or ()
    axes = call.integers("axes", 3) or tuple(range(len(starts)))
    steps = call.integers("steps", 4) or (1,) * len(starts)
    parts: list[Any] = [slice(None)] * a.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        n = a.shape[axis]  # negative positions count from the end once, then everything is clamped
        low, high = (0, n) if step > 0 else (-1, n - 1)
        start = min(max(start + n if start < 0 else start, 0), high)
        end = min(max(end + n if end < 0 else end, low), n)
        parts[axis] = slice(start, None if end < 0 else end, step)
    return a[tuple(parts)]


def _expand(a: Array, call: Call) -> Array:
    return np.broadcast_to(a, guard(np.broadcast_shapes(a.shape, call.integers("shape", 1) or ())))


def _tile(a: Array, call: Call) -> Array:
    repeats = call.integers("repeats", 1) or ()
    guard([s * r for s, r in zip(a.shape, repeats, strict=True)])
    return np.tile(a, repeats)


def _identity(net: Lowering, call: Call) -> list[Value]:
    del net
    training = call.const(2) if call.op == "Dropout" else None
    if training is not None and training.data.any():
        raise call.refuse("training mode")
    return [call.operand(0)]


def concat(net: Lowering, parts: Sequence[Var], axis: int) -> Var:
    """Concatenation as a sum of parts with disjoint supports."""
    if len(parts) == 1:
        return parts[0]
    stops = np.cumsum([p.size for p in parts])
    owner = np.concatenate(
        [np.arange(stop - p.size, stop).reshape(p.shape) for p, stop in zip(parts, stops, strict=True)], axis
    )
    terms: list[tuple[Var, Chain]] = []
    removed = [np.zeros(p.shape, bool) if p.removed is None else p.removed for p in parts]
    gone = np.concatenate(removed, axis)
    for p, stop in zip(parts, stops, strict=True):
        p = replace(p, removed=None)
        local = owner - (stop - p.size)
        terms.append((p, (Take(np.where((local >= 0) & (local < p.size), local, -1), p.size),)))
    y = replace(net.affine(terms, guard(owner.shape)), dtype=parts[0].dtype)
    return replace(y, removed=gone) if gone.any() else y


def _concat(net: Lowering, call: Call) -> list[Value]:
    parts = [call.operand(i) for i in range(len(call.operands))]
    axis = int(call.attributes.get("axis", 1))
    constants = [p for p in parts if isinstance(p, Const)]
    if len(constants) == len(parts):
        error, roundings = max(c.error for c in constants), max(c.roundings for c in constants)
        data = np.concatenate([c.data for c in constants], axis)
        return [Const(data, error, roundings, constants[0].dtype)]
    return [concat(net, [net.variable(p) for p in parts], axis)]


def _split(net: Lowering, call: Call) -> list[Value]:
    x, axis = call.operand(0), int(call.attributes.get("axis", 0))
    n, sizes = x.shape[axis], call.integers("split", 1)
    if sizes is None:
        count = int(call.attributes.get("num_outputs", call.outputs))
        size = -(-n // count)
        sizes = (*(size,) * (count - 1), n - size * (count - 1))
    if sum(sizes) != n or min(sizes) < 0:
        raise ValueError(f"cannot split {n} elements into {sizes}")
    stops = np.cumsum(sizes)[:-1]
    return [moved(net, x, lambda a, k=k: np.split(a, stops, axis)[k]) for k in range(len(sizes))]


def _pad(net: Lowering, call: Call) -> list[Value]:
    x, mode = call.operand(0), call.text("mode", "constant")
    flat, axes = call.integers("pads", 1) or (), call.integers("axes", 3) or tuple(range(len(x.shape)))
    widths = [(0, 0)] * len(x.shape)
    for i, axis in enumerate(axes):
        widths[axis] = (flat[i], flat[i + len(axes)])
    if mode not in ("constant", "edge", "reflect", "wrap") or len(flat) != 2 * len(axes):
        raise call.refuse(f"mode {mode} or its widths")
    guard([s + max(lo, 0) + max(hi, 0) for s, (lo, hi) in zip(x.shape, widths, strict=True)])
    fill = call.const(2)
    value = float(call.attributes.get("value", 0.0) if fill is None else fill.data.reshape(-1)[0])

    def padded(a: Array, blank: float) -> Array:
        a = a[tuple(slice(max(0, -lo), n - max(0, -hi)) for n, (lo, hi) in zip(a.shape, widths, strict=True))]
        outside = [(max(0, lo), max(0, hi)) for lo, hi in widths]
        more: Any = {"constant_values": blank} if mode == "constant" else {}
        return np.pad(a, outside, mode, **more)

    if isinstance(x, Const):
        return [replace(x, data=padded(x.data, value))]
    index = padded(x.index(), -1)
    return [net.take(x, index, np.where(index < 0, value, 0.0) if value else None)]


def _constant(net: Lowering, call: Call) -> list[Value]:
    del net
    for key in ("value", "value_float", "value_floats", "value_int", "value_ints"):
        value = call.attributes.get(key)
        if value is not None:
            return [
                value
                if isinstance(value, Const)
                else Const(np.asarray(value, np.float64))
                if "float" in key
                else whole(value)
            ]
    raise call.refuse("a constant that is no dense numeric tensor")


def _constant_of_shape(net: Lowering, call: Call) -> list[Value]:
    del net
    value = call.attributes.get("value")
    like = value if isinstance(value, Const) else Const(np.zeros(1))
    return [replace(like, data=np.full(guard(call.integers("shape", 0) or ()), like.data.reshape(-1)[0]))]


def _shape(net: Lowering, call: Call) -> list[Value]:
    del net
    shape = call.operand(0).shape
    if call.op == "Size":
        return [whole(math.prod(shape))]
    return [whole(shape[slice(call.attributes.get("start", 0), call.attributes.get("end"))])]


def _range(net: Lowering, call: Call) -> list[Value]:
    del net
    start = call.const(0)
    a, b, d = (float(call.needed(i).reshape(-1)[0]) for i in range(3))
    count = max(0, math.ceil((b - a) / d))
    guard((count,))
    if start is None or not all(v.is_integer() and abs(v) < 1 << 20 for v in (a, b, d)):
        raise call.refuse("a range of fractional or large numbers")
    return [replace(start, data=(a + d * np.arange(count)).astype(start.data.dtype))]


def _integers(net: Lowering, call: Call) -> list[Value]:
    """Remainders and shifts of constants."""
    del net
    like, a, b = call.const(0), call.needed(0), call.needed(1)
    assert like is not None
    if call.op == "Mod":
        if not b.all():
            raise ValueError("remainder of a division by zero")
        return [replace(like, data=np.asarray((np.fmod if call.attributes.get("fmod", 0) else np.mod)(a, b)))]
    if call.text("direction", "") == "LEFT":
        raise call.refuse("a shift to the left")
    return [replace(like, data=np.asarray(a >> b))]


def _trilu(net: Lowering, call: Call) -> list[Value]:
    x, shift = call.operand(0), call.const(1)
    k = 0 if shift is None or not shift.data.size else int(shift.data.reshape(-1)[0])
    rows, columns = x.shape[-2:]
    keep = np.tri(rows, columns, k, dtype=bool)
    if call.attributes.get("upper", 1):
        keep = ~np.tri(rows, columns, k - 1, dtype=bool)
    if isinstance(x, Const):
        return [replace(x, data=np.where(keep, x.data, np.zeros((), x.data.dtype)))]
    return [net.take(x, np.where(keep, x.index(), -1))]


def _compress(a: Array, call: Call) -> Array:
    return np.compress(call.needed(1), a, call.attributes.get("axis"))


def _reverse_sequence(a: Array, call: Call) -> Array:
    lengths = call.integers("sequence_lens", 1) or ()
    time, batch = int(call.attributes.get("time_axis", 0)), int(call.attributes.get("batch_axis", 1))
    if {time, batch} != {0, 1} or len(lengths) != a.shape[batch] or max(lengths) > a.shape[time]:
        raise ValueError(f"sequences of lengths {lengths} in shape {a.shape}")
    out, source = np.swapaxes(np.array(a), time, 0), np.swapaxes(a, time, 0)
    for i, n in enumerate(lengths):
        out[:n, i] = source[:n, i][::-1]
    return np.swapaxes(out, time, 0)


def _eye_like(net: Lowering, call: Call) -> list[Value]:
    del net
    rows, columns = call.operand(0).shape
    if call.attributes.get("dtype", 1) != 1:
        raise call.refuse("another element type than float32")
    return [Const(np.eye(rows, columns, int(call.attributes.get("k", 0))))]


# ------------------------------------------------------------------ blocks and nearest neighbours
def _depth_to_space(a: Array, call: Call) -> Array:
    n, c, h, w = a.shape
    b = int(call.attributes.get("blocksize", 0))
    if call.text("mode", "DCR") == "CRD":
        blocks = a.reshape(n, c // (b * b), b, b, h, w).transpose(0, 1, 4, 2, 5, 3)
    else:
        blocks = a.reshape(n, b, b, c // (b * b), h, w).transpose(0, 3, 4, 1, 5, 2)
    return blocks.reshape(n, c // (b * b), h * b, w * b)


def _space_to_depth(a: Array, call: Call) -> Array:
    n, c, h, w = a.shape
    b = int(call.attributes.get("blocksize", 0))
    blocks = a.reshape(n, c, h // b, b, w // b, b).transpose(0, 3, 5, 1, 2, 4)
    return blocks.reshape(n, c * b * b, h // b, w // b)


MOVEMENT: Mapping[str, Operator] = {
    "Flatten": _move(_flatten),
    "Reshape": _move(_reshape),
    "Transpose": _move(lambda a, call: np.transpose(a, call.integers("perm"))),
    "Squeeze": _move(_squeeze),
    "Unsqueeze": _move(_unsqueeze),
    "Slice": _move(_slice),
    "Compress": _move(_compress),
    "DepthToSpace": _move(_depth_to_space),
    "ReverseSequence": _move(_reverse_sequence),
    "SpaceToDepth": _move(_space_to_depth),
    "Expand": _move(_expand),
    "Tile": _move(_tile),
    **dict.fromkeys(("Identity", "Dropout"), _identity),
    **dict.fromkeys(("Shape", "Size"), _shape),
    **dict.fromkeys(("Mod", "BitShift"), _integers),
    "EyeLike": _eye_like,
    "Range": _range,
    "Trilu": _trilu,
    "Concat": _concat,
    "Split": _split,
    "Pad": _pad,
    "Constant": _constant,
    "ConstantOfShape": _constant_of_shape,
}
