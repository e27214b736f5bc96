"""Splits the line where a function is not smooth: kinks, jumps, and the ends of its domain.

Between two cuts the function is one smooth expression without ABS, MAX, FLOOR, WHERE, ... : those are
resolved by the sign their operand has there. Cuts of affine operands are exact rationals; others are found by
bisection as boxes of a few ulps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import numpy as np

from bounds.expression import Expr, Fn, const, nodes
from bounds.relax.derivative import ONE, ZERO, negative, simplify, slope_and_offset
from bounds.relax.enclose import enclose
from bounds.relax.isolate import UNDECIDED, UNKNOWN, Cell, isolate, levels

MAX_PIECES = 2048
STEPS = frozenset({Fn.FLOOR, Fn.CEIL, Fn.TRUNC, Fn.ROUND})
SIGNED = frozenset(
    {Fn.ABS, Fn.RELU, Fn.SIGN, Fn.STEP, Fn.STRICT, Fn.ZERO, Fn.LOG, Fn.SQRT, Fn.MAX, Fn.MIN, Fn.DIV, Fn.ACOSH}
)
BROKEN = STEPS | {
    Fn.ABS, Fn.RELU, Fn.SIGN, Fn.STEP, Fn.STRICT, Fn.ZERO, Fn.MAX, Fn.MIN, Fn.WHERE,
}  # fmt: skip
TWO_SIDED = frozenset({Fn.ASIN, Fn.ACOS, Fn.ATANH})


class TooManyPiecesError(Exception):
    """More pieces than are worth listing: the caller takes a smaller window."""


@dataclass(frozen=True, slots=True)
class Cut:
    """A place where the function may not be smooth: in ``[lo, hi]``, exactly at ``at`` where known."""

    lo: float
    hi: float
    at: Fraction | None = None


@dataclass(frozen=True, slots=True)
class Piece:
    """A smooth function between two cuts; ``expr`` is None where it is undefined or nothing is known."""

    left: Cut
    right: Cut
    expr: Expr | None


def cut_at(p: Fraction) -> Cut:
    """The cut at a rational."""
    near = float(p)
    exact = Fraction(near)
    lo = near if exact <= p else math.nextafter(near, -math.inf)
    hi = near if exact >= p else math.nextafter(near, math.inf)
    return Cut(lo, hi, p)


UNDEFINED = Expr(Fn.LOG, (const(-1),))  # resolves to "undefined"
NARROW = 2.0**-44


def narrow(a: float, b: float) -> bool:
    """Whether an undecided cell is tiny: a few ulps of its place, or of one."""
    return math.isfinite(b - a) and b - a <= NARROW * max(abs(a), abs(b), 1.0)


LEFT_END = Cut(-math.inf, -math.inf)
RIGHT_END = Cut(math.inf, math.inf)

Known = dict[tuple[Fn | None, Expr], float]


@dataclass(frozen=True, slots=True)
class _Job:
    left: Cut
    right: Cut
    expr: Expr
    known: Known


def split(e: Expr, left: Cut = LEFT_END, right: Cut = RIGHT_END, *, window: float) -> list[Piece]:
    """The smooth pieces of ``e`` between two cuts, left to right.

    Raises:
        TooManyPiecesError: there are more than ``MAX_PIECES``, possibly infinitely many.
    """
    jobs = [_Job(left, right, e, {})]
    out: list[Piece] = []
    while jobs:
        job = jobs.pop()
        resolver = _Resolver(job)
        resolved = resolver.run(job.expr)
        if resolved is None or resolver.open is None:
            out.append(Piece(job.left, job.right, None if resolved is None else _simpler(resolved)))
            if len(out) > MAX_PIECES:
                raise TooManyPiecesError
            continue
        jobs.extend(reversed(_divide(job, resolver.open, window)))
    return out


def _simpler(e: Expr) -> Expr:
    """Simplified, unless that removes poles: those of TAN are not cut out."""
    out = simplify(e)
    return e if any(p.fn is Fn.TAN for p in nodes(e)) and all(p.fn is not Fn.TAN for p in nodes(out)) else out


class _Resolver:
    """Replaces every operation whose operand's sign is known between the cuts."""

    def __init__(self, job: _Job) -> None:
        self.job = job
        self.open: tuple[Fn | None, Expr] | None = None
        self.done: dict[Expr, Expr | None] = {}
        self.pending: dict[Expr, tuple[Fn | None, Expr]] = {}

    def run(self, e: Expr) -> Expr | None:
        """The resolved expression (None: undefined here); ``open`` is what is left to decide, if anything."""
        out = self._walk(e)
        if out is not None:
            for part in nodes(out):
                if part in self.pending:
                    self.open = self.pending[part]
                    return out
            # nothing is left to decide, so only smooth operations may be left
            return None if any(part.fn in BROKEN for part in nodes(out)) else out
        return None

    def _walk(self, e: Expr) -> Expr | None:
        if e not in self.done:
            self.done[e] = self._where(e) if e.fn is Fn.WHERE else self._other(e)
        return self.done[e]

    def _where(self, e: Expr) -> Expr | None:
        c = self._walk(e.args[0])
        if c is None:
            return None
        truth = simplify(c)
        if truth in (ONE, ZERO):
            return self._walk(e.args[1 if truth == ONE else 2])
        a, b = self._walk(e.args[1]), self._walk(e.args[2])
        return Expr(Fn.WHERE, (c, a if a is not None else e.args[1], b if b is not None else e.args[2]))

    def _other(self, e: Expr) -> Expr | None:
        args: list[Expr] = []
        for a in e.args:
            walked = self._walk(a)
            if walked is None:
                return None
            args.append(walked)
        e = Expr(e.fn, tuple(args), e.value) if args else e
        if any(part in self.pending for a in args for part in nodes(a)) and e.fn not in (Fn.MAX, Fn.MIN):
            # an operand has to be decided first
            return e
        if e.fn in STEPS:
            return self._step(e)
        if e.fn in TWO_SIDED:
            return self._need(e, [Expr(Fn.ADD, (ONE, args[0])), Expr(Fn.SUB, (ONE, args[0]))])
        if e.fn in SIGNED or (e.fn is Fn.POW and (e.value < 0 or not e.value.is_integer())):
            return self._signed(e)
        return e

    def _need(self, e: Expr, positives: list[Expr]) -> Expr | None:
        for a in positives:
            sign = self.sign(a)
            if sign is None:
                self.pending[e] = (None, a)
                return e
            if sign < 0 or (sign == 0 and e.fn is Fn.ATANH):
                return None
        return e

    def _signed(self, e: Expr) -> Expr | None:
        a = _operand(e)
        sign = self.sign(a)
        if sign is None:
            if e.fn in (Fn.MAX, Fn.MIN) and any(p in self.pending for p in nodes(a)):
                return e
            self.pending[e] = (None, a)
            return e
        return _by_sign(e, sign)

    def sign(self, a: Expr) -> float | None:
        """+1, -1 or 0 (identically) between the cuts; None when undecided."""
        job = self.job
        found = job.known.get((None, a))
        if found is not None:
            return found
        affine = slope_and_offset(a)
        if affine is not None:
            return _affine_sign(*affine, job)
        below, above = enclose(a, *_inside(job))
        return 1 if below[0] > 0 else -1 if above[0] < 0 else None

    def _step(self, e: Expr) -> Expr | None:
        found = self.job.known.get((e.fn, e.args[0]))
        if found is not None:
            return const(found)
        below, above = enclose(e, *_inside(self.job))
        if below[0] == above[0] and math.isfinite(below[0]) and slope_and_offset(e.args[0]) is None:
            return const(below[0])
        affine = slope_and_offset(e.args[0])
        if affine is not None:
            level = _affine_level(e.fn, *affine, self.job)
            if level is not None:
                return const(level)
        self.pending[e] = (e.fn, e.args[0])
        return e


def _operand(e: Expr) -> Expr:
    """The expression whose sign decides ``e``."""
    if e.fn in (Fn.MAX, Fn.MIN):
        return Expr(Fn.SUB, e.args)
    if e.fn is Fn.DIV:
        return e.args[1]
    if e.fn is Fn.ACOSH:
        return Expr(Fn.SUB, (e.args[0], ONE))
    return e.args[0]


def _by_sign(e: Expr, sign: float) -> Expr | None:
    a = e.args[0]
    fn = e.fn
    if fn is Fn.ABS:
        return negative(a) if sign < 0 else a
    if fn is Fn.RELU:
        return a if sign > 0 else ZERO
    if fn in (Fn.MAX, Fn.MIN):
        return a if (sign > 0) == (fn is Fn.MAX) else e.args[1]
    if fn is Fn.SIGN:
        return const(sign)
    if fn in (Fn.STEP, Fn.STRICT, Fn.ZERO):
        yes = {Fn.STEP: sign >= 0, Fn.STRICT: sign > 0, Fn.ZERO: sign == 0}[fn]
        return ONE if yes else ZERO
    if fn is Fn.DIV:
        return e if sign else None
    if fn is Fn.POW:
        undefined = (sign == 0 and e.value < 0) or (sign < 0 and not e.value.is_integer())
        return None if undefined else e
    # LOG, SQRT, ACOSH
    return None if sign < 0 or (sign == 0 and fn is Fn.LOG) else e


def _inside(job: _Job) -> tuple[np.ndarray, np.ndarray]:
    """The floats between the cuts."""
    return np.array([job.left.hi]), np.array([job.right.lo])


def _end(cut: Cut, *, left: bool) -> Fraction | None:
    """A rational end of the region right (``left``) or left of a cut; None for infinity."""
    if cut.at is not None:
        return cut.at
    end = cut.hi if left else cut.lo
    return None if math.isinf(end) else Fraction(end)


def _affine_sign(a: Fraction, b: Fraction, job: _Job) -> int | None:
    if a == 0:
        return (b > 0) - (b < 0)
    lo, hi = _end(job.left, left=True), _end(job.right, left=False)
    # infinite ends: only the sign of a slope
    at_lo = (-a if lo is None else a * lo + b, lo is None)[0]
    at_hi = a if hi is None else a * hi + b
    if at_lo >= 0 and at_hi >= 0:
        return 1
    if at_lo <= 0 and at_hi <= 0:
        return -1
    return None


def _levels(fn: Fn, a: Fraction, b: Fraction, job: _Job) -> tuple[int, int]:
    """First and one past the last of the jumps strictly between the cuts.

    Jump n is where ``a x + b`` is n, or n + 1/2 for ROUND.
    """
    shift = Fraction(1, 2) if fn is Fn.ROUND else Fraction(0)
    lo, hi = _end(job.left, left=True), _end(job.right, left=False)
    if lo is None or hi is None:
        raise TooManyPiecesError
    p, q = sorted((a * lo + b - shift, a * hi + b - shift))
    return math.floor(p) + 1, math.ceil(q)


def _affine_level(fn: Fn, a: Fraction, b: Fraction, job: _Job) -> float | None:
    if a == 0:
        return _level_at(fn, b)
    lo, hi = _end(job.left, left=True), _end(job.right, left=False)
    if lo is None or hi is None:
        return None
    first, last = _levels(fn, a, b, job)
    if last > first:
        return None
    return _level_at(fn, a * (lo + hi) / 2 + b)


def _level_at(fn: Fn, v: Fraction) -> float:
    return float({Fn.FLOOR: math.floor, Fn.CEIL: math.ceil, Fn.TRUNC: math.trunc, Fn.ROUND: round}[fn](v))


def _divide(job: _Job, what: tuple[Fn | None, Expr], window: float) -> list[_Job]:
    fn, a = what
    affine = slope_and_offset(a)
    if affine is not None:
        slope, offset = affine
        if fn is None:
            cuts = [cut_at(-offset / slope)]
        else:
            first, last = _levels(fn, slope, offset, job)
            if last - first > MAX_PIECES:
                raise TooManyPiecesError
            shift = Fraction(1, 2) if fn is Fn.ROUND else Fraction(0)
            places = sorted((n + shift - offset) / slope for n in range(first, last))
            cuts = [cut_at(p) for p in places]
        ends = [job.left, *cuts, job.right]
        return [_Job(p, q, job.expr, job.known) for p, q in pairwise(ends)]
    lo, hi = job.left.hi, job.right.lo
    if fn is None:
        return _by_cells(job, isolate(a, lo, hi, window, strict=True), (None, a))
    below, above = enclose(a, *_inside(job))
    if not above[0] - below[0] <= MAX_PIECES:
        raise TooManyPiecesError
    cells = levels(Expr(fn, (a,)), lo, hi, window)
    if len(cells) > 2 * MAX_PIECES or any(math.isinf(b - p) and s == UNDECIDED for p, b, s in cells):
        raise TooManyPiecesError
    return _by_cells(job, cells, (fn, a))


def _by_cells(job: _Job, cells: list[Cell], key: tuple[Fn | None, Expr]) -> list[_Job]:
    """One job per cell of known sign or step; tiny undecided cells become cuts, wide ones stay undecided."""
    undecided = UNKNOWN if key[0] is None else UNDECIDED
    cells = [c for c in cells if not (c[2] == undecided and narrow(c[0], c[1]))]
    if not cells:
        return [_Job(job.left, job.right, UNDEFINED, job.known)]
    jobs: list[_Job] = []
    left = job.left if cells[0][0] <= job.left.hi else Cut(job.left.lo, cells[0][0])
    for i, (_, b, sign) in enumerate(cells):
        if i + 1 < len(cells):
            right = Cut(b, cells[i + 1][0])
        else:
            right = job.right if b >= job.right.lo else Cut(b, job.right.hi)
        if sign == undecided:
            jobs.append(_Job(left, right, UNDEFINED, job.known))
        else:
            jobs.append(_Job(left, right, job.expr, {**job.known, key: sign}))
        left = right
    return jobs
