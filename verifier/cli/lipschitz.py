"""``verify lipschitz``: a Lipschitz constant of a network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bounds.errors import BadInput
from verifier.cli.options import INPUT_FILE, OUTPUT, check_output, write_text

if TYPE_CHECKING:
    from sdp.compare import Outcome
    from sdp.region import Region
    from sdp.result import LipschitzBound

NORMS = ("1", "2", "inf")
# the names of sdp.api.NAMES, kept here so that --help need not import them (a test compares)
METHODS = (
    "auto", "product", "frequency", "greedy", "eclipse-fast", "eclipse-cf", "eclipse", "first-order",
    "interior",
    "lipsdp-neuron-scs", "lipsdp-neuron-clarabel", "lipsdp-layer-scs", "lipsdp-layer-clarabel",
    "lipsdp-chain-scs", "lipsdp-chain-clarabel",
)  # fmt: skip


@click.command("lipschitz")
@click.argument("model", type=INPUT_FILE)
@click.option("--norm", type=click.Choice(NORMS), default="2", show_default=True, help="Norm of the inputs.")
@click.option(
    "--output-norm", type=click.Choice(NORMS), help="Norm of the outputs.  [default: that of the inputs]"
)
@click.option(
    "--method",
    type=click.Choice(METHODS),
    default="auto",
    show_default=True,
    help="How multipliers are found; 'auto' chooses by size and says why.",
)
@click.option(
    "--region",
    type=INPUT_FILE,
    help="A VNN-LIB property (or JSON with 'lo' and 'hi'): only pairs of inputs in its box count.",
)
@click.option(
    "--timeout", type=click.FloatRange(min=0), default=120.0, show_default=True, help="Seconds of searching."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the sampled lower bound.")
@click.option("--certificate", type=OUTPUT, help="Write multipliers that 'verify check' can re-prove.")
@click.option("--compare", is_flag=True, help="Run every method and print a table.")
@click.option(
    "--svg",
    "svg_file",
    type=OUTPUT,
    help="Write a picture: bound against time (of all methods with --compare), and bound by layer.",
)
@click.option("--json", "json_file", type=OUTPUT, help="Write the result as JSON.")
def lipschitz(  # noqa: PLR0913 - one argument per option
    model: Path,
    norm: str,
    output_norm: str | None,
    method: str,
    region: Path | None,
    timeout: float,
    seed: int,
    certificate: Path | None,
    compare: bool,
    svg_file: Path | None,
    json_file: Path | None,
) -> int:
    """Bound how much the ONNX network MODEL can stretch the distance between two inputs.

    The first line of standard output is the upper bound, which is proved over the reals with all
    rounding paid for; a table with the sampled lower bound follows. Without --region it holds for
    every pair of inputs.
    """
    check_output(certificate, flag="--certificate", inputs=(model,))
    check_output(json_file, flag="--json", inputs=(model,))
    check_output(svg_file, flag="--svg", inputs=(model,))
    import sdp
    from bounds.io.onnx import load
    from sdp.compare import COMPARED, Outcome, picture, table
    from sdp.compare import compare as run

    loaded = load(model)
    where = None if region is None else _region(region, loaded.graph.input_size)
    effort = sdp.Effort(seconds=timeout, seed=seed)
    bound = sdp.lipschitz(
        loaded, norm=norm, output_norm=output_norm, method=method, region=where, effort=effort
    )
    outcomes = [Outcome(bound.method, bound, bound.seconds)]
    if compare:
        quick = sdp.Effort(seconds=timeout, sampling=None, seed=seed)
        rest = tuple(name for name in COMPARED if name != bound.method)
        outcomes += run(loaded, rest, norm=norm, output_norm=output_norm, region=where, effort=quick)
    if svg_file is not None:
        write_text(svg_file, picture(loaded.graph, outcomes, bound))
    if certificate is not None:
        from verifier.lipschitz_certificate import bound_certificate

        write_text(certificate, bound_certificate(bound, loaded))
    if json_file is not None:
        from verifier.report.emit.json import dumps

        facts = _facts(model, bound, certificate)
        if compare:
            facts["compared"] = [_compared(one) for one in outcomes]
        write_text(json_file, dumps(facts))
    click.echo("\n".join([*_lines(bound), *(table(outcomes) if compare else ())]))
    return 0


def _region(path: Path, inputs: int) -> Region:
    import json

    import numpy as np

    from sdp.region import Region

    if path.suffix == ".json":
        try:
            ends = json.loads(path.read_text(encoding="utf-8"))
            return Region(np.array(ends["lo"], dtype=np.float64), np.array(ends["hi"], dtype=np.float64))
        except (ValueError, KeyError, TypeError):
            raise BadInput(f"{path}: is no JSON object with lists 'lo' and 'hi'; correct the file") from None
    from verifier.spec.load import load as load_property

    prop = load_property(path)
    if len(prop.cases) != 1 or prop.cases[0].partial:
        raise BadInput(
            f"{path}: has {len(prop.cases)} input boxes, or an unbounded one; give a single finite box"
        )
    case = prop.cases[0]
    lo, hi = (np.array([float(v) for v in ends]) for ends in (case.lower, case.upper))
    if len(lo) != inputs:
        raise BadInput(f"{path}: declares {len(lo)} inputs, the model {inputs}; check the two files")
    # the nearest float may lie inside the exact end
    return Region(np.nextafter(lo, -np.inf), np.nextafter(hi, np.inf))


def _facts(model: Path, bound: LipschitzBound, certificate: Path | None) -> dict[str, Any]:
    return {
        "model": str(model),
        "norm": bound.norm,
        "output_norm": bound.output_norm,
        "upper": bound.upper,
        "lower": bound.lower,
        "method": bound.method,
        "seconds": bound.seconds,
        "certified": bound.certified,
        "local": bound.local,
        "elements": bound.elements,
        "rows": [row.upper for row in bound.rows],
        "certificate": None if certificate is None else str(certificate),
        "notes": list(bound.notes),
    }


def _compared(one: Outcome) -> dict[str, Any]:
    return {
        "method": one.method,
        "upper": None if one.bound is None else one.bound.upper,
        "seconds": one.seconds,
        "error": one.error,
    }


def _lines(bound: LipschitzBound) -> list[str]:
    where = "on the region" if bound.local else "everywhere"
    lines = [
        f"{bound.upper:.9g}",
        f"upper      {bound.upper:.9g}  proved {where}, {bound.norm}-norm to {bound.output_norm}-norm",
        f"lower      {bound.lower:.9g}  sampled",
        f"ratio      {bound.ratio:.4f}",
        f"method     {bound.method}",
        f"elements   {bound.elements}",
        f"seconds    {bound.seconds:.2f}",
    ]
    return [*lines, *(f"note       {note}" for note in bound.notes)]
