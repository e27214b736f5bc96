"""CONV and CONV_TRANSPOSE: small ones become matrices, others multiply tap by tap."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any, TypeAlias

import numpy as np

from bounds.graph import Array, Graph, Node, Op
from bounds.kernels.base import Kernels
from bounds.ops.base import AffineMap, sign_of
from bounds.ops.linear import DenseMap

# a convolution becomes a matrix below so many entries, and up to the limit where at most so many of them are
# zeros for each that is none (libraries' convolutions are as fast as products, and do not multiply by these)
_DENSE_SMALL, DENSE_LIMIT, _DENSE_WASTE = 1 << 16, 4_000_000, 2

_Window: TypeAlias = tuple[tuple[int, int], tuple[int, int]]
"""Rows and columns of an image, half-open."""


class ConvGeometry:
    """Shapes and strides of one 2-D convolution ``(N, C, H, W) -> (N, O, P, Q)``."""

    def __init__(self, x_shape: Sequence[int], y_shape: Sequence[int], params: Any) -> None:
        self.n, self.c, self.h, self.w = x_shape
        _, self.o, self.p, self.q = y_shape
        self.strides = tuple(params["strides"])
        self.pads = tuple(params["pads"])
        self.dilations = tuple(params["dilations"])
        self.groups = int(params["groups"])
        self.kernel = tuple(params["weight"].shape[2:])

    def taps(self) -> list[tuple[int, int, slice, slice]]:
        """Per kernel position the slices of the padded input that it multiplies."""
        (sy, sx), (dy, dx) = self.strides, self.dilations
        return [
            (
                i,
                j,
                slice(i * dy, i * dy + (self.p - 1) * sy + 1, sy),
                slice(j * dx, j * dx + (self.q - 1) * sx + 1, sx),
            )
            for i in range(self.kernel[0])
            for j in range(self.kernel[1])
        ]

    def reads(self, p: tuple[int, int], axis: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """Along an axis (0 or 1): which input places ``[y0, y1)`` the features ``[p0, p1)`` read, and the
        padding at either end that they see."""
        stride, pad = self.strides[axis], self.pads[axis]
        size, reach = (self.h, self.w)[axis], (self.kernel[axis] - 1) * self.dilations[axis] + 1
        start, end = p[0] * stride - pad, (p[1] - 1) * stride - pad + reach
        y0, y1 = min(max(start, 0), size - 1), max(min(end, size), 1)
        return (y0, y1), (y0 - start, end - y1)

    def feeds(self, y: tuple[int, int], axis: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """Along an axis: the features ``[p0, p1)`` that read input places ``[y0, y1)``, and the padding with
        which these features read just those."""
        stride, pad = self.strides[axis], self.pads[axis]
        size, reach = (self.p, self.q)[axis], (self.kernel[axis] - 1) * self.dilations[axis] + 1
        first = max(-((reach - 1 - pad - y[0]) // stride), 0)
        p0, p1 = min(first, size - 1), max(min((y[1] - 1 + pad) // stride + 1, size), 1)
        before = y[0] + pad - p0 * stride
        return (p0, p1), (before, (p1 - 1) * stride + reach - before - (y[1] - y[0]))

    def window(self, image: _Window, features: _Window, pads: Sequence[int]) -> ConvGeometry:
        """The geometry between a window of the input and one of the features."""
        out = copy(self)
        (out.h, out.w), (out.p, out.q) = ((e - s for s, e in w) for w in (image, features))
        out.pads = tuple(pads)
        return out

    @property
    def readers(self) -> int:
        """How many places of a feature map read one place of the image, at most."""
        # along an axis: kernel positions i whose i * dilation leave one remainder when divided by the stride
        axes = zip(self.kernel, self.strides, self.dilations, strict=True)
        return math.prod(-(-k // (s // math.gcd(s, d))) for k, s, d in axes)

    @property
    def padded(self) -> tuple[int, int]:
        """Height and width after padding (never less than the last tap needs)."""
        top, left, bottom, right = self.pads
        return self.h + top + bottom, self.w + left + right


class ConvMap(AffineMap):
    """A convolution (or, with ``flip``, its adjoint used as a transposed convolution)."""

    def __init__(
        self, kernels: Kernels, geometry: ConvGeometry, weight: Array, bias: Array | None, *, flip: bool
    ) -> None:
        g = geometry
        image = g.n * g.c * g.h * g.w
        features = g.n * g.o * g.p * g.q
        super().__init__(kernels, (features if flip else image,), image if flip else features)
        self.geometry, self.flip = g, flip
        self.terms = max(g.kernel[0] * g.kernel[1] * g.c, g.readers * g.o) // g.groups + 1
        self.weight = self.constant(kernels.conv_weight(weight, g))
        self.weight_abs = kernels.array(kernels.conv_weight(np.abs(weight), g))
        self.signs = sign_of(weight)
        if bias is not None:
            plane = g.h * g.w if flip else g.p * g.q
            self.set_bias(np.tile(np.repeat(bias, plane), g.n))

    @property
    def work(self) -> int:
        g = self.geometry
        return g.n * g.o * g.p * g.q * (g.c // g.groups) * g.kernel[0] * g.kernel[1]

    def apply(self, xs: Sequence[Any]) -> Any:
        return self._forward(xs[0], self.weight)

    def apply_abs(self, xs: Sequence[Any]) -> Any:
        return self._forward(xs[0], self.weight_abs)

    def adjoint(self, a: Any) -> tuple[Any, ...]:
        if self.flip:
            return (self.kernels.conv(a, self.weight, self.geometry),)
        return (self.kernels.conv_adjoint(a, self.weight, self.geometry),)

    def closure(self, index: Array) -> Array:
        mine = self._windows(index)
        g = self.geometry
        shape = (g.c, g.h, g.w) if self.flip else (g.o, g.p, g.q)
        return np.arange(self.size) if mine is None else _window_index(shape, mine[0])

    def restricted(self, index: Array) -> tuple[AffineMap, tuple[Array, ...]]:
        found, g = self._windows(index), self.geometry
        if found is None:
            return super().restricted(index)
        mine, other, pads = found
        read = _window_index((g.o, g.p, g.q) if self.flip else (g.c, g.h, g.w), other)
        out = self.part((read.size,), index)
        out.geometry = g.window(mine, other, pads) if self.flip else g.window(other, mine, pads)
        return out, (read,)

    def _windows(self, index: Array) -> tuple[_Window, _Window, list[int]] | None:
        """The value's window that holds all listed elements, the operand's that it reads, and the padding
        between them; None where the whole map is needed."""
        g = self.geometry
        if g.n > 1:
            return None
        mine = _window_of((g.c, g.h, g.w) if self.flip else (g.o, g.p, g.q), index)
        found = [(g.feeds if self.flip else g.reads)(w, axis) for axis, w in enumerate(mine)]
        pads = [found[axis][1][end] for end in (0, 1) for axis in (0, 1)]
        return None if min(pads) < 0 else (mine, (found[0][0], found[1][0]), pads)

    def with_constants(self, constants: Mapping[str, Any]) -> AffineMap:
        out, g = copy(self), self.geometry
        out.weight = self.kernels.conv_weight(constants["weight"], g)
        out.weight_abs = abs(out.weight)
        out.signs, out.whole = None, False
        if "bias" in constants:
            channels, plane = (g.c, g.h * g.w) if self.flip else (g.o, g.p * g.q)
            index = np.tile(np.repeat(np.arange(channels), plane), g.n)
            out.bias = self.kernels.take(constants["bias"], self.kernels.array(index))
            out.bias_abs = abs(out.bias)
        return out

    def _forward(self, x: Any, weight: Any) -> Any:
        if self.flip:
            return self.kernels.conv_adjoint(x, weight, self.geometry)
        return self.kernels.conv(x, weight, self.geometry)


def _window_of(shape: tuple[int, int, int], index: Array) -> _Window:
    """Rows and columns (half-open) of the smallest window of an image that holds all listed elements."""
    place = index % (shape[1] * shape[2])
    y, x = place // shape[2], place % shape[2]
    return (int(y.min()), int(y.max()) + 1), (int(x.min()), int(x.max()) + 1)


def _window_index(shape: tuple[int, int, int], window: _Window) -> Array:
    """Elements of a window, all channels, in C order."""
    (y0, y1), (x0, x1) = window
    return np.arange(int(np.prod(shape))).reshape(shape)[:, y0:y1, x0:x1].reshape(-1)


def conv(node: Node, graph: Graph, kernels: Kernels) -> AffineMap:
    """Binds a CONV or CONV_TRANSPOSE node."""
    x_shape = graph.nodes[node.inputs[0]].shape
    flip = node.op is Op.CONV_TRANSPOSE
    # a transposed convolution is the adjoint of the convolution from its output to its input
    geometry = (
        ConvGeometry(node.shape, x_shape, node.params)
        if flip
        else ConvGeometry(x_shape, node.shape, node.params)
    )
    return ConvMap(kernels, geometry, node.params["weight"], node.params.get("bias"), flip=flip)


def fits_dense(node: Node, graph: Graph) -> bool:
    """Whether a convolution had better be one matrix."""
    source, weight = graph.nodes[node.inputs[0]], node.params["weight"].shape
    entries = node.size * source.size
    # a weight is used once at every place of the smaller side
    places = min(int(np.prod(shape[2:])) for shape in (node.shape, source.shape))
    products = int(np.prod(weight)) * node.shape[0] * places
    return entries <= min(DENSE_LIMIT, max(_DENSE_SMALL, _DENSE_WASTE * products))


def as_dense(node: Node, kernels: Kernels, exact_map: AffineMap) -> AffineMap:
    """The same map as one matrix. Each entry is a single weight, so nothing is rounded."""
    assert isinstance(exact_map, ConvMap)
    if exact_map.geometry.n > 1:
        (columns,) = exact_map.adjoint(np.eye(exact_map.size))
    else:
        matrix = _matrix(exact_map.geometry, np.asarray(node.params["weight"], dtype=np.float64))
        columns = matrix.T if exact_map.flip else matrix
    bias = None if exact_map.bias is None else exact_map.kernels.numpy(exact_map.bias)
    return DenseMap(kernels, np.ascontiguousarray(columns), bias, 1)


def _matrix(g: ConvGeometry, weight: Array) -> Array:
    """``features x image`` of a convolution of one image, weights ``(O, C/groups, kh, kw)``."""
    out = np.zeros((g.o, g.p, g.q, g.c, g.h, g.w))
    o, c = g.o // g.groups, g.c // g.groups
    for i, j, _, _ in g.taps():
        (p, y), (q, x) = _pairs(g, i, 0), _pairs(g, j, 1)
        p, q, y, x = (
            v.ravel() for v in (*np.meshgrid(p, q, indexing="ij"), *np.meshgrid(y, x, indexing="ij"))
        )
        for k in range(g.groups):
            block = out[k * o : (k + 1) * o, :, :, k * c : (k + 1) * c]
            # places come first: an array of (places, O, C), the same weights at each
            block[:, p, q, :, y, x] = weight[k * o : (k + 1) * o, :, i, j]
    return out.reshape(g.o * g.p * g.q, -1)


def _pairs(g: ConvGeometry, tap: int, axis: int) -> tuple[Array, Array]:
    """Along an axis (0 or 1): features that a kernel position serves, and the input places it reads there."""
    features = np.arange((g.p, g.q)[axis])
    places = features * g.strides[axis] + tap * g.dilations[axis] - g.pads[axis]
    inside = (places >= 0) & (places < (g.h, g.w)[axis])
    return features[inside], places[inside]
