"""Samples as the network is asked about them: chosen, laid out, and preprocessed exactly.

The network is fed ``z = (v / scale - mean) / std``. A ball of radius r around the sample, in the units of
``v / scale``, is in the network's units a box (or a ball) whose ends are computed in rational arithmetic, so
what is proved speaks about the declared units without rounding: per input i of channel c, with norm inf,

    z_i in [(v_i/scale - r - mean_c) / std_c, (v_i/scale + r - mean_c) / std_c],

cut to the valid range likewise.

In the 1- and 2-norm the image of a ball under different divisors is no ball; that is refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
from math import prod
from pathlib import Path

import numpy as np

from bounds.errors import BadInput
from bounds.graph import Array
from verifier.gate.data import read
from verifier.gate.data.base import Wanted
from verifier.gate.entries import DataEntry
from verifier.robustness.data import Reading, checked_labels, chosen, without_ones
from verifier.spec.model import Ball
from verifier.spec.region import Region

ONE, ZERO = Fraction(1), Fraction(0)
NORMS = {"inf": 0, "1": 1, "2": 2}
_MEMO = 100_000  # intervals kept for a radius
Memo = dict[tuple[int, int, int], tuple[Fraction, Fraction]]


@dataclass(frozen=True, slots=True)
class Choice:
    """Which samples: how many (None: all), by which seed, equally many of every label or not."""

    count: int | None
    seed: int
    stratified: bool


@dataclass(frozen=True, slots=True)
class Scaling:
    """The declared preprocessing, for every flat input: ``z = (v / scale - mean) / std``."""

    scale: Fraction
    mean: tuple[Fraction, ...]
    std: tuple[Fraction, ...]
    clip: tuple[Fraction, Fraction] | None

    def to_network(self, v: Sequence[Fraction]) -> tuple[Fraction, ...]:
        """From numbers after scaling to the network's."""
        return tuple((a - m) / s for a, m, s in zip(v, self.mean, self.std, strict=True))

    def to_data(self, z: Sequence[Fraction]) -> tuple[Fraction, ...]:
        """Back from the network's numbers to those after scaling."""
        return tuple(a * s + m for a, m, s in zip(z, self.mean, self.std, strict=True))


@dataclass(frozen=True, slots=True)
class GateSamples:
    """Chosen samples.

    Attributes:
        names: for people. labels: ``N``.
        points: ``N`` tuples of exact numbers after scaling, before mean and std.
        shape: of one sample, as the network takes it.
        scaling: see there. source: where from. notes: what was done to the numbers.
        sha256: digest of points, labels and preprocessing.
        memo: see :meth:`_ends`.
    """

    names: tuple[str, ...]
    labels: tuple[int, ...]
    points: tuple[tuple[Fraction, ...], ...]
    shape: tuple[int, ...]
    scaling: Scaling
    source: str
    notes: tuple[str, ...]
    sha256: str
    memo: dict[Fraction, Memo] = field(default_factory=dict[Fraction, Memo], compare=False, repr=False)

    def region(self, i: int, radius: Fraction, norm: str) -> Region:
        """The ball around sample i, in the network's units, exactly.

        Raises:
            BadInput: it is no ball there.
        """
        s, v = self.scaling, self.points[i]
        ball = None
        if NORMS[norm]:
            if len(set(s.std)) > 1:
                raise BadInput(
                    f"{self.source}: in the {norm}-norm all inputs need the same std: divided by different "
                    'numbers a ball is no ball; use norm = "inf", or let the network normalise by itself'
                )
            ball = Ball(s.to_network(v), radius / s.std[0], NORMS[norm])
        ends = self._ends(v, radius)
        return Region(tuple(a for a, _ in ends), tuple(b for _, b in ends), ball)

    def _ends(self, v: Sequence[Fraction], radius: Fraction) -> list[tuple[Fraction, Fraction]]:
        """Of every input's interval in the network's units.

        Pixels take few values, and equal ones are one object: telling them by identity makes exact arithmetic
        cheap. Points and scaling keep the objects alive.
        """
        s, known = self.scaling, self.memo.setdefault(radius, {})
        if len(known) > _MEMO:
            known.clear()
        ends: list[tuple[Fraction, Fraction]] = []
        for a, mean, std in zip(v, s.mean, s.std, strict=True):
            at = (id(a), id(mean), id(std))
            found = known.get(at)
            if found is None:
                low, high = a - radius, a + radius
                if s.clip is not None:
                    low, high = max(low, s.clip[0]), min(high, s.clip[1])
                found = known[at] = ((low - mean) / std, (high - mean) / std)
            ends.append(found)
        return ends


def load_samples(
    path: Path, name: str, entry: DataEntry, shape: Sequence[int], classes: int, choice: Choice
) -> GateSamples:
    """Reads, chooses and fits samples.

    Args:
        path: file or folder. name: as in messages.
        entry: how it is read.
        shape: of the network's input, batch axis included. classes: its outputs.
        choice: which samples.

    Raises:
        BadInput: they do not fit the network, or are not there.
    """
    wanted = tuple(shape[1:]) if len(shape) > 1 and shape[0] == 1 else tuple(shape)
    raw = read(path, entry, Wanted(entry.inputs, entry.labels, _channels(wanted)))
    labels = checked_labels(raw.labels, raw.count, classes, f"{name}, labels", raw.where)
    if choice.count is not None and choice.count > raw.count:
        raise BadInput(f"{raw.where}: holds {raw.count} samples, {choice.count} are asked for; lower samples")
    places = chosen(labels, Reading(count=choice.count, seed=choice.seed, stratified=choice.stratified))
    x, axis, notes = _laid_out(raw.take(places), wanted, entry, raw.where)
    scale, exact = _exact(x, entry.scale, raw.where)
    if scale != 1 and entry.scale is None:
        notes.append("whole numbers of 8 bits were divided by 255 (scale = 1 leaves them)")
    scaling = _scaling(entry, scale, wanted, axis, name)
    _inside(exact, scaling.clip, [raw.names[int(p)] for p in places], raw.where)
    told = hashlib.sha256(repr((exact, labels[places].tolist(), scaling)).encode()).hexdigest()
    return GateSamples(
        tuple(raw.names[int(p)] for p in places), tuple(labels[places].tolist()), exact, wanted, scaling,
        name, tuple(notes), told,
    )  # fmt: skip


def _channels(shape: tuple[int, ...]) -> int:
    return (
        next((n for n in (shape[0], shape[-1]) if n in (1, 3)), 0)
        if len(shape) == 3
        else int(len(shape) == 2)
    )


def _laid_out(
    x: Array, wanted: tuple[int, ...], entry: DataEntry, where: str
) -> tuple[Array, int, list[str]]:
    """Samples ``N *wanted``, and the axis (of one sample) that holds channels."""
    if x.dtype.kind not in "iufb":
        raise BadInput(f"{where}: holds {x.dtype}, not numbers; convert it first")
    notes: list[str] = []
    own = x.shape[1:]
    if len(wanted) == 3 and len(own) == 2 and 1 in (wanted[0], wanted[2]):
        x = x[:, None] if wanted[0] == 1 else x[..., None]
        own = x.shape[1:]
    moved = len(own) == 3 and (own[2], *own[:2]) == wanted
    if moved and (own != wanted or entry.channels == "last") and entry.channels != "first":
        x, own = x.transpose(0, 3, 1, 2), wanted
        notes.append("the file has channels last, the network channels first: axes were moved")
    if own != wanted and without_ones(own) != without_ones(wanted) and prod(own) != prod(wanted):
        raise BadInput(f"{where}: samples have shape {own}, the network takes {wanted}; reshape the data")
    if own != wanted and without_ones(own) != without_ones(wanted):
        if len(without_ones(own)) > 1 and len(without_ones(wanted)) > 1:
            raise BadInput(f"{where}: samples have shape {own}, the network takes {wanted}; reshape the data")
        notes.append(f"samples of shape {own} were read as {wanted}")
    x = x.reshape(len(x), *wanted)
    axis = 0
    if (
        len(wanted) == 3
        and (wanted[0] not in (1, 3) or entry.channels == "last")
        and wanted[2] in (1, 3)
        and not moved
    ):
        axis = 2
    if entry.colours == "bgr":
        if len(wanted) != 3 or wanted[axis] != 3:
            raise BadInput(f'{where}: colours = "bgr" needs images of 3 channels, the network takes {wanted}')
        x = np.flip(x, axis=axis + 1)
        notes.append("colours were reordered to blue, green, red")
    return x, axis, notes


def _exact(x: Array, scale: Fraction | None, where: str) -> tuple[Fraction, tuple[tuple[Fraction, ...], ...]]:
    if scale is None:
        scale = Fraction(255) if x.dtype == np.uint8 else ONE
    flat = x.reshape(len(x), -1)
    if x.dtype.kind == "f" and not np.isfinite(flat).all():
        bad = int(np.flatnonzero(~np.isfinite(flat).all(axis=1))[0])
        raise BadInput(
            f"{where}: a chosen sample (the {bad + 1}th) holds a number that is not finite; clean the data"
        )
    # float16 and float32 become float64 exactly; many pixels are equal, and a quotient of fractions costs
    kept = flat.astype(np.float64).tolist() if x.dtype.kind == "f" else flat.astype(object).tolist()

    @cache
    def quotient(v: int | float) -> Fraction:
        return Fraction(v) / scale

    return scale, tuple(tuple(quotient(v) for v in row) for row in kept)


def _scaling(entry: DataEntry, scale: Fraction, shape: tuple[int, ...], axis: int, name: str) -> Scaling:
    channel = (
        np.moveaxis(np.indices(shape), 0, -1)[..., axis].reshape(-1) if shape else np.zeros(1, dtype=int)
    )

    def spread(word: str, values: tuple[Fraction, ...], default: Fraction) -> tuple[Fraction, ...]:
        if len(values) > 1 and len(values) != shape[axis]:
            raise BadInput(
                f"[data.{name}]: {word} has {len(values)} numbers, the network takes {shape} with "
                f"{shape[axis]} channels; give one number, or one per channel"
            )
        return tuple(values[c] if len(values) > 1 else (values or (default,))[0] for c in channel.tolist())

    clip = (entry.clip[0], entry.clip[1]) if entry.clip else None
    return Scaling(scale, spread("mean", entry.mean, ZERO), spread("std", entry.std, ONE), clip)


def _inside(
    points: Sequence[Sequence[Fraction]],
    clip: tuple[Fraction, Fraction] | None,
    names: Sequence[str],
    where: str,
) -> None:
    if clip is None:
        return
    for name, point in zip(names, points, strict=True):
        bad = next((v for v in point if not clip[0] <= v <= clip[1]), None)
        if bad is not None:
            raise BadInput(
                f"{where}: sample {name} has the number {float(bad):g}, outside clip [{float(clip[0]):g}, "
                f"{float(clip[1]):g}]; correct scale or clip"
            )
