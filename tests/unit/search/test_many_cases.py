"""The pass over very many cases together: the same verdicts as one search after the other, and proofs."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from bounds.methods.bounder import BounderOptions
from verifier import Options, api, verify
from verifier.check.main import check
from verifier.conclude import Ledger
from verifier.report.model import Report
from verifier.search.budget import Budget
from verifier.search.case_table import tabulate
from verifier.search.many import ManyCases
from verifier.spec.model import Case, Row
from verifier.verdict import Semantics, Status, UnknownReason

CASES = 40


def network(path: Path, scale: float = 1.0) -> Path:
    """Two inputs, two hidden layers of rectifiers, two outputs."""
    rng = np.random.default_rng(7)
    sizes, at = (2, 12, 12, 2), "x"
    nodes: list[onnx.NodeProto] = []
    stored: list[onnx.TensorProto] = []
    for i, (inside, outside) in enumerate(pairwise(sizes)):
        weights = rng.normal(size=(inside, outside)) * scale / np.sqrt(inside)
        stored.append(numpy_helper.from_array(weights.astype(np.float32), f"w{i}"))
        stored.append(numpy_helper.from_array(rng.normal(size=outside).astype(np.float32), f"b{i}"))
        last = i == len(sizes) - 2
        nodes.append(helper.make_node("Gemm", [at, f"w{i}", f"b{i}"], ["y" if last else f"h{i}"]))
        if not last:
            nodes.append(helper.make_node("Relu", [f"h{i}"], [f"a{i}"]))
            at = f"a{i}"
    ports = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 2]) for n in ("x", "y")]
    graph = helper.make_graph(nodes, "g", ports[:1], ports[1:], stored)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def prop(folder: Path, model: Path, margin: float, radius: float = 0.02, planted: int | None = None) -> Path:
    """Every box has limits of its own around the values seen on it; the planted one's are too tight."""
    from onnxruntime import InferenceSession

    session = InferenceSession(str(model))
    rng = np.random.default_rng(3)
    grid = np.stack(np.meshgrid(*[np.linspace(-radius, radius, 9)] * 2), axis=-1).reshape(-1, 2)
    lines = [f"(declare-const {v}_{i} Real)" for v in "XY" for i in range(2)] + ["(assert (or"]
    for number in range(CASES):
        x = rng.uniform(-1, 1, 2)
        y = np.concatenate([session.run(None, {"x": v[None].astype(np.float32)})[0] for v in x + grid])
        least, most = y.min(axis=0), y.max(axis=0)
        box = " ".join(f"(>= X_{i} {v - radius:.9f}) (<= X_{i} {v + radius:.9f})" for i, v in enumerate(x))
        room = -0.01 if number == planted else margin
        lines.append(f"(and {box} (<= Y_0 {least[0] - room:.9f}))")
        lines.append(f"(and {box} (>= Y_0 {most[0] + margin:.9f}) (>= Y_1 {least[1] - 5:.9f}))")
        lines.append(f"(and {box} (>= Y_1 {most[1] + margin:.9f}))")
    path = folder / f"p{margin}-{radius}-{planted}.vnnlib"
    path.write_text("\n".join([*lines, "))"]))
    return path


def one_by_one(patch: pytest.MonkeyPatch, model: Path, spec: Path, options: Options) -> Report:
    with patch.context() as p:
        p.setattr(api, "FEWEST", 10**9)
        return verify(model, spec, options=options)


@pytest.mark.parametrize("semantics", [Semantics.REAL, Semantics.FLOAT32])
def test_what_is_proved_together_can_be_checked(tmp_path: Path, semantics: Semantics) -> None:
    model = network(tmp_path / "m.onnx")
    spec = prop(tmp_path, model, 0.2)
    file = tmp_path / "c.cert"
    report = verify(model, spec, options=Options(semantics=semantics), certificate=file)
    assert report.status is Status.UNSAT
    assert report.stats.domains == CASES  # all of them at once, none was searched again
    assert check(file, {"": model}, spec).verdict == "unsat"


@pytest.mark.parametrize("margin", [0.06, 0.1])
def test_cases_left_over_are_searched(tmp_path: Path, margin: float, monkeypatch: pytest.MonkeyPatch) -> None:
    model = network(tmp_path / "m.onnx", 2.0)
    spec = prop(tmp_path, model, margin, radius=0.2)
    alone = one_by_one(monkeypatch, model, spec, Options())
    file = tmp_path / "c.cert"
    together = verify(model, spec, certificate=file)
    assert (together.status, alone.status) == (Status.UNSAT, Status.UNSAT)
    assert together.stats.domains > CASES
    assert check(file, {"": model}, spec).verdict == "unsat"


@pytest.mark.parametrize("attack", [True, False])
def test_a_planted_violation_is_never_proved(tmp_path: Path, attack: bool) -> None:
    model = network(tmp_path / "m.onnx")
    spec = prop(tmp_path, model, 0.2, planted=CASES // 2)
    report = verify(model, spec, options=Options(attack=attack, max_domains=400))
    assert report.status in ((Status.SAT,) if attack else (Status.SAT, Status.UNKNOWN))
    if attack:
        assert report.witness is not None
        assert report.witness.case == CASES // 2
        assert report.stats.domains <= CASES


def test_a_domain_limit_holds(tmp_path: Path) -> None:
    model = network(tmp_path / "m.onnx")
    report = verify(model, prop(tmp_path, model, 0.2), options=Options(max_domains=7))
    assert (report.status, report.reason) == (Status.UNKNOWN, UnknownReason.DOMAINS)
    assert report.stats.domains == 7


def cases(count: int, constant: Fraction) -> list[Case]:
    """``-y_0 + constant <= 0`` on one point each."""
    row = Row({0: Fraction(-1)}, {}, constant)
    point = (Fraction(1, 2), Fraction(1, 2))
    return [Case(point, point, ((row,),)) for _ in range(count)]


def identity() -> onnx.ModelProto:
    ports = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 2]) for n in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", ports[:1], ports[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def settled(folder: Path, given: list[Case]) -> list[bool]:
    from bounds.io.onnx import load

    onnx.save(identity(), folder / "i.onnx")
    graph = load(folder / "i.onnx").graph
    table = tabulate(given, 2, 2)
    assert table is not None
    budget, ledger = Budget(), Ledger(len(given), given)
    many = ManyCases(graph, table, BounderOptions(), {}, budget, ledger, None, None)
    found = many.run().settled.tolist()
    assert ledger.settled == sum(found)
    return found


def test_constants_are_rounded_to_the_safe_side(tmp_path: Path) -> None:
    # y_0 = 1/2 exactly, so the row's least value is constant - 1/2
    least = Fraction(1, 1 << 60)
    assert settled(tmp_path, cases(20, Fraction(1, 2) + Fraction(1, 100))) == [True] * 20
    assert not any(settled(tmp_path, cases(20, Fraction(1, 2))))
    assert not any(settled(tmp_path, cases(20, Fraction(1, 2) - least)))
    # true, but nearer to zero than the arithmetic can tell: left to the search
    assert not any(settled(tmp_path, cases(20, Fraction(1, 2) + least)))


def test_what_does_not_fit_is_left_out() -> None:
    given = cases(3, Fraction(1))
    extreme = Row({0: Fraction(1 << 200)}, {}, Fraction(1))
    point = given[0].lower
    empty = Case((Fraction(1),) * 2, (Fraction(0),) * 2, given[0].disjuncts)
    odd = [
        dataclasses.replace(given[0], disjuncts=((extreme,),)),
        dataclasses.replace(given[0], disjuncts=((),)),
        dataclasses.replace(given[0], partial=True),
        empty,
        Case(point, point, ()),
    ]
    table = tabulate([*odd, *given], 2, 2)
    assert table is not None
    assert table.case.tolist() == [5, 6, 7]
    many = [Case(point, point, ((Row({0: Fraction(i)}, {}, Fraction(1)),),)) for i in range(1, 100)]
    table = tabulate(many, 2, 2)
    assert table is not None
    assert len(table.case) == table.directions.rows < 99
