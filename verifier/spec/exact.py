"""Exact rationals from what people write: decimal literals, Python numbers, fractions."""

from __future__ import annotations

import re
from decimal import Decimal
from fractions import Fraction
from typing import TypeAlias

from bounds.errors import BadInput

Number: TypeAlias = int | float | str | Fraction | Decimal

# float64 needs about 1100 digits and exponents to -1074 when written out; anything far beyond that
# is a mistake, or an attempt to make 10**exponent eat the memory
MAX_DIGITS = 2000
MAX_EXPONENT = 2000

_DECIMAL = re.compile(r"([+-]?)([0-9]*)(?:\.([0-9]*))?(?:[eE]([+-]?[0-9]+))?")
_POWERS = tuple(10**i for i in range(64))


def decimal_literal(text: str) -> Fraction | None:
    """The exact value of a decimal literal; None when ``text`` is not one.

    Raises:
        OverflowError: more than ``MAX_DIGITS`` digits, or an exponent beyond ``MAX_EXPONENT``.
    """
    match = _DECIMAL.fullmatch(text)
    if match is None:
        return None
    sign, whole, part, exponent = match.groups()
    part = part or ""
    if not whole and not part:
        return None
    if len(whole) + len(part) > MAX_DIGITS or (exponent and len(exponent) > 6):
        raise OverflowError(text)
    shift = int(exponent) if exponent else 0
    if abs(shift) > MAX_EXPONENT:
        raise OverflowError(text)
    digits = int(whole + part)
    if sign == "-":
        digits = -digits
    shift -= len(part)
    if shift >= 0:
        return Fraction(digits * 10**shift)
    return Fraction(digits, _POWERS[-shift] if -shift < len(_POWERS) else 10**-shift)


def to_fraction(value: Number, what: str) -> Fraction:
    """An exact rational from a Python number, a decimal string or ``"p/q"``.

    Floats are taken at their exact binary value; write ``"0.1"`` for one tenth.

    Raises:
        BadInput: not a finite number; ``what`` names the offending argument.
    """
    try:
        if isinstance(value, str):
            upper, slash, lower = value.partition("/")
            numbers = (decimal_literal(upper), decimal_literal(lower if slash else "1"))
            if numbers[0] is None or numbers[1] is None:
                raise ValueError(value)
            return numbers[0] / numbers[1]
        return Fraction(value)
    except (ValueError, OverflowError, ZeroDivisionError, TypeError):
        raise BadInput(f"{what} is {str(value)[:40]!r}, which is not a finite number; give one") from None


def to_text(value: Fraction) -> str:
    """``"p"`` or ``"p/q"``: exact, and read back by :func:`to_fraction`."""
    return str(value)


def exact_decimal(value: Fraction) -> str | None:
    """Decimal notation with at least one digit after the point, or None when none is exact."""
    denominator = value.denominator
    places = 0
    for prime in (2, 5):
        power = 0
        while denominator % prime == 0:
            denominator //= prime
            power += 1
        places = max(places, power)
    if denominator != 1 or places > MAX_DIGITS:
        return None
    digits = str(abs(value.numerator) * 10**places // value.denominator).rjust(places + 1, "0")
    sign = "-" if value < 0 else ""
    return f"{sign}{digits[: len(digits) - places]}.{digits[len(digits) - places :] or '0'}"
