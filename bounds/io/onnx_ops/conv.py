"""Convolutions and average pooling, lowered to 2-D convolutions.

Rounding counts: each output is a sum of ``C / groups * kh * kw`` products and a bias, so it rounds
at most that many times plus one. An average of n is a sum (n) and one division or product with a
rounded 1/n (2).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bounds.graph import Array, Op
from bounds.io.context import Builder, Call, Context
from bounds.io.onnx_ops.affine import inverse_error
from bounds.io.values import Const, Value, Var
from bounds.shapes import conv_size


@dataclass(frozen=True, slots=True)
class Window:
    """A sliding window along ``r`` spatial axes; every field has ``r`` entries."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]
    out: tuple[int, ...]


def window_of(call: Call, spatial: tuple[int, ...], kernel: tuple[int, ...]) -> Window:
    """Reads strides, pads, dilations, auto_pad and ceil_mode for an input of shape ``(N, C, *spatial)``."""
    rank = len(spatial)
    strides = _per_axis(call, "strides", rank)
    dilations = _per_axis(call, "dilations", rank)
    if len(kernel) != rank or min(kernel, default=1) < 1:
        raise ValueError(f"kernel {list(kernel)} for {rank} spatial axes")
    before, after, out = [], [], []
    pads = call.integers("pads") or (0,) * (2 * rank)
    mode = call.text("auto_pad", "NOTSET")
    if mode not in ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER") or len(pads) != 2 * rank or min(pads) < 0:
        raise ValueError(f"auto_pad {mode} or pads {list(pads)} for {rank} spatial axes")
    for i, size in enumerate(spatial):
        if mode.startswith("SAME"):
            count = -(-size // strides[i])
            total = max(0, (count - 1) * strides[i] + (kernel[i] - 1) * dilations[i] + 1 - size)
            low = total // 2 if mode == "SAME_UPPER" else total - total // 2
            high = total - low
        else:
            low, high = (0, 0) if mode == "VALID" else (pads[i], pads[i + rank])
            count = _count(call, size, low, high, (kernel[i], strides[i], dilations[i]))
        before.append(low)
        after.append(high)
        out.append(count)
    if min(out, default=1) < 1:
        raise ValueError(f"window {list(kernel)} is larger than the padded input {list(spatial)}")
    return Window(kernel, strides, dilations, tuple(before), tuple(after), tuple(out))


def _count(call: Call, size: int, low: int, high: int, window: tuple[int, int, int]) -> int:
    kernel, stride, dilation = window
    if not call.attributes.get("ceil_mode", 0):
        return conv_size(size, kernel, stride, low + high, dilation)
    count = conv_size(size, kernel, stride, low + high + stride - 1, dilation)
    # the last window must start inside the input or the left padding
    return count - 1 if (count - 1) * stride >= size + low else count


def _per_axis(call: Call, name: str, rank: int) -> tuple[int, ...]:
    found = call.integers(name) or (1,) * rank
    if len(found) != rank or min(found, default=1) < 1:
        raise ValueError(f"{name} {list(found)} for {rank} spatial axes")
    return found


def _planar(ctx: Context, call: Call, x: Var) -> Var:
    """``(N, C, W)`` and ``(N, C, H, W)`` as rank 4."""
    if len(x.shape) == 3:
        return ctx.reshape(x, (*x.shape[:2], 1, x.shape[2]))
    if len(x.shape) != 4:
        raise call.unsupported(f"input of rank {len(x.shape)}; only one and two spatial axes are analysed")
    return x


def _params(window: Window, groups: int) -> dict[str, Any]:
    """Window parameters of CONV, a 1-D window as a 2-D one of height 1."""

    def planar(values: tuple[int, ...], filler: int) -> tuple[int, ...]:
        return (filler,) * (2 - len(values)) + values

    return {
        "strides": planar(window.strides, 1),
        "dilations": planar(window.dilations, 1),
        "pads": planar(window.before, 0) + planar(window.after, 0),
        "groups": groups,
    }


def _weights(call: Call, rank: int) -> tuple[Array, Const | None, Const]:
    """Weight as rank 4, bias, and the weight constant."""
    weight, bias = call.constant(1, "weight"), call.constant(2, "bias")
    if weight is None or len(weight.shape) != rank:
        raise ValueError(f"weight does not have rank {rank}")
    kernel = call.integers("kernel_shape")
    if kernel is not None and kernel != weight.shape[2:]:
        raise ValueError(f"kernel_shape {list(kernel)} contradicts the weight's shape {list(weight.shape)}")
    data = weight.data if rank == 4 else weight.data[:, :, None, :]
    return data, bias, weight


def _conv(ctx: Context, call: Call) -> list[Value]:
    x = ctx.variable(call.operand(0))
    planar = _planar(ctx, call, x)
    weight, bias, const = _weights(call, len(x.shape))
    window = window_of(call, x.shape[2:], const.shape[2:])
    params = _params(window, int(call.attributes.get("group", 1)))
    params["weight"] = weight
    params["bias"] = np.zeros(weight.shape[0]) if bias is None else bias.data
    roundings = math.prod(weight.shape[1:]) + 1 + max(const.roundings, bias.roundings if bias else 0)
    error = max(const.error, bias.error if bias else 0.0)
    y = ctx.add(Op.CONV, [planar], params, roundings=roundings, error=error)
    return [ctx.reshape(y, (*y.shape[:2], *window.out))]


def _conv_transpose(ctx: Context, call: Call) -> list[Value]:
    x = ctx.variable(call.operand(0))
    planar = _planar(ctx, call, x)
    weight, bias, const = _weights(call, len(x.shape))
    window, extra = _transposed_window(call, x.shape[2:], const.shape[2:])
    groups = int(call.attributes.get("group", 1))
    params = _params(window, groups)
    params["weight"] = weight
    params["bias"] = np.zeros(weight.shape[1] * groups) if bias is None else bias.data
    params["output_padding"] = (0,) * (2 - len(extra)) + extra
    # an output sums at most one product per input channel of its group and kernel offset
    terms = weight.shape[0] // groups * math.prod(weight.shape[2:])
    roundings = terms + 1 + max(const.roundings, bias.roundings if bias else 0)
    error = max(const.error, bias.error if bias else 0.0)
    y = ctx.add(Op.CONV_TRANSPOSE, [planar], params, roundings=roundings, error=error)
    return [ctx.reshape(y, (*y.shape[:2], *window.out))]


def _transposed_window(
    call: Call, spatial: tuple[int, ...], kernel: tuple[int, ...]
) -> tuple[Window, tuple[int, ...]]:
    """Window (``out`` is the output size) and output padding of a ConvTranspose."""
    rank = len(spatial)
    strides, dilations = _per_axis(call, "strides", rank), _per_axis(call, "dilations", rank)
    extra = call.integers("output_padding") or (0,) * rank
    mode = call.text("auto_pad", "NOTSET")
    wanted = call.integers("output_shape")
    pads = call.integers("pads") or (0,) * (2 * rank)
    full = [
        (spatial[i] - 1) * strides[i] + (kernel[i] - 1) * dilations[i] + 1 + extra[i] for i in range(rank)
    ]
    if wanted is None and mode.startswith("SAME"):
        wanted = tuple(spatial[i] * strides[i] for i in range(rank))
    if wanted is None:
        before, after = (pads[:rank], pads[rank:]) if mode == "NOTSET" else ((0,) * rank, (0,) * rank)
    else:
        total = [full[i] - wanted[-rank:][i] for i in range(rank)]
        if min(total) < 0:
            raise call.unsupported(f"output_shape {list(wanted)} is larger than the full output {full}")
        small, large = tuple(t // 2 for t in total), tuple(t - t // 2 for t in total)
        before, after = (small, large) if mode == "SAME_UPPER" else (large, small)
    out = tuple(full[i] - before[i] - after[i] for i in range(rank))
    return Window(kernel, strides, dilations, before, after, out), extra


def _average_pool(ctx: Context, call: Call) -> list[Value]:
    x = ctx.variable(call.operand(0))
    planar = _planar(ctx, call, x)
    window = window_of(call, x.shape[2:], call.integers("kernel_shape") or ())
    return [_average(ctx, x, planar, window, include=bool(call.attributes.get("count_include_pad", 0)))]


def _global_average_pool(ctx: Context, call: Call) -> list[Value]:
    x = ctx.variable(call.operand(0))
    planar = _planar(ctx, call, x)
    rank = len(x.shape) - 2
    ones, zeros = (1,) * rank, (0,) * rank
    window = Window(x.shape[2:], ones, ones, zeros, zeros, ones)
    return [_average(ctx, x, planar, window, include=False)]


def _average(ctx: Context, x: Var, planar: Var, window: Window, *, include: bool) -> Var:
    """A depthwise convolution with 1/n, or with 1 and then 1/n where n differs between windows."""
    channels, n = x.shape[1], math.prod(window.kernel)
    counts = np.ones(())
    after = list(window.after)
    for i, size in enumerate(x.shape[2:]):
        at = np.arange(window.kernel[i])[:, None] * window.dilations[i]
        at = at + np.arange(window.out[i]) * window.strides[i] - window.before[i]
        low, high = (-window.before[i], size + window.after[i]) if include else (0, size)
        counts = counts[..., None] * ((at >= low) & (at < high)).sum(axis=0)
        after[i] = max(0, int(at.max()) + 1 - size)  # ceil_mode reaches beyond the stated padding
    if counts.min() < 1:
        raise ValueError("a window lies entirely in the padding")
    kernel = (channels, 1, *(1,) * (4 - len(x.shape)), *window.kernel)
    params = _params(
        Window(window.kernel, window.strides, window.dilations, window.before, tuple(after), window.out),
        channels,
    )
    params["bias"] = np.zeros(channels)
    uniform = bool(np.all(counts == counts.flat[0]))
    divisor = int(counts.flat[0])
    params["weight"] = np.full(ctx.guard(kernel), 1.0 / divisor if uniform else 1.0)
    error = inverse_error(divisor) if uniform else 0.0
    y = ctx.add(Op.CONV, [planar], params, roundings=n + 2 if uniform else n, error=error)
    y = ctx.reshape(y, (*y.shape[:2], *window.out))
    if uniform:
        return y
    inexact = max(inverse_error(int(c)) for c in np.unique(counts))
    return ctx.scale(y, 1.0 / counts, 0.0, roundings=2, error=inexact)


BUILDERS: Mapping[str, Builder] = {
    "AveragePool": _average_pool,
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "GlobalAveragePool": _global_average_pool,
}
