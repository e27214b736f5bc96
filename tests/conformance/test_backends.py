"""Both backends run the same rule to the same bounds, and both are sound."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from backend_graphs import GRAPHS, TORCH_DEVICES, boxes_of, kernels_on, objectives_of

from bounds.evaluate import evaluate as evaluate_graph
from bounds.graph import Graph
from bounds.kernels.base import Kernels
from bounds.kernels.numpy import NumpyKernels
from bounds.methods.bounder import BounderOptions, BoundResult, BoxBounder
from bounds.methods.objective import bound_objectives, compile_objectives, optimise_slopes
from bounds.methods.parameters import tape_parameters
from bounds.methods.rule import Rule, relax_boxes
from bounds.numerics import FLOAT32, FLOAT64, NetworkRounding, Precision
from bounds.plan import compile_plan, evaluate

pytestmark = [
    pytest.mark.parametrize("precision", [FLOAT32, FLOAT64], ids=lambda p: p.name),
    pytest.mark.parametrize("device", TORCH_DEVICES),
]
NAMES = pytest.mark.parametrize("name", GRAPHS)


@pytest.fixture(autouse=True)
def _convolutions_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small convolutions would become matrices."""
    monkeypatch.setattr("bounds.ops.conv.DENSE_LIMIT", 0)


def close(found: Any, expected: Any, precision: Precision) -> None:
    """Equal up to what summing in another order can do."""
    scale = 1.0 + np.abs(expected).max(initial=0.0)
    assert np.abs(found - expected).max(initial=0.0) <= 2000 * precision.u * scale


@NAMES
@pytest.mark.parametrize("forward", [True, False])
@pytest.mark.parametrize("refine", [True, False])
def test_the_rule(name: str, device: str, precision: Precision, forward: bool, refine: bool) -> None:
    graph = GRAPHS[name](1)
    lo, hi = boxes_of(graph, 2)
    rule = Rule(forward=forward, refine=refine, row_bytes=2000)
    ours, theirs = (
        relax_boxes(compile_plan(graph, k), lo, hi, rule)
        for k in (kernels_on(device, precision), NumpyKernels(precision))
    )
    k = ours.kernels
    assert ours.refined_rows == theirs.refined_rows
    for a, b in zip(ours.relus, theirs.relus, strict=True):
        for field in ("lo", "hi", "lower", "upper", "offset", "ambiguous"):
            close(k.numpy(getattr(a, field)) * 1.0, getattr(b, field) * 1.0, precision)
    assert (tape_parameters(ours).slopes == tape_parameters(theirs).slopes).all()
    for slot, (low, high) in ours.outputs.items():
        close(k.numpy(low), theirs.outputs[slot][0], precision)
        close(k.numpy(high), theirs.outputs[slot][1], precision)


@NAMES
@pytest.mark.parametrize("mixed", [False, True])
def test_objectives_and_slopes(name: str, device: str, precision: Precision, mixed: bool) -> None:
    graph = GRAPHS[name](3)
    lo, hi = boxes_of(graph, 4)
    objectives = objectives_of(graph, 5, mixed=mixed)
    picks, boxes = np.array([3, 0, 1, 1]), np.array([0, 1, 1, 2])

    def run(k: Kernels) -> tuple[Any, ...]:
        tape = relax_boxes(compile_plan(graph, k), lo, hi, Rule())
        compiled = compile_objectives(tape.plan, objectives)
        plain = bound_objectives(tape, compiled)
        better = optimise_slopes(tape, compiled, boxes, picks, 5, keep_slopes=True)
        # the same sums in another order: the last bits may differ
        before = k.numpy(plain.lower)[boxes, picks]
        assert (k.numpy(better.lower) >= before - 8 * k.precision.u * abs(before)).all()
        arrays = (plain.lower, plain.a, plain.pad, better.lower, better.a)
        return (*map(k.numpy, arrays), better.parameters.slopes)

    *ours, slopes = run(kernels_on(device, precision))
    *theirs, expected = run(NumpyKernels(precision))
    for a, b in zip(ours, theirs, strict=True):
        close(a, b, precision)
    assert slopes.dtype == np.uint8
    assert (slopes == expected).all()


def results(graph: Graph, k: Kernels, options: BounderOptions) -> BoundResult:
    lo, hi = boxes_of(graph, 7, count=5, radius=0.2)
    bounder = BoxBounder(graph, objectives_of(graph, 8, mixed=True), k.precision, options, kernels=k)
    return bounder.bound(lo, hi, np.ones((5, 2), dtype=bool))


@NAMES
def test_the_bounder(name: str, device: str, precision: Precision) -> None:
    graph = GRAPHS[name](6)
    options = BounderOptions(evidence=True, network=NetworkRounding())
    ours = results(graph, kernels_on(device, precision), options)
    theirs = results(graph, NumpyKernels(precision), options)
    assert (ours.refuted == theirs.refuted).all()
    for field in ("lower", "scores", "guesses"):
        found = getattr(ours, field)
        assert found.dtype == np.float64
        close(found, getattr(theirs, field), precision)
    assert ours.evidence is not None
    assert theirs.evidence is not None
    for field in ("box", "group", "row", "exact"):
        assert (getattr(ours.evidence, field) == getattr(theirs.evidence, field)).all()
    for field in ("parameters", "box_parameters"):
        mine, other = getattr(ours.evidence, field), getattr(theirs.evidence, field)
        assert (mine.slopes == other.slopes).all()


@NAMES
def test_bounds_hold_at_points(
    name: str, device: str, precision: Precision, rng: np.random.Generator
) -> None:
    graph = GRAPHS[name](9)
    k = kernels_on(device, precision)
    lo, hi = boxes_of(graph, 10)
    objectives = objectives_of(graph, 11, mixed=True)
    tape = relax_boxes(compile_plan(graph, k), lo, hi, Rule())
    lower = k.numpy(bound_objectives(tape, compile_objectives(tape.plan, objectives)).lower)
    for box in range(len(lo)):
        share = rng.random((200, graph.input_size))
        share[:100] = share[:100] > 0.5  # corners
        x = lo[box] + share * (hi[box] - lo[box])
        value = evaluate_graph(graph, x) @ objectives.c.T + x @ objectives.g.T + objectives.d
        assert (value >= lower[box] - 1e-9 * np.abs(value)).all()
        y = k.numpy(evaluate(tape.plan, k.array(x)))
        close(y, evaluate_graph(graph, x), precision)
