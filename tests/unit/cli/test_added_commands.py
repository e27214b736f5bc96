"""Commands of other packages: found by entry points, never in place of ours, not looked for needlessly."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from verifier.cli.main import COMMANDS, GROUP, cli


@click.command("hello", short_help="Greet.")
def hello() -> int:
    click.echo("good day")
    return 0


class Entry:
    def __init__(self, name: str, value: Any) -> None:
        self.name, self.value = name, value

    def load(self) -> Any:
        return self.value


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Installs two entries; the list grows with every look-up."""
    seen: list[str] = []

    def entry_points(*, group: str) -> list[Entry]:
        seen.append(group)
        return [Entry("hello", hello), Entry("check", hello), Entry("broken", "no command")]

    monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)
    return seen


def run(*args: str) -> Any:
    return CliRunner().invoke(cli, list(args), prog_name="verify", catch_exceptions=True)


def test_an_added_command_is_listed_and_runs(asked: list[str]) -> None:
    assert "hello" in run("--help").stdout
    assert "Greet." in run("--help").stdout
    assert "broken" not in run("--help").stdout
    assert run("hello").stdout == "good day\n"
    assert set(asked) == {GROUP}


def test_ours_cannot_be_replaced(asked: list[str]) -> None:
    assert "good day" not in run("check", "--help").stdout
    assert "certificate" in run("check", "--help").stdout


@pytest.mark.usefixtures("asked")
def test_a_file_of_that_name_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hello").write_text("")
    assert "good day" not in run("hello").output


def test_deciding_a_property_looks_for_nothing(asked: list[str]) -> None:
    run("nowhere.onnx", "nowhere.vnnlib")
    for name in COMMANDS:
        run(name, "--help")
    assert asked == []


def test_train_is_installed() -> None:
    assert "train" in {e.name for e in importlib.metadata.entry_points(group=GROUP)}
