"""One input of a network, from a file or from text: never any pickle, nothing unpacked beyond its limit."""

from __future__ import annotations

import io
import json
import re
from typing import Any, BinaryIO, Final

import numpy as np

from bounds.errors import BadInput

PICTURES: Final = 255.0
"""Bytes of pixels are divided by this unless something else was said."""
_MOST_VALUES: Final = 1 << 20
_SIGNATURES: Final = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")


def read_point(name: str, file: BinaryIO) -> tuple[list[float], bool]:
    """Numbers of a picture or an .npy, .csv, .txt or .json file, flat, in the order of the network's input.

    Returns:
        The numbers; whether they are bytes of a picture: channels first, as networks take them.

    Raises:
        BadInput: there are none, or too many.
    """
    data = file.read(_MOST_VALUES * 24 + 1)
    if len(data) > _MOST_VALUES * 24:
        raise BadInput(f"“{name}” is too large for one input; give at most {_MOST_VALUES} numbers")
    if data.startswith(np.lib.format.MAGIC_PREFIX):
        return _npy(data, name), False
    if data.startswith(_SIGNATURES):
        return _picture(data, name), True
    try:
        return parse_numbers(data.decode()), False
    except UnicodeDecodeError:
        what = "is neither a PNG or JPEG picture nor text nor an .npy file; save it as one of these"
        raise BadInput(f"“{name}” {what}") from None


def _picture(data: bytes, name: str) -> list[float]:
    """Bytes of pixels: one channel of a grey picture, else red, green and blue one after the other.

    Only these two formats are tried, and the size is looked at before anything is unpacked.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as image:
            grey = image.mode in ("1", "L")
            if image.width * image.height * (1 if grey else 3) > _MOST_VALUES:
                raise BadInput(
                    f"“{name}” has {image.width} x {image.height} pixels, over the limit of {_MOST_VALUES} "
                    "values; scale it to the network's input"
                )
            if image.mode not in ("1", "L", "P", "RGB"):
                raise BadInput(
                    f"“{name}” has pixels of kind {image.mode}; save it as grey or RGB of 8 bits, without "
                    "transparency"
                )
            pixels = np.asarray(image.convert("L" if grey else "RGB"), dtype=np.float64)
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError, ValueError) as error:
        raise BadInput(f"“{name}” is no readable picture ({error}); save it again") from None
    return [float(v) for v in (pixels if grey else pixels.transpose(2, 0, 1)).ravel()]


def _npy(data: bytes, name: str) -> list[float]:
    """An array, read without trusting what its header says about its size; never any pickle."""
    file = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(file)
        read = (
            np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        )
        shape, fortran, kind = read(file)
    except ValueError as error:
        raise BadInput(f"“{name}” is no readable .npy file ({error}); save it again") from None
    count = int(np.prod(shape, dtype=object)) if shape else 1
    if kind.kind not in "fiub" or count > _MOST_VALUES or count * kind.itemsize != len(data) - file.tell():
        raise BadInput(f"“{name}” has to be an array of at most {_MOST_VALUES} plain numbers; save it again")
    array = np.frombuffer(data, dtype=kind, offset=file.tell())
    array = array.reshape(shape, order="F" if fortran else "C").astype(np.float64)
    return [float(v) for v in array.ravel()]


def parse_numbers(text: str) -> list[float]:
    """Numbers between commas, semicolons, blanks, line ends or brackets.

    Raises:
        BadInput: there are none, or something else is among them.
    """
    if text.lstrip().startswith("{"):
        text = _of_witness(text)
    parts = re.sub(r"[\[\](),;]", " ", text).split()
    if not parts:
        raise BadInput("give the input's numbers: drop an .npy or .csv file here, or write them below")
    if len(parts) > _MOST_VALUES:
        raise BadInput(f"{len(parts)} numbers are too many for one input; at most {_MOST_VALUES} are read")
    values: list[float] = []
    for i, part in enumerate(parts):
        try:
            values.append(float(part))
        except ValueError:
            raise BadInput(f"“{part[:40]}” (number {i + 1}) is no number; correct it") from None
    return values


def _of_witness(text: str) -> str:
    """The input of a counterexample's JSON file, so that one can be asked about again."""
    try:
        found: Any = json.loads(text)
        return " ".join(repr(float(v)) for v in found["values"]["input"])
    except (ValueError, KeyError, TypeError, RecursionError):
        raise BadInput("this JSON is no counterexample of ours; give a list of numbers") from None
