"""placeholder"""

import click


@click.command("inspect")
def inspect() -> int:
    return 0
