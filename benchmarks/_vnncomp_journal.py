"""A run that can be resumed: rows go to a CSV file as they come, settings to a JSON file beside it.

The JSON file holds one provenance per session (a resumed run has several, perhaps with different commits),
the settings that every session must share, and at the end the summary. Rows of a session that was cut off
are kept; a last line torn by a kill is dropped.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Generic, TypeVar, get_type_hints

Row = TypeVar("Row")


class Journal(Generic[Row]):
    """Rows of one dataclass type, whose fields are str, int, float or bool.

    Args:
        folder, name: where ``NAME.csv`` and ``NAME.json`` are.
        kind: the dataclass.
        provenance: of this session.
        settings: what a resumed run must share with its first session.
    """

    def __init__(
        self, folder: Path, name: str, kind: type[Row], provenance: dict[str, Any], settings: dict[str, Any]
    ) -> None:
        self.csv, self.json = folder / f"{name}.csv", folder / f"{name}.json"
        self._kind, self._columns = kind, tuple(f.name for f in fields(kind))  # type: ignore[arg-type]
        self.sessions: list[dict[str, Any]] = [provenance]
        self._settings = json.loads(json.dumps(settings))
        self.rows: list[Row] = []

    def open(self, *, resume: bool, fresh: bool) -> None:
        """Starts, or takes up what an earlier session left.

        Raises:
            ValueError: an unfinished run is there and neither was asked for, or it had other settings.
        """
        old = self._old()
        if resume and not fresh:
            if old is None:
                raise ValueError(f"nothing to resume: {self.json} does not exist")
            if differing := [
                k
                for k in {**old["settings"], **self._settings}
                if old["settings"].get(k) != self._settings.get(k)
            ]:
                raise ValueError(
                    f"{self.json} was made with another {', '.join(differing)}; give the same, or --fresh"
                )
            self.rows = self._read()
            self.sessions = [*old["sessions"], *self.sessions]
        elif old is not None and not old["finished"] and not fresh:
            raise ValueError(f"{self.json} is an unfinished run; give --resume, or --fresh to start over")
        self.csv.parent.mkdir(parents=True, exist_ok=True)
        part = self.csv.with_suffix(".csv.part")
        with part.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(self._columns)
            writer.writerows(self._cells(row) for row in self.rows)
        part.replace(self.csv)
        self.write({}, finished=False)

    def add(self, row: Row) -> None:
        """Appends a row, on disk at once."""
        self.rows.append(row)
        with self.csv.open("a", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerow(self._cells(row))

    def write(self, summary: dict[str, Any], *, finished: bool) -> None:
        """Replaces the JSON file."""
        record = {
            "finished": finished,
            "settings": self._settings,
            "sessions": self.sessions,
            "summary": summary,
        }
        part = self.json.with_suffix(".json.part")
        part.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        part.replace(self.json)

    def _old(self) -> dict[str, Any] | None:
        if not self.json.exists():
            return None
        old = json.loads(self.json.read_text(encoding="utf-8"))
        if not isinstance(old, dict) or not {"finished", "settings", "sessions"} <= set(old):
            raise ValueError(f"{self.json} is not the record of such a run; choose another --out")
        return old

    def _cells(self, row: Row) -> Sequence[str]:
        values = asdict(row)  # type: ignore[call-overload]
        # repr: a float must come back as the same float
        return [repr(v) if isinstance(v, float) else str(v) for v in values.values()]

    def _read(self) -> list[Row]:
        """The rows on disk; what is torn (the last line, if anything) is left out."""
        if not self.csv.exists():
            return []
        whole = self.csv.read_text(encoding="utf-8", errors="replace")
        complete = whole[: whole.rfind("\n") + 1]
        hints = get_type_hints(self._kind)
        lines = list(csv.reader(complete.split("\n")[:-1]))
        if not lines or tuple(lines[0]) != self._columns:
            raise ValueError(f"{self.csv} has other columns; give --fresh")
        rows: list[Row] = []
        for cells in lines[1:]:
            if len(cells) != len(self._columns):
                raise ValueError(
                    f"{self.csv} has a damaged line {','.join(cells)!r}; mend it or give --fresh"
                )
            rows.append(self._kind(*(_value(hints[c], v) for c, v in zip(self._columns, cells, strict=True))))
        return rows


def _value(kind: type, text: str) -> Any:
    return text == "True" if kind is bool else kind(text)
