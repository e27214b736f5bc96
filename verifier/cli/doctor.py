"""``verify doctor``: what works here, what is missing, and how to get it."""

from __future__ import annotations

import click

from verifier.cli.codes import Exit


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def doctor(as_json: bool) -> int:
    """Look at this installation: versions, devices, threads, arithmetic, extras, servers.

    The arithmetic that proofs rest on is probed, not asked for: rounding, subnormals, full float32
    products. A small proof is found and re-checked. Exit code: 0 when nothing is wrong (something
    optional may be missing), 2 when there is a problem.
    """
    from verifier.doctor import run
    from verifier.doctor.model import Level

    found = run.diagnose()
    if as_json:
        from verifier.report.emit.json import dumps

        click.echo(dumps(run.as_json(found)), nl=False)
    else:
        width = max(len(f.subject) for f in found)
        for one in found:
            click.echo(f"{one.level.value:<8}{one.subject:<{width}}  {one.found}")
            if one.advice:
                click.echo(f"{'':<8}{'':<{width}}  -> {one.advice}")
        problems = sum(f.level is Level.PROBLEM for f in found)
        click.echo(f"{problems} problems" if problems else "nothing is wrong")
    return Exit.FAILED if any(f.level is Level.PROBLEM for f in found) else Exit.ANSWERED
