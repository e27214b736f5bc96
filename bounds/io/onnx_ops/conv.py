"""Convolutions along one, two or three axes, lowered to 2-D convolutions.

One axis gets a second one of size 1. Of three axes the first (depth) is folded away: images are the pairs
(sample, output position along the depth), channels the pairs (channel, kernel position along the depth),
gathered by a TAKE that fills the padding with zeros; the same products are summed as before.

Rounding counts: each output is a sum of ``C / groups * prod(kernel)`` products and a bias, so it rounds
at most that many times plus one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bounds.graph import Array, Op
from bounds.io.context import Builder, Call, Context
from bounds.io.onnx_ops.arithmetic import sum_of
from bounds.io.onnx_ops.bilinear import product_of_variables
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


@dataclass(frozen=True, slots=True)
class Filter:
    """The constants of a convolution, with the number of float32 roundings and the error of its weights."""

    weight: Array
    bias: Array
    groups: int
    roundings: int
    error: float


def positions(window: Window, spatial: tuple[int, ...]) -> tuple[Array, Array]:
    """``(kernel elements, windows)``, both in C order: flat positions in the image, and which lie inside."""
    flat, inside = np.zeros((1, 1), np.int64), np.ones((1, 1), bool)
    for i, size in enumerate(spatial):
        at = _along(window, i)
        flat = _outer(flat * size, at, np.add)
        inside = _outer(inside, (at >= 0) & (at < size), np.logical_and)
    return flat, inside


def _along(window: Window, axis: int) -> Array:
    """Positions ``(kernel, out)`` in the input along one axis."""
    at = np.arange(window.kernel[axis])[:, None] * window.dilations[axis]
    return at + np.arange(window.out[axis]) * window.strides[axis] - window.before[axis]


def _outer(a: Array, b: Array, combine: np.ufunc) -> Array:
    """``(k, n) x (l, m) -> (k l, n m)``."""
    full = combine(a[:, None, :, None], b[None, :, None, :])
    return full.reshape(a.shape[0] * b.shape[0], -1)


def convolve(ctx: Context, call: Call, x: Var, filters: Filter, window: Window) -> Var:
    """The convolution of ``(N, C, *spatial)`` with ``weight: (O, C / groups, *kernel)``."""
    weight, params = filters.weight, _params(window, filters)
    if len(x.shape) == 5:
        at = _along(window, 0)
        x = _fold_depth(ctx, x, np.where((at >= 0) & (at < x.shape[2]), at, -1))
        weight = weight.reshape(weight.shape[0], -1, *weight.shape[3:])
    y = _planar_node(ctx, call, Op.CONV, x, {**params, "weight": weight}, filters)
    return _unfold_depth(ctx, y, window)


def _fold_depth(ctx: Context, x: Var, depth: Array) -> Var:
    """``(N, C, D, H, W) -> (N out, C kernel, H, W)``; ``depth`` ``(kernel, out)`` has -1 for zeros."""
    n, c, _, height, width = x.shape
    kernel, out = depth.shape
    ctx.guard((n, out, c, kernel, height, width))
    index = np.where(depth[:, :, None, None] < 0, -1, ctx.index(x)[:, :, depth])
    index = np.moveaxis(index, 3, 1)  # (N, out, C, kernel, H, W)
    return ctx.take(x, index.reshape(n * out, c * kernel, height, width))


def _planar_node(ctx: Context, call: Call, op: Op, x: Var, params: dict[str, Any], filters: Filter) -> Var:
    if len(x.shape) == 3:
        x = ctx.reshape(x, (*x.shape[:2], 1, x.shape[2]))
        params["weight"] = params["weight"][:, :, None, :]
    if len(x.shape) != 4:
        raise call.unsupported(f"input of rank {len(x.shape)}; one to three spatial axes are analysed")
    return ctx.add(op, [x], params, roundings=filters.roundings, error=filters.error)


def _unfold_depth(ctx: Context, y: Var, window: Window) -> Var:
    """The planar result in the shape of the operator's output."""
    if len(window.out) != 3:
        return ctx.reshape(y, (*y.shape[:2], *window.out))
    y = ctx.reshape(y, (y.shape[0] // window.out[0], window.out[0], *y.shape[1:]))
    return ctx.take(y, np.moveaxis(ctx.index(y), 1, 2))


def _params(window: Window, filters: Filter) -> dict[str, Any]:
    """Window parameters of CONV, a 1-D window as a 2-D one of height 1; of 3-D ones the last two axes."""

    def planar(values: tuple[int, ...], filler: int) -> tuple[int, ...]:
        return (filler,) * (2 - len(values)) + values[-2:]

    return {
        "strides": planar(window.strides, 1),
        "dilations": planar(window.dilations, 1),
        "pads": planar(window.before, 0) + planar(window.after, 0),
        "groups": filters.groups,
        "bias": filters.bias,
    }


def _checked_kernel(call: Call, weight: Value, rank: int) -> tuple[int, ...]:
    if len(weight.shape) != rank:
        raise ValueError(f"weight does not have rank {rank}")
    kernel = call.integers("kernel_shape")
    if kernel is not None and kernel != weight.shape[2:]:
        raise ValueError(f"kernel_shape {list(kernel)} contradicts the weight's shape {list(weight.shape)}")
    return weight.shape[2:]


def _filter(call: Call, weight: Const, channels: int, terms: int) -> tuple[Filter, Var | None]:
    """The constants of the node (``channels`` outputs of ``terms`` products); a bias that is a node apart."""
    bias = call.optional(2)
    apart = bias if isinstance(bias, Var) else None
    stored = bias if isinstance(bias, Const) else None
    roundings = terms + 1 + max(weight.roundings, stored.roundings if stored else 0)
    error = max(weight.error, stored.error if stored else 0.0)
    data = np.zeros(channels) if stored is None else stored.data
    return Filter(weight.data, data, int(call.attributes.get("group", 1)), roundings, error), apart


def _plus_bias(ctx: Context, y: Var, bias: Value | None) -> Value:
    if bias is None:
        return y
    shape = (-1, *(1,) * (len(y.shape) - 2))
    return sum_of(ctx, y, ctx.move(bias, lambda a: a.reshape(shape)), 1.0)


def _conv(ctx: Context, call: Call) -> list[Value]:
    x, weight = ctx.variable(call.operand(0)), call.operand(1)
    window = window_of(call, x.shape[2:], _checked_kernel(call, weight, len(x.shape)))
    if isinstance(weight, Var):
        y = _conv_of_variables(ctx, x, weight, window, int(call.attributes.get("group", 1)))
        return [_plus_bias(ctx, y, call.optional(2))]
    filters, bias = _filter(call, weight, weight.shape[0], math.prod(weight.shape[1:]))
    return [_plus_bias(ctx, convolve(ctx, call, x, filters, window), bias)]


def _conv_of_variables(ctx: Context, x: Var, weight: Var, window: Window, groups: int) -> Var:
    """All windows side by side (zeros in the padding), times the weights: one product of two matrices."""
    (n, c), outputs = x.shape[:2], weight.shape[0]
    if groups < 1 or c % groups or outputs % groups or weight.shape[1] * groups != c:
        raise ValueError(f"weight {list(weight.shape)} with {groups} groups for input {list(x.shape)}")
    flat, inside = positions(window, x.shape[2:])
    kernel, windows = flat.shape
    ctx.guard((n, outputs, windows, c // groups * kernel))
    image = ctx.index(x).reshape(n, c, -1)
    index = np.where(inside, image[:, :, np.where(inside, flat, 0)], -1)
    index = np.moveaxis(index.reshape(n, groups, c // groups * kernel, windows), 3, 2)
    columns = ctx.index(weight).reshape(groups, outputs // groups, -1)
    y = product_of_variables(ctx, ctx.take(x, index), ctx.take(weight, np.swapaxes(columns, 1, 2)))
    y = ctx.take(y, np.swapaxes(ctx.index(y), 2, 3))
    return ctx.reshape(y, (n, outputs, *window.out))


def _conv_transpose(ctx: Context, call: Call) -> list[Value]:
    x, weight = ctx.variable(call.operand(0)), call.operand(1)
    if isinstance(weight, Var):
        raise call.unsupported("weight depends on the network input; make it a constant")
    kernel = _checked_kernel(call, weight, len(x.shape))
    window, extra = _transposed_window(call, x.shape[2:], kernel)
    groups = int(call.attributes.get("group", 1))
    # an output sums at most one product per input channel of its group and kernel offset
    terms = weight.shape[0] // max(1, groups) * math.prod(kernel)
    filters, bias = _filter(call, weight, weight.shape[1] * groups, terms)
    params, data = _params(window, filters), weight.data
    if len(x.shape) == 5:
        x = _fold_depth(ctx, x, _sources(window, x.shape[2]))
        data = np.moveaxis(data, 2, 1).reshape(-1, data.shape[1], *data.shape[3:])
    params |= {"weight": data, "output_padding": (0, *extra)[-2:]}
    y = _planar_node(ctx, call, Op.CONV_TRANSPOSE, x, params, filters)
    return [_plus_bias(ctx, _unfold_depth(ctx, y, window), bias)]


def _sources(window: Window, size: int) -> Array:
    """``(kernel, out)``: the input position (depth) that a kernel position leads to an output, or -1."""
    reach = (
        np.arange(window.out[0])
        + window.before[0]
        - np.arange(window.kernel[0])[:, None] * window.dilations[0]
    )
    at, rest = np.divmod(reach, window.strides[0])
    return np.where((rest == 0) & (at >= 0) & (at < size), at, -1)


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


BUILDERS: Mapping[str, Builder] = {
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
}
