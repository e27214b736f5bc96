"""Each of these was once wrong; the docstring says how."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from bounds.domain import Objectives
from bounds.graph import GraphBuilder, Op
from bounds.io.onnx import load
from bounds.io.session import Session
from bounds.kernels.numpy import NumpyKernels
from bounds.methods.bounder import BounderOptions, BoxBounder
from bounds.methods.rule import Rule, relax_boxes
from bounds.numerics import FLOAT32, FLOAT64
from bounds.plan import compile_plan
from verifier import Options, verify
from verifier.check.main import check
from verifier.spec.region import around
from verifier.spec.robustness import local_robustness
from verifier.verdict import Semantics, Status


def total_of(size: int) -> tuple[BoxBounder, BoxBounder, Fraction]:
    """The sum of the outputs of a wide SCALE that adds s to zeros, in two precisions, and its exact value."""
    shift = np.full(size, np.float64(np.float32(0.1)))  # equal terms: every partial sum errs the same way
    shift[-1] = np.float32(-float(sum(map(Fraction, shift[:-1].tolist()))))
    b = GraphBuilder()
    x = b.input("x", (1, 1))
    z = b.add(Op.LINEAR, (x,), (1, size), {"weight": np.zeros((size, 1)), "bias": np.zeros(size)})
    q = b.add(Op.SCALE, (z,), (1, size), {"scale": np.ones(size), "shift": shift})
    b.output("y", q)
    both = np.stack([np.ones(size), -np.ones(size)])
    none = np.zeros((2, 1))
    objectives = Objectives(
        both, none, np.zeros(2), np.zeros(2, bool), np.arange(3), False, lambda: (both, none, none[:, 0])
    )
    bounders = [BoxBounder(b.build(), objectives, p, BounderOptions()) for p in (FLOAT32, FLOAT64)]
    return bounders[0], bounders[1], sum(map(Fraction, shift.tolist()), Fraction(0))


@pytest.mark.parametrize("size", [50, 20_000])
def test_a_bias_product_pays_for_all_its_terms(size: int) -> None:
    """``a . b`` sums over the whole value; it was charged for the map's own (one-term) sums only."""
    *bounders, exact = total_of(size)
    for bounder in bounders:
        found = bounder.bound(np.zeros((1, 1)), np.ones((1, 1)), np.ones((1, 2), bool)).lower[0]
        assert Fraction(float(found[0])) <= exact
        assert Fraction(float(found[1])) <= -exact


def save(path: Path, weights: list[float]) -> Path:
    """``relu`` between multiplications by the weights, one neuron wide."""
    nodes, constants, at = [], [], "x"
    for k, w in enumerate(weights):
        constants.append(numpy_helper.from_array(np.array([[w]], np.float32), f"w{k}"))
        end = k == len(weights) - 1
        nodes.append(helper.make_node("MatMul", [at, f"w{k}"], ["y" if end else f"z{k}"]))
        at = f"z{k}"
        if not end:
            nodes.append(helper.make_node("Relu", [at], [f"r{k}"]))
            at = f"r{k}"
    ports = [[helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 1])] for n in ("x", "y")]
    graph = helper.make_graph(nodes, "g", *ports, constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def test_a_network_that_may_overflow_float32_is_not_proved_there(tmp_path: Path) -> None:
    """1e20 * 1e20 is infinite in float32; over the reals the output is tiny. Only the latter is proved."""
    model = save(tmp_path / "m.onnx", [1e20, 1e20, 1e-30])
    spec = tmp_path / "p.vnnlib"
    spec.write_text(
        "(declare-const X_0 Real)(declare-const Y_0 Real)"
        "(assert (>= X_0 0.5))(assert (<= X_0 1.0))(assert (>= Y_0 1e15))"
    )
    limits = {"max_domains": 20, "attack": False}
    assert verify(model, spec, options=Options(**limits)).status is Status.UNSAT
    rounded = verify(model, spec, options=Options(semantics=Semantics.FLOAT32, **limits))
    assert rounded.status is Status.UNKNOWN


def test_a_forward_form_that_overflows_says_nothing() -> None:
    """An infinite form once made a neuron count as active."""
    b = GraphBuilder()
    x = b.input("x", (1, 2))
    big = 3e38
    w = np.array([[big, -big], [big, big]])
    z = b.add(Op.LINEAR, (x,), (1, 2), {"weight": w, "bias": np.zeros(2)})
    r = b.add(Op.RELU, (z,), (1, 2))
    y = b.add(Op.LINEAR, (r,), (1, 2), {"weight": w, "bias": np.zeros(2)})
    r2 = b.add(Op.RELU, (y,), (1, 2))
    b.output("y", r2)
    with np.errstate(all="ignore"):
        tape = relax_boxes(
            compile_plan(b.build(), NumpyKernels(FLOAT32)), -np.ones((1, 2)), np.ones((1, 2)), Rule()
        )
    relu = tape.relus[1]
    for lo, hi in zip(relu.lo[0], relu.hi[0], strict=True):
        # z of the second layer takes both signs on the box
        assert not lo >= 0
        assert not hi <= 0


@pytest.mark.parametrize(("norm", "radius"), [("l2", "0.15"), ("l1", "0.4")])
def test_balls_are_proved_and_checked(tmp_path: Path, norm: str, radius: str) -> None:
    """Linear bounds over the ball prove at the root what bounds over its box do not."""
    model = Path(__file__).parents[3] / "examples" / "models" / "digits_mlp.onnx"
    session = Session(load(model))
    points = np.random.default_rng(0).random((200, 64)).astype(np.float32)
    scores = np.sort(np.stack([session.run(x)[0].reshape(-1) for x in points]), axis=1)
    x = points[int((scores[:, -1] - scores[:, -2]).argmax())]  # the surest decision
    label = int(session.run(x)[0].argmax())
    region = around([float(v) for v in x], radius, norm=norm)
    prop = local_robustness(region, label=label, outputs=10)
    proof = tmp_path / "c.sbcert"
    options = Options(max_domains=1)
    assert verify(model, prop, options=options, certificate=proof).status is Status.UNSAT
    assert check(proof, {"": model}, None).verdict == "unsat"
    boxed = replace(prop, cases=(replace(prop.cases[0], ball=None),))
    assert verify(model, boxed, options=options).status is not Status.UNSAT


@pytest.mark.parametrize("norm", ["l2", "l1"])
def test_counterexamples_lie_in_the_ball(norm: str) -> None:
    model = Path(__file__).parents[3] / "examples" / "models" / "digits_mlp.onnx"
    x = np.random.default_rng(0).random(64).astype(np.float32)
    label = int(Session(load(model)).run(x)[0].argmax())
    prop = local_robustness(around([float(v) for v in x], "4", norm=norm), label=label, outputs=10)
    report = verify(model, prop, options=Options(max_domains=50))
    ball = prop.cases[0].ball
    assert report.witness is not None
    assert ball is not None
    assert ball.contains(report.witness.x)
