"""``verify lipschitz`` and ``verify check`` of what it writes, in process."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from verifier.cli.main import cli


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, [str(a) for a in arguments])


def test_a_bound_its_json_and_its_certificate(examples: Path, tmp_path: Path) -> None:
    model, out, cert = examples / "models" / "pendulum.onnx", tmp_path / "o.json", tmp_path / "c.json"
    result = run("lipschitz", model, "--norm", "2", "--json", out, "--certificate", cert)
    assert result.exit_code == 0, result.output
    facts = json.loads(out.read_text(encoding="utf-8"))
    assert {"upper", "lower", "method", "seconds", "certified"} <= set(facts)
    assert facts["certified"] is True and 0 < facts["lower"] <= facts["upper"]
    assert float(result.output.splitlines()[0]) == pytest.approx(facts["upper"], rel=1e-8)
    checked = run("check", cert, "--model", model)
    assert checked.exit_code == 0, checked.output
    assert facts["upper"] <= float(checked.output.splitlines()[0]) <= facts["upper"] * 1.00001


def test_a_changed_certificate_is_rejected(examples: Path, tmp_path: Path) -> None:
    model, cert = examples / "models" / "pendulum.onnx", tmp_path / "c.json"
    assert run("lipschitz", model, "--method", "greedy", "--certificate", cert).exit_code == 0
    document = json.loads(cert.read_text(encoding="utf-8"))
    document["upper"] *= 0.99
    cert.write_text(json.dumps(document), encoding="utf-8")
    result = run("check", cert, "--model", model)
    assert result.exit_code != 0
    assert "rejected" in str(result.exception)


@pytest.mark.parametrize("form", ["vnnlib", "json"])
def test_a_region_makes_the_bound_local(form: str, examples: Path, tmp_path: Path) -> None:
    model = examples / "models" / "pendulum.onnx"
    region = examples / "properties" / "pendulum_limit_unsat.vnnlib"
    if form == "json":
        region = tmp_path / "box.json"
        region.write_text('{"lo": [0.0, 0.0], "hi": [0.01, 0.01]}', encoding="utf-8")
    out = tmp_path / "o.json"
    result = run("lipschitz", model, "--region", region, "--json", out)
    assert result.exit_code == 0, result.output
    assert json.loads(out.read_text(encoding="utf-8"))["local"] is True


def test_a_region_that_does_not_fit_is_an_error(examples: Path, tmp_path: Path) -> None:
    box = tmp_path / "box.json"
    for text in ('{"lo": [0.0], "hi": [1.0]}', "[]", '{"lo": [1, 1], "hi": [0, 0]}', "nonsense"):
        box.write_text(text, encoding="utf-8")
        result = run("lipschitz", examples / "models" / "pendulum.onnx", "--region", box)
        assert result.exit_code != 0, text
        assert type(result.exception).__name__ == "BadInput", (text, result.exception)
