"""Tensors as rows of a matrix: what reads whole axes (softmax, sorting, norms) speaks of lanes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from bounds.graph import Array
from bounds.io.context import Context
from bounds.io.values import Const, Value, Var

_WHOLE = 1 << 53  # whole numbers up to here are exact in float64


def positive_axis(axis: int, rank: int) -> int:
    """``axis`` counted from the front; raises ``ValueError`` where there is none."""
    if not -rank <= axis < rank:
        raise ValueError(f"axis {axis} of a tensor of rank {rank}")
    return axis % rank


def lanes(ctx: Context, x: Var, axes: Sequence[int]) -> Var:
    """``x`` as ``(R, n)``: the elements of ``axes`` in C order in the rows, one row per other position."""
    return ctx.take(x, _order(x.shape, axes))


def unlanes(ctx: Context, y: Var, shape: tuple[int, ...], axes: Sequence[int]) -> Var:
    """Undoes :func:`lanes`: ``y`` of shape ``(R, n)`` as a tensor of ``shape``."""
    order = _order(shape, axes)
    index = np.empty(order.size, np.int64)
    index[order.ravel()] = np.arange(order.size)
    return ctx.take(y, index.reshape(shape))


def _order(shape: tuple[int, ...], axes: Sequence[int]) -> Array:
    index = np.arange(math.prod(shape), dtype=np.int64).reshape(shape)
    n = math.prod(shape[a] for a in axes)
    moved = np.moveaxis(index, tuple(axes), tuple(range(-len(axes), 0)))
    return moved.reshape(index.size // max(1, n), n)


def whole(value: Value) -> Value:
    """A constant of integers as one of floats with the same values, to meet whole-number nodes."""
    if isinstance(value, Var) or value.is_float:
        return value
    data = np.asarray(value.data, np.float64)
    if np.any(np.abs(data) > _WHOLE):
        raise ValueError(f"tensor '{value.name}' holds integers over 2^53")
    return replace(value, data=data)


def as_node(ctx: Context, value: Value) -> Var:
    """The value as a node, whole numbers included; keeps the element type."""
    var = ctx.variable(whole(value))
    return replace(var, dtype=value.dtype) if isinstance(value, Const) else var
