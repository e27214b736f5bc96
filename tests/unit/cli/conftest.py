"""Fixtures of the command-line tests."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_stand_in import VNNLIB1, Engine
from click.testing import CliRunner, Result

from verifier.cli.main import cli


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    """The engine behind the commands of this test."""
    stand_in = Engine()
    module = types.ModuleType("verifier.api")
    module.verify = stand_in.verify  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "verifier.api", module)
    return stand_in


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    """A model file (of no content: the engine is a stand-in) and a property."""
    (tmp_path / "m.onnx").write_bytes(b"")
    (tmp_path / "p.vnnlib").write_text(VNNLIB1, encoding="utf-8")
    return str(tmp_path / "m.onnx"), str(tmp_path / "p.vnnlib")


@pytest.fixture
def invoke() -> Callable[..., Result]:
    """Runs a command line in this process; exceptions pass through."""

    def run(*args: str) -> Result:
        return CliRunner().invoke(cli, list(args), standalone_mode=False, terminal_width=100)

    return run


@pytest.fixture
def failing(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a command line that must exit 2 with one line; returns the line."""
    from verifier.cli.main import main

    def run(*args: str) -> str:
        with pytest.raises(SystemExit) as ended:
            main(args)
        out, err = capsys.readouterr()
        assert ended.value.code == 2
        assert out == ""
        assert err.startswith("error: ")
        assert err.count("\n") == 1
        return err

    return run
