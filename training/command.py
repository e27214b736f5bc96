"""``verify train``: found by the program through the entry-point group ``surebound.commands``.

Imports nothing heavy, as the program loads it to list its commands.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bounds.errors import BadInput

if TYPE_CHECKING:
    from training.api import Outcome
    from training.trainer import Listener, Progress


@click.command("train", short_help="Train a certifiably robust network and export it with its proof.")
@click.argument("config", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Directory for results."
)
@click.option("--resume", is_flag=True, help="Go on from the checkpoint in --out.")
@click.option("--quiet", is_flag=True, help="No progress bar.")
def train(config: Path, out: Path, resume: bool, quiet: bool) -> int:
    """Train the network that CONFIG (TOML) describes.

    Writes DIR/model.onnx, whose metadata carries the claimed Lipschitz constant, DIR/report.json with clean
    and certified accuracy, DIR/certified.svg and a checkpoint. 'verify lipschitz DIR/model.onnx' proves the
    claim anew. The keys of CONFIG: docs/reference/training-config.md.
    """
    from training.config import read_config

    settings = read_config(config)  # a wrong file is refused before torch is loaded
    try:
        for name in ("torch", "safetensors"):
            importlib.import_module(name)
    except ImportError as error:
        raise BadInput(f"training needs {error.name}: pip install 'surebound[train]'") from None
    from training.api import train as run

    with _progress(quiet) as listener:
        outcome = run(settings, out, resume=resume, listener=listener)
    click.echo("\n".join(_lines(outcome)))
    return 0


def _lines(outcome: Outcome) -> list[str]:
    lines = [f"clean      {outcome.clean:.4f}"]
    lines += [f"certified  {value:.4f}  at radius {radius}" for radius, value in outcome.certified.items()]
    if outcome.lipschitz is not None:
        lines.append(f"lipschitz  {outcome.lipschitz:g}  claimed and proved, L2 to L2")
    return [*lines, f"model      {outcome.model}", f"report     {outcome.report}"]


@contextlib.contextmanager
def _progress(quiet: bool) -> Generator[Listener | None]:
    """A bar on a terminal's standard error; elsewhere one line an epoch."""
    if quiet:
        yield None
        return
    if not sys.stderr.isatty():
        yield _one_line
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[text]}"),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        shown = bar.add_task("training", total=None, text="")

        def listener(now: Progress) -> None:
            done = (now.epoch - 1) * now.steps + now.step
            bar.update(shown, total=now.epochs * now.steps, completed=done, text=_text(now))

        yield listener


def _one_line(now: Progress) -> None:
    if now.step == now.steps:
        click.echo(f"epoch {now.epoch}/{now.epochs}  {_text(now)}", err=True)


def _text(now: Progress) -> str:
    parts = [f"loss {now.loss:.4f}"]
    if now.measured is not None:
        certified = "  ".join(f"{r}: {v:.3f}" for r, v in now.measured.certified.items())
        parts += [f"clean {now.measured.clean:.3f}", f"certified {certified}"]
    return "  ".join([*parts, f"{now.rate:.0f}/s"])
