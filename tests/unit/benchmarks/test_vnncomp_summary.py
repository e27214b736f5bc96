"""From rows to a table: counts, PAR-2, ratios, official times, wrong answers."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from _vnncomp_instances import Instance
from _vnncomp_summary import ALL, Line, Row, as_record, combine, disagreements, summary, table

OURS, PEER = "surebound", "peer"


def instance(
    name: str, expected: str = "unsat", official: float | None = None, family: str = "f"
) -> Instance:
    verdict = expected if official is not None else ""
    return Instance(family, name, "p", 10.0, expected, official, verdict)


def row(tool: str, name: str, verdict: str, wall: float = 1.0, repeat: int = 0, family: str = "f") -> Row:
    return Row(tool, family, name, "p", repeat, 10.0, verdict, verdict, wall, 2 * wall, "0", "")


def line(lines: list[Line], family: str, tool: str) -> Line:
    return next(l for l in lines if (l.family, l.tool) == (family, tool))


def test_counts_and_par2() -> None:
    known = [instance("a"), instance("b", "sat"), instance("c"), instance("d"), instance("e", "unknown")]
    rows = [
        row(OURS, "a", "unsat", 2.0),
        row(OURS, "b", "unsat", 1.0),  # wrong
        row(OURS, "c", "timed-out", 10.0),
        row(OURS, "d", "error", 0.1),
        row(OURS, "e", "sat", 4.0),
    ]
    got = line(summary(rows, known), "f", OURS)
    assert (got.instances, got.unsat, got.sat, got.undecided, got.failed, got.wrong) == (5, 1, 1, 1, 1, 1)
    assert got.par2 == pytest.approx((2 + 20 + 20 + 20 + 4) / 5)
    assert (got.wall, got.cpu) == (3.0, 6.0)


def test_ratios_are_over_what_both_solve() -> None:
    known = [instance(n) for n in "abcd"]
    rows = [row(OURS, n, "unsat", s) for n, s in zip("abc", (1.0, 2.0, 3.0), strict=True)]
    rows += [row(PEER, "a", "unsat", 4.0), row(PEER, "b", "unsat", 8.0), row(PEER, "c", "sat", 0.1)]
    rows += [row(OURS, "d", "timed-out", 10.0), row(PEER, "d", "unsat", 9.0)]
    got = line(summary(rows, known), "f", PEER)
    assert got.both == 2
    assert got.wall_ratio == pytest.approx(6.0 / 1.5)
    assert got.mean_ratio == pytest.approx(4.0)
    assert line(summary(rows, known), "f", OURS).both == 0


def test_official_time() -> None:
    """Only instances the official run solved within the limit used here, and where verdicts agree."""
    known = [instance("a", official=5.0), instance("b", official=5.0), instance("c", official=50.0)]
    known += [replace(instance("d", "unknown", official=5.0), official_verdict="unsat"), instance("e")]
    rows = [row(OURS, "a", "unsat", 1.0), row(OURS, "b", "unsat", 6.0), row(OURS, "c", "unsat", 9.0)]
    rows += [row(OURS, "d", "sat", 1.0), row(OURS, "e", "unsat", 1.0)]
    got = line(summary(rows, known), "f", OURS)
    assert (got.official, got.official_both, got.official_faster) == (3, 3, 2)


def test_families_and_all() -> None:
    known = [instance("a"), instance("a", family="g")]
    rows = [row(PEER, "a", "unsat"), row(OURS, "a", "unsat"), row(OURS, "a", "unknown", family="g")]
    lines = summary(rows, known)
    assert [(l.family, l.tool, l.instances) for l in lines] == [
        ("f", OURS, 1), ("f", PEER, 1), ("g", OURS, 1), (ALL, OURS, 2), (ALL, PEER, 1),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("walls", "verdicts", "wall", "solved"),
    [
        ((3.0, 1.0, 2.0), ("unsat",) * 3, 2.0, True),
        ((3.0, 1.0), ("unsat",) * 2, 3.0, True),
        ((1.0, 2.0, 0.5), ("unsat", "unsat", "error"), 2.0, True),
        ((1.0, 0.2, 0.5), ("unsat", "error", "error"), 0.2, False),
    ],
)
def test_repeats_give_the_median_run(
    walls: tuple[float, ...], verdicts: tuple[str, ...], wall: float, solved: bool
) -> None:
    rows = [row(OURS, "a", v, w, k) for k, (v, w) in enumerate(zip(verdicts, walls, strict=True))]
    got = combine(rows, instance("a"))
    assert (got.wall, got.solved) == (wall, solved)


def test_one_wrong_repeat_is_wrong() -> None:
    rows = [row(OURS, "a", "unsat", repeat=k) for k in range(4)] + [row(OURS, "a", "sat", repeat=4)]
    assert combine(rows, instance("a")).wrong
    assert combine(rows, instance("a", "unknown")).wrong  # both words cannot be right
    assert not combine(rows[:4], instance("a", "unknown")).wrong


def test_a_late_wrong_answer_is_wrong() -> None:
    late = replace(row(OURS, "a", "timed-out", 11.0), answered="sat")
    assert combine([late], instance("a")).wrong
    assert not combine([replace(late, answered="unsat")], instance("a")).wrong


def test_contradictions_are_named() -> None:
    known = [instance("a", "unknown"), instance("b", "sat"), instance("c")]
    rows = [row(OURS, "a", "sat"), row(PEER, "a", "unsat"), row(PEER, "b", "unsat"), row(OURS, "c", "unsat")]
    assert disagreements(rows, known) == [
        "f a p: expected unknown; sat: surebound, unsat: peer",
        "f b p: expected sat; unsat: peer",
    ]


def test_table_without_anything_solved() -> None:
    lines = summary([row(OURS, "a", "error"), row(PEER, "a", "unknown")], [instance("a")])
    text = table(lines).splitlines()
    assert text[2] == "| f | surebound | 1 | 0 | 0 | 0 | 1 | 0 | 20.00 | - | - | - | - | - | - | - |"
    assert len({text_line.count("|") for text_line in text}) == 1
    assert as_record(lines)[0]["wall"] is None
    assert math.isnan(lines[0].wall)
