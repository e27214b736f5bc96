"""The branching benchmark: variants in child processes, and its table."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import genbab
import pytest
from _vnncomp_journal import Journal
from _vnncomp_process import Ran
from genbab import Row, answer_of, contradictions, mean_seconds, table

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the harness measures on Linux")


def row(network: str, query: str, variant: str, verdict: str, search: float = 1.0, root: str = "open") -> Row:
    return Row(network, query, variant, verdict, search + 0.5, 1.0, search, 7, root, "")


def ended(stdout: str, code: int | None = 0, stderr: str = "", *, killed: bool = False) -> Ran:
    return Ran(code, stdout, stderr, 1.0, 1.0, killed)


def said(verdict: str, seconds: float) -> str:
    return (
        "noise\n" + json.dumps({"verdict": verdict, "seconds": seconds, "domains": 9, "note": "why"}) + "\n"
    )


@pytest.mark.parametrize(
    ("ran", "verdict", "seconds"),
    [
        (ended(said("unsat", 2.0)), "unsat", 2.0),
        (ended(said("unknown", 2.0)), "unknown", 2.0),
        (ended(said("unsat", 60.5)), "timed-out", 60.5),
        (ended(said("unsat", 2.0), 1, "late crash"), "error", 2.0),
        (ended("", 1, "KeyError: 'x'"), "error", 0.0),
        (ended('{"verdict": "unsat"}\n'), "error", 0.0),
        (ended("[1, 2]\n"), "error", 0.0),
        (ended("", -9), "out-of-memory", 0.0),
        (ended(said("unsat", 2.0), -9, killed=True), "timed-out", 60.0),
    ],
)
def test_answer_of_a_child(ran: Ran, verdict: str, seconds: float) -> None:
    assert answer_of(ran, 60.0)[:2] == (verdict, seconds)


def test_table() -> None:
    rows = [
        row("net", "net/1", "full", "unsat", 3.0),
        row("net", "net/1", "no split", "unknown", 0.1),
        row("net", "net/2", "full", "timed-out", 10.0, "proved"),
        row("net", "net/2", "no split", "unsat", 1.0, "proved"),
        row("other", "other/1", "full", "sat", 2.0),
        row("other", "other/1", "no split", "error", 0.0),
    ]
    lines = table(rows, 10.0).splitlines()
    assert lines[0].count("|") == lines[1].count("|") == lines[2].count("|")
    assert lines[2:5] == [
        "| net | 2 | 1 | 1 | 0 | 6.50 | 1 | 0 | 5.50 |",
        "| other | 1 | 0 | 0 | 1 | 2.00 | 0 | 0 | 10.00 |",
        "| **all** | 3 | 1 | 1 | 1 | 5.00 | 1 | 0 | 7.00 |",
    ]
    assert "Errors: no split: 1." in lines[-1]


def test_mean_counts_the_limit_for_what_is_open() -> None:
    assert mean_seconds([row("n", "q", "v", "unsat", 2.0), row("n", "r", "v", "error", 0.0)], 60.0) == 31.0


def test_contradictions() -> None:
    rows = [row("n", "n/1", "a", "sat"), row("n", "n/1", "b", "unsat"), row("n", "n/2", "a", "sat")]
    assert contradictions(rows) == ["n n/1"]
    assert contradictions([*rows[1:], row("n", "n/2", "b", "unknown")]) == []


def test_variants_run_in_children_and_resume(examples: Path, tmp_path: Path) -> None:
    """Real runs: the product decides both, the root alone never says the other word."""
    onnx = examples / "models" / "pendulum.onnx"
    names = ("pendulum_limit_unsat", "pendulum_limit_sat")
    todo = [("pendulum", onnx, examples / "properties" / f"{n}.vnnlib", False) for n in names]
    variants = list(genbab.VARIANTS)

    def journal() -> Journal[Row]:
        return Journal(tmp_path, "run", Row, {}, {})

    first = journal()
    first.open(resume=False, fresh=False)
    assert genbab.run_all(first, todo, variants, 100.0)
    assert [r.verdict for r in first.rows if r.variant == "full"] == ["unsat", "sat"]
    assert {r.verdict for r in first.rows if r.variant == "no split"} <= {"unsat", "sat", "unknown"}
    assert contradictions(first.rows) == []
    assert all(r.domains <= 1 for r in first.rows if r.variant == "no split")
    second = journal()
    second.open(resume=True, fresh=False)
    assert genbab.run_all(second, todo, variants, 100.0)
    assert second.rows == first.rows


def test_a_child_over_its_limit_is_killed(examples: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Less time than an interpreter needs to start: the child cannot have answered."""
    monkeypatch.setattr(genbab, "_GRACE", 0.0)
    files = (examples / "models" / "pendulum.onnx", examples / "properties" / "pendulum_limit_unsat.vnnlib")
    got = genbab.run("pendulum", *files, True, "full", 0.001)
    assert (got.verdict, got.note, got.root) == ("timed-out", "killed", "proved")
