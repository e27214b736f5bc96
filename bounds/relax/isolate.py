"""Where a smooth function is surely positive or negative: bisection, all cells at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from bounds.expression import Expr, Fn, depends
from bounds.relax.derivative import derivative
from bounds.relax.enclose import down, enclose, up

Cell: TypeAlias = tuple[float, float, float]

POSITIVE, NEGATIVE, FLAT, UNKNOWN = 1, -1, 0, 2
UNDECIDED = np.inf  # as a label of steps
FINEST = 2.0**-50  # cells are not split below this relative width
CORE = 64.0  # where bisection goes on although there are too many undecided cells outside
MAX_OPEN = 4096  # undecided cells at one level; more means infinitely many zeros, or no provable sign
MANY_OPEN = 4 * MAX_OPEN
LONG_RUN = 256  # around an isolated zero fewer neighbouring cells stay undecided ...
LONG_LEVEL = 8  # ... once they have been halved so often


def isolate(e: Expr, lo: float, hi: float, window: float = CORE, *, strict: bool = False) -> list[Cell]:
    """Splits ``[lo, hi]`` into cells of proved sign and (mostly tiny) undecided cells.

    Args:
        e: a function without kinks or jumps on the interval; it need not be defined everywhere.
        lo, hi: ends, may be infinite.
        strict: a sign is proved only where the function is nowhere zero in the closed cell.
        window: cells that reach beyond ``[-window, window]`` are given up first when there are too many.

    Returns:
        ``(a, b, sign)`` from left to right: touching, covering ``[lo, hi]``; ``sign`` is POSITIVE (``e >= 0``
        on the closed cell), NEGATIVE, FLAT (identically zero) or UNKNOWN.
    """
    if not depends(e):
        return [(lo, hi, _constant_sign(e))]
    return bisect(lambda a, b: _signs(e, a, b, strict=strict), lo, hi, window)


def levels(e: Expr, lo: float, hi: float, window: float = CORE) -> list[Cell]:
    """The same for a step function of something continuous: the label of a cell is the step, or UNDECIDED."""

    def label(a: Any, b: Any) -> Any:
        below, above = enclose(e, a, b)
        return np.where(below == above, below, UNDECIDED)

    return bisect(label, lo, hi, window, unknown=UNDECIDED)


def bisect(
    label: Callable[[Any, Any], Any], lo: float, hi: float, window: float, *, unknown: float = UNKNOWN
) -> list[Cell]:
    """Cells of equal label covering ``[lo, hi]``, halving those of label ``unknown`` while that helps."""
    ends = _start(lo, hi)
    a, b = ends[:-1], ends[1:]
    done: list[tuple[Any, Any, Any]] = []
    level, crowded = 0, False
    while len(a):
        sign = label(a, b)
        mid = np.where(np.isinf(a) | np.isinf(b), np.nan, a / 2 + b / 2)
        final = sign != unknown
        final |= ~(b - a > FINEST * np.maximum(np.abs(a), np.abs(b))) | ~((a < mid) & (mid < b))
        if np.count_nonzero(~final) > MAX_OPEN:
            crowded = True
            final |= np.maximum(np.abs(a), np.abs(b)) > window
        if level >= LONG_LEVEL:
            final |= _long_runs(a, b, final)
        if np.count_nonzero(~final) > MANY_OPEN:
            final[:] = True
        done.append((a[final], b[final], sign[final]))
        a, b, mid = a[~final], b[~final], mid[~final]
        a, b = np.concatenate([a, mid]), np.concatenate([mid, b])
        level += 1
    cells = _merged(*(np.concatenate(parts) for parts in zip(*done, strict=True)))
    return _trimmed(cells, window, unknown) if crowded else cells


def _constant_sign(e: Expr) -> int:
    if e.fn is Fn.CONST and e.value == 0:
        return FLAT
    z = np.zeros(1)
    below, above = enclose(e, z, z)
    return POSITIVE if below[0] > 0 else NEGATIVE if above[0] < 0 else UNKNOWN


def _signs(e: Expr, a: Any, b: Any, *, strict: bool) -> Any:
    """Of cells [a, b]: by natural enclosure, then by the centred form where that fails."""
    below, above = enclose(e, a, b)
    sign = _decide(below, above, strict=strict)
    todo = np.flatnonzero((sign == UNKNOWN) & np.isfinite(a) & np.isfinite(b))
    if len(todo):
        a, b = a[todo], b[todo]
        c = a / 2 + b / 2
        at, slope = enclose(e, c, c), enclose(derivative(e), a, b)
        with np.errstate(all="ignore"):
            radius = up(np.maximum(b - c, c - a))
            swing = up(np.maximum(np.abs(slope[0]), np.abs(slope[1])) * radius)
            sign[todo] = _decide(down(at[0] - swing), up(at[1] + swing), strict=strict)
    return sign


def _decide(below: Any, above: Any, *, strict: bool) -> Any:
    if strict:
        return np.where(below > 0, POSITIVE, np.where(above < 0, NEGATIVE, UNKNOWN))
    return np.where(below >= 0, POSITIVE, np.where(above <= 0, NEGATIVE, UNKNOWN))


def _long_runs(a: Any, b: Any, final: Any) -> Any:
    """Open cells in long unbroken runs, where halving will not show what rounding hides."""
    order = np.argsort(a, kind="stable")
    is_open = ~final[order]
    joined = np.concatenate([[False], is_open[1:] & is_open[:-1] & (a[order][1:] == b[order][:-1])])
    run = np.cumsum(~joined)
    length = np.bincount(run, weights=is_open)
    out = np.empty(len(a), dtype=bool)
    out[order] = is_open & (length[run] > LONG_RUN)
    return out


def _start(lo: float, hi: float) -> Any:
    powers = np.ldexp(1.0, np.arange(-1074, 1024))
    fine = np.linspace(-8, 8, 129)
    points = np.unique(np.concatenate([-powers, fine, powers]))
    return np.concatenate([[lo], points[(points > lo) & (points < hi)], [hi]])


def _merged(a: Any, b: Any, sign: Any) -> list[Cell]:
    order = np.argsort(a, kind="stable")
    a, b, sign = a[order], b[order], sign[order]
    starts = np.flatnonzero(np.concatenate([[True], sign[1:] != sign[:-1]]))
    stops = np.concatenate([starts[1:], [len(a)]]) - 1
    return [(float(a[i]), float(b[j]), float(sign[i])) for i, j in zip(starts, stops, strict=True)]


def _trimmed(cells: list[Cell], window: float, unknown: float) -> list[Cell]:
    """Beyond the first wide undecided cell outside the window, nothing is kept: one undecided cell."""
    first, last = 0, len(cells) - 1
    for i, (a, b, sign) in enumerate(cells):
        if sign == unknown and b - a > window * FINEST:
            if b <= -window:
                first = i
            if a >= window:
                last = i
                break
    middle = cells[first : last + 1]
    if first > 0:
        middle[0] = (cells[0][0], middle[0][1], unknown)
    if last < len(cells) - 1:
        middle[-1] = (middle[-1][0], cells[-1][1], unknown)
    return middle
