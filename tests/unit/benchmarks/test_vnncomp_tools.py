"""Command templates and verdict parsers."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from _vnncomp_process import Ran
from _vnncomp_tools import OURS, PRESETS, Tool, first_line, last_line, meaning, tool

VALUES = {
    "onnx": "/m dir/a.onnx",
    "vnnlib": "/p.vnnlib",
    "timeout": "60",
    "family": "acasxu",
    "out": "/t/o",
    "seed": "0",
}
MARABOU = """Network: /m/a.onnx
Property: /p.vnnlib

sat
Input assignment:
\tx0 = -0.298553

Output:
\ty0 = -0.020321
"""


def ended(stdout: str = "", stderr: str = "", code: int | None = 0, *, killed: bool = False) -> Ran:
    return Ran(code, stdout, stderr, 1.0, 1.0, killed)


@pytest.mark.parametrize(
    ("word", "verdict"),
    [
        ("unsat", "unsat"), (" SAT ", "sat"), ("holds", "unsat"), ("violated", "sat"),
        ("unsat,12.3", "unsat"),
        ("TIMEOUT", "timed-out"), ("timed-out", "timed-out"), ("unknown", "unknown"), ("error", "error"),
        ("unsatisfiable core", None), ("not sat", None), ("", None), ("((X_0 0.5)", None),
    ],
)  # fmt: skip
def test_meaning(word: str, verdict: str | None) -> None:
    assert meaning(word) == verdict


def test_lines() -> None:
    assert first_line("unsat\nsat\n") == "unsat"
    assert first_line("loading\nunsat\n") is None
    assert last_line(MARABOU) == "sat"
    assert last_line("unknown\nprogress\nunsat\nbye\n") == "unsat"
    assert last_line("the answer is sat\n") is None


def test_result_file(tmp_path: Path) -> None:
    one = Tool("peer", "run {out}", "result-file")
    out = tmp_path / "result"
    assert one.verdict(ended("sat\n"), out) == ("error", "sat")  # no file: what it prints is no verdict
    out.write_text("unsat\n((X_0 1.0))\n")
    assert one.verdict(ended("sat\n", code=1), out) == ("unsat", "")
    out.write_text("")
    assert one.verdict(ended("", "Traceback\nKeyError: 3\n", 1), out) == ("error", "KeyError: 3")


def test_killed_and_out_of_memory_have_no_verdict(tmp_path: Path) -> None:
    out = tmp_path / "result"
    out.write_text("unsat\n")
    one = Tool("peer", "run {out}", "result-file")
    assert one.verdict(ended(killed=True, code=-9), out)[0] == "timed-out"
    assert one.verdict(ended(stderr="std::bad_alloc\n", code=-6), out)[0] == "out-of-memory"


def test_ours_answers_with_exit_status_zero(tmp_path: Path) -> None:
    assert OURS.verdict(ended("unsat\n"), tmp_path)[0] == "unsat"
    assert OURS.verdict(ended("unsat\n", "late crash\n", 1), tmp_path) == ("error", "late crash")


def test_command_fills_words_not_shells() -> None:
    one = Tool(
        "peer", "run '{onnx}' --t={timeout} {vnnlib} '{not ours} {}' '$x $$' $HOME_OF_IT/x", "last-line"
    )
    words = one.command(VALUES, {"HOME_OF_IT": "/opt/a b"})
    assert words == ["run", "/m dir/a.onnx", "--t=60", "/p.vnnlib", "{not ours} {}", "$x $$", "/opt/a b/x"]


def test_environment_beats_the_preset() -> None:
    one = PRESETS["maraboupy"]
    assert one.command(VALUES, {})[0] == "Marabou"
    assert one.command(VALUES, {"MARABOU": "/opt/Marabou"})[0] == "/opt/Marabou"


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_complete_commands(name: str) -> None:
    one = PRESETS[name]
    needed = {key: "/given" for key, _ in one.defaults}
    words = one.command(VALUES, needed)
    assert not one.missing(needed)
    assert not [word for word in words if "$" in word or "{" in word]
    assert {"/m dir/a.onnx", "/p.vnnlib", "60"} <= set(words)
    assert ("/t/o" in words) == (one.parser == "result-file")


def test_option_forms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {})
    assert tool("vibecheck-nn") == PRESETS["vibecheck-nn"]
    assert tool("x=run {onnx}").parser == "last-line"
    assert tool("x=run {out} a=b") == Tool("x", "run {out} a=b", "result-file")
    assert tool("x:first-line=run {out}").parser == "first-line"
    assert tool("maraboupy=/opt/M {onnx}").parser == PRESETS["maraboupy"].parser
    assert tool("nnenum=python3 -m nnenum {out}").parser == "result-file"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("nobody", "is no preset"), ("=run", "give NAME"), ("surebound=run", "other than surebound"),
        ("x=", "give NAME"), ("x:psychic=run", "is no parser"), ("vibecheck-nn:last-line", "is no preset"),
        ("nnenum", "NNENUM_PYTHON"), ("x=$NOT_SET_ANYWHERE/run", "NOT_SET_ANYWHERE"),
    ],
)  # fmt: skip
def test_bad_peers_are_explained(text: str, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {})
    with pytest.raises(ValueError, match=reason):
        tool(text)
