"""Comparisons and pictures: every method has its line, and the pictures are plain SVG."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from click.testing import CliRunner
from lipschitz_nets import random_net

import sdp
from sdp.chart import Chart, Series, svg
from sdp.compare import COMPARED, bound_by_layer, compare, table
from verifier.cli.main import cli


def parsed(text: str) -> ElementTree.Element:
    assert "<script" not in text
    return ElementTree.fromstring(text)  # noqa: S314 - our own text


def test_every_method_has_a_line(rng: np.random.Generator) -> None:
    model = random_net(rng, "Relu", (3, 6, 6, 2)).model()
    outcomes = compare(model, effort=sdp.Effort(seconds=10, sampling=None))
    assert [o.method for o in outcomes] == list(COMPARED)
    assert all(o.bound is not None for o in outcomes)
    assert len(table(outcomes)) == len(COMPARED) + 1
    broken = compare(model, ("interior", "nonsense"), effort=sdp.Effort(sampling=None))
    assert broken[1].bound is None and "unknown method" in table(broken)[2]


def test_bounds_by_layer_start_at_the_bound_and_stay_below_the_product(rng: np.random.Generator) -> None:
    model = random_net(rng, "Relu", (3, 8, 8, 8, 2)).model()
    bound = sdp.lipschitz(model, effort=sdp.Effort(sampling=None))
    layers = bound_by_layer(model.graph, bound)
    assert layers is not None
    ours, product = layers
    assert len(ours) == len(product) == 5
    assert abs(ours[0] / bound.upper - 1) < 1e-6 and product[0] > ours[0]


def test_charts_survive_strange_numbers() -> None:
    text = svg(
        [
            Chart("a < b & c", "x", "y", [Series("s", [0.0, 1.0], [np.nan, np.inf])], True, True),
            Chart("one", "x", "y", [Series("s", [2.0], [3.0], "dots")]),
            Chart("bars", "x", "y", [Series("s", [0.5, 1.5], [3.0, 0.0], "bars")]),
            Chart("none", "x", "y", []),
        ]
    )
    assert len(parsed(text).findall("{http://www.w3.org/2000/svg}g")) == 4
    assert "nan" not in text and "inf" not in text


def test_the_commands_write_pictures(examples: Path, tmp_path: Path) -> None:
    model, out = examples / "models" / "pendulum.onnx", tmp_path / "p.svg"
    result = CliRunner().invoke(cli, ["lipschitz", str(model), "--compare", "--svg", str(out)])
    assert result.exit_code == 0, result.output
    assert "eclipse-cf" in result.output
    parsed(out.read_text(encoding="utf-8"))
    data, out = tmp_path / "d.npz", tmp_path / "r.svg"
    inputs = np.random.default_rng(0).random((4, 64))
    np.savez(data, x=inputs, y=np.zeros(4, dtype=int))
    arguments = ["robustness", str(examples / "models" / "digits_mlp.onnx"), "--data", str(data)]
    result = CliRunner().invoke(cli, [*arguments, "--radii", "0.01", "--svg", str(out)])
    assert result.exit_code == 0, result.output
    parsed(out.read_text(encoding="utf-8"))
