"""The shape of a scalar function: where it is convex or concave, and what happens in between.

Boxes and segments alternate: segment 0, box 0, segment 1, ..., box m-1, segment m. A box is a point where the
function is not smooth or changes curvature (a few ulps wide where its place is not a float); between boxes
the curvature has a proved sign or nothing is known.
"""

from __future__ import annotations

import math
from collections.abc import Sequence, Set
from dataclasses import dataclass
from typing import Any

import numpy as np

from bounds.evaluate_scalar import evaluate_expression
from bounds.expression import Expr, Fn, is_rational, nodes
from bounds.relax.derivative import derivative
from bounds.relax.enclose import enclose
from bounds.relax.isolate import FLAT, UNKNOWN, isolate
from bounds.relax.pieces import LEFT_END, RIGHT_END, Cut, Piece, TooManyPiecesError, narrow, split
from bounds.relax.rational import sign_of_derivative

CORE_HALVINGS = 6


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch between two boxes.

    Attributes:
        lo, hi: its ends (closed).
        kind: POSITIVE (convex), NEGATIVE (concave), FLAT (affine) or UNKNOWN.
        expr: the smooth expression that is the function there; None where nothing is known.
    """

    lo: float
    hi: float
    kind: int
    expr: Expr | None


@dataclass(frozen=True, slots=True)
class Box:
    """A point (or a few ulps) between segments.

    Attributes:
        lo, hi: where.
        value: encloses the function on it.
        before, after: enclose the limits from the left and right (only of use where ``lo == hi``).
    """

    lo: float
    hi: float
    value: tuple[float, float]
    before: tuple[float, float]
    after: tuple[float, float]


@dataclass(frozen=True)
class Partition:
    """Segments and boxes, left to right, and as arrays."""

    segments: tuple[Segment, ...]
    boxes: tuple[Box, ...]
    exact: tuple[Any, ...]  # per box: its rational place, where known

    def __post_init__(self) -> None:
        put = object.__setattr__
        put(self, "box_lo", np.array([b.lo for b in self.boxes]))
        put(self, "box_hi", np.array([b.hi for b in self.boxes]))
        sides = [(b.value, b.before, b.after) for b in self.boxes]
        put(self, "below", np.array([[v[0] for v in s] for s in sides]).reshape(-1, 3))
        put(self, "above", np.array([[-v[1] for v in s] for s in sides]).reshape(-1, 3))
        put(self, "wide", any(b.lo < b.hi for b in self.boxes))
        put(self, "jumps", any(not b.value == b.before == b.after for b in self.boxes))
        put(self, "kind", np.array([s.kind for s in self.segments]))
        put(self, "seg_lo", np.array([s.lo for s in self.segments]))
        put(self, "seg_hi", np.array([s.hi for s in self.segments]))
        number = {e: i for i, e in enumerate(dict.fromkeys(s.expr for s in self.segments))}
        put(self, "exprs", list(number))
        put(self, "piece", np.array([number[s.expr] for s in self.segments]))

    box_lo: Any = None
    box_hi: Any = None
    below: Any = None  # per box: lower bounds of value, limit before, limit after
    above: Any = None  # ... and minus their upper bounds
    wide: bool = False  # some box has a width
    jumps: bool = False  # some box has limits of its own
    kind: Any = None
    seg_lo: Any = None
    seg_hi: Any = None
    exprs: Any = None
    piece: Any = None

    @property
    def proved(self) -> tuple[float, float]:
        """Between which floats something is known."""
        first, last = self.segments[0], self.segments[-1]
        lo = first.hi if first.kind == UNKNOWN else -math.inf
        return lo, last.lo if last.kind == UNKNOWN else math.inf


def partition(e: Expr, found: Sequence[Piece], window: float, *, order: int = 2) -> Partition:
    """Analyses the pieces of ``e``: by curvature (``order`` 2) or by monotonicity (``order`` 1)."""
    builder = _Builder(e, order, window)
    for piece in found:
        builder.piece(piece)
    return Partition(tuple(builder.segments), tuple(builder.boxes), tuple(builder.exact))


def pieces(e: Expr, window: float) -> list[Piece]:
    """Smooth pieces of the whole line; ends beyond the window may be given up."""
    return _joined(e, _pieces(e, window))


def _joined(e: Expr, found: list[Piece]) -> list[Piece]:
    """Without cuts at which nothing happens: the same expression on both sides, and at the cut."""
    out: list[Piece] = []
    for piece in found:
        if out and piece.expr is not None and out[-1].expr == piece.expr and _continues(e, piece):
            out[-1] = Piece(out[-1].left, piece.right, piece.expr)
        else:
            out.append(piece)
    return out


def _continues(e: Expr, piece: Piece) -> bool:
    at = piece.left.at
    if at is None or piece.expr is None or not (is_rational(e) and is_rational(piece.expr)):
        return False
    z = np.array([at], dtype=object)
    try:
        return bool(evaluate_expression(e, z)[0] == evaluate_expression(piece.expr, z)[0])
    except ZeroDivisionError:
        return False


def _pieces(e: Expr, window: float) -> list[Piece]:
    try:
        return split(e, window=window)
    except TooManyPiecesError:
        pass
    size = 1 / window
    while size <= window:  # a staircase that ends: the smallest core outside which there are few pieces
        left, right = _tail(e, -size, window), _tail(e, size, window)
        if left is not None and right is not None:
            try:
                return _cored(e, left, right, size, window)
            except TooManyPiecesError:
                break
        size *= 2
    while size > 1 / window:
        ends = Cut(-size, -size), Cut(size, size)
        try:
            core = split(e, *ends, window=window)
            return [Piece(LEFT_END, ends[0], None), *core, Piece(ends[1], RIGHT_END, None)]
        except TooManyPiecesError:
            size /= 2
    return [Piece(LEFT_END, RIGHT_END, None)]


def _tail(e: Expr, end: float, window: float) -> list[Piece] | None:
    """The pieces beyond ``end``, if there are few."""
    cut = Cut(end, end)
    try:
        return split(e, LEFT_END, cut, window=window) if end < 0 else split(e, cut, RIGHT_END, window=window)
    except TooManyPiecesError:
        return None


def _cored(e: Expr, left: list[Piece], right: list[Piece], size: float, window: float) -> list[Piece]:
    """The whole line, given its tails beyond ``-size`` and ``size``, which are extended first."""
    sides = [left, right]
    for i, sign in enumerate((-1, 1)):
        inner, outer = 0.0, size
        for _ in range(CORE_HALVINGS):
            end = (inner + outer) / 2
            found = _tail(e, sign * end, window)
            if found is None:
                inner = end
            else:
                outer, sides[i] = end, found
    core = split(e, sides[0][-1].right, sides[1][0].left, window=window)
    return [*sides[0], *core, *sides[1]]


def _has(e: Expr, fns: Set[Fn]) -> bool:
    return any(part.fn in fns for part in nodes(e))


def point_value(e: Expr | None, at: float) -> tuple[float, float]:
    """Encloses a function at one point; infinite where nothing is known."""
    if e is None:
        return (-math.inf, math.inf)
    z = np.array([at])
    lo, hi = enclose(e, z, z)
    return known(float(lo[0]), float(hi[0]))


def known(lo: float, hi: float) -> tuple[float, float]:
    """An enclosure with NaN replaced by everything."""
    return (lo, hi) if lo <= hi else (-math.inf, math.inf)


class _Builder:
    def __init__(self, e: Expr, order: int, window: float) -> None:
        self.e = e
        self.order = order
        self.window = window
        self.segments: list[Segment] = []
        self.boxes: list[Box] = []
        self.exact: list[Any] = []
        self.last: Piece | None = None

    def piece(self, piece: Piece) -> None:
        if self.last is not None:
            self._cut(self.last, piece)
        self.last = piece
        lo, hi = piece.left.hi, piece.right.lo
        if piece.expr is None or not lo < hi:  # nothing is known, or no float lies between the cuts
            self.segments.append(Segment(lo, hi, UNKNOWN, None))
            return
        d = sign_of_derivative(piece.expr, self.order)
        if d is None:
            d = piece.expr
            for _ in range(self.order):
                d = derivative(d)
        cells = isolate(d, lo, hi, self.window)
        if _has(piece.expr, {Fn.TAN}) and not _has(d, {Fn.TAN, Fn.COS}):
            cells = [(lo, hi, UNKNOWN)]  # its poles were simplified away (and no sign keeps them apart)
        fresh = True
        pending: tuple[float, float] | None = None
        for a, b, sign in cells:
            if sign == UNKNOWN and narrow(a, b):
                pending = (a, b)
                continue
            if not fresh:
                self._joint(piece.expr, *(pending or (a, a)))
            elif pending is not None:  # the piece starts with an undecided cell
                self.segments.append(Segment(pending[0], pending[0], FLAT, piece.expr))
                self._joint(piece.expr, *pending)
            self.segments.append(Segment(a, b, int(sign), piece.expr))
            fresh, pending = False, None
        if pending is not None:
            if fresh:
                self.segments.append(Segment(lo, lo, FLAT, piece.expr))
            self._joint(piece.expr, *pending)
            self.segments.append(Segment(hi, hi, FLAT, piece.expr))

    def _joint(self, e: Expr, lo: float, hi: float) -> None:
        z = np.array([lo])
        value = enclose(e, z, z if lo == hi else np.array([hi]))
        v = known(float(value[0][0]), float(value[1][0]))
        self.boxes.append(Box(lo, hi, v, v, v))
        self.exact.append(None)

    def _cut(self, left: Piece, right: Piece) -> None:
        cut = right.left
        z = np.array([cut.lo])
        value = enclose(self.e, z, z if cut.lo == cut.hi else np.array([cut.hi]))
        v = known(float(value[0][0]), float(value[1][0]))
        before, after = point_value(left.expr, cut.lo), point_value(right.expr, cut.hi)
        self.boxes.append(Box(cut.lo, cut.hi, v, before, after))
        self.exact.append(cut.at)
