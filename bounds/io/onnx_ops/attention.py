"""The Attention operator (opset 23): ``softmax(scale Q K^T + mask) V`` per head.

Normal form: the product of two variables (TAKE, TAKE, MUL, SUM), a SCALE, ADD of a computed mask, the softmax
of every row (masked elements give no term), and the product with the values. A constant mask that is false or
minus infinity removes elements; its finite numbers are added. How runtimes round is not analysed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from bounds.expression import Fn, X
from bounds.expression import call as apply_fn
from bounds.graph import UNMODELLED, Array, Op
from bounds.io import values
from bounds.io.context import Builder, Call, Context
from bounds.io.onnx_ops.arithmetic import sum_of
from bounds.io.onnx_ops.bilinear import product_of_variables
from bounds.io.onnx_ops.softmax import softmax
from bounds.io.values import Const, Value, Var


def _heads(ctx: Context, call: Call, i: int, name: str) -> Var:
    """Operand ``i`` as ``(B, heads, S, D)``."""
    x = ctx.variable(call.operand(i))
    if len(x.shape) == 4:
        return x
    heads = int(call.attributes.get(name, 0))
    if len(x.shape) != 3 or heads < 1 or x.shape[2] % heads:
        raise ValueError(f"{name} = {heads} of a tensor of shape {list(x.shape)}")
    split = ctx.reshape(x, (*x.shape[:2], heads, x.shape[2] // heads))
    return ctx.take(split, np.swapaxes(ctx.index(split), 1, 2))


def _after(ctx: Context, call: Call, i: int, x: Var) -> Var:
    """``x`` after the past that operand ``i`` holds."""
    past = call.optional(i)
    return x if past is None else ctx.add(Op.CONCAT, [ctx.variable(past), x], {"axis": 2})


def _attention(ctx: Context, call: Call) -> list[Value]:
    query = _heads(ctx, call, 0, "q_num_heads")
    key = _after(ctx, call, 4, _heads(ctx, call, 1, "kv_num_heads"))
    value = _after(ctx, call, 5, _heads(ctx, call, 2, "kv_num_heads"))
    if query.shape[1] % key.shape[1] or call.optional(6) is not None:
        raise call.unsupported(
            "heads that do not divide, or sequences of different lengths; use plain attention"
        )
    each = query.shape[1] // key.shape[1]
    keys = ctx.take(key, np.repeat(np.swapaxes(ctx.index(key), 2, 3), each, axis=1))
    scores = _scaled(ctx, call, product_of_variables(ctx, query, keys), query.shape[3])
    scores, keep = _masked(ctx, call, scores, key.shape[2] - _new(call, key))
    rows = ctx.reshape(scores, (math.prod(scores.shape[:3]), scores.shape[3]))
    weights = softmax(ctx, rows, None if keep is None else keep.reshape(rows.shape))
    weights = ctx.reshape(weights, scores.shape)
    repeated = ctx.take(value, np.repeat(ctx.index(value), each, axis=1))
    y = product_of_variables(ctx, weights, repeated)
    if len(call.operand(0).shape) == 3:
        y = ctx.take(y, np.swapaxes(ctx.index(y), 1, 2))
        y = ctx.reshape(y, (*y.shape[:2], y.shape[2] * y.shape[3]))
    return [y, key, value]


def _new(call: Call, key: Var) -> int:
    """Positions of the sequence that are not past."""
    past = call.optional(4)
    return key.shape[2] - (0 if past is None else past.shape[2])


def _scaled(ctx: Context, call: Call, scores: Var, size: int) -> Var:
    factor, error = float(call.attributes.get("scale", 0.0)), 0.0
    if factor == 0:
        factor, error = 1 / math.sqrt(size), 2 * values.ROUND
    scores = ctx.scale(scores, factor, 0.0, roundings=UNMODELLED, error=error)
    cap = float(call.attributes.get("softcap", 0.0))
    if cap == 0:
        return scores
    if call.optional(3) is not None or call.attributes.get("is_causal", 0):
        raise call.unsupported("softcap with a mask; export the attention in elementary operators")
    return ctx.apply(apply_fn(Fn.TANH, X / cap) * cap, scores, roundings=UNMODELLED)


def _masked(ctx: Context, call: Call, scores: Var, past: int) -> tuple[Var, Array | None]:
    """The scores with the mask added, and which elements stay (None: all)."""
    keep = np.ones(scores.shape, bool)
    if call.attributes.get("is_causal", 0):
        keep &= np.tri(scores.shape[2], scores.shape[3], past, dtype=bool)
    mask = call.optional(3)
    if isinstance(mask, Const):
        if mask.data.dtype == np.bool_:
            keep &= np.broadcast_to(mask.data, scores.shape)
            mask = None
        else:
            keep &= np.broadcast_to(mask.data != -np.inf, scores.shape)
            mask = replace(mask, data=np.where(mask.data == -np.inf, 0.0, mask.data))
            mask = mask if np.any(mask.data) else None
    elif mask is not None and mask.dtype == "bool":
        raise call.unsupported("a mask of truth values that depends on the network input")
    if mask is not None:
        scores = ctx.variable(sum_of(ctx, scores, mask, 1.0))
        if scores.masked is not None:
            keep &= ~scores.masked
            scores = replace(scores, masked=None)
    return scores, None if np.all(keep) else keep


BUILDERS: Mapping[str, Builder] = {"Attention": _attention}
