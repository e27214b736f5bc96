"""Linear and cubic resampling: a weighted mean of neighbours along each axis, one axis after the other.

Coordinates and weights are computed in exact rationals from the stored scale (or the quotient of the sizes)
and rounded once to float64. Runtimes compute them in float32, which is the same where all of them are
dyadic with few digits; elsewhere how far they are off is not analysed (``UNMODELLED``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeAlias

import numpy as np

from bounds.graph import UNMODELLED, Array
from bounds.io import values
from bounds.io.context import Context
from bounds.io.onnx_ops.lanes import lanes, unlanes
from bounds.io.values import Var

Taps: TypeAlias = list[tuple[int, Fraction]]

_HALF = Fraction(1, 2)
_EXACT_BITS = 1 << 10  # weights that are multiples of 1/1024 are computed exactly in float32


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis to resample.

    Attributes:
        size: elements before.
        out: elements after.
        scale: their intended ratio.
    """

    size: int
    out: int
    scale: Fraction


Coordinate: TypeAlias = Callable[[Axis, int], Fraction]


def _align(axis: Axis, i: int) -> Fraction:
    return Fraction(i * (axis.size - 1), axis.out - 1) if axis.out > 1 else Fraction(0)


def _half_pixel(axis: Axis, i: int) -> Fraction:
    return (i + _HALF) / axis.scale - _HALF


def _symmetric(axis: Axis, i: int) -> Fraction:
    """The part of the last output pixel that the scale does not reach is shared by both sides."""
    adjust = axis.out / (axis.scale * axis.size)
    return Fraction(axis.size, 2) * (1 - adjust) + _half_pixel(axis, i)


COORDINATES: Mapping[str, Coordinate] = {
    "align_corners": _align,
    "asymmetric": lambda axis, i: i / axis.scale,
    "half_pixel": _half_pixel,
    "half_pixel_symmetric": _symmetric,
    "pytorch_half_pixel": lambda axis, i: _half_pixel(axis, i) if axis.out > 1 else Fraction(0),
}


def linear_taps(axis: Axis, at: Fraction) -> Taps:
    """Beyond the ends the first and last elements continue."""
    at = min(max(at, Fraction(0)), Fraction(axis.size - 1))
    low = math.floor(at)
    part = at - low
    return [(low, 1 - part), (min(low + 1, axis.size - 1), part)]


def cubic_taps(a: Fraction, *, exclude_outside: bool) -> Callable[[Axis, Fraction], Taps]:
    """Keys' cubic convolution with coefficient ``a`` over four neighbours."""

    def taps(axis: Axis, at: Fraction) -> Taps:
        low = math.floor(at)
        s = at - low
        t = 1 - s
        weights = [
            ((a * (s + 1) - 5 * a) * (s + 1) + 8 * a) * (s + 1) - 4 * a,
            ((a + 2) * s - (a + 3)) * s * s + 1,
            ((a + 2) * t - (a + 3)) * t * t + 1,
            ((a * (t + 1) - 5 * a) * (t + 1) + 8 * a) * (t + 1) - 4 * a,
        ]
        near = [(low - 1 + k, weight) for k, weight in enumerate(weights)]
        if exclude_outside:
            near = [(k, weight) for k, weight in near if 0 <= k < axis.size]
            total = sum(weight for _, weight in near)
            near = [(k, weight / total) for k, weight in near]
        return [(min(max(k, 0), axis.size - 1), weight) for k, weight in near]

    return taps


def interpolate(
    ctx: Context, x: Var, axes: Sequence[Axis], coordinate: Coordinate, taps: Callable[[Axis, Fraction], Taps]
) -> Var:
    """Resamples every axis of ``x`` whose scale is not 1; one LINEAR per axis."""
    changing = [i for i, axis in enumerate(axes) if axis.scale != 1]
    for i in changing:
        axis = axes[i]
        exact = [[Fraction(0)] * axis.size for _ in range(axis.out)]
        for k in range(axis.out):
            for j, weight in taps(axis, coordinate(axis, k)):
                exact[k][j] += weight
        flat = [w for row in exact for w in row]
        dyadic = all(_EXACT_BITS % w.denominator == 0 for w in flat)
        weight = np.array([float(w) for w in flat]).reshape(axis.out, axis.size)
        # a runtime may sum all products of weights of all axes at once
        count = 4 ** len(changing) + len(changing) if dyadic else UNMODELLED
        error = 0.0 if all(Fraction(float(w)) == w for w in flat) else values.ROUND
        shape = tuple(axis.out if j == i else s for j, s in enumerate(x.shape))
        y = ctx.linear(lanes(ctx, x, (i,)), weight, roundings=count, error=error)
        x = unlanes(ctx, y, shape, (i,))
    return x


def exact_scale(scale: Array | float) -> Fraction:
    """The stored float32 number as a rational."""
    value = float(scale)
    if not value > 0 or math.isinf(value):
        raise ValueError(f"scale {value}")
    return Fraction(value)
