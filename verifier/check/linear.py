"""ONNX operators that are sums of products: matrix products, convolutions, averages, reductions.

``roundings`` are those of the original operator in float32: a sum of n products rounds at most n
times per product in any order, a bias once more. Anything not understood raises; nothing is skipped.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from verifier.check.calls import LARGEST, ROUND, SMALLEST, Call, Operator, moved
from verifier.check.elementwise import summed
from verifier.check.fusion import product
from verifier.check.network import (
    Adjoint,
    Array,
    Chain,
    Const,
    Dense,
    Lowering,
    Map,
    Scale,
    Take,
    Value,
    Var,
    expand,
    guard,
    real,
)


# ------------------------------------------------------------------ matrix products and convolutions
def _right_product(net: Lowering, x: Var, c: Const) -> Var:
    """``x @ c`` with numpy's rules."""
    w = real(c)
    if not x.shape or not w.ndim:
        raise ValueError("matrix product with a scalar")
    if w.ndim == 1:
        y = _right_product(net, x, replace(c, data=w[:, None]))
        return net.reshape(y, y.shape[:-1])
    if len(x.shape) == 1:
        y = _right_product(net, net.reshape(x, (1, x.size)), c)
        return net.reshape(y, (*y.shape[:-2], y.shape[-1]))
    n, m = w.shape[-2:]
    if x.shape[-1] != n:
        raise ValueError(f"matrix product of shapes {x.shape} and {w.shape}")
    batch = np.broadcast_shapes(x.shape[:-2], w.shape[:-2])
    shape = guard((*batch, x.shape[-2], m))
    chain = expand(x, (*batch, *x.shape[-2:]))
    if math.prod(w.shape[:-2]) == 1:
        dense = Dense(np.ascontiguousarray(w.reshape(1, n, m).swapaxes(1, 2)), math.prod(shape[:-1]))
    else:
        full = np.broadcast_to(w, guard((*batch, n, m))).reshape(-1, n, m)
        dense = Dense(np.ascontiguousarray(full.swapaxes(1, 2)), x.shape[-2])
    return net.affine([(x, (*chain, dense))], shape, error=c.error, roundings=n + c.roundings)


def matrix_product(net: Lowering, a: Value, b: Value) -> Value:
    """``a @ b``."""
    if isinstance(a, Const) and isinstance(b, Const):
        if not a.is_float:
            return replace(a, data=np.asarray(a.data @ b.data))
        a = net.variable(a)
    if isinstance(a, Var):
        return _right_product(net, a, b) if isinstance(b, Const) else product_of_variables(net, a, b)
    assert isinstance(b, Var)  # A x = (x^T A^T)^T
    line = len(b.shape) == 1
    x = net.reshape(b, (1, b.size)) if line else net.take(b, np.swapaxes(b.index(), -1, -2))
    flat = a.data.ndim == 1
    weight = replace(a, data=a.data[:, None] if flat else np.swapaxes(a.data, -1, -2))
    y = _right_product(net, x, weight)
    if line:
        y = net.reshape(y, (*y.shape[:-2], y.shape[-1]))
        return net.reshape(y, y.shape[:-1]) if flat else y
    return net.reshape(y, y.shape[:-1]) if flat else net.take(y, np.swapaxes(y.index(), -1, -2))


def product_of_variables(net: Lowering, a: Var, b: Var) -> Var:
    """One product of both operands spread to (..., M, N, K), and a sum over K."""
    if not a.shape or not b.shape:
        raise ValueError("matrix product with a scalar")
    left = a.index() if len(a.shape) > 1 else a.index()[None, :]
    right = b.index() if len(b.shape) > 1 else b.index()[:, None]
    if left.shape[-1] != right.shape[-2]:
        raise ValueError(f"matrix product of shapes {a.shape} and {b.shape}")
    batch = np.broadcast_shapes(left.shape[:-2], right.shape[:-2])
    rows, terms, columns = left.shape[-2], left.shape[-1], right.shape[-1]
    shape = guard((*batch, rows, columns, terms))
    x = net.take(a, np.broadcast_to(left[..., :, None, :], shape))
    y = net.take(b, np.broadcast_to(np.swapaxes(right, -1, -2)[..., None, :, :], shape))
    total = sum_last(net, product(net, x, y, roundings=0), roundings=terms)
    lines = (rows,) if len(a.shape) > 1 else ()
    return net.reshape(total, (*batch, *lines, *((columns,) if len(b.shape) > 1 else ())))


def sum_last(net: Lowering, x: Var, *, roundings: int) -> Var:
    """The sum over the last axis."""
    dense = Dense(np.ones((1, 1, x.shape[-1])), math.prod(x.shape[:-1]))
    return net.affine([(x, (dense,))], x.shape[:-1], roundings=roundings)


def dense_last(
    net: Lowering,
    x: Var,
    weight: Array,
    bias: Array | None = None,
    *,
    roundings: int = 0,
    error: float = 0.0,
) -> Var:
    """``weight @ x + bias`` on the last axis."""
    shape = (*x.shape[:-1], len(weight))
    dense = Dense(weight[None], math.prod(shape[:-1]))
    return net.affine([(x, (dense,))], shape, bias, roundings=roundings, error=error)


def _matmul(net: Lowering, call: Call) -> list[Value]:
    return [matrix_product(net, call.operand(0), call.operand(1))]


def _gemm(net: Lowering, call: Call) -> list[Value]:
    a, b = call.operand(0), call.operand(1)
    if len(a.shape) != 2 or len(b.shape) != 2:
        raise ValueError("Gemm needs matrices")
    a = moved(net, a, np.transpose) if call.attributes.get("transA", 0) else a
    b = moved(net, b, np.transpose) if call.attributes.get("transB", 0) else b
    a = net.variable(a) if isinstance(a, Const) and isinstance(b, Const) else a
    y = net.variable(matrix_product(net, a, b))
    alpha, beta = (float(call.attributes.get(k, 1.0)) for k in ("alpha", "beta"))
    if alpha != 1:
        y = net.scaled(y, np.array(alpha), roundings=1)
    c = call.optional(2)
    if c is None:
        return [y]
    if beta != 1:
        c = net.scaled(net.variable(c), np.array(beta), roundings=1)
    return [summed(net, y, c, 1)]


@dataclass(frozen=True, slots=True)
class Window:
    """A window sliding over ``r`` spatial axes; every field has ``r`` entries."""

    size: tuple[int, ...]
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]
    out: tuple[int, ...]

    def positions(self, i: int) -> Array:
        """Input coordinates along axis ``i``: (output position, kernel offset)."""
        start = np.arange(self.out[i])[:, None] * self.strides[i] - self.before[i]
        return start + np.arange(self.kernel[i]) * self.dilations[i]

    def index(self) -> Array:
        """Flat input element, or -1 in the padding: (output positions, kernel elements), C order."""
        guard((math.prod(self.out), math.prod(self.kernel)))
        flat = np.zeros((1, 1), np.int64)
        for i, size in enumerate(self.size):
            at = self.positions(i)
            at = np.where((at >= 0) & (at < size), at, -1)
            grid = np.where(
                (flat[:, None, :, None] < 0) | (at[None, :, None, :] < 0),
                -1,
                flat[:, None, :, None] * size + at[None, :, None, :],
            )
            flat = grid.reshape(flat.shape[0] * at.shape[0], -1)
        return flat


def window_of(call: Call, size: tuple[int, ...], kernel: tuple[int, ...]) -> Window:
    """The window of a convolution or pooling node."""
    r = len(size)
    strides, dilations = call.integers("strides") or (1,) * r, call.integers("dilations") or (1,) * r
    pads, mode = call.integers("pads") or (0,) * (2 * r), call.text("auto_pad", "NOTSET")
    if {len(kernel), len(strides), len(dilations)} != {r} or len(pads) != 2 * r:
        raise ValueError("window attributes do not fit the input's rank")
    if min(*kernel, *strides, *dilations) < 1 or min(pads) < 0 or r == 0:
        raise ValueError("negative pads, or a kernel, stride or dilation below 1")
    before, after, out = list(pads[:r]), list(pads[r:]), [0] * r
    for i in range(r):
        reach = (kernel[i] - 1) * dilations[i] + 1
        if mode in ("SAME_UPPER", "SAME_LOWER"):
            out[i] = -(-size[i] // strides[i])
            total = max(0, (out[i] - 1) * strides[i] + reach - size[i])
            before[i] = total // 2 if mode == "SAME_UPPER" else total - total // 2
            after[i] = total - before[i]
            continue
        if mode == "VALID":
            before[i] = after[i] = 0
        elif mode != "NOTSET":
            raise call.refuse(f"auto_pad {mode}")
        room = size[i] + before[i] + after[i] - reach
        if room < 0:
            raise ValueError("a window larger than the padded input")
        out[i] = room // strides[i] + 1
        if call.attributes.get("ceil_mode", 0):
            out[i] = -(-room // strides[i]) + 1
            if (out[i] - 1) * strides[i] >= size[i] + before[i]:
                out[i] -= 1  # the last window must start inside the input or the padding before it
    return Window(size, kernel, strides, dilations, tuple(before), tuple(after), tuple(out))


def _im2col(batch: int, channels: int, groups: int, window: Window) -> tuple[Array, Array]:
    """Gather (group, batch, position, channel, offset) and scatter (batch, group, position)."""
    index = window.index()
    plane = np.arange(batch * channels, dtype=np.int64).reshape(batch, groups, channels // groups)
    offset = plane.transpose(1, 0, 2)[:, :, None, :, None] * math.prod(window.size)
    guard((plane.size, index.size))
    gather = np.where(index[None, None, :, None, :] < 0, -1, offset + index[None, None, :, None, :])
    order = np.arange(groups * batch * index.shape[0], dtype=np.int64).reshape(groups, batch, -1)
    return gather, order


def _conv_chain(batch: int, channels: int, w: Array, groups: int, window: Window) -> Chain:
    """Convolution: gather windows, multiply, put channels before positions."""
    gather, order = _im2col(batch, channels, groups, window)
    m = w.shape[0] // groups
    dense = Dense(np.ascontiguousarray(w.reshape(groups, m, -1)), batch * order.shape[2])
    out = order.transpose(1, 0, 2)[:, :, None, :] * m + np.arange(m)[:, None]
    size = batch * channels * math.prod(window.size)
    return (Take(gather, size), dense, Take(out, order.size * m))


def _weight(call: Call, rank: int) -> Array:
    w = call.needed(1)
    kernel = call.integers("kernel_shape")
    if w.ndim != rank or (kernel is not None and kernel != w.shape[2:]):
        raise ValueError(f"kernel of shape {w.shape} for an input of rank {rank}")
    return w


def _conv(net: Lowering, call: Call) -> list[Value]:
    x, weight = net.variable(call.operand(0)), call.operand(1)
    groups = int(call.attributes.get("group", 1))
    if len(x.shape) != len(weight.shape) or groups < 1 or weight.shape[0] % groups:
        raise ValueError(f"kernel of shape {weight.shape} and {groups} groups for input {x.shape}")
    if x.shape[1] != weight.shape[1] * groups:
        raise ValueError(f"kernel of shape {weight.shape} and {groups} groups for input {x.shape}")
    window = window_of(call, x.shape[2:], weight.shape[2:])
    if isinstance(weight, Var):
        return [_with_bias(net, call, _conv_of_variables(net, x, weight, window, groups))]
    w = _weight(call, len(x.shape))
    chain = _conv_chain(x.shape[0], x.shape[1], w, groups, window)
    y = net.affine([(x, chain)], (x.shape[0], w.shape[0], *window.out), roundings=w[0].size)
    return [_with_bias(net, call, y)]


def _conv_of_variables(net: Lowering, x: Var, weight: Var, window: Window, groups: int) -> Var:
    """All windows side by side (zeros in the padding), times the weights."""
    (n, c), outputs, index = x.shape[:2], weight.shape[0], window.index()  # (windows, kernel)
    windows, kernel = index.shape
    guard((n, outputs, windows, c // groups * kernel))
    image = x.index().reshape(n, groups, c // groups, -1)
    at = np.where(index < 0, -1, image[..., np.maximum(index, 0)])  # (n, groups, channels, windows, kernel)
    at = np.moveaxis(at, 3, 2).reshape(n, groups, windows, -1)
    columns = weight.index().reshape(groups, outputs // groups, -1)
    patches, filters = net.take(x, at), net.take(weight, np.swapaxes(columns, 1, 2))
    y = product_of_variables(net, patches, filters)
    y = net.take(y, np.swapaxes(y.index(), 2, 3))
    return net.reshape(y, (n, outputs, *window.out))


def _with_bias(net: Lowering, call: Call, y: Var) -> Var:
    bias = call.optional(2)
    if bias is None:
        return y
    shape = (-1, *(1,) * (len(y.shape) - 2))
    return summed(net, y, moved(net, bias, lambda a: a.reshape(shape)), 1)


def _conv_transpose(net: Lowering, call: Call) -> list[Value]:
    """The adjoint of the convolution that takes the output's shape to the input's."""
    x = net.variable(call.operand(0))
    w = _weight(call, len(x.shape))
    r, size, kernel = len(x.shape) - 2, x.shape[2:], w.shape[2:]
    groups = int(call.attributes.get("group", 1))
    strides, dilations = call.integers("strides") or (1,) * r, call.integers("dilations") or (1,) * r
    extra, pads = call.integers("output_padding") or (0,) * r, call.integers("pads") or (0,) * (2 * r)
    mode, wanted = call.text("auto_pad", "NOTSET"), call.integers("output_shape")
    full = [(size[i] - 1) * strides[i] + (kernel[i] - 1) * dilations[i] + 1 + extra[i] for i in range(r)]
    if wanted is None and mode.startswith("SAME"):
        wanted = tuple(size[i] * strides[i] for i in range(r))
    before, out = list(pads[:r]) if mode == "NOTSET" else [0] * r, list(full)
    for i in range(r):
        if wanted is not None:
            out[i] = wanted[-r:][i]
            total = full[i] - out[i]
            if total < 0:
                raise call.refuse("output_shape larger than the full output")
            before[i] = total // 2 if mode == "SAME_UPPER" else total - total // 2
        elif mode == "NOTSET":
            out[i] = full[i] - pads[i] - pads[i + r]
    if x.shape[1] != w.shape[0] or w.shape[0] % groups or min(out) < 1:
        raise ValueError(f"kernel of shape {w.shape} and {groups} groups for input {x.shape}")
    zeros = (0,) * r
    window = Window(tuple(out), kernel, strides, dilations, tuple(before), zeros, size)
    channels = w.shape[1] * groups
    chain: list[Map] = [Adjoint(m) for m in _conv_chain(x.shape[0], channels, w, groups, window)[::-1]]
    terms = w.shape[0] // groups * math.prod(kernel)  # products per output, at most
    y = net.affine([(x, tuple(chain))], (x.shape[0], channels, *out), roundings=terms)
    return [_with_bias(net, call, y)]


def _batch_normalization(net: Lowering, call: Call) -> list[Value]:
    """``factor (x - mean) + beta`` with ``factor = scale / sqrt(var + eps)``; nothing is folded that cancels.

    The factor has three float64 roundings. Runtimes round at most 8 times in any order, relative to
    ``|factor| (|x| + |mean|) + |beta|``, which counting 8 at both nodes covers.
    """
    if call.attributes.get("training_mode", 0) or not call.attributes.get("spatial", 1):
        raise call.refuse("training mode or spatial=0")
    x = net.variable(call.operand(0))
    shape = (-1, *(1,) * (len(x.shape) - 2))
    scale, beta, mean, var = (call.needed(i).reshape(shape) for i in range(1, 5))
    spread = var + float(call.attributes.get("epsilon", np.float32(1e-5)))
    if not np.all((spread > SMALLEST) & (spread < LARGEST)) or np.any(
        (scale != 0) & (np.abs(scale) < SMALLEST)
    ):
        raise call.refuse("variance plus epsilon is not positive, or tiny or huge numbers")
    centred = net.shift(x, -mean, x.shape, roundings=8)
    return [net.scaled(centred, scale / np.sqrt(spread), beta, error=4 * ROUND, roundings=8)]


# ------------------------------------------------------------------ sums over windows and axes
def sum_slots(net: Lowering, x: Var, slots: Array, shape: tuple[int, ...], divisor: Array | None) -> Var:
    """Sums over the last axis of ``slots`` (flat indices, -1 for nothing), divided where asked."""
    n = slots.shape[-1]
    chain: Chain = (Take(slots, x.size), Dense(np.ones((1, 1, n)), math.prod(shape)))
    if divisor is None or (n == 1 and np.all(divisor == 1)):
        return net.affine([(x, chain)], shape, roundings=n)
    inverse = Scale(np.broadcast_to(1 / divisor, shape).astype(np.float64))
    exact = np.all(np.frexp(divisor)[0] == 0.5)
    return net.affine([(x, (*chain, inverse))], shape, error=0.0 if exact else ROUND, roundings=n + 2)


def planes(x: Var, index: Array) -> Array:
    """A window's index for every (batch, channel): (planes, positions, offsets)."""
    planes = np.arange(math.prod(x.shape[:2]), dtype=np.int64)[:, None, None] * math.prod(x.shape[2:])
    guard((planes.size, index.size))
    return np.where(index < 0, -1, planes + index)


def _average_pool(net: Lowering, call: Call) -> list[Value]:
    x = net.variable(call.operand(0))
    window = window_of(call, x.shape[2:], call.integers("kernel_shape") or ())
    count = np.ones(())
    for i, size in enumerate(window.size):
        at = window.positions(i)
        low, high = 0, size
        if call.attributes.get("count_include_pad", 0):
            low, high = -window.before[i], size + window.after[i]
        count = count[..., None] * ((at >= low) & (at < high)).sum(axis=1)
    if count.min() < 1:
        raise ValueError("a window lies entirely in the padding")
    return [sum_slots(net, x, planes(x, window.index()), (*x.shape[:2], *window.out), count)]


def axes_of(call: Call, rank: int) -> tuple[int, ...] | None:
    """Axes of a reduction; None when it is the identity."""
    axes = call.integers("axes", 1)
    if not axes:
        return None if call.attributes.get("noop_with_empty_axes", 0) else tuple(range(rank))
    if any(not -rank <= a < rank for a in axes):
        raise ValueError(f"axes {axes} of a tensor of rank {rank}")
    return tuple(sorted({a % rank for a in axes}))


def slots_of(call: Call, x: Value) -> tuple[Array, tuple[int, ...]] | None:
    """What a reduction combines, as flat indices (results, elements), and its shape; None: the identity."""
    rank, keep = len(x.shape), bool(call.attributes.get("keepdims", 1))
    axes = tuple(range(2, rank)) if call.op.startswith("Global") else axes_of(call, rank)
    if axes is None:
        return None
    shape = tuple(1 if i in axes else s for i, s in enumerate(x.shape) if keep or i not in axes)
    rest = tuple(i for i in range(rank) if i not in axes)
    index = np.arange(math.prod(x.shape), dtype=np.int64).reshape(x.shape)
    return index.transpose(*rest, *axes).reshape(math.prod(shape), -1), shape


def _reduce(net: Lowering, call: Call) -> list[Value]:
    x = call.operand(0)
    found = slots_of(call, x)
    if found is None:
        return [x]
    slots, shape = found
    if not slots.shape[1]:
        raise ValueError("a reduction over no elements")
    if isinstance(x, Const) and not x.is_float and call.op == "ReduceSum":
        return [replace(x, data=x.data.reshape(-1)[slots].sum(axis=-1).reshape(shape))]
    divisor = None if call.op == "ReduceSum" else np.array(float(slots.shape[1]))
    return [sum_slots(net, net.variable(x), slots, shape, divisor)]


LINEAR: Mapping[str, Operator] = {
    **dict.fromkeys(("ReduceSum", "ReduceMean", "GlobalAveragePool"), _reduce),
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_normalization,
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "Gemm": _gemm,
    "MatMul": _matmul,
}
