"""From raw rows to counts, PAR-2 scores and ratios.

Of repeated runs of one tool on one instance the median one counts, undecided runs behind decided ones (of
an even number the later of the middle two), but one wrong answer in any of them is wrong. Ratios compare
medians over the instances that both tools decide rightly; above 1 is in our favour.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from _vnncomp_instances import Instance, Key
from _vnncomp_tools import FAILED, OURS, SURE

ALL = "**all**"


@dataclass(frozen=True)
class Row:
    """One run of one tool on one instance.

    Attributes:
        tool, family, onnx, vnnlib, repeat: which.
        timeout: seconds it had.
        verdict: what counts: an answer that came after the limit is "timed-out".
        answered: what the tool said, late or not.
        wall, cpu: seconds of the whole process.
        code: exit status, or "none".
        note: one line, for people.
    """

    tool: str
    family: str
    onnx: str
    vnnlib: str
    repeat: int
    timeout: float
    verdict: str
    answered: str
    wall: float
    cpu: float
    code: str
    note: str

    @property
    def key(self) -> Key:
        return self.family, self.onnx, self.vnnlib


@dataclass(frozen=True)
class Result:
    """What the repeats of one tool on one instance come to."""

    instance: Instance
    verdict: str
    wall: float
    cpu: float
    wrong: bool

    @property
    def solved(self) -> bool:
        return self.verdict in SURE and not self.wrong

    @property
    def par2(self) -> float:
        """Seconds, twice the limit where nothing right was said in time."""
        return self.wall if self.solved else 2 * self.instance.timeout


def is_wrong(row: Row, expected: str) -> bool:
    """Whether an answer, even a late one, contradicts what is known."""
    return row.answered in SURE and expected in SURE and row.answered != expected


def combine(rows: Sequence[Row], instance: Instance) -> Result:
    """The median run. Saying both sat and unsat is wrong whatever is known."""
    ranked = sorted(rows, key=lambda r: (r.verdict not in SURE, r.wall))
    middle = ranked[len(ranked) // 2]
    torn = len({r.answered for r in rows} & set(SURE)) > 1
    wrong = torn or any(is_wrong(r, instance.expected) for r in rows)
    return Result(instance, middle.verdict, middle.wall, middle.cpu, wrong)


def results(rows: Iterable[Row], instances: Sequence[Instance]) -> dict[str, dict[Key, Result]]:
    """Tool -> instance -> result, over the instances that have rows."""
    grouped: dict[tuple[str, Key], list[Row]] = defaultdict(list)
    for row in rows:
        grouped[row.tool, row.key].append(row)
    known = {i.key: i for i in instances}
    found: dict[str, dict[Key, Result]] = defaultdict(dict)
    for (tool, key), runs in grouped.items():
        if key in known:
            found[tool][key] = combine(runs, known[key])
    return dict(found)


@dataclass(frozen=True)
class Line:
    """One tool on one family. Medians are over solved instances, nan where there are none.

    Attributes:
        both: instances this tool and ours solve; 0 for ours.
        wall_ratio, cpu_ratio: this tool's median over our median there; mean_ratio: geometric mean of the
            ratios of wall seconds, instance by instance.
        official: instances that the official run decided within the limit used here.
        official_both, official_faster: those that this tool solves too, and on how many it took less time.
    """

    family: str
    tool: str
    instances: int
    unsat: int
    sat: int
    undecided: int
    failed: int
    wrong: int
    par2: float
    wall: float
    cpu: float
    both: int
    wall_ratio: float
    cpu_ratio: float
    mean_ratio: float
    official: int
    official_both: int
    official_faster: int


def summary(rows: Iterable[Row], instances: Sequence[Instance]) -> list[Line]:
    """A line per family and tool, then per tool over all families; ours first."""
    found = results(rows, instances)
    tools = sorted(found, key=lambda name: name != OURS.name)
    families = list(dict.fromkeys(i.family for i in instances))
    ours = found.get(OURS.name, {})
    lines: list[Line] = []
    for family in [*families, ALL]:
        for tool in tools:
            group = [r for r in found[tool].values() if family in (r.instance.family, ALL)]
            if group:
                lines.append(_line(family, tool, group, ours))
    return lines


def _line(family: str, tool: str, group: list[Result], ours: dict[Key, Result]) -> Line:
    solved = [r for r in group if r.solved]
    pairs = [
        (r, mine)
        for r in solved
        if tool != OURS.name and (mine := ours.get(r.instance.key)) is not None and mine.solved
    ]
    theirs, mine = [p[0] for p in pairs], [p[1] for p in pairs]
    official = [
        r for r in group if r.instance.official is not None and r.instance.official <= r.instance.timeout
    ]
    # who disagrees with the official verdict has not won against it
    agreed = [
        r for r in solved if r.instance.official is not None and r.verdict == r.instance.official_verdict
    ]
    counts = {word: sum(r.verdict == word and not r.wrong for r in group) for word in SURE}
    failed, wrong = sum(r.verdict in FAILED for r in group), sum(r.wrong for r in group)
    undecided = sum(r.verdict not in (*SURE, *FAILED) and not r.wrong for r in group)
    return Line(
        family,
        tool,
        len(group),
        counts["unsat"],
        counts["sat"],
        undecided,
        failed,
        wrong,
        statistics.mean(r.par2 for r in group),
        _median(r.wall for r in solved),
        _median(r.cpu for r in solved),
        len(pairs),
        _ratio(_median(r.wall for r in theirs), _median(r.wall for r in mine)),
        _ratio(_median(r.cpu for r in theirs), _median(r.cpu for r in mine)),
        math.exp(statistics.mean(math.log(max(a.wall, 1e-3) / max(b.wall, 1e-3)) for a, b in pairs))
        if pairs
        else math.nan,
        len(official),
        len(agreed),
        sum(r.wall < (r.instance.official or 0.0) for r in agreed),
    )


def _median(values: Iterable[float]) -> float:
    found = list(values)
    return statistics.median(found) if found else math.nan


def _ratio(a: float, b: float) -> float:
    return a / b if b > 0 else math.nan


def disagreements(rows: Iterable[Row], instances: Sequence[Instance]) -> list[str]:
    """One sentence per instance on which something is wrong or tools contradict one another."""
    said: dict[Key, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for row in rows:
        if row.answered in SURE:
            said[row.key][row.answered].add(row.tool)
    known = {i.key: i.expected for i in instances}
    found: list[str] = []
    for key, answers in said.items():
        expected = known.get(key, "")
        if len(answers) > 1 or (expected in SURE and set(answers) != {expected}):
            sides = ", ".join(f"{word}: {' '.join(sorted(who))}" for word, who in sorted(answers.items()))
            found.append(f"{' '.join(key)}: expected {expected or 'not known'}; {sides}")
    return found


COLUMNS = (
    "family", "tool", "instances", "unsat", "sat", "undecided", "error", "wrong", "PAR-2", "median s",
    "median CPU s", "both solve", "s ratio", "CPU ratio", "official solves", "faster than official",
)  # fmt: skip


def table(lines: Sequence[Line]) -> str:
    """Markdown."""
    text = [f"| {' | '.join(COLUMNS)} |", "|---|---|" + "---:|" * (len(COLUMNS) - 2)]
    for line in lines:
        cells = [line.family, line.tool]
        counts = (line.instances, line.unsat, line.sat, line.undecided, line.failed, line.wrong)
        cells += [str(v) for v in counts]
        cells += [_number(v) for v in (line.par2, line.wall, line.cpu)]
        cells += [str(line.both), _times(line.wall_ratio), _times(line.cpu_ratio)] if line.both else ["-"] * 3
        cells.append(str(line.official) if line.official else "-")
        share = f"{line.official_faster} of {line.official_both}"
        cells.append(share if line.official_both else "-")
        text.append(f"| {' | '.join(cells)} |")
    return "\n".join(text) + "\n"


def as_record(lines: Sequence[Line]) -> list[dict[str, object]]:
    """For JSON, which has no nan."""
    return [
        {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in asdict(line).items()}
        for line in lines
    ]


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.2f}"


def _times(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.1f}x"
