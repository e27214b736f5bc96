"""What a batch leaves behind: the CSV that grows line by line, the JSON, VNN-COMP result files."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TextIO

from bounds.errors import BadInput
from verifier.cli.instances import VERDICTS, Instance
from verifier.cli.options import write_text

COLUMNS: Final[tuple[str, ...]] = (
    "onnx",
    "vnnlib",
    "verdict",
    "seconds",
    "domains",
    "semantics",
    "certificate",
    "note",
)
ALL_VERDICTS: Final = (*VERDICTS, "error")
_DECIDED: Final = ("sat", "unsat")
_VNNCOMP_WORDS: Final = {"timed-out": "timeout"}  # the competition's word; the others are the same


@dataclass(frozen=True, slots=True)
class Result:
    """One line of the results.

    Attributes:
        instance: what was asked.
        verdict: a word of :data:`ALL_VERDICTS`.
        seconds: wall time.
        domains: subproblems.
        semantics: what an ``unsat`` is a statement about.
        certificate: path written, or "".
        note: why, where a verdict needs it.
        report: the report's JSON form, when known.
        assignment: counterexample in VNN-COMP form, or "".
    """

    instance: Instance
    verdict: str
    seconds: float
    domains: int
    semantics: str
    certificate: str = ""
    note: str = ""
    report: dict[str, Any] | None = None
    assignment: str = ""

    @property
    def wrong(self) -> bool:
        """Whether it contradicts the list's expected verdict."""
        expected = self.instance.expected
        return self.verdict in _DECIDED and expected in _DECIDED and self.verdict != expected

    def cells(self) -> dict[str, str]:
        """The CSV line."""
        return {
            "onnx": self.instance.onnx,
            "vnnlib": self.instance.vnnlib,
            "verdict": self.verdict,
            "seconds": f"{self.seconds:.3f}",
            "domains": str(self.domains),
            "semantics": self.semantics,
            "certificate": self.certificate,
            "note": self.note,
        }


class ResultsCsv:
    """The growing CSV; each line is on disk when :meth:`add` returns."""

    def __init__(self, path: Path) -> None:
        """Opens the file; new lines follow those that are there."""
        _drop_torn_line(path)
        self._file: TextIO = path.open("a", encoding="utf-8", newline="")
        if not self._file.seekable() or self._file.tell() == 0:
            self._write(dict(zip(COLUMNS, COLUMNS, strict=True)))

    def add(self, result: Result) -> None:
        """Appends one line."""
        self._write(result.cells())

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def _write(self, cells: dict[str, str]) -> None:
        line = io.StringIO()
        csv.writer(line, lineterminator="\n").writerow([cells[c] for c in COLUMNS])
        # in one piece, so that a kill leaves a whole line or none
        self._file.write(line.getvalue())
        self._file.flush()


def _drop_torn_line(path: Path) -> None:
    """Cuts off a last line that a kill left without its end."""
    if path.is_file() and (data := path.read_bytes()) and not data.endswith(b"\n"):
        with path.open("r+b") as file:
            file.truncate(data.rfind(b"\n") + 1)


def read_done(path: Path, instances: Sequence[Instance], json_file: Path | None) -> list[Result]:
    """Results of an earlier run over the same list; a torn last line is not one.

    Full reports come from the earlier JSON, where that exists.

    Raises:
        BadInput: the file is not one that a batch wrote.
    """
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8")
    rows = list(csv.reader(io.StringIO(text[: text.rfind("\n") + 1])))
    if rows and tuple(rows[0]) != COLUMNS:
        raise BadInput(f"--resume: {path} is not a results file of 'verify batch'; give another --out")
    reports = _earlier_reports(json_file)
    # a list may hold a pair twice, so each line of results answers for one instance only
    open_instances: dict[tuple[str, str], list[Instance]] = {}
    for instance in reversed(instances):
        open_instances.setdefault((instance.onnx, instance.vnnlib), []).append(instance)
    done: list[Result] = []
    for line, row in enumerate(rows[1:], start=2):
        try:
            onnx, vnnlib, verdict, seconds, domains, semantics, certificate, note = row
            numbers = float(seconds), int(domains)
        except ValueError:
            raise BadInput(f"{path}:{line}: not a line of results; remove it or give another --out") from None
        if same := open_instances.get((onnx, vnnlib)):
            report = reports.get((onnx, vnnlib))
            done.append(Result(same.pop(), verdict, *numbers, semantics, certificate, note, report))
    return done


def _earlier_reports(path: Path | None) -> dict[tuple[str, str], dict[str, Any] | None]:
    if path is None or not path.is_file():
        return {}
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))["instances"]
        return {(e["onnx"], e["vnnlib"]): e["report"] for e in entries}
    except (ValueError, KeyError, TypeError):
        raise BadInput(f"--resume: {path} is not JSON of 'verify batch'; give another --json") from None


def batch_json(results: Iterable[Result], *, complete: bool, with_expected: bool) -> dict[str, Any]:
    """The whole batch as plain values, in the order of the list (``verifier/report/schema.json``)."""
    ordered = sorted(results, key=lambda r: r.instance.number)
    counts = Counter(r.verdict for r in ordered)
    return {
        "format": "surebound-batch",
        "format_version": 1,
        "complete": complete,
        "counts": {verdict: counts[verdict] for verdict in ALL_VERDICTS},
        "wrong": sum(r.wrong for r in ordered) if with_expected else None,
        "instances": [
            {
                **r.cells(),
                "seconds": round(r.seconds, 3),
                "domains": r.domains,
                "certificate": r.certificate or None,
                "expected": r.instance.expected or None,
                "report": r.report,
            }
            for r in ordered
        ],
    }


def write_vnncomp(folder: Path, result: Result) -> None:
    """Writes one instance's ``results.txt``: the verdict, then the counterexample."""
    word = _VNNCOMP_WORDS.get(result.verdict, result.verdict)
    text = f"{word}\n{result.assignment}\n" if result.assignment else f"{word}\n"
    write_text(folder / f"{result.instance.stem}.txt", text)
