"""Folders of images: CLASS/IMAGE; names that are whole numbers are labels, others count in their order."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bounds.errors import BadInput
from bounds.graph import Array
from verifier.gate.data.base import Raw, Wanted

SUFFIXES = (".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".jpg", ".jpeg", ".ppm", ".pgm")
MODES = {1: "L", 3: "RGB"}


def read(path: Path, wanted: Wanted) -> Raw:
    """See :class:`verifier.gate.data.base.Raw`; images are opened when they are taken."""
    try:
        importlib.import_module("PIL.Image")  # asked for before anything else, to complain early
    except ImportError:
        raise BadInput(f"{path}: reading images needs Pillow: pip install 'surebound[gate]'") from None
    if not path.is_dir():
        raise BadInput(f"{path}: is no folder; give one that holds a folder of images for every class")
    classes = sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))
    numbered = all(c.name.isdecimal() for c in classes)
    files: list[Path] = []
    labels: list[int] = []
    for i, folder in enumerate(classes):
        mine = sorted(f for f in folder.iterdir() if f.suffix.lower() in SUFFIXES)
        files += mine
        labels += [int(folder.name) if numbered else i] * len(mine)
    if not files:
        raise BadInput(
            f"{path}: holds no images in folders named after classes (CLASS/IMAGE.png); check the path"
        )
    names = [str(f.relative_to(path)) for f in files]
    return Raw(np.array(labels), names, lambda places: _images(files, places, wanted.channels), str(path))


def _images(files: Sequence[Path], places: Array, channels: int) -> Array:
    """``N H W`` or ``N H W 3``, bytes."""
    found = [_image(files[int(i)], channels) for i in places]
    odd = next((i for i, one in enumerate(found) if one.shape != found[0].shape), None)
    if odd is not None:
        raise BadInput(
            f"{files[int(places[odd])]}: has shape {found[odd].shape}, {files[int(places[0])]} has "
            f"{found[0].shape}; images of one folder must be alike; resize them beforehand"
        )
    return np.stack(found)


def _image(file: Path, channels: int) -> Array:
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file) as image:
                image = image.convert("RGB") if image.mode == "P" else image
                wanted = MODES.get(channels, image.mode)
                grey_to_colour = (image.mode, wanted) == ("L", "RGB")
                if image.mode not in MODES.values() or (image.mode != wanted and not grey_to_colour):
                    raise BadInput(
                        f"{file}: has mode {image.mode}, the network takes {wanted}; convert the image, as "
                        "the verifier does not choose how"
                    )
                return np.asarray(image.convert(wanted))
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError, Warning) as error:
        raise BadInput(f"{file}: cannot be read as an image ({error}); replace it") from None
