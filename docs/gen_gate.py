"""Writes the reference of surebound.toml and its JSON schema from the classes of keys (a test compares).

Run it as ``python docs/gen_gate.py`` from the repository root, with the package installed.
"""

from __future__ import annotations

import dataclasses
import json
import math
import types
import typing
from fractions import Fraction
from pathlib import Path
from typing import Any

from verifier.gate.emit import EMITTERS
from verifier.gate.entries import BudgetEntry, CacheEntry, DataEntry, GateEntry, ModelEntry
from verifier.gate.requirements import KINDS

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "reference" / "gate-config.md"
SCHEMA = ROOT / "verifier" / "gate" / "schema.json"
ID = "urn:surebound:gate-config:1"

HEAD = """# Configuration of the gate

*Made by `docs/gen_gate.py` from `verifier/gate`; edit the classes there, then run it again.*

`verify gate` reads `surebound.toml`. Paths are relative to that file. Numbers are read exactly: `0.1` is one
tenth, and a number may be written as a quotient in quotes (`"2/255"`). An unknown key, a value of a wrong
type or out of range, or a file that does not exist is refused with file, line and the nearest name that
exists. Editors can check the file against its [JSON schema](../../verifier/gate/schema.json). How to use it:
[gate a repository](../howto/gate.md).
"""

TAIL = """
## Formats of reports

`--format F --output FILE`, repeated: {formats}.
`github-output` writes `name=value` lines for `$GITHUB_OUTPUT`.

## Exit codes

| code | meaning |
|---|---|
| 0 | every requirement holds (or is inconclusive, with `--unknown warn` or `pass`) |
| 1 | a requirement is violated: a counterexample is confirmed |
| 2 | bad input, or a requirement that could not be looked at |
| 3 | a requirement is inconclusive, none is violated |
| 130, 143 | interrupted; the reports are written |
"""

TABLES: tuple[tuple[str, type[Any]], ...] = (
    ("[models.NAME]", ModelEntry),
    ("[data.NAME]", DataEntry),
    ("[budget]", BudgetEntry),
    ("[cache]", CacheEntry),
)


def render() -> str:
    """The page."""
    parts = [HEAD, "## Top level\n", *table(GateEntry)]
    for name, kind in TABLES:
        parts += [f"\n## `{name}`\n", about(kind) + "\n", *table(kind)]
    parts.append(
        "\n## `[[requirement]]`\n\nEvery requirement has an `id`, a `kind`, and the keys of its kind.\n"
    )
    for name, row in KINDS.items():
        parts += [f'\n### `kind = "{name}"`\n', about(row.settings) + "\n", *table(row.settings)]
    formats = ", ".join(f"`{name}`" for name in EMITTERS)
    return "\n".join(parts) + "\n" + TAIL.format(formats=formats)


def about(kind: type[Any]) -> str:
    """A class's docstring as text."""
    text = (kind.__doc__ or "").replace("``", "`")
    text = text.split(":", 1)[1] if text.startswith("`[") else text
    joined = "\n\n".join(" ".join(block.split()) for block in text.split("\n\n")).strip()
    return joined[0].upper() + joined[1:]


def table(kind: type[Any]) -> list[str]:
    """Rows of one table of keys."""
    rows = ["| key | default | meaning |", "|---|---|---|"]
    for field in dataclasses.fields(kind):
        meta = field.metadata
        text = str(meta["text"]).replace("|", "\\|")
        if meta["choices"]:
            text += "; one of " + ", ".join(f"`{c}`" if c else '`""`' for c in meta["choices"])
        default = "required" if meta["required"] else f"`{shown(field.default)}`"
        default = "–" if field.default is None and not meta["required"] else default
        rows.append(f"| `{field.name}` | {default} | {text} |")
    return rows


def shown(value: Any) -> str:
    """A default as TOML has it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'"{value}"'
    return str(list(value) if isinstance(value, tuple) else value)


def schema() -> str:
    """The JSON schema (draft 2020-12) of the file."""
    kinds = [
        obj(row.settings) | {"title": name, "description": about(row.settings)} for name, row in KINDS.items()
    ]
    for one, name in zip(kinds, KINDS, strict=True):
        one["properties"]["kind"] = {"const": name, "description": "what is required"}
    document = obj(GateEntry)
    document["properties"] |= {
        "models": named(ModelEntry),
        "data": named(DataEntry),
        "budget": obj(BudgetEntry),
        "cache": obj(CacheEntry),
        "requirement": {"type": "array", "minItems": 1, "items": {"oneOf": kinds}},
    }
    document["required"] += ["requirement"]
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": ID, "title": "surebound.toml"}
    return json.dumps(head | document, indent=1, ensure_ascii=False) + "\n"


def named(kind: type[Any]) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": obj(kind)}


def obj(kind: type[Any]) -> dict[str, Any]:
    """One table."""
    hints = typing.get_type_hints(kind)
    fields = dataclasses.fields(kind)
    return {
        "type": "object",
        "description": about(kind),
        "additionalProperties": False,
        "properties": {f.name: value(hints[f.name], f.metadata) for f in fields},
        "required": [f.name for f in fields if f.metadata["required"]],
    }


def value(hint: Any, meta: typing.Mapping[str, Any]) -> dict[str, Any]:
    """One key."""
    if isinstance(hint, types.UnionType):
        hint = next(h for h in hint.__args__ if h is not types.NoneType)
    found: dict[str, Any] = {"description": meta["text"]}
    if isinstance(hint, types.GenericAlias):
        inner = scalar(hint.__args__[0], meta)
        many = {"type": "array", "items": inner}
        return found | ({"anyOf": [inner, many]} if meta["single"] else many)
    return found | scalar(hint, meta)


def scalar(hint: Any, meta: typing.Mapping[str, Any]) -> dict[str, Any]:
    if hint is str:
        return {"type": "string"} | ({"enum": list(meta["choices"])} if meta["choices"] else {})
    if hint is bool:
        return {"type": "boolean"}
    limits = {"minimum": meta["least"]} if meta["least"] > -math.inf else {}
    limits |= {"exclusiveMinimum": meta["above"]} if meta["above"] > -math.inf else {}
    if hint is int:
        return {"type": "integer"} | limits
    assert hint is Fraction
    quotient = {"type": "string", "pattern": r"^[+-]?[0-9.eE+-]+(/[0-9]+)?$"}
    return {"anyOf": [{"type": "number"} | limits, quotient]}


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
    SCHEMA.write_text(schema(), encoding="utf-8")
