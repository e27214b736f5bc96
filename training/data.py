"""Examples: NumPy archives, image folders, scikit-learn's digits, torchvision's sets; and augmentation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from bounds.errors import BadInput
from training.config import DataConfig

_NAMES = (("x_train", "y_train", "x_test", "y_test"), ("train_x", "train_y", "test_x", "test_y"))
_IMAGES = (".png", ".jpg", ".jpeg", ".bmp")


@dataclass(frozen=True, slots=True)
class Dataset:
    """Float32 inputs ``N *x`` (images ``N c h w``) and labels ``N``."""

    train_x: Tensor
    train_y: Tensor
    test_x: Tensor
    test_y: Tensor
    classes: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one input."""
        return tuple(self.train_x.shape[1:])


def load(config: DataConfig, arrays: Any = None) -> Dataset:
    """The examples a configuration names.

    Args:
        config: see there.
        arrays: for source "arrays": ``(train_x, train_y, test_x, test_y)``.

    Raises:
        BadInput: they cannot be had; the message says what to do.
    """
    if config.source == "arrays":
        if arrays is None:
            raise BadInput('source = "arrays" is for the Python call: give train(..., arrays=...)')
        parts = [np.asarray(a) for a in arrays]
    else:
        parts = _SOURCES[config.source](config)
    train_x, test_x = (_inputs(x, config) for x in (parts[0], parts[2]))
    train_y, test_y = (_labels(y) for y in (parts[1], parts[3]))
    if len(train_x) != len(train_y) or len(test_x) != len(test_y) or not len(train_x) or not len(test_x):
        raise BadInput(f"{config.source}: inputs and labels differ in number, or there are none")
    classes = int(max(train_y.max(), test_y.max())) + 1
    if config.train_limit:
        train_x, train_y = train_x[: config.train_limit], train_y[: config.train_limit]
    if config.test_limit:
        test_x, test_y = test_x[: config.test_limit], test_y[: config.test_limit]
    return Dataset(train_x, train_y, test_x, test_y, classes)


def _inputs(x: Any, config: DataConfig) -> Tensor:
    default = 16.0 if config.source == "digits" else 255.0 if x.dtype == np.uint8 else 1.0
    scale = config.scale or default
    values = torch.from_numpy(np.ascontiguousarray(x.astype(np.float32) / np.float32(scale)))
    if not bool(torch.isfinite(values).all()):
        raise BadInput(f"{config.path or config.source}: inputs hold a NaN or an infinity")
    if values.dim() == 3:  # grey images
        values = values[:, None]
    elif values.dim() == 4 and values.shape[-1] in (1, 3) and values.shape[1] not in (1, 3):
        values = values.permute(0, 3, 1, 2).contiguous()
    return values.flatten(1) if config.flat else values


def _labels(y: Any) -> Tensor:
    labels = np.asarray(y).reshape(-1)
    if labels.dtype.kind not in "iu" or (labels.size and labels.min() < 0):
        raise BadInput("labels must be whole numbers from 0 on")
    return torch.from_numpy(labels.astype(np.int64))


def _digits(_config: DataConfig) -> list[Any]:
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise BadInput("the digits come with scikit-learn: pip install scikit-learn") from None
    raw: Any = load_digits()
    images, labels = raw.images.astype(np.float32), raw.target
    order = np.random.default_rng(0).permutation(len(labels))  # a split of our own, always the same
    images, labels = images[order].reshape(-1, 1, 8, 8), labels[order]
    cut = 1437
    return [images[:cut], labels[:cut], images[cut:], labels[cut:]]


def _npz(config: DataConfig) -> list[Any]:
    path = Path(config.path)
    if not path.is_file():
        raise BadInput(f"{config.path or 'path'}: no such file; 'path' names an npz archive")
    with np.load(path, allow_pickle=False) as archive:
        for names in _NAMES:
            if all(n in archive for n in names):
                return [archive[n] for n in names]
        held = ", ".join(archive.files)
    raise BadInput(f"{path}: needs arrays {', '.join(_NAMES[0])}; it holds {held}")


def _folder(config: DataConfig) -> list[Any]:
    try:
        from PIL import Image
    except ImportError:
        raise BadInput("image folders need Pillow: pip install pillow") from None
    root = Path(config.path)
    names = (
        sorted(d.name for d in (root / "train").iterdir() if d.is_dir()) if (root / "train").is_dir() else []
    )
    if not names:
        raise BadInput(f"{root}: needs train/CLASS/*.png and test/CLASS/*.png")
    parts: list[Any] = []
    for split in ("train", "test"):
        images: list[Any] = []
        labels: list[int] = []
        for label, name in enumerate(names):
            for file in sorted((root / split / name).glob("*")):
                if file.suffix.lower() in _IMAGES:
                    with Image.open(file) as image:
                        images.append(np.asarray(image.convert("L" if image.mode in "1L" else "RGB")))
                    labels.append(label)
        if len({i.shape for i in images}) != 1:
            raise BadInput(f"{root / split}: images must have one size and mode")
        parts += [np.stack(images), np.array(labels, dtype=np.int64)]
    return parts


def _torchvision(config: DataConfig) -> list[Any]:
    try:
        from torchvision import datasets  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise BadInput("this source needs torchvision: pip install torchvision") from None
    kind = getattr(datasets, config.name, None)
    if kind is None:
        raise BadInput(f"torchvision has no data set '{config.name}'")
    parts: list[Any] = []
    for train in (True, False):
        data = kind(config.path or "data", train=train, download=True)
        parts += [np.asarray(data.data), np.asarray(data.targets)]
    return parts


_SOURCES = {"digits": _digits, "npz": _npz, "folder": _folder, "torchvision": _torchvision}


def augment(x: Tensor, config: DataConfig, generator: torch.Generator) -> Tensor:
    """A batch with the augmentations that the configuration names.

    Raises:
        BadInput: an unknown one, or one for images applied to vectors.
    """
    for name in config.augment:
        if name == "noise":
            x = x + config.noise * torch.randn(x.shape, generator=generator).to(x.device)
            continue
        if name not in ("shift", "flip"):
            raise BadInput(f"unknown augmentation '{name}'; choose from shift, flip, noise")
        if x.dim() != 4:
            raise BadInput(f"augmentation '{name}' is for images, and inputs are vectors")
        if name == "flip":
            flipped = (torch.rand(len(x), generator=generator) < 0.5).to(x.device)
            x = torch.where(flipped[:, None, None, None], x.flip(3), x)
        else:
            x = _shifted(x, config.shift, generator)
    return x


def _shifted(x: Tensor, most: int, generator: torch.Generator) -> Tensor:
    h, w = x.shape[2:]
    padded = functional.pad(x, (most,) * 4)
    moves = torch.randint(0, 2 * most + 1, (2, len(x)), generator=generator)
    rows = (moves[0][:, None] + torch.arange(h))[:, None, :, None]
    columns = (moves[1][:, None] + torch.arange(w))[:, None, None, :]
    number, channel = torch.arange(len(x))[:, None, None, None], torch.arange(x.shape[1])[None, :, None, None]
    return padded[number, channel, rows, columns]
