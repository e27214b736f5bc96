"""Nearest-neighbour resampling and block rearrangements: also only moves of elements."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from bounds.graph import Array
from bounds.io.context import Builder, Call, Context
from bounds.io.values import Value

# how a coordinate of the output becomes one of the input: f(position, scale, input size, output size)
_COORDINATES: Mapping[str, Callable[[Array, np.float32, int, int], Array]] = {
    "asymmetric": lambda p, s, n, m: p / s,
    "half_pixel": lambda p, s, n, m: (p + np.float32(0.5)) / s - np.float32(0.5),
    "pytorch_half_pixel": lambda p, s, n, m: (
        (p + np.float32(0.5)) / s - np.float32(0.5) if m > 1 else np.zeros_like(p)
    ),
    "align_corners": lambda p, s, n, m: p * np.float32(n - 1) / np.float32(m - 1) if m > 1 else np.zeros_like(p),
    "tf_half_pixel_for_nn": lambda p, s, n, m: (p + np.float32(0.5)) / s,
}
_NEAREST: Mapping[str, Callable[[Array], Array]] = {
    "floor": np.floor,
    "ceil": np.ceil,
    "round_prefer_floor": lambda p: np.ceil(p - np.float32(0.5)),
    "round_prefer_ceil": lambda p: np.floor(p + np.float32(0.5)),
}


def _resample(ctx: Context, call: Call, scales: Array | None, sizes: tuple[int, ...] | None) -> list[Value]:
    """Picks the nearest element along every axis; coordinates in float32, as runtimes compute them."""
    x = call.operand(0)
    if call.text("mode", "nearest") != "nearest" or call.attributes.get("antialias", 0):
        raise call.unsupported(f"mode {call.text('mode', 'nearest')}; only nearest is analysed")
    rank = len(x.shape)
    if sizes is not None and len(sizes) == rank:
        out = sizes
        factors = [np.float32(m) / np.float32(n) for m, n in zip(out, x.shape, strict=True)]
    elif scales is not None and scales.size == rank:
        factors = [np.float32(s) for s in scales.ravel()]
        out = tuple(int(np.floor(n * f)) for n, f in zip(x.shape, factors, strict=True))
    else:
        raise ValueError(f"needs {rank} constant scales or sizes")
    ctx.guard(out)
    old = call.op_type == "Upsample" or call.opset < 11
    coordinates = _COORDINATES.get(call.text("coordinate_transformation_mode", "asymmetric" if old else "half_pixel"))
    nearest = _NEAREST.get(call.text("nearest_mode", "floor" if old else "round_prefer_floor"))
    if coordinates is None or nearest is None:
        raise call.unsupported("this coordinate transformation or nearest mode; use asymmetric or half_pixel")
    picks: list[Array] = []
    for n, m, factor in zip(x.shape, out, factors, strict=True):
        position = coordinates(np.arange(m, dtype=np.float32), factor, n, m)
        picks.append(np.arange(n) if factor == 1 else np.clip(nearest(position), 0, n - 1).astype(np.int64))
    return [ctx.move(x, lambda a: a[np.ix_(*picks)])]


def _upsample(ctx: Context, call: Call) -> list[Value]:
    stored = call.attributes.get("scales")
    scales = call.constant(1, "scales")
    return [*_resample(ctx, call, scales.data if scales is not None else np.asarray(stored or ()), None)]


def _resize(ctx: Context, call: Call) -> list[Value]:
    for unusual in ("axes", "keep_aspect_ratio_policy"):
        if call.attributes.get(unusual) not in (None, b"stretch"):
            raise call.unsupported(f"attribute {unusual}; give scales or sizes for every axis")
    if call.opset < 11:
        scales = call.constant(1, "scales")
        return _resample(ctx, call, None if scales is None else scales.data, None)
    scales = call.constant(2, "scales")
    has_scales = scales is not None and scales.data.size > 0
    return _resample(ctx, call, scales.data if scales is not None and has_scales else None, call.integers("sizes", 3))


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
