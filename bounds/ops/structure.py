"""Elementwise-affine and data-movement primitives: SCALE, ADD, TAKE, CONCAT, SUM."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any

import numpy as np

from bounds.graph import Array, Graph, Node
from bounds.kernels.base import Kernels
from bounds.ops.base import AffineMap, sign_of


class ScaleMap(AffineMap):
    """``y = scale * x + shift``; both broadcast against ``shape``."""

    def __init__(self, kernels: Kernels, scale: Array, shift: Array, shape: tuple[int, ...]) -> None:
        flat = np.broadcast_to(scale, shape).reshape(-1)
        super().__init__(kernels, (flat.size,), flat.size)
        self.shape = shape
        self.separate = True
        self._scale = self.constant(flat)
        self._abs = kernels.array(np.abs(flat))
        self.signs = sign_of(flat)
        self.set_bias(np.broadcast_to(shift, shape).reshape(-1))

    def with_constants(self, constants: Mapping[str, Any]) -> AffineMap:
        out, k = copy(self), self.kernels
        out._scale, out.bias = (
            k.take(values.reshape(-1), k.array(_broadcast_index(tuple(values.shape), self.shape)))
            for values in (constants["scale"], constants["shift"])
        )
        out._abs, out.bias_abs = abs(out._scale), abs(out.bias)
        out.signs, out.whole = None, False
        return out

    def apply(self, xs: Sequence[Any]) -> Any:
        return xs[0] * self._scale

    def apply_abs(self, xs: Sequence[Any]) -> Any:
        return xs[0] * self._abs

    def adjoint(self, a: Any) -> tuple[Any, ...]:
        return (a * self._scale,)

    def closure(self, index: Array) -> Array:
        return index

    def restricted(self, index: Array) -> tuple[AffineMap, tuple[Array, ...]]:
        out, k = self.part((len(index),), index), self.kernels
        out._scale, out._abs = (k.take(v, k.array(index)) for v in (self._scale, self._abs))
        return out, (index,)


class AddMap(AffineMap):
    """``y = sum_k c_k x_k``."""

    def __init__(self, kernels: Kernels, coefficients: Sequence[float], size: int) -> None:
        super().__init__(kernels, [size] * len(coefficients), size)
        self.terms = len(coefficients)
        self._c = self.constant(np.asarray(coefficients, dtype=np.float64))
        self.signs = tuple(1 if c >= 0 else -1 for c in coefficients)

    def apply(self, xs: Sequence[Any]) -> Any:
        return self._combine(xs, list(self._c))

    def apply_abs(self, xs: Sequence[Any]) -> Any:
        return self._combine(xs, [abs(c) for c in self._c])

    def _combine(self, xs: Sequence[Any], coefficients: Sequence[Any]) -> Any:
        out = xs[0] * coefficients[0]
        for c, x in zip(coefficients[1:], xs[1:], strict=True):
            out = out + x * c
        return out

    def adjoint(self, a: Any) -> tuple[Any, ...]:
        return tuple(a * c for c in self._c)

    def closure(self, index: Array) -> Array:
        return index

    def restricted(self, index: Array) -> tuple[AffineMap, tuple[Array, ...]]:
        return self.part([len(index)] * len(self.sizes), index), (index,) * len(self.sizes)


class TakeMap(AffineMap):
    """``y[i] = x[index[i]]``, or a constant where the index is -1."""

    signs = (1,)

    def __init__(self, kernels: Kernels, index: Array, fill: Array | None, inner: int) -> None:
        index = index.reshape(-1).astype(np.intp)
        self.moves = index
        super().__init__(kernels, (inner,), index.size)
        live = np.flatnonzero(index >= 0)
        counts = self._read(live, index[live])
        self.terms = max(1, int(counts.max(initial=0)))
        self.separate = self.terms == 1
        if fill is not None:
            self.set_bias(np.where(index < 0, np.broadcast_to(fill, index.shape), 0.0))

    def _read(self, live: Array, source: Array) -> Array:
        """Stores which elements are moved from where; how often each operand element is (``inner``)."""
        k, inner = self.kernels, self.sizes[0]
        self._live, self._source = k.array(live), k.array(source)
        self._whole = live.size == self.size
        counts = np.bincount(source, minlength=inner)
        self._injective = int(counts.max(initial=0)) <= 1
        # elements that are all repeated equally often: their readers, a table to sum over
        self._readers = None
        if not self._injective and counts.min(initial=0) == counts.max():
            self._readers = k.array(np.argsort(source, kind="stable").reshape(inner, -1))
        return counts

    def apply(self, xs: Sequence[Any]) -> Any:
        values = self.kernels.columns(xs[0], self._source)
        return values if self._whole else self.kernels.spread(values, self._live, self.size, unique=True)

    apply_abs = apply

    def adjoint(self, a: Any) -> tuple[Any, ...]:
        live = a if self._whole else self.kernels.columns(a, self._live)
        if self._readers is not None:
            return (self.kernels.sum(self.kernels.columns(live, self._readers), 2),)
        return (self.kernels.spread(live, self._source, self.sizes[0], unique=self._injective),)

    def closure(self, index: Array) -> Array:
        return index

    def restricted(self, index: Array) -> tuple[AffineMap, tuple[Array, ...]]:
        assert self.moves is not None
        moves = self.moves[index]
        live = np.flatnonzero(moves >= 0)
        sources, places = np.unique(moves[live], return_inverse=True)
        out = self.part((len(sources),), index)
        out._read(live, places)
        out.moves = np.full(len(index), -1, dtype=np.intp)
        out.moves[live] = places
        return out, (sources,)


class ConcatMap(AffineMap):
    """Concatenation along one axis, as one permutation of the stacked operands."""

    def __init__(self, kernels: Kernels, shapes: Sequence[tuple[int, ...]], axis: int) -> None:
        sizes = [int(np.prod(s, dtype=np.int64)) for s in shapes]
        super().__init__(kernels, sizes, sum(sizes))
        self.signs = (1,) * len(sizes)
        starts = np.cumsum([0, *sizes])
        pieces = [np.arange(sizes[i]).reshape(s) + starts[i] for i, s in enumerate(shapes)]
        order = np.concatenate(pieces, axis=axis).reshape(-1)
        self._order, self._inverse = kernels.array(order), kernels.array(np.argsort(order))
        self._plain = bool(np.all(order == np.arange(order.size)))
        self._starts = starts

    def apply(self, xs: Sequence[Any]) -> Any:
        stacked = self.kernels.concat(list(xs), axis=1)
        return stacked if self._plain else self.kernels.columns(stacked, self._order)

    apply_abs = apply

    def joined(self, parts: Sequence[Array]) -> Array:
        """Labels of the operands' elements (one array each), as labels of the value's."""
        return np.concatenate(parts)[np.asarray(self.kernels.numpy(self._order)).astype(np.intp)]

    def adjoint(self, a: Any) -> tuple[Any, ...]:
        back = a if self._plain else self.kernels.columns(a, self._inverse)
        return tuple(back[:, s:e] for s, e in zip(self._starts[:-1], self._starts[1:], strict=True))

    def closure(self, index: Array) -> Array:
        return index

    def restricted(self, index: Array) -> tuple[AffineMap, tuple[Array, ...]]:
        k = self.kernels
        stacked = np.asarray(k.numpy(self._order)).astype(np.intp)[index]
        read = np.sort(stacked)
        at = np.searchsorted(read, self._starts)
        sources = tuple(read[s:e] - o for s, e, o in zip(at[:-1], at[1:], self._starts[:-1], strict=True))
        out, order = self.part([len(s) for s in sources], index), np.searchsorted(read, stacked)
        out._order, out._inverse = k.array(order), k.array(np.argsort(order))
        out._plain, out._starts = bool(np.all(order == np.arange(order.size))), at
        return out, sources


class SumMap(AffineMap):
    """Sum over axes of the value (dropped from the shape)."""

    signs = (1,)

    def __init__(self, kernels: Kernels, shape: tuple[int, ...], axes: Sequence[int]) -> None:
        rank = len(shape)
        axes = sorted(a % rank for a in axes)
        kept = [a for a in range(rank) if a not in axes]
        inner = int(np.prod([shape[a] for a in axes], dtype=np.int64))
        size = int(np.prod([shape[a] for a in kept], dtype=np.int64))
        super().__init__(kernels, (inner * size,), size)
        self.terms = inner
        positions = np.arange(inner * size).reshape(shape).transpose(*kept, *axes)
        gather = positions.reshape(size, inner)
        owner = np.empty(inner * size, dtype=np.intp)
        owner[gather] = np.arange(size)[:, None]
        self._gather, self._owner = kernels.array(gather), kernels.array(owner)

    def apply(self, xs: Sequence[Any]) -> Any:
        return self.kernels.sum(self.kernels.columns(xs[0], self._gather), 2)

    apply_abs = apply

    def adjoint(self, a: Any) -> tuple[Any, ...]:
        return (self.kernels.columns(a, self._owner),)

    def closure(self, index: Array) -> Array:
        return index

    def restricted(self, index: Array) -> tuple[AffineMap, tuple[Array, ...]]:
        k = self.kernels
        read = np.asarray(k.numpy(self._gather)).astype(np.intp)[index]
        sources = np.sort(read, axis=None)
        out, gather = self.part((sources.size,), index), np.searchsorted(sources, read)
        owner = np.empty(sources.size, dtype=np.intp)
        owner[gather] = np.arange(len(index))[:, None]
        out._gather, out._owner = k.array(gather), k.array(owner)
        return out, (sources,)


def scale(node: Node, graph: Graph, kernels: Kernels) -> AffineMap:
    """Binds a SCALE node."""
    del graph
    factor, shift = (np.asarray(node.params[name], dtype=np.float64) for name in ("scale", "shift"))
    return ScaleMap(kernels, factor, shift, node.shape)


def _broadcast_index(shape: tuple[int, ...], target: tuple[int, ...]) -> Array:
    """Flat positions in an array of ``shape`` that broadcasting to ``target`` reads."""
    return np.broadcast_to(np.arange(int(np.prod(shape, dtype=np.int64))).reshape(shape), target).reshape(-1)


def add(node: Node, graph: Graph, kernels: Kernels) -> AffineMap:
    """Binds an ADD node."""
    del graph
    return AddMap(kernels, node.params["coefficients"], node.size)


def take(node: Node, graph: Graph, kernels: Kernels) -> AffineMap:
    """Binds a TAKE node."""
    fill = node.params.get("fill")
    flat = None if fill is None else np.asarray(fill, dtype=np.float64).reshape(-1)
    return TakeMap(kernels, node.params["index"], flat, graph.nodes[node.inputs[0]].size)


def concat(node: Node, graph: Graph, kernels: Kernels) -> AffineMap:
    """Binds a CONCAT node."""
    return ConcatMap(kernels, [graph.nodes[i].shape for i in node.inputs], int(node.params["axis"]))


def sum_over(node: Node, graph: Graph, kernels: Kernels) -> AffineMap:
    """Binds a SUM node."""
    return SumMap(kernels, graph.nodes[node.inputs[0]].shape, node.params["axes"])
