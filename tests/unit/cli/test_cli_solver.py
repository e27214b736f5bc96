"""The solver interface of VNN-LIB 2.0, chapter 5, and the checker's command."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest
from cli_stand_in import SAT, Engine
from click.testing import Result

from bounds.errors import BadInput, CertificateRejected, QueryMismatch
from verifier.cli.session import semantics_of
from verifier.cli.solver import bind, unique
from verifier.cli.supports import CAPABILITIES
from verifier.report.emit.assignment import assignment
from verifier.spec.model import Case, NetworkRef, Property, Variable
from verifier.verdict import Semantics, Witness

Invoke = Callable[..., Result]


def query(*networks: NetworkRef, elements: tuple[str, ...] = ("float32",)) -> Property:
    variables = tuple(Variable(f"X{i}", "input", (1,), e) for i, e in enumerate(elements))
    return Property(variables, (), networks, "vnnlib-2", "q.vnnlib")


def test_assignment_in_the_order_and_form_of_the_standard() -> None:
    """The example of chapter 5 of the standard, with declared types throughout."""
    variables = (
        Variable("A", "input", (2, 2), "float32", "f"),
        Variable("B", "input", (1,), "int32", "f"),
        Variable("H", "hidden", (1, 2), "float32", "f"),
        Variable("Y", "output", (1,), "float32", "f"),
        Variable("C", "input", (2, 2), "float32", "g"),
        Variable("Z", "output", (1,), "real", "g"),
    )
    x = [0.5, 0.25, 4.0, 2.0, -1, 1.0, 3.0, 4.0, 2.0]
    y = [0.5, 0.75, 0.125, 0.0]
    box = tuple(map(Fraction, x))
    spec = Property(variables, (Case(box, box, ()),), language="vnnlib-2")
    report = dataclasses.replace(SAT, witness=Witness(box, tuple(map(Fraction, y)), 0, 0, "replayed", ()))
    assert assignment(report, spec).split("\n") == [
        *("A float32 [2,2]", "0.5", "0.25", "4.0", "2.0"),
        *("B int32 [1]", "-1"),
        *("H float32 [1,2]", "0.5", "0.75"),
        *("Y float32 [1]", "0.125"),
        *("C float32 [2,2]", "1.0", "3.0", "4.0", "2.0"),
        *("Z real [1]", "0.0"),
    ]


def test_semantics_follow_the_declared_types() -> None:
    assert semantics_of(query(elements=("float32", "float32"))) is Semantics.FLOAT32
    assert semantics_of(query(elements=("real",))) is Semantics.REAL
    with pytest.raises(QueryMismatch, match="float16 is declared"):
        semantics_of(query(elements=("float16",)))
    with pytest.raises(QueryMismatch, match="are mixed"):
        semantics_of(query(elements=("float32", "real")))


def test_networks_are_bound_to_their_files() -> None:
    f, g, h = NetworkRef("f"), NetworkRef("g", "equal", "f"), NetworkRef("h", "isomorphic", "f")
    a, b = Path("a.onnx"), Path("b.onnx")
    assert bind(query(f, g, h), {"f": a, "h": b}) == {"f": a, "h": b}
    assert bind(query(f, g), {"": a}) == {"f": a}  # one file for the one network: no name needed
    with pytest.raises(QueryMismatch, match="'h' is declared but not given; add --network h=FILE"):
        bind(query(f, g, h), {"f": a})
    with pytest.raises(QueryMismatch, match="'g' is declared equal-to another"):
        bind(query(f, g), {"f": a, "g": b})
    with pytest.raises(QueryMismatch, match="'k' is not declared"):
        bind(query(f), {"f": a, "k": b})
    with pytest.raises(BadInput, match="given twice"):
        unique((("f", a), ("f", b)))


def test_version_1_queries_take_one_network_of_any_name() -> None:
    spec = Property((), (), source="q.vnnlib")
    assert bind(spec, {"net": Path("a.onnx")}) == {"": Path("a.onnx")}
    with pytest.raises(QueryMismatch, match="needs one --network"):
        bind(spec, {})


def test_verify_command(invoke: Invoke, engine: Engine, files: tuple[str, str]) -> None:
    result = invoke("verify", files[1], "--network", f"net={files[0]}", "--timeout", "10")
    assert result.stdout == "unsat\n"
    (call,) = engine.calls
    assert call["model"] == {"": Path(files[0])}
    assert call["options"].semantics is Semantics.REAL


def test_verify_command_serialises(
    invoke: Invoke, engine: Engine, files: tuple[str, str], tmp_path: Path
) -> None:
    onnx = pytest.importorskip("onnx")
    engine.answer = SAT
    result = invoke(
        "verify", files[1], "--network", f"net={files[0]}", "--serialise-assignments", str(tmp_path / "out")
    )
    assert result.stdout == "sat\n"
    tensors = {p.stem: onnx.load_tensor(p) for p in (tmp_path / "out").iterdir()}
    assert onnx.numpy_helper.to_array(tensors["X"]).tolist() == [0.5, float(SAT.witness.x[1])]
    assert onnx.numpy_helper.to_array(tensors["Y"]).tolist() == [0.75]


def test_verify_command_errors(failing: Callable[..., str], engine: Engine, files: tuple[str, str]) -> None:
    assert "needs one --network" in failing("verify", files[1])
    assert "'nowhere.onnx' does not exist" in failing("verify", files[1], "--network", "f=nowhere.onnx")
    assert "is a file" in failing(
        "verify", files[1], "--network", f"f={files[0]}", "--serialise-assignments", files[0]
    )


def test_name_and_version(invoke: Invoke) -> None:
    assert invoke("--name").stdout == "surebound\n"
    assert invoke("--version").stdout.count("\n") == 1


@pytest.mark.parametrize("name", CAPABILITIES)
def test_every_capability_answers(invoke: Invoke, name: str) -> None:
    lines = invoke("supports", f"--{name}").stdout.splitlines()
    assert lines
    assert all(line.strip() for line in lines)


def test_capabilities_one_at_a_time(failing: Callable[..., str], invoke: Invoke) -> None:
    assert "name one capability" in failing("supports")
    assert "one capability at a time" in failing("supports", "--onnx-operators", "--vnnlib-versions")
    assert invoke("supports", "--onnx-element-types").stdout == "real\nfloat32\n"


def checker(monkeypatch: pytest.MonkeyPatch, answer: object) -> list[tuple[object, ...]]:
    calls: list[tuple[object, ...]] = []

    def check(*args: object) -> object:
        calls.append(args)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr("verifier.check.main.check", check)
    return calls


def test_check_command(invoke: Invoke, monkeypatch: pytest.MonkeyPatch, files: tuple[str, str]) -> None:
    answer = types.SimpleNamespace(
        verdict="unsat", semantics="real", nodes=3, evidence=2, seconds=0.5, message=""
    )
    calls = checker(monkeypatch, answer)
    result = invoke("check", files[0], "--model", files[0], "--property", files[1])
    assert result.stdout == "unsat\n"
    assert "certificate accepted: unsat at level real, 3 nodes, 2 pieces of evidence" in result.stderr
    assert calls == [(Path(files[0]), {"": Path(files[0])}, Path(files[1]))]


def test_a_rejected_certificate_is_an_error(
    failing: Callable[..., str], monkeypatch: pytest.MonkeyPatch, files: tuple[str, str]
) -> None:
    checker(monkeypatch, CertificateRejected("leaf 3", "lower bound is -1"))
    assert "rejected at step 'leaf 3'" in failing("check", files[0], "--model", f"f={files[0]}")
    assert "--model" in failing("check", files[0])
