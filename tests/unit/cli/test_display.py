"""What is shown on a terminal, and the batch command's own checks."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from verifier.cli.display import Display, summary
from verifier.cli.instances import Instance
from verifier.cli.results import Result
from verifier.cli.session import ProgressLine, progress_text
from verifier.report.progress import Progress

NOW = Progress(120, 7, 0.25, -0.5, 3.25, "search")


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def instance(number: int, expected: str = "") -> Instance:
    return Instance(number, f"n{number}.onnx", "p.vnnlib", 1.0, expected, Path())


def test_progress_line() -> None:
    assert progress_text(NOW) == "search: 3.2 s, 120 domains, 7 open, 25.0% proved, worst bound -0.5"


@pytest.mark.parametrize(("stream", "shown"), [(Terminal, True), (io.StringIO, False)])
def test_progress_is_for_terminals(
    monkeypatch: pytest.MonkeyPatch, stream: type[io.StringIO], shown: bool
) -> None:
    out = stream()
    monkeypatch.setattr(sys, "stderr", out)
    monkeypatch.setenv("TERM", "xterm")
    with ProgressLine() as line:
        line(NOW)
        line(NOW)
    assert ("120 domains" in out.getvalue()) is shown


def test_live_table(monkeypatch: pytest.MonkeyPatch) -> None:
    out, err = Terminal(), Terminal()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    with Display(3, 1) as display:
        display.started(instance(2))
        display.progressed(instance(2), {"domains": 120, "open": 7, "closed_fraction": 0.25})
        display.started(instance(3))
        display.finished(Result(instance(3, "sat"), "unsat", 1.5, 3, "real", note="[b]why[/b]"))
    assert out.getvalue() == ""  # both are the same terminal, and the table lives on this one
    for text in ("n2.onnx p.vnnlib", "25.0%", "[2/3] unsat", "([b]why[/b])", "WRONG: expected sat"):
        assert text in err.getvalue()


def test_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with Display(1, 0) as display:
        display.finished(Result(instance(1), "sat", 1.5, 3, "real"))
    assert capsys.readouterr() == ("[1/1] sat           1.50 s  n1.onnx p.vnnlib\n", "")


def test_summary() -> None:
    results = [
        Result(instance(1, "unsat"), "sat", 1.5, 3, "real"),
        Result(instance(2), "error", 0.0, 0, "real"),
    ]
    assert summary(results, 3, with_expected=True).splitlines() == [
        "verdict     count    seconds",
        "sat             1        1.5",
        "error           1        0.0",
        "all             2        1.5",
        "not run: 1; continue with --resume",
        "wrong: 1",
    ]


def test_batch_checks_before_it_works(failing: Callable[..., str], tmp_path: Path) -> None:
    listing = tmp_path / "instances.csv"
    listing.write_text("a.onnx,p.vnnlib,1\n", encoding="utf-8")
    assert "smallest value" in failing("batch", str(listing), "--max-domains", "0")
    assert "--timeout is 0" in failing("batch", str(listing), "--timeout", "0")
    assert "--jobs" in failing("batch", str(listing), "--jobs", "0")
    assert "--out" in failing("batch", str(listing), "--out", str(tmp_path / "no" / "out.csv"))
    assert "overwrite an input" in failing("batch", str(listing), "--out", str(listing))
    assert "--resume: needs --out" in failing("batch", str(listing), "--resume")
    assert "does not exist" in failing("batch", str(tmp_path / "none.csv"))
    listing.write_text("a.onnx,p.vnnlib,never\n", encoding="utf-8")
    assert "instances.csv:1: timeout is 'never'" in failing("batch", str(listing))


def test_batch_of_missing_files_needs_no_worker(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from verifier.cli.main import main

    listing = tmp_path / "instances.csv"
    listing.write_text("a.onnx,p.vnnlib,1\n", encoding="utf-8")
    with pytest.raises(SystemExit) as ended:
        main(["batch", str(listing), "--json", str(tmp_path / "r.json")])
    assert ended.value.code == 2
    assert "error" in capsys.readouterr().out
    assert json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))["counts"]["error"] == 1
