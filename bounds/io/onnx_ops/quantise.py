"""Quantisation: exactly the staircase ``clip(round(x / scale) + zero_point)``, halves to even.

Normal form: with one scale and zero point, one SCALAR ``clip(round(x / s) + z, lo, hi)``; with one per
channel a SCALE by ``1 / s``, SCALAR ``round``, SCALE ``+ z`` and SCALAR clip. Dequantisation is affine.
A quantised value is a whole-number tensor. Operators on such tensors (QLinearConv, ...) subtract zero
points, apply the convolution or matrix product exactly, and quantise ``x * (a b) / y``; runtimes multiply by
a rounded quotient of the scales instead, which is not analysed (``UNMODELLED``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction

import numpy as np

from bounds.expression import Expr, Fn, X, const
from bounds.expression import call as apply_fn
from bounds.graph import UNMODELLED, Array
from bounds.io import values
from bounds.io.context import Builder, Call, Context
from bounds.io.onnx_ops.affine import matrix_product
from bounds.io.onnx_ops.constant import ELEMENT_TYPES
from bounds.io.onnx_ops.conv import Filter, convolve, window_of
from bounds.io.onnx_ops.lanes import as_node, positive_axis, whole
from bounds.io.values import Const, Value, Var

_RANGES = {
    "uint8": (0, 255), "int8": (-128, 127), "uint16": (0, 65535), "int16": (-32768, 32767),
    "uint4": (0, 15), "int4": (-8, 7), "int32": (-(1 << 31), (1 << 31) - 1),
}  # fmt: skip
_FLOAT32_WHOLE = 1 << 24  # whole numbers up to here are exact in float32


def _clamped(e: Expr, low: float, high: float) -> Expr:
    return apply_fn(Fn.MIN, apply_fn(Fn.MAX, e, const(low)), const(high))


def _parameters(call: Call, i: int, shape: tuple[int, ...]) -> tuple[Const, Const]:
    """Scale and zero point (operands i, i + 1) in a shape that broadcasts against ``shape``."""
    scale, zero = call.constant(i, "scale"), call.constant(i + 1, "zero point")
    if scale is None or not scale.exact or (zero is not None and not zero.exact):
        raise call.unsupported("scale and zero point must be stored constants")
    if not np.all((scale.data > 0) & np.isfinite(scale.data)):
        raise ValueError("a scale is not positive")
    if zero is None:
        stated = ELEMENT_TYPES.get(call.attributes.get("output_dtype", 0), "uint8")
        zero = Const(np.zeros(scale.shape, np.int64), stated)
    block = int(call.attributes.get("block_size", 0))
    return _against(call, scale, shape, block), _against(call, zero, shape, block)


def _against(call: Call, c: Const, shape: tuple[int, ...], block: int) -> Const:
    if c.data.size == 1:
        return replace(c, data=c.data.reshape(()))
    axis = positive_axis(int(call.attributes.get("axis", 1)), len(shape))
    if block:
        part = [slice(None)] * len(shape)
        part[axis] = slice(shape[axis])
        return replace(c, data=np.repeat(c.data, block, axis)[tuple(part)])
    if c.shape != (shape[axis],):
        raise ValueError(f"scale or zero point of shape {list(c.shape)} for axis {axis} of {list(shape)}")
    return replace(c, data=c.data.reshape([-1 if i == axis else 1 for i in range(len(shape))]))


def _quantize(ctx: Context, call: Call) -> list[Value]:
    x = call.operand(0)
    scale, zero = _parameters(call, 1, x.shape)
    if isinstance(x, Const):
        return [_quantized_constant(call, x, scale, zero)]
    return [quantized(ctx, call, x, const(1.0), scale, zero, roundings=1)]


def quantized(
    ctx: Context, call: Call, x: Var, factor: Expr, scale: Const, zero: Const, *, roundings: int
) -> Var:
    """``clip(round(x * factor / scale) + zero)`` as a whole-number node; ``factor`` is a constant."""
    if zero.dtype not in _RANGES:
        raise call.unsupported(f"quantised type {zero.dtype}; use 8-bit integers")
    low, high = _RANGES[zero.dtype]
    if scale.data.size == zero.data.size == 1:
        scaled = (X if factor.value == 1 else X * factor) / float(scale.data)
        y = ctx.apply(_staircase(scaled, float(zero.data), low, high), x, roundings=roundings)
        return replace(y, dtype=zero.dtype)
    ratio = values.divide(Const(np.asarray(factor.value), "float64"), scale)
    if ratio is None:
        raise call.unsupported("a scale is outside the range in which 1/x is accurate")
    steps = ctx.scale(x, ratio.data, 0.0, roundings=roundings, error=ratio.error)
    y = ctx.apply(apply_fn(Fn.ROUND, X), steps, roundings=0)
    if np.any(zero.data):
        y = ctx.scale(y, 1.0, zero.data.astype(np.float64))
    return replace(ctx.apply(_clamped(X, low, high), y, roundings=0), dtype=zero.dtype)


def _staircase(scaled: Expr, zero: float, low: int, high: int) -> Expr:
    rounded = apply_fn(Fn.ROUND, scaled)
    return _clamped(rounded if zero == 0 else rounded + zero, low, high)


def _quantized_constant(call: Call, x: Const, scale: Const, zero: Const) -> Const:
    """Folded where the model's float32 quotient rounds to the same whole number as the exact one."""
    if not x.exact:
        raise call.unsupported("operand 0 is a rounded constant; store its value in the model")
    low, high = _RANGES.get(zero.dtype, (0, 0))
    s = np.broadcast_to(scale.data, x.shape)
    exact = [round(Fraction(float(v)) / Fraction(float(t))) for v, t in zip(x.data.flat, s.flat, strict=True)]
    shown = np.round(x.data.astype(np.float32) / s.astype(np.float32)).astype(np.float64)
    whole_numbers = np.array(exact, np.float64).reshape(x.shape)
    if not np.array_equal(shown, whole_numbers):
        raise call.unsupported("a stored number on the edge of two steps; quantise it before the export")
    data = np.clip(whole_numbers + zero.data, low, high).astype(np.int64)
    return Const(data, zero.dtype, call.outputs[0])


def _dequantize(ctx: Context, call: Call) -> list[Value]:
    x = call.operand(0)
    scale, zero = _parameters(call, 1, x.shape)
    if isinstance(x, Const):
        shifted = x.data - zero.data
        data = Const(shifted.astype(np.float64), scale.dtype, call.outputs[0])
        product = values.multiply(data, scale)
        if product is None:
            raise call.unsupported("a scale is outside the range of accurate arithmetic")
        cast = int(np.any(np.abs(shifted) > _FLOAT32_WHOLE))  # int32 becomes a rounded float32 first
        return [replace(product, name=call.outputs[0], roundings=product.roundings + cast)]
    if scale.data.size == zero.data.size == 1:
        z, s = float(zero.data), float(scale.data)
        return [replace(_scaled(ctx, _shifted(ctx, x, z), s), dtype=scale.dtype)]
    y = ctx.scale(x, 1.0, -zero.data.astype(np.float64)) if np.any(zero.data) else x
    return [replace(ctx.scale(y, scale.data, 0.0, roundings=1), dtype=scale.dtype)]


def _shifted(ctx: Context, x: Var, zero: float) -> Var:
    """``x - zero`` for whole numbers, exactly; joins the function that ``x`` is."""
    if zero == 0:
        return x

    def form(e: Expr) -> Expr:
        return e - zero

    return ctx.fuse(form, [x], lambda: ctx.scale(x, 1.0, -zero), roundings=0)


def _scaled(ctx: Context, x: Var, scale: float) -> Var:
    def form(e: Expr) -> Expr:
        return e * scale

    return ctx.fuse(form, [x], lambda: ctx.scale(x, scale, 0.0, roundings=1), roundings=1)


def _dynamic_quantize(ctx: Context, call: Call) -> list[Value]:
    del ctx
    raise call.unsupported("a scale computed from the input; export with static quantisation")


def _offset(ctx: Context, call: Call, i: int, zero_at: int, axis: int) -> Value:
    """Operand ``i`` less its zero point (one number, or one per element of ``axis``), exactly."""
    x, zero = call.operand(i), call.constant(zero_at, "zero point")
    data = np.zeros(()) if zero is None else zero.data.astype(np.float64)
    if data.size > 1:
        data = data.reshape([-1 if k == axis % len(x.shape) else 1 for k in range(len(x.shape))])
    else:
        data = data.reshape(())
    if isinstance(x, Const):
        shifted = whole(x)
        assert isinstance(shifted, Const)
        return replace(shifted, data=shifted.data - data)
    y = ctx.scale(x, 1.0, -data) if np.any(data) else x
    return replace(y, dtype="float32")


def _matmul_integer(ctx: Context, call: Call) -> list[Value]:
    y = matrix_product(ctx, call, _offset(ctx, call, 0, 2, -2), _offset(ctx, call, 1, 3, -1))
    return [replace(as_node(ctx, y), dtype="int32")]


def _q_linear_matmul(ctx: Context, call: Call) -> list[Value]:
    y = as_node(ctx, matrix_product(ctx, call, _offset(ctx, call, 0, 2, -2), _offset(ctx, call, 3, 5, -1)))
    return [_requantized(ctx, call, y, (1, 4), 6)]


def _requantized(ctx: Context, call: Call, y: Var, factors: tuple[int, int], target: int) -> Var:
    """``y * a * b`` in the target's steps; a scale per column or channel has the shape of an axis of y."""
    a, b = (call.constant(i, "scale") for i in factors)
    scale, zero = call.constant(target, "scale"), call.constant(target + 1, "zero point")
    if a is None or b is None or scale is None or zero is None or scale.data.size != 1 or a.data.size != 1:
        raise call.unsupported("one scale for the first operand and the result; quantise per tensor")
    product = values.multiply(replace(a, data=a.data.reshape(())), b)
    if product is None or product.error:
        raise call.unsupported("scales outside the range of accurate arithmetic")
    scale, zero = (replace(c, data=c.data.reshape(())) for c in (scale, zero))
    if product.data.size == 1:
        return quantized(
            ctx, call, y, const(float(product.data.reshape(()))), scale, zero, roundings=UNMODELLED
        )
    axis = 1 if call.op_type == "QLinearConv" else len(y.shape) - 1
    along = product.data.reshape([-1 if k == axis else 1 for k in range(len(y.shape))])
    ratio = values.divide(replace(product, data=along), scale)
    if ratio is None:
        raise call.unsupported("scales outside the range of accurate arithmetic")
    one = Const(np.ones(()), "float64")
    scaled = ctx.scale(y, ratio.data, 0.0, roundings=UNMODELLED, error=ratio.error)
    return quantized(ctx, call, scaled, const(1.0), one, zero, roundings=0)


def _convolved(ctx: Context, call: Call, x: Value, weight: Value, bias: Array | None) -> Var:
    """The convolution of whole numbers; exact, as long as the model's 32-bit sums do not overflow."""
    if isinstance(weight, Var):
        raise call.unsupported("weight depends on the network input; make it a constant")
    node = ctx.variable(x)
    window = window_of(call, node.shape[2:], weight.shape[2:])
    data = np.zeros(weight.shape[0]) if bias is None else bias.astype(np.float64)
    filters = Filter(weight.data, data, int(call.attributes.get("group", 1)), 0, 0.0)
    return convolve(ctx, call, node, filters, window)


def _conv_integer(ctx: Context, call: Call) -> list[Value]:
    y = _convolved(ctx, call, _offset(ctx, call, 0, 2, 1), _offset(ctx, call, 1, 3, 0), None)
    return [replace(y, dtype="int32")]


def _q_linear_conv(ctx: Context, call: Call) -> list[Value]:
    bias = call.constant(8, "bias")
    x, weight = _offset(ctx, call, 0, 2, 1), _offset(ctx, call, 3, 5, 0)
    y = _convolved(ctx, call, x, weight, None if bias is None else bias.data)
    return [_requantized(ctx, call, y, (1, 4), 6)]


BUILDERS: Mapping[str, Builder] = {
    "ConvInteger": _conv_integer,
    "DequantizeLinear": _dequantize,
    "DynamicQuantizeLinear": _dynamic_quantize,
    "MatMulInteger": _matmul_integer,
    "QLinearConv": _q_linear_conv,
    "QLinearMatMul": _q_linear_matmul,
    "QuantizeLinear": _quantize,
}
