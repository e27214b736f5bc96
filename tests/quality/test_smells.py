"""Smells that mean a wall has been breached, looked for in the syntax tree.

Each check has a planted example, so that a check that finds nothing is known to be able to find.
An entry of an allow-list names a file and says why; entries no longer needed fail.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("bounds", "verifier", "sdp", "training", "workers", "service")

Finding = tuple[int, str]
Check = Callable[[ast.Module], Iterator[Finding]]


def bare_except(tree: ast.Module) -> Iterator[Finding]:
    """``except:`` catches KeyboardInterrupt and hides defects."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler) and node.type is None:
            yield node.lineno, "except: without a type"


def swallowed(tree: ast.Module) -> Iterator[Finding]:
    """``except Exception: pass`` (or continue): an error on the way to a verdict disappears."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.ExceptHandler) or node.type is None:
            continue
        broad = {"Exception", "BaseException"}.intersection(
            n.id for n in ast.walk(node.type) if isinstance(n, ast.Name)
        )
        silent = all(isinstance(s, ast.Pass | ast.Continue | ast.Break) or _is_ellipsis(s) for s in node.body)
        if broad and silent:
            yield node.lineno, f"except {ast.unparse(node.type)} that goes on silently"


def _is_ellipsis(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def clock_or_log(tree: ast.Module) -> Iterator[Finding]:
    """``bounds`` gets a ``should_stop`` callable; it reads no clock and keeps no log."""
    for node in ast.walk(tree):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        for name in names:
            if name.split(".")[0] in ("time", "datetime", "logging"):
                yield node.lineno, f"import of {name}"


def prints(tree: ast.Module) -> Iterator[Finding]:
    """Only the command line and emitters talk."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
            yield node.lineno, "print"


def tolerances(tree: ast.Module) -> Iterator[Finding]:
    """A small float literal in a comparison, or added to one of its sides, is a tolerance."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            for part in ast.walk(node):
                if (
                    isinstance(part, ast.Constant)
                    and isinstance(part.value, float)
                    and 0 < abs(part.value) < 1e-2
                ):
                    yield part.lineno, f"tolerance {part.value!r} in a comparison"
        elif isinstance(node, ast.Attribute | ast.Name):
            name = node.attr if isinstance(node, ast.Attribute) else node.id
            if name in ("isclose", "allclose"):
                yield node.lineno, name


def small_literals(tree: ast.Module) -> Iterator[Finding]:
    """Any literal below 1e-3 in ``bounds`` is an epsilon; those live in ``bounds/numerics.py``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, float) and 0 < abs(node.value) < 1e-3:
            yield node.lineno, f"literal {node.value!r}"


def verdict_strings(tree: ast.Module) -> Iterator[Finding]:
    """A verdict compared as a string bypasses the enumeration."""
    words = {"sat", "unsat", "unknown", "timed-out", "verified", "falsified"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            for side in [node.left, *node.comparators]:
                if isinstance(side, ast.Constant) and side.value in words:
                    yield node.lineno, f"comparison with {side.value!r}"


# name -> (the check, folders it looks at, what it must find in planted code)
CHECKS: dict[str, tuple[Check, tuple[str, ...], str]] = {
    "bare-except": (bare_except, PACKAGES, "try:\n    f()\nexcept:\n    raise\n"),
    "swallowed": (
        swallowed,
        PACKAGES,
        "for x in y:\n    try:\n        f()\n    except (ValueError, Exception):\n        continue\n",
    ),
    "clock-or-log": (clock_or_log, ("bounds",), "from time import monotonic\n"),
    "print": (prints, PACKAGES, "print(1)\n"),
    "tolerance": (tolerances, ("bounds", "verifier"), "if x > -1e-6:\n    f()\n"),
    "small-literal": (small_literals, ("bounds",), "x = y + 1e-9\n"),
    "verdict-string": (verdict_strings, ("verifier", "workers", "service"), "if v == 'unsat':\n    f()\n"),
}

# (check, file) -> why it is right there
ALLOWED: dict[tuple[str, str], str] = {
    (
        "small-literal",
        "bounds/io/onnx_ops/affine.py",
    ): "the ONNX standard's default epsilon of BatchNormalization",
    ("small-literal", "bounds/io/onnx_ops/normalise.py"): "the ONNX standard's default epsilons",
    ("small-literal", "bounds/io/compare.py"): "the scale of test points; decides nothing",
    ("tolerance", "bounds/methods/auto_lirpa.py"): "recognises GELU for a nominal engine; decides nothing",
    (
        "small-literal",
        "bounds/methods/auto_lirpa.py",
    ): "recognises GELU for a nominal engine; decides nothing",
    ("clock-or-log", "bounds/methods/auto_lirpa.py"): "silences the logger of the foreign library",
}


def allowed(check: str, path: str) -> bool:
    if check in ("tolerance", "small-literal") and path == "bounds/numerics.py":
        return True
    return (check, path) in ALLOWED


def findings(check: str) -> Iterator[tuple[str, int, str]]:
    search, folders, _ = CHECKS[check]
    for path in sorted(f for folder in folders for f in (ROOT / folder).rglob("*.py")):
        name = str(path.relative_to(ROOT))
        for line, what in search(ast.parse(path.read_text(encoding="utf-8"))):
            yield name, line, what


@pytest.mark.parametrize("check", CHECKS)
def test_smell(check: str) -> None:
    assert [f"{name}:{line} {what}" for name, line, what in findings(check) if not allowed(check, name)] == []


@pytest.mark.parametrize("check", CHECKS)
def test_check_finds_what_is_planted(check: str) -> None:
    search, _, planted = CHECKS[check]
    assert list(search(ast.parse(planted)))


@pytest.mark.parametrize(("check", "path"), ALLOWED)
def test_allowance_is_still_needed(check: str, path: str) -> None:
    assert path in {name for name, _, _ in findings(check)}, "take it off the list"
