"""What a batch shows while it runs and when it ends."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from verifier.cli.instances import Instance
from verifier.cli.results import ALL_VERDICTS, Result

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table


class Display:
    """One line for each result; on a terminal, below them, a live table of what is running."""

    def __init__(self, total: int, done: int) -> None:
        """Prepares.

        Args:
            total: instances of the batch.
            done: instances that an earlier run answered.
        """
        self._total, self._done = total, done
        self._counts: Counter[str] = Counter()
        self._running: dict[int, tuple[Instance, float, dict[str, Any] | None]] = {}
        self._live: Live | None = None

    def __enter__(self) -> Display:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.live import Live

            self._live = Live(
                console=Console(stderr=True), refresh_per_second=4, get_renderable=self._table, transient=True
            )
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def started(self, instance: Instance) -> None:
        """An instance was handed to a worker."""
        self._running[instance.number] = (instance, time.monotonic(), None)

    def progressed(self, instance: Instance, progress: dict[str, Any]) -> None:
        """A running instance told how far it is."""
        _, since, _ = self._running[instance.number]
        self._running[instance.number] = (instance, since, progress)

    def finished(self, result: Result) -> None:
        """An instance has its result."""
        self._running.pop(result.instance.number, None)
        self._done += 1
        self._counts[result.verdict] += 1
        line = f"[{self._done}/{self._total}] {result_line(result)}"
        if self._live is not None and sys.stdout.isatty():  # above the table, not across it
            self._live.console.print(line, markup=False, highlight=False, soft_wrap=True)
        else:
            click.echo(line)

    def _table(self) -> Table:
        from rich.table import Table
        from rich.text import Text

        counts = ", ".join(f"{self._counts[v]} {v}" for v in ALL_VERDICTS if self._counts[v])
        table = Table(title=f"{self._done}/{self._total} done" + (f": {counts}" if counts else ""))
        for heading in ("running", "seconds", "domains", "open", "proved"):
            table.add_column(heading, justify="left" if heading == "running" else "right")
        for instance, since, progress in list(self._running.values()):
            numbers = (
                ("", "", "")
                if progress is None
                else (str(progress["domains"]), str(progress["open"]), f"{progress['closed_fraction']:.1%}")
            )
            seconds = f"{time.monotonic() - since:.0f}"
            table.add_row(Text(f"{instance.onnx} {instance.vnnlib}"), seconds, *numbers)
        return table


def result_line(result: Result) -> str:
    """One result for people."""
    wrong = f"  WRONG: expected {result.instance.expected}" if result.wrong else ""
    note = f"  ({result.note})" if result.note else ""
    names = f"{result.instance.onnx} {result.instance.vnnlib}"
    return f"{result.verdict:<9} {result.seconds:8.2f} s  {names}{note}{wrong}"


def summary(results: Sequence[Result], total: int, *, with_expected: bool) -> str:
    """The table at the end."""
    lines = [f"{'verdict':<10}{'count':>7}{'seconds':>11}"]
    for verdict in ALL_VERDICTS:
        times = [r.seconds for r in results if r.verdict == verdict]
        if times:
            lines.append(f"{verdict:<10}{len(times):>7}{sum(times):>11.1f}")
    lines.append(f"{'all':<10}{len(results):>7}{sum(r.seconds for r in results):>11.1f}")
    if len(results) < total:
        lines.append(f"not run: {total - len(results)}; continue with --resume")
    if with_expected:
        lines.append(f"wrong: {sum(r.wrong for r in results)}")
    return "\n".join(lines)
