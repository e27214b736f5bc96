"""Subproblems with nothing left to split: linear programs guide, the bounder decides."""

from __future__ import annotations

import itertools
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from oracles import least_margin, tape_of
from strategies import Box

from bounds.graph import Array
from bounds.io.onnx import load
from bounds.methods import linear_program
from bounds.methods.linear_program import NodeProgram
from bounds.methods.linear_program import Row as Wanted
from bounds.methods.objective import compile_objectives
from bounds.methods.operand_bounder import OperandBounder
from bounds.methods.program_lines import on_grid
from bounds.methods.rule import Rule
from bounds.methods.splits import Splits
from bounds.numerics import FLOAT64
from verifier import Options, verify
from verifier.check.main import check
from verifier.search.exact_leaf import packed, with_multipliers
from verifier.search.objectives import objectives_of
from verifier.spec.model import Case, Row
from verifier.verdict import Status

SIZES = (3, 5, 4, 1)
ENDS = -np.ones(SIZES[0]), np.ones(SIZES[0])
ROW = Wanted(np.ones(1), np.zeros(SIZES[0]), 0.0)
Layers = list[tuple[Array, Array]]


def layers_of(seed: int, sizes: tuple[int, ...] = SIZES) -> Layers:
    rng = np.random.default_rng(seed)
    made = [
        (rng.normal(size=(b, a)) / np.sqrt(a), rng.normal(size=b) / 2) for a, b in itertools.pairwise(sizes)
    ]
    return [tuple(v.astype(np.float32).astype(np.float64) for v in pair) for pair in made]  # type: ignore[misc]


def saved(path: Path, layers: Layers, kind: str = "Relu") -> Path:
    nodes: list[onnx.NodeProto] = []
    stored: list[onnx.TensorProto] = []
    at = "x"
    for i, (w, b) in enumerate(layers):
        stored += [
            numpy_helper.from_array(v.astype(np.float32), f"{n}{i}") for n, v in (("w", w.T), ("b", b))
        ]
        nodes.append(helper.make_node("Gemm", [at, f"w{i}", f"b{i}"], [f"h{i}"]))
        at = f"h{i}"
        if i < len(layers) - 1:
            nodes.append(helper.make_node(kind, [at], [f"a{i}"]))
            at = f"a{i}"
    sizes = ("x", layers[0][0].shape[1]), (at, layers[-1][0].shape[0])
    ports = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, d]) for n, d in sizes]
    graph = helper.make_graph(nodes, "g", ports[:1], ports[1:], stored)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def prop(path: Path, inputs: int, threshold: float) -> Path:
    """Violated where the output is at most the threshold, on the box from -1 to 1."""
    lines = [*(f"(declare-const X_{i} Real)" for i in range(inputs)), "(declare-const Y_0 Real)"]
    lines += [f"(assert (and (>= X_{i} -1) (<= X_{i} 1)))" for i in range(inputs)]
    path.write_text("\n".join([*lines, f"(assert (<= Y_0 {threshold:.9f}))"]))
    return path


@pytest.fixture
def operands_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Operands are split however few inputs there are."""
    monkeypatch.setattr("bounds.methods.bounder.FORWARD_INPUTS", 0)


@pytest.mark.usefixtures("operands_only")
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("gap", [1e-2, 1e-5, -1e-5])
def test_tiny_networks_never_end_unknown(tmp_path: Path, seed: int, gap: float) -> None:
    """The threshold lies this far below the least value, which enumeration knows."""
    layers = layers_of(seed)
    least = least_margin(layers, *ENDS, [(np.ones(1), 0.0)])
    model, proof = saved(tmp_path / "m.onnx", layers), tmp_path / "p.sbcert"
    spec = prop(tmp_path / "p.vnnlib", SIZES[0], least - gap)
    for attack, certificate in ((False, proof), (True, None)):
        if gap < 0 and not attack:
            continue  # nobody would look for the violation
        report = verify(model, spec, options=Options(attack=attack), certificate=certificate)
        assert report.status is (Status.UNSAT if gap > 0 else Status.SAT)
    if gap > 0:
        assert check(proof, {"": model}, spec).verdict == "unsat"


@pytest.mark.usefixtures("operands_only")
def test_without_an_attack_a_violation_is_not_proved_away(tmp_path: Path) -> None:
    for seed in range(4):
        layers = layers_of(seed)
        least = least_margin(layers, *ENDS, [(np.ones(1), 0.0)])
        spec = prop(tmp_path / "p.vnnlib", SIZES[0], least + 1e-6)
        report = verify(saved(tmp_path / "m.onnx", layers), spec, options=Options(attack=False, timeout=60))
        assert report.status is not Status.UNSAT


@pytest.mark.usefixtures("operands_only")
def test_float64_settles_what_float32_rounds_away(tmp_path: Path) -> None:
    layers = layers_of(3)
    least = least_margin(layers, *ENDS, [(np.ones(1), 0.0)])
    spec = prop(tmp_path / "p.vnnlib", SIZES[0], least - 1e-7)
    proof = tmp_path / "p.sbcert"
    model = saved(tmp_path / "m.onnx", layers)
    report = verify(model, spec, options=Options(attack=False), certificate=proof)
    assert report.status is Status.UNSAT and report.stats.settled_float64 > 0
    assert check(proof, {"": model}, spec).verdict == "unsat"


# ------------------------------------------------------------------ the program itself
def setting(path: Path, seed: int, kind: str = "Relu") -> OperandBounder:
    graph = load(saved(path / "m.onnx", layers_of(seed), kind)).graph
    box = Box(ENDS[0][None], ENDS[1][None])
    tape = tape_of(graph, box, FLOAT64, Rule(forward=False))
    case = Case((), (), ((Row({0: Fraction(1)}, {}, Fraction(0)),),))
    objectives = objectives_of(case, SIZES[0], 1)
    return OperandBounder(tape, compile_objectives(tape.plan, objectives))


def random_splits(rng: np.random.Generator, count: int, depth: int) -> Splits:
    splits = Splits.none(count)
    for q in rng.permutation(SIZES[1] + SIZES[2])[:depth]:
        operand, point = np.full(count, q), np.zeros(count)
        splits = splits.with_split(operand, point, int(rng.choice([-1, 1])), point, point)
    return splits


@pytest.mark.parametrize("kind", ["Relu", "Sigmoid"])
@pytest.mark.parametrize("seed", range(4))
def test_the_dual_solution_becomes_a_bound_as_good_as_the_optimum(
    tmp_path: Path, seed: int, kind: str
) -> None:
    bounder = setting(tmp_path, seed, kind)
    program, rng, picks = NodeProgram(bounder.plan), np.random.default_rng(seed), np.zeros(1, dtype=np.int64)
    for depth in (0, 1, 2, 4, 7):
        splits = random_splits(rng, 1, depth if kind == "Relu" else 0)
        plain = bounder.bound(splits, picks, None, 0)
        said = program.solve(plain.tape, 0, ROW)
        assert said is not None
        start = packed(said.parameters)[None]
        found = bounder.bound(with_multipliers(splits, [said]), picks, start, 0)
        if said.value == np.inf:
            assert found.lower[0] > 1  # the conditions contradict each other, and the multipliers show it
            continue
        # slopes are rounded to 1/128, the curved step's lines lie between those of the program
        fixed = [tuple(on_grid(p) for p in held) for held in said.parameters]
        rounded = program.solve(plain.tape, 0, ROW, fixed)
        assert rounded is not None
        closer = bounder.bound(with_multipliers(splits, [rounded]), picks, start, 0)
        assert abs(closer.lower[0] - rounded.value) < 1e-6 and rounded.value > said.value - 0.01
        slack = 0.02 if kind == "Relu" else 0.05
        assert found.lower[0] > said.value - slack
        if kind == "Relu":
            assert found.lower[0] <= said.value + 1e-6
        better = bounder.bound(splits, picks, None, 100)
        assert found.lower[0] > better.lower[0] - slack


def test_a_solver_that_fails_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bounder = setting(tmp_path, 0)
    program, plain = NodeProgram(bounder.plan), bounder.bound(Splits.none(1), np.zeros(1, dtype=int), None, 0)

    class Failed:
        status, x = 4, None

    monkeypatch.setattr("scipy.optimize.linprog", lambda *_, **__: Failed)
    assert program.solve(plain.tape, 0, ROW) is None


@pytest.mark.parametrize("status", [1, 3, 4, 5, -7])
def test_no_status_but_an_optimum_brings_numbers(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    class Said:
        x = np.zeros(1)

    Said.status = status  # type: ignore[attr-defined]
    monkeypatch.setattr("scipy.optimize.linprog", lambda *_, **__: Said)
    ends = np.zeros(1), np.ones(1)
    nothing: Any = (None, np.zeros(0))
    assert linear_program._optimum(np.zeros(1), nothing, nothing, ends) == (-1, None)


def test_large_maps_are_not_written_out() -> None:
    from bounds.graph import GraphBuilder, Op
    from bounds.kernels.numpy import NumpyKernels
    from bounds.plan import compile_plan

    b = GraphBuilder()
    x = b.input("x", (1, 2000))
    weight = np.ones((2000, 2000))
    b.output("y", b.add(Op.LINEAR, (x,), (1, 2000), {"weight": weight}))
    assert NodeProgram.rows_of(compile_plan(b.build(), NumpyKernels(FLOAT64))) > 1 << 20
