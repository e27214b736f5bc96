"""``verify completion``: the script with which a shell completes our commands and options."""

from __future__ import annotations

import click

SHELLS = ("bash", "zsh", "fish")


@click.command("completion")
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> int:
    """Print what makes SHELL complete commands, options and files of 'verify'.

    \b
      bash    eval "$(verify completion bash)"          in ~/.bashrc
      zsh     eval "$(verify completion zsh)"           in ~/.zshrc
      fish    verify completion fish | source           in ~/.config/fish/config.fish
    """
    from click.shell_completion import get_completion_class

    from verifier.cli.main import PROGRAM, cli

    found = get_completion_class(shell)
    assert found is not None, "click knows the shells of our list"
    script = found(cli, {}, PROGRAM, f"_{PROGRAM.upper()}_COMPLETE")
    # source() asks an installed bash for its version; the text itself needs no shell
    click.echo(script.source_template % script.source_vars())
    return 0
