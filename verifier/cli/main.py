"""The ``verify`` program: finds the command, runs it, turns errors into one line and an exit code.

Packages above or beside the verifier add commands through the entry-point group ``surebound.commands`` (a
click command each), so that nothing here has to know them; ``train`` is one. A command's own module must be
light too.

Nothing here or at the top of a command's module may import numpy or heavier, so that
``verify --help`` stays below 150 ms; commands import what they need when they run.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import click

from bounds.errors import SureboundError
from bounds.threads import VARIABLE, threads
from verifier.cli.codes import THREADS, Exit

PROGRAM: Final = "verify"
DEFAULT_COMMAND: Final = "run"
GROUP: Final = "surebound.commands"
# name -> where it is, and its line in the list: kept here so that --help need not import it
COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "run": ("verifier.cli.run", "Decide one property of one network (the default command)."),
    "batch": ("verifier.cli.batch", "Decide a list of instances in parallel."),
    "check": ("verifier.cli.check", "Re-check a certificate, trusting nothing of the search."),
    "robustness": ("verifier.cli.robustness", "Measure clean and certified accuracy on a data set."),
    "lipschitz": ("verifier.cli.lipschitz", "Bound a network's Lipschitz constant."),
    "gate": ("verifier.cli.gate", "Decide the requirements of a repository: a build status."),
    "inspect": ("verifier.cli.inspect", "Show what a network is made of and whether it is supported."),
    "doctor": ("verifier.cli.doctor", "Look at this installation: what works, what is missing."),
    "completion": ("verifier.cli.completion", "Print the completion script of a shell."),
    "verify": ("verifier.cli.solver", "Solver interface of VNN-LIB 2.0: decide a query."),
    "supports": ("verifier.cli.supports", "Solver interface of VNN-LIB 2.0: list a capability."),
}


def _added() -> dict[str, click.Command]:
    """Commands of other installed packages, by name; ours cannot be replaced."""
    from importlib.metadata import (
        entry_points,
    )  # costs a look at every installed package, so only when needed

    found = {e.name: e.load() for e in entry_points(group=GROUP) if e.name not in COMMANDS}
    return {name: command for name, command in found.items() if isinstance(command, click.Command)}


def _may_be_added(word: str) -> bool:
    """Whether a first word can name an added command: nothing that looks like an option or a file does."""
    return word.isidentifier() and not Path(word).exists()


class _Commands(click.Group):
    """Loads commands when they are asked for; a first word that names none belongs to ``run``."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return [*COMMANDS, *_added()]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return _added().get(cmd_name)
        return getattr(importlib.import_module(COMMANDS[cmd_name][0]), cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        added = [(name, command.get_short_help_str(limit=90)) for name, command in _added().items()]
        with formatter.section("Commands"):
            formatter.write_dl([*((name, line) for name, (_, line) in COMMANDS.items()), *added])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[Any]:
        # the default command takes files, which are offered where no command begins like this
        found = super().shell_complete(ctx, incomplete)
        if not found:
            from click.shell_completion import CompletionItem

            return [CompletionItem(incomplete, type="file")]
        return found

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        own = {flag for p in self.params for flag in p.opts} | set(ctx.help_option_names)
        if args and args[0] not in COMMANDS and args[0] not in own:
            known = _may_be_added(args[0]) and args[0] in _added()
            args = args if known else [DEFAULT_COMMAND, *args]
        return super().parse_args(ctx, args)


def _print_name(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        click.echo("surebound")
        ctx.exit()


def _print_version(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from verifier.cli.version import version

        click.echo(version())
        ctx.exit()


def _flag(name: str, callback: Any, help_text: str) -> click.Option:
    return click.Option(
        [name], is_flag=True, is_eager=True, expose_value=False, callback=callback, help=help_text
    )


cli = _Commands(
    PROGRAM,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    no_args_is_help=True,
    subcommand_metavar="[COMMAND] [ARGS]...",
    params=[
        _flag("--name", _print_name, "Print the solver's name."),
        _flag("--version", _print_version, "Print the version."),
    ],
    help="""Prove properties of neural networks, or find inputs that break them.

    \b
      verify MODEL.onnx PROPERTY.vnnlib [--timeout 60]

    The first line of standard output is the verdict: 'unsat' (the property holds: no violating input
    exists), 'sat' (a violating input follows), 'unknown' or 'timed-out'. Everything else goes to
    standard error. Exit code: 0 when a verdict was printed, 2 on any error, 130 when interrupted.

    The command 'run' is meant where none is named; 'verify run --help' lists its options.
    """,
)


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point of the console script; never returns."""
    os.environ.setdefault(VARIABLE, str(threads()))
    for variable in THREADS:  # the search's products are small: more threads cost time and win none
        os.environ.setdefault(variable, "1")
    args = list(sys.argv[1:] if argv is None else argv)
    # taken out here, so that it works before and after any command and stays out of every help page
    debug = "--debug" in args
    code = _guarded([a for a in args if a != "--debug"], debug)
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _silence_stdout()
    sys.exit(code)


def _guarded(args: list[str], debug: bool) -> int:
    """Runs the program; every way to fail ends in one line on standard error and its code."""
    try:
        return int(cli.main(args, prog_name=PROGRAM, standalone_mode=False) or 0)
    except SystemExit:
        # click's way out when the reader of our output has gone (`verify ... | head -1`), and with
        # standalone_mode=False its only one; what was printed was an answer
        return Exit.ANSWERED
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted", err=True)
        return Exit.INTERRUPTED
    except Exception as error:  # the one place where a traceback is turned into a sentence
        if debug:
            import traceback

            traceback.print_exc()
        click.echo(f"error: {sentence(error)}", err=True)
        return Exit.FAILED


def sentence(error: Exception) -> str:
    """One line for people about any exception."""
    match error:
        case SureboundError():
            text = str(error)
        case click.UsageError(ctx=ctx):
            see = f" (see '{ctx.command_path} --help')" if ctx else ""
            text = error.format_message() + see
        case click.ClickException():
            text = error.format_message()
        case MemoryError():
            text = "out of memory; lower --memory, or run on a machine with more"
        case OSError(filename=str() | bytes() as name, strerror=str() as reason):
            text = f"{os.fsdecode(name)}: {reason}; check the path and its permissions"
        case _:
            text = f"internal error: {type(error).__name__}: {error}; please report it (--debug shows where)"
    return " ".join(text.split())


def _silence_stdout() -> None:
    """Points standard output at nothing, or the interpreter's last flush would complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
