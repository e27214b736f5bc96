"""``verify check``: re-check a certificate with the independent checker."""

from __future__ import annotations

from pathlib import Path

import click

from verifier.cli.options import INPUT_FILE
from verifier.cli.solver import NETWORK, unique


@click.command("check")
@click.argument("certificate", type=INPUT_FILE)
@click.option(
    "--model",
    "models",
    type=NETWORK,
    multiple=True,
    required=True,
    help="The ONNX network, or NAME=FILE for each network of a property that declares several.",
)
@click.option("--property", "property_file", type=INPUT_FILE, help="The property that was asked.")
def check(certificate: Path, models: tuple[tuple[str, Path], ...], property_file: Path | None) -> int:
    """Check CERTIFICATE against the network and the property it speaks about.

    The checker shares no arithmetic with the search: it reads the files itself and recomputes every
    step. It prints the verdict that the certificate proves; a certificate that proves nothing is an
    error. A property built in Python travels inside its certificate and needs no --property, and so
    do Lipschitz bounds and certified radii: they are re-proved and the number printed.
    """
    from verifier.check.lipschitz import is_lipschitz_certificate

    if is_lipschitz_certificate(certificate):
        return _lipschitz(certificate, models, property_file)
    from verifier.check.main import check as recheck

    result = recheck(certificate, unique(models), property_file)
    click.echo(result.verdict)
    click.echo(
        f"certificate accepted: {result.verdict} at level {result.semantics}, {result.nodes} nodes, "
        f"{result.evidence} pieces of evidence, {result.seconds:.2f} s",
        err=True,
    )
    if result.message:
        click.echo(result.message, err=True)
    return 0


def _lipschitz(certificate: Path, models: tuple[tuple[str, Path], ...], property_file: Path | None) -> int:
    from bounds.errors import BadInput
    from verifier.check.lipschitz import check_lipschitz, read_object
    from verifier.check.radius import FORMAT, check_radius

    if property_file is not None or len(models) != 1:
        raise BadInput("a Lipschitz certificate is checked against one --model and no --property")
    document = read_object(certificate)
    if isinstance(document, dict) and document.get("format") == FORMAT:
        found = check_radius(certificate, models[0][1])
        claim = f"class {found.label} holds within {found.radius:.9g} ({found.norm}-norm) of the centre"
        value, problems, seconds, far = found.radius, found.problems, found.seconds, found.far
    else:
        result = check_lipschitz(certificate, models[0][1])
        where = " on the region" if result.local else ""
        what = f"of {result.rows} combinations of outputs " if result.rows else ""
        claim = (
            f"{result.norm}-norm to {result.output_norm}-norm Lipschitz constant {what}at most "
            f"{result.upper:.9g}{where}"
        )
        value, problems, seconds, far = result.upper, result.problems, result.seconds, result.far
    click.echo(f"{value:.9g}")
    click.echo(f"certificate accepted: {claim}, {problems} problems, {seconds:.2f} s", err=True)
    if far:
        click.echo("slopes of functions other than rectifiers are proved for operands up to 1e100", err=True)
    return 0
