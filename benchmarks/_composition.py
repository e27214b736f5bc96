"""What a verifier without fusion does: relax each operation of a formula on its own.

Linear bounds in the one variable x go through the expression operation by operation. Unary operations are
relaxed by surebound's own engine on the interval of their operand (the tightest pair of lines in the
middle), products by the better of five mixtures of the McCormick planes on either side, and the interval
of every operation is the intersection of its lines' values with plain interval arithmetic. So the
comparison shows what treating the formula as one function gains, not how well single operations are done.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bounds.expression import Expr, Fn, X, depends, nodes
from bounds.relax.scalar import scalar_function

Array = np.ndarray[Any, np.dtype[Any]]
MIXTURES = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass
class Lines:
    """``kl x + bl <= value <= ku x + bu`` for x in [l, u], and ``lo <= value <= hi``; arrays ``n``."""

    kl: Array
    bl: Array
    ku: Array
    bu: Array
    lo: Array
    hi: Array


class Composition:
    """Linear bounds of an expression on intervals ``[l, u]`` (arrays ``n``)."""

    def __init__(self, l: Array, u: Array) -> None:
        self.l, self.u = l, u
        self.middle, self.radius = (l + u) / 2, (u - l) / 2

    def bounds(self, e: Expr) -> Lines:
        """The composed bounds; rounding is ignored (this is a yardstick, not a proof)."""
        done: dict[Expr, Lines] = {}
        with np.errstate(all="ignore"):
            for part in nodes(e):
                done[part] = self._one(part, [done[a] for a in part.args])
        return done[e]

    def area(self, e: Expr) -> Array:
        """Area between the two lines, ``n``."""
        b = self.bounds(e)
        with np.errstate(all="ignore"):
            area = 2 * self.radius * ((b.ku - b.kl) * self.middle + b.bu - b.bl)
        return np.where(np.isnan(area), np.inf, area)

    def _one(self, part: Expr, args: list[Lines]) -> Lines:
        if part.fn is Fn.X:
            one, zero = np.ones_like(self.l), np.zeros_like(self.l)
            return Lines(one, zero, one, zero, self.l, self.u)
        if part.fn is Fn.CONST:
            return self._constant(part.value)
        if part.fn in (Fn.MUL, Fn.DIV):
            return self._times(part, args) if part.fn is Fn.MUL else self._over(part, args)
        if part.fn in (Fn.MAX, Fn.MIN):
            over = self._unary(Expr(Fn.RELU, (X,)), self._difference(*args))
            return self._sum(args[1], over) if part.fn is Fn.MAX else self._difference(args[0], over)
        if part.fn is Fn.WHERE:
            return self._sum(args[2], self._product(args[0], self._difference(args[1], args[2])))
        linear = {Fn.ADD: self._sum, Fn.SUB: self._difference, Fn.NEG: self._negated}
        if part.fn in linear:
            return linear[part.fn](*args)
        return self._unary(Expr(part.fn, (X,), part.value), args[0])

    def _over(self, part: Expr, args: list[Lines]) -> Lines:
        if not depends(part.args[1]):
            return self._scaled(args[0], 1 / float(args[1].lo[0]))
        inverse = self._unary(1 / X, args[1])
        if not depends(part.args[0]):
            return self._scaled(inverse, float(args[0].lo[0]))
        return self._product(args[0], inverse)

    def _times(self, part: Expr, args: list[Lines]) -> Lines:
        left, right = part.args
        if left == right:
            return self._unary(X**2, args[0])
        if not depends(left):
            return self._scaled(args[1], float(args[0].lo[0]))
        if not depends(right):
            return self._scaled(args[0], float(args[1].lo[0]))
        return self._product(args[0], args[1])

    def _difference(self, a: Lines, b: Lines) -> Lines:
        return self._sum(a, self._scaled(b, -1.0))

    def _negated(self, a: Lines) -> Lines:
        return self._scaled(a, -1.0)

    def _constant(self, value: float) -> Lines:
        zero = np.zeros_like(self.l)
        c = zero + value
        return Lines(zero, c, zero, c, c, c)

    def _closed(self, kl: Array, bl: Array, ku: Array, bu: Array, lo: Array, hi: Array) -> Lines:
        low = kl * self.middle + bl - abs(kl) * self.radius
        high = ku * self.middle + bu + abs(ku) * self.radius
        lo, hi = np.fmax(lo, low), np.fmin(hi, high)
        return Lines(kl, bl, ku, bu, np.minimum(lo, hi), np.maximum(lo, hi))

    def _scaled(self, a: Lines, c: float) -> Lines:
        if c >= 0:
            return Lines(c * a.kl, c * a.bl, c * a.ku, c * a.bu, c * a.lo, c * a.hi)
        return Lines(c * a.ku, c * a.bu, c * a.kl, c * a.bl, c * a.hi, c * a.lo)

    def _sum(self, a: Lines, b: Lines) -> Lines:
        return self._closed(a.kl + b.kl, a.bl + b.bl, a.ku + b.ku, a.bu + b.bu, a.lo + b.lo, a.hi + b.hi)

    def _unary(self, f: Expr, a: Lines) -> Lines:
        function = scalar_function(f)
        lo, hi = function.range(a.lo, a.hi)
        kl, ku = function.supporting(a.lo, a.hi, (a.lo + a.hi) / 2)
        bl, bu = function.intercepts(a.lo, a.hi, kl, ku)
        low = _through(kl, bl, a, lower=True)
        high = _through(ku, bu, a, lower=False)
        return self._closed(*low, *high, lo, hi)

    def _product(self, x: Lines, y: Lines) -> Lines:
        corners = np.stack([x.lo * y.lo, x.lo * y.hi, x.hi * y.lo, x.hi * y.hi])
        low = high = None
        for r in MIXTURES:
            p, q = r * y.lo + (1 - r) * y.hi, r * x.lo + (1 - r) * x.hi
            line = _plane(p, q, -r * x.lo * y.lo - (1 - r) * x.hi * y.hi, x, y, lower=True)
            low = line if low is None else self._better(line, low, 1.0)
            p = r * y.hi + (1 - r) * y.lo
            line = _plane(p, q, -r * x.lo * y.hi - (1 - r) * x.hi * y.lo, x, y, lower=False)
            high = line if high is None else self._better(line, high, -1.0)
        assert low is not None and high is not None
        return self._closed(*low, *high, corners.min(0), corners.max(0))

    def _better(self, new: tuple[Array, Array], old: tuple[Array, Array], sign: float) -> tuple[Array, Array]:
        better = sign * (new[0] * self.middle + new[1]) > sign * (old[0] * self.middle + old[1])
        return np.where(better, new[0], old[0]), np.where(better, new[1], old[1])


def _through(k: Array, b: Array, a: Lines, *, lower: bool) -> tuple[Array, Array]:
    """The line ``k value + b`` with the value replaced by its own line in x."""
    use_lower = (k >= 0) if lower else (k < 0)
    return k * np.where(use_lower, a.kl, a.ku), k * np.where(use_lower, a.bl, a.bu) + b


def _plane(p: Array, q: Array, c: Array, x: Lines, y: Lines, *, lower: bool) -> tuple[Array, Array]:
    """The plane ``p x + q y + c`` with both operands replaced by their lines."""
    left, right = _through(p, c, x, lower=lower), _through(q, np.zeros_like(c), y, lower=lower)
    return left[0] + right[0], left[1] + right[1]
