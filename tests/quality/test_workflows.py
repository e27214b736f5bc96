"""Workflow files: actions of others are pinned, nothing of a caller is pasted into a script."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda p: p.name)
def test_workflow(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    used = re.findall(r"uses: (\S+)(.*)", text)
    for action, comment in used:
        assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", action), f"{action}: pin it to a commit"
        assert re.search(r"# v[0-9]+\.[0-9]+\.[0-9]+", comment), f"{action}: say which version that is"
    # an expression inside of a script is text of whoever made the tag or the branch: it goes through env
    for script in re.findall(r"run: \|\n((?: {10,}.*\n)+)|run: (?!\|)(.*)", text):
        assert "${{" not in "".join(script)
    for script in re.findall(r"\./(scripts/\w+)", text):
        assert (ROOT / script).is_file(), script


def test_there_is_one() -> None:
    assert "release.yml" in {path.name for path in WORKFLOWS}
