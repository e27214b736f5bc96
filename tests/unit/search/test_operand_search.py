"""The search that splits operands: many inputs vary, so inputs are not split."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from verifier import Options, verify
from verifier.check.main import check
from verifier.conclude import Ledger
from verifier.search.settle import Settler
from verifier.verdict import Semantics, Status, UnknownReason

INPUTS, WIDTH = 70, 12


def network(path: Path, kind: str) -> Path:
    """Two hidden layers; ``product`` multiplies two of them."""
    rng = np.random.default_rng(5)
    nodes: list[onnx.NodeProto] = []
    stored: list[onnx.TensorProto] = []

    def dense(source: str, inside: int, outside: int, name: str) -> str:
        for suffix, shape in (("w", (inside, outside)), ("b", (outside,))):
            values = rng.normal(size=shape) / np.sqrt(inside)
            stored.append(numpy_helper.from_array(values.astype(np.float32), name + suffix))
        nodes.append(helper.make_node("Gemm", [source, name + "w", name + "b"], [name]))
        return name

    at = dense("x", INPUTS, WIDTH, "h0")
    if kind == "product":
        nodes.append(helper.make_node("Mul", [at, dense("x", INPUTS, WIDTH, "g0")], ["a0"]))
    else:
        nodes.append(helper.make_node(kind, [at], ["a0"]))
    at = dense("a0", WIDTH, WIDTH, "h1")
    nodes.append(helper.make_node("Relu" if kind == "product" else kind, [at], ["a1"]))
    dense("a1", WIDTH, 2, "y")
    ports = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, d]) for n, d in (("x", INPUTS), ("y", 2))
    ]
    graph = helper.make_graph(nodes, "g", ports[:1], ports[1:], stored)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def prop(path: Path, thresholds: list[float], radius: float) -> Path:
    """Violated where some output is at most its threshold."""
    lines = [f"(declare-const X_{i} Real)" for i in range(INPUTS)]
    lines += [f"(declare-const Y_{i} Real)" for i in range(2)]
    for i in range(INPUTS):
        lines += [f"(assert (>= X_{i} {-radius}))", f"(assert (<= X_{i} {radius}))"]
    cases = " ".join(f"(and (<= Y_{i} {t:.6f}))" for i, t in enumerate(thresholds))
    path.write_text("\n".join([*lines, f"(assert (or {cases}))"]))
    return path


def hard(folder: Path, kind: str, share: float) -> tuple[Path, Path]:
    """Thresholds between the bounds of the root (share 0) and the least values seen (share 1)."""
    from onnxruntime import InferenceSession

    radius = {"Relu": 0.5, "Sigmoid": 2.0, "product": 0.4}[kind]
    model = network(folder / "m.onnx", kind)
    rng = np.random.default_rng(0)
    x = rng.uniform(-radius, radius, (4000, INPUTS))
    x[2000:] = radius * np.sign(x[2000:])
    session = InferenceSession(str(model))
    y = np.concatenate([session.run(None, {"x": v[None].astype(np.float32)})[0] for v in x])
    seen = y.min(axis=0)
    found: list[float] = []
    for i in range(2):
        far = [-1e6, -1e6]
        far[i] = float(seen[i])
        options = Options(max_domains=1, attack=False)
        report = verify(model, prop(folder / "root.vnnlib", far, radius), options=options)
        bound = report.lower_bound
        assert bound is not None and bound < 0
        found.append(float(seen[i]) + bound * (1 - share))
    return model, prop(folder / "p.vnnlib", found, radius)


@pytest.mark.parametrize("semantics", [*Semantics])
@pytest.mark.parametrize("kind", ["Relu", "Sigmoid", "product"])
def test_splits_prove_and_the_proof_is_accepted(tmp_path: Path, kind: str, semantics: Semantics) -> None:
    model, spec = hard(tmp_path, kind, 0.25)
    proof = tmp_path / "proof.sbcert"
    options = Options(attack=False, semantics=semantics, max_domains=4000)
    report = verify(model, spec, options=options, certificate=proof)
    assert report.status is Status.UNSAT
    assert report.stats.domains > 2 and "splitting operands" in report.strategy
    assert check(proof, {"": model}, spec).verdict == "unsat"


def test_runs_repeat_bit_for_bit(tmp_path: Path) -> None:
    model, spec = hard(tmp_path, "Sigmoid", 0.4)
    reports = [verify(model, spec, options=Options(max_domains=60)) for _ in range(2)]
    assert reports[0].lower_bound == reports[1].lower_bound
    assert reports[0].stats.domains == reports[1].stats.domains


def test_a_violation_is_found_among_splits(tmp_path: Path) -> None:
    """What has been seen at a sampled point is not proved away, with or without an attack."""
    model, spec = hard(tmp_path, "Relu", 1.02)
    assert verify(model, spec, options=Options(max_domains=300)).status is Status.SAT
    limited = verify(model, spec, options=Options(attack=False, max_domains=300))
    assert limited.status is Status.UNKNOWN and limited.reason is UnknownReason.DOMAINS


@pytest.mark.parametrize("left", [[True, False, False], [False, False, False]])
def test_copies_that_lose_a_group_are_a_defect(left: list[bool]) -> None:
    ledger = Ledger(1)
    held: Any = np.array([True, True, False])
    with pytest.raises(AssertionError, match="lost an open group"):
        ledger.copy(held, np.array(left), np.array([False, False, False]))
    ledger.copy(held, np.array([True, False, False]), np.array([False, True, False]))
    assert ledger.open == 2
    ledger.copy(held, held, np.array([False, False, False]))
    assert ledger.open == 2  # a copy without groups is settled at once


@pytest.mark.parametrize("few_first", [True, False])
def test_one_proof_of_cases_with_few_and_with_many_varying_inputs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, few_first: bool
) -> None:
    """Alone they are bounded by different rules; a certificate has one."""
    rules: list[bool] = []

    class Spy(Settler):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            rules.append(self.fast.rule.forward)

    monkeypatch.setattr("verifier.api.Settler", Spy)
    model = network(tmp_path / "m.onnx", "Relu")
    lines = [f"(declare-const X_{i} Real)" for i in range(INPUTS)] + ["(declare-const Y_0 Real)"]
    lines += ["(declare-const Y_1 Real)"]
    boxes = [[0.3 if i < varying else 0.0 for i in range(INPUTS)] for varying in (3, INPUTS)]
    cases = [
        "(and (<= Y_0 -30.0) "
        + " ".join(f"(>= X_{i} {-r - shift}) (<= X_{i} {r - shift})" for i, r in enumerate(box))
        + ")"
        for box, shift in zip(boxes if few_first else boxes[::-1], (0.0, 0.125), strict=True)
    ]
    spec, proof = tmp_path / "p.vnnlib", tmp_path / "proof.sbcert"
    spec.write_text("\n".join([*lines, f"(assert (or {' '.join(cases)}))"]))
    assert verify(model, spec, options=Options(attack=False), certificate=proof).status is Status.UNSAT
    assert rules == [False, False]
    assert check(proof, {"": model}, spec).verdict == "unsat"
    assert verify(model, spec, options=Options(attack=False)).status is Status.UNSAT
    assert rules[2:] == [few_first, not few_first]
