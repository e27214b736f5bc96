"""Combined networks compute what their parts compute, bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from bounds.errors import ModelUnsupported, QueryMismatch
from bounds.io.combine import shifted, side_by_side
from bounds.io.compare import compare_with_onnxruntime
from bounds.io.onnx import load, load_bytes

EXAMPLES = Path(__file__).resolve().parents[3] / "examples" / "models"
DIGITS = [load(EXAMPLES / f"digits_{name}.onnx") for name in ("mlp", "residual")]


def outputs(data: bytes, feeds: dict[str, Any]) -> list[np.ndarray]:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(data, options).run(None, feeds)


def small(
    *, opset: int = 17, name: str = "y", listed: bool = False, inputs: int = 1, kind: int = TensorProto.FLOAT
) -> bytes:
    """``(2 x, x + x2 ...)``; ``listed``: its tensor is listed among the inputs, as old files do."""
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    ports = [helper.make_tensor_value_info(f"x{i}", kind, [1, 2]) for i in range(inputs)]
    nodes = [helper.make_node("Mul", ["x0", "two"], ["m0"], "double")]
    nodes += [helper.make_node("Add", [f"m{i - 1}", f"x{i}"], [f"m{i}"], f"add{i}") for i in range(1, inputs)]
    nodes.append(helper.make_node("Relu", [f"m{inputs - 1}"], [name], "act"))
    two = numpy_helper.from_array(np.full((1, 2), 2, dtype), "two")
    given = [*ports, helper.make_tensor_value_info("two", kind, [1, 2])] if listed else ports
    graph = helper.make_graph(nodes, "g", given, [helper.make_tensor_value_info(name, kind, [1, 2])], [two])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def test_two_networks_on_one_input(rng: np.random.Generator) -> None:
    f, g = DIGITS
    both = side_by_side(f.onnx_bytes, g.onnx_bytes, ("f", "g"))
    onnx.checker.check_model(onnx.load_from_string(both))
    model = load_bytes(both, "both")
    assert (model.graph.input_size, model.graph.output_size) == (64, 20)
    compare_with_onnxruntime(model, seed=0)
    for x in rng.random((20, 1, 64), dtype=np.float32):
        parts = [
            *outputs(f.onnx_bytes, {f.graph.inputs[0].name: x}),
            *outputs(g.onnx_bytes, {g.graph.inputs[0].name: x}),
        ]
        for found, wanted in zip(outputs(both, {"x0": x}), parts, strict=True):
            assert np.array_equal(found, wanted)


@pytest.mark.parametrize("index", [0, 1, 63])
def test_one_network_at_two_points(index: int, rng: np.random.Generator) -> None:
    f = DIGITS[0]
    both = shifted(f.onnx_bytes, index, "f")
    onnx.checker.check_model(onnx.load_from_string(both))
    name = f.graph.inputs[0].name
    for x in rng.random((20, 1, 64), dtype=np.float32):
        t = rng.random(1, dtype=np.float32)
        moved = x.copy()
        moved[0, index] += t[0]
        first, second = outputs(both, {"x": x, "t": t})
        assert np.array_equal(first, outputs(f.onnx_bytes, {name: x})[0])
        assert np.array_equal(second, outputs(f.onnx_bytes, {name: moved})[0])
    assert load_bytes(both, "both").graph.input_size == 65


def test_the_bytes_are_a_function_of_the_parts() -> None:
    a, b = small(), small(name="z")
    assert side_by_side(a, b, ("a", "b")) == side_by_side(bytes(a), bytes(b), ("c", "d"))
    assert side_by_side(a, b, ("a", "b")) != side_by_side(b, a, ("a", "b"))


def test_several_inputs_and_tensors_listed_as_inputs(rng: np.random.Generator) -> None:
    a, b = small(inputs=2, listed=True), small(inputs=2)
    both = side_by_side(a, b, ("a", "b"))
    x, y = rng.standard_normal((2, 1, 2)).astype(np.float32)
    first, second = outputs(both, {"x0": x, "x1": y})
    assert np.array_equal(first, np.maximum(2 * x + y, 0)) and np.array_equal(second, first)


@pytest.mark.parametrize(
    ("other", "error", "words"),
    [
        (small(inputs=2), QueryMismatch, "different inputs"),
        (small(kind=TensorProto.DOUBLE), QueryMismatch, "different inputs"),
        (small(opset=13), ModelUnsupported, "export both with the same opset"),
    ],
)
def test_networks_that_do_not_belong_together(other: bytes, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        side_by_side(small(), other, ("a", "b"))


def test_shifting_needs_one_input() -> None:
    with pytest.raises(QueryMismatch, match="has 2 inputs"):
        shifted(small(inputs=2), 0, "a")
