"""ONNX operators that are affine in the network's input, as entries of one table.

``roundings`` are those of the original operator in float32: a sum of n products rounds at most n
times per product in any order, a bias once more. Anything not understood raises; nothing is skipped.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np

from bounds.errors import ModelUnsupported
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
)

ROUND = 2.0**-53
_RANGE = 2.0**500  # constants are folded only where neither underflow nor overflow can occur


@dataclass(frozen=True, slots=True)
class Call:
    """One ONNX node: operands (None where left out) and attributes as Python values."""

    op: str
    name: str
    opset: int
    operands: tuple[Value | None, ...]
    attributes: Mapping[str, Any]
    outputs: int

    def operand(self, i: int) -> Value:
        """The required operand ``i``."""
        if i >= len(self.operands) or (value := self.operands[i]) is None:
            raise ValueError(f"operand {i} is missing")
        return value

    def const(self, i: int, *, exact: bool = True) -> Const | None:
        """The optional operand ``i``, which must be constant."""
        value = self.operands[i] if i < len(self.operands) else None
        if isinstance(value, Var):
            raise self.refuse(f"operand {i} depends on the network's input")
        if value is not None and exact and not value.exact:
            raise self.refuse(f"operand {i} is a rounded constant")
        return value

    def needed(self, i: int) -> Array:
        """The data of the exact constant operand ``i``."""
        const = self.const(i)
        if const is None:
            raise ValueError(f"operand {i} is missing")
        return const.data

    def integers(self, name: str, i: int | None = None) -> tuple[int, ...] | None:
        """A list of integers, as attribute or (newer opsets) operand."""
        value = self.attributes.get(name)
        if value is None and i is not None:
            const = self.const(i)
            value = None if const is None else const.data.reshape(-1).tolist()
        if value is None:
            return None
        return tuple(int(v) for v in (value if isinstance(value, list | tuple) else [value]))

    def text(self, name: str, default: str) -> str:
        """A string attribute."""
        value = self.attributes.get(name, default)
        return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)

    def refuse(self, detail: str) -> ModelUnsupported:
        """The error for a form that the checker does not read."""
        return ModelUnsupported(self.op, self.name, f"{detail}; the checker cannot re-prove this network")


Operator: TypeAlias = Callable[[Lowering, Call], Sequence[Value]]


# ------------------------------------------------------------------ arithmetic on constants
def two_sum(a: Array, b: Array) -> tuple[Array, Array]:
    """``a + b`` rounded, and its exact rounding error (Knuth; no overflow in our range)."""
    total = a + b
    shadow = total - a
    return total, (a - (total - shadow)) + (b - shadow)


def _fold(call: Call, a: Const, b: Const) -> Const:
    """Add, Sub, Mul or Div of two constants with a relative error bound."""
    x, y = a.data, b.data
    if not a.is_float:
        sign = np.sign(x) * np.sign(y)
        if call.op == "Div":
            return Const(np.asarray(np.abs(x) // np.abs(y) * sign))
        return Const(np.asarray({"Add": np.add, "Sub": np.subtract, "Mul": np.multiply}[call.op](x, y)))
    if max(float(np.abs(v).max(initial=0)) for v in (x, y)) > _RANGE:
        raise call.refuse("huge constants in constant arithmetic")
    if call.op in ("Add", "Sub"):
        if not (a.exact and b.exact):
            raise call.refuse("a sum of rounded constants")
        total, rest = two_sum(x, y if call.op == "Add" else -y)
        return Const(np.asarray(total), ROUND if rest.any() else 0.0, 1)
    if any(np.any((v != 0) & (np.abs(v) < 1 / _RANGE)) for v in (x, y)) or (call.op == "Div" and not y.all()):
        raise call.refuse("tiny constants in constant arithmetic")
    short = all(np.array_equal(v.astype(np.float32).astype(np.float64), v) for v in (x, y))
    result, rounded = (x * y, 0.0 if short else ROUND) if call.op == "Mul" else (x / y, ROUND)
    # three relative errors below 2^-40 each: their products are covered by the factor
    return Const(
        np.asarray(result), (a.error + b.error + rounded) * (1 + 2.0**-20), a.roundings + b.roundings + 1
    )


def _arithmetic(net: Lowering, call: Call) -> list[Value]:
    a, b = call.operand(0), call.operand(1)
    if isinstance(a, Const) and isinstance(b, Const):
        return [_fold(call, a, b)]
    if call.op in ("Add", "Sub"):
        return [_sum(net, a, b, 1 if call.op == "Add" else -1)]
    if call.op == "Div" or isinstance(a, Var):
        a, b = b, a
    if isinstance(a, Var) or isinstance(b, Const):
        raise call.refuse("not linear in the network's input")
    factor = a if call.op == "Mul" else _inverse(call, a)
    return [net.scaled(b, factor.data, error=factor.error, roundings=1 + factor.roundings)]


def _inverse(call: Call, c: Const) -> Const:
    if not np.all((np.abs(c.data) > 1 / _RANGE) & (np.abs(c.data) < _RANGE)):
        raise call.refuse("divisor is zero, tiny or huge")
    power_of_two = np.all(np.abs(np.frexp(c.data)[0]) == 0.5)
    error = 0.0 if power_of_two and c.error == 0 else (c.error + ROUND) * (1 + 2.0**-20)
    return Const(np.asarray(1 / c.data), error, c.roundings)


def _sum(net: Lowering, a: Value, b: Value, sign: int) -> Var:
    """``a + sign * b``, one rounding; at least one is no constant, or both become nodes."""
    if isinstance(b, Const) and isinstance(a, Var):
        shape = np.broadcast_shapes(a.shape, b.shape)
        return net.shift(a, sign * b.data, shape, error=b.error, roundings=1 + b.roundings)
    if isinstance(a, Const) and isinstance(b, Var):
        if sign > 0:
            return _sum(net, b, a, 1)
        return net.scaled(b, np.array(-1.0), a.data, error=a.error, roundings=1 + a.roundings)
    return net.combine([(1, net.variable(a)), (sign, net.variable(b))], roundings=1)


def _neg(net: Lowering, call: Call) -> list[Value]:
    x = call.operand(0)
    return [replace(x, data=-x.data) if isinstance(x, Const) else net.scaled(x, np.array(-1.0))]


def _sum_all(net: Lowering, call: Call) -> list[Value]:
    total = call.operand(0)
    for i in range(1, len(call.operands)):
        total = _sum(net, total, call.operand(i), 1)
    if call.op == "Mean":
        n = len(call.operands)
        total = net.scaled(net.variable(total), np.array(1 / n), error=ROUND, roundings=2)
    return [total]


# ------------------------------------------------------------------ matrix products and convolutions
def _product(net: Lowering, call: Call, x: Var, w: Array, const: Const) -> Var:
    """``x @ w`` with numpy's rules; errors of ``const`` belong to ``w``."""
    if w.ndim == 1:
        y = _product(net, call, x, w[:, None], const)
        return Var(y.node, y.shape[:-1])
    if len(x.shape) == 1:
        y = _product(net, call, Var(x.node, (1, x.size)), w, const)
        return Var(y.node, (*y.shape[:-2], y.shape[-1]))
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
    return net.affine([(x, (*chain, dense))], shape, error=const.error, roundings=n + const.roundings)


def _matmul_of(net: Lowering, call: Call, a: Value, b: Value) -> Var:
    if isinstance(a, Var) and isinstance(b, Const):
        return _product(net, call, a, b.data, b)
    if isinstance(a, Const) and isinstance(b, Var):  # A x = (x^T A^T)^T
        if a.data.ndim == 1:
            x = b if len(b.shape) == 1 else net.take(b, np.swapaxes(b.index(), -1, -2))
            return _product(net, call, x, a.data, a)
        x = Var(b.node, (1, b.size)) if len(b.shape) == 1 else net.take(b, np.swapaxes(b.index(), -1, -2))
        y = _product(net, call, x, np.swapaxes(a.data, -1, -2), a)
        if len(b.shape) == 1:
            return Var(y.node, (*y.shape[:-2], y.shape[-1]))
        return net.take(y, np.swapaxes(y.index(), -1, -2))
    raise call.refuse("a product of two tensors that are both constant or both depend on the input")


def _matmul(net: Lowering, call: Call) -> list[Value]:
    a, b = call.operand(0), call.operand(1)
    if isinstance(a, Const) and isinstance(b, Const) and not a.is_float:
        return [Const(np.asarray(a.data @ b.data))]
    return [_matmul_of(net, call, a, b)]


def moved(net: Lowering, value: Value, function: Callable[[Array], Array]) -> Value:
    """Applies a function that only moves elements."""
    if isinstance(value, Const):
        return replace(value, data=np.asarray(function(value.data)))
    return net.take(value, np.asarray(function(value.index())))


def _gemm(net: Lowering, call: Call) -> list[Value]:
    a, b = call.operand(0), call.operand(1)
    if len(a.shape) != 2 or len(b.shape) != 2:
        raise ValueError("Gemm needs matrices")
    a = moved(net, a, np.transpose) if call.attributes.get("transA", 0) else a
    b = moved(net, b, np.transpose) if call.attributes.get("transB", 0) else b
    y = _matmul_of(net, call, a, b)
    alpha, beta = (float(call.attributes.get(k, 1.0)) for k in ("alpha", "beta"))
    if alpha != 1:
        y = net.scaled(y, np.array(alpha), roundings=1)
    c = call.operands[2] if len(call.operands) > 2 else None
    if c is None:
        return [y]
    if beta != 1:
        c = net.scaled(net.variable(c), np.array(beta), roundings=1)
    return [_sum(net, y, c, 1)]


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


def _weight(call: Call, rank: int) -> tuple[Array, Const | None]:
    w, bias = call.needed(1), call.const(2)
    kernel = call.integers("kernel_shape")
    if w.ndim != rank or (kernel is not None and kernel != w.shape[2:]):
        raise ValueError(f"kernel of shape {w.shape} for an input of rank {rank}")
    return w, bias


def _conv(net: Lowering, call: Call) -> list[Value]:
    x = net.variable(call.operand(0))
    w, bias = _weight(call, len(x.shape))
    groups = int(call.attributes.get("group", 1))
    if x.shape[1] != w.shape[1] * groups or w.shape[0] % groups:
        raise ValueError(f"kernel of shape {w.shape} and {groups} groups for input {x.shape}")
    window = window_of(call, x.shape[2:], w.shape[2:])
    chain = _conv_chain(x.shape[0], x.shape[1], w, groups, window)
    y = net.affine([(x, chain)], (x.shape[0], w.shape[0], *window.out), roundings=w[0].size)
    return [_channel_bias(net, y, bias)]


def _channel_bias(net: Lowering, y: Var, bias: Const | None) -> Var:
    if bias is None:
        return y
    return net.shift(y, bias.data.reshape(-1, *(1,) * (len(y.shape) - 2)), y.shape, roundings=1)


def _conv_transpose(net: Lowering, call: Call) -> list[Value]:
    """The adjoint of the convolution that takes the output's shape to the input's."""
    x = net.variable(call.operand(0))
    w, bias = _weight(call, len(x.shape))
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
    return [_channel_bias(net, y, bias)]


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
    if not np.all((spread > 1 / _RANGE) & (spread < _RANGE)) or np.any(
        (scale != 0) & (np.abs(scale) < 1 / _RANGE)
    ):
        raise call.refuse("variance plus epsilon is not positive, or tiny or huge numbers")
    centred = net.shift(x, -mean, x.shape, roundings=8)
    return [net.scaled(centred, scale / np.sqrt(spread), beta, error=4 * ROUND, roundings=8)]


# ------------------------------------------------------------------ sums over windows and axes
def _sum_slots(net: Lowering, x: Var, slots: Array, shape: tuple[int, ...], divisor: Array | None) -> Var:
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
    return [_sum_slots(net, x, planes(x, window.index()), (*x.shape[:2], *window.out), count)]


def _axes_of(call: Call, rank: int) -> tuple[int, ...] | None:
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
    axes = tuple(range(2, rank)) if call.op.startswith("Global") else _axes_of(call, rank)
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
    if isinstance(x, Const) and not x.is_float and call.op == "ReduceSum":
        return [Const(x.data.reshape(-1)[slots].sum(axis=-1).reshape(shape))]
    divisor = None if call.op == "ReduceSum" else np.array(float(slots.shape[1]))
    return [_sum_slots(net, net.variable(x), slots, shape, divisor)]


COMPUTE: Mapping[str, Operator] = {
    **dict.fromkeys(("Add", "Sub", "Mul", "Div"), _arithmetic),
    **dict.fromkeys(("Sum", "Mean"), _sum_all),
    **dict.fromkeys(("ReduceSum", "ReduceMean", "GlobalAveragePool"), _reduce),
    "Neg": _neg,
    "MatMul": _matmul,
    "Gemm": _gemm,
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "BatchNormalization": _batch_normalization,
    "AveragePool": _average_pool,
}
