"""Every code block of the documentation runs (``tests/docs_blocks.py`` says what may be marked and how)."""

from __future__ import annotations

import importlib
import importlib.util
import itertools
import os
import re
import select
import sys
from pathlib import Path
from typing import Any

import pytest
from docs_blocks import ROOT, Block, Page, blocks, masked

PAGES = sorted(
    page
    for pattern in ("*.md", "docs/**/*.md", "examples/**/*.md", "deploy/*.md", "benchmarks/*.md")
    for page in ROOT.glob(pattern)
)
CODE = [page for page in PAGES if any(b.runs for b in blocks(page.read_text(encoding="utf-8")))]
# page -> the module without which its blocks mean nothing, and how to get it
NEEDS = {
    "docs/howto/second-engine.md": ("auto_lirpa", "auto_LiRPA is installed by hand, as the page says"),
    "docs/howto/service.md": ("fastapi", "pip install '.[service]'"),
    "docs/howto/train.md": ("torch", "pip install '.[train]'"),
}


@pytest.mark.slow
@pytest.mark.parametrize("page", CODE, ids=lambda p: str(p.relative_to(ROOT)))
def test_page(page: Path, tmp_path: Path) -> None:
    name = str(page.relative_to(ROOT))
    if name in NEEDS:
        pytest.importorskip(NEEDS[name][0], reason=NEEDS[name][1])
    with Page(tmp_path) as running:
        for block in blocks(page.read_text(encoding="utf-8")):
            running.run(block)


def test_what_is_not_run_is_listed() -> None:
    """For people: ``pytest -rP`` shows the list. Most blocks must run, or the runner proves little."""
    every = [(page, block) for page in PAGES for block in blocks(page.read_text(encoding="utf-8"))]
    code = [(p, b) for p, b in every if b.language in ("sh", "python")]
    left_out = [(p, b) for p, b in code if b.reason]
    for page, block in left_out:
        print(f"{page.relative_to(ROOT)}:{block.line}: {block.reason}")  # noqa: T201  (for people)
    print(f"{len(code)} blocks of code, {len(left_out)} of them not run")  # noqa: T201
    assert len(left_out) <= len(code) // 4


# --- pages and pictures that scripts make


def generator(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_the_python_reference_is_current() -> None:
    module = generator("gen_python")
    assert module.PAGE.read_text(encoding="utf-8") == module.render(), "run python docs/gen_python.py"


def test_what_the_python_reference_names_can_be_imported() -> None:
    module = generator("gen_python")
    for names in module.PUBLIC.values():
        for _, name, home in names:
            if home == "training":
                pytest.importorskip("torch", reason="pip install '.[train]'")
            assert hasattr(importlib.import_module(home), name), f"{home}.{name}"


def test_the_pictures_of_branch_and_bound_are_current() -> None:
    """To half a pixel: bounds differ in their last digits from one BLAS to another."""
    module = generator("gen_branch_and_bound")
    for name, text in module.pictures().items():
        shown = (module.FOLDER / name).read_text(encoding="utf-8")
        assert re.sub(r"[-0-9.]+", "N", shown) == re.sub(r"[-0-9.]+", "N", text), name
        pairs = zip(re.findall(r"[0-9]+\.?[0-9]*", shown), re.findall(r"[0-9]+\.?[0-9]*", text), strict=True)
        assert all(abs(float(a) - float(b)) <= 0.5 for a, b in pairs), (
            "run python docs/gen_branch_and_bound.py"
        )


def test_the_parts_in_the_pictures_cover_and_bound() -> None:
    module = generator("gen_branch_and_bound")
    every = module.rounds()
    assert len(every) >= 3 and all(p.closed for p in every[-1]) and not any(p.closed for p in every[0])
    for parts in every:
        assert (parts[0].lo, parts[-1].hi) == (module.LEFT, module.RIGHT)
        assert all(a.hi == b.lo for a, b in itertools.pairwise(parts))
        for velocity, torque in module.curve():
            assert all(torque >= p.lower for p in parts if p.lo <= velocity <= p.hi)


# --- the runner itself


def one(text: str) -> Block:
    (found,) = blocks(text)
    return found


def test_marks_are_read() -> None:
    block = one("text\n\n<!-- before: touch a -->\n<!-- exit: 3 -->\n```sh\nexit 3\n```\n")
    assert (block.line, block.language, block.text) == (5, "sh", "exit 3\n")
    assert block.marks == {"before": "touch a", "exit": "3"}
    assert one("- x\n\n  ```python\n  if 1:\n      a\n  ```\n").text == "if 1:\n    a\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("```sh\nls\n", "not closed"),
        ("<!-- skip: no -->\n```sh\nls\n```", "'skip' is none of"),
        ("<!-- not run: no -->\n```sh\nls\n```", "say why"),
    ],
)
def test_wrong_pages(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        blocks(text)


def test_blocks_share_folder_variables_and_interpreter(tmp_path: Path) -> None:
    text = """
```sh
export A=7; cd examples; B=lost
```
<!-- file: examples/b.py -->
```python
raise SystemExit("not run")
```
```sh
test "$A" = 7; test -z "$B"; test "$(basename "$PWD")" = examples; ls b.py
```
```python
a = 3
```
```python
print("a is", a)
```
<!-- output -->
```text
a  is 4
```
<!-- exit: 2 -->
```sh
false || exit 2
```
"""
    with Page(tmp_path) as running:
        for block in blocks(text):
            running.run(block)
    assert (tmp_path / "examples" / "b.py").is_file()


@pytest.mark.parametrize(
    "text",
    [
        "```sh\nfalse\n```",
        "```sh\nfalse | true\n```",
        "```sh\nfalse; true\n```",
        "<!-- exit: 1 -->\n```sh\ntrue\n```",
        "```python\nassert 0\n```",
        "```python\nraise SystemExit(0)\n```",
        "<!-- before: false -->\n```sh\ntrue\n```",
        "```sh\necho proved\n```\n<!-- output -->\n```text\nproved at level real\n```",
        "```sh\necho b; echo a\n```\n<!-- output -->\n```text\na\nb\n```",
    ],
)
def test_what_fails_is_noticed(tmp_path: Path, text: str) -> None:
    with Page(tmp_path) as running, pytest.raises(AssertionError):
        for block in blocks(text):
            running.run(block)


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="watches a process in a way only Linux has")
def test_what_was_left_running_is_ended(tmp_path: Path) -> None:
    with Page(tmp_path) as running:
        running.run(one("```sh\nsleep 1000 &\necho $! > pid\n```"))
        process = os.pidfd_open(int((tmp_path / "pid").read_text(encoding="utf-8")))
        assert select.select([process], [], [], 0)[0] == [], "runs on between the blocks"
    try:
        assert select.select([process], [], [], 60)[0] == [process]
    finally:
        os.close(process)


def test_numbers_and_spacing_are_masked() -> None:
    assert masked("  0.17 s, 105 domains") == masked("1.5e-3 s,  7 domains")
