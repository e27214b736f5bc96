"""Competition instances: lists, expected verdicts with official times, and samples."""

from __future__ import annotations

import csv
import gzip
import hashlib
import shutil
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from _vnncomp_tools import SURE

# (seconds, verdict) columns of alpha,beta-CROWN's official results on a GPU, the newer first
_OFFICIAL = (
    ("abcrown_2025_seconds", "abcrown_2025_verdict"),
    ("abcrown_same_source_seconds", "abcrown_same_source_verdict"),
)
Key = tuple[str, str, str]


@dataclass(frozen=True)
class Instance:
    """One query.

    Attributes:
        family, onnx, vnnlib: as in the lists; together they name it.
        timeout: seconds, after the cap.
        expected: known verdict or "unknown" or "" (not listed).
        official: seconds of alpha,beta-CROWN's official run on a GPU if it decided, start-up included.
        official_verdict: of that run, or "".
    """

    family: str
    onnx: str
    vnnlib: str
    timeout: float
    expected: str = ""
    official: float | None = None
    official_verdict: str = ""

    @property
    def key(self) -> Key:
        return self.family, self.onnx, self.vnnlib


def read(root: Path, families: list[str], expected: Path | None, cap: float) -> list[Instance]:
    """The instances of the families (default: all under the root), in the order of the files.

    Args:
        root: a folder per family, each with an ``instances.csv`` (onnx,vnnlib,timeout).
        families: names of these folders.
        expected: a CSV file with at least family,onnx,vnnlib,expected; default ``root/expected.csv``.
        cap: greatest time limit, seconds.

    Raises:
        ValueError: a list is missing or malformed; file and line are named.
    """
    if expected is None and (root / "expected.csv").exists():
        expected = root / "expected.csv"
    known = _expected(expected) if expected else {}
    found: dict[Key, Instance] = {}
    for family in families or sorted(p.parent.name for p in root.glob("*/instances.csv")):
        found |= {i.key: i for i in _family(root, family, cap)}  # a list may name an instance twice
    if not found:
        raise ValueError(f"{root} has no family with an instances.csv")
    return [replace(i, **known.get(i.key, {})) for i in found.values()]


def _family(root: Path, family: str, cap: float) -> list[Instance]:
    path = root / family / "instances.csv"
    found: list[Instance] = []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            for number, row in enumerate(csv.reader(file), 1):
                if row:
                    found.append(_instance(family, row, cap, f"{path}, line {number}"))
    except OSError as e:
        raise ValueError(f"{path}: {e.strerror}") from e
    return found


def _instance(family: str, row: list[str], cap: float, place: str) -> Instance:
    try:
        onnx, vnnlib, seconds = (cell.strip() for cell in row[:3])
        limit = min(float(seconds), cap)
    except ValueError as e:
        raise ValueError(f"{place}: {','.join(row)!r} is not onnx,vnnlib,timeout") from e
    if not limit > 0:
        raise ValueError(f"{place}: the time limit {seconds} is not above 0")
    return Instance(family, onnx, vnnlib, limit)


def _expected(path: Path) -> dict[Key, dict[str, Any]]:
    known: dict[Key, dict[str, Any]] = {}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                fields: dict[str, Any] = {"expected": row["expected"]}
                for seconds, verdict in _OFFICIAL:
                    if row.get(seconds) and row.get(verdict) in SURE:
                        fields |= {"official": float(row[seconds]), "official_verdict": row[verdict]}
                        break
                known[row["family"], row["onnx"], row["vnnlib"]] = fields
    except OSError as e:
        raise ValueError(f"{path}: {e.strerror}") from e
    except KeyError as e:
        raise ValueError(f"{path} has no column {e}") from e
    return known


def listed(instances: list[Instance], path: Path) -> list[Instance]:
    """Those named in a CSV file with the columns family, onnx and vnnlib, in their old order.

    Raises:
        ValueError: the file cannot be read, lacks a column, or names what is not among the instances.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            wanted = {(row["family"], row["onnx"], row["vnnlib"]) for row in csv.DictReader(file)}
    except OSError as e:
        raise ValueError(f"{path}: {e.strerror}") from e
    except KeyError as e:
        raise ValueError(f"{path} has no column {e}") from e
    # leaving one out silently would make a list look shorter than it is
    if absent := wanted - {i.key for i in instances}:
        raise ValueError(f"{path} names {' '.join(min(absent))}, which the families do not list")
    return [i for i in instances if i.key in wanted]


def sample(instances: list[Instance], size: int, seed: int) -> list[Instance]:
    """A stratified sample that depends on the seed and the names only.

    Families get equally many as far as they have them (a family of 186 does not crowd out one of 4); within
    a family, expected verdicts keep their shares.

    Returns:
        At most ``size`` instances, in their old order.
    """
    families: dict[str, list[Instance]] = defaultdict(list)
    for instance in instances:
        families[instance.family].append(instance)
    queues = [_spread(group, seed) for _, group in sorted(families.items())]
    # no family is favoured by its name when the last turn is not complete
    queues.sort(key=lambda queue: _hash(queue[0], seed))
    picked: set[Key] = set()
    for turn in range(max((len(queue) for queue in queues), default=0)):
        for queue in queues:
            if turn < len(queue) and len(picked) < size:
                picked.add(queue[turn].key)
    return [i for i in instances if i.key in picked]


def _spread(group: list[Instance], seed: int) -> list[Instance]:
    """The group in an order of which every prefix has about the group's shares of expected verdicts."""
    strata: dict[str, list[Instance]] = defaultdict(list)
    for instance in sorted(group, key=lambda i: _hash(i, seed)):
        strata[instance.expected].append(instance)
    placed = [
        ((position + 0.5) / len(stratum), _hash(instance, seed), instance)
        for stratum in strata.values()
        for position, instance in enumerate(stratum)
    ]
    return [instance for _, _, instance in sorted(placed, key=lambda p: p[:2])]


def _hash(instance: Instance, seed: int) -> str:
    return hashlib.sha256(f"{seed}|{'|'.join(instance.key)}".encode()).hexdigest()


def unpacked(path: Path, folder: Path) -> Path:
    """The file, or for ``.gz`` its content in the folder; a ``.gz`` may stand in for a listed name.

    Raises:
        OSError: it is not there, or cannot be unpacked (``EOFError``: it is cut short).
    """
    if not path.exists() and path.suffix != ".gz":
        packed = path.with_name(path.name + ".gz")
        path = packed if packed.exists() else path
    if path.suffix != ".gz":
        path.stat()
        return path.resolve()
    digest = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]
    target = folder / digest / path.name.removesuffix(".gz")
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(target.name + ".part")
        with gzip.open(path, "rb") as source, part.open("wb") as sink:
            shutil.copyfileobj(source, sink)
        part.rename(target)
    return target.resolve()
