"""What importing a module may drag in: start-up time is a feature, and the layers are a contract."""

from __future__ import annotations

import ast
import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# the only modules that may import torch at the top: they are themselves imported lazily
TORCH_AT_TOP = {
    "bounds/kernels/torch.py",
    "bounds/io/torch_module.py",
    "bounds/methods/chain.py",
    "bounds/methods/differentiable.py",
    "bounds/methods/nominal.py",
    "bounds/methods/torch_graph.py",
}
HEAVY = ("torch", "cvxpy", "sklearn", "scipy")
FILES = sorted(f for p in ("bounds", "verifier") for f in (ROOT / p).rglob("*.py"))


def imported_when_loaded(tree: ast.Module) -> set[str]:
    """Top-level names that importing the module imports (TYPE_CHECKING blocks and functions do not run)."""
    names: set[str] = set()
    pending: list[ast.AST] = list(tree.body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import):
            names.update(a.name.split(".")[0] for a in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add((node.module or "").split(".")[0])
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            pending.extend(node.orelse)
        else:
            pending.extend(ast.iter_child_nodes(node))
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_heavy_libraries_are_imported_late(path: Path) -> None:
    if str(path.relative_to(ROOT)) in TORCH_AT_TOP:
        return
    names = imported_when_loaded(ast.parse(path.read_text(encoding="utf-8")))
    assert not names.intersection(HEAVY)


def loaded_by(statement: str) -> set[str]:
    """Top-level modules in ``sys.modules`` after the statement, in a fresh interpreter."""
    code = f"{statement}\nimport sys\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    return set(run.stdout.split())


@pytest.mark.skipif(not (ROOT / "verifier/cli/main.py").exists(), reason="there is no command yet")
def test_the_command_starts_light() -> None:
    """``verify --help`` within 150 ms is impossible with numpy in it."""
    assert not loaded_by("import verifier.cli.main").intersection(
        {"torch", "numpy", "onnx", "onnxruntime", "rich"}
    )


@pytest.mark.parametrize("package", ["bounds", "verifier", "sdp", "training", "workers", "service"])
def test_packages_import_without_torch(package: str) -> None:
    assert "torch" not in loaded_by(f"import {package}")


@pytest.mark.skipif(importlib.util.find_spec("importlinter") is None, reason="import-linter is not installed")
def test_import_contracts() -> None:
    tool = shutil.which("lint-imports", path=str(Path(sys.executable).parent))
    assert tool is not None
    run = subprocess.run([tool, "--no-cache"], capture_output=True, text=True, cwd=ROOT, check=False)
    assert run.returncode == 0, run.stdout


def test_the_list_of_errors_imports_nothing() -> None:
    """The checker may import ``bounds.errors`` only because nothing comes with it."""
    names = imported_when_loaded(ast.parse((ROOT / "bounds/errors.py").read_text(encoding="utf-8")))
    assert names == {"__future__"}


def test_the_reader_itself() -> None:
    source = (
        "import a.b\nfrom typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import c\n"
        "try:\n    import d\nexcept ImportError:\n    pass\ndef f():\n    import e\nclass K:\n    import g\n"
    )
    assert imported_when_loaded(ast.parse(source)) == {"a", "typing", "d", "g"}
