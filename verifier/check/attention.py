"""The Attention operator (opset 23): ``softmax(scale Q K^T + mask) V`` per head."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from verifier.check.calls import ROUND, Call, Operator
from verifier.check.elementwise import summed
from verifier.check.functions import X, const
from verifier.check.functions import call as fn
from verifier.check.fusion import apply
from verifier.check.linear import product_of_variables
from verifier.check.movement import concat
from verifier.check.network import UNMODELLED, Array, Const, Lowering, Value, Var
from verifier.check.rows import softmax


def _heads(net: Lowering, call: Call, i: int, name: str) -> Var:
    """Operand ``i`` as (B, heads, S, D)."""
    x = net.variable(call.operand(i))
    if len(x.shape) == 4:
        return x
    heads = int(call.attributes.get(name, 0))
    if len(x.shape) != 3 or heads < 1 or x.shape[2] % heads:
        raise ValueError(f"{name} = {heads} of a tensor of shape {x.shape}")
    split = net.reshape(x, (*x.shape[:2], heads, x.shape[2] // heads))
    return net.take(split, np.swapaxes(split.index(), 1, 2))


def _attention(net: Lowering, call: Call) -> list[Value]:
    query, key, value = (_heads(net, call, i, f"{k}_num_heads") for i, k in enumerate(("q", "kv", "kv")))
    past = call.optional(4)
    key, value = (
        v if old is None else concat(net, [net.variable(old), v], 2)
        for v, old in ((key, past), (value, call.optional(5)))
    )
    if query.shape[1] % key.shape[1] or call.optional(6) is not None:
        raise call.refuse("heads that do not divide, or sequences of different lengths")
    each = query.shape[1] // key.shape[1]
    keys = net.take(key, np.repeat(np.swapaxes(key.index(), 2, 3), each, axis=1))
    scores = _scaled(net, call, product_of_variables(net, query, keys), query.shape[3])
    scores, keep = _masked(net, call, scores, 0 if past is None else past.shape[2])
    rows = net.reshape(scores, (math.prod(scores.shape[:3]), scores.shape[3]))
    weights = softmax(net, rows, None if keep.all() else keep.reshape(rows.shape))
    weights = net.reshape(weights, scores.shape)
    y = product_of_variables(net, weights, net.take(value, np.repeat(value.index(), each, axis=1)))
    if len(call.operand(0).shape) == 3:
        y = net.take(y, np.swapaxes(y.index(), 1, 2))
        y = net.reshape(y, (*y.shape[:2], y.shape[2] * y.shape[3]))
    return [y, key, value]


def _scaled(net: Lowering, call: Call, scores: Var, size: int) -> Var:
    factor, error = float(call.attributes.get("scale", 0.0)), 0.0
    if factor == 0:
        factor, error = 1 / math.sqrt(size), 2 * ROUND
    scores = net.scaled(scores, np.array(factor), error=error, roundings=UNMODELLED)
    cap = float(call.attributes.get("softcap", 0.0))
    if cap == 0:
        return scores
    if call.optional(3) is not None or call.attributes.get("is_causal", 0):
        raise call.refuse("softcap with a mask")
    capped = fn("*", fn("tanh", fn("/", X, const(cap))), const(cap))
    return apply(net, capped, scores, roundings=UNMODELLED)


def _masked(net: Lowering, call: Call, scores: Var, past: int) -> tuple[Var, Array]:
    """The scores with the mask added, and which elements stay."""
    keep, mask = np.ones(scores.shape, bool), call.optional(3)
    if call.attributes.get("is_causal", 0):
        keep &= np.tri(scores.shape[2], scores.shape[3], past, dtype=bool)
    if isinstance(mask, Const):
        known = mask.data
        keep &= np.broadcast_to(known if known.dtype == np.bool_ else known != -np.inf, scores.shape)
        rest = np.zeros(()) if known.dtype == np.bool_ else np.where(known == -np.inf, 0.0, known)
        return (summed(net, scores, replace(mask, data=rest), 1) if rest.any() else scores), keep
    if mask is not None and mask.dtype == "bool":
        raise call.refuse("a mask of truth values that depends on the input")
    scores = scores if mask is None else summed(net, scores, mask, 1)
    if scores.removed is not None:
        keep &= ~scores.removed
    return replace(scores, removed=None), keep


ATTENTION: Mapping[str, Operator] = {"Attention": _attention}
