"""How far a model's own float32 evaluation of an expression can be from its exact value.

Running error analysis: every operation gets an enclosure of its exact value over the interval and a bound on
the error of its computed one. Arithmetic is rounded once. Elementary functions are approximations; their
error is taken from :data:`KERNELS`. Selections and steps add no error of their own, but an error of what they
compare can carry them over a jump, and then the jump is part of the error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bounds.expression import Expr, Fn, X, nodes
from bounds.numerics import FLOAT32, LARGEST_SUM
from bounds.relax.derivative import derivative
from bounds.relax.enclose import RULES, Interval, enclose_interval, enclose_power

U, ETA = FLOAT32.u, FLOAT32.eta

KERNELS: Mapping[Fn, tuple[float, float]] = {
    Fn.EXP: (8, 0), Fn.LOG: (8, 4), Fn.SQRT: (2, 0), Fn.POW: (8, 0), Fn.SIN: (4, 4), Fn.COS: (4, 4),
    Fn.TAN: (8, 4), Fn.TANH: (8, 12), Fn.SIGMOID: (8, 12), Fn.SOFTPLUS: (16, 16), Fn.ERF: (8, 8),
    Fn.ATAN: (8, 8), Fn.ASIN: (16, 8), Fn.ACOS: (16, 16), Fn.SINH: (16, 4), Fn.COSH: (16, 0),
    Fn.ASINH: (16, 4), Fn.ACOSH: (16, 4), Fn.ATANH: (16, 8),
}  # fmt: skip
"""Declared errors of float32 kernels: ``relative * u * |value| + absolute * u`` with u = 2^-24.

Measured with onnxruntime 1.32 (CPU, x86-64 with AVX-512) against float64 on 8 million arguments (a grid over
all binary32 numbers, and uniform samples), as the relative part that remains after the absolute one: EXP 1.3,
LOG 1.9 + 1, SIN and COS 0.8 + 1 (2.8 relative), TAN 1.4, TANH 5.3 absolute (relative 206 near the smallest
numbers), SIGMOID 3 absolute, SOFTPLUS 8 absolute, ERF 1 absolute, ATAN 3.7 absolute, ASIN 8.1 relative, ACOS
4.8, SINH 2.3, COSH 2, ASINH and ACOSH 2.2, ATANH 2.3. At least doubled here, for other builds.
tests/unit/bounds/test_scalar_rounding.py repeats the measurement on samples.
"""

FAR_ARGUMENT = 2.0**17  # sin, cos and tan of larger arguments: kernels reduce them in different ways
EXACT_WHOLE = 2.0**24  # whole numbers up to here are floats, and so are their sums and products
INFLATE = 1.0 + 2.0**-30  # pays for the float64 arithmetic of this file

WHOLE = frozenset({Fn.SIGN, Fn.FLOOR, Fn.CEIL, Fn.TRUNC, Fn.ROUND, Fn.STEP, Fn.STRICT, Fn.ZERO})


@dataclass(frozen=True, slots=True)
class Computed:
    """One operation's exact range and error, per interval.

    Attributes:
        lo, hi: enclosure of the exact value (NaN: unknown).
        error: bound on ``|computed - exact|``.
        whole: all computed values are whole numbers (of any size).
    """

    lo: Any
    hi: Any
    error: Any
    whole: bool

    @property
    def size(self) -> Any:
        """The largest exact magnitude."""
        return np.maximum(np.abs(self.lo), np.abs(self.hi))

    @property
    def widened(self) -> Interval:
        """Where exact and computed value lie."""
        return self.lo - self.error, self.hi + self.error


def model_error(e: Expr, lo: Any, hi: Any) -> Any:
    """Bounds ``|fl32(e)(z) - e(z)|`` over float32 z in each ``[lo, hi]``.

    Args:
        e: the expression as the model evaluates it, operation by operation.
        lo, hi: float64 arrays.

    Returns:
        The bound; infinite where the evaluation may overflow or leave a domain, or where nothing is known.
    """
    values: dict[Expr, Computed] = {}
    with np.errstate(all="ignore"):
        for part in nodes(e):
            values[part] = _step(part, [values[a] for a in part.args], lo, hi)
        error = values[e].error
    return np.where(np.isnan(error), np.inf, np.broadcast_to(error, np.shape(lo)))


def _step(e: Expr, args: list[Computed], lo: Any, hi: Any) -> Computed:
    if e.fn is Fn.X:
        return Computed(lo, hi, np.zeros(np.shape(lo)), whole=False)
    if e.fn is Fn.CONST:
        c = np.float64(e.value)
        near = float(np.float32(e.value))
        return Computed(c, c, np.float64(abs(near - e.value)), whole=near.is_integer())
    intervals = [(a.lo, a.hi) for a in args]
    if len(args) == 2 and args[0] is args[1]:
        intervals[1] = intervals[0]  # a square is recognised by its identical operands
    below, above = enclose_power(intervals[0], e.value) if e.fn is Fn.POW else RULES[e.fn](*intervals)
    whole = e.fn in WHOLE or (e.fn in _KEEPS_WHOLE and all(a.whole for a in args))
    out = Computed(below, above, np.float64(0), whole)
    rule = _ERRORS.get(e.fn)
    error = rule(args, out) if rule is not None else _kernel(e, args[0], out)
    size = out.size + error
    error = np.where(size < LARGEST_SUM, error * INFLATE, np.inf)  # NaN is not smaller
    for a in args[:1] if e.fn is Fn.WHERE else args:  # an operand may have become infinite or no number
        error = np.where(a.error < np.inf, error, np.inf)
    return Computed(below, above, error, whole)


_KEEPS_WHOLE = frozenset({Fn.ADD, Fn.SUB, Fn.MUL, Fn.NEG, Fn.ABS, Fn.RELU, Fn.MAX, Fn.MIN})


def _rounded(error: Any, out: Computed) -> Any:
    """One rounding on top of ``error``; none when the result is a small whole number."""
    size = out.size + error
    paid = error + U * size + ETA
    return np.where(size < EXACT_WHOLE, error, paid) if out.whole else paid


def _sum(args: list[Computed], out: Computed) -> Any:
    return _rounded(args[0].error + args[1].error, out)


def _times(size: Any, error: Any) -> Any:
    """A size times an error: an exact operand has none, however large the other is."""
    return np.where(error == 0, 0.0, size * error)


def _product(args: list[Computed], out: Computed) -> Any:
    a, b = args
    return _rounded(_times(a.size, b.error) + _times(b.size + b.error, a.error), out)


def _quotient(args: list[Computed], out: Computed) -> Any:
    a, b = args
    least = np.where(b.lo > 0, b.lo, -b.hi) - b.error  # of |computed denominator|
    moved = (a.error + _times(out.size, b.error)) / least
    return np.where(least > 0, moved + U * (out.size + moved) + ETA, np.inf)


def _same(args: list[Computed], _: Computed) -> Any:
    return args[0].error


def _larger(args: list[Computed], _: Computed) -> Any:
    return np.maximum(args[0].error, args[1].error)


def _stairs(fn: Fn) -> Callable[[list[Computed], Computed], Any]:
    """A step function: no error unless the operand's error reaches another step."""

    def rule(args: list[Computed], _: Computed) -> Any:
        a = args[0]
        below, above = RULES[fn](a.widened)
        most = np.floor(a.error) + 1 if fn in (Fn.FLOOR, Fn.CEIL, Fn.TRUNC, Fn.ROUND) else 2.0
        return np.where(a.error == 0, 0.0, np.minimum(above - below, most))

    return rule


def _selected(args: list[Computed], _: Computed) -> Any:
    c, a, b = args
    of_a = np.where(c.hi > 0, a.error, 0.0)
    of_b = np.where(c.lo < 1, b.error, 0.0)
    error = np.maximum(of_a, of_b)
    gap = np.maximum(a.hi, b.hi) - np.minimum(a.lo, b.lo)
    return np.where(c.error == 0, error, np.maximum(a.error, b.error) + gap)


def _kernel(e: Expr, a: Computed, out: Computed) -> Any:
    """An elementary function: the operand's error times the slope nearby, and the kernel's own."""
    relative, absolute = KERNELS[e.fn]
    moved = np.zeros(np.shape(a.error))
    if np.any(a.error != 0):
        slope = enclose_interval(derivative(Expr(e.fn, (X,), e.value)), a.widened)
        steep = np.maximum(np.abs(slope[0]), np.abs(slope[1]))
        moved = _times(steep, a.error)
    if e.fn is Fn.POW:
        # an exponent that is no float32 is a little different in the model
        gap = abs(float(np.float32(e.value)) - e.value)
        logs = np.maximum(np.abs(np.log(np.maximum(a.lo - a.error, ETA))), np.abs(np.log(a.hi + a.error)))
        moved = moved + _times(2 * logs * (out.size + moved), np.float64(gap))
    if e.fn in (Fn.SIN, Fn.COS, Fn.TAN):
        moved = np.where(a.size + a.error < FAR_ARGUMENT, moved, np.inf)
    if e.fn in (Fn.SIN, Fn.COS):
        moved = np.where(np.isnan(a.error) | (a.size == np.inf), moved, np.minimum(moved, 2.0))
    return moved + relative * U * (out.size + moved) + absolute * U + ETA


_ERRORS: Mapping[Fn, Callable[[list[Computed], Computed], Any]] = {
    Fn.ADD: _sum,
    Fn.SUB: _sum,
    Fn.MUL: _product,
    Fn.DIV: _quotient,
    Fn.NEG: _same,
    Fn.ABS: _same,
    Fn.RELU: _same,
    Fn.MAX: _larger,
    Fn.MIN: _larger,
    **{fn: _stairs(fn) for fn in WHOLE},
    Fn.WHERE: _selected,
}
