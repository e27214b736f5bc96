"""Every operator of the importer's table against onnxruntime, over several opsets."""

from __future__ import annotations

import numpy as np
import onnx_cases_basic
import onnx_cases_elementwise
import onnx_cases_structured
import pytest
from onnx_case import Case, build

from bounds.evaluate import evaluate, evaluate_nodes
from bounds.io.compare import compare_with_onnxruntime
from bounds.io.onnx import load_bytes
from bounds.io.onnx_ops import BUILDERS
from bounds.io.session import Session

CASES: dict[str, list[Case]] = {}
for table in (onnx_cases_basic, onnx_cases_elementwise, onnx_cases_structured):
    for name, cases in table.CASES.items():
        CASES[name] = CASES.get(name, []) + cases

FLAT = [(op, i, opset) for op, cases in CASES.items() for i, c in enumerate(cases) for opset in c.opsets]


def test_every_operator_has_a_case() -> None:
    assert set(CASES) | set(onnx_cases_structured.APART) == set(BUILDERS)
    assert not set(CASES) & set(onnx_cases_structured.APART)


@pytest.mark.parametrize(("op", "i", "opset"), FLAT, ids=[f"{op}-{i}-opset{o}" for op, i, o in FLAT])
def test_agrees_with_onnxruntime(op: str, i: int, opset: int) -> None:
    model = load_bytes(build(CASES[op][i], opset), "case.onnx")
    compare_with_onnxruntime(model)
    session = Session(model)
    rng = np.random.default_rng(1)
    points = rng.standard_normal((4, model.graph.input_size)).astype(np.float32).astype(np.float64)
    wanted = np.stack([np.concatenate([y.ravel() for y in session.run(x)]) for x in points])
    np.testing.assert_allclose(evaluate(model.graph, points), wanted, rtol=2e-5, atol=2e-5)
    single = evaluate(model.graph, points.astype(np.float32))
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, wanted, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("op", list(CASES))
def test_shapes_and_names(op: str) -> None:
    """Inferred shapes are the shapes of the values, and named nodes carry the model's tensors."""
    c = CASES[op][0]
    model = load_bytes(build(c, c.opsets[-1]), "case.onnx")
    values = evaluate_nodes(model.graph, np.zeros((2, model.graph.input_size)))
    for node, value in zip(model.graph.nodes, values, strict=True):
        assert value.shape == (2, *node.shape)
    shape = Session(model).run(np.zeros(model.graph.input_size))[0].shape
    assert model.graph.outputs[0].shape == shape
    assert "y" in model.tensors or not model.graph.relus
