"""What an ONNX tensor name stands for during import: a constant, or a node of the graph.

Constants know how far they are from the real number they stand for (``error``) and how many
float32 roundings the model itself spends on computing them (``roundings``). Folding happens only
where both stay *relative* to the value: a sum whose operands are inexact and of different signs is
not folded (it returns None) and is computed by the graph instead.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np

from bounds.expression import Expr
from bounds.graph import Array
from bounds.shapes import Shape

ROUND = 2.0**-53  # |fl(x) - x| <= ROUND * |fl(x)| in float64, round to nearest, no underflow
_SLACK = 1 + 2.0**-20  # covers the products of small relative errors when they are added up
_TINY = 2.0**-960  # below it a product could have lost digits to underflow
_HUGE = 2.0**960


@dataclass(frozen=True, slots=True)
class Const:
    """A constant tensor.

    Attributes:
        data: float64 for every floating-point type (exact), int64 for integers, or bool.
        dtype: the model's element type as a numpy name.
        name: the tensor's name, for messages.
        error: bound e with ``|true - data| <= e |data|`` elementwise.
        roundings: relative roundings the model makes when it computes this constant.
    """

    data: Array
    dtype: str
    name: str = ""
    error: float = 0.0
    roundings: int = 0

    @property
    def shape(self) -> Shape:
        """Shape of the tensor."""
        return self.data.shape

    @property
    def exact(self) -> bool:
        """Whether data is the very value the model uses, over the reals and in its arithmetic."""
        return self.error == 0 and self.roundings == 0

    @property
    def is_float(self) -> bool:
        """Whether the model's element type is a floating-point type."""
        return self.data.dtype.kind == "f"


@dataclass(frozen=True, slots=True)
class Provenance:
    """Says that a tensor is, elementwise, ``expr`` of the tensor ``root`` of the same shape.

    ``roundings`` is positive where the model rounds on the way, as in :class:`bounds.graph.Node`.
    """

    root: Var
    expr: Expr
    roundings: int


@dataclass(frozen=True, slots=True)
class Var:
    """A tensor that depends on the network's input: a node of the graph under construction.

    Attributes:
        node: id of the node.
        shape: shape of the tensor.
        dtype: the model's element type as a numpy name; whole numbers and truth values (0 and 1) are
            real numbers here as well.
        parent: the nearest tensor that it is an elementwise function of, if there is one.
        masked: where the tensor is minus infinity (the node's own value there means nothing), if anywhere.
    """

    node: int
    shape: Shape
    dtype: str
    parent: Provenance | None = None
    masked: Array | None = field(default=None, compare=False)


Value: TypeAlias = Const | Var


def negate(a: Const) -> Const:
    """``-a``; exact."""
    return replace(a, data=-a.data)


def add(a: Const, b: Const) -> Const | None:
    """``a + b``, or None where no relative error bound exists."""
    _refuse_narrow(a)
    with np.errstate(all="ignore"):
        total = np.asarray(a.data + b.data)
    if not a.is_float:
        return replace(a, data=total)
    exact = a.exact and b.exact
    if not exact and bool(np.any(np.sign(a.data) * np.sign(b.data) < 0)):
        return None
    rounded = ROUND if bool(np.any(_two_sum_residual(a.data, b.data, total))) else 0.0
    # terms of one sign: their relative errors do not grow in the sum
    error = _together(max(a.error, b.error), rounded)
    return replace(a, data=total, error=error, roundings=max(a.roundings, b.roundings) + 1)


def multiply(a: Const, b: Const) -> Const | None:
    """``a * b``, or None where float64 could underflow or overflow."""
    _refuse_narrow(a)
    with np.errstate(all="ignore"):
        product = np.asarray(a.data * b.data)
    if not a.is_float:
        return replace(a, data=product)
    if not _in_range(product, nonzero=(a.data != 0) & (b.data != 0)):
        return None
    rounded = 0.0 if _is_float32(a.data) and _is_float32(b.data) else ROUND  # 24 + 24 bits fit into 53
    return replace(
        a, data=product, error=_together(a.error, b.error, rounded), roundings=a.roundings + b.roundings + 1
    )


def divide(a: Const, b: Const) -> Const | None:
    """``a / b`` (integers truncate toward zero), or None; a zero divisor raises."""
    _refuse_narrow(a)
    if np.any(b.data == 0):
        raise ZeroDivisionError(f"division by zero (tensor '{b.name}')")
    if not a.is_float:
        quotient = np.abs(a.data) // np.abs(b.data) * (np.sign(a.data) * np.sign(b.data))
        return replace(a, data=np.asarray(quotient))
    with np.errstate(all="ignore"):
        quotient = np.asarray(a.data / b.data)
    if not _in_range(quotient, nonzero=np.broadcast_to(a.data != 0, quotient.shape)):
        return None
    # powers of two only move the exponent
    rounded = 0.0 if np.all(np.abs(np.frexp(b.data)[0]) == 0.5) else ROUND
    return replace(
        a,
        data=quotient,
        error=_together(a.error, b.error * _SLACK, rounded),
        roundings=a.roundings + b.roundings + 1,
    )


def reciprocal(b: Const) -> Const | None:
    """``1 / b`` with the relative error of one division, none for powers of two."""
    with np.errstate(all="ignore"):
        inverse = np.asarray(1.0 / b.data)
    if not _in_range(inverse, nonzero=np.ones(inverse.shape, bool)):
        return None
    power_of_two = bool(np.all(np.abs(np.frexp(b.data)[0]) == 0.5))
    return replace(b, data=inverse, error=_together(b.error * _SLACK, 0.0 if power_of_two else ROUND))


def square_root(a: Const) -> Const:
    """``sqrt(a)``; numpy's square root is correctly rounded and halves relative errors."""
    _refuse_narrow(a)
    if np.any(a.data < 0):
        raise ValueError(f"square root of a negative number (tensor '{a.name}')")
    root = np.asarray(np.sqrt(a.data))
    rounded = 0.0 if np.all(root * root == a.data) and _is_float32(root) else ROUND
    return replace(a, data=root, error=_together(a.error, rounded), roundings=a.roundings + 1)


def apply_exact(a: Const, function: Callable[[Array], Array]) -> Const | None:
    """``function(a)`` for a function that neither rounds nor amplifies; None when ``a`` is inexact."""
    return replace(a, data=np.asarray(function(a.data))) if a.exact else None


def _refuse_narrow(a: Const) -> None:
    """Arithmetic in float16 rounds far more than ``roundings`` counts."""
    if a.is_float and a.dtype not in ("float32", "float64"):
        raise ValueError(f"arithmetic on tensor '{a.name}' of type {a.dtype}; store it as float32")


def _together(*errors: float) -> float:
    total = sum(errors)
    return total * _SLACK if sum(e > 0 for e in errors) > 1 else total


def _is_float32(a: Array) -> bool:
    with np.errstate(all="ignore"):
        return bool(np.all(a.astype(np.float32).astype(np.float64) == a))


def _in_range(a: Array, *, nonzero: Array) -> bool:
    size = np.abs(a)
    return bool(np.all((size > _TINY) & (size < _HUGE) | (~nonzero & (size == 0))))


def _two_sum_residual(a: Array, b: Array, total: Array) -> Array:
    """The exact rounding error of ``total = fl(a + b)`` (Knuth's TwoSum; exact without overflow)."""
    with np.errstate(all="ignore"):
        shadow = total - a
        return (a - (total - shadow)) + (b - shadow)
