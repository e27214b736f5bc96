"""Texts that users and other programs rely on, kept as files under ``snapshots/``.

After an intended change run the tests with ``SUREBOUND_UPDATE_GOLDEN=1`` and read the difference.
"""

from __future__ import annotations

import importlib.util
import json
import os
from fractions import Fraction
from pathlib import Path

import onnx
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper

from verifier.cli.main import COMMANDS, cli
from verifier.cli.supports import CAPABILITIES
from verifier.report.emit.json import as_dict, dumps
from verifier.report.emit.svg import svg
from verifier.report.emit.text import answer, talk
from verifier.report.model import Cell, Picture, Range, Region, Report, Sample, Stats
from verifier.spec.model import Case, Property, Variable
from verifier.verdict import Semantics, Status, UnknownReason, Witness

SNAPSHOTS = Path(__file__).parent / "snapshots"

SPEC = Property(
    (Variable("A", "input", (1, 2), "float32", "f"), Variable("B", "output", (1,), "float32", "f")),
    (Case((Fraction(0), Fraction(-1)), (Fraction(1), Fraction(1, 3)), ()),),
    language="vnnlib-2",
)
STATS = Stats(
    domains=1200, leaves=600, settled_float64=590, settled_exact=10, seconds=1.5, phases={"search": 1.25}
)
NAMES = {"input_names": ("X_0", "X_1"), "output_names": ("Y_0",)}
FILES = {"model": "m.onnx", "property": "p.vnnlib", "model_sha256": "a" * 64, "property_sha256": "b" * 64}
REPORTS = {
    "unsat": Report(
        Status.UNSAT,
        UnknownReason.NONE,
        Semantics.FLOAT32,
        None,
        STATS,
        lower_bound=0.5,
        closed_fraction=1.0,
        certificate="c.sbcert",
        strategy="input splits on 2 of 2 inputs",
        notes=("the input set is empty",),
        seed=7,
        version="0.1.0",
        **NAMES,
        **FILES,
    ),
    "sat": Report(
        Status.SAT,
        UnknownReason.NONE,
        Semantics.REAL,
        Witness(
            (Fraction(1), Fraction(1, 4)), (Fraction(-3, 2),), 0, 0, "replayed", (("onnxruntime", "1.20.0"),)
        ),
        STATS,
        version="0.1.0",
        **NAMES,
        **FILES,
    ),
    "timed-out": Report(
        Status.TIMED_OUT,
        UnknownReason.TIMEOUT,
        Semantics.REAL,
        None,
        STATS,
        lower_bound=-0.125,
        closed_fraction=0.75,
        explanation=("few inputs vary", "operators after rewriting: input, linear"),
        hardest=Region(
            -0.125, 0.25, 0, (Range("X_1", -1.0, 0.5),), 3, ("operand 0 of node 'r', element 2 >= 0",)
        ),
        advice=("more time: 75% is closed after 2 s",),
        checkpoint="run.ckpt",
        picture=Picture(
            (Sample(0.5, 10, 2, 0.5, -0.5), Sample(1.5, 1200, 1, 0.75, -0.125)),
            (Cell(0, 0.0, 1.0, False, True), Cell(1, 0.0, 0.5, True, False), Cell(1, 0.5, 0.5, False, False)),
            3,
        ),
        version="0.1.0",
        **NAMES,
        **FILES,
    ),
}


def same_as_snapshot(name: str, text: str) -> None:
    path = SNAPSHOTS / name
    if os.environ.get("SUREBOUND_UPDATE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


def output(*args: str) -> str:
    result = CliRunner().invoke(cli, list(args), prog_name="verify", terminal_width=100)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_picture() -> None:
    same_as_snapshot("report-timed-out.svg", svg(REPORTS["timed-out"]))


def test_talk_in_full() -> None:
    same_as_snapshot("report-timed-out-full.txt", talk(REPORTS["timed-out"], explain=True, profile=True))


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help(command: str) -> None:
    same_as_snapshot(f"help-{command or 'verify-itself'}.txt", output(*filter(None, [command]), "--help"))


@pytest.mark.parametrize("name", REPORTS)
def test_json(name: str) -> None:
    same_as_snapshot(f"report-{name}.json", dumps(as_dict(REPORTS[name], SPEC)))


@pytest.mark.parametrize("name", REPORTS)
def test_text(name: str) -> None:
    report = REPORTS[name]
    text = f"{answer(report)}--- VNN-LIB 2.0\n{answer(report, SPEC)}--- standard error\n{talk(report)}"
    same_as_snapshot(f"report-{name}.txt", text)


@pytest.mark.parametrize("name", [n for n in CAPABILITIES if not n.startswith(("onnx-op", "vnnlib"))])
def test_capabilities(name: str) -> None:
    """Those that do not depend on what is installed or on the growing table of operators."""
    same_as_snapshot(f"supports-{name}.txt", output("supports", f"--{name}"))


@pytest.mark.parametrize(("name", "operator"), [("supported", "Relu"), ("unsupported", "Bernoulli")])
def test_inspect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, operator: str) -> None:
    weight = helper.make_tensor("W", TensorProto.FLOAT, [2, 3], [1.0, -1.0, 0.5, 2.0, 0.0, 1.0])
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "W"], ["h"], "dense"),
            helper.make_node(operator, ["h"], ["y"], "act"),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3])],
        [weight],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], producer_name="tests")
    model.ir_version = 8
    onnx.save(model, str(tmp_path / "net.onnx"))
    monkeypatch.chdir(tmp_path)
    same_as_snapshot(f"inspect-{name}.txt", output("inspect", "net.onnx"))
    facts = json.loads(output("inspect", "net.onnx", "--json"))
    assert facts["supported"] is (name == "supported")
    assert facts["neurons"] == (3 if name == "supported" else None)


def test_the_reference_page_is_up_to_date(root: Path) -> None:
    where = importlib.util.spec_from_file_location("gen_cli", root / "docs" / "gen_cli.py")
    assert where is not None and where.loader is not None
    module = importlib.util.module_from_spec(where)
    where.loader.exec_module(module)
    assert module.PAGE.read_text(encoding="utf-8") == module.render(), "run: python docs/gen_cli.py"
