"""Cases of operators over axes: softmax, normalisation, recurrence, selection, quantisation."""

from __future__ import annotations

import numpy as np
from onnx_case import ALL, IMAGE, NEW, Case, case, f, ints, w

BYTES = {"s": f(0.05), "z": np.array(128, np.uint8)}
CODES = np.random.default_rng(0).integers(0, 256, (3, 2)).astype(np.uint8)

KERNEL = np.random.default_rng(1).integers(0, 256, (2, 2, 2, 2)).astype(np.uint8)
QX = "q = QuantizeLinear(x, s, z)"

APART = {
    "DynamicQuantizeLinear": "always refused, with advice",
    "MeanVarianceNormalization": "onnxruntime leaves out the standard's 1e-9 (seen at tiny inputs)",
}

CASES: dict[str, list[Case]] = {
    "ArgMax": [case("y = ArgMax<axis=1,keepdims=0>(x)", NEW, x=(3, 4), result="int64")],
    "ArgMin": [case("y = ArgMin<axis=1>(x)", NEW, x=(3, 4), result="int64")],
    "Attention": [case("y = Attention(q, k, v)", (23,), q=(1, 2, 3, 4), k=(1, 2, 3, 4), v=(1, 2, 3, 4))],
    "Compress": [case("y = Compress<axis=1>(x, c)", (9, 11), x=(2, 3), c=np.array([True, False, True]))],
    "ConvInteger": [
        case(f"{QX} i = ConvInteger(q, k, z) y = Cast<to=1>(i)", (13,), x=(1, 2, 3, 3),
             k=KERNEL, **BYTES),
    ],
    "CumSum": [case("y = CumSum(x, a)", (11, *NEW), x=(2, 4), a=np.array(1, np.int32))],
    "DequantizeLinear": [
        case("d = DequantizeLinear(c, s, z) y = Add(x, d)", NEW, x=(3, 2), c=CODES, **BYTES),
    ],
    "Einsum": [case('y = Einsum<equation="ij,kj->ik">(x, v)', (12, *NEW), x=(2, 3), v=w(4, 3))],
    "EyeLike": [case("e = EyeLike(x) y = MatMul(x, e)", (9, *NEW), x=(3, 3))],
    "GRU": [
        case("y = GRU<hidden_size=2>(x, k, r)", (14,), x=(3, 1, 2), k=w(1, 6, 2), r=w(1, 6, 2, seed=1)),
    ],
    "GatherElements": [
        case("y = GatherElements<axis=1>(x, i)", (11, *NEW), x=(2, 3), i=np.array([[0, 2], [1, -1]])),
    ],
    "GatherND": [case("y = GatherND(x, i)", (12, *NEW), x=(2, 3), i=np.array([[0, 2], [1, 1]]))],
    "GlobalLpPool": [case("y = GlobalLpPool<p=2>(x)", (7, 18), x=IMAGE)],
    "GroupNormalization": [
        case("y = GroupNormalization<num_groups=2>(x, g, b)", (21,), x=(1, 4, 3, 2), g=w(4), b=w(4, seed=1)),
    ],
    "Hardmax": [case("y = Hardmax<axis=1>(x)", ALL, x=(2, 4))],
    "InstanceNormalization": [
        case("y = InstanceNormalization(x, g, b)", ALL, x=IMAGE, g=w(2), b=w(2, seed=1)),
    ],
    "LRN": [case("y = LRN<size=3>(x)", (7, 13), x=(1, 4, 2, 2))],
    "LSTM": [
        case("y = LSTM<hidden_size=2>(x, k, r)", (14,), x=(3, 1, 2), k=w(1, 8, 2), r=w(1, 8, 2, seed=1)),
    ],
    "LayerNormalization": [
        case("y = LayerNormalization(x, g, b)", (17, 21), x=(2, 4), g=w(4), b=w(4, seed=1)),
    ],
    "LogSoftmax": [case("y = LogSoftmax<axis=1>(x)", ALL, x=(2, 3))],
    "LpNormalization": [case("y = LpNormalization<axis=1>(x)", (7, 18), x=(2, 3))],
    "LpPool": [case("y = LpPool<kernel_shape=[2,2],p=2>(x)", (11, 18), x=IMAGE)],
    "MatMulInteger": [
        case(f"{QX} i = MatMulInteger(q, k, z) y = Cast<to=1>(i)", (13,), x=(2, 3), k=CODES,
             **BYTES),
    ],
    "NonZero": [
        case("n = NonZero(a) y = Gather<axis=1>(x, n)", (9, *NEW), x=(1, 4), a=np.float32([0, 1, 0, 2])),
    ],
    "OneHot": [
        case("i = ArgMax<axis=1,keepdims=0>(x) y = OneHot(i, d, v)", NEW, x=(2, 3), d=ints(3),
             v=np.float32([0, 1])),
    ],
    "QLinearConv": [
        case(f"{QX} c = QLinearConv(q, s, z, k, s, z, s, z) y = DequantizeLinear(c, s, z)",
             (13,), x=(1, 2, 3, 3), k=KERNEL,
             **BYTES),
    ],
    "QLinearMatMul": [
        case(f"{QX} c = QLinearMatMul(q, s, z, k, s, z, t, z) y = DequantizeLinear(c, t, z)",
             (13,), x=(2, 3), k=CODES, t=f(0.0613), **BYTES),
    ],
    "QuantizeLinear": [
        case("q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s, z)", NEW, x=(3, 2), **BYTES),
    ],
    "RMSNormalization": [case("y = RMSNormalization(x, g)", (23,), x=(2, 4), g=w(4))],
    "RNN": [case("y = RNN<hidden_size=2>(x, k, r)", (14,), x=(3, 1, 2), k=w(1, 2, 2), r=w(1, 2, 2, seed=1))],
    "ReduceL1": [case("y = ReduceL1<axes=[1]>(x)", (7, 13), x=(2, 3))],
    "ReduceL2": [case("y = ReduceL2<axes=[1]>(x)", (7, 13), x=(2, 3))],
    "ReduceLogSum": [case("a = Exp(x) y = ReduceLogSum<axes=[1]>(a)", (7, 13), x=(2, 3))],
    "ReduceLogSumExp": [case("y = ReduceLogSumExp<axes=[1]>(x)", (7, 13), x=(2, 3))],
    "ReduceSumSquare": [case("y = ReduceSumSquare<axes=[1]>(x)", (7, 13), x=(2, 3))],
    "ReverseSequence": [case("y = ReverseSequence<batch_axis=1,time_axis=0>(x, n)", (10, *NEW), x=(3, 2),
                             n=ints(2, 3))],
    "Scatter": [case("y = Scatter<axis=1>(x, i, u)", (9,), x=(2, 3), i=np.array([[0, 2]]), u=(1, 2))],
    "ScatterElements": [
        case("y = ScatterElements<axis=1>(x, i, u)", (11, *NEW), x=(2, 3), i=np.array([[0, 2]]), u=(1, 2)),
    ],
    "ScatterND": [case("y = ScatterND(x, i, u)", (11, *NEW), x=(4,), i=np.array([[1], [3]]), u=(2,))],
    "Softmax": [case("y = Softmax<axis=1>(x)", ALL, x=(2, 3))],
    "TopK": [case("y, i = TopK(x, k)", (11, *NEW), x=(2, 5), k=ints(2))],
    "Trilu": [case("y = Trilu(x)", (14, *NEW[1:]), x=(3, 3))],
    "Unique": [case("u = Unique(a) y = Gather(x, u)", (11, *NEW), x=(4,), a=ints(3, 1, 3))],
}  # fmt: skip
