"""The list of a batch: reading ``instances.csv`` and finding its files."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bounds.errors import BadInput

VERDICTS = ("sat", "unsat", "unknown", "timed-out")
_COLUMNS = ("onnx", "vnnlib", "timeout")


@dataclass(frozen=True, slots=True)
class Instance:
    """One line of the list.

    Attributes:
        number: position in the list, from 1 (filters do not change it).
        onnx, vnnlib: as written in the list, after the family's folder if it gives one; they name
            the instance in every output.
        timeout: seconds, or None for no limit.
        expected: known verdict, or "" when the list gives none.
        folder: where the two paths start.
    """

    number: int
    onnx: str
    vnnlib: str
    timeout: float | None
    expected: str
    folder: Path

    def files(self) -> tuple[Path, Path]:
        """The model and the property on disk.

        Raises:
            BadInput: one of them does not exist.
        """
        return _find(self.folder / self.onnx), _find(self.folder / self.vnnlib)

    @property
    def stem(self) -> str:
        """A file name for what belongs to this instance; the number keeps it unique."""
        names = (Path(n).name.removesuffix(".gz").rsplit(".", 1)[0] for n in (self.onnx, self.vnnlib))
        return re.sub(r"[^\w.+-]+", "_", f"{self.number:04d}-" + "-".join(names))


def read_instances(
    path: Path, *, root: Path | None = None, timeout: float | None = None, pattern: str | None = None
) -> list[Instance]:
    """Reads a list: ``onnx,vnnlib,timeout`` lines, or a header that names these columns.

    With a header, further columns are allowed; ``expected`` (a verdict) and ``family`` (a folder in
    which the two files are) are understood, the others ignored.

    Args:
        path: the CSV file.
        root: folder in which the files are; by default the one that holds the list.
        timeout: seconds for every instance, in place of the list's.
        pattern: keep instances only where this regular expression is found in ``onnx,vnnlib``.

    Raises:
        BadInput: with file and line, when the list cannot be used.
    """
    keep = _compiled(pattern)
    base = path.parent if root is None else root
    found: list[Instance] = []
    number = 0
    for line, cells in _rows(path):
        number += 1
        instance = Instance(
            number,
            _path(cells, "onnx", path, line),
            _path(cells, "vnnlib", path, line),
            timeout if timeout is not None else _timeout(cells.get("timeout", ""), path, line),
            _expected(cells.get("expected", ""), path, line),
            base,
        )
        if keep.search(f"{instance.onnx},{instance.vnnlib}"):
            found.append(instance)
    if not number:
        raise BadInput(f"{path}: no instances; write lines of the form onnx,vnnlib,timeout")
    if not found:
        raise BadInput(f"--filter {pattern}: matches none of the {number} instances of {path}")
    return found


def _compiled(pattern: str | None) -> re.Pattern[str]:
    try:
        return re.compile(pattern or "")
    except re.error as error:
        raise BadInput(f"--filter {pattern}: not a regular expression: {error}") from None


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Line numbers and named cells of the lines that hold an instance."""
    columns = _COLUMNS
    first = True
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            for raw in reader:
                cells = [c.strip() for c in raw]
                if not any(cells) or cells[0].startswith("#"):
                    continue
                if first and {"onnx", "vnnlib"} <= set(cells):
                    columns = tuple(cells)
                elif len(cells) > len(columns) or (len(cells) < 2):
                    raise BadInput(
                        f"{path}:{reader.line_num}: {len(cells)} columns; expected {','.join(columns)}"
                    )
                else:
                    yield reader.line_num, dict(zip(columns, cells, strict=False))
                first = False
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadInput(f"{path}: not a CSV text file in UTF-8: {error}") from None


def _path(cells: dict[str, str], column: str, file: Path, line: int) -> str:
    text = cells.get(column, "")
    if not text or "\0" in text:
        raise BadInput(f"{file}:{line}: column '{column}' is empty; give a path")
    return f"{family}/{text}" if (family := cells.get("family")) else text


def _timeout(text: str, file: Path, line: int) -> float | None:
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not seconds > 0:
        raise BadInput(f"{file}:{line}: timeout is '{text}'; give a number of seconds above 0")
    return seconds


def _expected(text: str, file: Path, line: int) -> str:
    word = {"timeout": "timed-out"}.get(text, text)
    if word and word not in VERDICTS:
        raise BadInput(f"{file}:{line}: expected verdict is '{text}'; give one of {', '.join(VERDICTS)}")
    return word


def _find(path: Path) -> Path:
    """The file, or the same with or without ``.gz``: lists and folders often disagree on that."""
    other = path.with_name(path.name.removesuffix(".gz") if path.suffix == ".gz" else path.name + ".gz")
    for candidate in (path, other):
        if candidate.is_file():
            return candidate
    raise BadInput(f"{path}: no such file, nor {other.name}; check the list or give --root")
