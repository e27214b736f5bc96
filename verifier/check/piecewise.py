"""ONNX operators that are piecewise linear, and their rectifiers in the order that the format fixes."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from verifier.check.network import Array, Chain, Const, Lowering, Scale, Value, Var, expand
from verifier.check.operators import ROUND, Call, Operator, planes, slots_of, two_sum, window_of


def _tournament(net: Lowering, level: list[Var], *, largest: bool) -> Var:
    """Pairs (2i, 2i+1) play; an odd one out passes."""
    play = net.maximum if largest else net.minimum
    while len(level) > 1:
        pairs = [play(level[i], level[i + 1]) for i in range(0, len(level) - 1, 2)]
        level = pairs + level[2 * len(pairs) :]
    return level[0]


def _max_pool(net: Lowering, call: Call) -> list[Value]:
    if call.attributes.get("storage_order", 0) or call.outputs > 1:
        raise call.refuse("indices of the maximum")
    x = net.variable(call.operand(0))
    window = window_of(call, x.shape[2:], call.integers("kernel_shape") or ())
    index = window.index()
    if (index.max(axis=1) < 0).any():
        raise ValueError("a window lies entirely in the padding")
    first = index[np.arange(len(index)), (index >= 0).argmax(axis=1)]
    slots = planes(x, np.where(index < 0, first[:, None], index))
    shape = (*x.shape[:2], *window.out)
    return [
        _tournament(
            net, [net.take(x, slots[..., k].reshape(shape)) for k in range(slots.shape[-1])], largest=True
        )
    ]


def _reduce_extremum(net: Lowering, call: Call) -> list[Value]:
    x = net.variable(call.operand(0))
    found = slots_of(call, x)
    if found is None:
        return [x]
    level = [net.take(x, slot.reshape(found[1])) for slot in found[0].T]
    return [_tournament(net, level, largest=call.op != "ReduceMin")]


def _folded(call: Call, function: Callable[[Array], Array]) -> list[Value] | None:
    x = call.operand(0)
    if isinstance(x, Var):
        return None
    if not x.exact:
        raise call.refuse("a rounded constant")
    return [Const(np.asarray(function(x.data)))]


def _relu(net: Lowering, call: Call) -> list[Value]:
    return _folded(call, lambda x: np.maximum(x, 0)) or [net.relu(net.variable(call.operand(0)))]


def _abs(net: Lowering, call: Call) -> list[Value]:
    """``2 relu(x) - x``."""
    folded = _folded(call, np.abs)
    if folded:
        return folded
    x = net.variable(call.operand(0))
    return [net.combine([(2, net.relu(x)), (-1, x)])]


def _leaky_relu(net: Lowering, call: Call) -> list[Value]:
    """``s x + (1 - s) relu(x)``; one rounding (the product)."""
    x = net.variable(call.operand(0))
    slope = np.asarray(float(call.attributes.get("alpha", np.float32(0.01))))
    if call.op == "PRelu":
        slope = call.needed(1)
    rest, lost = two_sum(np.ones_like(slope), -slope)
    shape = np.broadcast_shapes(x.shape, slope.shape)
    s, r = (Scale(np.broadcast_to(v, shape).astype(np.float64)) for v in (slope, rest))
    terms: list[tuple[Var, Chain]] = [(x, (*expand(x, shape), s)), (y := net.relu(x), (*expand(y, shape), r))]
    return [net.affine(terms, shape, error=ROUND if lost.any() else 0.0, roundings=1)]


def _clip(net: Lowering, call: Call) -> list[Value]:
    low, high = _limit(call, 1, "min", -np.inf), _limit(call, 2, "max", np.inf)
    folded = _folded(call, lambda x: np.minimum(np.maximum(x, low), high))
    return folded or [_clipped(net, call, net.variable(call.operand(0)), low, high)]


def _limit(call: Call, i: int, name: str, missing: float) -> float:
    const = call.const(i)
    if const is not None and const.data.size != 1:
        raise call.refuse(f"{name} is not one number")
    value = float(call.attributes.get(name, missing) if const is None else const.data.reshape(-1)[0])
    # beyond the largest float32 only overflow is clipped, and no verdict speaks about overflow
    return missing if abs(value) >= float(np.finfo(np.float32).max) and value * missing > 0 else value


def _clipped(net: Lowering, call: Call, x: Var, low: float, high: float) -> Var:
    """``low + relu(x - low) - relu(x - high)``, without what is infinite."""
    if not low <= high or (low == high and np.isinf(low)):
        raise call.refuse(f"limits {low} and {high}")

    def excess(limit: float) -> Var:
        return net.relu(net.shift(x, np.array(-limit), x.shape) if limit else x)

    y = excess(low) if np.isfinite(low) else x
    if np.isfinite(high):
        y = net.combine([(1, y), (-1, excess(high))])
    return net.affine([(y, ())], y.shape, np.array(low)) if np.isfinite(low) and low else y


def _extremum(net: Lowering, call: Call) -> list[Value]:
    """Left fold of ``b + relu(a - b)`` or ``b - relu(b - a)``; constants among themselves are folded."""
    largest = call.op == "Max"
    total = call.operand(0)
    for i in range(1, len(call.operands)):
        other = call.operand(i)
        if isinstance(total, Const) and isinstance(other, Const):
            if not (total.exact and other.exact):
                raise call.refuse("rounded constants")
            total = Const(np.asarray((np.maximum if largest else np.minimum)(total.data, other.data)))
        else:
            play = net.maximum if largest else net.minimum
            total = play(net.variable(total), net.variable(other))
    return [total]


PIECEWISE: Mapping[str, Operator] = {
    **dict.fromkeys(("Max", "Min"), _extremum),
    **dict.fromkeys(("LeakyRelu", "PRelu"), _leaky_relu),
    **dict.fromkeys(("ReduceMax", "ReduceMin", "GlobalMaxPool"), _reduce_extremum),
    "MaxPool": _max_pool,
    "Relu": _relu,
    "Abs": _abs,
    "Clip": _clip,
}
