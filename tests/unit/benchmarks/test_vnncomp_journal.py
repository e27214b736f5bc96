"""Taking up a run where it stopped."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from _vnncomp_journal import Journal


@dataclass(frozen=True)
class Entry:
    name: str
    count: int
    seconds: float


ENTRIES = [Entry("plain", 1, 0.1), Entry('comma, "quote" | bar', -2, 1e-17), Entry("", 0, float("inf"))]


def journal(folder: Path, commit: str = "one", **settings: Any) -> Journal[Entry]:
    return Journal(folder, "run", Entry, {"commit": commit}, settings or {"cap": 60.0, "tools": {"a": "b"}})


def test_rows_survive_as_they_were(tmp_path: Path) -> None:
    first = journal(tmp_path)
    first.open(resume=False, fresh=False)
    for entry in ENTRIES:
        first.add(entry)
    second = journal(tmp_path, "two")
    second.open(resume=True, fresh=False)
    assert second.rows == ENTRIES
    second.add(ENTRIES[0])
    second.write({"score": 1}, finished=True)
    record = json.loads(second.json.read_text())
    assert record["finished"]
    assert [s["commit"] for s in record["sessions"]] == ["one", "two"]
    third = journal(tmp_path)
    third.open(resume=True, fresh=False)
    assert third.rows == [*ENTRIES, ENTRIES[0]]


def test_a_torn_last_line_is_dropped(tmp_path: Path) -> None:
    first = journal(tmp_path)
    first.open(resume=False, fresh=False)
    for entry in ENTRIES:
        first.add(entry)
    whole = first.csv.read_bytes()
    for cut in range(len(whole) - len(b",0,inf\n"), len(whole)):
        first.csv.write_bytes(whole[:cut])
        second = journal(tmp_path)
        second.open(resume=True, fresh=False)
        assert second.rows == ENTRIES[:2]
        second.add(ENTRIES[2])
        assert first.csv.read_bytes() == whole


def test_a_damaged_line_inside_is_an_error(tmp_path: Path) -> None:
    first = journal(tmp_path)
    first.open(resume=False, fresh=False)
    first.csv.write_text("name,count,seconds\na,1,2.0\nb,1\nc,1,2.0\n")
    with pytest.raises(ValueError, match="damaged line 'b,1'"):
        journal(tmp_path).open(resume=True, fresh=False)
    first.csv.write_text("name,count\na,1\n")
    with pytest.raises(ValueError, match="other columns"):
        journal(tmp_path).open(resume=True, fresh=False)


def test_an_unfinished_run_is_not_overwritten(tmp_path: Path) -> None:
    first = journal(tmp_path)
    first.open(resume=False, fresh=False)
    first.add(ENTRIES[0])
    with pytest.raises(ValueError, match="unfinished run"):
        journal(tmp_path).open(resume=False, fresh=False)
    again = journal(tmp_path)
    again.open(resume=False, fresh=True)
    assert again.rows == []
    assert again.csv.read_text() == "name,count,seconds\n"


def test_a_finished_run_may_be_repeated(tmp_path: Path) -> None:
    first = journal(tmp_path)
    first.open(resume=False, fresh=False)
    first.add(ENTRIES[0])
    first.write({}, finished=True)
    again = journal(tmp_path)
    again.open(resume=False, fresh=False)
    assert again.rows == []


def test_other_settings_cannot_be_mixed_in(tmp_path: Path) -> None:
    journal(tmp_path).open(resume=False, fresh=False)
    with pytest.raises(ValueError, match="another cap;"):
        journal(tmp_path, cap=30.0, tools={"a": "b"}).open(resume=True, fresh=False)
    with pytest.raises(ValueError, match="another tools, more;"):
        journal(tmp_path, cap=60.0, tools={"a": "c"}, more=1).open(resume=True, fresh=False)


def test_nothing_to_resume(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nothing to resume"):
        journal(tmp_path).open(resume=True, fresh=False)


def test_a_foreign_result_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"outcomes": []}')
    for resume, fresh in ((False, False), (True, False), (False, True)):
        with pytest.raises(ValueError, match="not the record"):
            journal(tmp_path).open(resume=resume, fresh=fresh)
    assert (tmp_path / "run.json").read_text() == '{"outcomes": []}'
