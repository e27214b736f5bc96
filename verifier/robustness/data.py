"""Samples of a labelled data set, as the points a network is asked about.

A sample is a point of float32 numbers (what a deployed network would be fed). Files are NumPy archives
(``.npz``) with one array of inputs and one of labels.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bounds.errors import BadInput, LimitExceeded
from bounds.graph import Array

# names tried in this order where the user gives none
INPUT_KEYS = ("x", "X", "images", "inputs", "data", "x_test", "test_images", "X_test")
LABEL_KEYS = ("y", "Y", "labels", "targets", "target", "y_test", "test_labels", "Y_test")
MAX_BYTES = 1 << 33


@dataclass(frozen=True, slots=True)
class Samples:
    """Labelled points.

    Attributes:
        x: ``N inputs`` float64; every number is a float32.
        y: ``N`` int64, the right outputs.
        index: ``N`` int64, the samples' places in the file.
        source: where they are from, for messages.
        notes: what was done to the file's numbers.
    """

    x: Array
    y: Array
    index: Array
    source: str = "data"
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.y)


@dataclass(frozen=True, slots=True)
class Reading:
    """How a file is read.

    Attributes:
        inputs, labels: names of the arrays; None: the first of the usual ones.
        scale: inputs are divided by it; None: by 255 where they are whole numbers of 8 bits.
        count: samples wanted, None for all.
        seed: of choosing them.
        stratified: equally many of every label, as far as there are.
    """

    inputs: str | None = None
    labels: str | None = None
    scale: float | None = None
    count: int | None = None
    seed: int = 0
    stratified: bool = True


def load_samples(
    path: str | Path, shape: Sequence[int], classes: int, reading: Reading | None = None
) -> Samples:
    """Reads and chooses samples for a network.

    Args:
        path: an ``.npz`` file.
        shape: of the network's input, a leading batch axis of 1 included or not.
        classes: number of the network's outputs.
        reading: see there.

    Raises:
        BadInput: the file cannot be read, or does not fit the network.
    """
    reading = reading or Reading()
    arrays = read_archive(Path(path))
    x_name, x = pick_array(arrays, reading.inputs, INPUT_KEYS, path, "inputs")
    y_name, y = pick_array(arrays, reading.labels, LABEL_KEYS, path, "labels")
    where = f"{path}, array '{x_name}'"
    labels = checked_labels(y, len(x) if x.ndim else 0, classes, f"{path}, array '{y_name}'", where)
    index = chosen(labels, reading)
    points, notes = _points(x[index], shape, reading.scale, where)
    return Samples(points, labels[index], index, str(path), tuple(notes))


def chosen(labels: Array, reading: Reading) -> Array:
    """Places of the wanted samples, sorted; the same for the same seed."""
    total = len(labels)
    count = total if reading.count is None else reading.count
    if count < 1:
        raise BadInput(f"{count} samples are asked for; give a number of at least 1")
    if count >= total:
        return np.arange(total)
    rng = np.random.default_rng(reading.seed)
    order = rng.permutation(total)
    if reading.stratified:
        # round robin over labels: the k-th sample of each label before the k+1-th of any
        rank = np.empty(total, dtype=np.int64)
        for label in np.unique(labels):
            mine = order[labels[order] == label]
            rank[mine] = np.arange(len(mine))
        order = order[np.argsort(rank[order], kind="stable")]
    return np.sort(order[:count])


def read_archive(path: Path) -> dict[str, Array]:
    """All arrays of an ``.npz`` file.

    Raises:
        BadInput, LimitExceeded: it cannot be read.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise LimitExceeded(
                f"{path}: over {MAX_BYTES} bytes; keep the samples of interest in a smaller file"
            )
        file = np.load(path, allow_pickle=False)
        if not isinstance(file, np.lib.npyio.NpzFile):
            what = "is a single array; save inputs and labels with numpy.savez(x=..., y=...)"
            raise BadInput(f"{path}: {what}")
        with file:
            return {name: file[name] for name in file.files}
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror or error}); check the path") from None
    except (ValueError, zipfile.BadZipFile, EOFError) as error:
        reason = " ".join(str(error).split())
        raise BadInput(
            f"{path}: is no archive of plain arrays ({reason}); save it with numpy.savez"
        ) from None


def pick_array(
    arrays: Mapping[str, Array],
    wanted: str | None,
    usual: Sequence[str],
    path: object,
    what: str,
    option: str = "--",
) -> tuple[str, Array]:
    """The wanted array, or the first under a usual name; ``option`` + ``what`` is how to name another."""
    there = ", ".join(arrays) or "nothing"
    for name in usual if wanted is None else (wanted,):
        if name in arrays:
            return name, arrays[name]
    asked = f"no array '{wanted}'" if wanted is not None else f"no array of {what} under a usual name"
    raise BadInput(f"{path}: has {asked} (it holds {there}); name one with {option}{what}")


def checked_labels(y: Array, count: int, classes: int, where: str, inputs: str) -> Array:
    """Labels ``N`` int64, each an output of the network; ``where``, ``inputs`` name the arrays.

    Raises:
        BadInput: they are something else.
    """
    y = np.asarray(y)
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim != 1 or y.dtype.kind not in "iuf" or len(y) != count:
        raise BadInput(
            f"{where}: has shape {y.shape} and type {y.dtype}; give one whole number for each of the {count} "
            f"samples of {inputs}"
        )
    if not count:
        raise BadInput(f"{inputs}: holds no samples")
    bad = np.flatnonzero(~((y >= 0) & (y < classes) & (y == np.floor(y))))
    if len(bad):
        raise BadInput(
            f"{where}: label {y[bad[0]]} of sample {bad[0]} is no output of the network; "
            f"labels must be whole numbers from 0 to {classes - 1}"
        )
    return y.astype(np.int64)


def _points(x: Array, shape: Sequence[int], scale: float | None, where: str) -> tuple[Array, list[str]]:
    notes: list[str] = []
    if x.dtype.kind not in "iufb":
        raise BadInput(f"{where}: holds {x.dtype}, not numbers; convert it first")
    own, wanted = x.shape[1:], tuple(shape[1:]) if len(shape) > 1 and shape[0] == 1 else tuple(shape)
    plain = without_ones(own)
    if plain != without_ones(wanted) and plain != (int(np.prod(wanted, dtype=np.int64)),):
        if len(own) == 3 and (own[2], *own[:2]) == wanted:
            x = x.transpose(0, 3, 1, 2)
            notes.append("the file has channels last, the network channels first: axes were moved")
        elif (
            int(np.prod(own, dtype=np.int64)) == int(np.prod(wanted, dtype=np.int64))
            and len(without_ones(wanted)) == 1
        ):
            notes.append(f"samples of shape {own} were flattened")
        else:
            raise BadInput(
                f"{where}: samples have shape {own}, the network takes {wanted}; reshape the file's array"
            )
    if scale is None:
        scale = 255.0 if x.dtype == np.uint8 else 1.0
        if scale != 1:
            notes.append("whole numbers of 8 bits were divided by 255 (--scale 1 leaves them)")
    if not (np.isfinite(scale) and scale > 0):
        raise BadInput(f"--scale is {scale}; give a number above 0")
    points = (x.reshape(len(x), -1).astype(np.float64) / scale).astype(np.float32).astype(np.float64)
    bad = np.flatnonzero(~np.isfinite(points).all(axis=1))
    if len(bad):
        raise BadInput(
            f"{where}: a chosen sample (the {bad[0] + 1}th) is not finite in float32; clean the data"
        )
    return points, notes


def without_ones(shape: Sequence[int]) -> tuple[int, ...]:
    """A shape less its axes of length 1."""
    return tuple(n for n in shape if n != 1)


__all__: Sequence[Any] = (
    "Reading", "Samples", "checked_labels", "chosen", "load_samples", "pick_array", "read_archive",
    "without_ones",
)  # fmt: skip
