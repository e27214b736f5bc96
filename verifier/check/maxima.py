"""Maxima over windows and axes: tournaments of rectifiers, in the order that the format fixes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from verifier.check.calls import Call, Operator
from verifier.check.linear import planes, slots_of, window_of
from verifier.check.network import Const, Lowering, Value, Var


def tournament(net: Lowering, candidates: Sequence[Var], *, largest: bool) -> Var:
    """Pairs (2i, 2i+1) play; an odd one out passes."""
    play, level = net.maximum if largest else net.minimum, list(candidates)
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
    candidates = [net.take(x, slots[..., k].reshape(shape)) for k in range(slots.shape[-1])]
    return [tournament(net, candidates, largest=True)]


def _reduce_extremum(net: Lowering, call: Call) -> list[Value]:
    x = call.operand(0)
    found = slots_of(call, x)
    if found is None:
        return [x]
    slots, shape = found
    largest = call.op != "ReduceMin"
    if isinstance(x, Const) and x.exact:
        flat = x.data.reshape(-1)[slots]
        return [replace(x, data=(flat.max(axis=-1) if largest else flat.min(axis=-1)).reshape(shape))]
    v = net.variable(x)
    return [tournament(net, [net.take(v, slot.reshape(shape)) for slot in slots.T], largest=largest)]


MAXIMA: Mapping[str, Operator] = {
    **dict.fromkeys(("ReduceMax", "ReduceMin", "GlobalMaxPool"), _reduce_extremum),
    "MaxPool": _max_pool,
}
