"""The README's transcript of the service is what the commands print."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="pip install 'surebound[service]'")


def _generator(root: Path) -> Any:
    spec = importlib.util.spec_from_file_location("transcript", root / "docs" / "gen_service_transcript.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl: apt-get install curl")
def test_the_transcript_repeats(root: Path) -> None:
    made = _generator(root)
    page = (root / "README.md").read_text(encoding="utf-8")
    shown = (
        page.partition(made.BEGIN)[2].partition(made.END)[0].removeprefix("```text\n").removesuffix("\n```\n")
    )
    assert "certificate accepted" in shown
    assert made.steady(made.run()) == made.steady(shown), "run python docs/gen_service_transcript.py"
