"""Slices and scatters at a place that the network computes, such as a patch pasted into an image.

A slice from a computed start to the same start plus a constant is a gather of ``start + 0, 1, ...``. A
scatter of one number by computed indices marks the elements that it hits: every computed coordinate has
its one-hot marks, several are joined by ``RELU(m_1 + m_2 + ... - (c - 1))`` (each combination once, in
lexicographic order of the marks), an element hit in several ways takes ``1 - RELU(1 - sum)``. All exact.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bounds.graph import Array, Node, Op
from bounds.io import values
from bounds.io.context import Call, Context
from bounds.io.onnx_ops.scatter import layers_of
from bounds.io.onnx_ops.select import gather_by_variable, one_hot
from bounds.io.values import Const, Value, Var

_CONSTANT = -1
_TRACED = 1 << 16  # elements of an index tensor, each followed on its own
_COMBINATIONS = 1 << 24


@dataclass(frozen=True, slots=True)
class _Origin:
    """An element is ``node.flat[at] + shift``; the node ``_CONSTANT`` stands for zero."""

    node: int
    at: int
    shift: float


def _origin(ctx: Context, value: Value, at: int) -> _Origin:
    if isinstance(value, Const):
        return _Origin(_CONSTANT, 0, float(value.data.flat[at]))
    node, shift = ctx.builder.nodes[value.node], 0.0
    while node.id not in ctx.one_hots:
        source = 0
        if node.op is Op.TAKE:
            if node.params["index"][at] < 0:
                return _Origin(_CONSTANT, 0, shift + float(node.params["fill"][at]))
            at = int(node.params["index"][at])
        elif node.op is Op.SCALE and np.all(node.params["scale"] == 1):
            shift += float(np.broadcast_to(node.params["shift"], node.shape).flat[at])
        elif node.op is Op.CONCAT:
            source, at = _part(ctx, node, at)
        elif node.op is not Op.RESHAPE:
            break
        node = ctx.builder.nodes[node.inputs[source]]
    return _Origin(node.id, at, shift)


def _part(ctx: Context, node: Node, at: int) -> tuple[int, int]:
    """Which operand of a concatenation an element comes from, and where it is there."""
    axis, place = node.params["axis"], list(np.unravel_index(at, node.shape))
    for k, source in enumerate(node.inputs):
        shape = ctx.builder.nodes[source].shape
        if place[axis] < shape[axis]:
            return k, int(np.ravel_multi_index(place, shape))
        place[axis] -= shape[axis]
    raise IndexError(at)


def slice_by_variable(
    ctx: Context, call: Call, x: Value, bounds: tuple[Value, Value], axes: Sequence[int]
) -> Value:
    """``x[start:end]`` along each axis, one element of start and end (``bounds``) per axis; step 1."""
    for i, axis in enumerate(axes):
        start, end = (_origin(ctx, b, i) for b in bounds)
        length = end.shift - start.shift
        if (start.node, start.at) != (end.node, end.at) or start.node == _CONSTANT or not length > 0:
            raise call.unsupported(
                "a slice whose length depends on the network input; export with fixed shapes"
            )
        count = int(length)
        window = np.arange(count, dtype=np.float64)
        if isinstance(x, Const) and np.all(x.data == np.take(x.data, [0], axis)):
            x = ctx.move(x, lambda a, n=count, k=axis: np.take(a, np.arange(n), k))
            continue
        node = ctx.builder.nodes[start.node]
        root = ctx.take(Var(node.id, node.shape, "int64"), np.full(count, start.at))
        x = gather_by_variable(ctx, x, ctx.scale(root, 1.0, start.shift + window), axis)
    return x


def scatter_by_variable(ctx: Context, call: Call, x: Const, index: Var, value: Const) -> Var:
    """``x`` with one number (``value``) at the places that ``index`` ``(..., depth)`` names."""
    depth = index.shape[-1]
    shape = x.shape[:depth]
    marks, where, places = _combinations(ctx, call, index, shape)
    groups, member = np.unique(where, axis=0, return_inverse=True)
    chosen = [ctx.take(marks, groups[:, k], 1.0) for k in range(groups.shape[1])]
    found = chosen[0]
    if len(chosen) > 1:
        total = ctx.combine(chosen, [1.0] * len(chosen))
        found = ctx.relu(ctx.scale(total, 1.0, 1.0 - len(chosen)))
    pairs = np.unique(np.stack([places, member.reshape(-1)]), axis=1)
    layers = layers_of(pairs[0], math.prod(shape))
    parts = [ctx.take(found, np.where(k < 0, -1, pairs[1][k])) for k in layers]
    hit = parts[0]
    if len(parts) > 1:
        missed = ctx.relu(ctx.scale(ctx.combine(parts, [1.0] * len(parts)), -1.0, 1.0))
        hit = ctx.scale(missed, -1.0, 1.0)
    hit = ctx.reshape(hit, (*shape, *(1,) * (len(x.shape) - depth)))
    change = values.add(value, values.negate(x))
    if change is None:
        raise call.unsupported("rounded constants; store their values in the model")
    return ctx.scale(hit, change.data, x.data, error=change.error)


def _combinations(ctx: Context, call: Call, index: Var, shape: tuple[int, ...]) -> tuple[Var, Array, Array]:
    """Marks ``(m,)``; ``(c, depth)`` which of them (-1: none needed) say that place ``(c,)`` is hit."""
    depth, size = index.shape[-1], math.prod(index.shape)
    if size > _TRACED:
        raise call.unsupported(f"{size} computed indices; at most {_TRACED}")
    flat: list[Var] = []
    starts: dict[int, tuple[int, int]] = {}  # node of marks -> its first mark, their number per row
    rows: list[list[tuple[Array, Array]]] = []
    for update in range(size // depth):
        row: list[tuple[Array, Array]] = []
        for c in range(depth):
            origin = _origin(ctx, index, update * depth + c)
            if origin.node == _CONSTANT:
                place = int(origin.shift) + (shape[c] if origin.shift < 0 else 0)
                row.append((np.array([place]), np.array([-1])))
                continue
            key, at, n = _marks_of(ctx, origin, shape[c])
            if key.node not in starts:
                starts[key.node] = (sum(math.prod(v.shape) for v in flat), n)
                flat.append(ctx.reshape(key, (math.prod(key.shape),)))
            reach = np.arange(min(n, shape[c]))
            row.append((reach, starts[key.node][0] + at * n + reach))
        rows.append(row)
    total = sum(math.prod(len(p) for p, _ in row) for row in rows)
    if total > _COMBINATIONS or not flat:
        raise call.unsupported(f"{total} elements may be hit; at most {_COMBINATIONS}")
    where, places = [], []
    for row in rows:
        grid = np.meshgrid(*(p for p, _ in row), indexing="ij")
        refs = np.meshgrid(*(r for _, r in row), indexing="ij")
        places.append(np.ravel_multi_index([g.ravel() for g in grid], shape))
        where.append(np.stack([r.ravel() for r in refs], axis=1))
    marks = ctx.add(Op.CONCAT, flat, {"axis": 0}) if len(flat) > 1 else flat[0]
    combined = np.concatenate(where)
    return marks, combined[:, (combined >= 0).any(axis=0)], np.concatenate(places)


def _marks_of(ctx: Context, origin: _Origin, size: int) -> tuple[Var, int, int]:
    """Marks ``(R, n)`` of a computed coordinate, its row among them, and n."""
    known = ctx.one_hots.get(origin.node)
    if known is not None and origin.shift == 0:
        return known, origin.at, known.shape[1]
    node = ctx.builder.nodes[origin.node]
    element = ctx.take(Var(node.id, node.shape, "int64"), np.array([origin.at]))
    return one_hot(ctx, ctx.scale(element, 1.0, origin.shift) if origin.shift else element, size), 0, size
