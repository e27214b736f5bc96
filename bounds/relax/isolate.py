"""Where a smooth function is surely positive or negative: bisection in interval arithmetic, all cells at once."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

from bounds.expression import Expr, Fn, depends
from bounds.relax.enclose import enclose

Cell: TypeAlias = tuple[float, float, int]

POSITIVE, NEGATIVE, FLAT, UNKNOWN = 1, -1, 0, 2
MAX_OPEN = 2048  # undecided cells at one level; more means infinitely many zeros
LONG_RUN = 256
FINEST = 2.0**-50  # cells are not split below this relative width
CORE = 64.0  # where bisection goes on although there are too many undecided cells outside


def isolate(e: Expr, lo: float, hi: float, window: float = CORE, *, strict: bool = False) -> list[Cell]:
    """Splits ``[lo, hi]`` into cells of proved sign and (mostly tiny) undecided cells.

    Args:
        e: a function without jumps on the interval; it need not be defined everywhere.
        lo, hi: ends, may be infinite.
        strict: a sign is proved only where the function is nowhere zero in the closed cell.
        window: cells that reach beyond ``[-window, window]`` are given up first when there are too many.

    Returns:
        ``(a, b, sign)`` from left to right: touching, covering ``[lo, hi]``; ``sign`` is POSITIVE (``e >= 0`` on the closed
        cell, and > 0 except at isolated points or where it underflows), NEGATIVE, FLAT (identically zero) or UNKNOWN.
    """
    if not depends(e):
        point = np.zeros(1)
        below, above = enclose(e, point, point)
        exact = e.value if e.fn is Fn.CONST else None
        if exact == 0:
            return [(lo, hi, FLAT)]
        sign = POSITIVE if below[0] > 0 else NEGATIVE if above[0] < 0 else UNKNOWN
        return [(lo, hi, sign)]
    ends = _start(lo, hi)
    a, b = ends[:-1], ends[1:]
    done: list[tuple[Any, Any, Any]] = []
    while len(a):
        below, above = enclose(e, a, b)
        if strict:
            sign = np.where(below > 0, POSITIVE, np.where(above < 0, NEGATIVE, UNKNOWN))
        else:
            sign = np.where(below >= 0, POSITIVE, np.where(above <= 0, NEGATIVE, UNKNOWN))
        mid = np.where(np.isinf(a) | np.isinf(b), np.nan, a / 2 + b / 2)
        small = ~(b - a > FINEST * np.maximum(np.abs(a), np.abs(b))) | ~((a < mid) & (mid < b))
        final = (sign != UNKNOWN) | small
        if np.count_nonzero(~final) > MAX_OPEN:
            final |= _hopeless(a, b, final)
            if np.count_nonzero(~final) > MAX_OPEN:
                final |= (np.abs(a) > window) | (np.abs(b) > window)
            if np.count_nonzero(~final) > 8 * MAX_OPEN:
                final[:] = True
        done.append((a[final], b[final], sign[final]))
        a, b, mid = a[~final], b[~final], mid[~final]
        a, b = np.concatenate([a, mid]), np.concatenate([mid, b])
    return _merged(*(np.concatenate(parts) for parts in zip(*done, strict=True)))


def _hopeless(a: Any, b: Any, final: Any) -> Any:
    """Open cells in long unbroken runs: around an isolated zero only a few neighbours stay undecided."""
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
    return [(float(a[i]), float(b[j]), int(sign[i])) for i, j in zip(starts, stops, strict=True)]
