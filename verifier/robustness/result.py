"""What was found about each sample and each radius."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np

from bounds.graph import Array


class By(enum.Enum):
    """What decided a sample at a radius."""

    NOTHING = ""
    GLOBAL = "lipschitz"
    LOCAL = "local lipschitz"
    BOUNDS = "bounds"
    SEARCH = "search"
    ATTACK = "attack"
    CLEAN = "clean"


@dataclass(frozen=True, slots=True)
class Radius:
    """A radius as it was written, and exactly."""

    text: str
    exact: Fraction

    @property
    def above(self) -> float:
        """A float64 that is not below it."""
        near = float(self.exact)
        return near if Fraction(near) >= self.exact else float(np.nextafter(near, np.inf))


@dataclass(slots=True)
class Table:
    """Per sample and radius (``N R``), radii ascending.

    ``robust[i, k]`` is set only by :meth:`prove`, ``broken[i, k]`` only by :meth:`refute`; both carry over to
    smaller and larger radii, whose balls are contained or contain.

    Attributes:
        correct: ``N`` bool, proved to be classified rightly at the point itself.
        wrong: ``N`` bool, proved not to be.
        proved, found: ``N`` float, the largest radius (number) proved by constants; infinity: none asked.
    """

    robust: Array
    broken: Array
    by: Array
    correct: Array
    wrong: Array

    @staticmethod
    def empty(samples: int, radii: int) -> Table:
        """Nothing known."""
        shape = (samples, radii)
        by = np.full(shape, By.NOTHING, dtype=object)
        no = np.zeros(samples, dtype=bool)
        return Table(np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool), by, no, no.copy())

    @property
    def open(self) -> Array:
        """``N R``: neither proved nor refuted, for samples that are right at the point."""
        return ~self.robust & ~self.broken & self.correct[:, None]

    def prove(self, sample: int, radius: int, by: By) -> None:
        """The class is proved constant up to radius number ``radius``."""
        if self.broken[sample, : radius + 1].any():
            raise AssertionError(f"sample {sample} is proved robust and shown broken at one radius")
        fresh = ~self.robust[sample, : radius + 1]
        self.by[sample, : radius + 1][fresh] = by
        self.robust[sample, : radius + 1] = True

    def refute(self, sample: int, radius: int, by: By) -> None:
        """A point of another class was confirmed within radius number ``radius``."""
        if self.robust[sample, radius:].any():
            raise AssertionError(f"sample {sample} is shown broken and proved robust at one radius")
        fresh = ~self.broken[sample, radius:]
        self.by[sample, radius:][fresh] = by
        self.broken[sample, radius:] = True


@dataclass(frozen=True, slots=True)
class RobustnessReport:
    """Everything a table, a JSON file or a picture needs.

    Attributes:
        model, data: as named by the user. model_sha256: of the model.
        norm: "1", "2" or "inf". method, semantics: as asked for.
        radii: ascending.
        labels, index: ``N``.
        table: see there.
        everywhere, local: ``N``, radii proved by Lipschitz constants (0: none; NaN: not asked for).
        seconds: in all; phases: by name.
        notes: remarks for people.
        certificates: files written.
    """

    model: str
    data: str
    model_sha256: str
    norm: str
    method: str
    semantics: str
    radii: tuple[Radius, ...]
    labels: Array
    index: Array
    table: Table
    everywhere: Array
    local: Array
    seconds: float
    phases: dict[str, float] = field(default_factory=dict[str, float])
    notes: tuple[str, ...] = ()
    certificates: tuple[str, ...] = ()
    seed: int = 0
    version: str = ""

    @property
    def samples(self) -> int:
        """How many."""
        return len(self.labels)

    @property
    def clean(self) -> float:
        """Share of samples proved to be classified rightly."""
        return float(self.table.correct.mean())

    def certified(self, k: int) -> float:
        """Share of samples proved right in the whole ball of radius number k."""
        return float(self.table.robust[:, k].mean())

    def upper(self, k: int) -> float:
        """What certified accuracy cannot exceed at radius number k: attacks succeeded elsewhere."""
        return float((~self.table.broken[:, k]).mean())

    def as_dict(self) -> dict[str, Any]:
        """Plain values, keys in a fixed order."""
        return {
            "format": "surebound-robustness",
            "format_version": 1,
            "version": self.version,
            "model": {"path": self.model, "sha256": self.model_sha256},
            "data": self.data,
            "samples": self.samples,
            "seed": self.seed,
            "norm": self.norm,
            "method": self.method,
            "semantics": self.semantics,
            "clean": self.clean,
            "clean_wrong": float(self.table.wrong.mean()),
            "radii": [self._row(k) for k in range(len(self.radii))],
            "seconds": self.seconds,
            "phases": dict(self.phases),
            "notes": list(self.notes),
            "certificates": list(self.certificates),
            "results": [self._sample(i) for i in range(self.samples)],
        }

    def _row(self, k: int) -> dict[str, Any]:
        robust, broken = self.table.robust[:, k], self.table.broken[:, k]
        by = [self.table.by[i, k].value for i in np.flatnonzero(robust)]
        return {
            "radius": self.radii[k].text,
            "value": float(self.radii[k].exact),
            "certified": self.certified(k),
            "upper": self.upper(k),
            "certified_count": int(robust.sum()),
            "broken_count": int(broken.sum()),
            "open_count": int(self.samples - robust.sum() - broken.sum()),
            "certified_by": {name: by.count(name) for name in dict.fromkeys(by)},
        }

    def _sample(self, i: int) -> dict[str, Any]:
        def number(value: float) -> float | None:
            return float(value) if np.isfinite(value) else None

        return {
            "index": int(self.index[i]),
            "label": int(self.labels[i]),
            "clean": "right" if self.table.correct[i] else "wrong" if self.table.wrong[i] else "undecided",
            "lipschitz_radius": number(self.everywhere[i]),
            "local_lipschitz_radius": number(self.local[i]),
            "radii": [
                "certified" if self.table.robust[i, k] else "broken" if self.table.broken[i, k] else "open"
                for k in range(len(self.radii))
            ],
            "by": [self.table.by[i, k].value for k in range(len(self.radii))],
        }


def lines(report: RobustnessReport) -> list[str]:
    """The table for people; the first line is the certified accuracy per radius in short."""
    head = f"{'radius':>12}  {'certified':>9}  {'at most':>9}  {'proved':>6}  {'broken':>6}  {'open':>6}  by"
    out = [
        f"samples    {report.samples}",
        f"clean      {report.clean:.4f}",
        f"norm       {report.norm}",
        f"semantics  {report.semantics}",
        head,
    ]
    for row in report.as_dict()["radii"]:
        by = ", ".join(f"{name} {n}" for name, n in row["certified_by"].items())
        out.append(
            f"{row['radius']:>12}  {row['certified']:9.4f}  {row['upper']:9.4f}  "
            f"{row['certified_count']:6d}  {row['broken_count']:6d}  {row['open_count']:6d}  {by}".rstrip()
        )
    out.append(f"seconds    {report.seconds:.2f}")
    return [*out, *(f"note       {note}" for note in report.notes)]


__all__: Sequence[str] = ("By", "Radius", "RobustnessReport", "Table", "lines")
