"""``verify robustness``: clean and certified accuracy of a classifier on a data set."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import click

from bounds.errors import BadInput
from verifier.cli.options import INPUT_FILE, OUTPUT, check_output, write_text

NORMS = ("1", "2", "inf")
# those of verifier.robustness.measure, kept here so that --help need not import them (a test compares)
METHODS = ("auto", "bounds", "lipschitz")


@click.command("robustness")
@click.argument("model", type=INPUT_FILE)
@click.option("--data", type=INPUT_FILE, required=True, help="NumPy archive (.npz) with inputs and labels.")
@click.option(
    "--radii", required=True, help="Radii, separated by commas: decimals or quotients (0.1, 2/255)."
)
@click.option("--norm", type=click.Choice(NORMS), default="2", show_default=True, help="Norm of the balls.")
@click.option(
    "--method",
    type=click.Choice(METHODS),
    default="auto",
    show_default=True,
    help="'lipschitz': constants of the margins between classes, global and local; 'bounds': bounds of all "
    "samples at once, then search for the rest; 'auto': global constants, then bounds.",
)
@click.option("--samples", type=click.IntRange(min=1), help="Number of samples.  [default: all]")
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of every random choice."
)
@click.option(
    "--stratified/--no-stratified",
    default=True,
    show_default=True,
    help="Choose equally many samples of every label.",
)
@click.option("--inputs", help="Name of the array of inputs.  [default: x, images, x_test, ...]")
@click.option("--labels", help="Name of the array of labels.  [default: y, labels, y_test, ...]")
@click.option("--scale", type=float, help="Divide inputs by it.  [default: 255 for whole numbers of 8 bits]")
@click.option("--clip", help="Valid range of inputs, as LOW,HIGH; balls are cut to it.  [default: none]")
@click.option(
    "--semantics",
    type=click.Choice(("real", "float32")),
    default="real",
    show_default=True,
    help="What is proved is about the network over the reals, or as float32 arithmetic computes it.",
)
@click.option(
    "--timeout", type=click.FloatRange(min=0, min_open=True), help="Seconds in all.  [default: no limit]"
)
@click.option(
    "--sample-timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=10.0,
    show_default=True,
    help="Seconds of search for one sample and radius.",
)
@click.option(
    "--attack/--no-attack", default=True, show_default=True, help="Look for points of another class."
)
@click.option("--certificates", type=OUTPUT, help="Folder for certificates of searches and local radii.")
@click.option(
    "--svg", "svg_file", type=OUTPUT, help="Write a picture: accuracy by radius, and how radii are spread."
)
@click.option("--json", "json_file", type=OUTPUT, help="Write the result as JSON.")
def robustness(  # noqa: PLR0913 - one argument per option
    model: Path,
    data: Path,
    radii: str,
    norm: str,
    method: str,
    samples: int | None,
    seed: int,
    stratified: bool,
    inputs: str | None,
    labels: str | None,
    scale: float | None,
    clip: str | None,
    semantics: str,
    timeout: float | None,
    sample_timeout: float,
    attack: bool,
    certificates: Path | None,
    svg_file: Path | None,
    json_file: Path | None,
) -> int:
    """Measure how robust the ONNX classifier MODEL is on a labelled data set.

    The largest output wins, ties lose. Per radius the table says for which share of the samples the
    class is proved not to change within the ball ('certified'), and for which it can at most hold,
    because confirmed points of another class were found in the other balls ('at most').
    """
    check_output(json_file, flag="--json", inputs=(model, data))
    check_output(svg_file, flag="--svg", inputs=(model, data))
    if certificates is not None:
        _make_folder(certificates)
    range_ = None if clip is None else _range(clip)
    import numpy as np

    from bounds.io.onnx import load
    from verifier.robustness.data import Reading, load_samples
    from verifier.robustness.measure import RobustnessOptions
    from verifier.robustness.measure import robustness as measure
    from verifier.robustness.result import lines
    from verifier.verdict import Semantics

    graph = load(model).graph
    if len(graph.inputs) != 1:
        raise BadInput(f"{model}: has {len(graph.inputs)} inputs; a classifier of samples has one")
    reading = Reading(inputs, labels, scale, samples, seed, stratified)
    chosen = load_samples(data, graph.inputs[0].shape, graph.output_size, reading)
    options = RobustnessOptions(
        norm=norm,
        method=method,
        clip=range_,
        semantics=Semantics(semantics),
        timeout=timeout,
        sample_timeout=sample_timeout,
        attack=attack,
        certificates=certificates,
        seed=seed,
    )
    with np.errstate(all="ignore"):
        report = measure(model, chosen, [r for r in radii.split(",") if r.strip()], options=options)
    if svg_file is not None:
        from verifier.robustness.picture import picture

        write_text(svg_file, picture(report))
    if json_file is not None:
        from verifier.report.emit.json import dumps

        write_text(json_file, dumps(report.as_dict()))
    click.echo("\n".join(lines(report)))
    return 0


def _range(text: str) -> tuple[Fraction, Fraction]:
    try:
        low, high = (Fraction(part.strip()) for part in text.split(","))
    except (ValueError, ZeroDivisionError):
        raise BadInput(f"--clip is '{text}'; give two numbers, such as 0,1") from None
    return low, high


def _make_folder(path: Path) -> None:
    if path.exists() and not path.is_dir():
        raise BadInput(f"--certificates {path}: is a file; give a folder")
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(
            f"--certificates {path}: cannot be made ({error.strerror}); give another path"
        ) from None
