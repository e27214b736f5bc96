"""Writes docs/reference/openapi.json, service/capabilities.json, the settings in docs/reference/service.md.

A test fails when they are behind.

Run it as ``python docs/gen_service.py`` from the repository root, with the package installed.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
OPENAPI = ROOT / "docs" / "reference" / "openapi.json"
PAGE = ROOT / "docs" / "reference" / "service.md"
CAPABILITIES = ROOT / "service" / "capabilities.json"


def capabilities() -> dict[str, Any]:
    """What the importer, the catalogue of functions and the parsers can do."""
    from bounds.io.onnx_ops import BUILDERS
    from bounds.relax.catalogue import CATALOGUE
    from verifier.query import Semantics

    return {
        "operators": sorted(BUILDERS),
        "functions": sorted(row.name for row in CATALOGUE),
        "semantics": [s.value for s in Semantics],
        "properties": ["vnnlib-1.0", "vnnlib-2.0", "robustness"],
        "norms": ["inf", "1", "2"],
    }


def openapi() -> dict[str, Any]:
    """The document that a server with default settings serves."""
    from service.app import create_app
    from service.settings import Settings
    from workers.jobs.artifacts import Artifacts
    from workers.jobs.dispatch import Polling
    from workers.jobs.sql import open_store

    with tempfile.TemporaryDirectory() as folder:
        store = open_store(str(Path(folder) / "surebound.db"))
        app = create_app(Settings(), store, Artifacts(Path(folder) / "artifacts"), Polling())
        document = app.openapi()
        store.close()
    return document


def render() -> dict[Path, str]:
    """Every file with its text."""
    made = {path: _text(value()) for path, value in ((CAPABILITIES, capabilities), (OPENAPI, openapi))}
    head, _, rest = PAGE.read_text(encoding="utf-8").partition("<!-- settings -->\n")
    _, mark, tail = rest.partition("<!-- /settings -->")
    return {**made, PAGE: f"{head}<!-- settings -->\n{settings()}{mark}{tail}"}


def settings() -> str:
    """The table of settings."""
    from service.settings import Settings

    rows = ["| name | default | meaning |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = "" if field.default in (None, "", ()) else f"`{field.default}`"
        rows.append(f"| `{name}` | {default} | {field.description} |")
    return "\n".join(rows) + "\n"


def _text(value: Any) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"


def main() -> int:
    """Writes the files."""
    for path, text in render().items():
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
