"""Writes docs/reference/python.md from signatures and docstrings; a test fails when the page is behind.

Run it as ``python docs/gen_python.py``. It reads the sources and imports nothing of them.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "reference" / "python.md"

HEAD = """# Python

*Made by `docs/gen_python.py` from the docstrings; edit those, then run it again.*

What is named here is meant to be called; everything else may change. `S` are objectives or rows, `N`
samples, `D` boxes; arrays are NumPy's. Errors are subclasses of `bounds.errors.SureboundError`, and their
message is one line that says what is wrong, where, and what to do.
"""

# section -> (file, name, how it is imported)
PUBLIC: dict[str, tuple[tuple[str, str, str], ...]] = {
    "Verification": (
        ("verifier/api.py", "verify", "verifier"),
        ("verifier/query.py", "Options", "verifier"),
        ("verifier/report/model.py", "Report", "verifier"),
        ("verifier/verdict.py", "Witness", "verifier.verdict"),
        ("verifier/check/main.py", "check", "verifier.check.main"),
    ),
    "Properties": (
        ("verifier/spec/load.py", "load", "verifier.spec.load"),
        ("verifier/spec/region.py", "around", "verifier.spec.region"),
        ("verifier/spec/region.py", "box", "verifier.spec.region"),
        ("verifier/spec/robustness.py", "local_robustness", "verifier.spec.robustness"),
        ("verifier/spec/robustness.py", "targeted_robustness", "verifier.spec.robustness"),
        ("verifier/spec/output_range.py", "output_range", "verifier.spec.output_range"),
        ("verifier/spec/monotone.py", "monotone", "verifier.spec.monotone"),
    ),
    "Tests": (
        ("verifier/testing/certified.py", "assert_certified", "verifier.testing"),
        ("verifier/testing/stretch.py", "assert_lipschitz", "verifier.testing"),
        ("verifier/testing/errors.py", "NotCertified", "verifier.testing"),
        ("verifier/testing/errors.py", "Counterexample", "verifier.testing"),
        ("verifier/testing/errors.py", "NotLipschitz", "verifier.testing"),
        ("verifier/testing/errors.py", "Undecided", "verifier.testing"),
    ),
    "Data sets": (
        ("verifier/robustness/measure.py", "robustness", "verifier.robustness.measure"),
        ("verifier/robustness/measure.py", "RobustnessOptions", "verifier.robustness.measure"),
    ),
    "Lipschitz constants": (
        ("sdp/api.py", "lipschitz", "sdp"),
        ("sdp/api.py", "Effort", "sdp"),
        ("sdp/api.py", "margins", "sdp"),
        ("sdp/region.py", "Region", "sdp"),
    ),
    "Models": (
        ("bounds/io/onnx.py", "load", "bounds.io.onnx"),
        ("bounds/io/torch_module.py", "from_torch", "bounds.io.torch_module"),
    ),
    "Training": (
        ("training/api.py", "train", "training"),
        ("training/config.py", "read_config", "training"),
    ),
    "Service": (("service/client.py", "Client", "service.client"),),
}
_SECTION = re.compile(r"^(Args|Returns|Raises|Attributes|Soundness|Reference|Example):\s*(.*)$")
_ITEM = re.compile(r"^(?P<names>[*\w., ]+?):\s+(?P<text>.*)$")
_ROLE = re.compile(r":(?:func|class|meth|mod|data):`~?([^`]+)`")


def render() -> str:
    """The page."""
    parts = [HEAD]
    for section, names in PUBLIC.items():
        parts.append(f"## {section}\n")
        for file, name, module in names:
            parts += _entry(_find(ROOT / file, name), module)
    return "\n".join(parts).rstrip() + "\n"


Definition = ast.FunctionDef | ast.ClassDef


def _find(path: Path, name: str) -> Definition:
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, Definition) and node.name == name:
            return node
    raise SystemExit(f"{path}: defines no {name}; correct the table in docs/gen_python.py")


def _entry(node: Definition, module: str) -> Iterator[str]:
    yield f"### `{node.name}`\n"
    yield f"```text\nfrom {module} import {node.name}\n\n{_signature(node)}\n```\n"
    yield from _docstring(node)
    if not isinstance(node, ast.ClassDef):
        return
    for inner in node.body:
        if isinstance(inner, ast.FunctionDef) and not inner.name.startswith("_") and ast.get_docstring(inner):
            yield f"**`{node.name}.{_signature(inner)}`**\n"
            yield from _docstring(inner)


def _signature(node: Definition) -> str:
    if isinstance(node, ast.FunctionDef):
        given = ast.unparse(node.args).removeprefix("self, ").removeprefix("self")
        returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
        return _wrapped(node.name, given, returns)
    fields = [ast.unparse(n) for n in node.body if isinstance(n, ast.AnnAssign)]
    start = next((n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"), None)
    if start is not None:
        return _wrapped(node.name, ast.unparse(start.args).removeprefix("self, "), "")
    return _wrapped(node.name, ", ".join(fields), "") if fields else node.name


def _wrapped(name: str, arguments: str, returns: str) -> str:
    line = f"{name}({arguments}){returns}"
    if len(line) <= 100:
        return line
    body = "".join(f"    {one.strip()},\n" for one in _split(arguments))
    return f"{name}(\n{body}){returns}"


def _split(arguments: str) -> list[str]:
    """Splits at commas that stand in no brackets."""
    parts, depth = [""], 0
    for sign in arguments:
        depth += (sign in "([{") - (sign in ")]}")
        if sign == "," and not depth:
            parts.append("")
        else:
            parts[-1] += sign
    return parts


def _docstring(node: Definition) -> Iterator[str]:
    text = inspect.cleandoc(ast.get_docstring(node) or "")
    text = _ROLE.sub(lambda m: f"`{m[1].split('.')[-1]}`", text).replace("``", "`")
    plain: list[str] = []
    section: str | None = None
    items: list[str] = []
    for line in [*text.splitlines(), "End:"]:
        match = _SECTION.match(line)
        if match or line == "End:":
            if section is None:
                yield "\n".join(plain).strip() + "\n"
            elif items:
                yield f"**{section}**\n"
                yield "\n".join(_items(items)) + "\n"
            section, items = (match[1] if match else None), ([match[2]] if match and match[2] else [])
        elif section is None:
            plain.append(line)
        elif line.strip():
            items.append(line)


def _items(lines: list[str]) -> Iterator[str]:
    """Lines of a section as a list; what is indented deeper goes on with the entry before it."""
    indent = min((len(line) - len(line.lstrip()) for line in lines if line.startswith(" ")), default=0)
    entries: list[str] = []
    for line in lines:
        deeper = len(line) - len(line.lstrip()) > indent
        if entries and (deeper or not _ITEM.match(line.strip())):
            entries[-1] += " " + line.strip()
        else:
            entries.append(line.strip())
    for entry in entries:
        match = _ITEM.match(entry)
        yield f"- `{match['names']}`: {match['text']}" if match else entry


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
