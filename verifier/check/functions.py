"""Functions of one real variable, as straight-line programs.

A :data:`Function` is a tuple of steps; step 0 is the variable, every other step applies one operation
to earlier steps, the last is the value. No step occurs twice, so a function is a value that can be
compared, and its length is the number of different subexpressions in it.

===================  =====================================================================
``x``, ``const``     the variable; a stored number (``value``)
``+ - * /``          arithmetic
``neg abs relu``     ``-a``, ``|a|``, ``max(a, 0)``
``max min``          of two
``pow``              ``a ** value``: for a whole exponent any a, otherwise a >= 0
``exp log sqrt``     and ``sin cos tan tanh erf atan asin acos sinh cosh asinh acosh atanh``
``sigmoid``          ``1 / (1 + exp(-a))``
``softplus``         ``log(1 + exp(a))``
``sign``             -1, 0 or 1
``floor ceil trunc`` to whole numbers, and ``round``: to the nearest, halves to even
``step strict``      1 where ``a >= 0`` (``a > 0``), else 0
``zero``             1 where ``a == 0``, else 0
``where``            the second operand where the first (0 or 1) is 1, else the third
===================  =====================================================================
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

RATIONAL = frozenset(
    (
        "x", "const", "+", "-", "*", "/", "neg", "abs", "relu", "max", "min", "sign", "floor", "ceil",
        "trunc", "round", "step", "strict", "zero", "where",
    )
)  # fmt: skip
STAIRS = frozenset(("floor", "ceil", "trunc", "round"))


@dataclass(frozen=True, slots=True)
class Step:
    """One operation on earlier steps; ``value`` is the number of a ``const``, the exponent of a ``pow``."""

    fn: str
    args: tuple[int, ...] = ()
    value: float = 0.0


Function: TypeAlias = tuple[Step, ...]
X: Function = (Step("x"),)


def _append(steps: dict[Step, int], more: Function, start: Sequence[int]) -> list[int]:
    """Adds the steps of ``more``, whose variable is what ``start`` holds; their new numbers."""
    number = list(start)
    for step in more[1:]:
        new = Step(step.fn, tuple(number[a] for a in step.args), step.value)
        number.append(steps.setdefault(new, len(steps)))
    return number


def _trimmed(steps: dict[Step, int], last: int) -> Function:
    """The program that ends in step ``last``, without what it does not use."""
    whole = list(steps)
    needed = {0, last}
    for i in range(last, 0, -1):
        if i in needed:
            needed.update(whole[i].args)
    number = {old: new for new, old in enumerate(sorted(needed))}
    return tuple(Step(whole[i].fn, tuple(number[a] for a in whole[i].args), whole[i].value) for i in number)


def call(fn: str, *args: Function, value: float = 0.0) -> Function:
    """``fn(args)``."""
    steps = {X[0]: 0}
    ends = tuple(_append(steps, a, [0])[-1] for a in args)
    last = Step(fn, ends, float(value))
    return _trimmed(steps, steps.setdefault(last, len(steps)))


def const(value: float) -> Function:
    """A stored number."""
    return call("const", value=value)


def power(base: Function, exponent: float) -> Function:
    """``base ** exponent``."""
    return call("pow", base, value=exponent)


def compose(outer: Function, inner: Function) -> Function:
    """``outer`` with its variable replaced by ``inner``."""
    steps = {X[0]: 0}
    end = _append(steps, inner, [0])[-1]
    return _trimmed(steps, _append(steps, outer, [end])[-1])


def rational(f: Function) -> bool:
    """Whether rationals have rational values."""
    return all(s.fn in RATIONAL or (s.fn == "pow" and s.value.is_integer()) for s in f)
