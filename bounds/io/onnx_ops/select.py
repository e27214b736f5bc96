"""Operators that compare elements of an axis: ArgMax, TopK, one-hot tensors, gathering by computed index.

Normal form of a comparison of all elements of a row ``(R, K)``: for the pairs j < k in lexicographic order
one difference (TAKE, TAKE, ADD) and one SCALAR of shape ``(R, K (K - 1) / 2)``: 1 where j goes before k,
``STEP(x_j - x_k)`` for the largest first (equal elements keep their order), ``STRICT`` where the last index
wins, with the operands exchanged for the smallest first. The place of i is the number of elements before it
(TAKE, SCALE, SUM); the winner's mark is RELU(1 - place), without the RELU for two elements, where it is the
comparison itself. An index is a LINEAR with weights 0..K-1. All of it is exact in every arithmetic.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from bounds.expression import Fn, X
from bounds.expression import call as apply_fn
from bounds.graph import Array, Op
from bounds.io.context import Builder, Call, Context
from bounds.io.onnx_ops.bilinear import summed
from bounds.io.onnx_ops.lanes import as_node, lanes, positive_axis, unlanes, whole
from bounds.io.onnx_ops.pool import tournament
from bounds.io.onnx_ops.softmax import others, rows_of
from bounds.io.values import Const, Value, Var

_STEP = apply_fn(Fn.STEP, X)
_STRICT = apply_fn(Fn.STRICT, X)
_ZERO = apply_fn(Fn.ZERO, X)
_SORTABLE = 64  # elements of an axis that is sorted: the network has about n log^2 n / 4 comparisons


def before(ctx: Context, x: Var, *, largest: bool, last: bool = False) -> Var:
    """For every pair j < k of a row whether j goes before k: ``(R, K) -> (R, K (K - 1) / 2)``, 0 or 1."""
    n = x.shape[1]
    first, second = np.triu_indices(n, 1)
    ctx.guard((x.shape[0], first.size))
    index = ctx.index(x)
    a, b = ctx.take(x, index[:, first]), ctx.take(x, index[:, second])
    d = ctx.combine([a, b] if largest else [b, a], [1.0, -1.0])
    return ctx.apply(_STRICT if last else _STEP, d, roundings=0)


def places(ctx: Context, wins: Var, n: int) -> Var:
    """The number of elements that go before each: ``(R, n (n - 1) / 2) -> (R, n)``."""
    pair = np.zeros((n, n), np.int64)
    first, second = np.triu_indices(n, 1)
    pair[first, second] = pair[second, first] = np.arange(first.size)
    rival = others(n)
    mine = np.arange(n)[:, None]
    index = ctx.index(wins)[:, pair[mine, rival]]
    sign = np.where(
        mine > rival, 1.0, -1.0
    )  # an earlier rival goes before where it wins, a later one where not
    counted = ctx.scale(ctx.take(wins, index), sign, np.where(mine > rival, 0.0, 1.0))
    return summed(ctx, counted, roundings=0)


def marks(ctx: Context, x: Var, *, largest: bool, last: bool = False) -> Var:
    """1 at the largest (smallest) element of every row, 0 elsewhere: ``(R, K) -> (R, K)``."""
    n = x.shape[1]
    if n == 1:
        return ctx.variable(Const(np.ones(x.shape), x.dtype))
    wins = before(ctx, x, largest=largest, last=last)
    if n == 2:
        return ctx.add(Op.CONCAT, [wins, ctx.scale(wins, -1.0, 1.0)], {"axis": 1})
    return ctx.relu(ctx.scale(places(ctx, wins, n), -1.0, 1.0))


def _arg(*, largest: bool) -> Builder:
    def build(ctx: Context, call: Call) -> list[Value]:
        x = call.operand(0)
        axis = positive_axis(int(call.attributes.get("axis", 0)), len(x.shape))
        if not x.shape[axis]:
            raise ValueError("the axis has no elements")
        last = bool(call.attributes.get("select_last_index", 0))
        shape = tuple(1 if i == axis else s for i, s in enumerate(x.shape))
        if not call.attributes.get("keepdims", 1):
            shape = shape[:axis] + shape[axis + 1 :]
        if isinstance(x, Const) and x.exact:
            return [Const(_arg_constant(x.data, axis, largest=largest, last=last).reshape(shape), "int64")]
        rows = lanes(ctx, as_node(ctx, x), (axis,))
        index = _index_of(ctx, rows, largest=largest, last=last)
        return [replace(ctx.reshape(index, shape), dtype="int64")]

    return build


def _index_of(ctx: Context, rows: Var, *, largest: bool, last: bool) -> Var:
    n = rows.shape[1]
    found = marks(ctx, rows, largest=largest, last=last)
    index = ctx.linear(found, np.arange(n, dtype=np.float64)[None, :], roundings=0)
    ctx.one_hots[index.node] = found
    return index


def _arg_constant(data: Array, axis: int, *, largest: bool, last: bool) -> Array:
    find = np.argmax if largest else np.argmin
    if not last:
        return np.asarray(find(data, axis=axis))
    return data.shape[axis] - 1 - np.asarray(find(np.flip(data, axis), axis=axis))


def _hardmax(ctx: Context, call: Call) -> list[Value]:
    x, axes = rows_of(ctx, call)
    return [unlanes(ctx, marks(ctx, lanes(ctx, x, axes), largest=True), x.shape, axes)]


def _top_k(ctx: Context, call: Call) -> list[Value]:
    """Values by a network of maxima and minima, indices by counting."""
    x = as_node(ctx, call.operand(0))
    axis = positive_axis(int(call.attributes.get("axis", -1)), len(x.shape))
    count, n = call.integers("k", 1), x.shape[axis]
    if count is None or len(count) != 1 or not 0 < count[0] <= n:
        raise ValueError(f"k = {count} of an axis of {n} elements")
    if not call.attributes.get("sorted", 1):
        raise call.unsupported("sorted=0 leaves the order open; export with sorted=1")
    k, largest = count[0], bool(call.attributes.get("largest", 1))
    if n > _SORTABLE and k > 1:
        raise call.unsupported(f"sorting an axis of {n} elements; at most {_SORTABLE}")
    rows = lanes(ctx, x, (axis,))
    shape = tuple(k if i == axis else s for i, s in enumerate(x.shape))
    values = unlanes(ctx, _sorted(ctx, rows, k, largest=largest), shape, (axis,))
    index = unlanes(ctx, _sorted_index(ctx, rows, k, largest=largest), shape, (axis,))
    return [values, replace(index, dtype="int64")]


def _sorted(ctx: Context, x: Var, k: int, *, largest: bool) -> Var:
    """The first k elements of every sorted row: RELU nodes layer by layer of the network."""
    index = ctx.index(x)
    if k == 1:
        slots = [ctx.take(x, index[:, i : i + 1]) for i in range(x.shape[1])]
        return tournament(ctx, slots, largest=largest)
    n = x.shape[1]
    for layer in _network(n, k):
        low, high = np.array(layer).T
        a, b = ctx.take(x, index[:, low]), ctx.take(x, index[:, high])
        excess = ctx.relu(ctx.combine([a, b], [1.0, -1.0]))
        upper, lower = ctx.combine([b, excess], [1.0, 1.0]), ctx.combine([a, excess], [1.0, -1.0])
        everything = ctx.add(Op.CONCAT, [x, upper, lower] if largest else [x, lower, upper], {"axis": 1})
        origin = np.arange(n)
        origin[low], origin[high] = n + np.arange(low.size), n + low.size + np.arange(low.size)
        x = ctx.take(everything, ctx.index(everything)[:, origin])
    return ctx.take(x, index[:, :k])


def _network(n: int, k: int) -> list[list[tuple[int, int]]]:
    """Layers of comparators (i, j), i < j, that bring the first k of n in order.

    Batcher's merge exchange (Knuth, The Art of Computer Programming 3, section 5.2.2, algorithm M), less the
    comparators that the first k places do not depend on.
    """
    layers: list[list[tuple[int, int]]] = []
    top = 1 << max(0, (n - 1).bit_length() - 1)
    p = top
    while p > 0:
        q, r, d = top, 0, p
        while True:
            layers.append([(i, i + d) for i in range(n - d) if i & p == r])
            if q == p:
                break
            d, q, r = q - p, q // 2, p
        p //= 2
    needed = set(range(k))
    useful: list[list[tuple[int, int]]] = []
    for layer in reversed(layers):
        live = [pair for pair in layer if needed & set(pair)]
        needed.update(i for pair in live for i in pair)
        if live:
            useful.append(live)
    return useful[::-1]


def _sorted_index(ctx: Context, x: Var, k: int, *, largest: bool) -> Var:
    """The index of the element with each of the places 0..k-1."""
    rows, n = x.shape
    if n == 1:
        return ctx.variable(Const(np.zeros((rows, 1)), x.dtype))
    if k == 1:
        return _index_of(ctx, x, largest=largest, last=False)
    place = places(ctx, before(ctx, x, largest=largest), n)
    shape = ctx.guard((rows, k, n))
    spread = ctx.take(place, np.broadcast_to(ctx.index(place)[:, None, :], shape))
    here = ctx.apply(_ZERO, ctx.scale(spread, 1.0, -np.arange(k, dtype=np.float64)[:, None]), roundings=0)
    index = ctx.linear(here, np.arange(n, dtype=np.float64)[None, :], roundings=0)
    return ctx.reshape(index, (rows, k))


def one_hot(ctx: Context, index: Var, depth: int) -> Var:
    """``(*s) -> (*s, depth)``: 1 where the index is the position; indices below 0 count from the end.

    What ArgMax found is read off its marks; any other index is compared with every position.
    """
    shape = ctx.guard((*index.shape, depth))
    known = _marks_behind(ctx, index)
    if known is not None:
        found, row = known
        columns = np.arange(depth)
        n = found.shape[1]
        picks = row[:, None] * n + np.minimum(columns, n - 1)
        return ctx.take(found, np.where(columns < n, picks, -1).reshape(shape))
    spread = ctx.take(index, np.broadcast_to(ctx.index(index)[..., None], shape))
    distance = ctx.scale(spread, 1.0, -np.arange(depth, dtype=np.float64))
    return ctx.apply(_ZERO + apply_fn(Fn.ZERO, X + float(depth)), distance, roundings=0)


def _marks_behind(ctx: Context, index: Var) -> tuple[Var, Array] | None:
    """The marks ``(R, n)`` that a computed index was made of, and which of their rows each element reads."""
    node, row = ctx.builder.nodes[index.node], np.arange(math.prod(index.shape))
    while node.id not in ctx.one_hots and node.op in (Op.RESHAPE, Op.TAKE):
        if node.op is Op.TAKE:
            row = node.params["index"][row]
        if np.any(row < 0):
            return None
        node = ctx.builder.nodes[node.inputs[0]]
    found = ctx.one_hots.get(node.id)
    return None if found is None else (found, row)


def _one_hot(ctx: Context, call: Call) -> list[Value]:
    index, depths, levels = call.operand(0), call.constant(1, "depth"), call.operand(2)
    if depths is None or depths.data.size != 1:
        raise ValueError("depth is missing")
    depth = int(depths.data.reshape(-1)[0])
    rank = len(index.shape) + 1
    axis = positive_axis(int(call.attributes.get("axis", -1)), rank)
    if isinstance(levels, Var) or not levels.exact:
        raise call.unsupported("values must be two stored numbers")
    off, on = (float(v) for v in levels.data.reshape(-1))
    if isinstance(index, Const):
        wrapped = np.where(index.data < 0, index.data + depth, index.data)[..., None]
        data = np.where(wrapped == np.arange(depth), levels.data.reshape(-1)[1], levels.data.reshape(-1)[0])
        return [replace(levels, data=np.moveaxis(data, -1, axis), name=call.outputs[0])]
    marked = one_hot(ctx, index, depth)
    y = ctx.move(marked, lambda a: np.moveaxis(a, -1, axis))
    assert isinstance(y, Var)
    y = y if (off, on) == (0.0, 1.0) else ctx.scale(y, on - off, off)
    return [replace(y, dtype=levels.dtype)]


def gather_by_variable(ctx: Context, data: Value, index: Var, axis: int) -> Var:
    """``data[..., index, ...]`` for a computed index: a sum over all positions of the axis.

    One ``one_hot`` tensor; a LINEAR with the table's entries, or a MUL and SUM where data is a node.
    """
    axis = positive_axis(axis, len(data.shape))
    depth = data.shape[axis]
    found = one_hot(ctx, index, depth)  # (*i, depth)
    rest = data.shape[:axis] + data.shape[axis + 1 :]
    size = math.prod(rest)
    table = ctx.move(data, lambda a: np.moveaxis(a, axis, 0).reshape(depth, size))
    if isinstance(table, Const):
        if not table.exact:
            raise ValueError(f"table '{table.name}' is a rounded constant; store its value in the model")
        weights = whole(table)
        assert isinstance(weights, Const)
        y = ctx.linear(found, weights.data.T, roundings=0)  # exactly one term is not zero
        if size == 1 and np.array_equal(weights.data[:, 0], np.arange(depth)):
            ctx.one_hots[y.node] = ctx.reshape(found, (math.prod(index.shape), depth))
    else:
        shape = ctx.guard((*index.shape, size, depth))
        spread = ctx.take(found, np.broadcast_to(ctx.index(found)[..., None, :], shape))
        entries = ctx.take(table, np.broadcast_to(ctx.index(table).T, shape))
        y = summed(ctx, ctx.product(spread, entries, roundings=0), roundings=0)
    y = ctx.reshape(y, (*index.shape, *rest))
    lead = len(index.shape)
    order = (*range(lead, lead + axis), *range(lead), *range(lead + axis, len(y.shape)))
    moved = ctx.move(y, lambda a: np.transpose(a, order))
    assert isinstance(moved, Var)
    return replace(moved, dtype=data.dtype)


BUILDERS: Mapping[str, Builder] = {
    "ArgMax": _arg(largest=True),
    "ArgMin": _arg(largest=False),
    "Hardmax": _hardmax,
    "OneHot": _one_hot,
    "TopK": _top_k,
}
