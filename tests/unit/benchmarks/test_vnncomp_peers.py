"""The report on peers counts in their favour where they were not run, and never hides a loss."""

from __future__ import annotations

import csv
import json
from dataclasses import fields
from pathlib import Path

import pytest
from _vnncomp_instances import read
from _vnncomp_peers import ABC, count_table, load, pair_table, wrong_lines
from _vnncomp_summary import Row

HEAD = "family,onnx,vnnlib,expected,abcrown_2025_seconds,abcrown_2025_verdict\n"
COLUMNS = [f.name for f in fields(Row)]
SESSION = {"date": "d", "commit": "c", "modified": False, "python": "3", "settings": {}}
MACHINE = {"cpu": "x", "cores": 1}


def journal(folder: Path, name: str, *rows: tuple[str, str, str, float]) -> None:
    """Rows of (tool, network, verdict, seconds) as ``vnncomp`` writes them."""
    with (folder / f"{name}.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for tool, net, verdict, seconds in rows:
            writer.writerow((tool, "f", net, "p", 0, 60.0, verdict, verdict, seconds, seconds, "0", ""))
    (folder / f"{name}.json").write_text(json.dumps({"sessions": [{**SESSION, "machine": MACHINE}]}))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A family of four: ours has a; the official run decided a, b, c, and d in more than the limit."""
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "instances.csv").write_text("".join(f"{n},p,100\n" for n in "abcd"))
    official = zip("abcd", (7, 8, 9, 200), strict=True)
    lines = [f"f,{n},p,unsat,{seconds},unsat" for n, seconds in official]
    (tmp_path / "expected.csv").write_text(HEAD + "\n".join(lines) + "\n")
    outcomes = [
        {"family": "f", "onnx": n, "vnnlib": "p", "expected": "unsat", "verdict": v}
        for n, v in zip("abcd", ("unsat", "timed-out", "timed-out", "timed-out"), strict=True)
    ]
    (tmp_path / "families.json").write_text(json.dumps({"outcomes": outcomes}))
    return tmp_path


def cells(root: Path) -> list[str]:
    table = count_table(read(root, [], None, 1e9), root)
    line = next(text for text in table.splitlines() if text.startswith("| f |"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_what_a_peer_was_not_run_on_counts_for_it(root: Path) -> None:
    # a, b and c count for the peer; d took its GPU longer than the limit and stands apart
    assert cells(root) == ["f", "4", "1", "1", "4", "0 of 0", "3", "1", "**no**"]


def test_runs_here_decide_but_a_failure_does_not(root: Path) -> None:
    journal(root, "vnncomp_peers_open", (ABC, "b", "timed-out", 65.0), (ABC, "c", "error", 1.0))
    assert cells(root)[5:] == ["0 of 1", "2", "1", "**no**"]
    journal(root, "vnncomp_peers_open", (ABC, "b", "timed-out", 65.0), (ABC, "c", "timed-out", 65.0))
    assert cells(root)[5:] == ["0 of 2", "1", "1", "yes, if"]
    journal(root, "vnncomp_peers_open_ours", ("surebound", "d", "unsat", 30.0))
    assert cells(root)[3:] == ["2", "4", "0 of 2", "2", "-", "yes"]


def test_ratios_are_over_what_both_decide(root: Path) -> None:
    journal(
        root, "vnncomp_peers_beside",
        ("surebound", "a", "unsat", 1.0), (ABC, "a", "unsat", 3.0),
        ("surebound", "b", "unsat", 1.0), (ABC, "b", "timed-out", 60.0),
    )  # fmt: skip
    table = pair_table(read(root, [], None, 1e9), load(root, "vnncomp_peers_beside*").rows, ABC)
    assert "| f | 2 | 2 | 1 | 1 | 1.00 | 3.00 | 3.0 | 3.0 | 4 | **no** |" in table


def test_wrong_answers_are_named(root: Path) -> None:
    journal(root, "vnncomp_peers_beside", (ABC, "a", "sat", 1.0), ("surebound", "a", "unsat", 1.0))
    lines = wrong_lines(read(root, [], None, 1e9), load(root, "vnncomp_peers_beside*").rows)
    assert lines == [f"- {ABC}: f a p: said sat, expected unsat"]


def test_a_repeated_run_replaces_rows(root: Path) -> None:
    journal(root, "vnncomp_peers_open", (ABC, "b", "timed-out", 65.0), (ABC, "c", "timed-out", 65.0))
    journal(root, "vnncomp_peers_open_again", (ABC, "c", "unsat", 50.0))
    assert cells(root)[5:7] == ["1 of 2", "2"]
