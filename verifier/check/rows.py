"""ONNX operators on rows of elements: softmax and its kin, sums of functions, running sums, products.

``lanes`` are a tensor as a matrix (R, n): the elements of some axes in C order in its rows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from verifier.check.calls import Call, Operator, positive_axis
from verifier.check.elementwise import absolute
from verifier.check.functions import Function, X, const, power
from verifier.check.functions import call as fn
from verifier.check.fusion import apply, product
from verifier.check.linear import axes_of, dense_last, slots_of, sum_last
from verifier.check.network import UNMODELLED, Array, Const, Lowering, Value, Var, guard

INVERSE = fn("/", const(1), X)
_FLATTENING = 13  # before this opset all axes from `axis` on are one


def _order(shape: tuple[int, ...], axes: Sequence[int]) -> Array:
    index = np.arange(math.prod(shape), dtype=np.int64).reshape(shape)
    n = math.prod(shape[a] for a in axes)
    moved = np.moveaxis(index, tuple(axes), tuple(range(-len(axes), 0)))
    return moved.reshape(index.size // max(1, n), n)


def lanes(net: Lowering, x: Var, axes: Sequence[int]) -> Var:
    """``x`` as (R, n)."""
    return net.take(x, _order(x.shape, axes))


def unlanes(net: Lowering, y: Var, shape: tuple[int, ...], axes: Sequence[int]) -> Var:
    """Undoes :func:`lanes`."""
    order = _order(shape, axes)
    index = np.empty(order.size, np.int64)
    index[order.reshape(-1)] = np.arange(order.size)
    return net.take(y, index.reshape(shape))


def others(n: int) -> Array:
    """(n, n - 1): in row i all of 0..n-1 but i, ascending."""
    column = np.arange(n - 1)
    return column + (column >= np.arange(n)[:, None])


# ------------------------------------------------------------------ softmax
def _differences(net: Lowering, x: Var) -> Var:
    """``x_j - x_i`` for every i and every other j: (R, K, K - 1)."""
    rows, n = x.shape
    index, shape = x.index(), guard((rows, n, n - 1))
    other = net.take(x, index[:, others(n)])
    own = net.take(x, np.broadcast_to(index[:, :, None], shape))
    return net.combine([(1, other), (-1, own)])


def _one_and_sum(net: Lowering, terms: Var) -> Var:
    total = sum_last(net, terms, roundings=0)
    return net.shift(total, np.array(1.0), total.shape)


def softmax(net: Lowering, x: Var, keep: Array | None = None) -> Var:
    """Softmax of every row (R, K); elements outside ``keep`` count as minus infinity."""
    n = x.shape[1]
    if keep is not None and not np.all(keep.any(axis=1)):
        raise ValueError("a row of a softmax is masked entirely")
    if n == 1:
        return net.variable(Const(np.ones(x.shape), dtype=x.dtype))
    if n == 2 and keep is None:
        index = x.index()
        d = net.combine([(1, net.take(x, index[:, :1])), (-1, net.take(x, index[:, 1:]))])
        s = apply(net, fn("sigmoid", X), d, roundings=UNMODELLED)
        return dense_last(net, s, np.array([[1.0], [-1.0]]), np.array([0.0, 1.0]))
    terms = apply(net, fn("exp", X), _differences(net, x), roundings=0)
    if keep is not None:
        terms = net.take(terms, np.where(keep[:, others(n)], terms.index(), -1))
    y = apply(net, INVERSE, _one_and_sum(net, terms), roundings=UNMODELLED)
    return y if keep is None else net.take(y, np.where(keep, y.index(), -1))


def _log_softmax_rows(net: Lowering, x: Var) -> Var:
    rows, n = x.shape
    if n == 1:
        return net.variable(Const(np.zeros(x.shape), dtype=x.dtype))
    d = _differences(net, x)
    if n == 2:
        y = apply(net, fn("neg", fn("softplus", X)), d, roundings=UNMODELLED)
        return net.reshape(y, (rows, n))
    total = _one_and_sum(net, apply(net, fn("exp", X), d, roundings=0))
    return apply(net, fn("neg", fn("log", X)), total, roundings=UNMODELLED)


def _log_sum_exp_rows(net: Lowering, x: Var) -> Var:
    """``x_0 + log(1 + sum_{j > 0} exp(x_j - x_0))``: (R, K) -> (R,)."""
    rows, n = x.shape
    index = x.index()
    first = net.take(x, index[:, 0])
    if n == 1:
        return first
    start = net.take(x, np.broadcast_to(index[:, :1], (rows, n - 1)))
    d = net.combine([(1, net.take(x, index[:, 1:])), (-1, start)])
    if n == 2:
        rest = net.reshape(apply(net, fn("softplus", X), d, roundings=UNMODELLED), (rows,))
    else:
        total = _one_and_sum(net, apply(net, fn("exp", X), d, roundings=0))
        rest = apply(net, fn("log", X), total, roundings=UNMODELLED)
    return net.combine([(1, first), (1, rest)])


def rows_of(net: Lowering, call: Call) -> tuple[Var, tuple[int, ...]]:
    """The operand, and the axes that belong together."""
    x, old = net.variable(call.operand(0)), call.opset < _FLATTENING
    rank = len(x.shape)
    axis = int(call.attributes.get("axis", 1 if old else -1))
    if not x.size:
        raise ValueError("softmax over no elements")
    if old and axis == rank:
        return x, ()
    axis = positive_axis(axis, rank)
    return x, tuple(range(axis, rank)) if old else (axis,)


def _softmax(net: Lowering, call: Call) -> list[Value]:
    x, axes = rows_of(net, call)
    rows = lanes(net, x, axes)
    if call.op == "LogSoftmax":
        return [unlanes(net, _log_softmax_rows(net, rows), x.shape, axes)]
    keep = None if rows.removed is None else ~rows.removed
    return [unlanes(net, softmax(net, replace(rows, removed=None), keep), x.shape, axes)]


# ------------------------------------------------------------------ reductions
_INNER: Mapping[str, Function | None] = {
    "ReduceL1": fn("abs", X),
    "ReduceL2": power(X, 2),
    "ReduceLogSum": None,
    "ReduceSumSquare": power(X, 2),
}
_OUTER: Mapping[str, Function] = {"ReduceL2": fn("sqrt", X), "ReduceLogSum": fn("log", X)}


def _kept(call: Call, x: Var) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """The axes of a reduction and the shape after it; None: no axis."""
    axes = axes_of(call, len(x.shape))
    found = slots_of(call, x)
    if axes is None or found is None:
        return None
    if not found[0].shape[1]:
        raise ValueError("a reduction over no elements")
    return axes, found[1]


def _reduction(net: Lowering, call: Call) -> list[Value]:
    """``outer(sum inner(x))``; a reduction over no axis still applies both."""
    x = net.variable(call.operand(0))
    kept, inner, outer = _kept(call, x), _INNER[call.op], _OUTER.get(call.op)
    y = x if inner is None else absolute(net, x) if call.op == "ReduceL1" else apply(net, inner, x)
    if kept is not None:
        rows = lanes(net, y, kept[0])
        y = net.reshape(sum_last(net, rows, roundings=rows.shape[1]), kept[1])
    return [y if outer is None else apply(net, outer, y)]


def _reduce_log_sum_exp(net: Lowering, call: Call) -> list[Value]:
    x = net.variable(call.operand(0))
    kept = _kept(call, x)
    return [x] if kept is None else [net.reshape(_log_sum_exp_rows(net, lanes(net, x, kept[0])), kept[1])]


def _reduce_prod(net: Lowering, call: Call) -> list[Value]:
    """A balanced tree: pairs (2i, 2i+1), an odd one out passes."""
    x = call.operand(0)
    found = slots_of(call, x)
    if found is None:
        return [x]
    if isinstance(x, Const) and not x.is_float:
        return [replace(x, data=x.data.reshape(-1)[found[0]].prod(axis=-1).reshape(found[1]))]
    v = net.variable(x)
    kept = _kept(call, v)
    assert kept is not None
    rows = lanes(net, v, kept[0])
    index, n = rows.index(), rows.shape[1]
    level = [net.take(rows, index[:, k]) for k in range(n)]
    while len(level) > 1:
        pairs = [product(net, level[i], level[i + 1], roundings=n) for i in range(0, len(level) - 1, 2)]
        level = pairs + level[2 * len(pairs) :]
    return [net.reshape(level[0], kept[1])]


def _cum_sum(net: Lowering, call: Call) -> list[Value]:
    x = call.operand(0)
    axis = positive_axis(int(call.needed(1).reshape(-1)[0]), len(x.shape))
    n = x.shape[axis]
    triangle = np.tril(np.ones(guard((n, n))), -1 if call.attributes.get("exclusive", 0) else 0)
    triangle = triangle.T if call.attributes.get("reverse", 0) else triangle
    if isinstance(x, Const) and not x.is_float:
        data = np.moveaxis(np.moveaxis(x.data, axis, -1) @ triangle.T.astype(np.int64), -1, axis)
        return [replace(x, data=data)]
    v = net.variable(x)
    y = dense_last(net, lanes(net, v, (axis,)), np.ascontiguousarray(triangle), roundings=n)
    return [unlanes(net, y, v.shape, (axis,))]


ROWS: Mapping[str, Operator] = {
    **dict.fromkeys(_INNER, _reduction),
    **dict.fromkeys(("Softmax", "LogSoftmax"), _softmax),
    "CumSum": _cum_sum,
    "ReduceLogSumExp": _reduce_log_sum_exp,
    "ReduceProd": _reduce_prod,
}
