"""``surebound.toml``: the values, read with file and line in every complaint.

The reference page and the published JSON schema are generated from :mod:`verifier.gate.entries` and
:mod:`verifier.gate.requirements` (``python docs/gen_gate.py``). Decimals are read exactly: ``0.1`` is one
tenth.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from bounds import settings
from bounds.errors import SpecError
from bounds.settings import Key, Reader, near
from verifier.gate.entries import BudgetEntry, CacheEntry, DataEntry, GateEntry, ModelEntry
from verifier.gate.requirements import KINDS
from verifier.gate.requirements.base import Stated

NAME = "surebound.toml"
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True, slots=True)
class GateConfig:
    """A whole file.

    Attributes:
        file: as named by the user. folder: of the file; paths are relative to it.
        top, budget, cache, models, data: the tables.
        requirements: in the file's order.
    """

    file: str
    folder: Path
    top: GateEntry
    budget: BudgetEntry
    cache: CacheEntry
    models: Mapping[str, ModelEntry]
    data: Mapping[str, DataEntry]
    requirements: tuple[Stated, ...]
    places: Reader = field(repr=False)

    def resolve(self, path: str) -> Path:
        """A path of the file."""
        return self.folder / path

    def fail(self, path: Key, message: str) -> SpecError:
        """The error about a key, with its line."""
        return self.places.fail(path, message)


def read_config(path: str | Path) -> GateConfig:
    """Reads and checks a file; whatever can be told without loading a network is told here.

    Raises:
        SpecError: with file, line and what to write instead.
        BadInput: it cannot be read.
    """
    values, places = settings.load(path, exact=True)
    return _read(values, Reader(str(path), places), Path(path).parent)


def parse_config(text: str, file: str = NAME, folder: Path | None = None) -> GateConfig:
    """The same from text."""
    values, places = settings.loads(text, file, exact=True)
    return _read(values, Reader(file, places), folder or Path())


_TABLES = ("budget", "cache", "models", "data", "requirement")


def _read(values: dict[str, Any], reader: Reader, folder: Path) -> GateConfig:
    rest = {name: value for name, value in values.items() if name not in _TABLES}
    unknown = [n for n in rest if n not in GateEntry.__dataclass_fields__]
    if unknown:
        known = (*GateEntry.__dataclass_fields__, *_TABLES)
        raise reader.fail((unknown[0],), f"unknown key '{unknown[0]}'; {near(unknown[0], known)}")
    top = reader.table(GateEntry, rest)
    if top.version != 1:
        raise reader.fail(
            ("version",),
            f"version {top.version} is not known; this program reads version 1: update surebound",
        )
    config = GateConfig(
        reader.file,
        folder,
        top,
        reader.table(BudgetEntry, values.get("budget", {}), ("budget",)),
        reader.table(CacheEntry, values.get("cache", {}), ("cache",)),
        reader.tables(ModelEntry, values.get("models", {}), ("models",)),
        reader.tables(DataEntry, values.get("data", {}), ("data",)),
        tuple(_requirements(values.get("requirement", []), reader)),
        reader,
    )
    _check(config)
    return config


def _requirements(given: Any, reader: Reader) -> list[Stated]:
    if not isinstance(given, list) or not all(isinstance(one, dict) for one in given):
        raise reader.fail(("requirement",), "requirements are tables of an array: write [[requirement]]")
    found: list[Stated] = []
    for i, one in enumerate(given):
        path: Key = ("requirement", i)
        kind = one.get("kind")
        if not isinstance(kind, str) or kind not in KINDS:
            told = "lacks the key 'kind'" if kind is None else f"has the unknown kind '{kind}'"
            where = (*path, "kind") if kind is not None else path
            raise reader.fail(where, f"a requirement {told}; {near(kind or '', KINDS)}")
        found.append(Stated(reader.table(KINDS[kind].settings, one, path), i, reader.place(path)[0]))
    return found


def _check(config: GateConfig) -> None:
    if not config.requirements:
        raise config.fail((), "states no requirement; add [[requirement]] tables")
    for name, model in config.models.items():
        _exists(config, ("models", name, "path"), model.path)
    for name, data in config.data.items():
        _exists(config, ("data", name, "path"), data.path)
        _check_data(config, name, data)
    seen: set[str] = set()
    for stated in config.requirements:
        path: Key = ("requirement", stated.index)
        entry = stated.settings
        if not _ID.fullmatch(entry.id):
            told = "use letters, digits, '.', '_' and '-', the first a letter or digit"
            raise config.fail((*path, "id"), f"'{entry.id}' cannot be an id; {told}")
        if entry.id in seen:
            raise config.fail((*path, "id"), f"id '{entry.id}' is used twice; give every requirement its own")
        seen.add(entry.id)
        for word in KINDS[entry.kind].models:
            _names(config, (*path, word), getattr(entry, word), config.models, "models")
        if KINDS[entry.kind].data:
            _names(config, (*path, "data"), getattr(entry, "data"), config.data, "data")  # noqa: B009
    for stated in config.requirements:
        KINDS[stated.settings.kind].check(config, stated)


def _exists(config: GateConfig, path: Key, name: str) -> None:
    if not name.isprintable():
        raise config.fail(path, f"{name!r} is no path; correct it")
    place = config.resolve(name)
    if not place.exists() and not place.with_name(place.name + ".gz").exists():
        raise config.fail(path, f"'{name}' does not exist (looked for {place}); correct the path")


def _names(config: GateConfig, path: Key, name: str, known: Mapping[str, object], what: str) -> None:
    if name not in known:
        hint = near(name, known) if known else f"add a table [{what}.{name}]"
        raise config.fail(path, f"there is no [{what}.{name}]; {hint}")


def _check_data(config: GateConfig, name: str, data: DataEntry) -> None:
    def numbers(word: str, values: Sequence[Fraction]) -> None:
        if values and len(values) != 2:
            raise config.fail(("data", name, word), f"'{word}' has {len(values)} numbers; give [low, high]")

    numbers("clip", data.clip)
    if data.clip and data.clip[0] >= data.clip[1]:
        raise config.fail(("data", name, "clip"), "'clip' is empty; give the smaller number first")
    if data.mean and data.std and len({len(data.mean), len(data.std)} - {1}) > 1:
        raise config.fail(
            ("data", name, "mean"),
            f"'mean' has {len(data.mean)} numbers, 'std' {len(data.std)}; give one, or one per channel",
        )
