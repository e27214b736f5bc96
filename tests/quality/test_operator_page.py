"""docs/reference/operators.md names every operator that is read, no other, and those the checker lacks."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bounds.io.onnx_ops import BUILDERS
from verifier.check.importer import TABLE

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "operators.md"


@pytest.fixture(scope="module")
def page() -> str:
    return PAGE.read_text(encoding="utf-8")


def test_the_table_names_every_operator_once(page: str) -> None:
    rows = page.split("## Operators")[1].split("The [checker]")[0].splitlines()
    cells = [row.split("|")[1] for row in rows if row.startswith("| ") and not row.startswith("| operators")]
    named = [name.strip() for cell in cells for name in cell.split(",")]
    assert sorted(named) == sorted(BUILDERS)


def test_what_the_checker_lacks_is_said(page: str) -> None:
    text = page.split("reads all of these on its own but")[1].split(":")[0]
    assert set(re.findall(r"[A-Z]\w+", text)) == set(BUILDERS) - set(TABLE)
