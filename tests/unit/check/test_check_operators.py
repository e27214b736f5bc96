"""The checker's own operator table against onnxruntime, one small model for each entry."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import checker_nets as nets
import numpy as np
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from bounds.errors import ModelInvalid, ModelUnsupported
from verifier.check.importer import TABLE, combine
from verifier.check.network import Kind

N = helper.make_node
W = np.random.default_rng(3)


def w(*shape: int) -> np.ndarray:
    return W.standard_normal(shape).astype(np.float32)


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def one(
    op: str, shape: list[int], *weights: Any, first: str = "x", opset: int = 13, **attributes: Any
) -> Any:
    """One node on ``x`` and constants."""
    names = [f"c{k}" for k in range(len(weights))]
    inputs = [first, *names] if first == "x" else [*names, "x"]
    stored = {n: v for n, v in zip(names, weights, strict=True) if v is not None}
    inputs = [n if n == "x" or n in stored else "" for n in inputs]
    return (op, [N(op, inputs, ["y"], **attributes)], stored, shape, opset)


IMAGE = [1, 4, 5, 6]
MODELS = [
    one("Gemm", [3, 4], w(5, 4), w(5), transB=1, alpha=0.5, beta=2.0),
    one("Gemm", [4, 3], w(4, 5), w(3, 1), transA=1),
    one("MatMul", [2, 3, 4], w(4, 5)),
    one("MatMul", [2, 3, 4], w(2, 4, 5)),
    one("MatMul", [3, 4], w(2, 4, 5)),
    one("MatMul", [4, 5], w(3, 4), first="c"),
    one("MatMul", [2, 4, 5], w(2, 3, 4), first="c"),
    one("MatMul", [4, 5], w(4), first="c"),
    one("MatMul", [3, 4], w(4)),
    one("MatMul", [4], w(4, 2)),
    *(one(op, [2, 3], w(3) + 3) for op in ("Add", "Sub", "Mul", "Div")),
    *(one(op, [2, 3], w(4, 1, 3) + 3, first="c") for op in ("Add", "Sub", "Mul")),
    one("Sum", [2, 3], w(3), w(2, 1)),
    one("Mean", [2, 3], w(3), w(2, 1)),
    one("Neg", [2, 3]),
    one("Conv", [2, 3, 7, 6], w(4, 3, 3, 2), w(4), strides=[2, 1], pads=[1, 0, 2, 1], dilations=[2, 2]),
    one("Conv", IMAGE, w(6, 2, 3, 3), group=2, auto_pad="SAME_UPPER", strides=[2, 2]),
    one("Conv", IMAGE, w(4, 1, 2, 2), w(4), group=4, auto_pad="SAME_LOWER"),
    one("Conv", [1, 2, 9], w(3, 2, 4), w(3), auto_pad="VALID"),
    one(
        "ConvTranspose",
        [1, 4, 3, 4],
        w(4, 2, 3, 3),
        w(2),
        strides=[2, 2],
        pads=[1, 0, 1, 1],
        output_padding=[1, 0],
    ),
    one("ConvTranspose", [2, 4, 3, 4], w(4, 2, 3, 2), group=2, dilations=[2, 1]),
    one("ConvTranspose", [1, 2, 5], w(2, 3, 3), auto_pad="SAME_UPPER", strides=[2]),
    one("BatchNormalization", IMAGE, w(4), w(4), w(4), np.abs(w(4)) + 0.1, epsilon=0.01),
    one("AveragePool", IMAGE, kernel_shape=[3, 2], strides=[2, 2], pads=[1, 0, 1, 1]),
    one("AveragePool", IMAGE, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], count_include_pad=1),
    one("AveragePool", IMAGE, kernel_shape=[2, 2], strides=[3, 3], ceil_mode=1),
    one("GlobalAveragePool", IMAGE),
    one("MaxPool", IMAGE, kernel_shape=[3, 2], strides=[2, 2], pads=[1, 0, 1, 1]),
    one("MaxPool", IMAGE, kernel_shape=[2, 2], strides=[3, 3], ceil_mode=1),
    one("MaxPool", [1, 2, 9], kernel_shape=[3], dilations=[2]),
    one("GlobalMaxPool", IMAGE),
    one("Relu", [2, 3]),
    one("LeakyRelu", [2, 3], alpha=0.1),
    one("LeakyRelu", [2, 3]),
    one("PRelu", [2, 3, 2], w(3, 1)),
    one("Clip", [2, 5], np.float32(-0.5), np.float32(0.25)),
    one("Clip", [2, 5], np.float32(0.25)),
    one("Clip", [2, 5], None, np.float32(0.25)),
    one("Clip", [2, 5], opset=7, min=-0.5, max=0.5),
    one("Abs", [2, 3]),
    one("Max", [2, 3], w(3), w(2, 1)),
    one("Min", [2, 3], w(3), w(2, 1)),
    one("Max", [2, 3], w(3), w(2, 1), first="c"),
    one("Flatten", [2, 3, 2], axis=2),
    one("Reshape", [2, 3, 2], ints(0, -1)),
    one("Transpose", [2, 3, 2], perm=[2, 0, 1]),
    one("Squeeze", [2, 1, 3], ints(1)),
    one("Squeeze", [1, 3, 1], opset=11),
    one("Unsqueeze", [2, 3], ints(0, 2)),
    one("Concat", [2, 3], w(2, 2), axis=-1),
    one("Split", [5, 2], axis=0, opset=11, split=[5]),
    one("Slice", [5, 6], ints(-1, 1), ints(-100, 5), ints(0, 1), ints(-2, 3)),
    one("Gather", [3, 4], ints(2, -1), axis=1),
    one("Pad", [2, 3], ints(0, 1, 2, 0), np.float32(1.5)),
    one("Pad", [3, 4], ints(1, 1, 1, 2), mode="reflect"),
    one("Pad", [3, 4], ints(0, -1, 0, 2)),
    one("Expand", [2, 1, 3], ints(2, 4, 1)),
    one("Tile", [2, 3], ints(2, 1)),
    one("ReduceSum", [2, 3, 4], ints(1), keepdims=0),
    one("ReduceMean", [2, 3, 4], axes=[-1, 0]),
    one("ReduceMax", [2, 3, 4], axes=[1], keepdims=0),
    one("ReduceMin", [2, 3, 4], axes=[2]),
    one("Identity", [2, 3]),
    one("Dropout", [2, 3]),
    one("Cast", [2, 3], to=1),
]


def evaluate(data: bytes, x: np.ndarray, outputs: int) -> np.ndarray:
    network = combine({"": data}, nets.make_property(x.size, outputs, []))
    values: list[np.ndarray] = [x.reshape(-1).astype(np.float64)]
    for node in network.nodes[1:]:
        if node.kind is not Kind.AFFINE:
            values.append(nets.of_floats(node, *(values[k] for k in node.operands)))
            continue
        total = np.zeros(node.size) if node.bias is None else node.bias
        for source, chain in node.terms:
            part = values[source]
            for m in chain:
                part = m.forward(part)
            total = total + part
        values.append(total)
    return values[network.output]


def compare(nodes: list[Any], weights: dict[str, Any], shape: list[int], opset: int = 13) -> None:
    data = nets.model(nodes, weights, shape, opset=opset)
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    for k in range(3):
        x = np.random.default_rng(k).standard_normal(shape).astype(np.float32)
        y = session.run(None, {"x": x})[0].reshape(-1).astype(np.float64)
        np.testing.assert_allclose(evaluate(data, x, y.size), y, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("case", MODELS, ids=lambda c: f"{c[0]}-{'x'.join(map(str, c[3]))}")
def test_operator_agrees_with_onnxruntime(case: Any) -> None:
    _, nodes, weights, shape, opset = case
    compare(nodes, weights, shape, opset)


def test_shape_arithmetic_folds_away() -> None:
    nodes = [
        N("Shape", ["x"], ["s"]),
        N("Gather", ["s", "zero"], ["n"]),
        N("Constant", [], ["six"], value=numpy_helper.from_array(ints(6))),
        N("Mul", ["n", "three"], ["m"]),
        N("Div", ["m", "n"], ["q"]),
        N("Cast", ["q"], ["r"], to=7),
        N("Add", ["q", "r"], ["t"]),
        N("Concat", ["n", "t"], ["shape"], axis=0),
        N("Reshape", ["x", "shape"], ["v"]),
        N("ConstantOfShape", ["shape"], ["o"], value=numpy_helper.from_array(np.array([2], np.float32))),
        N("Add", ["v", "o"], ["y"]),
    ]
    compare(nodes, {"zero": ints(0), "three": ints(3)}, [2, 3, 2])


def test_several_outputs_of_split_and_constant_floats() -> None:
    nodes = [
        N("Split", ["x", "sizes"], ["a", "b"], axis=1),
        N("Sub", ["one", "two"], ["c"]),
        N("Div", ["c", "two"], ["d"]),
        N("Mul", ["b", "d"], ["e"]),
        N("Concat", ["e", "a"], ["y"], axis=1),
    ]
    weights = {"sizes": ints(1, 3), "one": np.float32([0.1]), "two": np.float32([0.7])}
    compare(nodes, weights, [2, 4])


def test_every_entry_of_the_table_is_tested() -> None:
    tested = {case[0] for case in MODELS}
    elsewhere = {"Shape", "Size", "Constant", "ConstantOfShape"}
    assert set(TABLE) <= tested | elsewhere


@pytest.mark.parametrize(
    ("nodes", "weights", "error"),
    [
        ([N("Sigmoid", ["x"], ["y"])], {}, ModelUnsupported),
        ([N("Mul", ["x", "x"], ["y"])], {}, ModelUnsupported),
        ([N("Div", ["x", "c"], ["y"])], {"c": np.float32([0])}, ModelUnsupported),
        ([N("Add", ["x", "missing"], ["y"])], {}, ModelInvalid),
        ([N("Add", ["x", "c"], ["y"])], {"c": np.float32([np.nan])}, ModelInvalid),
        ([N("MatMul", ["x", "c"], ["y"])], {"c": np.ones((7, 2), np.float32)}, ModelInvalid),
        ([N("Cast", ["x"], ["y"], to=10)], {}, ModelUnsupported),
        ([N("Relu", ["x"], ["y"], domain="other")], {}, ModelUnsupported),
        ([N("Reshape", ["x", "c"], ["y"])], {"c": ints(5, 5)}, ModelInvalid),
        ([N("Conv", ["x", "c"], ["y"])], {"c": np.ones((1, 1, 9), np.float32)}, ModelInvalid),
    ],
    ids=lambda v: v[0].op_type if isinstance(v, list) else "",
)
def test_what_is_not_understood_is_refused(nodes: Any, weights: Any, error: Callable[..., Exception]) -> None:
    with pytest.raises(error):  # pyright: ignore
        combine({"": nets.model(nodes, weights, [1, 2, 3])}, nets.make_property(6, 6, []))


def test_rectifiers_are_numbered_as_the_format_says() -> None:
    nodes = [
        N("Clip", ["x", "lo", "hi"], ["a"]),
        N("Relu", ["x"], ["dead"]),
        N("Relu", ["a"], ["unused"]),
        N("Max", ["a", "x", "a"], ["m"]),
        N("MaxPool", ["m"], ["p"], kernel_shape=[3]),
        N("LeakyRelu", ["p"], ["y"]),
    ]
    data = nets.model(nodes, {"lo": np.float32(-1), "hi": np.float32(1)}, [1, 1, 5])
    network = combine({"": data}, nets.make_property(5, 3, []))
    found = [(network.nodes[i].names[1], network.nodes[i].size) for i in network.of(Kind.RELU)]
    assert found == [("a", 5), ("a", 5), ("m", 5), ("m", 5), ("p", 3), ("p", 3), ("y", 3)]


def test_weights_of_batch_normalization_carry_an_error() -> None:
    case = next(c for c in MODELS if c[0] == "BatchNormalization")
    network = combine({"": nets.model(case[1], case[2], case[3])}, nets.make_property(120, 120, []))
    assert max(node.error for node in network.nodes) >= 3 * 2.0**-53
