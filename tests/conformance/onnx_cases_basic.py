"""Cases of linear, piecewise linear and shape operators."""

from __future__ import annotations

import numpy as np
from onnx_case import ALL, IMAGE, NEW, Case, case, f, ints, w

CASES: dict[str, list[Case]] = {
    "Abs": [case("y = Abs(x)", ALL), case("c = Abs(a) y = Add(x, c)", ALL, x=(4,), a=w(4))],
    "Add": [
        case("y = Add(x, c)", ALL, x=(2, 3), c=w(3)),
        case("y = Add(c, x)", ALL, x=(3,), c=w(2, 3)),
        case("y = Add(x, z)", ALL, x=(2, 1, 3), z=(4, 1)),
        case("y = Add(x, x)", ALL, x=()),
        case("d = Add(a, b) y = Mul(x, d)", ALL, x=(3,), a=w(3), b=w(3, seed=1)),
        case(
            "p = Add(a, b) d = Add(p, c) y = Add(x, d)", ALL, x=(3,), a=w(3), b=w(3, seed=1), c=w(3, seed=2)
        ),
        case("y = Add(x, c)", dtype="float64", x=(3,), c=w(3).astype(np.float64)),
    ],
    "And": [
        case("a = Less(p, q) b = Not(a) c = And(a, b) y = Where(c, x, z)", x=(3,), z=(3,), p=w(3), q=f(0.0))
    ],
    "AveragePool": [
        case("y = AveragePool<kernel_shape=[2,3]>(x)", ALL, x=IMAGE),
        case("y = AveragePool<kernel_shape=[2,2],strides=[2,2],pads=[1,1,0,1]>(x)", ALL, x=IMAGE),
        case("y = AveragePool<kernel_shape=[3,3],pads=[1,1,1,1],count_include_pad=1>(x)", ALL, x=IMAGE),
        case("y = AveragePool<kernel_shape=[2,2],strides=[2,2],ceil_mode=1>(x)", (11, 21), x=IMAGE),
        case('y = AveragePool<kernel_shape=[3,3],strides=[2,2],auto_pad="SAME_UPPER">(x)', ALL, x=IMAGE),
        case("y = AveragePool<kernel_shape=[2],strides=[2]>(x)", ALL, x=(1, 2, 7)),
    ],
    "BatchNormalization": [
        case(
            "y = BatchNormalization(x, s, b, m, v)",
            (9, 13, 15, 21),
            x=IMAGE,
            s=w(2),
            b=w(2),
            m=w(2),
            v=abs(w(2)),
        ),
        case(
            "y = BatchNormalization<epsilon=0.1>(x, s, b, m, v)",
            (9, 15),
            x=(1, 3),
            s=w(3),
            b=w(3),
            m=w(3),
            v=abs(w(3)),
        ),
    ],
    "Cast": [
        case("y = Cast<to=1>(x)", ALL),
        case("i = Cast<to=7>(r) y = Reshape(x, i)", ALL, x=(1, 6), r=np.array([2.0, 3.0], np.float32)),
        case("c = Cast<to=1>(d) y = Add(x, c)", ALL, x=(2,), d=np.array([0.1, 0.3])),
    ],
    "Ceil": [case("c = Ceil(a) y = Add(x, c)", x=(4,), a=w(4))],
    "Clip": [
        case("y = Clip<min=-0.5,max=0.25>(x)", (7, 9)),
        case("y = Clip<min=0.0>(x)", (7, 9)),
        case("y = Clip<max=0.5>(x)", (7, 9)),
        case("y = Clip(x)", (7, 9, *NEW)),
        case("y = Clip(x, lo, hi)", (11, *NEW), lo=f(0.0), hi=f(6.0)),
        case("y = Clip(x, lo)", (11, *NEW), lo=f(-0.5)),
        case("y = Clip(x, , hi)", (11, *NEW), hi=f(0.5)),
    ],
    "Concat": [
        case("y = Concat<axis=1>(x, z, c)", ALL, x=(1, 2), z=(1, 3), c=w(1, 2)),
        case("y = Concat<axis=-1>(x, z)", (11, *NEW), x=(2, 2), z=(2, 1)),
    ],
    "Constant": [
        case("c = Constant<value = float[2] {1.5, 2.5}>() y = Add(x, c)", ALL, x=(2,)),
        case("c = Constant<value_floats = [1.5, 2.5]>() y = Add(x, c)", NEW, x=(2,)),
        case("c = Constant<value_ints = [2, 1]>() y = Reshape(x, c)", NEW, x=(2,)),
    ],
    "ConstantOfShape": [
        case("c = ConstantOfShape<value = float[1] {2.5}>(s) y = Add(x, c)", (9, *NEW), x=(2,), s=ints(3, 2)),
        case("c = ConstantOfShape(s) y = Add(x, c)", (9, *NEW), x=(2,), s=ints(2)),
    ],
    "Conv": [
        case("y = Conv(x, k, b)", ALL, x=IMAGE, k=w(3, 2, 3, 2), b=w(3)),
        case("y = Conv<strides=[2,1],pads=[1,0,2,1],dilations=[1,2]>(x, k)", ALL, x=IMAGE, k=w(3, 2, 2, 2)),
        case("y = Conv<group=2>(x, k, b)", ALL, x=IMAGE, k=w(4, 1, 3, 3), b=w(4)),
        case('y = Conv<auto_pad="SAME_UPPER",strides=[2,2]>(x, k)', ALL, x=IMAGE, k=w(2, 2, 3, 2)),
        case('y = Conv<auto_pad="SAME_LOWER">(x, k)', ALL, x=IMAGE, k=w(2, 2, 2, 2)),
        case("y = Conv<pads=[1,0],strides=[2]>(x, k, b)", ALL, x=(2, 2, 7), k=w(3, 2, 3), b=w(3)),
    ],
    "ConvTranspose": [
        case("y = ConvTranspose(x, k, b)", ALL, x=IMAGE, k=w(2, 3, 3, 2), b=w(3)),
        case(
            "y = ConvTranspose<strides=[2,3],pads=[1,0,1,2],output_padding=[1,1],dilations=[1,2]>(x, k)",
            ALL,
            x=IMAGE,
            k=w(2, 3, 3, 2),
        ),
        case("y = ConvTranspose<group=2,strides=[2,2]>(x, k, b)", ALL, x=IMAGE, k=w(2, 2, 2, 2), b=w(4)),
        case("y = ConvTranspose<strides=[2,2],output_shape=[11,12]>(x, k)", ALL, x=IMAGE, k=w(2, 1, 4, 4)),
        case('y = ConvTranspose<strides=[2,2],auto_pad="SAME_UPPER">(x, k)', ALL, x=IMAGE, k=w(2, 1, 3, 3)),
        case("y = ConvTranspose<strides=[2]>(x, k)", ALL, x=(1, 2, 5), k=w(2, 3, 3)),
    ],
    "DepthToSpace": [
        case("y = DepthToSpace<blocksize=2>(x)", (7, 11, 13), x=(1, 8, 2, 3)),
        case('y = DepthToSpace<blocksize=2,mode="CRD">(x)', (11, 13), x=(1, 8, 2, 3)),
    ],
    "Div": [
        case("y = Div(x, c)", ALL, x=(3,), c=w(3)),
        case("d = Div(a, c) y = Mul(x, d)", ALL, x=(3,), a=w(3), c=w(3, seed=1)),
        case("s = Shape(x) h = Div(s, t) y = Reshape(x, h)", ALL, x=(4, 2), t=ints(2, -2)),
    ],
    "Dropout": [case("y = Dropout(x)", ALL)],
    "Equal": [case("c = Equal(p, q) y = Where(c, x, z)", x=(3,), z=(3,), p=ints(1, 2, 3), q=ints(2))],
    "Expand": [
        case("y = Expand(x, s)", (9, *NEW), x=(2, 1), s=ints(3, 1, 4)),
        case("c = Expand(a, s) y = Add(x, c)", (9, *NEW), x=(2,), a=w(1), s=ints(3, 2)),
    ],
    "Flatten": [
        case("y = Flatten(x)", ALL, x=IMAGE),
        case("y = Flatten<axis=-1>(x)", (11, *NEW), x=(2, 3, 4)),
    ],
    "Floor": [case("c = Floor(a) y = Add(x, c)", x=(4,), a=w(4))],
    "Gather": [
        case("y = Gather<axis=1>(x, i)", (7, 11, *NEW), x=(2, 3), i=np.array([[0, 2], [1, 1]])),
        case("y = Gather(x, i)", (11, *NEW), x=(3, 2), i=np.array(-1)),
    ],
    "Gemm": [
        case("y = Gemm<transB=1>(x, k, b)", ALL, x=(1, 4), k=w(3, 4), b=w(3)),
        case("y = Gemm<alpha=0.3,beta=0.7>(x, k, b)", ALL, x=(2, 4), k=w(4, 3), b=w(2, 3)),
        case("y = Gemm<transA=1,beta=0.5>(x, k, b)", ALL, x=(4, 2), k=w(4, 3), b=w(1, 3)),
        case("y = Gemm<transA=1>(k, x, b)", ALL, x=(4, 2), k=w(4, 3), b=w(3, 1)),
        case("y = Gemm(x, k, z)", ALL, x=(2, 4), k=w(4, 3), z=(3,)),
        case("y = Gemm(x, k)", (11, *NEW), x=(2, 4), k=w(4, 3)),
    ],
    "GlobalAveragePool": [
        case("y = GlobalAveragePool(x)", ALL, x=IMAGE),
        case("y = GlobalAveragePool(x)", x=(1, 2, 5)),
    ],
    "GlobalMaxPool": [case("y = GlobalMaxPool(x)", ALL, x=IMAGE)],
    "Greater": [case("c = Greater(p, q) y = Where(c, x, z)", x=(3,), z=(3,), p=w(3), q=f(0.0))],
    "GreaterOrEqual": [case("c = GreaterOrEqual(p, q) y = Where(c, x, z)", x=(3,), z=(3,), p=w(3), q=f(0.0))],
    "HardSigmoid": [case("y = HardSigmoid(x)", ALL), case("y = HardSigmoid<alpha=0.5,beta=0.25>(x)", ALL)],
    "Identity": [case("z = Identity(x) y = Relu(z)", ALL)],
    "LeakyRelu": [case("y = LeakyRelu(x)", ALL), case("y = LeakyRelu<alpha=1.5>(x)", ALL)],
    "Less": [case("c = Less(p, q) y = Where(c, x, z)", x=(3,), z=(3,), p=w(3), q=f(0.0))],
    "LessOrEqual": [case("c = LessOrEqual(p, q) y = Where(c, x, z)", x=(3,), z=(1,), p=w(3), q=f(0.0))],
    "MatMul": [
        case("y = MatMul(x, k)", ALL, x=(1, 4), k=w(4, 3)),
        case("y = MatMul(x, k)", ALL, x=(4,), k=w(4, 3)),
        case("y = MatMul(x, k)", ALL, x=(2, 4), k=w(4)),
        case("y = MatMul(k, x)", ALL, x=(4, 2), k=w(3, 4)),
        case("y = MatMul(k, x)", ALL, x=(4,), k=w(2, 3, 4)),
        case("y = MatMul(k, x)", ALL, x=(2, 4, 3), k=w(4)),
        case("y = MatMul(k, x)", ALL, x=(4,), k=w(4)),
        case("y = MatMul(x, k)", ALL, x=(2, 3, 4), k=w(2, 4, 2)),
        case("y = MatMul(x, k)", ALL, x=(3, 4), k=w(2, 1, 4, 2)),
        case("y = MatMul(x, k)", ALL, x=(4,), k=w(2, 4, 2)),
        case("y = MatMul(x, k)", ALL, x=(3, 4), k=w(1, 4, 2)),
        case("y = MatMul(k, x)", ALL, x=(2, 4, 3), k=w(2, 2, 4)),
        case("c = MatMul(a, k) y = Add(x, c)", ALL, x=(1, 2), a=w(2, 3), k=w(3, 2)),
    ],
    "Max": [
        case("y = Max(x, z, c)", (8, 11, *NEW), x=(2, 3), z=(1, 3), c=w(3)),
        case("y = Max(c, x, d)", (8, 11, *NEW), x=(2, 3), c=w(3), d=w(2, 3)),
    ],
    "MaxPool": [
        case("y = MaxPool<kernel_shape=[2,2],strides=[2,2]>(x)", ALL, x=IMAGE),
        case("y = MaxPool<kernel_shape=[3,2],pads=[1,1,1,0]>(x)", ALL, x=IMAGE),
        case(
            "y = MaxPool<kernel_shape=[3,3],strides=[2,2],ceil_mode=1,dilations=[1,2]>(x)",
            (11, *NEW),
            x=IMAGE,
        ),
        case('y = MaxPool<kernel_shape=[2,2],strides=[2,2],auto_pad="SAME_LOWER">(x)', ALL, x=IMAGE),
        case("y = MaxPool<kernel_shape=[3],strides=[2],pads=[1,1]>(x)", ALL, x=(2, 2, 7)),
        case("y = MaxPool<kernel_shape=[2,2,2]>(x)", ALL, x=(1, 1, 2, 3, 3)),
    ],
    "Mean": [case("y = Mean(x, z, c)", (8, *NEW), x=(2, 3), z=(3,), c=w(3)), case("y = Mean(x)", (8, *NEW))],
    "Min": [
        case("y = Min(x, z, c)", (8, 11, *NEW), x=(2, 3), z=(1, 3), c=w(3)),
        case("y = Min(c, x, d)", (8, 11, *NEW), x=(2, 3), c=w(3), d=w(2, 3)),
    ],
    "Mul": [
        case("y = Mul(x, c)", ALL, x=(2, 3), c=w(3)),
        case("y = Mul(c, x)", ALL, x=(3, 1), c=w(1, 3)),
        case("d = Mul(a, b) y = Add(x, d)", ALL, x=(3,), a=w(3), b=w(3, seed=1)),
    ],
    "Neg": [case("y = Neg(x)", ALL), case("c = Neg(a) y = Add(x, c)", ALL, x=(2,), a=w(2))],
    "Not": [
        case("a = Equal(p, q) c = Not(a) y = Where(c, x, d)", x=(3,), d=w(3), p=ints(1, 2, 3), q=ints(2))
    ],
    "Or": [
        case("a = Less(p, q) b = Not(a) c = Or(a, b) y = Where(c, d, x)", x=(3,), d=w(3), p=w(3), q=f(0.0))
    ],
    "PRelu": [
        case("y = PRelu(x, s)", (7, 9, *NEW), x=IMAGE, s=w(2, 1, 1)),
        case("y = PRelu(x, s)", x=(1, 3), s=w(1)),
    ],
    "Pad": [
        case("y = Pad<pads=[0,0,1,2,0,0,0,1],value=1.5>(x)", (7, 9), x=IMAGE),
        case('y = Pad<mode="reflect",pads=[0,0,1,2,0,0,0,1]>(x)', (7, 9), x=IMAGE),
        case("y = Pad(x, p, v)", (11, *NEW), x=(2, 3), p=ints(1, -1, 0, 2), v=f(0.5)),
        case('y = Pad<mode="edge">(x, p)', (11, *NEW), x=(2, 3), p=ints(1, 2, 0, 2)),
        case('y = Pad<mode="reflect">(x, p)', (11, *NEW), x=(2, 3), p=ints(0, 2, 0, 1)),
        case("y = Pad(x, p, , a)", (18, 21), x=(2, 3), p=ints(1, 2), a=ints(-1)),
        case('y = Pad<mode="wrap">(x, p)', (19, 21), x=(2, 3), p=ints(1, 2, 0, 1)),
    ],
    "Range": [
        case(
            "i = Range(a, b, s) y = Gather<axis=1>(x, i)",
            x=(1, 6),
            a=np.array(5),
            b=np.array(0),
            s=np.array(-2),
        )
    ],
    "ReduceMax": [
        case("y = ReduceMax<axes=[1],keepdims=0>(x)", (7, 11, 13), x=(2, 3, 2)),
        case("y = ReduceMax(x, a)", (18, 21), x=(2, 3, 2), a=ints(0, -1)),
        case("y = ReduceMax(x)", ALL, x=(5,)),
    ],
    "ReduceMean": [
        case("y = ReduceMean<axes=[1]>(x)", (7, 11, 13), x=(2, 3, 2)),
        case("y = ReduceMean<keepdims=0>(x, a)", (18, 21), x=(2, 3, 2), a=ints(0, 2)),
    ],
    "ReduceMin": [case("y = ReduceMin<axes=[2],keepdims=1>(x)", (7, 11, 13), x=(2, 2, 3))],
    "ReduceProd": [
        case("s = Shape(x) n = ReduceProd<keepdims=1>(s) y = Reshape(x, n)", ALL, x=(2, 3)),
    ],
    "ReduceSum": [
        case("y = ReduceSum<axes=[1],keepdims=0>(x)", (7, 11), x=(2, 3, 2)),
        case("y = ReduceSum(x, a)", x=(2, 3, 2), a=ints(0, -1)),
        case("y = ReduceSum<noop_with_empty_axes=1>(x)", x=(2, 3)),
        case("y = ReduceSum(x)", ALL, x=(2, 3)),
        case("c = ReduceSum(a) y = Add(x, c)", ALL, x=(1, 3), a=w(4)),
    ],
    "Relu": [
        case("y = Relu(x)", ALL),
        case("c = Relu(a) y = Add(x, c)", ALL, x=(3,), a=w(3)),
        case("y = Relu(x)", x=()),
    ],
    "Reshape": [
        case("y = Reshape(x, s)", ALL, x=(2, 3, 4), s=ints(0, -1)),
        case("y = Reshape<allowzero=1>(x, s)", (18, 21), x=(2, 3), s=ints(3, 2)),
    ],
    "Resize": [
        case("y = Resize(x, s)", (10,), x=(1, 1, 2, 3), s=np.array([1, 1, 2, 1.5], np.float32)),
        case(
            "y = Resize(x, r, s)", (11, 13, 18), x=(1, 1, 2, 3), r=w(0), s=np.array([1, 1, 2, 3], np.float32)
        ),
        case("y = Resize(x, , , s)", (13, 18), x=(1, 1, 2, 3), s=ints(1, 1, 5, 4)),
        case(
            'y = Resize<coordinate_transformation_mode="asymmetric",nearest_mode="floor">(x, , s)',
            (13, 18),
            x=(1, 1, 3, 3),
            s=np.array([1, 1, 2.5, 0.7], np.float32),
        ),
        case(
            'y = Resize<coordinate_transformation_mode="align_corners",nearest_mode="ceil">(x, , s)',
            (13, 18),
            x=(1, 1, 3, 3),
            s=np.array([1, 1, 2, 2], np.float32),
        ),
    ],
    "Shape": [
        case(
            "s = Shape(x) i = Constant<value = int64[1] {0}>() b = Gather(s, i) y = Expand(z, b)",
            x=(3, 1),
            z=(1,),
        ),
        case("s = Shape<start=1>(x) y = Expand(z, s)", (15, 21), x=(3, 2), z=(1,)),
    ],
    "Size": [case("n = Size(x) m = Unsqueeze(n, a) y = Reshape(x, m)", x=(2, 3), a=ints(0))],
    "Slice": [
        case("y = Slice<starts=[1,0],ends=[3,-1],axes=[0,1]>(x)", (7, 9), x=(4, 3)),
        case(
            "y = Slice(x, s, e, a, t)",
            (11, *NEW),
            x=(4, 5),
            s=ints(-1, 0),
            e=ints(-9, 99),
            a=ints(1, 0),
            t=ints(-2, 3),
        ),
        case("y = Slice(x, s, e)", (11, *NEW), x=(4, 5), s=ints(1), e=ints(2)),
        case("y = Slice(x, s, e, a, t)", (11, *NEW), x=(6,), s=ints(99), e=ints(-4), a=ints(-1), t=ints(-1)),
    ],
    "SpaceToDepth": [case("y = SpaceToDepth<blocksize=2>(x)", (7, 13), x=(1, 2, 4, 6))],
    "Split": [
        case("a, b = Split<axis=1,split=[1,2]>(x) y = Concat<axis=1>(b, a)", (7, 11), x=(2, 3)),
        case("a, b = Split<axis=-1>(x, s) y = Concat<axis=1>(b, a)", (13, 18), x=(2, 3), s=ints(1, 2)),
        case("a, b = Split(x) y = Sub(a, b)", (7, 11, 13), x=(4,)),
        case("a, y = Split<num_outputs=2>(x)", (18, 21), x=(5,)),
    ],
    "Sqrt": [case("c = Sqrt(a) y = Mul(x, c)", ALL, x=(3,), a=abs(w(3)))],
    "Squeeze": [
        case("y = Squeeze(x)", ALL, x=(1, 3, 1)),
        case("y = Squeeze<axes=[0]>(x)", (7, 11), x=(1, 3, 1)),
        case("y = Squeeze(x, a)", x=(1, 3, 1), a=ints(-1)),
    ],
    "Sub": [
        case("y = Sub(x, c)", ALL, x=(1, 1, 1, 5), c=w(1, 1, 1, 5)),
        case("y = Sub(c, x)", ALL, x=(2, 3), c=w(3)),
        case("y = Sub(x, z)", ALL, x=(2, 3), z=(1,)),
        case("d = Sub(a, c) y = Mul(x, d)", ALL, x=(3,), a=w(3), c=w(3, seed=1)),
    ],
    "Sum": [case("y = Sum(x, z, c)", (8, *NEW), x=(2, 3), z=(3,), c=w(1))],
    "Tile": [case("y = Tile(x, r)", ALL, x=(2, 3), r=ints(2, 1))],
    "Transpose": [
        case("y = Transpose<perm=[2,0,1]>(x)", ALL, x=(2, 3, 4)),
        case("y = Transpose(x)", ALL, x=(2, 3)),
    ],
    "Unsqueeze": [
        case("y = Unsqueeze<axes=[0,2]>(x)", (7, 11), x=(3, 2)),
        case("y = Unsqueeze(x, a)", x=(3, 2), a=ints(0, -1)),
    ],
    "Upsample": [
        case('y = Upsample<mode="nearest",scales=[1.0,1.0,2.0,3.0]>(x)', (7,), x=(1, 1, 2, 3)),
        case("y = Upsample(x, s)", (9,), x=(1, 1, 2, 3), s=np.array([1, 1, 2, 2], np.float32)),
    ],
    "Where": [
        case("y = Where(c, x, z)", x=(2, 3), z=(3,), c=np.array([True, False, True])),
        case("y = Where(c, x, d)", x=(3,), d=w(2, 3), c=np.array([[True], [False]])),
        case("y = Where(c, d, x)", x=(3,), d=f(1.5), c=np.array([True, False, True])),
        case("e = Where(c, a, d) y = Add(x, e)", x=(3,), a=w(3), d=f(1.5), c=np.array([True, False, True])),
    ],
}
