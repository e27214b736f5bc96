"""Writes docs/man/verify.1 from the commands themselves; a test fails when the page is behind.

Run it as ``python docs/gen_man.py`` from the repository root, with the package installed. The wheel installs
the page as ``share/man/man1/verify.1``.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path

import click

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "man" / "verify.1"

_EXIT = (
    ("0", "a verdict was printed (unknown and timed-out are verdicts), or the command did its work"),
    ("2", "an error, told in one line on standard error"),
    ("130, 143", "interrupted; what was known is printed and saved"),
)
_ENVIRONMENT = (
    ("SUREBOUND_THREADS", "threads for large convolutions"),
    ("SUREBOUND_SERVER, SUREBOUND_KEY", "the service that submit, status, wait and fetch talk to"),
    ("SUREBOUND_DATA, SUREBOUND_DATABASE, SUREBOUND_BROKER", "the files and servers of serve and worker"),
)


def render() -> str:
    """The page, in the macros of man(7)."""
    from verifier.cli.main import COMMANDS, cli
    from verifier.version import VERSION

    context = click.Context(cli, info_name="verify")
    names = cli.list_commands(context)
    parts = [
        ".\\\" Made by docs/gen_man.py from the program's own help; edit the help texts, then run it again.",
        f'.TH VERIFY 1 "" "surebound {VERSION}" "User Commands"',
        ".SH NAME",
        "verify \\- prove properties of neural networks, or find inputs that break them",
        ".SH SYNOPSIS",
        ".B verify",
        "MODEL PROPERTY [OPTIONS]",
        ".br",
        ".B verify",
        "COMMAND [OPTIONS] [ARGUMENTS]",
        ".SH DESCRIPTION",
        *_text(cli.help or ""),
        ".SH COMMANDS",
    ]
    for name in names:
        command = cli.get_command(context, name)
        assert command is not None
        short = COMMANDS[name][1] if name in COMMANDS else command.get_short_help_str(limit=200)
        parts += _command(command, f"verify {name}", short)
    parts += [".SH EXIT STATUS", *_list(_EXIT), ".SH ENVIRONMENT", *_list(_ENVIRONMENT)]
    parts += [".SH SEE ALSO", "The documentation that comes with the sources: docs/README.md.", ""]
    return "\n".join(parts)


def _command(command: click.Command, title: str, short: str) -> Iterator[str]:
    context = click.Context(command, info_name=title)
    yield f".SS {_escaped(title)}"
    yield _escaped(short)
    yield ".PP"
    yield f".B {_escaped(' '.join(command.get_usage(context).split()).removeprefix('Usage: '))}"
    yield ".PP"
    yield from _text(command.help or "")
    for parameter in command.params:
        record = parameter.get_help_record(context) if isinstance(parameter, click.Option) else None
        if record is not None:
            yield from _list([(record[0], " ".join(record[1].split()))])
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            yield from _command(inner, f"{title} {name}", inner.get_short_help_str(limit=200))


def _text(text: str) -> Iterator[str]:
    """Paragraphs of a help text; those after ``\\b`` keep their lines."""
    for block in inspect.cleandoc(text).split("\n\n"):
        if block.startswith("\b"):
            yield from [".nf", *(_escaped(line) for line in block.removeprefix("\b\n").splitlines()), ".fi"]
        else:
            yield _escaped(" ".join(block.split()))
        yield ".PP"


def _list(
    rows: Iterator[tuple[str, str]] | list[tuple[str, str]] | tuple[tuple[str, str], ...],
) -> Iterator[str]:
    for name, text in rows:
        yield from (".TP", f".B {_escaped(name)}", _escaped(text))


def _escaped(text: str) -> str:
    """Text for troff: no control lines, literal backslashes and hyphens."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{text}" if text.startswith((".", "'")) else text


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(render(), encoding="utf-8")
