"""Inputs as pictures: which shapes are images, and PNG files as ``data:`` addresses, written by hand."""

from __future__ import annotations

import base64
import math
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

_SMALLEST: Final = 6  # pixels a side; smaller ones are read better as numbers
_LARGEST: Final = 1024
# what is less is blue, what is more is orange, over a grey that both themes carry
_NONE, _LESS, _MORE = (236, 233, 226), (32, 92, 190), (204, 84, 16)

Pixels = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Three pictures as ``data:`` addresses, and what was done to show them."""

    original: str
    changed: str
    difference: str
    width: int
    height: int
    amplified: float
    assumed: bool


def layout(shape: Sequence[int], size: int) -> tuple[int, int, int, bool, bool] | None:
    """How to read flat values as an image.

    Args:
        shape: of the network's input, with or without a batch of one; may be flat.
        size: number of values.

    Returns:
        (height, width, channels, whether channels come last, whether it is only assumed), or None: no image.
    """
    axes = [n for n in shape if n != 1] if shape else [size]
    if math.prod(axes) != size:
        return None
    if len(axes) == 3 and axes[0] == 3 and _side(axes[1]) and _side(axes[2]):
        return axes[1], axes[2], 3, False, False
    if len(axes) == 3 and axes[2] == 3 and _side(axes[0]) and _side(axes[1]):
        return axes[0], axes[1], 3, True, False
    if len(axes) == 2 and _side(axes[0]) and _side(axes[1]):
        return axes[0], axes[1], 1, False, False
    if len(axes) == 1:
        for channels in (1, 3):
            side = math.isqrt(size // channels)
            if channels * side * side == size and _side(side):
                return side, side, channels, False, True
    return None


def _side(pixels: int) -> bool:
    return _SMALLEST <= pixels <= _LARGEST


def compare(original: Sequence[float], changed: Sequence[float], shape: Sequence[int]) -> Comparison | None:
    """An input, another one, and their difference made visible; None if they are no images."""
    found = layout(shape, len(changed))
    if found is None or len(original) != len(changed):
        return None
    height, width, channels, last, assumed = found
    a, b = (_pixels(v, height, width, channels, last) for v in (original, changed))
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return None
    low, high = min(a.min(), b.min()), max(a.max(), b.max())
    if low >= 0 and high <= 1:  # the usual range of pixels; otherwise what there is
        low, high = 0.0, 1.0
    span = (high - low) or 1.0
    change = b - a
    most = float(np.abs(change).max())
    return Comparison(
        png((a - low) / span),
        png((b - low) / span),
        png(_diverging(change / most if most else change)),
        width,
        height,
        span / most if most else 1.0,
        assumed,
    )


def _pixels(values: Sequence[float], height: int, width: int, channels: int, last: bool) -> Pixels:
    flat = np.asarray(values, dtype=np.float64)
    if channels == 1 or last:
        return flat.reshape(height, width, channels)
    return np.moveaxis(flat.reshape(channels, height, width), 0, 2)


def _diverging(change: Pixels) -> Pixels:
    """``H W C`` in [-1, 1] to ``H W 3`` in [0, 1]: by the largest change of a pixel's channels."""
    at = np.abs(change).argmax(axis=2, keepdims=True)
    value = np.take_along_axis(change, at, axis=2)
    none, less, more = (np.array(c) / 255 for c in (_NONE, _LESS, _MORE))
    strength = np.sqrt(np.abs(value))  # small changes are to be seen
    return none + strength * (np.where(value < 0, less, more) - none)


def png(pixels: Pixels) -> str:
    """``H W 1`` or ``H W 3`` in [0, 1] as a ``data:`` address."""
    height, width, channels = pixels.shape
    levels = np.clip(np.rint(pixels * 255), 0, 255).astype(np.uint8)
    rows = np.zeros((height, 1 + width * channels), dtype=np.uint8)  # a filter byte before every row
    rows[:, 1:] = levels.reshape(height, -1)
    head = struct.pack(">IIBBBBB", width, height, 8, 0 if channels == 1 else 2, 0, 0, 0)
    file = b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", head)
    file += _chunk(b"IDAT", zlib.compress(rows.tobytes(), 9)) + _chunk(b"IEND", b"")
    return "data:image/png;base64," + base64.b64encode(file).decode()


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def numbers(value: Any) -> list[float]:
    """A JSON list of numbers; empty where it is none."""
    if not isinstance(value, list):
        return []
    try:
        return [float(v) for v in value]
    except (TypeError, ValueError):
        return []
