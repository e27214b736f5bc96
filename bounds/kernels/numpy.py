"""The NumPy backend: float32, float64, and exact rationals (object arrays of ``Fraction``)."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from bounds.kernels.library_conv import LibraryConvolutions
from bounds.numerics import Precision

if TYPE_CHECKING:
    from bounds.ops.conv import ConvGeometry


def _exactly(value: Any) -> Any:
    """A rational; infinities (no bound at all) have none and stay."""
    return value if isinstance(value, float) and not math.isfinite(value) else Fraction(value)


_to_fraction = np.frompyfunc(_exactly, 1, 1)
# NumPy's minimum and maximum of objects lose a NaN, and with it that nothing is known
# images of at most so many places are multiplied at once
_SMALL_IMAGE = 64
_smaller = np.frompyfunc(lambda a, b: a if a <= b or a != a else b, 2, 1)
_larger = np.frompyfunc(lambda a, b: a if a >= b or a != a else b, 2, 1)


def _scalar(value: Any) -> Any:
    """An int that entered exact arithmetic would make int / int a float; a Fraction does not."""
    return Fraction(value) if isinstance(value, int) else value


class NumpyKernels:
    """See :class:`bounds.kernels.base.Kernels`."""

    name = "numpy"

    def __init__(self, precision: Precision) -> None:
        self.precision = precision
        self._exact = precision.u == 0.0
        self._library = LibraryConvolutions() if precision.dtype == np.float32 and precision.u else None

    def array(self, values: Any) -> Any:
        array = np.asarray(values)
        if array.dtype.kind in "biu":
            return array
        if self._exact:
            return _to_fraction(array) if array.size else array.astype(object)
        return np.ascontiguousarray(array, dtype=self.precision.dtype)

    def numpy(self, values: Any) -> Any:
        array = np.asarray(values)
        return array.astype(np.float64) if array.dtype.kind in "fO" else array

    def zeros(self, *shape: int) -> Any:
        if self._exact:
            return np.full(shape, Fraction(0), dtype=object)
        return np.zeros(shape, dtype=self.precision.dtype)

    def matmul(self, a: Any, b: Any) -> Any:
        return np.matmul(a, b)

    def rowdot(self, a: Any, b: Any) -> Any:
        if self._exact:
            return (a * b).sum(1) if a.shape[1] else self.zeros(a.shape[0])
        if len(b) == 1:
            return a @ b[0]
        return np.einsum("ij,ij->i", a, b)

    def abs_dot(self, a: Any, t: Any) -> Any:
        if self._exact or np.isfinite(t).all():
            return np.abs(a) @ t
        known = np.isfinite(t)
        hit = (a[:, ~known] != 0).any(axis=1)
        return np.where(hit, self.precision.dtype.type(np.inf), np.abs(a[:, known]) @ t[known])

    def relax(self, a: Any, lower: Any, upper: Any, offset: Any) -> tuple[Any, Any]:
        negative = self.minimum(a, 0)
        drop = self.rowdot(negative, offset)
        # one of the two terms is exactly zero, so each coefficient is rounded once
        out = self.maximum(a, 0)
        out *= lower
        negative *= upper
        out += negative
        return out, drop

    def relax_lines(self, a: Any, lower: Any, upper: Any, below: Any, above: Any) -> tuple[Any, Any, Any]:
        chosen = np.where(a < 0, above, below)
        chosen *= a
        if not self._exact and not np.isfinite(chosen).all():
            chosen[np.broadcast_to(a == 0, chosen.shape)] = 0
        return self.relax_slopes(a, lower, upper), chosen.sum(1), np.abs(chosen).sum(1)

    def relax_slopes(self, a: Any, lower: Any, upper: Any) -> Any:
        return np.where(a < 0, upper, lower) * a

    def concretize(self, a: Any, centre: Any, radius: Any) -> Any:
        return self.rowdot(a, centre) - self.rowdot(np.abs(a), radius)

    def take(self, a: Any, index: Any) -> Any:
        return a.take(index, axis=0)

    def nonzero(self, mask: Any) -> tuple[Any, Any]:
        rows, columns = np.nonzero(mask)
        return rows, columns

    def concat(self, parts: list[Any], axis: int = 0) -> Any:
        return np.concatenate(parts, axis=axis)

    def place(self, share: Any, steps: int) -> tuple[Any, Any, Any]:
        place = self.minimum(self.where(share > 0, share, 0), 1) * steps  # a NaN compares false
        index = np.minimum(place.astype(np.intp), steps - 1)
        return place, index, place - index.astype(place.dtype)

    def on_grid(self, share: Any, steps: int) -> Any:
        if self._exact:
            return (share * (2 * steps) + 1) // 2 / Fraction(steps)
        return np.rint(share * steps) / self.precision.dtype.type(steps)

    def pick(self, tables: Any, dom: Any, index: Any) -> Any:
        width, points = tables.shape[1:]
        return tables.reshape(-1).take((dom[:, None] * width + np.arange(width)) * points + index)

    def where(self, mask: Any, a: Any, b: Any) -> Any:
        if self._exact:
            return np.where(mask, _scalar(a), _scalar(b))
        out = np.where(mask, a, b)
        return out if out.dtype == self.precision.dtype else out.astype(self.precision.dtype)

    def minimum(self, a: Any, b: Any) -> Any:
        return _smaller(a, _scalar(b)) if self._exact else np.minimum(a, b)

    def maximum(self, a: Any, b: Any) -> Any:
        return _larger(a, _scalar(b)) if self._exact else np.maximum(a, b)

    def divide(self, a: Any, b: Any) -> Any:
        return _to_fraction(a) / b if self._exact else a / b

    def floor(self, a: Any) -> Any:
        return a // 1 if self._exact else np.floor(a)

    def max0(self, a: Any) -> Any:
        return _larger.reduce(a, axis=0) if self._exact else a.max(axis=0)

    def sum(self, a: Any, axis: int) -> Any:
        return a.sum(axis=axis)

    def total(self, a: Any) -> Any:
        return float(a.sum())

    def copy(self, a: Any) -> Any:
        return a.copy()

    def columns(self, a: Any, index: Any) -> Any:
        return a[:, index]

    def spread(self, a: Any, index: Any, size: int, *, unique: bool) -> Any:
        out = self.zeros(len(a), size)
        if unique:
            out[:, index] = a
            return out
        # add.at is slow: add one layer of repetitions after the other
        order = np.argsort(index, kind="stable")
        target = index[order]
        rank = np.arange(target.size) - np.searchsorted(target, target)
        for r in range(int(rank.max()) + 1):
            pick = rank == r
            out[:, target[pick]] += a[:, order[pick]]
        return out

    def add_at(self, a: Any, index: Any, values: Any) -> None:
        np.add.at(a, index, values)

    def unit_rows(self, index: Any, size: int) -> Any:
        unit = self.zeros(len(index), size)
        unit[range(len(index)), index] = self.array(np.ones(1))[0]
        return unit

    def conv_weight(self, weight: Any, geometry: ConvGeometry) -> Any:
        """``(kh kw, groups, O/groups, C/groups)``: one matrix per tap."""
        g = geometry
        shaped = weight.reshape(g.groups, g.o // g.groups, g.c // g.groups, *g.kernel)
        return np.ascontiguousarray(shaped.transpose(3, 4, 0, 1, 2)).reshape(
            -1, g.groups, g.o // g.groups, g.c // g.groups
        )

    def conv(self, x: Any, weight: Any, geometry: ConvGeometry) -> Any:
        g = geometry
        found = None if self._library is None else self._library.conv(x, weight, g)
        if found is not None:
            return found
        # sum over taps of a (grouped) channel product
        m = len(x) * g.n
        height, width = g.padded
        top, left = g.pads[0], g.pads[1]
        image = self.zeros(m, g.groups, g.c // g.groups, height, width)
        image[..., top : top + g.h, left : left + g.w] = x.reshape(m, g.groups, g.c // g.groups, g.h, g.w)
        out = self.zeros(m, g.groups, g.o // g.groups, g.p * g.q)
        for t, (_, _, rows, columns) in enumerate(g.taps()):
            patch = image[..., rows, columns].reshape(m, g.groups, g.c // g.groups, g.p * g.q)
            # one channel in: plain products
            out += weight[t] * patch if g.c == g.groups else self.matmul(weight[t], patch)
        return out.reshape(len(x), -1)

    def conv_adjoint(self, a: Any, weight: Any, geometry: ConvGeometry) -> Any:
        g = geometry
        found = None if self._library is None else self._library.adjoint(a, weight, g)
        if found is not None:
            return found
        if g.groups == 1 and g.p * g.q <= _SMALL_IMAGE and not self._exact:
            return self._small_adjoint(a, weight, g)
        m = len(a) * g.n
        height, width = g.padded
        top, left = g.pads[0], g.pads[1]
        features = a.reshape(m, g.groups, g.o // g.groups, g.p * g.q)
        image = self.zeros(m, g.groups, g.c // g.groups, height, width)
        for t, (_, _, rows, columns) in enumerate(g.taps()):
            matrix = weight[t].swapaxes(-1, -2)
            part = matrix * features if g.o == g.groups else self.matmul(matrix, features)
            image[..., rows, columns] += part.reshape(m, g.groups, g.c // g.groups, g.p, g.q)
        return image[..., top : top + g.h, left : left + g.w].reshape(len(a), -1)

    def _small_adjoint(self, a: Any, weight: Any, g: ConvGeometry) -> Any:
        # few places: one product for all taps and places, channels last, instead of many tiny ones
        m, places = len(a) * g.n, g.p * g.q
        height, width = g.padded
        top, left = g.pads[0], g.pads[1]
        features = a.reshape(m, g.o, places).transpose(0, 2, 1).reshape(m * places, g.o)
        taps = weight[:, 0].transpose(1, 0, 2).reshape(g.o, -1)
        parts = self.matmul(features, taps).reshape(m, g.p, g.q, -1, g.c)
        image = self.zeros(m, height, width, g.c)
        for t, (_, _, rows, columns) in enumerate(g.taps()):
            image[:, rows, columns] += parts[:, :, :, t]
        return image[:, top : top + g.h, left : left + g.w].transpose(0, 3, 1, 2).reshape(len(a), -1)
