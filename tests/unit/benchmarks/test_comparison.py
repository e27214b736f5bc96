"""The comparison with other tools: every cell has a source, the page is current, losses are shown."""

from __future__ import annotations

import comparison
import pytest


def test_every_cell_has_a_source() -> None:
    used = set[str]()
    for feature, cells in comparison.FEATURES.items():
        assert len(cells) == len(comparison.TOOLS), feature
        for text, source in cells:
            assert text and source in comparison.SOURCES, feature
            used.add(source)
    assert used == set(comparison.SOURCES)


def test_the_page_is_current() -> None:
    assert comparison.PAGE.read_text(encoding="utf-8") == comparison.render(), (
        "run ./scripts/bench comparison"
    )


def test_where_others_are_faster_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def row(
        tool: str, family: str, wall: float, verdict: str = "unsat"
    ) -> tuple[tuple[str, ...], dict[str, str]]:
        return (tool, family, "n", "p"), {"wall": str(wall), "verdict": verdict}

    ours = [row("surebound", name, wall) for name, wall in (("a", 3.0), ("b", 1.0), ("c", 9.0))]
    theirs = [row("nnenum", "a", 1.0), row("nnenum", "b", 2.0), row("nnenum", "c", 1.0, "timed-out")]
    rows = dict([*ours, *theirs])
    found = comparison.times(rows, "nnenum")
    assert found.both == [(3.0, 1.0), (1.0, 2.0)]
    assert "\n".join(comparison._slower(found)) == "- **Time: nnenum** is faster on a (3.00 s, 1.00 s)."
    assert comparison._row(found) == "| nnenum | 3 | 2 | 2 | 2.00 | 1.50 | 1.2 |"
