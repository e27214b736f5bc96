"""Functions the tests of the scalar engine share."""

from __future__ import annotations

from bounds.expression import Expr, Fn, X, as_expr, call, const


def clip(x: Expr, lo: float, hi: float) -> Expr:
    return call(Fn.MIN, call(Fn.MAX, x, const(lo)), const(hi))


def where(c: Expr, a: Expr | float, b: Expr | float) -> Expr:
    return call(Fn.WHERE, c, as_expr(a), as_expr(b))


def exp(x: Expr) -> Expr:
    return call(Fn.EXP, x)


SIGMOID = call(Fn.SIGMOID, X)
TANH_EXP = call(Fn.TANH, exp(X))

# name: (function, interval random intervals are drawn from)
SMOOTH: dict[str, tuple[Expr, float, float]] = {
    "sigmoid": (SIGMOID, -9, 9),
    "sigmoid spelled out": (1 / (1 + exp(-X)), -9, 9),
    "tanh": (call(Fn.TANH, X), -5, 5),
    "atan": (call(Fn.ATAN, X), -6, 6),
    "erf": (call(Fn.ERF, X), -3, 3),
    "softsign": (X / (1 + call(Fn.ABS, X)), -6, 6),
    "gelu": (0.5 * X * (1 + call(Fn.ERF, X / 1.4142135)), -6, 6),
    "gelu tanh": (0.5 * X * (1 + call(Fn.TANH, 0.7978845 * (X + 0.044715 * X * X * X))), -6, 6),
    "silu": (X * SIGMOID, -8, 8),
    "mish": (X * call(Fn.TANH, call(Fn.SOFTPLUS, X)), -8, 8),
    "telu": (X * TANH_EXP, -5, 3),
    "golu": (X * exp(-exp(-X)), -3, 8),
    "aptx": ((1 + call(Fn.TANH, X)) * 0.5 * X, -5, 5),
    "softplus": (call(Fn.SOFTPLUS, X), -9, 9),
    "log sigmoid": (-call(Fn.SOFTPLUS, -X), -9, 9),
    "elu": (where(call(Fn.STRICT, X), X, exp(X) - 1), -5, 5),
    "exp": (exp(X), -4, 3),
    "log": (call(Fn.LOG, X), 0.05, 9),
    "sqrt": (call(Fn.SQRT, X), 0.01, 9),
    "reciprocal": (1 / X, 0.1, 6),
    "reciprocal of negatives": (1 / X, -6, -0.1),
    "inverse root": ((X + 1e-5) ** -0.5, 0.05, 5),
    "square": (X**2, -4, 4),
    "product with itself": (X * X, -4, 4),
    "cube": (X**3, -3, 3),
    "fourth power": (X**4, -3, 3),
    "power 2.5": (X**2.5, 0, 4),
    "sine": (call(Fn.SIN, X), -9, 9),
    "cosine": (call(Fn.COS, X), -9, 9),
    "snake": (X + call(Fn.SIN, X) ** 2, -6, 6),
    "gaussian": (exp(-(X * X)), -4, 4),
    "pade": ((1 + X + X * X) / (1 + X * X), -8, 8),
    "asinh": (call(Fn.ASINH, X), -7, 7),
    "atanh": (call(Fn.ATANH, X), -0.95, 0.95),
    "asin": (call(Fn.ASIN, X), -0.95, 0.95),
    "sinh": (call(Fn.SINH, X), -3, 3),
    "cosh": (call(Fn.COSH, X), -3, 3),
    "squared relu": (call(Fn.RELU, X) ** 2, -3, 3),
    "hard swish": (X * clip(X + 3, 0, 6) / 6, -6, 6),
    "tangent": (call(Fn.TAN, X), -1.3, 1.3),
}

PIECEWISE: dict[str, tuple[Expr, float, float]] = {
    "relu6": (clip(X, 0, 6), -4, 9),
    "hard sigmoid": (clip(X / 6 + 0.5, 0, 1), -6, 6),
    "leaky relu": (call(Fn.MAX, X, 0.01 * X), -4, 4),
    "absolute value": (call(Fn.ABS, X), -4, 4),
    "step": (call(Fn.STEP, X), -2, 2),
    "sign": (call(Fn.SIGN, X), -2, 2),
    "floor": (call(Fn.FLOOR, X), -5, 5),
    "round": (call(Fn.ROUND, X), -5, 5),
    "quantise": (0.125 * clip(call(Fn.ROUND, X / 0.125), -16, 15), -3, 3),
    "sawtooth": (X - call(Fn.FLOOR, X), -4, 4),
}
