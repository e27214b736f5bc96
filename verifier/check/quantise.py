"""Quantisation as what it is: the staircase ``clip(round(x / scale) + zero)``, halves to even."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction

import numpy as np

from verifier.check.calls import FLOATS, INTEGERS, Call, Operator, folded, inverse, positive_axis
from verifier.check.functions import Function, X, const
from verifier.check.functions import call as fn
from verifier.check.fusion import apply, fuse
from verifier.check.network import Const, Lowering, Value, Var, real, whole

_RANGES = {
    "uint8": (0, 255), "int8": (-128, 127), "uint16": (0, 65535), "int16": (-32768, 32767),
    "int32": (-(1 << 31), (1 << 31) - 1),
}  # fmt: skip
_FLOAT32_WHOLE = 1 << 24


def _parameters(call: Call, shape: tuple[int, ...]) -> tuple[Const, Const]:
    """Scale and zero point in a shape that broadcasts against ``shape``."""
    scale, zero = call.const(1), call.const(2)
    if scale is None or not np.all((scale.data > 0) & np.isfinite(scale.data)):
        raise ValueError("a scale is missing or not positive")
    if zero is None:
        stated = {**FLOATS, **INTEGERS}.get(int(call.attributes.get("output_dtype", 0)), "uint8")
        zero = replace(whole(np.zeros(scale.shape)), dtype=stated)
    return _against(call, scale, shape), _against(call, zero, shape)


def _against(call: Call, c: Const, shape: tuple[int, ...]) -> Const:
    if c.data.size == 1:
        return replace(c, data=c.data.reshape(()))
    axis, block = (
        positive_axis(int(call.attributes.get("axis", 1)), len(shape)),
        call.attributes.get("block_size", 0),
    )
    if block:
        data = np.take(np.repeat(c.data, int(block), axis), np.arange(shape[axis]), axis)
        return replace(c, data=data)
    if c.shape != (shape[axis],):
        raise ValueError(f"scale or zero point of shape {c.shape} for axis {axis} of {shape}")
    return replace(c, data=c.data.reshape([-1 if i == axis else 1 for i in range(len(shape))]))


def _clamped(e: Function, zero: Const) -> Function:
    low, high = _RANGES[zero.dtype]
    return fn("min", fn("max", e, const(low)), const(high))


def _quantize(net: Lowering, call: Call) -> list[Value]:
    x = call.operand(0)
    scale, zero = _parameters(call, x.shape)
    if zero.dtype not in _RANGES:
        raise call.refuse(f"quantised type {zero.dtype}")
    if isinstance(x, Const):
        return [_quantized_constant(call, x, scale, zero)]
    if scale.data.size == zero.data.size == 1:
        steps = fn("round", fn("/", X, const(float(scale.data))))
        shifted = fn("+", steps, const(float(zero.data))) if zero.data else steps
        return [replace(apply(net, _clamped(shifted, zero), x), dtype=zero.dtype)]
    factor = inverse(call, scale)
    rounded = apply(
        net, fn("round", X), net.scaled(x, factor.data, error=factor.error, roundings=1), roundings=0
    )
    if np.any(zero.data):
        rounded = net.shift(rounded, real(zero), rounded.shape)
    return [replace(apply(net, _clamped(X, zero), rounded, roundings=0), dtype=zero.dtype)]


def _quantized_constant(call: Call, x: Const, scale: Const, zero: Const) -> Const:
    """Folded where the model's float32 quotient rounds to the same whole number as the exact one."""
    if not x.exact:
        raise call.refuse("a rounded constant")
    s = np.broadcast_to(scale.data, x.shape)
    exact = [round(Fraction(float(v)) / Fraction(float(t))) for v, t in zip(x.data.flat, s.flat, strict=True)]
    shown = np.round(x.data.astype(np.float32) / s.astype(np.float32)).astype(np.float64)
    numbers = np.array(exact, np.float64).reshape(x.shape)
    if not np.array_equal(shown, numbers):
        raise call.refuse("a stored number on the edge of two steps")
    return replace(whole(np.clip(numbers + zero.data, *_RANGES[zero.dtype])), dtype=zero.dtype)


def _dequantize(net: Lowering, call: Call) -> list[Value]:
    x = call.operand(0)
    scale, zero = _parameters(call, x.shape)
    if isinstance(x, Const):
        shifted = x.data - zero.data
        known = folded("Mul", Const(shifted.astype(np.float64), dtype=scale.dtype), scale)
        if known is None:
            raise call.refuse("a scale outside the range of accurate arithmetic")
        cast = int(np.any(np.abs(shifted) > _FLOAT32_WHOLE))
        return [replace(known, roundings=known.roundings + cast)]
    if scale.data.size == zero.data.size == 1:
        z, s = float(zero.data), float(scale.data)
        return [replace(_times(net, _minus(net, x, z), s), dtype=scale.dtype)]
    y = net.shift(x, -real(zero), x.shape) if np.any(zero.data) else x
    return [replace(net.scaled(y, scale.data, roundings=1), dtype=scale.dtype)]


def _minus(net: Lowering, x: Var, zero: float) -> Var:
    """Exact on whole numbers."""
    if zero == 0:
        return x

    def form(e: Function) -> Function:
        return fn("-", e, const(zero))

    return fuse(net, form, [x], lambda: net.shift(x, np.array(-zero), x.shape), roundings=0)


def _times(net: Lowering, x: Var, scale: float) -> Var:
    def form(e: Function) -> Function:
        return fn("*", e, const(scale))

    return fuse(net, form, [x], lambda: net.scaled(x, np.array(scale), roundings=1))


QUANTISE: Mapping[str, Operator] = {"DequantizeLinear": _dequantize, "QuantizeLinear": _quantize}
