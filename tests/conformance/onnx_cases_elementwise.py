"""Cases of elementwise operators, comparisons and logic."""

from __future__ import annotations

import numpy as np
from onnx_case import ALL, NEW, Case, case, f, ints, w

POSITIVE = "a = Abs(x) p = Add(a, one)"  # at least 1
TRUTHS = np.array([True, False, True])
INSIDE = "t = Tanh(x) p = Mul(t, half)"  # within (-1/2, 1/2)


def unary(op: str, opsets: tuple[int, ...] = ALL, before: str = "p = Identity(x)") -> list[Case]:
    """The operator on the input itself (its domain kept to) and behind a matrix product."""
    numbers = {"one": f(1.0), "half": f(0.5)}
    used = {k: v for k, v in numbers.items() if k in before}
    return [
        case(f"{before} y = {op}(p)", opsets, x=(2, 3), **used),
        case(
            f"x = MatMul(u, m) {before} q = {op}(p) y = MatMul(q, m)",
            opsets[-1:],
            u=(1, 3),
            m=w(3, 3),
            **used,
        ),
    ]


CASES: dict[str, list[Case]] = {
    "Abs": [case("r = Sub(x, c) y = Abs(r)", x=(3,), c=f(0.5)), case("a = Abs(x) y = Mul(a, x)", x=(3,))],
    "Acos": unary("Acos", before=INSIDE),
    "Acosh": unary("Acosh", (9, *NEW), POSITIVE),
    "Add": [
        case("s = Sin(x) y = Add(x, s)", x=(3,)),
        case("i = Cast<to=7>(x) j = Add(i, c) y = Cast<to=1>(j)", x=(3,), c=ints(3)),
    ],
    "And": [
        case("a = Less(x, p) b = Greater(x, q) y = And(a, b)", result="bool", x=(5,), p=f(0.5), q=f(-0.5)),
        case("a = Less(x, z) b = Greater(z, q) y = And(a, b)", result="bool", x=(5,), z=(5,), q=f(-0.5)),
        case("a = Less(x, p) y = And(a, b)", result="bool", x=(3,), p=f(0.5), b=TRUTHS),
    ],
    "Asin": unary("Asin", before=INSIDE),
    "Asinh": unary("Asinh", (9, *NEW)),
    "Atan": unary("Atan"),
    "Atanh": unary("Atanh", (9, *NEW), INSIDE),
    "BitShift": [
        case('n = BitShift<direction="RIGHT">(a, b) i = Cast<to=7>(n) y = Reshape(x, i)', (11, *NEW),
             x=(2, 3), a=np.array([12], np.uint64), b=np.array([1], np.uint64)),
    ],
    "Cast": [
        case("r = Relu(x) b = Cast<to=9>(r) y = Cast<to=1>(b)", x=(5,)),
        case("i = Cast<to=7>(x) y = Cast<to=1>(i)", x=(5,)),
        case("b = Cast<to=9>(x) y = Cast<to=6>(b)", x=(5,), result="int32"),
    ],
    "CastLike": [case("b = Greater(x, c) y = CastLike(b, x)", (15, 21), x=(5,), c=f(0.0))],
    "Ceil": unary("Ceil"),
    "Celu": [*unary("Celu", (12, *NEW)), case("y = Celu<alpha=2.5>(x)", (12, *NEW))],
    "Clip": [
        case("y = Clip(x, lo, hi)", x=(2, 3), lo=f(-0.5), hi=f(-0.5)),
        case("s = ReduceMin<keepdims=0>(z) y = Clip(x, s)", (13,), x=(3,), z=(2,)),
    ],
    "Cos": unary("Cos"),
    "Cosh": unary("Cosh", (9, *NEW)),
    "Div": [
        case(f"{POSITIVE} y = Div(x, p)", x=(3,), one=f(1.0)),
        case(f"{POSITIVE} y = Div(z, p)", x=(3,), z=(2, 3), one=f(1.0)),
        case(f"{POSITIVE} y = Div(c, p)", x=(3,), c=w(2, 3), one=f(1.0)),
        case("i = Cast<to=7>(x) s = Mul(i, k) d = Div(s, c) y = Cast<to=1>(d)", x=(6,), k=ints(5),
             c=ints(-3)),
    ],
    "Elu": [*unary("Elu"), case("y = Elu<alpha=0.3>(x)", ALL)],
    "Equal": [
        case("a = Round(x) c = Equal(a, z) y = Where(c, x, a)", x=(5,), z=f(0.0)),
        case("y = Equal(x, z)", result="bool", x=(2, 3), z=(3,)),
    ],
    "Erf": unary("Erf", (9, *NEW)),
    "Exp": [*unary("Exp"), case("e = Exp(c) y = Mul(x, e)", x=(3,), c=w(3))],
    "Floor": unary("Floor"),
    "Gelu": [*unary("Gelu", (20, 21)), *unary('Gelu<approximate="tanh">', (20, 21))],
    "Greater": [
        case("y = Greater(x, c)", result="bool", x=(5,), c=f(0.25)),
        case("y = Greater(c, x)", result="bool", x=(5,), c=w(5)),
        case("y = Greater(x, z)", result="bool", x=(5,), z=(5,)),
    ],
    "GreaterOrEqual": [case("c = GreaterOrEqual(x, z) y = Where(c, x, z)", x=(5,), z=(5,))],
    "HardSigmoid": [case("h = HardSigmoid(x) y = Mul(x, h)", x=(5,))],
    "HardSwish": unary("HardSwish", (14, *NEW[1:])),
    "IsInf": [case("n = IsInf(a) y = Where(n, x, z)", (10, *NEW), x=(3,), z=(3,), a=np.float32([1, 2, 3]))],
    "IsNaN": [case("n = IsNaN(a) y = Where(n, x, z)", (9, *NEW), x=(3,), z=(3,), a=np.float32([1, 2, 3]))],
    "LeakyRelu": [case("a = LeakyRelu(x) y = Mul(a, a)", x=(5,))],
    "Less": [case("c = Less(x, z) y = Where(c, a, b)", x=(5,), z=f(0.5), a=w(5), b=w(5, seed=1))],
    "LessOrEqual": [case("c = LessOrEqual(z, x) y = Where(c, a, b)", x=(5,), z=f(0.0), a=f(2.0), b=f(-1.0))],
    "Log": unary("Log", before=POSITIVE),
    "Max": [case("s = Sigmoid(x) y = Max(x, s, c)", (8, *NEW), x=(5,), c=f(-0.25))],
    "Mean": [case("s = Sigmoid(x) t = Tanh(x) y = Mean(x, s, t, s)", (8, *NEW), x=(5,))],
    "Min": [case("t = Mul(x, c) y = Min(x, t)", (8, *NEW), x=(5,), c=f(0.25))],
    "Mish": unary("Mish", (18, 21)),
    "Mod": [
        case("n = Mod(a, b) y = Reshape(x, n)", (10, *NEW), x=(2, 3), a=ints(7, 8), b=ints(4, 6)),
        case("n = Mod<fmod=1>(a, b) y = Add(x, n)", (10, *NEW), x=(3,), a=w(3), b=f(0.3)),
    ],
    "Mul": [
        case("y = Mul(x, x)", ALL, x=(3,)),
        case("y = Mul(x, z)", ALL, x=(2, 3), z=(3,)),
        case("a = Mul(x, x) b = Mul(a, x) y = Mul(b, z)", x=(3,), z=(3,)),
        case("i = Cast<to=7>(x) j = Mul(i, c) y = Cast<to=1>(j)", x=(3,), c=ints(2, -3, 4)),
    ],
    "Neg": [case("s = Sin(x) y = Neg(s)", x=(3,))],
    "Not": [case("a = Greater(x, c) y = Not(a)", result="bool", x=(5,), c=f(0.0))],
    "Or": [
        case("a = Less(x, p) b = Greater(x, q) y = Or(a, b)", result="bool", x=(5,), p=f(-0.5), q=f(0.5)),
        case("a = Less(x, p) y = Or(b, a)", result="bool", x=(3,), p=f(0.5), b=np.array([True, False, True])),
        case("a = Less(x, p) b = Less(z, p) y = Or(b, a)", result="bool", x=(3,), z=(3,), p=f(0.5)),
    ],
    "PRelu": [case("a = PRelu(x, s) y = Sin(a)", x=(1, 3), s=f(0.25))],
    "Pow": [
        *[case("y = Pow(x, p)", x=(5,), p=f(v)) for v in (0, 1, 2, 3, 4, -1, -2)],
        *[case(f"{POSITIVE} y = Pow(p, e)", x=(5,), one=f(1.0), e=f(v)) for v in (0.5, -0.5, 1.7)],
        case("y = Pow(x, p)", x=(2, 4), p=np.float32([0, 1, 2, 3])),
        case("y = Pow(c, x)", x=(5,), c=f(2.0)),
        case(f"{POSITIVE} y = Pow(p, z)", x=(5,), z=(5,), one=f(1.0)),
        case("y = Pow(x, p)", x=(5,), p=ints(2)),
        case("s = Shape(x) q = Pow(s, t) y = Expand(z, q)", x=(2, 3), z=(1, 1), t=ints(2)),
    ],
    "Reciprocal": [
        *unary("Reciprocal", before=POSITIVE),
        case("c = Reciprocal(a) y = Add(x, c)", x=(3,), a=w(3)),
    ],
    "Relu": [case("r = Relu(x) y = Mul(r, r)", ALL, x=(3,)), case("r = Relu(x) y = Sub(x, r)", x=(3,))],
    "Round": unary("Round", (11, *NEW)),
    "Selu": [*unary("Selu"), case("y = Selu<alpha=1.5,gamma=2.0>(x)", ALL)],
    "Shrink": [*unary("Shrink", (9, *NEW)), case("y = Shrink<bias=0.25,lambd=0.75>(x)", (9, *NEW))],
    "Sigmoid": [*unary("Sigmoid"), case("y = Sigmoid(x)", dtype="float64")],
    "Sign": unary("Sign", (9, *NEW)),
    "Sin": unary("Sin"),
    "Sinh": unary("Sinh", (9, *NEW)),
    "Softplus": unary("Softplus"),
    "Softsign": unary("Softsign"),
    "Sqrt": unary("Sqrt", before=POSITIVE),
    "Sub": [case("s = Sigmoid(x) y = Sub(c, s)", x=(3,), c=f(1.0))],
    "Sum": [case("s = Sigmoid(x) t = Tanh(x) y = Sum(x, s, t)", (8, *NEW), x=(5,))],
    "Swish": [*unary("Swish", (24,)), case("y = Swish<alpha=1.5>(x)", (24,))],
    "Tan": unary("Tan", before=INSIDE),
    "Tanh": unary("Tanh"),
    "ThresholdedRelu": [
        *unary("ThresholdedRelu", (10, *NEW)),
        case("y = ThresholdedRelu<alpha=0.25>(x)", (10, *NEW)),
    ],
    "Where": [
        case("c = Greater(x, z) y = Where(c, x, z)", x=(2, 3), z=(3,)),
        case("c = Greater(x, k) y = Where(c, z, k)", x=(3,), z=(3,), k=f(0.5)),
        case("c = Greater(x, k) y = Where(c, k, z)", x=(3,), z=(3,), k=f(0.5)),
        case("c = Greater(x, k) y = Where(c, d, z)", x=(3,), z=(3,), k=f(0.5), d=w(3)),
        case("y = Where(c, x, m)", x=(3,), c=np.array([True, False, True]), m=f(-1e9)),
    ],
    "Xor": [
        case("a = Less(x, p) b = Less(x, q) y = Xor(a, b)", result="bool", x=(5,), p=f(-0.5), q=f(0.5)),
        case("a = Less(x, p) y = Xor(b, a)", result="bool", x=(3,), p=f(0.5), b=TRUTHS),
        case("a = Less(x, p) b = Less(z, p) y = Xor(b, a)", result="bool", x=(3,), z=(3,), p=f(0.5)),
    ],
}  # fmt: skip
