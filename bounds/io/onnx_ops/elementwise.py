"""Smooth and piecewise elementwise functions of one tensor: a table of formulas.

Formulas are those of the ONNX specification (for operators that it defines as functions of others, of
that definition, with the constants that it rounds to the element type). Each mirrors what a model
computes, operation by operation, and avoids overflow in branches that are not taken: ``exp`` of the
negative part only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from bounds.expression import Expr, Fn, X, const
from bounds.expression import call as apply
from bounds.graph import Array
from bounds.io import values
from bounds.io.context import Builder, Call, Context
from bounds.io.onnx_ops.relu import clip_form
from bounds.io.values import Const, Value

Formula = Callable[[Call], Expr]

_SIXTH = float(np.float32(1 / 6))  # HardSwish is defined by HardSigmoid with this attribute


def _plain(fn: Fn) -> Formula:
    def formula(call: Call) -> Expr:
        del call
        return apply(fn, X)

    return formula


def _attribute(call: Call, name: str, default: float) -> float:
    """A float attribute; defaults are rounded to float32, as stored ones are."""
    value = float(call.attributes.get(name, np.float32(default)))
    if not math.isfinite(value):
        raise ValueError(f"attribute {name} is {value}")
    return value


def _expm1_of_negative(scale: float = 1.0) -> Expr:
    """``exp(min(x, 0) / scale) - 1``."""
    negative = apply(Fn.MIN, X, const(0.0))
    return apply(Fn.EXP, negative if scale == 1 else negative / scale) - 1.0


def _elu(call: Call) -> Expr:
    return apply(Fn.RELU, X) + _attribute(call, "alpha", 1.0) * _expm1_of_negative()


def _selu(call: Call) -> Expr:
    alpha = _attribute(call, "alpha", 1.67326319217681884765625)
    gamma = _attribute(call, "gamma", 1.05070102214813232421875)
    return gamma * (apply(Fn.RELU, X) + alpha * _expm1_of_negative())


def _celu(call: Call) -> Expr:
    alpha = _attribute(call, "alpha", 1.0)
    if not alpha > 0:
        raise call.unsupported(f"alpha={alpha}; it must be positive")
    return apply(Fn.RELU, X) + alpha * _expm1_of_negative(alpha)


def _gelu(call: Call) -> Expr:
    """With the error function, or tanh; constants as in the operator's definition by others."""
    if call.text("approximate", "none") != "tanh":
        return 0.5 * X * (1.0 + apply(Fn.ERF, X / apply(Fn.SQRT, const(2.0))))
    double = call.operand(0).dtype == "float64"
    ratio, cubic = (v if double else float(np.float32(v)) for v in (2 / math.pi, 0.044715))
    inner = apply(Fn.SQRT, const(ratio)) * (X + cubic * X**3)
    return 0.5 * X * (1.0 + apply(Fn.TANH, inner))


def _mish(call: Call) -> Expr:
    del call
    return X * apply(Fn.TANH, apply(Fn.SOFTPLUS, X))


def _softsign(call: Call) -> Expr:
    del call
    return X / (1.0 + apply(Fn.ABS, X))


def _hard_swish(call: Call) -> Expr:
    del call
    return X * clip_form(0.0, 1.0)(_SIXTH * X + 0.5)


def _swish(call: Call) -> Expr:
    alpha = _attribute(call, "alpha", 1.0)
    return X * apply(Fn.SIGMOID, X if alpha == 1 else alpha * X)


def _thresholded_relu(call: Call) -> Expr:
    alpha = _attribute(call, "alpha", 1.0)
    return apply(Fn.WHERE, apply(Fn.STRICT, X - alpha if alpha else X), X, const(0.0))


def _shrink(call: Call) -> Expr:
    """``x + bias`` below ``-lambd``, ``x - bias`` above ``lambd``, 0 between."""
    bias, limit = _attribute(call, "bias", 0.0), _attribute(call, "lambd", 0.5)
    above = apply(Fn.WHERE, apply(Fn.STRICT, X - limit), X - bias if bias else X, const(0.0))
    return apply(Fn.WHERE, apply(Fn.STRICT, -limit - X), X + bias if bias else X, above)


def _builder(formula: Formula) -> Builder:
    def build(ctx: Context, call: Call) -> list[Value]:
        return [ctx.apply(formula(call), ctx.variable(call.operand(0)))]

    return build


def _whole(fn: Fn, function: Callable[[Array], Array]) -> Builder:
    """Functions to whole numbers, which no arithmetic rounds."""

    def build(ctx: Context, call: Call) -> list[Value]:
        x = call.operand(0)
        if isinstance(x, Const):
            folded = values.apply_exact(x, function)
            if folded is not None:
                return [folded]
        return [ctx.apply(apply(fn, X), ctx.variable(x), roundings=0)]

    return build


def _sqrt(ctx: Context, call: Call) -> list[Value]:
    x = call.operand(0)
    return [values.square_root(x) if isinstance(x, Const) else ctx.apply(apply(Fn.SQRT, X), x)]


_FORMULAS: Mapping[str, Formula] = {
    "Acos": _plain(Fn.ACOS),
    "Acosh": _plain(Fn.ACOSH),
    "Asin": _plain(Fn.ASIN),
    "Asinh": _plain(Fn.ASINH),
    "Atan": _plain(Fn.ATAN),
    "Atanh": _plain(Fn.ATANH),
    "Celu": _celu,
    "Cos": _plain(Fn.COS),
    "Cosh": _plain(Fn.COSH),
    "Elu": _elu,
    "Erf": _plain(Fn.ERF),
    "Exp": _plain(Fn.EXP),
    "Gelu": _gelu,
    "HardSwish": _hard_swish,
    "Log": _plain(Fn.LOG),
    "Mish": _mish,
    "Selu": _selu,
    "Shrink": _shrink,
    "Sigmoid": _plain(Fn.SIGMOID),
    "Sin": _plain(Fn.SIN),
    "Sinh": _plain(Fn.SINH),
    "Softplus": _plain(Fn.SOFTPLUS),
    "Softsign": _softsign,
    "Swish": _swish,
    "Tan": _plain(Fn.TAN),
    "Tanh": _plain(Fn.TANH),
    "ThresholdedRelu": _thresholded_relu,
}

BUILDERS: Mapping[str, Builder] = {
    **{name: _builder(formula) for name, formula in _FORMULAS.items()},
    "Ceil": _whole(Fn.CEIL, np.ceil),
    "Floor": _whole(Fn.FLOOR, np.floor),
    "Round": _whole(Fn.ROUND, np.round),
    "Sign": _whole(Fn.SIGN, np.sign),
    "Sqrt": _sqrt,
}
