"""Resize and Upsample: nearest elements, or one matrix of exact rational weights for every axis."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from verifier.check.calls import ROUND, Call, Operator, moved, positive_axis
from verifier.check.linear import dense_last
from verifier.check.network import UNMODELLED, Array, Lowering, Value, Var, guard
from verifier.check.rows import lanes, unlanes

_HALF = Fraction(1, 2)
_DYADIC = 1 << 10  # multiples of 1/1024 are exact in float32


@dataclass(frozen=True, slots=True)
class Axis:
    """Elements before, after, and their intended ratio."""

    size: int
    out: int
    scale: Fraction


def _half_pixel(axis: Axis, i: int) -> Fraction:
    return (i + _HALF) / axis.scale - _HALF


def _symmetric(axis: Axis, i: int) -> Fraction:
    adjust = axis.out / (axis.scale * axis.size)
    return Fraction(axis.size, 2) * (1 - adjust) + _half_pixel(axis, i)


def _align(axis: Axis, i: int) -> Fraction:
    return Fraction(i * (axis.size - 1), axis.out - 1) if axis.out > 1 else Fraction(0)


_COORDINATES: Mapping[str, Callable[[Axis, int], Fraction]] = {
    "align_corners": _align,
    "asymmetric": lambda axis, i: i / axis.scale,
    "half_pixel": _half_pixel,
    "half_pixel_symmetric": _symmetric,
    "pytorch_half_pixel": lambda axis, i: _half_pixel(axis, i) if axis.out > 1 else Fraction(0),
}
_NEAREST: Mapping[str, Callable[[Array], Array]] = {
    "floor": np.floor,
    "ceil": np.ceil,
    "round_prefer_floor": lambda p: np.ceil(p - np.float32(0.5)),
    "round_prefer_ceil": lambda p: np.floor(p + np.float32(0.5)),
}


def _axes(call: Call, shape: tuple[int, ...]) -> list[Axis]:
    """Every axis of the input, from scales or sizes."""
    chosen = [positive_axis(a, len(shape)) for a in call.integers("axes") or range(len(shape))]
    old = call.op == "Upsample" or call.opset < 11
    stored = call.attributes.get("scales")
    scales = call.const(1 if old else 2) if stored is None else None
    numbers = (
        np.asarray(stored) if stored is not None else None if scales is None else scales.data.reshape(-1)
    )
    sizes = None if old else call.integers("sizes", 3)
    axes = [Axis(n, n, Fraction(1)) for n in shape]
    if numbers is not None and numbers.size == len(chosen):
        for a, s in zip(chosen, numbers.tolist(), strict=True):
            if not 0 < float(s) < math.inf:
                raise ValueError(f"scale {s}")
            out = int(np.floor(np.float32(shape[a]) * np.float32(s)))
            axes[a] = Axis(shape[a], out, Fraction(float(s)))
    elif sizes is not None and len(sizes) == len(chosen):
        for a, m in zip(chosen, sizes, strict=True):
            axes[a] = Axis(shape[a], m, Fraction(m, shape[a]))
    else:
        raise ValueError(f"needs {len(chosen)} constant scales or sizes")
    guard([axis.out for axis in axes])
    if min(axis.out for axis in axes) < 1:
        raise ValueError("nothing is left of an axis")
    return axes


def _resize(net: Lowering, call: Call) -> list[Value]:
    x, mode = call.operand(0), call.text("mode", "nearest")
    if call.attributes.get("antialias", 0) or call.text("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise call.refuse("antialias or keep_aspect_ratio_policy")
    axes, old = _axes(call, x.shape), call.op == "Upsample" or call.opset < 11
    name = call.text("coordinate_transformation_mode", "asymmetric" if old else "half_pixel")
    if mode == "nearest":
        picks = _nearest(
            call, axes, name, call.text("nearest_mode", "floor" if old else "round_prefer_floor")
        )
        return [moved(net, x, lambda a: a[np.ix_(*picks)])]
    coordinate = _COORDINATES.get(name)
    if coordinate is None or mode not in ("linear", "bilinear", "cubic"):
        raise call.refuse(f"mode {mode} with coordinates {name}")
    y, count = net.variable(x), sum(axis.scale != 1 for axis in axes)
    for i, axis in enumerate(axes):
        if axis.scale != 1:
            y = _along(net, y, i, _weights(call, axis, coordinate, cubic=mode == "cubic"), count)
    return [y]


def _nearest(call: Call, axes: list[Axis], name: str, rounding: str) -> list[Array]:
    """Coordinates in float32, as runtimes compute them."""
    nearest, half = _NEAREST.get(rounding), np.float32(0.5)
    picks: list[Array] = []
    for axis in axes:
        scale, at = np.float32(float(axis.scale)), np.arange(axis.out, dtype=np.float32)
        if name == "asymmetric":
            at = at / scale
        elif name == "tf_half_pixel_for_nn":
            at = (at + half) / scale
        elif name == "half_pixel" or (name == "pytorch_half_pixel" and axis.out > 1):
            at = (at + half) / scale - half
        elif name == "align_corners" and axis.out > 1:
            at = at * np.float32(axis.size - 1) / np.float32(axis.out - 1)
        elif name in ("align_corners", "pytorch_half_pixel"):
            at = np.zeros_like(at)
        else:
            raise call.refuse(f"coordinates {name}")
        if nearest is None:
            raise call.refuse(f"nearest mode {rounding}")
        same = axis.scale == 1
        picks.append(
            np.arange(axis.size) if same else np.clip(nearest(at), 0, axis.size - 1).astype(np.int64)
        )
    return picks


def _weights(
    call: Call, axis: Axis, coordinate: Callable[[Axis, int], Fraction], *, cubic: bool
) -> list[list[Fraction]]:
    rows: list[list[Fraction]] = []
    for i in range(axis.out):
        row = [Fraction(0)] * axis.size
        for k, weight in (
            _cubic(call, axis, coordinate(axis, i)) if cubic else _linear(axis, coordinate(axis, i))
        ):
            row[min(max(k, 0), axis.size - 1)] += weight
        rows.append(row)
    return rows


def _linear(axis: Axis, at: Fraction) -> list[tuple[int, Fraction]]:
    at = min(max(at, Fraction(0)), Fraction(axis.size - 1))
    low = math.floor(at)
    return [(low, 1 - (at - low)), (low + 1, at - low)]


def _cubic(call: Call, axis: Axis, at: Fraction) -> list[tuple[int, Fraction]]:
    """Keys' convolution over four neighbours."""
    a, low = Fraction(float(call.attributes.get("cubic_coeff_a", -0.75))), math.floor(at)
    s = at - low

    def inner(t: Fraction) -> Fraction:
        return ((a + 2) * t - (a + 3)) * t * t + 1

    def outer(t: Fraction) -> Fraction:
        return ((a * t - 5 * a) * t + 8 * a) * t - 4 * a

    taps = [(low - 1, outer(1 + s)), (low, inner(s)), (low + 1, inner(1 - s)), (low + 2, outer(2 - s))]
    if call.attributes.get("exclude_outside", 0):
        taps = [(k, weight) for k, weight in taps if 0 <= k < axis.size]
        total = sum((weight for _, weight in taps), Fraction(0))
        taps = [(k, weight / total) for k, weight in taps]
    return taps


def _along(net: Lowering, x: Var, i: int, rows: list[list[Fraction]], count: int) -> Var:
    flat = [w for row in rows for w in row]
    dyadic = all(_DYADIC % w.denominator == 0 for w in flat)
    weight = np.array([float(w) for w in flat]).reshape(len(rows), -1)
    # a runtime may sum all products of weights of all axes at once
    roundings = 4**count + count if dyadic else UNMODELLED
    error = 0.0 if all(Fraction(float(w)) == w for w in flat) else ROUND
    y = dense_last(net, lanes(net, x, (i,)), weight, roundings=roundings, error=error)
    return unlanes(net, y, tuple(len(rows) if j == i else s for j, s in enumerate(x.shape)), (i,))


RESAMPLE: Mapping[str, Operator] = dict.fromkeys(("Resize", "Upsample"), _resize)
