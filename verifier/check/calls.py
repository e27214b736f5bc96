"""One ONNX node as the operators' tables see it, and arithmetic on constants."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np

from bounds.errors import ModelUnsupported
from verifier.check.network import Array, Const, Lowering, Value, Var, real

ROUND = 2.0**-53
# constants are folded only where neither underflow nor overflow can occur
SMALLEST, LARGEST = (
    2.0**-500,
    2.0**500,
)

# TensorProto.DataType -> numpy type
FLOATS: Mapping[int, str] = {1: "float32", 10: "float16", 11: "float64", 16: "bfloat16"}
INTEGERS: Mapping[int, str] = {
    2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 12: "uint32", 13: "uint64",
}  # fmt: skip
BOOL = 9


@dataclass(frozen=True, slots=True)
class Call:
    """One ONNX node: operands (None where left out) and attributes as Python values."""

    op: str
    name: str
    opset: int
    operands: tuple[Value | None, ...]
    attributes: Mapping[str, Any]
    outputs: int

    def operand(self, i: int) -> Value:
        """The required operand ``i``."""
        if i >= len(self.operands) or (value := self.operands[i]) is None:
            raise ValueError(f"operand {i} is missing")
        return value

    def optional(self, i: int) -> Value | None:
        """The operand ``i``, or None where it is left out."""
        return self.operands[i] if i < len(self.operands) else None

    def const(self, i: int, *, exact: bool = True) -> Const | None:
        """The optional operand ``i``, which must be constant."""
        value = self.optional(i)
        if isinstance(value, Var):
            raise self.refuse(f"operand {i} depends on the network's input")
        if value is not None and exact and not value.exact:
            raise self.refuse(f"operand {i} is a rounded constant")
        return value

    def needed(self, i: int) -> Array:
        """The data of the exact constant operand ``i``."""
        const = self.const(i)
        if const is None:
            raise ValueError(f"operand {i} is missing")
        return const.data

    def integers(self, name: str, i: int | None = None) -> tuple[int, ...] | None:
        """A list of integers, as attribute or (newer opsets) operand."""
        value = self.attributes.get(name)
        if value is None and i is not None:
            const = self.const(i)
            value = None if const is None else const.data.reshape(-1).tolist()
        if value is None:
            return None
        return tuple(int(v) for v in (value if isinstance(value, list | tuple) else [value]))

    def number(self, name: str, default: float) -> float:
        """A float attribute; defaults are rounded to float32, as stored ones are."""
        value = float(self.attributes.get(name, np.float32(default)))
        if not np.isfinite(value):
            raise ValueError(f"attribute {name} is {value}")
        return value

    def text(self, name: str, default: str) -> str:
        """A string attribute."""
        value = self.attributes.get(name, default)
        return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)

    def refuse(self, detail: str) -> ModelUnsupported:
        """The error for a form that the checker does not read."""
        return ModelUnsupported(self.op, self.name, f"{detail}; the checker cannot re-prove this network")


Operator: TypeAlias = Callable[[Lowering, Call], Sequence[Value]]


def moved(net: Lowering, value: Value, function: Callable[[Array], Array]) -> Value:
    """Applies a function that only moves elements."""
    if isinstance(value, Const):
        return replace(value, data=np.asarray(function(value.data)))
    return net.take(value, np.asarray(function(value.index())))


def positive_axis(axis: int, rank: int) -> int:
    """``axis`` counted from the front."""
    if not -rank <= axis < rank:
        raise ValueError(f"axis {axis} of a tensor of rank {rank}")
    return axis % rank


# ------------------------------------------------------------------ arithmetic on constants
def two_sum(a: Array, b: Array) -> tuple[Array, Array]:
    """``a + b`` rounded, and its exact rounding error (Knuth; no overflow in our range)."""
    total = a + b
    shadow = total - a
    return total, (a - (total - shadow)) + (b - shadow)


def folded(op: str, a: Const, b: Const) -> Const | None:
    """Add, Sub, Mul or Div of two constants with a relative error bound, where there is one."""
    x, y = a.data, b.data
    if not a.is_float:
        return replace(a, data=_folded_integers(op, x, y))
    if op == "Div" and not y.all():
        raise ValueError("division by zero")
    if not all(np.all((v == 0) | ((np.abs(v) > SMALLEST) & (np.abs(v) < LARGEST))) for v in (x, y)):
        return None
    if op in ("Add", "Sub"):
        y = y if op == "Add" else -y
        if not (a.exact and b.exact) and np.any(np.sign(x) * np.sign(y) < 0):
            return None
        total, rest = two_sum(x, y)
        error, roundings = max(a.error, b.error), max(a.roundings, b.roundings) + 1
        lost = ROUND if rest.any() else 0.0
        return Const(np.asarray(total), (error + lost) * (1 + 2.0**-20), roundings, a.dtype)
    short = all(np.array_equal(v.astype(np.float32).astype(np.float64), v) for v in (x, y))
    result, lost = (x * y, 0.0 if short else ROUND) if op == "Mul" else (x / y, ROUND)
    # relative errors below 2^-40 each: their products are covered by the factor
    error = (a.error + b.error + lost) * (1 + 2.0**-20)
    return Const(np.asarray(result), error, a.roundings + b.roundings + 1, a.dtype)


def _folded_integers(op: str, x: Array, y: Array) -> Array:
    if op == "Div":
        return np.asarray(np.abs(x) // np.abs(y) * np.sign(x) * np.sign(y))
    return np.asarray({"Add": np.add, "Sub": np.subtract, "Mul": np.multiply}[op](x, y))


def inverse(call: Call, c: Const) -> Const:
    """``1 / c``."""
    data = real(c)
    if not np.all((np.abs(data) > SMALLEST) & (np.abs(data) < LARGEST)):
        raise call.refuse("divisor is zero, tiny or huge")
    power_of_two = np.all(np.abs(np.frexp(data)[0]) == 0.5)
    error = 0.0 if power_of_two and c.error == 0 else (c.error + ROUND) * (1 + 2.0**-20)
    return Const(np.asarray(1 / data), error, c.roundings)


def inverse_error(n: int) -> float:
    """Relative error of the float64 number ``1 / n``."""
    return 0.0 if n & (n - 1) == 0 else ROUND
