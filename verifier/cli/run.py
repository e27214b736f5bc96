"""``verify MODEL PROPERTY``: one query."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from verifier.cli.options import INPUT_FILE, OUTPUT, check_output, query_options


@click.command("run")
@click.argument("model", type=INPUT_FILE)
@click.argument("property_file", metavar="PROPERTY", type=INPUT_FILE)
@query_options()
@click.option("--certificate", type=OUTPUT, help="Write a proof that 'verify check' can check again.")
@click.option("--json", "json_file", type=OUTPUT, help="Write the report as JSON.")
@click.option("--picture", type=OUTPUT, help="Write a picture of the run (bound over time, tree) as SVG.")
@click.option(
    "--checkpoint",
    type=OUTPUT,
    help="Leave what is open in this file: every minute, and when the run ends undecided or is interrupted.",
)
@click.option(
    "--resume",
    type=INPUT_FILE,
    help="Go on from a checkpoint of the same network, property and semantics.",
)
@click.option(
    "--earlier",
    type=INPUT_FILE,
    help="The certificate of a similar network (before fine-tuning, say) or property: its splits, slopes and "
    "multipliers, or its counterexample, are tried first.",
)
@click.option("--explain", is_flag=True, help="Say why the engine went about it as it did.")
@click.option("--profile", is_flag=True, help="Say how much time every phase took.")
def run(  # noqa: PLR0913 - one parameter for each option
    model: Path,
    property_file: Path,
    certificate: Path | None,
    json_file: Path | None,
    picture: Path | None,
    checkpoint: Path | None,
    resume: Path | None,
    earlier: Path | None,
    explain: bool,
    profile: bool,
    **values: Any,
) -> int:
    """Decide whether any input that PROPERTY allows makes the ONNX network MODEL violate it.

    PROPERTY is a VNN-LIB 1.0 or 2.0 file; both files may be gzipped (.gz). The first line of standard
    output is the verdict. After 'sat' the violating input and the outputs it leads to follow.
    """
    from verifier.cli.session import ask, load_property, publish

    check_output(certificate, flag="--certificate", inputs=(model, property_file))
    check_output(json_file, flag="--json", inputs=(model, property_file))
    check_output(picture, flag="--picture", inputs=(model, property_file))
    check_output(checkpoint, flag="--checkpoint", inputs=(model, property_file))
    spec, options = load_property(property_file, values)
    files = {"certificate": certificate, "checkpoint": checkpoint, "resume": resume, "earlier": earlier}
    report, code = ask(model, spec, options, picture=picture is not None, **files)
    publish(report, spec, json=json_file, picture=picture, explain=explain, profile=profile)
    return code
