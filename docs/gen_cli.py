"""Writes docs/reference/cli.md from the commands themselves; a test fails when the page is behind.

Run it as ``python docs/gen_cli.py`` from the repository root, with the package installed.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path

import click

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "reference" / "cli.md"

HEAD = """# Command line

*Made by `docs/gen_cli.py` from the program's own help; edit the help texts, then run it again.*
"""

TAIL = """## Exit codes

| code | meaning |
|---|---|
| 0 | a verdict was printed (`unknown` and `timed-out` are verdicts), or the command did its work |
| 2 | an error, told in one line on standard error |
| 130 | interrupted by SIGINT (Ctrl-C); what was known is printed and saved |
| 143 | the same for SIGTERM |

`verify gate` has codes of its own: 0 holds, 1 violated, 2 error, 3 inconclusive ([gate](gate-config.md)).

The line of an error begins with `error:` and says what is wrong, where, and what to do. `batch` also
exits 2 when an instance is an error or contradicts its expected verdict. A second interrupt ends a
program at once.

## Stopping and going on

The first Ctrl-C or SIGTERM ends a run with the best bound so far, as a time limit does. With
`--checkpoint FILE` it also leaves what is open (every minute, too, and at any undecided end), and
`--resume FILE` goes on from there: the same network, property and semantics, or it is an error that
names the difference. A damaged file is an error. What a checkpoint says was closed is not proved
again, so a report of such a run says where it began. A run with `--certificate` leaves its evidence
in the checkpoint as well; with `--certificate` again, the run that goes on writes the whole proof.

`--max-domains` with a seed repeats a run bit for bit; a time limit does not.

## After a small change

`--earlier OLD.sbcert` takes the certificate of a proof for a similar network (before fine-tuning, pruning
or quantisation) or a similar property, with as many input boxes and the same nonlinear nodes: its tree is
split again unseen, its leaves are bounded with its slopes and multipliers, and only what that leaves open is
searched. That is 1.4 to 2.6 times as fast as beginning anew while weights differ by up to a percent
(`scripts/bench earlier`). Of a `sat` certificate the violating input is tried first. Nothing is believed: the
result is a proof like any other, with a certificate of its own.

## What goes where

Standard output carries the answer: its first line is the verdict, and after `sat` the assignment
follows. For VNN-LIB 1.0 properties that is the form of the VNN-COMP competition,
`((X_0 0.5) ... (Y_0 1.25))` with one pair a line; for VNN-LIB 2.0 queries the form of chapter 5 of
the standard. Values are decimals that read back to the very float32 that was confirmed, and that
lie inside the property's box even when the text is read exactly.

Standard error carries everything else. Progress is shown only when it is a terminal. `--json`
writes a report whose shape is documented in `verifier/report/schema.json`.

`--debug`, which may stand anywhere, adds the traceback to an error.

## What an answer is about

Without `--semantics` a VNN-LIB 2.0 query is answered for the element types that it declares: `real` for
the network over the reals, `float32` for the network as float32 arithmetic computes it (constraints are
compared exactly in both). Other types, and mixtures, are an error. VNN-LIB 1.0 knows only `Real`.

## Threads

A program uses one thread, but for large convolutions: its matrix products are small, and more threads take
time from the same cores. It sets `OMP_NUM_THREADS`, `OPENBLAS_NUM_THREADS`, `MKL_NUM_THREADS` and
`VECLIB_MAXIMUM_THREADS` to 1 unless they are set. Large convolutions are shared by as many threads as
`SUREBOUND_THREADS` says; not set, it is what `OMP_NUM_THREADS` was, or the number of cores. `batch` runs
instances side by side, each always with one thread.

## The batch's files

`--out` is a CSV with the columns `onnx,vnnlib,verdict,seconds,domains,semantics,certificate,note`.
A line is written, and on disk, as soon as its instance is done, so that `--resume` can continue after
any interrupt. Instances that `--out` holds are skipped whatever their verdict; delete a line to have
its instance run again. `--results-txt` names a folder for one file an instance in the form of the
competition: the verdict (`sat`, `unsat`, `unknown`, `timeout`, `error`), then the counterexample.

A worker process that dies marks its instance `error`; one that overruns
its time limit by more than 5 s or 20 %, whichever is more, is killed and its instance marked `timed-out`.
"""


def render() -> str:
    """The page."""
    from verifier.cli.main import cli

    parts = [HEAD, *_section(cli, "verify", 2)]
    context = click.Context(cli, info_name="verify")
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        assert command is not None
        parts += _section(command, f"verify {name}", 2)
        if isinstance(command, click.Group):
            for part, inner in command.commands.items():
                parts += _section(inner, f"verify {name} {part}", 3)
    return "\n".join([*parts, TAIL])


def _section(command: click.Command, title: str, level: int) -> Iterator[str]:
    context = click.Context(command, info_name=title)
    yield f"{'#' * level} `{title}`\n"
    yield f"```text\n{' '.join(command.get_usage(context).split()).removeprefix('Usage: ')}\n```\n"
    yield from (f"{paragraph}\n" for paragraph in _paragraphs(command.help or ""))
    rows = [_row(p, context) for p in command.params if isinstance(p, click.Option) and not p.hidden]
    if rows:
        yield "\n".join(["| option | meaning |", "|---|---|", *rows]) + "\n"


def _paragraphs(text: str) -> Iterator[str]:
    for block in inspect.cleandoc(text).split("\n\n"):
        if block.startswith("\b"):
            yield "```text\n" + inspect.cleandoc(block.removeprefix("\b\n")) + "\n```"
        else:
            yield " ".join(block.split())


def _row(option: click.Option, context: click.Context) -> str:
    names, text = option.get_help_record(context) or ("", "")
    cells = (" ".join(cell.split()).replace("|", "\\|") for cell in (f"`{names}`", text))
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(render(), encoding="utf-8")
