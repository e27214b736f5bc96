"""Click options made from the table in :mod:`verifier.query`, and checks of paths."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from bounds.errors import BadInput
from verifier.files import replacing
from verifier.query import OPTIONS, Engine, OptionRow, Options, parse_bytes
from verifier.verdict import Semantics

F = TypeVar("F", bound=Callable[..., Any])


class _InputFile(click.Path):
    """An existing file; where only ``FILE.gz`` exists, that is meant."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> str | bytes | os.PathLike[str]:
        packed = Path(f"{os.fsdecode(value)}.gz")
        return super().convert(packed if packed.is_file() and not Path(value).exists() else value, param, ctx)


INPUT_FILE = _InputFile(exists=True, dir_okay=False, readable=True, path_type=Path)
OUTPUT = click.Path(path_type=Path)


class _Value(click.ParamType):  # pyright: ignore[reportMissingTypeArgument]  # generic in new click only
    """Reads the text of one table row and checks its range with the row's own message."""

    def __init__(self, row: OptionRow) -> None:
        self.row = row
        self.name = {"seconds": "seconds", "bytes": "size", "count": "n"}[row.kind]

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:  # noqa: ARG002
        read: Callable[[str], Any] = {"seconds": float, "bytes": parse_bytes, "count": int}[self.row.kind]
        if isinstance(value, str):
            try:
                value = read(value)
            except (ValueError, OverflowError):
                what = {
                    "seconds": "a number of seconds",
                    "bytes": "a size such as 2G",
                    "count": "a whole number",
                }
                raise BadInput(f"{self.row.flag} is '{value}'; give {what[self.row.kind]}") from None
        self.row.check(value)
        return value


def query_options(*names: str) -> Callable[[F], F]:
    """Adds the table's options (only ``names``, when any are given) to a command."""

    def add(command: F) -> F:
        for row in reversed(OPTIONS):
            if not names or row.name in names:
                command = _option(row)(command)
        return command

    return add


def _option(row: OptionRow) -> Callable[[Any], Any]:
    if row.kind == "flag":
        declaration = f"{row.flag}/--no-{row.flag[2:]}"
        return click.option(declaration, row.name, default=row.default, help=row.help, hidden=row.hidden)
    if row.kind == "choice":
        kind = click.Choice(row.choices)
        if row.name != "semantics":
            return click.option(
                row.flag, row.name, type=kind, default=str(row.default), show_default=True, help=row.help
            )
        # no default here: a query may say itself what it asks about (session.load_property)
        text = f"{row.help}  [default: the query's element types in VNN-LIB 2.0, otherwise real]"
        return click.option(row.flag, row.name, type=kind, help=text)
    shown = row.default is not None
    return click.option(
        row.flag,
        row.name,
        type=_Value(row),
        default=row.default,
        show_default=shown,
        help=row.help,
        hidden=row.hidden,
    )


def make_options(values: Mapping[str, Any]) -> Options:
    """Options from what click parsed; the keys are names of the table."""
    words = dict(values)
    asked = words.pop("semantics", None)
    if "engine" in words:
        words["engine"] = Engine(words["engine"])
    return Options(**words) if asked is None else Options(**words, semantics=Semantics(asked))


def check_output(path: Path | None, *, flag: str, inputs: tuple[Path, ...] = ()) -> None:
    """Refuses an output path that cannot be written or is one of the inputs, before any work.

    Raises:
        BadInput: with the flag that named it.
    """
    if path is None:
        return
    if path.is_dir():
        raise BadInput(f"{flag} {path}: is a directory; give a file name")
    parent = path.parent
    if not parent.is_dir():
        raise BadInput(f"{flag} {path}: the directory '{parent}' does not exist; create it first")
    if not os.access(path if path.exists() else parent, os.W_OK):
        raise BadInput(f"{flag} {path}: no permission to write; give another path")
    if path.exists() and any(given.exists() and path.samefile(given) for given in inputs):
        raise BadInput(f"{flag} {path}: would overwrite an input; give another path")


def write_text(path: Path, text: str) -> None:
    """Writes a whole file; a reader never sees half of it.

    Raises:
        BadInput: it cannot be written.
    """
    with replacing(path) as file:
        file.write(text.encode())
