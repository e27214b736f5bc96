"""The checker's own operator table against onnxruntime, one small model for each entry."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import checker_nets as nets
import numpy as np
import onnx
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


def several(op: str, shape: list[int], *nodes: Any, opset: int = 13, **weights: Any) -> Any:
    """Several nodes on ``x`` and named constants."""
    stored = {n: v for n, v in weights.items() if isinstance(v, np.ndarray | np.generic)}
    return (op, list(nodes), stored, shape, opset)


def chain(op: str, before: str, *nodes: Any, **weights: Any) -> Any:
    """The operator on what another one makes of ``x``."""
    nodes = nodes or (N(before, ["x"], ["h"]), N(op, ["h"], ["y"]))
    return several(op, [2, 3], *nodes, **weights)


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
    one("Cast", [2, 3], to=9),
    one("Cast", [2, 3], to=7),
    one("CastLike", [2, 3], ints(1), opset=15),
    *(one(op, [2, 3]) for op in ("Atan", "Asinh", "Ceil", "Cos", "Cosh", "Elu", "Erf", "Exp", "Floor")),
    *(one(op, [2, 3]) for op in ("HardSigmoid", "Round", "Selu", "Sigmoid", "Sign", "Sin", "Sinh")),
    *(one(op, [2, 3]) for op in ("Softplus", "Softsign", "Tan", "Tanh", "ThresholdedRelu", "Reciprocal")),
    *(one(op, [2, 3], opset=20, approximate=how) for op in ("Gelu",) for how in ("none", "tanh")),
    one("HardSwish", [2, 3], opset=14),
    one("Mish", [2, 3], opset=18),
    one("Celu", [2, 3], alpha=0.7),
    one("Shrink", [2, 3], bias=0.25, lambd=0.3),
    one("Div", [2, 3], w(3), first="c"),
    one("Pow", [2, 3], np.float32(3)),
    one("Pow", [2, 3], np.float32([0, 1, 2])),
    one("Pow", [2, 3], np.float32(1.5), first="c"),
    *(one(op, [2, 3], w(3)) for op in ("Greater", "GreaterOrEqual", "Less", "LessOrEqual")),
    one("ReduceL1", [2, 3, 4], axes=[1]),
    one("ReduceL2", [2, 3, 4], axes=[-1], keepdims=0),
    one("ReduceSumSquare", [2, 3, 4], axes=[0, 2]),
    one("ReduceLogSumExp", [2, 3, 4], axes=[1]),
    one("ReduceLogSumExp", [2, 2], axes=[1]),
    one("ReduceProd", [2, 5], axes=[1]),
    one("CumSum", [2, 5], ints(1), exclusive=1, reverse=1),
    *(one(op, [2, n], axis=-1) for op in ("Softmax", "LogSoftmax", "Hardmax") for n in (1, 2, 4)),
    one("Softmax", [2, 2, 2], opset=11),
    one("ArgMax", [3, 4], axis=1),
    one("ArgMax", [3, 2], axis=1, keepdims=0),
    one("ArgMin", [3, 4], axis=0, select_last_index=1),
    one("LayerNormalization", [2, 3, 4], w(3, 4), w(3, 4), axis=1, opset=17),
    one("GroupNormalization", [2, 4, 3], w(4), w(4), num_groups=2, opset=21),
    one("InstanceNormalization", [2, 3, 4], w(3), w(3)),
    one("MeanVarianceNormalization", [2, 3, 2, 2]),
    one("LpNormalization", [2, 3], p=1),
    one("LpNormalization", [2, 3], p=2, axis=0),
    one("LpPool", [1, 2, 5, 4], kernel_shape=[2, 2], strides=[2, 1], pads=[0, 1, 1, 0]),
    one("GlobalLpPool", [1, 2, 3, 2], p=1),
    one("LRN", [1, 5, 2, 2], size=3, alpha=0.5, beta=0.6),
    one("Einsum", [3, 4], w(4, 5), equation="ij,jk->ki"),
    one("Einsum", [2, 3, 3], equation="bii->bi"),
    one("Einsum", [2, 3], w(4, 3), equation="...i,ji->...j"),
    one("GatherElements", [3, 2], np.array([[2, -1], [0, 1]]), axis=0),
    one("GatherND", [3, 4], np.array([[2, 1], [0, -1]])),
    several("OneHot", [3, 4], N("ArgMax", ["x"], ["i"], axis=1, keepdims=0),
            N("OneHot", ["i", "d", "v"], ["y"], axis=0), d=np.array(4), v=np.float32([0.5, 2])),
    several("OneHot", [3], N("Round", ["x"], ["r"]), N("Cast", ["r"], ["i"], to=7),
            N("OneHot", ["i", "d", "v"], ["y"]), d=np.array(4), v=np.float32([0, 1])),
    *(
        several("TopK", [2, 5], N("TopK", ["x", "k"], ["v", "i"], axis=1, largest=side),
                N("Cast", ["i"], ["j"], to=1), N("Add", ["v", "j"], ["y"]), k=ints(k))
        for side in (0, 1) for k in (1, 3, 5)
    ),
    one("DepthToSpace", [1, 8, 2, 3], blocksize=2),
    one("DepthToSpace", [1, 8, 2, 3], blocksize=2, mode="CRD"),
    one("SpaceToDepth", [1, 2, 4, 6], blocksize=2),
    one("Resize", [1, 1, 2, 3], None, np.float32([1, 1, 2, 2]), coordinate_transformation_mode="asymmetric"),
    one("Resize", [1, 1, 2, 3], None, None, ints(1, 1, 4, 5), mode="linear"),
    one("Resize", [1, 1, 4, 3], None, np.float32([1, 1, 1.5, 2]), mode="cubic"),
    one("Upsample", [1, 1, 2, 3], np.float32([1, 1, 2, 2]), opset=9),
    one("Trilu", [3, 4], np.array(1), opset=14),
    one("Compress", [3, 4], np.array([True, False, True]), axis=0),
    one("ReverseSequence", [4, 3], ints(2, 4, 1), time_axis=0, batch_axis=1),
    one("QuantizeLinear", [2, 3], np.float32(0.05), np.uint8(100)),
    one("QuantizeLinear", [2, 3], np.float32([0.05, 0.1, 0.2]), np.int8([0, 1, -3]), axis=1),
    one("RNN", [4, 2, 3], w(1, 5, 3), w(1, 5, 5), w(1, 10), hidden_size=5),
    one("LSTM", [3, 1, 3], w(2, 8, 3), w(2, 8, 2), w(2, 16), hidden_size=2, direction="bidirectional"),
    one("GRU", [3, 1, 3], w(1, 6, 3), w(1, 6, 2), w(1, 12), hidden_size=2, linear_before_reset=1),
    one("GRU", [3, 1, 3], w(1, 6, 3), w(1, 6, 2), hidden_size=2, direction="reverse"),
    # results in a range where the function is defined come from a first node
    chain("Acos", "Tanh"), chain("Asin", "Tanh"), chain("Atanh", "Tanh"),
    chain("Acosh", "Cosh"), chain("Log", "Exp"), chain("Sqrt", "Exp"), chain("ReduceLogSum", "Exp"),
    chain("Reshape", "Mul", N("Mul", ["x", "x"], ["h"]), N("Reshape", ["h", "c"], ["y"]), c=ints(-1)),
    several("MatMul", [3, 4], N("Transpose", ["x"], ["t"]), N("MatMul", ["x", "t"], ["y"])),
    several("Gemm", [3, 3], N("Gemm", ["x", "x", "x"], ["y"], transA=1, alpha=0.5)),
    several(
        "Conv", [1, 2, 4, 4],
        N("Slice", ["x", "s", "e"], ["k"]), N("Conv", ["x", "k"], ["y"], group=1),
        s=ints(0, 0, 0, 0), e=ints(1, 2, 3, 2),
    ),
    several("Where", [2, 3], N("Less", ["x", "z"], ["c"]), N("Where", ["c", "x", "z"], ["y"]), z=w(3)),
    several(
        "And", [2, 3],
        N("Less", ["x", "z"], ["a"]), N("Greater", ["x", "u"], ["b"]), N("And", ["a", "b"], ["c"]),
        N("Or", ["c", "b"], ["d"]), N("Xor", ["d", "a"], ["e"]), N("Not", ["e"], ["f"]),
        N("And", ["f", "t"], ["g"]), N("Or", ["g", "t"], ["h"]), N("Xor", ["h", "t"], ["i"]),
        N("Where", ["i", "x", "u"], ["y"]),
        z=w(3), u=w(2, 1), t=np.array([True, False, True]),
    ),
    several("Equal", [2, 3], N("Round", ["x"], ["r"]), N("Equal", ["r", "z"], ["b"]),
            N("Cast", ["b"], ["y"], to=1), z=np.float32(0)),
    several("IsNaN", [2, 3], N("Softmax", ["x"], ["s"]), N("IsNaN", ["s"], ["n"]),
            N("Where", ["n", "z", "s"], ["y"]), z=np.float32(0)),
    several("ScatterElements", [3, 3], N("ScatterElements", ["x", "i", "u"], ["y"], axis=0),
            i=np.array([[2, 0, 1]]), u=w(1, 3)),
    *(
        several("ScatterND", [4, 2], N("ScatterND", ["x", "i", "u"], ["y"], reduction=how), opset=18,
                i=np.array([[1], [3], [1]]), u=w(3, 2))
        for how in ("none", "add", "mul", "max", "min")
    ),
    several("DequantizeLinear", [2, 3], N("QuantizeLinear", ["x", "s", "o"], ["q"]),
            N("DequantizeLinear", ["q", "s", "o"], ["y"]), s=np.float32(0.1), o=np.uint8(10)),
    several("Gather", [3], N("ArgMax", ["x"], ["i"], axis=0), N("Gather", ["t", "i"], ["y"]), t=w(3, 2)),
    several("Gather", [3, 2], N("ArgMax", ["x"], ["i"], axis=0, keepdims=0), N("Gather", ["x", "i"], ["y"])),
    several("Softmax", [2, 3], N("Where", ["m", "x", "f"], ["h"]), N("Softmax", ["h"], ["y"]),
            m=np.array([[True, True, False], [True, False, True]]), f=np.float32(-np.inf)),
    several("EyeLike", [3, 3], N("EyeLike", ["x"], ["e"], k=1), N("Add", ["x", "e"], ["y"])),
    several("Max", [4], N("Sigmoid", ["x"], ["s"]), N("Tanh", ["x"], ["t"]), N("Max", ["s", "t"], ["y"])),
    several("Mul", [2, 3], N("ReduceSum", ["x"], ["s"]), N("Mul", ["x", "s"], ["m"]),
            N("Div", ["m", "s"], ["y"])),
    several("Conv", [1, 2, 4, 4, 3], N("Conv", ["x", "k"], ["y"], pads=[1, 0, 1, 0, 1, 0]),
            k=w(3, 2, 2, 3, 2)),
]  # fmt: skip


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
    proto = onnx.ModelProto.FromString(data)
    del proto.graph.output[:]
    proto.graph.output.append(onnx.ValueInfoProto(name="y"))  # of whatever type it is
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    for k in range(3):
        x = np.random.default_rng(k).standard_normal(shape).astype(np.float32)
        y = np.asarray(session.run(None, {"x": x})[0]).reshape(-1).astype(np.float64)
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
    elsewhere = {
        "Shape",
        "Size",
        "Constant",
        "ConstantOfShape",
        "Range",
        "Mod",
        "BitShift",
        "IsInf",
        "Scatter",
    }
    elsewhere |= {
        "Not",
        "Or",
        "Xor",
        "Attention",
        "RMSNormalization",
        "Swish",
    }  # opsets that onnxruntime here does not run
    assert set(TABLE) <= tested | elsewhere


@pytest.mark.parametrize(
    ("nodes", "weights", "error"),
    [
        ([N("Loop", ["x"], ["y"])], {}, ModelUnsupported),
        ([N("Bernoulli", ["x"], ["y"])], {}, ModelUnsupported),
        ([N("Div", ["x", "c"], ["y"])], {"c": np.float32([0])}, ModelInvalid),
        ([N("IsNaN", ["x"], ["n"]), N("Cast", ["n"], ["y"], to=1)], {}, ModelUnsupported),
        (
            [N("Where", ["m", "x", "c"], ["y"])],
            {"m": np.array(False), "c": np.float32(-np.inf)},
            ModelUnsupported,
        ),
        (
            [N("Add", ["x", "c"], ["h"]), N("Relu", ["h"], ["y"])],
            {"c": np.float32(-np.inf)},
            ModelUnsupported,
        ),
        ([N("TopK", ["x", "c"], ["y", "i"], sorted=0)], {"c": ints(2)}, ModelUnsupported),
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


def lists(nodes: list[Any], weights: dict[str, Any], shape: list[int], outputs: int) -> dict[str, Any]:
    network = combine(
        {"": nets.model(nodes, weights, shape)}, nets.make_property(math.prod(shape), outputs, [])
    )
    return {
        key: [(network.nodes[i].names[-1], network.nodes[i].size) for i in network.of(kind)]
        for key, kind in nets.KINDS.items()
    } | {"functions": [[s.fn for s in network.nodes[i].function] for i in network.of(Kind.SCALAR)]}


def test_nodes_are_numbered_as_the_format_says() -> None:
    nodes = [
        N("Clip", ["x", "lo"], ["a"]),
        N("Relu", ["x"], ["dead"]),
        N("Relu", ["a"], ["unused"]),
        N("Concat", ["a"], ["b"], axis=2),
        N("Max", ["b", "v", "b"], ["m"]),
        N("MaxPool", ["m"], ["p"], kernel_shape=[3]),
        N("LeakyRelu", ["p"], ["y"]),
    ]
    weights = {"lo": np.float32(-1), "v": w(5)}
    found = lists(nodes, weights, [1, 1, 5], 3)
    assert found["relus"] == [("a", 5), ("m", 5), ("m", 5), ("p", 3), ("p", 3), ("y", 3)]
    assert found["scalars"] == found["products"] == []


FUSED: list[tuple[str, list[Any], dict[str, Any], list[list[str]]]] = [
    ("silu", [N("Sigmoid", ["x"], ["s"]), N("Mul", ["x", "s"], ["y"])], {}, [["x", "sigmoid", "*"]]),
    ("square", [N("Mul", ["x", "x"], ["y"])], {}, [["x", "pow"]]),
    (
        "affine in front stays",
        [N("Mul", ["x", "two"], ["a"]), N("Add", ["a", "two"], ["b"]), N("Sigmoid", ["b"], ["y"])],
        {"two": np.float32(2)},
        [["x", "sigmoid"]],
    ),
    ("two functions", [N("Sigmoid", ["x"], ["s"]), N("Tanh", ["s"], ["y"])], {}, [["x", "sigmoid", "tanh"]]),
    (
        "a factor behind joins",
        [N("Tanh", ["x"], ["t"]), N("Mul", ["t", "two"], ["y"])],
        {"two": np.float32(2)},
        [["x", "tanh", "const", "*"]],
    ),
    (
        "unless the value is used elsewhere",
        [
            N("Tanh", ["x"], ["t"]), N("Mul", ["t", "v"], ["u"]), N("Mul", ["t", "two"], ["a"]),
            N("Add", ["a", "u"], ["y"]),
        ],
        {"two": np.float32(2), "v": w(3)},
        [["x", "tanh"]],
    ),
    ("one kink", [N("Relu", ["x"], ["y"])], {}, []),
    ("relu squared", [N("Relu", ["x"], ["r"]), N("Mul", ["r", "r"], ["y"])], {}, [["x", "relu", "pow"]]),
    (
        "a reshape in between",
        [
            N("Flatten", ["x"], ["f"], axis=0), N("Sigmoid", ["f"], ["s"]), N("Mul", ["f", "s"], ["m"]),
            N("Tanh", ["m"], ["y"]),
        ],
        {},
        [["x", "sigmoid", "*", "tanh"]],
    ),
]  # fmt: skip


@pytest.mark.parametrize("case", FUSED, ids=lambda c: c[0])
def test_fusion(case: Any) -> None:
    _, nodes, weights, functions = case
    found = lists(nodes, weights, [2, 3], 6)
    assert found["functions"] == functions
    assert found["products"] == []


def test_products_of_unrelated_tensors() -> None:
    nodes = [N("Split", ["x"], ["a", "b"], axis=0), N("Mul", ["a", "b"], ["y"])]
    assert lists(nodes, {}, [2, 3], 3)["products"] == [("y", 3)]
    nodes = [N("Reshape", ["x", "s"], ["f"]), N("Reshape", ["f", "t"], ["z"]), N("Mul", ["x", "z"], ["y"])]
    # fusion does not look through reshapes
    assert lists(nodes, {"s": ints(6), "t": ints(2, 3)}, [2, 3], 6)["products"] == [("y", 6)]


def test_long_functions_are_cut() -> None:
    nodes = [N("Selu", ["x" if k == 0 else f"h{k}"], [f"h{k + 1}"]) for k in range(40)]
    nodes.append(N("Neg", ["h40"], ["y"]))
    found = lists(nodes, {}, [3], 3)["functions"]
    assert 150 < max(len(f) for f in found) <= 200
    assert sum(f.count("exp") for f in found) == 40


def test_weights_of_batch_normalization_carry_an_error() -> None:
    case = next(c for c in MODELS if c[0] == "BatchNormalization")
    network = combine({"": nets.model(case[1], case[2], case[3])}, nets.make_property(120, 120, []))
    assert max(node.error for node in network.nodes) >= 3 * 2.0**-53
