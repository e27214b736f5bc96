"""Writes docs/reference/training-config.md from the table of keys; a test fails when the page is behind.

Run it as ``python docs/gen_training.py`` from the repository root, with the package installed.
"""

from __future__ import annotations

import dataclasses
import typing
from pathlib import Path
from typing import Any

from training.config import Config

PAGE = Path(__file__).resolve().parents[1] / "docs" / "reference" / "training-config.md"

HEAD = """# Configuration of training

*Made by `docs/gen_training.py` from `training/config.py`; edit the table there, then run it again.*

`verify train CONFIG.toml --out DIR` reads TOML with the tables below; every key has a default. An unknown
key, or a value of a wrong type or out of range, is refused with file, line and the nearest name that exists.
"""


def render() -> str:
    """The page."""
    hints = typing.get_type_hints(Config)
    parts = [HEAD, "## Top level\n", *table(Config, skip=True)]
    for field in dataclasses.fields(Config):
        kind = hints[field.name]
        if dataclasses.is_dataclass(kind):
            about = (kind.__doc__ or "").split(":", 1)[1].strip()
            parts += [f"\n## `[{field.name}]`\n", about[0].upper() + about[1:] + "\n", *table(kind)]
    return "\n".join(parts) + "\n"


def table(kind: Any, *, skip: bool = False) -> list[str]:
    """Rows of one table of keys."""
    hints = typing.get_type_hints(kind)
    rows = ["| key | default | meaning |", "|---|---|---|"]
    for field in dataclasses.fields(kind):
        if skip and dataclasses.is_dataclass(hints[field.name]):
            continue
        text = str(field.metadata["text"]).replace("|", "\\|")
        if field.metadata["choices"]:
            text += "; one of " + ", ".join(f"`{c}`" for c in field.metadata["choices"])
        rows.append(f"| `{field.name}` | `{shown(field.default)}` | {text} |")
    return rows


def shown(value: Any) -> str:
    """A default as TOML has it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, tuple):
        return "[" + ", ".join(shown(v) for v in typing.cast("tuple[Any, ...]", value)) + "]"
    return str(value)


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
