"""One chokepoint each: only ``verifier/conclude.py`` says ``sat`` or ``unsat``.

Elsewhere the two words may be compared with (reports, exit codes), never produced: not returned, not
assigned, not passed on.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("verifier", "workers", "service")
HOME = "verifier/conclude.py"
SURE = {"SAT", "UNSAT"}

# file -> why naming a sure verdict there produces none
ALLOWED: dict[str, str] = {
    "verifier/check/reader.py": "reads what a certificate claims; the checker then proves it or rejects it",
}


def produced(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Lines that use ``Status.SAT`` or ``Status.UNSAT`` beyond comparing, or make a Status from text."""
    harmless: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare | ast.MatchValue):
            harmless.update(id(n) for n in ast.walk(node))
        elif isinstance(node, ast.Dict):  # a table keyed by verdict says nothing
            harmless.update(id(n) for key in node.keys if key is not None for n in ast.walk(key))
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in SURE and id(node) not in harmless:
            if isinstance(node.value, ast.Name) and node.value.id == "Status":
                yield node.lineno, f"Status.{node.attr}"
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Status":
            yield node.lineno, "Status(...)"
        elif (
            isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and node.value.id == "Status"
        ):
            yield node.lineno, "Status[...]"


def calls(name: str) -> list[str]:
    """Files of ``verifier`` that call ``conclude.<name>``, once per call."""
    return [
        str(path.relative_to(ROOT))
        for path in sorted((ROOT / "verifier").rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == f"conclude.{name}"
    ]


def test_only_conclude_says_sat_or_unsat() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line} {what}"
        for folder in FOLDERS
        for path in sorted((ROOT / folder).rglob("*.py"))
        if str(path.relative_to(ROOT)) != HOME and str(path.relative_to(ROOT)) not in ALLOWED
        for line, what in produced(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert found == []


@pytest.mark.parametrize("path", ALLOWED)
def test_allowances_are_still_needed(path: str) -> None:
    assert list(produced(ast.parse((ROOT / path).read_text(encoding="utf-8")))), "take it off the list"


def test_conclude_says_each_once() -> None:
    tree = ast.parse((ROOT / HOME).read_text(encoding="utf-8"))
    functions = [n for n in tree.body if isinstance(n, ast.FunctionDef)]
    where = {f.name: {what for _, what in produced(ast.Module(body=[f], type_ignores=[]))} for f in functions}
    assert {name: words for name, words in where.items() if words} == {
        "unsat": {"Status.UNSAT"},
        "sat": {"Status.SAT"},
    }


def test_unsat_is_asked_for_in_three_places() -> None:
    assert calls("unsat") == ["verifier/api.py", "verifier/join.py", "verifier/together.py"]
    assert calls("sat") == ["verifier/api.py"]


def test_the_check_finds_what_is_planted() -> None:
    for planted in (
        "x = Status.UNSAT",
        "def f():\n    return Status.SAT",
        "f(Status.UNSAT)",
        "Status('sat')",
        "Status['SAT']",
    ):
        assert list(produced(ast.parse(planted))), planted
    for harmless in (
        "if s is Status.UNSAT:\n    f()",
        "s in (Status.SAT, Status.UNSAT)",
        "{Status.SAT: 1}",
        "Status.UNKNOWN",
    ):
        assert not list(produced(ast.parse(harmless))), harmless
