"""Resampling of images, and block rearrangements: nearest neighbours and blocks only move elements."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction

import numpy as np

from bounds.graph import Array
from bounds.io.context import Builder, Call, Context
from bounds.io.onnx_ops.interpolate import (
    COORDINATES,
    Axis,
    cubic_taps,
    exact_scale,
    interpolate,
    linear_taps,
)
from bounds.io.onnx_ops.lanes import positive_axis
from bounds.io.values import Value, Var

_HALF = np.float32(0.5)


def _coordinates(mode: str, position: Array, scale: np.float32, sizes: tuple[int, int]) -> Array | None:
    """Output positions as coordinates of the input; ``sizes`` of input and output along the axis."""
    n, m = sizes
    if mode == "asymmetric":
        return position / scale
    if mode == "tf_half_pixel_for_nn":
        return (position + _HALF) / scale
    if mode == "half_pixel" or (mode == "pytorch_half_pixel" and m > 1):
        return (position + _HALF) / scale - _HALF
    if mode == "align_corners" and m > 1:
        return position * np.float32(n - 1) / np.float32(m - 1)
    return np.zeros_like(position) if mode in ("align_corners", "pytorch_half_pixel") else None


_NEAREST: Mapping[str, Callable[[Array], Array]] = {
    "floor": np.floor,
    "ceil": np.ceil,
    "round_prefer_floor": lambda p: np.ceil(p - np.float32(0.5)),
    "round_prefer_ceil": lambda p: np.floor(p + np.float32(0.5)),
}


def _resample(ctx: Context, call: Call, scales: Array | None, sizes: tuple[int, ...] | None) -> list[Value]:
    """Resamples the axes named by ``axes`` (all where it is missing)."""
    x = call.operand(0)
    if call.attributes.get("antialias", 0):
        raise call.unsupported("antialias=1; export without it")
    policy = call.text("keep_aspect_ratio_policy", "stretch")
    if policy != "stretch":
        raise call.unsupported(f"keep_aspect_ratio_policy {policy}; give scales or sizes for every axis")
    axes = [positive_axis(a, len(x.shape)) for a in call.integers("axes") or range(len(x.shape))]
    found = [Axis(n, n, Fraction(1)) for n in x.shape]
    if sizes is not None and len(sizes) == len(axes):
        for a, m in zip(axes, sizes, strict=True):
            found[a] = Axis(x.shape[a], m, Fraction(m, x.shape[a]))
    elif scales is not None and scales.size == len(axes):
        for a, s in zip(axes, scales.ravel(), strict=True):
            out = int(np.floor(np.float32(x.shape[a]) * np.float32(s)))
            found[a] = Axis(x.shape[a], out, exact_scale(s))
    else:
        raise ValueError(f"needs {len(axes)} constant scales or sizes")
    ctx.guard([axis.out for axis in found])
    if min(axis.out for axis in found) < 1:
        raise ValueError("nothing is left of an axis")
    mode = call.text("mode", "nearest")
    if mode == "nearest":
        return [_nearest(ctx, call, x, found)]
    return [_interpolated(ctx, call, ctx.variable(x), found, mode)]


def _interpolated(ctx: Context, call: Call, x: Var, axes: list[Axis], mode: str) -> Var:
    old = call.op_type == "Upsample" or call.opset < 11
    name = call.text("coordinate_transformation_mode", "asymmetric" if old else "half_pixel")
    coordinate = COORDINATES.get(name)
    if coordinate is None or mode not in ("linear", "bilinear", "cubic"):
        raise call.unsupported(f"mode {mode} with coordinates {name}; use linear or cubic, and half_pixel")
    if mode != "cubic":
        return interpolate(ctx, x, axes, coordinate, linear_taps)
    a = Fraction(float(call.attributes.get("cubic_coeff_a", -0.75)))
    outside = bool(call.attributes.get("exclude_outside", 0))
    return interpolate(ctx, x, axes, coordinate, cubic_taps(a, exclude_outside=outside))


def _nearest(ctx: Context, call: Call, x: Value, axes: list[Axis]) -> Value:
    """Picks the nearest element along every axis; coordinates in float32, as runtimes compute them."""
    old = call.op_type == "Upsample" or call.opset < 11
    mode = call.text("coordinate_transformation_mode", "asymmetric" if old else "half_pixel")
    nearest = _NEAREST.get(call.text("nearest_mode", "floor" if old else "round_prefer_floor"))
    picks: list[Array] = []
    for axis in axes:
        factor = np.float32(float(axis.scale))
        position = _coordinates(mode, np.arange(axis.out, dtype=np.float32), factor, (axis.size, axis.out))
        if position is None or nearest is None:
            raise call.unsupported(
                f"coordinate mode {mode} or its nearest mode; use asymmetric or half_pixel"
            )
        same = axis.scale == 1
        picks.append(
            np.arange(axis.size) if same else np.clip(nearest(position), 0, axis.size - 1).astype(np.int64)
        )
    return ctx.move(x, lambda a: a[np.ix_(*picks)])


def _upsample(ctx: Context, call: Call) -> list[Value]:
    stored = call.attributes.get("scales")
    scales = call.constant(1, "scales")
    return _resample(ctx, call, scales.data if scales is not None else np.asarray(stored or ()), None)


def _resize(ctx: Context, call: Call) -> list[Value]:
    if call.opset < 11:
        scales = call.constant(1, "scales")
        return _resample(ctx, call, None if scales is None else scales.data, None)
    scales = call.constant(2, "scales")
    has_scales = scales is not None and scales.data.size > 0
    return _resample(
        ctx, call, scales.data if scales is not None and has_scales else None, call.integers("sizes", 3)
    )


def _depth_to_space(ctx: Context, call: Call) -> list[Value]:
    b, column_first = int(call.attributes.get("blocksize", 0)), call.text("mode", "DCR") == "CRD"

    def rearrange(a: Array) -> Array:
        n, c, h, w = a.shape
        if column_first:
            blocks = a.reshape(n, c // (b * b), b, b, h, w).transpose(0, 1, 4, 2, 5, 3)
        else:
            blocks = a.reshape(n, b, b, c // (b * b), h, w).transpose(0, 3, 4, 1, 5, 2)
        return blocks.reshape(n, c // (b * b), h * b, w * b)

    return [ctx.move(call.operand(0), rearrange)]


def _space_to_depth(ctx: Context, call: Call) -> list[Value]:
    b = int(call.attributes.get("blocksize", 0))

    def rearrange(a: Array) -> Array:
        n, c, h, w = a.shape
        blocks = a.reshape(n, c, h // b, b, w // b, b).transpose(0, 3, 5, 1, 2, 4)
        return blocks.reshape(n, c * b * b, h // b, w // b)

    return [ctx.move(call.operand(0), rearrange)]


BUILDERS: Mapping[str, Builder] = {
    "DepthToSpace": _depth_to_space,
    "Resize": _resize,
    "SpaceToDepth": _space_to_depth,
    "Upsample": _upsample,
}
