"""ONNX operators that compare the elements of an axis, or read and write by index.

Comparing all elements of a row (R, K): for the pairs j < k in lexicographic order one difference and one
scalar node, 1 where j goes before k. The place of an element is the number of those before it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from verifier.check.calls import Call, Operator, moved, positive_axis
from verifier.check.functions import X, const
from verifier.check.functions import call as fn
from verifier.check.fusion import apply, product
from verifier.check.linear import dense_last, sum_last
from verifier.check.maxima import tournament
from verifier.check.movement import concat
from verifier.check.network import Array, Const, Lowering, Take, Value, Var, guard, real, whole
from verifier.check.rows import lanes, others, rows_of, unlanes

_SORTABLE = 64


def _before(net: Lowering, x: Var, *, largest: bool, last: bool = False) -> Var:
    """For every pair j < k whether j goes before k: (R, K (K - 1) / 2)."""
    first, second = np.triu_indices(x.shape[1], 1)
    guard((x.shape[0], first.size))
    a, b = net.take(x, x.index()[:, first]), net.take(x, x.index()[:, second])
    d = net.combine([(1, a), (-1, b)] if largest else [(1, b), (-1, a)])
    return apply(net, fn("strict" if last else "step", X), d, roundings=0)


def _places(net: Lowering, wins: Var, n: int) -> Var:
    """The number of elements that go before each: (R, n)."""
    pair = np.zeros((n, n), np.int64)
    first, second = np.triu_indices(n, 1)
    pair[first, second] = pair[second, first] = np.arange(first.size)
    rival, mine = others(n), np.arange(n)[:, None]
    after = mine > rival  # an earlier rival goes before where it wins, a later one where it does not
    counted = net.take(wins, wins.index()[:, pair[mine, rival]])
    counted = net.scaled(counted, np.where(after, 1.0, -1.0), np.where(after, 0.0, 1.0))
    return sum_last(net, counted, roundings=0)


def _marks(net: Lowering, x: Var, *, largest: bool, last: bool = False) -> Var:
    """1 at the largest (smallest) element of every row, 0 elsewhere."""
    n = x.shape[1]
    if n == 1:
        return net.variable(Const(np.ones(x.shape)))
    wins = _before(net, x, largest=largest, last=last)
    if n == 2:
        return dense_last(net, wins, np.array([[1.0], [-1.0]]), np.array([0.0, 1.0]))
    places = _places(net, wins, n)
    return net.relu(net.scaled(places, np.array(-1.0), np.array(1.0)))


def _index_of(net: Lowering, rows: Var, *, largest: bool, last: bool = False) -> Var:
    found = _marks(net, rows, largest=largest, last=last)
    index = dense_last(net, found, np.arange(rows.shape[1], dtype=np.float64)[None, :])
    net.marks[index.node] = found
    return index


def _arg(net: Lowering, call: Call) -> list[Value]:
    x, largest = call.operand(0), call.op == "ArgMax"
    axis = positive_axis(int(call.attributes.get("axis", 0)), len(x.shape))
    last = bool(call.attributes.get("select_last_index", 0))
    shape = tuple(1 if i == axis else s for i, s in enumerate(x.shape))
    if not call.attributes.get("keepdims", 1):
        shape = shape[:axis] + shape[axis + 1 :]
    if isinstance(x, Const) and x.exact:
        find = np.argmax if largest else np.argmin
        turned = np.flip(x.data, axis) if last else x.data
        found = np.asarray(find(turned, axis=axis))
        return [whole((x.shape[axis] - 1 - found if last else found).reshape(shape))]
    index = _index_of(net, lanes(net, net.variable(x), (axis,)), largest=largest, last=last)
    return [replace(net.reshape(index, shape), dtype="int64")]


def _hardmax(net: Lowering, call: Call) -> list[Value]:
    x, axes = rows_of(net, call)
    return [unlanes(net, _marks(net, lanes(net, x, axes), largest=True), x.shape, axes)]


# ------------------------------------------------------------------ sorting
def _top_k(net: Lowering, call: Call) -> list[Value]:
    x = net.variable(call.operand(0))
    axis = positive_axis(int(call.attributes.get("axis", -1)), len(x.shape))
    count, n = call.integers("k", 1), x.shape[axis]
    if count is None or len(count) != 1 or not 0 < count[0] <= n:
        raise ValueError(f"k = {count} of an axis of {n} elements")
    k, largest = count[0], bool(call.attributes.get("largest", 1))
    if not call.attributes.get("sorted", 1) or (n > _SORTABLE and k > 1):
        raise call.refuse(f"an order that is left open, or {k} of {n} elements")
    rows = lanes(net, x, (axis,))
    shape = tuple(k if i == axis else s for i, s in enumerate(x.shape))
    values = unlanes(net, _sorted(net, rows, k, largest=largest), shape, (axis,))
    index = unlanes(net, _sorted_index(net, rows, k, largest=largest), shape, (axis,))
    return [values, replace(index, dtype="int64")]


def _sorted(net: Lowering, x: Var, k: int, *, largest: bool) -> Var:
    """The first k elements of every sorted row: one rectifier node for each layer of comparators."""
    n = x.shape[1]
    if k == 1:
        slots = [net.take(x, x.index()[:, i : i + 1]) for i in range(n)]
        return tournament(net, slots, largest=largest)
    for layer in _comparators(n, k):
        low, high = np.array(layer).T
        a, b = net.take(x, x.index()[:, low]), net.take(x, x.index()[:, high])
        excess = net.relu(net.combine([(1, a), (-1, b)]))
        upper, lower = net.combine([(1, b), (1, excess)]), net.combine([(1, a), (-1, excess)])
        whole_ = concat(net, [x, upper, lower] if largest else [x, lower, upper], 1)
        origin = np.arange(n)
        origin[low], origin[high] = n + np.arange(low.size), n + low.size + np.arange(low.size)
        x = net.take(whole_, whole_.index()[:, origin])
    return net.take(x, x.index()[:, :k])


def _comparators(n: int, k: int) -> list[list[tuple[int, int]]]:
    """Batcher's merge exchange (Knuth 5.2.2, algorithm M), less what the first k places do not need."""
    layers: list[list[tuple[int, int]]] = []
    top = 1 << max(0, (n - 1).bit_length() - 1)
    p = top
    while p > 0:
        q, r, d = top, 0, p
        layers.append([(i, i + d) for i in range(n - d) if i & p == r])
        while q != p:
            d, q, r = q - p, q // 2, p
            layers.append([(i, i + d) for i in range(n - d) if i & p == r])
        p //= 2
    needed, useful = set(range(k)), list[list[tuple[int, int]]]()
    for layer in reversed(layers):
        live = [pair for pair in layer if needed & set(pair)]
        needed.update(i for pair in live for i in pair)
        if live:
            useful.append(live)
    return useful[::-1]


def _sorted_index(net: Lowering, x: Var, k: int, *, largest: bool) -> Var:
    rows, n = x.shape
    if n == 1:
        return net.variable(Const(np.zeros((rows, 1))))
    if k == 1:
        return _index_of(net, x, largest=largest)
    place = _places(net, _before(net, x, largest=largest), n)
    spread = net.take(place, np.broadcast_to(place.index()[:, None, :], guard((rows, k, n))))
    off = net.shift(spread, -np.arange(k, dtype=np.float64)[:, None], spread.shape)
    here = apply(net, fn("zero", X), off, roundings=0)
    return net.reshape(dense_last(net, here, np.arange(n, dtype=np.float64)[None, :]), (rows, k))


# ------------------------------------------------------------------ computed indices
def _one_hot_of(net: Lowering, index: Var, depth: int) -> Var:
    """(*s) -> (*s, depth): the marks that the index was read off, or a comparison with every position."""
    shape = guard((*index.shape, depth))
    known = _marks_behind(net, index)
    if known is not None:
        found, row = known
        n, columns = found.shape[1], np.arange(depth)
        picks = row[:, None] * n + np.minimum(columns, n - 1)
        return net.take(found, np.where(columns < n, picks, -1).reshape(shape))
    spread = net.take(index, np.broadcast_to(index.index()[..., None], shape))
    distance = net.shift(spread, -np.arange(depth, dtype=np.float64), shape)
    here = fn("+", fn("zero", X), fn("zero", fn("+", X, const(depth))))
    return apply(net, here, distance, roundings=0)


def _marks_behind(net: Lowering, index: Var) -> tuple[Var, Array] | None:
    """The marks (R, n) that a computed index was made of, and which of their rows each element reads."""
    at, row = index.node, np.arange(index.size)
    while at not in net.marks:
        terms = net.nodes[at].terms
        only = len(terms) == 1 and net.nodes[at].bias is None
        if not only or not all(isinstance(m, Take) for m in terms[0][1]):
            return None
        for m in reversed(terms[0][1]):
            assert isinstance(m, Take)
            row = m.index[row]
            if np.any(row < 0):
                return None
        at = terms[0][0]
    return net.marks[at], row


def _one_hot(net: Lowering, call: Call) -> list[Value]:
    index, depth = call.operand(0), int(call.needed(1).reshape(-1)[0])
    levels = call.const(2)
    if levels is None:
        raise ValueError("values are missing")
    axis = positive_axis(int(call.attributes.get("axis", -1)), len(index.shape) + 1)
    off, on = (float(v) for v in levels.data.reshape(-1))
    if isinstance(index, Const):
        wrapped = np.where(index.data < 0, index.data + depth, index.data)[..., None]
        flat = levels.data.reshape(-1)
        data = np.moveaxis(np.where(wrapped == np.arange(depth), flat[1], flat[0]), -1, axis)
        return [replace(levels, data=data)]
    y = moved(net, _one_hot_of(net, index, depth), lambda a: np.moveaxis(a, -1, axis))
    assert isinstance(y, Var)
    if (off, on) != (0.0, 1.0):
        y = net.scaled(y, np.array(on - off), np.array(off))
    return [replace(y, dtype=levels.dtype)]


def _gather(net: Lowering, call: Call) -> list[Value]:
    x, index = call.operand(0), call.operand(1)
    axis = positive_axis(int(call.attributes.get("axis", 0)), len(x.shape))
    if isinstance(index, Var):
        return [_gather_computed(net, call, x, index, axis)]
    at = _wrapped(call.needed(1).astype(np.int64), x.shape[axis])
    return [moved(net, x, lambda a: np.take(a, at, axis))]


def _gather_computed(net: Lowering, call: Call, x: Value, index: Var, axis: int) -> Var:
    """A sum over all positions of the axis; exactly one term is not zero."""
    depth, rest = x.shape[axis], x.shape[:axis] + x.shape[axis + 1 :]
    found, size = _one_hot_of(net, index, depth), math.prod(rest)
    table = moved(net, x, lambda a: np.moveaxis(a, axis, 0).reshape(depth, size))
    if isinstance(table, Const):
        if not table.exact:
            raise call.refuse("a table of rounded constants")
        y = dense_last(net, found, np.ascontiguousarray(real(table).T))
    else:
        shape = guard((*index.shape, size, depth))
        spread = net.take(found, np.broadcast_to(found.index()[..., None, :], shape))
        entries = net.take(table, np.broadcast_to(table.index().T, shape))
        y = sum_last(net, product(net, spread, entries, roundings=0), roundings=0)
    y, lead = net.reshape(y, (*index.shape, *rest)), len(index.shape)
    order = (*range(lead, lead + axis), *range(lead), *range(lead + axis, len(y.shape)))
    return replace(net.take(y, np.transpose(y.index(), order)), dtype=x.dtype)


# ------------------------------------------------------------------ constant indices
def _wrapped(index: Array, size: Array | int) -> Array:
    if np.any((index < -np.asarray(size)) | (index >= np.asarray(size))):
        raise ValueError("indices outside the tensor")
    return np.where(index < 0, index + size, index)


def _elements(index: Array, shape: tuple[int, ...], axis: int) -> Array:
    """Flat positions that an index tensor of the same rank names along ``axis``."""
    if index.ndim != len(shape):
        raise ValueError(f"indices of rank {index.ndim} for a tensor of rank {len(shape)}")
    grid = list(np.indices(index.shape, sparse=True))
    grid[axis] = _wrapped(index, shape[axis])
    return np.asarray(np.ravel_multi_index(np.broadcast_arrays(*grid), shape))


def _slices(index: Array, shape: tuple[int, ...], batch: int) -> Array:
    """Flat positions of what the last axis of an index tensor names after ``batch`` common axes."""
    depth = index.shape[-1]
    if batch + depth > len(shape) or index.shape[:batch] != shape[:batch]:
        raise ValueError(f"indices of shape {index.shape} for a tensor of shape {shape}")
    named = _wrapped(index, np.array(shape[batch : batch + depth], np.int64))
    flat = np.arange(math.prod(shape), dtype=np.int64).reshape(shape)
    lead = np.indices(index.shape[:-1], sparse=True)[:batch]
    return flat[(*lead, *np.moveaxis(named, -1, 0))]


def _named(call: Call, shape: tuple[int, ...]) -> Array:
    if call.op.endswith("ND"):
        return _slices(call.needed(1), shape, int(call.attributes.get("batch_dims", 0)))
    return _elements(call.needed(1), shape, positive_axis(int(call.attributes.get("axis", 0)), len(shape)))


def _gather_named(net: Lowering, call: Call) -> list[Value]:
    x = call.operand(0)
    at = _named(call, x.shape)
    return [moved(net, x, lambda a: a.reshape(-1)[at])]


def _layers(at: Array, size: int) -> list[Array]:
    """For r = 0, 1, ...: of every element the position of its r-th update, or -1."""
    seen, layers = np.zeros(size, np.int64), list[Array]()
    for position, target in enumerate(at):
        if seen[target] == len(layers):
            layers.append(np.full(size, -1, np.int64))
        layers[seen[target]][target] = position
        seen[target] += 1
    return layers


def _scatter(net: Lowering, call: Call) -> list[Value]:
    x, updates, mode = call.operand(0), call.operand(2), call.text("reduction", "none")
    at = _named(call, x.shape)
    if updates.shape != at.shape:
        raise ValueError(f"updates of shape {updates.shape}, indices name shape {at.shape}")
    if mode == "none":
        last = np.arange(math.prod(x.shape))
        last[at.reshape(-1)] = len(last) + np.arange(at.size)
        if isinstance(x, Const) and isinstance(updates, Const) and x.exact and updates.exact:
            both = np.concatenate([x.data.reshape(-1), updates.data.reshape(-1)])
            return [replace(x, data=both[last].reshape(x.shape))]
        return [_joined(net, net.variable(x), net.variable(updates), last)]
    y, u, layers = net.variable(x), net.variable(updates), _layers(at.reshape(-1), math.prod(x.shape))
    if mode == "add":
        parts = [net.take(u, layer.reshape(y.shape)) for layer in layers]
        return [net.combine([(1, v) for v in (y, *parts)], roundings=len(parts))]
    for layer in layers:
        if mode == "mul":
            factor = net.take(u, layer.reshape(y.shape), np.where(layer < 0, 1.0, 0.0).reshape(y.shape))
            y = product(net, y, factor, roundings=len(layers))
        elif mode in ("max", "min"):
            other = _joined(net, y, u, np.where(layer < 0, np.arange(y.size), layer + y.size))
            y = (net.maximum if mode == "max" else net.minimum)(y, other)
        else:
            raise call.refuse(f"reduction {mode}")
    return [y]


def _joined(net: Lowering, x: Var, updates: Var, index: Array) -> Var:
    """Elements of ``x`` and the updates, one after the other, by index; in the shape of ``x``."""
    both = concat(net, [net.reshape(v, (v.size,)) for v in (x, updates)], 0)
    return replace(net.take(both, index.reshape(x.shape)), dtype=x.dtype)


SELECTION: Mapping[str, Operator] = {
    **dict.fromkeys(("ArgMax", "ArgMin"), _arg),
    **dict.fromkeys(("GatherElements", "GatherND"), _gather_named),
    **dict.fromkeys(("Scatter", "ScatterElements", "ScatterND"), _scatter),
    "Gather": _gather,
    "Hardmax": _hardmax,
    "OneHot": _one_hot,
    "TopK": _top_k,
}
