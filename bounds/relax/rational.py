"""Signs of derivatives of rational functions, by polynomials with exact coefficients.

The derivative of P/Q is (P'Q - PQ')/Q^2. Written out as one polynomial, its sign is provable far out, where
the quotient rule's form cancels.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import TypeAlias

from bounds.expression import Expr, Fn, X, nodes
from bounds.relax.derivative import ONE, ZERO, number, times

Polynomial: TypeAlias = tuple[Fraction, ...]  # coefficients, constant first; no trailing zeros
MAX_DEGREE = 16


def _trim(p: Sequence[Fraction]) -> Polynomial:
    n = len(p)
    while n and p[n - 1] == 0:
        n -= 1
    return tuple(p[:n])


def _add(p: Polynomial, q: Polynomial, sign: int = 1) -> Polynomial:
    n = max(len(p), len(q))
    p, q = (tuple(v) + (Fraction(0),) * (n - len(v)) for v in (p, q))
    return _trim([a + sign * b for a, b in zip(p, q, strict=True)])


def _mul(p: Polynomial, q: Polynomial) -> Polynomial:
    out = [Fraction(0)] * (len(p) + len(q))
    for i, a in enumerate(p):
        for j, b in enumerate(q):
            out[i + j] += a * b
    return _trim(out)


def _slope(p: Polynomial) -> Polynomial:
    return _trim([i * c for i, c in enumerate(p)][1:])


Quotient: TypeAlias = tuple[Polynomial, Polynomial]
UNIT: Polynomial = (Fraction(1),)


def normal_form(e: Expr) -> Quotient | None:
    """``(P, Q)`` with ``e = P / Q``; None if that is not its form or the degrees are large."""
    done: dict[Expr, Quotient] = {}
    for part in nodes(e):
        args = [done[a] for a in part.args]
        found = _combine(part, args)
        if found is None or max(map(len, found)) > MAX_DEGREE + 1 or not found[1]:
            return None
        done[part] = found
    return done[e]


def _combine(e: Expr, args: list[Quotient]) -> Quotient | None:
    if e.fn is Fn.X:
        return (Fraction(0), Fraction(1)), UNIT
    if e.fn is Fn.CONST:
        return _trim([Fraction(e.value)]), UNIT
    if e.fn in (Fn.ADD, Fn.SUB):
        (p, q), (r, s) = args
        sign = 1 if e.fn is Fn.ADD else -1
        return (_add(p, r, sign), q) if q == s else (_add(_mul(p, s), _mul(r, q), sign), _mul(q, s))
    if e.fn is Fn.NEG:
        return _add((), args[0][0], -1), args[0][1]
    if e.fn is Fn.MUL:
        return _mul(args[0][0], args[1][0]), _mul(args[0][1], args[1][1])
    if e.fn is Fn.DIV:
        return _mul(args[0][0], args[1][1]), _mul(args[0][1], args[1][0])
    if e.fn is Fn.POW and e.value.is_integer() and abs(e.value) <= MAX_DEGREE:
        p, q = args[0] if e.value >= 0 else args[0][::-1]
        top, bottom = UNIT, UNIT
        for _ in range(int(abs(e.value))):
            top, bottom = _mul(top, p), _mul(bottom, q)
        return top, bottom
    return None


def _expression(p: Polynomial) -> Expr | None:
    """By Horner's rule, powers of the variable taken out."""
    if not p:
        return ZERO
    low = next(i for i, c in enumerate(p) if c)
    # a common denominator leaves the sign and makes the numbers dyadic
    scale = 1
    for c in p:
        scale *= c.denominator // _gcd(scale, c.denominator)
    out: Expr | None = None
    gap = 0
    for c in reversed(p[low:]):
        if out is not None:
            gap += 1
        if c == 0:
            continue
        value = number(c * scale)
        if value is None:
            return None
        out = value if out is None else Expr(Fn.ADD, (Expr(Fn.MUL, (out, _x_power(gap))), value))
        gap = 0
    if out is None:
        return None
    return times(out, _x_power(low)) if low else out


def _gcd(a: int, b: int) -> int:
    while b:
        a, b = b, a % b
    return a


def _x_power(n: int) -> Expr:
    return X if n == 1 else ONE if n == 0 else Expr(Fn.POW, (X,), float(n))


def sign_of_derivative(e: Expr, order: int) -> Expr | None:
    """An expression with the sign of the first or second derivative wherever ``e`` is defined."""
    form = normal_form(e)
    if form is None:
        return None
    p, q = form
    first = _add(_mul(_slope(p), q), _mul(p, _slope(q)), -1)
    if order == 1:
        return _expression(first)
    twice = tuple(2 * c for c in _slope(q))
    second = _expression(_add(_mul(_slope(first), q), _mul(first, twice), -1))
    below = _expression(q)
    return None if second is None or below is None else times(second, below)
