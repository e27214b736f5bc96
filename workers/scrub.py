"""Takes places on this machine out of what is told to whoever asked: folders' names are nobody's business."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, cast

from workers.task import Ending, Task

_TEXTS: Final = (".json", ".svg", ".xml", ".txt")


class Scrub:
    """Knows the folders of a task, of its child and of the program. Names such as ``/conv1/Conv`` in a
    network look like paths too, so nothing but known folders is taken out."""

    def __init__(self, task: Task, more: Iterable[str] = ()) -> None:
        inputs = {str(Path(file).parent) for file in task.files.values()}
        known = {
            task.folder,
            *inputs,
            str(Path(task.folder).parent),
            str(Path(task.folder).parents[1]),
            *more,
        }
        known |= {sys.prefix, sys.base_prefix, tempfile.gettempdir(), str(Path.cwd())}
        known.add(os.path.expanduser("~"))  # noqa: PTH111 - never raises, unlike Path.home
        # the longest first, as some lie in others
        self._known = sorted((k for k in known if len(k) > 1), key=len, reverse=True)

    def text(self, text: str) -> str:
        """Without folders."""
        for folder in self._known:
            if folder in text:
                text = text.replace(f"{folder}/", "").replace(folder, "")
        return text

    def value(self, value: Any) -> Any:
        """A JSON value; advice that speaks of a file of the machine is left out, nobody could follow it."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            pairs = cast("Mapping[str, Any]", value)
            return {k: self._advice(v) if k == "advice" else self.value(v) for k, v in pairs.items()}
        if isinstance(value, list | tuple):
            return [self.value(v) for v in cast("list[Any]", value)]
        return value

    def _advice(self, lines: Any) -> Any:
        if not isinstance(lines, list | tuple):
            return self.value(lines)
        said = cast("list[Any]", lines)
        return [line for line in said if not (isinstance(line, str) and self.text(line) != line)]

    def ending(self, ending: Ending) -> Ending:
        """What a job leaves: the words in its row, and its files of text."""
        return replace(
            ending,
            error=self.text(ending.error),
            result=self.value(ending.result),
            facts=None if ending.facts is None else self.value(ending.facts),
        )

    def file(self, path: Path) -> None:
        """Rewrites a file of text that names a folder."""
        if path.suffix not in _TEXTS:
            return
        before = path.read_text(encoding="utf-8", errors="surrogateescape")
        after = self.text(before)
        if after != before:
            path.write_text(after, encoding="utf-8", errors="surrogateescape")


def scrubbed(task: Task, ending: Ending) -> Ending:
    """An ending, and its files, without places on this machine."""
    scrub = Scrub(task)
    for left in ending.files:
        scrub.file(task.out(left.file))
    return scrub.ending(ending)
