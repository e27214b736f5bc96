"""ONNX operators that only move elements, or act on constants alone (shape arithmetic)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from verifier.check.network import Array, Chain, Const, Lowering, Take, Value, Var, guard
from verifier.check.operators import Call, Operator, moved

# TensorProto.DataType -> numpy type
FLOATS: Mapping[int, str] = {1: "float32", 10: "float16", 11: "float64", 16: "bfloat16"}
INTEGERS: Mapping[int, str] = {
    2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 12: "uint32", 13: "uint64",
}  # fmt: skip


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


def _gather(a: Array, call: Call) -> Array:
    return np.take(a, call.needed(1).astype(np.int64), int(call.attributes.get("axis", 0)))


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


def _cast(net: Lowering, call: Call) -> list[Value]:
    """Widening casts of network data are the identity; a narrowing one would round, so it is refused."""
    del net
    x, to = call.operand(0), int(call.attributes.get("to", 0))
    if isinstance(x, Var):
        if to not in (1, 11):
            raise call.refuse("a cast of network data that rounds")
        return [x]
    if not x.exact or to == 16:
        raise call.refuse("a cast of a rounded constant, or to bfloat16")
    if to == 9:
        return [Const(x.data != 0)]
    if to in FLOATS:
        with np.errstate(over="ignore"):
            return [Const(x.data.astype(FLOATS[to]).astype(np.float64))]
    return [Const(np.trunc(x.data).astype(np.int64).astype(INTEGERS[to]).astype(np.int64))]


def concat(net: Lowering, parts: Sequence[Var], axis: int) -> Var:
    """Concatenation as a sum of parts with disjoint supports."""
    if len(parts) == 1:
        return parts[0]
    stops = np.cumsum([p.size for p in parts])
    owner = np.concatenate(
        [np.arange(stop - p.size, stop).reshape(p.shape) for p, stop in zip(parts, stops, strict=True)], axis
    )
    terms: list[tuple[Var, Chain]] = []
    for p, stop in zip(parts, stops, strict=True):
        local = owner - (stop - p.size)
        terms.append((p, (Take(np.where((local >= 0) & (local < p.size), local, -1), p.size),)))
    return net.affine(terms, guard(owner.shape))


def _concat(net: Lowering, call: Call) -> list[Value]:
    parts = [call.operand(i) for i in range(len(call.operands))]
    axis = int(call.attributes.get("axis", 1))
    constants = [p for p in parts if isinstance(p, Const)]
    if len(constants) == len(parts) and all(c.exact for c in constants):
        return [Const(np.concatenate([c.data for c in constants], axis))]
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
                else Const(np.asarray(value, np.float64 if "float" in key else np.int64))
            ]
    raise call.refuse("a constant that is no dense numeric tensor")


def _constant_of_shape(net: Lowering, call: Call) -> list[Value]:
    del net
    value = call.attributes.get("value")
    fill = value.data.reshape(-1)[0] if isinstance(value, Const) else np.float64(0)
    return [Const(np.full(guard(call.integers("shape", 0) or ()), fill))]


def _shape(net: Lowering, call: Call) -> list[Value]:
    del net
    shape = call.operand(0).shape
    if call.op == "Size":
        return [Const(np.asarray(math.prod(shape), np.int64))]
    return [
        Const(np.asarray(shape[slice(call.attributes.get("start", 0), call.attributes.get("end"))], np.int64))
    ]


MOVEMENT: Mapping[str, Operator] = {
    "Flatten": _move(_flatten),
    "Reshape": _move(_reshape),
    "Transpose": _move(lambda a, call: np.transpose(a, call.integers("perm"))),
    "Squeeze": _move(_squeeze),
    "Unsqueeze": _move(_unsqueeze),
    "Slice": _move(_slice),
    "Gather": _move(_gather),
    "Expand": _move(_expand),
    "Tile": _move(_tile),
    **dict.fromkeys(("Identity", "Dropout"), _identity),
    **dict.fromkeys(("Shape", "Size"), _shape),
    "Cast": _cast,
    "Concat": _concat,
    "Split": _split,
    "Pad": _pad,
    "Constant": _constant,
    "ConstantOfShape": _constant_of_shape,
}
