"""Settings from TOML: dataclasses are the tables of keys; a complaint names file, line and a near name.

Training runs and the gate describe their files as frozen dataclasses whose fields are made by :func:`key`;
the reference pages are generated from the same classes. Imports nothing heavy.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
import tomllib
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import field
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any, Final, TypeVar

from bounds.errors import BadInput, SpecError

T = TypeVar("T")
Place = tuple[int, int]
Key = tuple[str | int, ...]
_MOST_EXPONENT = 2000  # an exact number beyond 10**2000 is a mistake, or an attempt to eat the memory
_SMALLEST, _LARGEST = Fraction(1, 10**30), Fraction(10**30)  # floats near them are ordinary numbers


def key(
    default: Any,
    text: str,
    *,
    choices: tuple[str, ...] = (),
    least: float = -math.inf,
    above: float = -math.inf,
    required: bool = False,
    single: bool = False,
) -> Any:
    """A documented key: default, meaning, allowed words or numbers.

    Args:
        default: the value when the key is not given.
        text: what it means, for people.
        choices: allowed words.
        least: the smallest number allowed.
        above: numbers must be above it.
        required: it has no default and must be given.
        single: of a list: one value may stand for a list of one.
    """
    metadata = {
        "text": text, "choices": choices, "least": least, "above": above, "required": required,
        "single": single,
    }  # fmt: skip
    return field(default=default, metadata=metadata)


def load(path: str | Path, *, exact: bool = False) -> tuple[dict[str, Any], dict[Key, Place]]:
    """The values of a TOML file, and where its keys are.

    Args:
        path: the file.
        exact: decimals become :class:`decimal.Decimal`, not the nearest float.

    Raises:
        SpecError: it is no TOML; with file, line and column.
        BadInput: it cannot be read.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror}); check the path") from None
    except UnicodeDecodeError as error:
        raise SpecError(f"byte 0x{error.object[error.start]:02x} is not UTF-8", file=str(path)) from None
    return loads(text, str(path), exact=exact)


def loads(text: str, file: str, *, exact: bool = False) -> tuple[dict[str, Any], dict[Key, Place]]:
    """As :func:`load`, from text; ``file`` names it in messages."""
    number: Callable[[str], Any] = Decimal if exact else float
    try:
        values = tomllib.loads(text, parse_float=number)
    except tomllib.TOMLDecodeError as error:
        place = re.search(r"line (\d+), column (\d+)", str(error))
        line, column = (int(n) for n in place.groups()) if place else (text.count("\n") + 1, 1)
        raise SpecError(str(error).split(" (at")[0], file=file, line=line, column=column) from None
    except RecursionError:
        raise SpecError("is nested too deeply; flatten it", file=file) from None
    return values, positions(text)


def positions(text: str) -> dict[Key, Place]:
    """Line and column of every key path, tables and entries of arrays of tables included.

    Keys inside inline tables have no place of their own: the line of the table stands for them.
    """
    found: dict[Key, Place] = {}
    table: Key = ()
    counts: dict[Key, int] = {}
    for number, line in _lines(text):
        header = re.match(r"\s*(\[\[?)\s*([^\]]+?)\s*\]", line)
        pair = re.match(r"\s*((?:\"[^\"]*\"|'[^']*'|[\w.-]+|\s*\.\s*)+?)\s*=", line)
        if header:
            table = _within(_path(header[2]), counts)
            if header[1] == "[[":
                found.setdefault(table, (number, line.index("[") + 1))
                index = counts[table] = counts.get(table, -1) + 1
                table = (*table, index)
            found.setdefault(table, (number, line.index("[") + 1))
        elif pair:
            path = (*table, *_path(pair[1]))
            found.setdefault(path, (number, len(line) - len(line.lstrip()) + 1))
    return found


def _path(text: str) -> Key:
    parts = re.findall(r"\"([^\"]*)\"|'([^']*)'|([\w-]+)", text)
    return tuple(a or b or c for a, b, c in parts)


def _within(path: Key, counts: Mapping[Key, int]) -> Key:
    """A header's path, with the number of the last entry wherever it goes through an array of tables."""
    full: Key = ()
    for i, part in enumerate(path):
        full = (*full, part)
        if i < len(path) - 1 and full in counts:
            full = (*full, counts[full])
    return full


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """The lines at which a key or a header can begin: not those inside long strings or lists."""
    closing, depth = "", 0
    for number, line in enumerate(text.splitlines(), 1):
        begins = not closing and depth == 0
        if begins:
            yield number, line
        rest = line
        if begins and re.match(r"\s*\[", line):
            continue  # a header's brackets open nothing
        while rest:
            if closing:
                _, quote, rest = rest.partition(closing)
                closing = "" if quote else closing
                continue
            token = re.search(r"\"\"\"|'''|\"(?:\\.|[^\"\\])*\"|'[^']*'|#|[\[{]|[\]}]", rest)
            if token is None or token[0] == "#":
                break
            rest = rest[token.end() :]
            if token[0] in ('"""', "'''"):
                closing = token[0]
            elif token[0] in "[{":
                depth += 1
            elif token[0] in "]}":
                depth -= 1


class Reader:
    """Turns nested values into dataclasses, and tells mistakes with their place."""

    def __init__(self, file: str, places: Mapping[Key, Place]) -> None:
        self.file, self.places = file, places

    def place(self, path: Key) -> Place:
        """Line and column of a key, or of the nearest table around it; zeros where nothing is known."""
        for end in range(len(path), 0, -1):
            if path[:end] in self.places:
                return self.places[path[:end]]
        return 0, 0

    def fail(self, path: Key, message: str) -> SpecError:
        """The error that says so, with file and line."""
        line, column = self.place(path)
        return SpecError(message, file=self.file, line=line, column=column)

    def table(self, kind: type[T], values: Any, path: Key = ()) -> T:
        """One dataclass from one table.

        Raises:
            SpecError: a key or value is wrong, or a key that must be there is missing.
        """
        if not isinstance(values, Mapping):
            name = path[-1] if path else kind.__name__
            raise self.fail(path, f"'{name}' is a table: write [{named(path)}] and its keys below")
        hints = typing.get_type_hints(kind)
        known = {f.name: f for f in dataclasses.fields(typing.cast("Any", kind))}
        made: dict[str, Any] = {}
        for name, value in typing.cast("Mapping[str, Any]", values).items():
            here = (*path, name)
            if name not in known:
                raise self.fail(here, _unknown(name, path, known))
            made[name] = self._field(hints[name], known[name].metadata, value, here)
        for name, one in known.items():
            if one.metadata.get("required") and name not in made:
                text = one.metadata["text"]
                where = f"[{named(path)}]" if path else "the file"
                raise self.fail(path, f"{where} lacks the key '{name}' ({text}); add it")
        return kind(**made)

    def tables(self, kind: type[T], values: Any, path: Key) -> dict[str, T]:
        """Tables by name: ``[path.NAME]``."""
        if not isinstance(values, Mapping):
            raise self.fail(path, f"'{path[-1]}' holds tables by name: write [{named(path)}.NAME]")
        given = typing.cast("Mapping[str, Any]", values)
        return {name: self.table(kind, value, (*path, name)) for name, value in given.items()}

    def _field(self, hint: Any, metadata: Mapping[str, Any], value: Any, path: Key) -> Any:
        if dataclasses.is_dataclass(hint):
            return self.table(typing.cast("type[Any]", hint), value, path)
        return self._value(hint, metadata, value, path)

    def _value(self, hint: Any, metadata: Mapping[str, Any], value: Any, path: Key) -> Any:
        if isinstance(hint, types.UnionType):  # X | None: a key without a default
            hint = next(h for h in hint.__args__ if h is not types.NoneType)
        if isinstance(hint, types.GenericAlias):
            inner = hint.__args__[0]
            if metadata.get("single") and not isinstance(value, list):
                value = [value]
            if not isinstance(value, list):
                raise self.fail(
                    path,
                    f"'{path[-1]}' is a list of {_WORDS[inner].removeprefix('a ')}s, not {_shown(value)}",
                )
            return tuple(self._value(inner, metadata, v, path) for v in typing.cast("list[Any]", value))
        value = self._typed(hint, value, path)
        if isinstance(value, float) and not math.isfinite(value):
            raise self.fail(path, f"'{path[-1]}' must be finite")
        if metadata["choices"] and value not in metadata["choices"]:
            raise self.fail(path, f"'{path[-1]}' cannot be '{value}'; {near(value, metadata['choices'])}")
        if isinstance(value, int | float | Fraction) and not isinstance(value, bool):
            if value < metadata["least"]:
                told = f"'{path[-1]}' is {_shown(value)} and must be at least {metadata['least']:g}"
                raise self.fail(path, told)
            if value <= metadata.get("above", -math.inf):
                raise self.fail(
                    path, f"'{path[-1]}' is {_shown(value)} and must be above {metadata['above']:g}"
                )
        return value

    def _typed(self, hint: Any, value: Any, path: Key) -> Any:
        if hint is Fraction:
            exact = fraction(value)
            if exact is None:
                raise self.fail(path, f"'{path[-1]}' is {_WORDS[hint]}, not {_shown(value)}")
            if exact and not _SMALLEST <= abs(exact) <= _LARGEST:
                raise self.fail(path, f"'{path[-1]}' is {value}; give 0, or a number between 1e-30 and 1e30")
            return exact
        if hint is float and isinstance(value, int | Decimal) and not isinstance(value, bool):
            value = float(value)
        if type(value) is not hint:
            raise self.fail(path, f"'{path[-1]}' is {_WORDS[hint]}, not {_shown(value)}")
        return value


def fraction(value: Any) -> Fraction | None:
    """The exact number that a file's value means (``0.1``, ``3`` or ``"2/255"``); None if it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal | str):
        return None
    text = str(value).strip()
    exponent = re.search(r"[eE]([+-]?\d+)", text)
    if exponent and (len(exponent[1]) > 5 or abs(int(exponent[1])) > _MOST_EXPONENT):
        return None
    try:
        return Fraction(text)
    except (ValueError, ZeroDivisionError):
        return None


def near(name: object, known: Any) -> str:
    """The nearest of the known names, or all of them."""
    words = [str(k) for k in known]
    found = difflib.get_close_matches(str(name), words, n=1, cutoff=0.5)
    return f"did you mean '{found[0]}'?" if found else f"choose one of {', '.join(words)}"


def named(path: Key) -> str:
    """A path as TOML headers write it, entries of arrays counted from 1."""
    return ".".join(str(p + 1) if isinstance(p, int) else p for p in path)


def _unknown(name: str, path: Key, known: Mapping[str, Any]) -> str:
    where = f" in [{named(path)}]" if path else ""
    found = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean '{found[0]}'?" if found else f"known are {', '.join(known)}"
    return f"unknown key '{name}'{where}; {hint}"


def _shown(value: Any) -> str:
    return str(value) if isinstance(value, Decimal | Fraction) else repr(value)


_WORDS: Final = {
    int: "a whole number",
    float: "a number",
    str: "a text",
    bool: "true or false",
    Fraction: 'a number, or a quotient such as "2/255"',
}
