"""The activation functions surebound is tested with: name, expression, formula, source.

Nothing is registered here for the verifier to work: a function that is not in the table is analysed and
bounded the same way (:mod:`bounds.relax.scalar`). The table is what the conformance tests, the area
benchmark and the page ``docs/reference/activations.md`` go through, so one row buys all of them.

Parametrised families are functions that return an expression; their rows use the defaults.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bounds.expression import Expr, Fn, X, call, const

INFINITY = math.inf


@dataclass(frozen=True, slots=True)
class Activation:
    """One row.

    Attributes:
        name: unique, in lower case with hyphens.
        expression: the function with the parameters that the formula names.
        formula: for people.
        source: where it comes from; arXiv identifiers where there is a preprint.
        pytorch: how PyTorch spells it.
        onnx: the operators it usually arrives as.
        interval: the interval of its picture.
        domain: where it is defined and tests may draw; infinite ends are cut by them.
        family: the builder with other parameters, if there is one.
    """

    name: str
    expression: Expr
    formula: str
    source: str
    pytorch: str
    onnx: str
    interval: tuple[float, float] = (-3.0, 3.0)
    domain: tuple[float, float] = (-INFINITY, INFINITY)
    family: Callable[..., Expr] | None = None


@dataclass(frozen=True, slots=True)
class Layer:
    """A nonlinearity of several inputs: made of primitives, so it needs no relaxation of its own.

    Attributes:
        name: unique.
        formula: for people.
        lowering: the primitives it becomes.
        source: where it comes from.
    """

    name: str
    formula: str
    lowering: str
    source: str


def relu(e: Expr = X) -> Expr:
    """``max(e, 0)``."""
    return call(Fn.RELU, e)


def clip(e: Expr, low: float, high: float) -> Expr:
    """``min(max(e, low), high)``."""
    return call(Fn.MIN, call(Fn.MAX, e, const(low)), const(high))


def polynomial(coefficients: Sequence[float], e: Expr = X) -> Expr:
    """``c[0] + c[1] e + c[2] e^2 + ...``; zero coefficients leave no term."""
    terms = [const(coefficients[0])] if coefficients[0] else []
    terms += [c * (e if i == 1 else e**i) for i, c in enumerate(coefficients) if i and c]
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


def leaky_relu(slope: float = 0.01) -> Expr:
    """``max(x, 0) + slope min(x, 0)``."""
    return relu() - slope * relu(-X)


def threshold(at: float = 0.5, otherwise: float = 0.0) -> Expr:
    """``x`` above ``at``, else ``otherwise``."""
    return call(Fn.WHERE, call(Fn.STRICT, X - at), X, const(otherwise))


def clip_act(limit: float = 2.0) -> Expr:
    """``x`` in ``[0, limit]``, else 0: it drops back to 0 above the limit."""
    return call(Fn.WHERE, call(Fn.STEP, limit - X), relu(), const(0))


def elu(alpha: float = 1.0) -> Expr:
    """``x`` above 0, ``alpha (exp(x) - 1)`` below."""
    return relu() + alpha * (call(Fn.EXP, call(Fn.MIN, X, const(0))) - 1)


def selu(alpha: float = 1.6732632423543772, scale: float = 1.0507009873554805) -> Expr:
    """``scale`` times ELU; the constants make activations keep mean 0 and variance 1."""
    return scale * elu(alpha)


def celu(alpha: float = 1.5) -> Expr:
    """``max(x, 0) + min(0, alpha (exp(x / alpha) - 1))``."""
    return relu() + alpha * (call(Fn.EXP, call(Fn.MIN, X, const(0)) / alpha) - 1)


def tempered_sigmoid(scale: float = 2.0, temperature: float = 1.5, offset: float = 1.0) -> Expr:
    """``scale sigmoid(temperature x) - offset``."""
    return scale * call(Fn.SIGMOID, temperature * X) - offset


def hard_sigmoid() -> Expr:
    """``clip(x + 3, 0, 6) / 6``."""
    return clip(X + 3, 0, 6) / 6


def snake(frequency: float = 1.0) -> Expr:
    """``x + sin(a x)^2 / a``."""
    wave = call(Fn.SIN, X if frequency == 1 else frequency * X)
    return X + wave**2 / frequency


def gaussian(width: float = 1.0) -> Expr:
    """``exp(-(x / width)^2)``."""
    return call(Fn.EXP, -((X if width == 1 else X / width) ** 2))


def gelu_tanh() -> Expr:
    """``0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))``."""
    return 0.5 * X * (1 + call(Fn.TANH, math.sqrt(2 / math.pi) * (X + 0.044715 * X**3)))


def normal_distribution() -> Expr:
    """``(1 + erf(x / sqrt 2)) / 2``: the gate of GELU."""
    return 0.5 * (1 + call(Fn.ERF, X / math.sqrt(2)))


def swish(beta: float = 1.5) -> Expr:
    """``x sigmoid(beta x)``; SiLU for beta = 1."""
    return X * call(Fn.SIGMOID, X if beta == 1 else beta * X)


def golu(alpha: float = 1.0, beta: float = 1.0, gamma: float = 1.0) -> Expr:
    """``x alpha exp(-beta exp(-gamma x))``: the gate is the Gompertz distribution."""
    inner = call(Fn.EXP, -X if gamma == 1 else -gamma * X)
    gate = call(Fn.EXP, -inner if beta == 1 else -beta * inner)
    return X * gate if alpha == 1 else alpha * X * gate


def aptx(alpha: float = 1.0, beta: float = 1.0, gamma: float = 0.5) -> Expr:
    """``(alpha + tanh(beta x)) gamma x``."""
    return (alpha + call(Fn.TANH, X if beta == 1 else beta * X)) * (gamma * X)


def expanded(gate: Expr, alpha: float = 0.1) -> Expr:
    """``x (gate(x) (1 + 2 alpha) - alpha)``: the gate's range becomes [-alpha, 1 + alpha]."""
    return X * (gate * (1 + 2 * alpha) - alpha)


def poly_relu(coefficients: Sequence[float] = (0.0, 1 / 3, 1 / 3, 1 / 3)) -> Expr:
    """``sum of a_i max(x, 0)^i``."""
    return polynomial(coefficients, relu())


# near leaky ReLU (slope 0.01) on [-3, 3]: our own fit, not the coefficients of the paper
PADE_NUMERATOR = (0.03, 0.615, 2.33, 3.05, 1.49, 0.25)
PADE_DENOMINATOR = (1.14, 4.39, 0.87, 0.347)


def pade(
    numerator: Sequence[float] = PADE_NUMERATOR, denominator: Sequence[float] = PADE_DENOMINATOR
) -> Expr:
    """Safe Pade activation unit ``P(x) / (1 + |Q(x)|)`` with ``Q(0) = 0``."""
    return polynomial(numerator) / (1 + call(Fn.ABS, polynomial((0.0, *denominator))))


def b_spline(coefficients: Sequence[float], first: float, step: float) -> Expr:
    """Cubic spline ``sum of c_i B((x - first - i step) / step)`` on uniform knots.

    ``B(t) = (max(2 - |t|, 0)^3 - 4 max(1 - |t|, 0)^3) / 6`` is the cardinal cubic B-spline (Schoenberg 1946).
    """
    total = const(0)
    for i, c in enumerate(coefficients):
        distance = call(Fn.ABS, (X - (first + i * step)) / step)
        bump = relu(2 - distance) ** 3 - 4 * relu(1 - distance) ** 3
        total = total + (c / 6) * bump if i else (c / 6) * bump
    return total


def kan_edge(
    coefficients: Sequence[float] = (0.3, -0.6, 0.9, -0.2, 0.5),
    first: float = -2.0,
    step: float = 1.0,
    base: float = 0.5,
) -> Expr:
    """Edge of a Kolmogorov-Arnold network: ``base silu(x) + spline(x)``."""
    return base * swish(1.0) + b_spline(coefficients, first, step)


def fourier_edge(
    cosines: Sequence[float] = (0.5, -0.3), sines: Sequence[float] = (0.8, 0.25), bias: float = 0.1
) -> Expr:
    """``bias + sum over k >= 1 of a_k cos(k x) + b_k sin(k x)``."""
    total = const(bias)
    for k, (a, b) in enumerate(zip(cosines, sines, strict=True), start=1):
        angle = X if k == 1 else k * X
        total = total + a * call(Fn.COS, angle) + b * call(Fn.SIN, angle)
    return total


def quantiser(scale: float = 0.5, low: float = -4.0, high: float = 3.0) -> Expr:
    """``scale clip(round(x / scale), low, high)``: quantise, then dequantise."""
    return scale * clip(call(Fn.ROUND, X / scale), low, high)


def soft_shrink(at: float = 0.5) -> Expr:
    """``x`` moved toward 0 by ``at``."""
    return relu(X - at) - relu(-X - at)


def hard_shrink(at: float = 0.5) -> Expr:
    """``x`` where ``|x| > at``, else 0."""
    return call(Fn.WHERE, call(Fn.STRICT, call(Fn.ABS, X) - at), X, const(0))


def squareplus(b: float = 4.0) -> Expr:
    """``(x + sqrt(x^2 + b)) / 2``."""
    return (X + call(Fn.SQRT, X**2 + b)) / 2


_BASIC = "elementary function"
_PIECEWISE = "piecewise linear primitive"

_KINKED: tuple[Activation, ...] = (
    Activation("relu", relu(), "max(x, 0)", "Nair, Hinton 2010", "F.relu", "Relu"),
    Activation(
        "leaky-relu", leaky_relu(), "max(x, 0) + 0.01 min(x, 0)", "Maas, Hannun, Ng 2013",
        "F.leaky_relu", "LeakyRelu", family=leaky_relu,
    ),
    Activation(
        "prelu", leaky_relu(0.25), "max(x, 0) + a min(x, 0), a = 0.25", "He et al. 2015, arXiv:1502.01852",
        "F.prelu", "PRelu", family=leaky_relu,
    ),
    Activation(
        "relu6", clip(X, 0, 6), "min(max(x, 0), 6)", "Krizhevsky 2010", "F.relu6", "Clip", (-2.0, 8.0)
    ),
    Activation(
        "threshold", threshold(), "x if x > 0.5, else 0", "PyTorch", "F.threshold(x, 0.5, 0)",
        "Greater, Where", family=threshold,
    ),
    Activation(
        "clipact", clip_act(), "x if 0 <= x <= 2, else 0", "Hoang, Hanif, Shafique 2019, arXiv:1912.00941",
        "torch.where(x <= 2, F.relu(x), 0)", "Relu, LessOrEqual, Where", (-1.0, 4.0), family=clip_act,
    ),
    Activation(
        "clipped-relu", clip(X, 0, 2), "min(max(x, 0), 2)",
        "bounded ReLU as in Ghavami et al. 2021 (FitAct), arXiv:2112.13544", "torch.clamp(x, 0, 2)", "Clip",
        (-1.0, 4.0),
    ),
    Activation("abs", call(Fn.ABS, X), "|x|", _PIECEWISE, "torch.abs", "Abs"),
    Activation("sign", call(Fn.SIGN, X), "-1, 0 or 1", "binarised networks: Courbariaux et al. 2016, "
               "arXiv:1602.02830", "torch.sign", "Sign"),
    Activation("step", call(Fn.STEP, X), "1 if x >= 0, else 0", "McCulloch, Pitts 1943",
               "torch.where(x >= 0, 1, 0)", "GreaterOrEqual, Where"),
    Activation("floor", call(Fn.FLOOR, X), "floor(x)", _BASIC, "torch.floor", "Floor"),
    Activation("ceil", call(Fn.CEIL, X), "ceil(x)", _BASIC, "torch.ceil", "Ceil"),
    Activation("round", call(Fn.ROUND, X), "nearest whole number, halves to even", _BASIC, "torch.round",
               "Round"),
    Activation("trunc", call(Fn.TRUNC, X), "toward 0", _BASIC, "torch.trunc", "Abs, Floor, Sign, Mul"),
    Activation("hard-sigmoid", hard_sigmoid(), "clip(x + 3, 0, 6) / 6", "Howard et al. 2019, "
               "arXiv:1905.02244", "F.hardsigmoid", "HardSigmoid", (-5.0, 5.0)),
    Activation("hard-swish", X * hard_sigmoid(), "x clip(x + 3, 0, 6) / 6", "Howard et al. 2019, "
               "arXiv:1905.02244", "F.hardswish", "HardSwish", (-5.0, 5.0)),
    Activation("hardtanh", clip(X, -1, 1), "clip(x, -1, 1)", "Collobert 2004", "F.hardtanh", "Clip"),
    Activation("softshrink", soft_shrink(), "x moved toward 0 by 0.5", "Donoho 1995", "F.softshrink",
               "Shrink", family=soft_shrink),
    Activation("hardshrink", hard_shrink(), "x if |x| > 0.5, else 0", "Donoho, Johnstone 1994",
               "F.hardshrink", "Shrink", family=hard_shrink),
    Activation("quantiser", quantiser(), "0.5 clip(round(x / 0.5), -4, 3)", "Jacob et al. 2017, "
               "arXiv:1712.05877", "torch.fake_quantize_per_tensor_affine",
               "QuantizeLinear, DequantizeLinear", family=quantiser),
)  # fmt: skip

_SMOOTH: tuple[Activation, ...] = (
    Activation("elu", elu(), "x if x > 0, else exp(x) - 1", "Clevert, Unterthiner, Hochreiter 2015, "
               "arXiv:1511.07289", "F.elu", "Elu", family=elu),
    Activation("selu", selu(), "1.0507 (x if x > 0, else 1.6733 (exp(x) - 1))", "Klambauer et al. 2017, "
               "arXiv:1706.02515", "F.selu", "Selu", family=selu),
    Activation("celu", celu(), "x if x > 0, else 1.5 (exp(x / 1.5) - 1)", "Barron 2017, arXiv:1704.07483",
               "F.celu(x, 1.5)", "Celu", family=celu),
    Activation("softplus", call(Fn.SOFTPLUS, X), "log(1 + exp(x))", "Dugas et al. 2001", "F.softplus",
               "Softplus"),
    Activation("softsign", X / (1 + call(Fn.ABS, X)), "x / (1 + |x|)", "Bergstra et al. 2009",
               "F.softsign", "Softsign"),
    Activation("sigmoid", call(Fn.SIGMOID, X), "1 / (1 + exp(-x))", "Rumelhart, Hinton, Williams 1986",
               "torch.sigmoid", "Sigmoid", (-5.0, 5.0)),
    Activation("tempered-sigmoid", tempered_sigmoid(), "2 sigmoid(1.5 x) - 1",
               "Papernot et al. 2020, arXiv:2007.14191", "2 * torch.sigmoid(1.5 * x) - 1",
               "Mul, Sigmoid, Mul, Sub", family=tempered_sigmoid),
    Activation("log-sigmoid", -call(Fn.SOFTPLUS, -X), "-log(1 + exp(-x))", "PyTorch", "F.logsigmoid",
               "Sigmoid, Log"),
    Activation("logit", call(Fn.LOG, X / (1 - X)), "log(x / (1 - x))", "Berkson 1944", "torch.logit",
               "Sub, Div, Log", (0.02, 0.98), (0.0, 1.0)),
    Activation("tanh", call(Fn.TANH, X), "tanh(x)", "LeCun et al. 1998", "torch.tanh", "Tanh"),
    Activation("tanhshrink", X - call(Fn.TANH, X), "x - tanh(x)", "PyTorch", "F.tanhshrink", "Tanh, Sub"),
    Activation("arctan", call(Fn.ATAN, X), "arctan(x)", _BASIC, "torch.atan", "Atan"),
    Activation("erf", call(Fn.ERF, X), "2 / sqrt(pi) times the integral of exp(-t^2) from 0 to x", _BASIC,
               "torch.erf", "Erf"),
    Activation("squareplus", squareplus(), "(x + sqrt(x^2 + 4)) / 2", "Barron 2021, arXiv:2112.11687",
               "(x + torch.sqrt(x**2 + 4)) / 2", "Pow, Add, Sqrt, Add, Div", family=squareplus),
    Activation("sin", call(Fn.SIN, X), "sin(x)", "Sitzmann et al. 2020 (SIREN), arXiv:2006.09661",
               "torch.sin", "Sin", (-4.0, 4.0)),
    Activation("cos", call(Fn.COS, X), "cos(x)", _BASIC, "torch.cos", "Cos", (-4.0, 4.0)),
    Activation("tan", call(Fn.TAN, X), "tan(x)", _BASIC, "torch.tan", "Tan", (-1.4, 1.4), (-1.5, 1.5)),
    Activation("snake", snake(), "x + sin(x)^2", "Ziyin, Hartwig, Ueda 2020, arXiv:2006.08195",
               "x + torch.sin(x) ** 2", "Sin, Pow, Add", (-4.0, 4.0), family=snake),
    Activation("gaussian", gaussian(), "exp(-x^2)", "Broomhead, Lowe 1988 (RBF)", "torch.exp(-(x**2))",
               "Pow, Neg, Exp", family=gaussian),
    Activation("exp", call(Fn.EXP, X), "exp(x)", _BASIC, "torch.exp", "Exp", (-2.0, 2.0)),
    Activation("log", call(Fn.LOG, X), "log(x)", _BASIC, "torch.log", "Log", (0.1, 4.0), (0.0, INFINITY)),
    Activation("sqrt", call(Fn.SQRT, X), "sqrt(x)", _BASIC, "torch.sqrt", "Sqrt", (0.0, 4.0),
               (0.0, INFINITY)),
    Activation("reciprocal", 1 / X, "1 / x", _BASIC, "torch.reciprocal", "Reciprocal", (0.25, 4.0),
               (0.0, INFINITY)),
    Activation("rsqrt", X**-0.5, "1 / sqrt(x)", "every normalisation layer", "torch.rsqrt",
               "Sqrt, Reciprocal", (0.1, 4.0), (0.0, INFINITY)),
    Activation("sinh", call(Fn.SINH, X), "sinh(x)", _BASIC, "torch.sinh", "Sinh"),
    Activation("cosh", call(Fn.COSH, X), "cosh(x)", _BASIC, "torch.cosh", "Cosh"),
    Activation("asinh", call(Fn.ASINH, X), "asinh(x)", _BASIC, "torch.asinh", "Asinh"),
    Activation("acosh", call(Fn.ACOSH, X), "acosh(x)", _BASIC, "torch.acosh", "Acosh", (1.0, 4.0),
               (1.0, INFINITY)),
    Activation("atanh", call(Fn.ATANH, X), "atanh(x)", _BASIC, "torch.atanh", "Atanh", (-0.95, 0.95),
               (-1.0, 1.0)),
    Activation("asin", call(Fn.ASIN, X), "arcsin(x)", _BASIC, "torch.asin", "Asin", (-1.0, 1.0),
               (-1.0, 1.0)),
    Activation("acos", call(Fn.ACOS, X), "arccos(x)", _BASIC, "torch.acos", "Acos", (-1.0, 1.0),
               (-1.0, 1.0)),
)  # fmt: skip

_POLYNOMIAL: tuple[Activation, ...] = (
    Activation("quadratic", X**2, "x^2", "Gilad-Bachrach et al. 2016 (CryptoNets)", "x ** 2", "Mul"),
    Activation("cubic", X**3, "x^3", "Chen, Manning 2014", "x ** 3", "Pow", (-2.0, 2.0)),
    Activation("power-4", X**4, "x^4", _BASIC, "x ** 4", "Pow", (-2.0, 2.0)),
    Activation("power-5", X**5, "x^5", _BASIC, "x ** 5", "Pow", (-2.0, 2.0)),
    Activation("power-1.5", X**1.5, "x^1.5", _BASIC, "x ** 1.5", "Pow", (0.0, 4.0), (0.0, INFINITY)),
    Activation("inverse-square", X**-2, "x^-2", _BASIC, "x ** -2", "Pow", (0.4, 3.0), (0.0, INFINITY)),
    Activation("squared-relu", relu() ** 2, "max(x, 0)^2", "So et al. 2021 (Primer), arXiv:2109.08668",
               "F.relu(x) ** 2", "Relu, Mul"),
    Activation("poly-relu", poly_relu(), "(r + r^2 + r^3) / 3 with r = max(x, 0)",
               "Zhuo et al. 2024 (PolyCom), arXiv:2411.03884", "sum of F.relu(x) ** i / 3",
               "Relu, Pow, Mul, Add", (-2.0, 2.0), family=poly_relu),
    Activation("poly-norm", polynomial((0.0, 0.5, 0.25, -0.125)), "x / 2 + x^2 / 4 - x^3 / 8",
               "polynomial part of PolyNorm: Zhuo et al. 2024, arXiv:2411.03884",
               "0.5 * x + 0.25 * x**2 - 0.125 * x**3", "Pow, Mul, Add", family=polynomial),
    Activation("pade", pade(), "P(x) / (1 + |Q(x)|), degrees 5 and 4", "Molina, Schramowski, Kersting 2019, "
               "arXiv:1907.06732", "polynomials, torch.abs, division", "Pow, Mul, Add, Abs, Div",
               family=pade),
)  # fmt: skip

_GATED: tuple[Activation, ...] = (
    Activation("gelu", X * normal_distribution(), "x (1 + erf(x / sqrt(2))) / 2", "Hendrycks, Gimpel 2016, "
               "arXiv:1606.08415", "F.gelu", "Gelu, or Div, Erf, Add, Mul"),
    Activation("gelu-tanh", gelu_tanh(), "x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2",
               "Hendrycks, Gimpel 2016, arXiv:1606.08415", "F.gelu(x, approximate='tanh')",
               "Gelu, or Pow, Mul, Add, Tanh"),
    Activation("silu", swish(1.0), "x sigmoid(x)", "Elfwing, Uchibe, Doya 2017, arXiv:1702.03118",
               "F.silu", "Sigmoid, Mul", (-5.0, 5.0)),
    Activation("swish", swish(), "x sigmoid(1.5 x)", "Ramachandran, Zoph, Le 2017, arXiv:1710.05941",
               "x * torch.sigmoid(1.5 * x)", "Mul, Sigmoid, Mul", family=swish),
    Activation("mish", X * call(Fn.TANH, call(Fn.SOFTPLUS, X)), "x tanh(log(1 + exp(x)))",
               "Misra 2019, arXiv:1908.08681", "F.mish", "Softplus, Tanh, Mul"),
    Activation("telu", X * call(Fn.TANH, call(Fn.EXP, X)), "x tanh(exp(x))", "Fernandez, Mali 2024, "
               "arXiv:2412.20269", "x * torch.tanh(torch.exp(x))", "Exp, Tanh, Mul"),
    Activation("golu", golu(), "x exp(-exp(-x))", "Das et al. 2025, arXiv:2502.03654",
               "x * torch.exp(-torch.exp(-x))", "Neg, Exp, Neg, Exp, Mul", family=golu),
    Activation("aptx", aptx(), "(1 + tanh(x)) x / 2", "Kumar 2022, arXiv:2209.06119",
               "(1 + torch.tanh(x)) * (0.5 * x)", "Tanh, Add, Mul", family=aptx),
    Activation("xatlu", expanded(call(Fn.ATAN, X) / math.pi + 0.5),
               "x (1.2 g - 0.1), g = arctan(x) / pi + 1/2", "Huang 2024, arXiv:2405.20768",
               "x * ((torch.atan(x) / pi + 0.5) * 1.2 - 0.1)", "Atan, Div, Add, Mul, Sub"),
    Activation("xgelu", expanded(normal_distribution()), "x (1.2 g - 0.1), g = (1 + erf(x / sqrt(2))) / 2",
               "Huang 2024, arXiv:2405.20768", "the same with torch.erf", "Div, Erf, Add, Mul, Sub"),
    Activation("xsilu", expanded(call(Fn.SIGMOID, X)), "x (1.2 sigmoid(x) - 0.1)", "Huang 2024, "
               "arXiv:2405.20768", "x * (torch.sigmoid(x) * 1.2 - 0.1)", "Sigmoid, Mul, Sub"),
    Activation("lisht", X * call(Fn.TANH, X), "x tanh(x)", "Roy et al. 2019, arXiv:1901.05894",
               "x * torch.tanh(x)", "Tanh, Mul"),
    Activation("kan-spline", kan_edge(), "silu(x) / 2 + cubic spline with 5 coefficients",
               "Liu et al. 2024 (KAN), arXiv:2404.19756", "F.silu and powers of F.relu",
               "Abs, Relu, Pow, Mul, Add", (-4.0, 4.0), family=kan_edge),
    Activation("kan-fourier", fourier_edge(),
               "0.1 + 0.5 cos x + 0.8 sin x - 0.3 cos 2x + 0.25 sin 2x",
               "Xu et al. 2024 (FourierKAN), arXiv:2406.01034", "sums of torch.cos and torch.sin",
               "Mul, Cos, Sin, Add", (-4.0, 4.0), family=fourier_edge),
)  # fmt: skip

CATALOGUE: tuple[Activation, ...] = _KINKED + _SMOOTH + _POLYNOMIAL + _GATED

LAYERS: tuple[Layer, ...] = (
    Layer("glu", "a sigmoid(b)", "sigmoid, product", "Dauphin et al. 2016, arXiv:1612.08083"),
    Layer("reglu", "max(a, 0) b", "ReLU, product", "Shazeer 2020, arXiv:2002.05202"),
    Layer("geglu", "gelu(a) b", "GELU as one function, product", "Shazeer 2020, arXiv:2002.05202"),
    Layer("swiglu", "silu(a) b", "SiLU as one function, product", "Shazeer 2020, arXiv:2002.05202"),
    Layer("drelu", "max(a, 0) max(b, 0)", "two ReLUs, product", "Song et al. 2024, arXiv:2406.05955"),
    Layer("maxmin", "max(a, b), min(a, b)", "b + relu(a - b) and a - relu(a - b): exact",
          "Anil, Lucas, Grosse 2018, arXiv:1811.05381"),
    Layer("groupsort", "k values in order", "a network of comparators, each as in maxmin: exact",
          "Anil, Lucas, Grosse 2018, arXiv:1811.05381"),
    Layer("householder", "z if v.z > 0, else z - 2 (v.z) v, |v| = 1", "z + 2 relu(-v.z) v: exact",
          "Singla, Singla, Feizi 2021, arXiv:2108.04062"),
    Layer("softmax", "exp(x_i) / sum of exp(x_j)", "1 / (1 + sum over j of exp(x_j - x_i)); of two: "
          "sigmoid(x_i - x_j)", "Bridle 1990"),
    Layer("log-softmax", "x_i - log(sum of exp(x_j))", "-log(1 + sum over j of exp(x_j - x_i))",
          "Bridle 1990"),
    Layer("layernorm", "(x - mean) / sqrt(variance + eps)", "squares, sum, (v + eps)^-0.5, product",
          "Ba, Kiros, Hinton 2016, arXiv:1607.06450"),
    Layer("rmsnorm", "x / sqrt(mean of x^2 + eps)", "squares, sum, (v + eps)^-0.5, product",
          "Zhang, Sennrich 2019, arXiv:1910.07467"),
    Layer("instancenorm", "layernorm over each channel", "squares, sum, (v + eps)^-0.5, product",
          "Ulyanov, Vedaldi, Lempitsky 2016, arXiv:1607.08022"),
    Layer("attention", "softmax(Q K^T / sqrt(d)) V", "products, sums, softmax as above",
          "Vaswani et al. 2017, arXiv:1706.03762"),
)  # fmt: skip


def activation(name: str) -> Activation:
    """The row called ``name``.

    Raises:
        KeyError: there is none.
    """
    return {row.name: row for row in CATALOGUE}[name]
