"""The size gate, on the tail: most functions may be what they are, none may be a hall.

Code lines are physical lines less docstrings, blank lines and comment-only lines.
"""

from __future__ import annotations

import ast
import io
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("bounds", "verifier", "sdp", "training", "workers", "service")
FILES = sorted(f for p in PACKAGES for f in (ROOT / p).rglob("*.py"))

FILE_LIMIT = 450
FUNCTION_LIMIT = 80
LONG_FUNCTION = 60
LONG_SHARE = 0.015
P95_LIMIT = 35

# file -> (its own limit, why it may be longer); house rule: at most one core file, at most 600
LONGER_FILES: dict[str, tuple[int, str]] = {}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def code_lines(source: str) -> set[int]:
    """Line numbers that hold code."""
    lines: set[int] = set()
    silent = {
        tokenize.COMMENT,
        tokenize.NL,
        tokenize.NEWLINE,
        tokenize.INDENT,
        tokenize.DEDENT,
        tokenize.ENDMARKER,
    }
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in silent:
            lines.update(range(token.start[0], token.end[0] + 1))
    return lines - docstring_lines(ast.parse(source))


def docstring_lines(tree: ast.Module) -> set[int]:
    """Line numbers of docstrings."""
    lines: set[int] = set()
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Module | ast.ClassDef | Function)
            and ast.get_docstring(node, clean=False) is not None
        ):
            first = node.body[0]
            lines.update(range(first.lineno, (first.end_lineno or first.lineno) + 1))
    return lines


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """Every function of a file as ``(place, code lines)``; an inner function counts in its outer one too."""
    source = path.read_text(encoding="utf-8")
    lines = code_lines(source)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, Function):
            span = range(node.lineno, (node.end_lineno or node.lineno) + 1)
            yield f"{path.relative_to(ROOT)}:{node.lineno} {node.name}", len(lines.intersection(span))


@pytest.fixture(scope="module")
def measured() -> list[tuple[str, int]]:
    return sorted((f for path in FILES for f in functions(path)), key=lambda f: -f[1])


def test_no_function_is_a_hall(measured: list[tuple[str, int]]) -> None:
    assert [f for f in measured if f[1] > FUNCTION_LIMIT] == []


def test_few_functions_are_long(measured: list[tuple[str, int]]) -> None:
    long = [f for f in measured if f[1] > LONG_FUNCTION]
    assert len(long) <= LONG_SHARE * len(measured), long


def test_p95_of_functions(measured: list[tuple[str, int]]) -> None:
    rank = int(0.05 * len(measured))
    assert measured[rank][1] <= P95_LIMIT, measured[: rank + 1]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_file_size(path: Path) -> None:
    limit, _ = LONGER_FILES.get(str(path.relative_to(ROOT)), (FILE_LIMIT, ""))
    assert len(code_lines(path.read_text(encoding="utf-8"))) <= limit


def test_exceptions_are_still_needed() -> None:
    for name, (limit, why) in LONGER_FILES.items():
        assert why and FILE_LIMIT < limit <= 600, name
        assert len(code_lines((ROOT / name).read_text(encoding="utf-8"))) > FILE_LIMIT, (
            f"{name}: take it off the list"
        )


def test_the_measure_itself() -> None:
    source = (
        '"""Doc."""\n\n# why\ndef f():\n    """More\n    doc."""\n'  # the only code line here is `def`
        '    x = """a\n    b"""\n    return x  # code\n'
    )
    assert len(code_lines(source)) == 4
