"""auto_LiRPA's lines for a function of one variable: CROWN on a network ``y = f(x)``, float64.

The library is an optional yardstick. It is used through its public interface only; functions for which
it has an operator of its own are spelled with it, all others as their expression's operations.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from bounds.graph import Array

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from auto_LiRPA import BoundedModule, BoundedTensor, PerturbationLpNorm, __version__
    from auto_LiRPA.operators.gelu import GELUOp

from bounds.expression import Expr, Fn, nodes
from bounds.relax.catalogue import Activation

VERSION = __version__

Function = Callable[..., Any]

_TORCH: Mapping[Fn, Function] = {
    Fn.ADD: lambda a, b: a + b,
    Fn.SUB: lambda a, b: a - b,
    Fn.MUL: lambda a, b: a * b,
    Fn.DIV: lambda a, b: a / b,
    Fn.NEG: lambda a: -a,
    Fn.ABS: torch.abs,
    Fn.RELU: F.relu,
    Fn.EXP: torch.exp,
    Fn.LOG: torch.log,
    Fn.SQRT: torch.sqrt,
    Fn.SIN: torch.sin,
    Fn.COS: torch.cos,
    Fn.TAN: torch.tan,
    Fn.TANH: torch.tanh,
    Fn.SIGMOID: torch.sigmoid,
    Fn.SOFTPLUS: F.softplus,
    Fn.ERF: torch.erf,
    Fn.ATAN: torch.atan,
    Fn.ASIN: torch.asin,
    Fn.ACOS: torch.acos,
    Fn.SINH: torch.sinh,
    Fn.COSH: torch.cosh,
    Fn.ASINH: torch.asinh,
    Fn.ACOSH: torch.acosh,
    Fn.ATANH: torch.atanh,
    Fn.SIGN: torch.sign,
    Fn.FLOOR: torch.floor,
    Fn.CEIL: torch.ceil,
    Fn.TRUNC: torch.trunc,
    Fn.ROUND: torch.round,
    Fn.STEP: lambda a: (a >= 0).to(a.dtype),
    Fn.STRICT: lambda a: (a > 0).to(a.dtype),
    Fn.WHERE: lambda c, a, b: torch.where(c == 1, a, b),
}


def _clamp(x: Any, low: float, high: float) -> Any:
    # its own operator for clamping does not load from current PyTorch; this is the form its authors advise
    return low + F.relu(x - low) - F.relu(x - high)


def _elu(x: Any, alpha: float) -> Any:
    return F.relu(x) + alpha * (torch.exp(-F.relu(-x)) - 1)


def _softplus(x: Any) -> Any:
    return torch.log(1 + torch.exp(x))


# where the library has an operator for the whole function, or a spelling helps it (softplus and clamp do not
# work as they are)
_OWN: Mapping[str, Function] = {
    "leaky-relu": lambda x: F.leaky_relu(x, 0.01),
    "prelu": lambda x: F.leaky_relu(x, 0.25),
    "relu6": lambda x: _clamp(x, 0, 6),
    "clipped-relu": lambda x: _clamp(x, 0, 2),
    "hardtanh": lambda x: _clamp(x, -1, 1),
    "hard-sigmoid": lambda x: _clamp(x + 3, 0, 6) / 6,
    "hard-swish": lambda x: x * _clamp(x + 3, 0, 6) / 6,
    "elu": lambda x: _elu(x, 1.0),
    "selu": lambda x: 1.0507009873554805 * _elu(x, 1.6732632423543772),
    "celu": lambda x: F.relu(x) + 1.5 * (torch.exp(-F.relu(-x) / 1.5) - 1),
    "softplus": _softplus,
    "log-sigmoid": lambda x: -_softplus(-x),
    "mish": lambda x: x * torch.tanh(_softplus(x)),
    "gelu": GELUOp.apply,
    "xgelu": lambda x: 1.2 * GELUOp.apply(x) - 0.1 * x,
    "quadratic": lambda x: x * x,
    "gaussian": lambda x: torch.exp(-(x * x)),
    "squareplus": lambda x: (x + torch.sqrt(x * x + 4)) / 2,
    "squared-relu": lambda x: F.relu(x) * F.relu(x),
    "power-4": lambda x: (x * x) * (x * x),
    "rsqrt": lambda x: torch.reciprocal(torch.sqrt(x)),
    "inverse-square": lambda x: torch.reciprocal(x * x),
    "reciprocal": torch.reciprocal,
    "silu": lambda x: x * torch.sigmoid(x),
}


@dataclass
class Found:
    """``kl x + bl <= f(x) <= ku x + bu``; arrays ``n``."""

    kl: Array
    bl: Array
    ku: Array
    bu: Array

    def area(self, l: Array, u: Array) -> Array:
        """Area between the lines, ``n``."""
        return (u - l) * ((self.ku - self.kl) * (l + u) / 2 + self.bu - self.bl)


class _Spelled(torch.nn.Module):
    """A function as a module."""

    def __init__(self, function: Function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Any) -> Any:
        return self.function(x)


def _spell(e: Expr, x: Any) -> Any:
    """The expression, operation by operation, constants as numbers."""
    values: dict[Expr, Any] = {}
    for part in nodes(e):
        args = [values[a] for a in part.args]
        if part.fn is Fn.X:
            values[part] = x
        elif part.fn is Fn.CONST:
            values[part] = part.value
        elif part.fn is Fn.POW:
            values[part] = args[0] ** (int(part.value) if part.value.is_integer() else part.value)
        elif part.fn in (Fn.MAX, Fn.MIN):
            values[part] = _limit(part, args)
        else:
            values[part] = _TORCH[part.fn](*args)
    return values[e]


def _limit(part: Expr, args: list[Any]) -> Any:
    a, b = args
    if isinstance(b, float):
        return b + F.relu(a - b) if part.fn is Fn.MAX else b - F.relu(b - a)
    return b + F.relu(a - b) if part.fn is Fn.MAX else a - F.relu(a - b)


def lines(row: Activation, l: Array, u: Array) -> tuple[list[Found], str]:
    """The library's lines on intervals ``[l, u]`` (arrays ``n``), one entry a spelling that works.

    Returns:
        The lines, and why there are none.
    """
    found: list[Found] = []
    said = ""
    own = _OWN.get(row.name)
    for function in (own, lambda x: _spell(row.expression, x)):
        if function is not None:
            lines, said = _attempt(function, torch.as_tensor(l)[:, None], torch.as_tensor(u)[:, None])
            found += lines
    return found, "" if found else said


def _attempt(function: Function, low: Any, high: Any) -> tuple[list[Found], str]:
    kept = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)  # its tables are made in the default type
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            return [_crown(function, low, high)], ""
    # a yardstick that cannot do a function may say so with any error; the table repeats what it said
    except Exception as problem:
        said = str(problem).strip().splitlines() or [""]
        return [], f"{type(problem).__name__}: {said[0][:80]}"
    finally:
        torch.set_default_dtype(kept)
        logging.disable(logging.NOTSET)


def _crown(function: Function, low: Any, high: Any) -> Found:
    network = BoundedModule(_Spelled(function), ((low + high) / 2)[:1], device="cpu")
    x = BoundedTensor((low + high) / 2, PerturbationLpNorm(norm=np.inf, x_L=low, x_U=high))
    end, start = network.output_name[0], network.input_name[0]
    _, _, found = network.compute_bounds(x=(x,), method="CROWN", return_A=True, needed_A_dict={end: [start]})
    keys = ("lA", "lbias", "uA", "ubias")
    return Found(*(found[end][start][k].detach().numpy().reshape(len(low)) for k in keys))
