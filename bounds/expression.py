"""Scalar functions of one variable as expressions.

An :class:`Expr` mirrors the operations a model performs, so that it can be evaluated in any arithmetic,
differentiated, enclosed in interval arithmetic, and charged for the model's own rounding. It is a value:
immutable, hashable, compared by structure. What is done with expressions (derivatives, segments,
relaxations) lives in :mod:`bounds.relax`.

=====================  =====================================================================
``X``                  the variable
``CONST``              a stored number (``value``)
``ADD SUB MUL DIV``    arithmetic
``NEG ABS RELU``       ``-a``, ``|a|``, ``max(a, 0)``
``MAX MIN``            of two
``POW``                ``a ** value``: for a whole exponent any a, otherwise a >= 0
``EXP LOG SQRT``       ``LOG`` for a > 0, ``SQRT`` for a >= 0
``SIN COS TAN``        radians
``TANH SIGMOID``       ``SIGMOID`` is ``1 / (1 + exp(-a))``
``SOFTPLUS``           ``log(1 + exp(a))``
``ERF ATAN``
``ASIN ACOS``          for -1 <= a <= 1
``SINH COSH``
``ASINH ACOSH ATANH``  ``ACOSH`` for a >= 1, ``ATANH`` for -1 < a < 1
``SIGN``               -1, 0 or 1
``FLOOR CEIL TRUNC``   to whole numbers: down, up, toward zero
``ROUND``              to the nearest whole number, halves to even
``STEP STRICT``        1 where ``a >= 0`` (``a > 0``), else 0
``ZERO``               1 where ``a == 0``, else 0
``WHERE``              ``args[1]`` where ``args[0]`` (0 or 1 by construction) is 1, else ``args[2]``
=====================  =====================================================================
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field


class Fn(enum.Enum):
    """The operations; the value is the printable name and the number of operands."""

    X = ("x", 0)
    CONST = ("const", 0)
    ADD = ("+", 2)
    SUB = ("-", 2)
    MUL = ("*", 2)
    DIV = ("/", 2)
    NEG = ("neg", 1)
    ABS = ("abs", 1)
    RELU = ("relu", 1)
    MAX = ("max", 2)
    MIN = ("min", 2)
    POW = ("pow", 1)
    EXP = ("exp", 1)
    LOG = ("log", 1)
    SQRT = ("sqrt", 1)
    SIN = ("sin", 1)
    COS = ("cos", 1)
    TAN = ("tan", 1)
    TANH = ("tanh", 1)
    SIGMOID = ("sigmoid", 1)
    SOFTPLUS = ("softplus", 1)
    ERF = ("erf", 1)
    ATAN = ("atan", 1)
    ASIN = ("asin", 1)
    ACOS = ("acos", 1)
    SINH = ("sinh", 1)
    COSH = ("cosh", 1)
    ASINH = ("asinh", 1)
    ACOSH = ("acosh", 1)
    ATANH = ("atanh", 1)
    SIGN = ("sign", 1)
    FLOOR = ("floor", 1)
    CEIL = ("ceil", 1)
    TRUNC = ("trunc", 1)
    ROUND = ("round", 1)
    STEP = ("step", 1)
    STRICT = ("strict", 1)
    ZERO = ("zero", 1)
    WHERE = ("where", 3)

    @property
    def arity(self) -> int:
        """Number of operands."""
        return self.value[1]


@dataclass(frozen=True, slots=True)
class Expr:
    """One operation on operands.

    Attributes:
        fn: the operation.
        args: operands.
        value: the number of a ``CONST``, the exponent of a ``POW``; 0 otherwise.
    """

    fn: Fn
    args: tuple[Expr, ...] = ()
    value: float = 0.0
    _hash: int = field(init=False, repr=False, compare=False, default=0)

    def __post_init__(self) -> None:
        if len(self.args) != self.fn.arity:
            raise ValueError(f"{self.fn.value[0]} takes {self.fn.arity} operands, got {len(self.args)}")
        # structural and computed once: expressions are keys of caches
        object.__setattr__(self, "_hash", hash((self.fn.value, self.args, self.value)))

    def __hash__(self) -> int:
        return self._hash

    def __add__(self, other: Expr | float) -> Expr:
        return Expr(Fn.ADD, (self, as_expr(other)))

    def __radd__(self, other: float) -> Expr:
        return Expr(Fn.ADD, (as_expr(other), self))

    def __sub__(self, other: Expr | float) -> Expr:
        return Expr(Fn.SUB, (self, as_expr(other)))

    def __rsub__(self, other: float) -> Expr:
        return Expr(Fn.SUB, (as_expr(other), self))

    def __mul__(self, other: Expr | float) -> Expr:
        return Expr(Fn.MUL, (self, as_expr(other)))

    def __rmul__(self, other: float) -> Expr:
        return Expr(Fn.MUL, (as_expr(other), self))

    def __truediv__(self, other: Expr | float) -> Expr:
        return Expr(Fn.DIV, (self, as_expr(other)))

    def __rtruediv__(self, other: float) -> Expr:
        return Expr(Fn.DIV, (as_expr(other), self))

    def __neg__(self) -> Expr:
        return Expr(Fn.NEG, (self,))

    def __pow__(self, exponent: float) -> Expr:
        return Expr(Fn.POW, (self,), float(exponent))

    def __str__(self) -> str:
        name = self.fn.value[0]
        if self.fn is Fn.X:
            return "x"
        if self.fn is Fn.CONST:
            return f"{self.value:.9g}"
        if self.fn is Fn.POW:
            return f"{self.args[0]}^{self.value:g}"
        if name in "+-*/":
            return f"({self.args[0]} {name} {self.args[1]})"
        return f"{name}({', '.join(map(str, self.args))})"


X = Expr(Fn.X)


def as_expr(value: Expr | float) -> Expr:
    """Numbers become constants."""
    return value if isinstance(value, Expr) else const(value)


def const(value: float) -> Expr:
    """A stored number."""
    return Expr(Fn.CONST, (), float(value))


def call(fn: Fn, *args: Expr) -> Expr:
    """``fn(*args)``."""
    return Expr(fn, args)


def compose(outer: Expr, inner: Expr) -> Expr:
    """``outer`` with its variable replaced by ``inner``."""
    if inner is X:
        return outer
    done: dict[Expr, Expr] = {}

    def walk(e: Expr) -> Expr:
        found = done.get(e)
        if found is None:
            if e.fn is Fn.X:
                found = inner
            else:
                found = Expr(e.fn, tuple(walk(a) for a in e.args), e.value) if e.args else e
            done[e] = found
        return found

    return walk(outer)


def nodes(e: Expr) -> tuple[Expr, ...]:
    """All distinct subexpressions, operands before what uses them."""
    seen: dict[Expr, None] = {}

    def walk(part: Expr) -> None:
        if part in seen:
            return
        for a in part.args:
            walk(a)
        seen[part] = None

    walk(e)
    return tuple(seen)


RATIONAL = frozenset(
    {
        Fn.X, Fn.CONST, Fn.ADD, Fn.SUB, Fn.MUL, Fn.DIV, Fn.NEG, Fn.ABS, Fn.RELU, Fn.MAX, Fn.MIN, Fn.SIGN,
        Fn.FLOOR, Fn.CEIL, Fn.TRUNC, Fn.ROUND, Fn.STEP, Fn.STRICT, Fn.ZERO, Fn.WHERE,
    }
)  # fmt: skip
"""Operations under which rationals stay rational (POW with a whole exponent as well)."""


def is_rational(e: Expr) -> bool:
    """Whether the function maps rationals to rationals."""
    return all(p.fn in RATIONAL or (p.fn is Fn.POW and p.value.is_integer()) for p in nodes(e))


def is_affine(e: Expr) -> bool:
    """Whether the expression is visibly ``a x + b``."""
    if e.fn in (Fn.X, Fn.CONST):
        return True
    if e.fn in (Fn.ADD, Fn.SUB, Fn.NEG):
        return all(is_affine(a) for a in e.args)
    if e.fn is Fn.MUL:
        return all(is_affine(a) for a in e.args) and any(not depends(a) for a in e.args)
    return e.fn is Fn.DIV and is_affine(e.args[0]) and not depends(e.args[1])


def depends(e: Expr) -> bool:
    """Whether the variable occurs in it."""
    return any(p.fn is Fn.X for p in nodes(e))
