"""Ranges of a function and of its first two derivatives on intervals, by interval arithmetic.

A :class:`Jet` encloses, for all z of an interval: the value ``v``; ``d``, all difference quotients
(hence the derivative where there is one); and ``c``, the second derivative *as a measure*: ``f - c.lo/2 z^2``
is convex and ``f - c.hi/2 z^2`` concave on the interval. So a convex kink (of ``relu``, say) has
``c = [0, inf]`` and a jump has ``d = c = [-inf, inf]``. Sums, products and the chain rule hold for these
as they do for smooth functions, because kinks are limits of smooth bends and bounds survive limits.

With ``relaxed``, a staircase such as ``floor(a)`` is read as ``a + t`` with an unknown constant t of the
staircase's reach ([-1, 0] for ``floor``): bounds then hold for *every* fixed t, hence for the one that
each z has. Loose for one step, but tight for many.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from verifier.check.enclosure import ROUNDED, Interval, Reals
from verifier.check.functions import STAIRS, Function, Step
from verifier.check.network import Array

_INF = np.inf


@dataclass(frozen=True, slots=True)
class Jet:
    """Value, slope and curvature of one step; the last is None where only two were asked for."""

    v: Interval
    d: Interval
    c: Interval | None


Rule: TypeAlias = Callable[[Reals, Interval, Interval], Interval]


def _one_plus_square(r: Reals, u: Interval) -> Interval:
    return r.add(r.number(1.0), r.integer_power(u, 2))


def _one_minus_square(r: Reals, u: Interval) -> Interval:
    return r.sub(r.number(1.0), r.integer_power(u, 2))


def _logistic(r: Reals, s: Interval) -> Interval:
    """``s (1 - s) = 1/4 - (s - 1/2)^2``."""
    off = r.integer_power(r.sub(s, r.number(0.5)), 2)
    return r.within(r.sub(r.number(0.25), off), 0.0, 0.25)


def _logistic_slope(r: Reals, s: Interval) -> Interval:
    return r.mul(_logistic(r, s), r.sub(r.number(1.0), r.scale(s, 2.0)))


def _bell(r: Reals, u: Interval) -> Interval:
    """``2 / sqrt(pi) exp(-u^2)``; the constant lies between the two numbers."""
    constant = np.asarray(1.1283791670955125), np.asarray(1.1283791670955128)
    return r.mul(constant, r.increasing("exp", r.neg(r.integer_power(u, 2))))


def _tanh_slope(r: Reals, t: Interval) -> Interval:
    return r.within(_one_minus_square(r, t), 0.0, 1.0)


def _times(r: Reals, factor: float, x: Interval, y: Interval) -> Interval:
    return r.scale(r.mul(x, y), factor)


# name -> first and second derivative, from the argument u and the value v
SMOOTH: Mapping[str, tuple[Rule, Rule]] = {
    "exp": (lambda _r, _u, v: v, lambda _r, _u, v: v),
    "log": (lambda r, u, _v: r.inverse(u), lambda r, u, _v: r.neg(r.integer_power(u, -2))),
    "sqrt": (
        lambda r, u, _v: r.scale(r.power(u, -0.5), 0.5),
        lambda r, u, _v: r.scale(r.power(u, -1.5), -0.25),
    ),
    "sin": (lambda r, u, _v: r.sine(u, 1.0), lambda r, _u, v: r.neg(v)),
    "cos": (lambda r, u, _v: r.neg(r.sine(u, 0.0)), lambda r, _u, v: r.neg(v)),
    "tan": (
        lambda r, _u, v: _one_plus_square(r, v),
        lambda r, _u, v: _times(r, 2.0, v, _one_plus_square(r, v)),
    ),
    "tanh": (
        lambda r, _u, v: _tanh_slope(r, v),
        lambda r, _u, v: _times(r, -2.0, v, _tanh_slope(r, v)),
    ),
    "sigmoid": (lambda r, _u, v: _logistic(r, v), lambda r, _u, v: _logistic_slope(r, v)),
    "softplus": (
        lambda r, u, _v: r.increasing("sigmoid", u),
        lambda r, u, _v: _logistic(r, r.increasing("sigmoid", u)),
    ),
    "erf": (lambda r, u, _v: _bell(r, u), lambda r, u, _v: _times(r, -2.0, u, _bell(r, u))),
    "atan": (
        lambda r, u, _v: r.inverse(_one_plus_square(r, u)),
        lambda r, u, _v: _times(r, -2.0, u, r.integer_power(_one_plus_square(r, u), -2)),
    ),
    "asin": (
        lambda r, u, _v: r.power(_one_minus_square(r, u), -0.5),
        lambda r, u, _v: r.mul(u, r.power(_one_minus_square(r, u), -1.5)),
    ),
    "acos": (
        lambda r, u, _v: r.neg(r.power(_one_minus_square(r, u), -0.5)),
        lambda r, u, _v: r.neg(r.mul(u, r.power(_one_minus_square(r, u), -1.5))),
    ),
    "sinh": (lambda r, u, _v: r.value("cosh", u), lambda _r, _u, v: v),
    "cosh": (lambda r, u, _v: r.increasing("sinh", u), lambda _r, _u, v: v),
    "asinh": (
        lambda r, u, _v: r.power(_one_plus_square(r, u), -0.5),
        lambda r, u, _v: r.neg(r.mul(u, r.power(_one_plus_square(r, u), -1.5))),
    ),
    "acosh": (
        lambda r, u, _v: r.power(r.neg(_one_minus_square(r, u)), -0.5),
        lambda r, u, _v: r.neg(r.mul(u, r.power(r.neg(_one_minus_square(r, u)), -1.5))),
    ),
    "atanh": (
        lambda r, u, _v: r.inverse(_one_minus_square(r, u)),
        lambda r, u, _v: _times(r, 2.0, u, r.integer_power(_one_minus_square(r, u), -2)),
    ),
}
# where a staircase lies relative to its argument
REACH: Mapping[str, tuple[float, float]] = {
    "floor": (-1.0, 0.0), "ceil": (0.0, 1.0), "trunc": (-1.0, 1.0), "round": (-0.5, 0.5),
}  # fmt: skip


class Jets:
    """Evaluates one function on arrays of intervals.

    Args:
        function: the program.
        exact: arithmetic of fractions.
        relaxed: see the module's text.
    """

    def __init__(self, function: Function, *, exact: bool, relaxed: bool = False) -> None:
        self.function, self.reals = function, Reals(exact=exact)
        self.relaxed = relaxed
        nought, one = self.reals.number(0.0), self.reals.number(1.0)
        self.flat = (nought, nought)
        self.identity = (one, nought)

    def at(self, z: Array) -> Jet:
        """At points: the slope is that on a neighbourhood, however small."""
        return self._run((z, z), second=False, point=True)

    def over(self, lo: Array, hi: Array) -> Jet:
        """On intervals."""
        return self._run((lo, hi), second=True, point=False)

    def apart(self, lo: Array, hi: Array) -> Interval:
        """Values on intervals, the only staircase taken at either of its two neighbouring values there.

        An interval between both would forget that nothing lies in between. Where the function has several
        staircases, or this one takes more values, the least and largest number say that nothing is known.
        """
        steps = [i for i, step in enumerate(self.function) if step.fn in STAIRS]
        if len(steps) != 1:
            return np.full(lo.shape, -_INF, lo.dtype), np.full(lo.shape, _INF, lo.dtype)
        (at,) = steps
        below, above = self._trace((lo, hi), second=False, point=False)[at].v
        ends = [
            self._trace((lo, hi), second=False, point=False, held=(at, (v, v)))[-1].v for v in (below, above)
        ]
        known = (above - below <= 1).astype(bool)
        return (
            np.where(known, np.minimum(ends[0][0], ends[1][0]), -_INF),
            np.where(known, np.maximum(ends[0][1], ends[1][1]), _INF),
        )

    def _trace(
        self, x: Interval, *, second: bool, point: bool, held: tuple[int, Interval] | None = None
    ) -> list[Jet]:
        """What every step gives; ``held``: the values of one step (flat there)."""
        one, nought = self.identity
        found: list[Jet] = [Jet(x, one, nought if second else None)]
        with np.errstate(all="ignore"):
            for i, step in enumerate(self.function[1:], 1):
                if held is not None and held[0] == i:
                    found.append(Jet(held[1], *self.flat))
                    continue
                jet = self._step(step, [found[a] for a in step.args], point=point)
                self.reals.finite(jet.v)
                found.append(jet)
        return found

    def _run(self, x: Interval, *, second: bool, point: bool) -> Jet:
        found = self._trace(x, second=second, point=point)
        jump: Array = np.asarray(False)
        with np.errstate(all="ignore"):
            for step, jet in zip(self.function[1:], found[1:], strict=True):
                if point and (step.fn in ROUNDED or step.fn in ("zero", "where")):
                    jump = jump | (jet.d[0] == -_INF)
        last = found[-1]
        # next to a jump a slope says nothing, even where a factor is 0 at the very point
        return replace(last, d=self.reals.only(~jump, last.d)) if point else last

    def _step(self, step: Step, args: list[Jet], *, point: bool) -> Jet:
        fn, r = step.fn, self.reals
        if fn == "const":
            value = r.number(step.value)
            return Jet(value, *self.flat)
        u = args[0]
        if fn in ("+", "-"):
            join = r.add if fn == "+" else r.sub
            return self._linear(join, u, args[1])
        if fn == "neg":
            return Jet(r.neg(u.v), r.neg(u.d), None if u.c is None else r.neg(u.c))
        if fn == "*":
            return self._chain_power(u, 2.0) if step.args[0] == step.args[1] else self._product(u, args[1])
        if fn == "/":
            return self._product(u, self._chain_power(args[1], -1.0))
        if fn == "pow":
            return self._chain_power(u, step.value)
        if fn in ("relu", "abs"):
            other = Jet(r.number(0.0), *self.flat) if fn == "relu" else self._negated(u)
            found = self._maximum(u, other, point=point)
            return replace(found, v=(np.maximum(found.v[0], r.number(0.0)[0]), found.v[1]))
        if fn == "max":
            return self._maximum(u, args[1], point=point)
        if fn == "min":
            return self._negated(self._maximum(self._negated(u), self._negated(args[1]), point=point))
        if fn == "where":
            return self._select(u, args[1], args[2], point=point)
        if fn in ROUNDED or fn == "zero":
            return self._stairs(fn, u, point=point)
        v = r.value(fn, u.v)
        first, second = SMOOTH[fn]
        return self._chain(u, v, first(r, u.v, v), None if u.c is None else second(r, u.v, v))

    # -------------------------------------------------------------- smooth
    def _negated(self, u: Jet) -> Jet:
        r = self.reals
        return Jet(r.neg(u.v), r.neg(u.d), None if u.c is None else r.neg(u.c))

    @staticmethod
    def _linear(join: Callable[[Interval, Interval], Interval], u: Jet, w: Jet) -> Jet:
        c = None if u.c is None or w.c is None else join(u.c, w.c)
        return Jet(join(u.v, w.v), join(u.d, w.d), c)

    def _product(self, u: Jet, w: Jet) -> Jet:
        """``u'' w + 2 u' w' + u w''``."""
        r = self.reals
        d = r.add(r.mul(u.d, w.v), r.mul(u.v, w.d))
        c = None
        if u.c is not None and w.c is not None:
            cross = r.scale(r.mul(u.d, w.d), 2.0)
            c = r.add(r.add(r.mul(u.c, w.v), r.mul(u.v, w.c)), cross)
        return Jet(r.mul(u.v, w.v), d, c)

    def _chain(self, u: Jet, v: Interval, first: Interval, second: Interval | None) -> Jet:
        """``h'' u'^2 + h' u''``."""
        r = self.reals
        c = None
        if u.c is not None and second is not None:
            c = r.add(r.mul(second, r.integer_power(u.d, 2)), r.mul(first, u.c))
        return Jet(v, r.mul(first, u.d), c)

    def _chain_power(self, u: Jet, p: float) -> Jet:
        r = self.reals
        first = r.scale(r.power(u.v, p - 1), p)
        second = None if u.c is None else r.scale(r.power(u.v, p - 2), p * (p - 1))
        return self._chain(u, r.power(u.v, p), first, second)

    # -------------------------------------------------------------- kinks and jumps
    def _choice(self, takes: tuple[Array, Array], u: Jet, w: Jet, between: Jet) -> Jet:
        """``u`` where the first mask holds, ``w`` where the second does, else ``between``."""

        def pick(x: Interval, y: Interval, z: Interval) -> Interval:
            lo, hi = (np.where(takes[0], x[k], np.where(takes[1], y[k], z[k])) for k in (0, 1))
            return lo, hi

        c = None
        if u.c is not None and w.c is not None and between.c is not None:
            c = pick(u.c, w.c, between.c)
        return Jet(pick(u.v, w.v, between.v), pick(u.d, w.d, between.d), c)

    def _maximum(self, u: Jet, w: Jet, *, point: bool) -> Jet:
        """Where neither operand is above the other throughout, a convex kink may lie in between."""
        r = self.reals
        v = np.maximum(u.v[0], w.v[0]), np.maximum(u.v[1], w.v[1])
        c = None
        if u.c is not None and w.c is not None:
            c = np.minimum(u.c[0], w.c[0]), np.asarray(_INF)
        # at a point where they are equal, either may be larger next to it
        first, second = u.v[0] - w.v[1], w.v[0] - u.v[1]
        takes = (first > 0, second > 0) if point else (first >= 0, second >= 0)
        return self._choice(takes, u, w, Jet(v, r.hull(u.d, w.d), c))

    def _unknown(self, v: Interval, u: Jet) -> Jet:
        free = np.asarray(-_INF), np.asarray(_INF)
        return Jet(v, free, None if u.c is None else free)

    def _constant(self, v: Interval, u: Jet) -> Jet:
        nought = self.flat[0]
        return Jet(v, nought, None if u.c is None else nought)

    def _stairs(self, fn: str, u: Jet, *, point: bool) -> Jet:
        """Constant where both ends have the same step, else a jump."""
        r = self.reals
        if self.relaxed and fn in STAIRS:
            reach = tuple(r.number(t)[0] for t in REACH[fn])
            return replace(u, v=r.add(u.v, (reach[0], reach[1])))
        if fn == "zero":
            zero = r.rounded("step", u.v), r.rounded("strict", u.v)  # step - strict
            lo = np.where(u.v[0] == u.v[1], zero[0][0] - zero[1][0], zero[0][0] * 0)
            hi = np.where((u.v[0] <= 0) & (u.v[1] >= 0), zero[0][1] * 0 + 1, zero[0][1] * 0)
            v = lo, hi
        else:
            v = r.rounded(fn, u.v)
        same = v[0] == v[1]
        if point:
            same = same & (self._inside_step(fn, u.v))
        jump = self._unknown(v, u)
        return self._choice((same, same), self._constant(v, u), jump, jump)

    def _inside_step(self, fn: str, u: Interval) -> Array:
        """Whether the staircase has no jump at any point of u (which lies on one step)."""
        lo, hi = self.reals.out(u[0], u[1])
        if fn in ("sign", "step", "strict", "zero"):
            return (lo > 0) | (hi < 0)
        if fn == "round":
            lo, hi = lo * 2, hi * 2  # its jumps are among the halves
        low, high = self.reals.rounded("floor", (lo, hi))
        return (low == high) & (low != lo)

    def _select(self, u: Jet, yes: Jet, no: Jet, *, point: bool) -> Jet:
        """The branches' hull and nothing about slopes, unless the condition is constant."""
        r = self.reals
        settled = (u.d[0] == 0) & (u.d[1] == 0) if point else np.asarray(True)
        first, second = u.v[0] == 1, u.v[1] == 0
        hull = r.hull(yes.v, no.v)
        known = tuple(np.where(first, yes.v[k], np.where(second, no.v[k], hull[k])) for k in (0, 1))
        jump = self._unknown((known[0], known[1]), yes)
        return self._choice((first & settled, second & settled), yes, no, jump)
