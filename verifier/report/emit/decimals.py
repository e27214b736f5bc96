"""Exact rationals as decimal text that a reader turns back into the same number."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from fractions import Fraction

_SMALLEST_NORMAL = 2.0**-126
_MOST_DIGITS = 40  # for numbers such as 1/3 that no decimal equals and no box confines
_DIGIT_LIMIT = 2000  # an exact expansion longer than this helps nobody


def decimal(value: Fraction, lower: Fraction | None = None, upper: Fraction | None = None) -> str:
    """Writes ``value`` as a decimal.

    A float32 value becomes the shortest text that reads back to that float32 (directly or through
    float64); any other value becomes its exact expansion, or where that is endless, enough digits.
    With a box given, digits are added until the text, read exactly, also lies inside
    ``[lower, upper]``: a reader that checks the decimal itself must not find it outside.

    Args:
        value: the number; inside the box when one is given.
        lower: smallest number that the text may denote, or None.
        upper: largest number that the text may denote, or None.
    """
    last = ""
    for last in _candidates(value):
        number = Fraction(last)
        if (lower is None or number >= lower) and (upper is None or number <= upper):
            return last
    return last


def integer(value: Fraction) -> str:
    """Writes a value of an integer element type, without a point when it has no fraction."""
    return str(value.numerator) if value.denominator == 1 else decimal(value)


def _candidates(value: Fraction) -> Iterator[str]:
    """Texts for ``value``, the most readable first and the exact one last if there is one."""
    short = _shortest_float32(value)
    if short is not None:
        yield short
        yield _with_point(repr(float(value)))
    exact = _exact(value)
    if exact is not None:
        yield exact
        return
    for digits in (20, _MOST_DIGITS, 4 * _MOST_DIGITS):
        # nearest first, then one unit below and above: a box narrower than that is a point,
        # and points of a box come from decimals, which are exact
        yield from _rounded(value, digits)


def _shortest_float32(value: Fraction) -> str | None:
    """Shortest text of a float32 value; None when ``value`` is no finite float32."""
    x = _as_float(value)
    if x is None or not _reads_as(x, x):
        return None
    # six significant digits name every decimal of six digits, so fewer need no trying,
    # except below the normal range where float32 has fewer digits itself
    for digits in range(6 if abs(x) >= _SMALLEST_NORMAL else 1, 10):
        text = f"{x:.{digits}g}"
        near = float(text)
        # neighbours too, so that the text is strictly inside the rounding interval and reading it
        # through float64 first cannot turn a tie the other way
        if all(
            _reads_as(t, x) for t in (near, math.nextafter(near, math.inf), math.nextafter(near, -math.inf))
        ):
            return _with_point(text)
    return None


def _as_float(value: Fraction) -> float | None:
    try:
        x = float(value)
    except OverflowError:
        return None
    return x if Fraction(x) == value else None


def _reads_as(text: float, x: float) -> bool:
    try:
        return struct.unpack("<f", struct.pack("<f", text))[0] == x
    except OverflowError:
        return False


def _with_point(text: str) -> str:
    return text if "." in text or "e" in text else text + ".0"


def _exact(value: Fraction) -> str | None:
    """The full decimal expansion, or None when it is endless or absurdly long."""
    rest, twos, fives = value.denominator, 0, 0
    while rest % 2 == 0:
        rest //= 2
        twos += 1
    while rest % 5 == 0:
        rest //= 5
        fives += 1
    places = max(twos, fives)
    if rest != 1 or places > _DIGIT_LIMIT:
        return None
    scaled = value.numerator * 2 ** (places - twos) * 5 ** (places - fives)
    return None if abs(scaled) >= 10**_DIGIT_LIMIT else _place(scaled, places)


def _rounded(value: Fraction, digits: int) -> Iterator[str]:
    """``value`` to about ``digits`` significant digits, then one unit down and up."""
    size = len(str(abs(value.numerator))) - len(str(value.denominator))
    places = digits - size
    nearest = round(value * Fraction(10) ** places)
    for scaled in (nearest, nearest - 1, nearest + 1):
        yield _place(scaled, places)


def _place(scaled: int, places: int) -> str:
    """Text of ``scaled * 10**-places``, positional when that is short."""
    sign = "-" if scaled < 0 else ""
    digits = str(abs(scaled)).rstrip("0") or "0"
    places -= len(str(abs(scaled))) - len(digits) if scaled else places
    if places <= 0 and len(digits) - places <= 30:
        return f"{sign}{digits}{'0' * -places}.0"
    if 0 < places <= len(digits) + 6:
        padded = digits.rjust(places + 1, "0")
        return f"{sign}{padded[:-places]}.{padded[-places:]}"
    exponent = len(digits) - 1 - places
    return f"{sign}{digits[0]}.{digits[1:] or '0'}e{exponent:+03d}"
