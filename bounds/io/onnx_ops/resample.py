"""Nearest-neighbour resampling and block rearrangements: also only moves of elements."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from bounds.graph import Array
from bounds.io.context import Builder, Call, Context
from bounds.io.values import Value

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
    mode = call.text("coordinate_transformation_mode", "asymmetric" if old else "half_pixel")
    nearest = _NEAREST.get(call.text("nearest_mode", "floor" if old else "round_prefer_floor"))
    picks: list[Array] = []
    for n, m, factor in zip(x.shape, out, factors, strict=True):
        position = _coordinates(mode, np.arange(m, dtype=np.float32), factor, (n, m))
        if position is None or nearest is None:
            raise call.unsupported(
                f"coordinate mode {mode} or its nearest mode; use asymmetric or half_pixel"
            )
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
