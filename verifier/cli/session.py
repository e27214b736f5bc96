"""One query on a terminal: interrupts, progress, and what is printed where."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, Final

import click

from bounds.errors import QueryMismatch
from verifier.cli.codes import Exit
from verifier.cli.options import make_options, write_text
from verifier.query import Options
from verifier.verdict import Semantics

if TYPE_CHECKING:
    from rich.status import Status as RichStatus

    from verifier.report.model import Report
    from verifier.report.progress import Progress
    from verifier.spec.model import Property

_LEAST_TIMEOUT = 1e-3  # seconds; what is left when reading the property used up the time limit
_PROGRESS_AFTER = 0.5  # seconds; shorter runs need no progress and should not pay for importing rich


class Interrupt:
    """Turns the first SIGINT or SIGTERM into a polite request; the next one ends the program."""

    def __init__(self) -> None:
        self._number = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupt:
        self._before = {n: signal.signal(n, self._on_signal) for n in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def __call__(self) -> bool:
        """Whether somebody asked to stop; the cancel callback of a run."""
        return self._number != 0

    @property
    def exit_code(self) -> int:
        """Code of a program that ended for this reason: 128 + the signal's number."""
        return 128 + self._number

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if self._number:
            raise KeyboardInterrupt
        self._number = number


class ProgressLine:
    """A spinner with numbers on standard error, if that is a terminal."""

    def __init__(self) -> None:
        self._on = sys.stderr.isatty()
        self._status: RichStatus | None = None

    def __enter__(self) -> ProgressLine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._status is not None:
            self._status.stop()

    def __call__(self, now: Progress) -> None:
        """The progress callback of a run."""
        if not self._on or now.seconds < _PROGRESS_AFTER:
            return
        text = progress_text(now)
        if self._status is None:
            from rich.console import Console

            self._status = Console(stderr=True).status(text)
            self._status.start()
        else:
            self._status.update(text)


def progress_text(now: Progress) -> str:
    """One line for people about a running search."""
    bound = "" if now.lower_bound is None else f", worst bound {now.lower_bound:.4g}"
    return (
        f"{now.phase}: {now.seconds:.1f} s, {now.domains} domains, {now.open} open, "
        f"{now.closed_fraction:.1%} proved{bound}"
    )


_INTEGERS: Final = ("int", "uint", "bool")
ELEMENT_TYPES: Final = tuple(s.value for s in Semantics)  # what the analysis is sound for


def load_property(path: Path, values: Mapping[str, Any]) -> tuple[Property, Options]:
    """Reads a property and completes the options that came with it.

    Args:
        path: the property.
        values: keyword arguments of ``Options``. Without ``semantics`` the property's element types
            decide. The time that reading takes is taken off the time limit.
    """
    from verifier.spec.load import load

    options = make_options(values)
    started = time.monotonic()
    spec = load(path, open_inputs=True)
    if values.get("semantics") is None:
        options = replace(options, semantics=semantics_of(spec))
    if options.timeout is not None:
        left = options.timeout - (time.monotonic() - started)
        options = replace(options, timeout=max(left, _LEAST_TIMEOUT))
    return spec, options


def semantics_of(spec: Property) -> Semantics:
    """What the declared element types ask about.

    Raises:
        QueryMismatch: a type that the analysis is not sound for, or a mix of them.
    """
    # numbers of integer types are the same at every level
    types = sorted({v.element for v in spec.variables if not v.element.startswith(_INTEGERS)})
    odd = [t for t in types if t not in ELEMENT_TYPES]
    if odd:
        raise QueryMismatch(
            f"{spec.source}: element type {odd[0]} is declared, and the analysis is sound for "
            f"{' and '.join(ELEMENT_TYPES)} only; write 'real' in the query to have the network analysed "
            "over the reals"
        )
    if len(types) > 1:
        raise QueryMismatch(
            f"{spec.source}: element types {' and '.join(types)} are mixed; declare all tensors the same"
        )
    if not types:
        return Semantics.FLOAT32 if spec.variables else Semantics.REAL
    return Semantics(types[0])


def ask(
    model: Path | Mapping[str, Path],
    spec: Property,
    options: Options,
    *,
    picture: bool = False,
    **files: Path | None,
) -> tuple[Report, int]:
    """Runs one query with progress and a polite interrupt.

    Args:
        model, spec, options: the query.
        picture, files: as keywords of :func:`verifier.verify`; files are left out where they are None.

    Returns:
        The report, and the exit code: not 0 when the report is partial because somebody interrupted.
    """
    from verifier.api import verify
    from verifier.verdict import UnknownReason

    more: dict[str, Any] = {name: path for name, path in files.items() if path is not None}
    if picture:
        more["picture"] = True
    with Interrupt() as interrupt, ProgressLine() as progress:
        report = verify(
            model,
            spec,
            options=options,
            progress=progress,
            cancel=interrupt,
            **more,
        )
    stopped = interrupt() and report.reason is UnknownReason.CANCELLED
    return report, interrupt.exit_code if stopped else Exit.ANSWERED


def publish(
    report: Report,
    spec: Property,
    *,
    json: Path | None,
    values: bool = True,
    picture: Path | None = None,
    explain: bool = False,
    profile: bool = False,
) -> None:
    """Prints the verdict (standard output) and the talk (standard error), and saves the files.

    Files go first: whoever reads the verdict line may rely on them being there.
    """
    from verifier.report.emit.text import answer, talk

    if json is not None:
        from verifier.report.emit.json import as_dict, dumps

        write_text(json, dumps(as_dict(report, spec)))
    if picture is not None:
        from verifier.report.emit.svg import svg

        write_text(picture, svg(report))
    click.echo(answer(report, spec) if values else report.status.value + "\n", nl=False)
    sys.stdout.flush()
    click.echo(talk(report, explain=explain, profile=profile), err=True, nl=False)
