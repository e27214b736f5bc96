"""Values of scalar expressions to sixty digits: the judge of the scalar engine, sharing no arithmetic with
it.

Everything is built from the addition, multiplication, square root, exponential and logarithm of
:mod:`decimal`, which are correctly rounded; sine, cosine, arctangent and the error function are power series.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal, Overflow, localcontext
from fractions import Fraction
from functools import lru_cache

from bounds.expression import Expr, Fn, nodes

DIGITS = 60
GUARD = 40  # extra digits while computing: for cancellation, and for reducing large angles


class UndefinedError(ArithmeticError):
    """The function has no value there."""


class TooLargeError(Exception):
    """The value, or one on the way to it, has thousands of digits: nothing a float can be compared with."""


def decimal_of(z: Fraction) -> Decimal:
    """A rational, to the context's precision."""
    return Decimal(z.numerator) / Decimal(z.denominator)


@lru_cache(maxsize=1)
def _pi() -> Decimal:
    with localcontext() as c:
        c.prec = 2 * (DIGITS + GUARD)
        # Machin's formula
        return 4 * (4 * _arctan_series(Decimal(1) / 5) - _arctan_series(Decimal(1) / 239))


def _arctan_series(x: Decimal) -> Decimal:
    total, term, n, square = x, x, 1, x * x
    while abs(term) > abs(total).scaleb(-2 * (DIGITS + GUARD)) and term:
        term, n = -term * square, n + 2
        total += term / n
    return total


def _atan(x: Decimal) -> Decimal:
    turns = 0
    while abs(x) > Decimal("0.1"):  # atan x = 2 atan(x / (1 + sqrt(1 + x^2)))
        x, turns = x / (1 + (1 + x * x).sqrt()), turns + 1
    return _arctan_series(x) * 2**turns


def _sin(x: Decimal) -> Decimal:
    with localcontext() as c:
        c.prec += max(0, x.adjusted()) + 5
        tau = 2 * _pi()
        x = x - tau * (x / tau).to_integral_value()
        total, term, n = x, x, 1
        while term and abs(term) > abs(total).scaleb(-c.prec):
            term, n = -term * x * x / ((n + 1) * (n + 2)), n + 2
            total += term
        return total


def _cos(x: Decimal) -> Decimal:
    with localcontext() as c:
        c.prec += max(0, x.adjusted()) + 5
        out = _sin(x + _pi() / 2)
        return min(out, Decimal(1))  # rounded, near the top


def _erf(x: Decimal) -> Decimal:
    if abs(x) > 20:
        return Decimal(1).copy_sign(x)
    with localcontext() as c:
        c.prec += 20
        total, term, n = x, x, 0
        while term and abs(term) > abs(total).scaleb(-c.prec):
            n += 1
            term = term * 2 * x * x / (2 * n + 1)
            total += term
        return total * 2 / _pi().sqrt() * (-x * x).exp()


def _log(x: Decimal) -> Decimal:
    if x <= 0:
        raise UndefinedError
    return x.ln()


def _sqrt(x: Decimal) -> Decimal:
    if x < 0:
        raise UndefinedError
    return x.sqrt()


def _log1p(x: Decimal) -> Decimal:
    if abs(x) < Decimal("1e-20"):
        return x - x * x / 2 + x**3 / 3 - x**4 / 4 + x**5 / 5
    return (1 + x).ln()


def _tanh(x: Decimal) -> Decimal:
    if abs(x) < Decimal("1e-15"):
        return x - x**3 / 3 + 2 * x**5 / 15 - 17 * x**7 / 315
    e = (-2 * abs(x)).exp()
    return ((1 - e) / (1 + e)).copy_sign(x)


def _sinh(x: Decimal) -> Decimal:
    if abs(x) < Decimal("1e-10"):
        return x + x**3 / 6 + x**5 / 120 + x**7 / 5040
    return (x.exp() - (-x).exp()) / 2


def _asinh(x: Decimal) -> Decimal:
    a = abs(x)
    return _log1p(a + a * a / (1 + (1 + a * a).sqrt())).copy_sign(x)


def _acosh(x: Decimal) -> Decimal:
    if x < 1:
        raise UndefinedError
    return (x + (x * x - 1).sqrt()).ln()


def _atanh(x: Decimal) -> Decimal:
    if abs(x) >= 1:
        raise UndefinedError
    return _log1p(2 * x / (1 - x)) / 2


def _asin(x: Decimal) -> Decimal:
    if abs(x) > 1:
        raise UndefinedError
    if abs(x) == 1:
        return (_pi() / 2).copy_sign(x)
    return _atan(x / ((1 - x) * (1 + x)).sqrt())


def _inverse(x: Decimal) -> Decimal:
    if x == 0:
        raise UndefinedError
    return 1 / x


def _softplus(x: Decimal) -> Decimal:
    return max(x, Decimal(0)) + _log1p((-abs(x)).exp())


def _sigmoid(x: Decimal) -> Decimal:
    e = (-abs(x)).exp()
    return 1 / (1 + e) if x >= 0 else e / (1 + e)


def _tan(x: Decimal) -> Decimal:
    return _sin(x) * _inverse(_cos(x))


def _power(x: Decimal, p: float) -> Decimal:
    if p.is_integer():
        return x ** int(p) if p >= 0 else _inverse(x) ** int(-p)
    if x < 0 or (x == 0 and p < 0):
        raise UndefinedError
    return Decimal(0) if x == 0 else (x.ln() * Decimal(p)).exp()


_SMOOTH: dict[Fn, Callable[[Decimal], Decimal]] = {
    Fn.EXP: lambda x: x.exp(), Fn.LOG: _log, Fn.SQRT: _sqrt, Fn.SIN: _sin, Fn.COS: _cos, Fn.TAN: _tan,
    Fn.TANH: _tanh, Fn.SIGMOID: _sigmoid, Fn.SOFTPLUS: _softplus, Fn.ERF: _erf, Fn.ATAN: _atan,
    Fn.ASIN: _asin,
    Fn.ACOS: lambda x: _pi() / 2 - _asin(x), Fn.SINH: _sinh, Fn.COSH: lambda x: (x.exp() + (-x).exp()) / 2,
    Fn.ASINH: _asinh, Fn.ACOSH: _acosh, Fn.ATANH: _atanh,
}  # fmt: skip


def value(e: Expr, z: Fraction) -> Fraction:
    """``e(z)``: exactly where the operations are rational, otherwise to about sixty digits.

    Raises:
        UndefinedError: the function is undefined there.
        TooLargeError: it cannot be computed.
    """
    done: dict[Expr, Fraction] = {}
    failed: set[Expr] = set()
    for part in nodes(e):
        if part.fn is Fn.WHERE:
            c, a, b = part.args
            chosen = None if c in failed else a if done[c] == 1 else b
            if chosen is None or chosen in failed:
                failed.add(part)
            else:
                done[part] = done[chosen]
        elif any(a in failed for a in part.args):
            failed.add(part)
        else:
            try:
                done[part] = _one(part, [done[a] for a in part.args], z)
            except (Overflow, OverflowError):
                raise TooLargeError from None
            except (ArithmeticError, ValueError):
                failed.add(part)
    if e in failed:
        raise UndefinedError
    return done[e]


def _one(e: Expr, args: list[Fraction], z: Fraction) -> Fraction:
    if e.fn in _SMOOTH or e.fn is Fn.POW:
        if e.fn is Fn.POW and e.value.is_integer() and abs(e.value) <= 64:
            bits = max(args[0].numerator.bit_length(), args[0].denominator.bit_length())
            if args[0] and abs(e.value) * bits > 1e5:
                raise TooLargeError
            return args[0] ** int(e.value)
        with localcontext() as c:
            c.prec = DIGITS + GUARD
            c.Emax, c.Emin = 10**9, -(10**9)
            x = decimal_of(args[0])
            out = _power(x, e.value) if e.fn is Fn.POW else _SMOOTH[e.fn](x)
            if abs(out.adjusted()) > 5000:  # beyond every float, and slow as a fraction
                if out.adjusted() > 0:
                    raise TooLargeError
                return Fraction(0)
            return Fraction(out)
    if e.fn is Fn.X:
        return z
    if e.fn is Fn.CONST:
        return Fraction(e.value)
    return _RATIONAL[e.fn](*args)


_RATIONAL: dict[Fn, Callable[..., Fraction]] = {
    Fn.ADD: lambda a, b: a + b,
    Fn.SUB: lambda a, b: a - b,
    Fn.MUL: lambda a, b: a * b,
    Fn.DIV: lambda a, b: a / b,
    Fn.NEG: lambda a: -a,
    Fn.ABS: abs,
    Fn.RELU: lambda a: max(a, Fraction(0)),
    Fn.MAX: max,
    Fn.MIN: min,
    Fn.SIGN: lambda a: Fraction((a > 0) - (a < 0)),
    Fn.FLOOR: lambda a: Fraction(math.floor(a)),
    Fn.CEIL: lambda a: Fraction(math.ceil(a)),
    Fn.TRUNC: lambda a: Fraction(math.trunc(a)),
    Fn.ROUND: lambda a: Fraction(round(a)),
    Fn.STEP: lambda a: Fraction(int(a >= 0)),
    Fn.STRICT: lambda a: Fraction(int(a > 0)),
    Fn.ZERO: lambda a: Fraction(int(a == 0)),
}
