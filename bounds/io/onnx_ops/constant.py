"""Operators that only ever act on constants here: shape arithmetic."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from bounds.graph import Array
from bounds.io.context import Builder, Call, Context
from bounds.io.values import Const, Value, Var

# TensorProto.DataType -> numpy name; other types (strings, complex, quantised) are not analysed
ELEMENT_TYPES: Mapping[int, str] = {
    1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64",
    9: "bool", 10: "float16", 11: "float64", 12: "uint32", 13: "uint64", 16: "bfloat16",
}  # fmt: skip
MANTISSA = {"bfloat16": 8, "float16": 11, "float32": 24, "float64": 53}


def canonical(array: Array, dtype: str, name: str = "") -> Const:
    """A stored tensor as a constant: floats exactly in float64, integers in int64."""
    if dtype in MANTISSA:
        return Const(np.asarray(array, np.float64), dtype, name)
    if dtype == "bool":
        return Const(np.asarray(array, np.bool_), dtype, name)
    if dtype == "uint64" and array.size and int(array.max()) >= 1 << 63:
        raise ValueError(f"tensor '{name}' holds integers over 2^63")
    return Const(np.asarray(array, np.int64), dtype, name)


def _constant(ctx: Context, call: Call) -> list[Value]:
    del ctx
    known = call.attributes
    if isinstance(value := known.get("value"), Const):
        return [replace(value, name=call.outputs[0])]
    for key, dtype in (
        ("value_float", "float32"),
        ("value_floats", "float32"),
        ("value_int", "int64"),
        ("value_ints", "int64"),
    ):
        if key in known:
            return [canonical(np.asarray(known[key]), dtype, call.outputs[0])]
    raise call.unsupported(
        f"constant given as {', '.join(known) or 'nothing'}; store it as a dense numeric tensor"
    )


def _constant_of_shape(ctx: Context, call: Call) -> list[Value]:
    shape = ctx.guard(call.integers("shape", 0) or ())
    value: Any = call.attributes.get("value")
    const = value if isinstance(value, Const) else Const(np.zeros(1), "float32")
    return [replace(const, data=np.full(shape, const.data.reshape(-1)[0]), name=call.outputs[0])]


def _shape(ctx: Context, call: Call) -> list[Value]:
    del ctx
    shape = call.operand(0).shape
    part = shape[slice(call.attributes.get("start", 0), call.attributes.get("end"))]
    return [Const(np.asarray(part, np.int64), "int64", call.outputs[0])]


def _size(ctx: Context, call: Call) -> list[Value]:
    del ctx
    return [Const(np.asarray(math.prod(call.operand(0).shape), np.int64), "int64", call.outputs[0])]


def known(call: Call, i: int) -> Const:
    """The operand ``i``, which must be an exact constant."""
    value = call.operand(i)
    if isinstance(value, Var):
        raise call.unsupported(f"operand {i} depends on the network input; only constants are supported here")
    if not value.exact:
        raise call.unsupported(f"operand {i} is a rounded constant; store its value in the model")
    return value


def _range(ctx: Context, call: Call) -> list[Value]:
    start, limit, step = (known(call, i) for i in range(3))
    a, b, d = (float(c.data.reshape(-1)[0]) for c in (start, limit, step))
    count = max(0, math.ceil((b - a) / d))
    ctx.guard((count,))
    if start.is_float and not all(v.is_integer() and abs(v) < 1 << 20 for v in (a, b, d)):
        raise call.unsupported("a range of fractional numbers; store it as a constant")
    return [replace(start, data=(a + d * np.arange(count)).astype(start.data.dtype), name=call.outputs[0])]


def _eye_like(ctx: Context, call: Call) -> list[Value]:
    x = call.operand(0)
    if len(x.shape) != 2:
        raise ValueError(f"EyeLike of a tensor of rank {len(x.shape)}")
    dtype = ELEMENT_TYPES.get(call.attributes.get("dtype", 0), x.dtype)
    data = np.eye(*ctx.guard(x.shape), k=int(call.attributes.get("k", 0)))
    return [canonical(data, dtype, call.outputs[0])]


def _non_zero(ctx: Context, call: Call) -> list[Value]:
    del ctx
    return [Const(np.array(np.nonzero(known(call, 0).data), np.int64), "int64", call.outputs[0])]


def _unique(ctx: Context, call: Call) -> list[Value]:
    del ctx
    x, axis = known(call, 0), call.attributes.get("axis")
    parts: Any = np.unique(x.data, True, True, True, axis=axis)
    found, first, inverse, counts = parts[0], parts[1], np.reshape(parts[2], -1), parts[3]
    if not call.attributes.get("sorted", 1):
        order = np.argsort(first)
        found = np.take(found, order, 0 if axis is None else axis)
        first, counts = first[order], counts[order]
        inverse = np.argsort(order)[inverse]
    return [
        replace(x, data=found),
        *(Const(np.asarray(v, np.int64), "int64") for v in (first, inverse, counts)),
    ]


def cast_constant(x: Const, target: str) -> Const:
    """A constant in another element type, rounded as the model rounds it."""
    if target == "bool":
        return replace(x, data=x.data != 0, dtype=target)
    if target not in MANTISSA:
        if x.is_float and not np.all(np.abs(x.data) < 2.0**63):
            raise ValueError(f"cast of tensor '{x.name}' to {target} overflows")
        whole = np.trunc(x.data).astype(np.int64) if x.is_float else x.data
        return replace(x, data=whole.astype(target).astype(np.int64), dtype=target)
    if target == "bfloat16":
        raise ValueError("cast to bfloat16")
    with np.errstate(over="ignore"):
        return replace(x, data=x.data.astype(target).astype(np.float64), dtype=target)


BUILDERS: Mapping[str, Builder] = {
    "Constant": _constant,
    "ConstantOfShape": _constant_of_shape,
    "EyeLike": _eye_like,
    "NonZero": _non_zero,
    "Range": _range,
    "Shape": _shape,
    "Size": _size,
    "Unique": _unique,
}
