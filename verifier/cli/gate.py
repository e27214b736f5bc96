"""``verify gate``: requirements of a repository as a build status."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bounds.errors import BadInput
from verifier.cli.options import INPUT_FILE, OUTPUT, check_output, write_text

if TYPE_CHECKING:
    from rich.status import Status as RichStatus

    from verifier.gate.report import GateReport
    from verifier.report.progress import Progress

# those of verifier.gate.emit, kept here so that --help need not import them (a test compares)
FORMATS = ("text", "json", "sarif", "junit", "github", "github-output", "gitlab", "markdown", "html")
UNKNOWN = ("fail", "warn", "pass")


class _Pairs(click.Command):
    """Ties every ``--output`` to the ``--format`` before it, which click by itself cannot tell."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, _paired(args))


def _paired(args: list[str]) -> list[str]:
    """``--format F --output X`` becomes ``--format F --output F=X``."""
    found: list[str] = []
    last = ""
    words = iter(args)
    for word in words:
        name, equals, value = word.partition("=")
        if name not in ("--format", "--output", "-o"):
            found.append(word)
            continue
        if not equals:
            value = next(words, None)
            if value is None:
                found.append(word)  # click complains
                continue
        if name == "--format":
            last = value
            found += ["--format", value]
        else:
            if not last:
                raise BadInput(f"--output {value}: names no format; write --format F --output {value}")
            found += ["--output", f"{last}={value}"]
            last = ""
    return found


@click.command("gate", cls=_Pairs)
@click.option(
    "--config", type=INPUT_FILE, default=Path("surebound.toml"), show_default=True, help="The requirements."
)
@click.option(
    "--format",
    "formats",
    type=click.Choice(FORMATS),
    multiple=True,
    help="Format of the report; may be repeated.  [default: text]",
)
@click.option(
    "--output", "-o", "outputs", multiple=True, metavar="FILE",
    help="Where the format before it goes; formats without go to standard output, of which there may be one.",
)  # fmt: skip
@click.option(
    "--unknown",
    type=click.Choice(UNKNOWN),
    default="fail",
    show_default=True,
    help="What an inconclusive requirement does: exit 3, or exit 0 with a warning or a note.",
)
@click.option("--only", multiple=True, metavar="ID", help="Look at this requirement only; may be repeated.")
@click.option(
    "--timeout", type=click.FloatRange(min=0, min_open=True), help="Seconds in all, instead of the file's."
)
@click.option(
    "--max-domains", type=click.IntRange(min=1), help="Subproblems of one question, instead of the file's."
)
@click.option("--cache", type=OUTPUT, help="Folder of kept proofs, instead of the file's.")
@click.option("--no-cache", is_flag=True, help="Keep no proofs and use none.")
@click.option("--check-config", is_flag=True, help="Only read the requirements, and say how many there are.")
@click.option(
    "--update-baseline", is_flag=True, help="Write the figures to the lock file of the configuration."
)
def gate(  # noqa: PLR0913 - one argument per option
    config: Path,
    formats: tuple[str, ...],
    outputs: tuple[str, ...],
    unknown: str,
    only: tuple[str, ...],
    timeout: float | None,
    max_domains: int | None,
    cache: Path | None,
    no_cache: bool,
    update_baseline: bool,
    check_config: bool,
) -> int:
    """Decide the requirements that a repository states in surebound.toml.

    Exit code: 0 all hold, 1 one is violated, 2 bad input or one cannot be looked at, 3 one is inconclusive.
    Proofs are kept by content and used again only after the checker re-proved them. How to use it:
    docs/howto/gate.md; all keys: docs/reference/gate-config.md.
    """
    targets = _targets(formats, outputs, config)
    from verifier.cli.session import Interrupt
    from verifier.gate.config import read_config
    from verifier.gate.report import Unknown
    from verifier.gate.run import GateOptions, run

    settings = read_config(config)
    if check_config:
        click.echo(f"{config}: {len(settings.requirements)} requirements, well-formed")
        return 0
    options = GateOptions(Unknown(unknown), only, timeout, max_domains, cache, no_cache, update_baseline)
    with Interrupt() as interrupt, _Watch() as watch:
        report = run(settings, options, watch=watch.doing, progress=watch.progress, cancel=interrupt)
    _publish(report, targets)
    return interrupt.exit_code if interrupt() else report.exit_code


def _targets(formats: tuple[str, ...], outputs: tuple[str, ...], config: Path) -> dict[str, Path | None]:
    """Format -> file, None for standard output."""
    repeated = [f for f in formats if formats.count(f) > 1]
    if repeated:
        raise BadInput(f"--format {repeated[0]} is given twice; give every format once")
    targets: dict[str, Path | None] = dict.fromkeys(formats)
    for pair in outputs:
        name, _, file = pair.partition("=")
        if file != "-":
            targets[name] = Path(file)
            check_output(Path(file), flag="--output", inputs=(config,))
    bare = [name for name, file in targets.items() if file is None]
    if len(bare) > 1:
        raise BadInput(
            f"formats {' and '.join(bare)} both go to standard output; give --output after all but one"
        )
    return targets if bare else {**targets, "text": targets.get("text")}


def _publish(report: GateReport, targets: dict[str, Path | None]) -> None:
    from verifier.gate.emit import EMITTERS

    for name, file in targets.items():
        text = EMITTERS[name](report)
        if file is None:
            click.echo(text, nl=False)
        else:
            write_text(file, text)


class _Watch:
    """One line on standard error that says what is going on, if that is a terminal."""

    def __init__(self) -> None:
        self._on = sys.stderr.isatty()
        self._status: RichStatus | None = None
        self._what = ""

    def __enter__(self) -> _Watch:
        return self

    def __exit__(self, *_: Any) -> None:
        if self._status is not None:
            self._status.stop()

    def doing(self, what: str) -> None:
        """Told what is looked at."""
        self._what = what
        self._show(what)

    def progress(self, now: Progress) -> None:
        """Told how a search goes on."""
        from verifier.cli.session import progress_text

        self._show(f"{self._what}: {progress_text(now)}")

    def _show(self, text: str) -> None:
        if not self._on:
            return
        if self._status is None:
            from rich.console import Console

            self._status = Console(stderr=True).status("")
            self._status.start()
        from rich.markup import escape

        self._status.update(escape(text))
