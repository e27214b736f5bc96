"""How far a model's own float32 evaluation of a function may be from the function, on an interval.

A running error analysis, step by step: every step has a range of its exact value and a bound on the error
of the computed one. The numbers in ``KERNELS`` are part of the certificate format.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from verifier.check.arithmetic import ETA32, LARGEST_SUM
from verifier.check.enclosure import ROUNDED, Interval, Reals
from verifier.check.functions import STAIRS, Function, Step
from verifier.check.jets import SMOOTH
from verifier.check.network import Array

U32 = 2.0**-24
# error of a kernel: (first * |value| + second) * 2^-24
KERNELS: Mapping[str, tuple[float, float]] = {
    "exp": (8, 0), "log": (8, 4), "sqrt": (2, 0), "pow": (8, 0), "sin": (4, 4), "cos": (4, 4),
    "tan": (8, 4), "tanh": (8, 12), "sigmoid": (8, 12), "softplus": (16, 16), "erf": (8, 8),
    "atan": (8, 8), "asin": (16, 8), "acos": (16, 16), "sinh": (16, 4), "cosh": (16, 0),
    "asinh": (16, 4), "acosh": (16, 4), "atanh": (16, 8),
}  # fmt: skip
_FAR = 2.0**17  # sine, cosine and tangent of larger arguments are computed in different ways
_WHOLE = 2.0**24  # whole numbers up to here are floats
_SLACK = 1 + 2.0**-30  # pays for the float64 arithmetic of this file
_KEEP_WHOLE = frozenset(("+", "-", "*", "neg", "abs", "relu", "max", "min"))
_TO_WHOLE = frozenset((*ROUNDED, "zero"))
_REALS = Reals(exact=False)


@dataclass(frozen=True, slots=True)
class Computed:
    """A step: its exact range, the error of the computed value, and whether that is a whole number."""

    range: Interval
    error: Array
    whole: bool = False

    @property
    def size(self) -> Array:
        return np.maximum(np.abs(self.range[0]), np.abs(self.range[1]))

    @property
    def near(self) -> Interval:
        """Where the exact and the computed value lie."""
        return _REALS.sub(self.range, (self.error, self.error))[0], _REALS.add(
            self.range, (self.error, self.error)
        )[1]


def model_error(function: Function, low: Array, high: Array) -> Array:
    """A bound on ``|computed f(z) - f(z)|`` for float32 z in [low, high]; inf where it may overflow."""
    found = [Computed((low, high), np.zeros(np.shape(low)))]
    with np.errstate(all="ignore"):
        for step in function[1:]:
            c = _step(step, [found[a] for a in step.args])
            # a NaN is not smaller
            bounded = np.where(c.size + c.error < LARGEST_SUM, c.error * _SLACK, np.inf)
            found.append(Computed(c.range, bounded, c.whole))
    return np.array(np.broadcast_to(found[-1].error, np.shape(low)))


def _times(size: Array, error: Array) -> Array:
    """Nothing for an exact operand, however large the other is."""
    return np.where(error == 0, 0.0, size * error)


def _rounded(range_: Interval, error: Array, *, whole: bool) -> Computed:
    """One rounding; none of small whole numbers."""
    c = Computed(range_, error, whole)
    paid = error + U32 * (c.size + error) + ETA32
    return Computed(range_, np.where(c.size + error < _WHOLE, error, paid) if whole else paid, whole)


def _step(step: Step, args: list[Computed]) -> Computed:
    fn, r = step.fn, _REALS
    if fn == "const":
        near = float(np.float32(step.value))
        return Computed(r.number(step.value), np.asarray(abs(near - step.value)), near.is_integer())
    whole = fn in _TO_WHOLE or (fn in _KEEP_WHOLE and all(a.whole for a in args))
    u = args[0]
    if fn in ("+", "-"):
        range_ = (r.add if fn == "+" else r.sub)(u.range, args[1].range)
        return _rounded(range_, u.error + args[1].error, whole=whole)
    if fn == "*":
        error = _times(u.size, args[1].error) + _times(args[1].size + args[1].error, u.error)
        return _rounded(r.mul(u.range, args[1].range), error, whole=whole)
    if fn == "/":
        return _quotient(u, args[1])
    if fn == "where":
        return _selected(*args)
    if fn in _TO_WHOLE:
        return _stairs(fn, u)
    if fn in _KEEP_WHOLE:
        return _extremum(fn, args, whole=whole)
    return _kernel(step, u)


def _extremum(fn: str, args: list[Computed], *, whole: bool) -> Computed:
    r, u = _REALS, args[0]
    if fn == "neg":
        return Computed(r.neg(u.range), u.error, whole)
    other = args[1].range if len(args) > 1 else r.neg(u.range) if fn == "abs" else r.number(0.0)
    choose = np.minimum if fn == "min" else np.maximum
    error = np.maximum(u.error, args[1].error) if len(args) > 1 else u.error
    low, high = choose(u.range[0], other[0]), choose(u.range[1], other[1])
    return Computed((np.maximum(low, 0.0) if fn == "abs" else low, high), error, whole)


def _quotient(u: Computed, w: Computed) -> Computed:
    r = _REALS
    range_ = r.mul(u.range, r.inverse(w.range))
    least = np.where(w.range[0] > 0, w.range[0], -w.range[1]) - w.error
    size = Computed(range_, u.error).size
    moved = (u.error + _times(size, w.error)) / least
    return Computed(range_, np.where(least > 0, moved + U32 * (size + moved) + ETA32, np.inf))


def _stairs(fn: str, u: Computed) -> Computed:
    """The operand's error may reach another step."""
    range_, near = _levels(fn, u.range), _levels(fn, u.near)
    most = np.floor(u.error) + 1 if fn in STAIRS else 2.0
    return Computed(range_, np.where(u.error == 0, 0.0, np.minimum(near[1] - near[0], most)), whole=True)


def _levels(fn: str, x: Interval) -> Interval:
    if fn != "zero":
        return _REALS.rounded(fn, x)
    inside = (x[0] <= 0) & (x[1] >= 0)
    return np.where((x[0] == 0) & (x[1] == 0), 1.0, 0.0), np.where(inside, 1.0, 0.0)


def _selected(c: Computed, a: Computed, b: Computed) -> Computed:
    range_ = _REALS.hull(a.range, b.range)
    taken = np.maximum(np.where(c.range[1] > 0, a.error, 0.0), np.where(c.range[0] < 1, b.error, 0.0))
    other = np.maximum(a.error, b.error) + (range_[1] - range_[0])
    return Computed(range_, np.where(c.error == 0, taken, other))


def _kernel(step: Step, u: Computed) -> Computed:
    """The operand's error times the slope near it, and the kernel's own."""
    fn, r = step.fn, _REALS
    power = fn == "pow"
    range_ = r.power(u.range, step.value) if power else r.value(fn, u.range)
    moved = np.zeros(np.shape(u.error))
    if np.any(u.error != 0):
        near = u.near
        if power:
            slope = r.scale(r.power(near, step.value - 1), step.value)
        else:
            slope = SMOOTH[fn][0](r, near, r.value(fn, near))
        moved = _times(np.maximum(np.abs(slope[0]), np.abs(slope[1])), u.error)
    if fn in ("sin", "cos", "tan"):
        moved = np.where(u.size + u.error < _FAR, moved, np.inf)
    first, second = KERNELS["pow" if power else fn]
    size = Computed(range_, u.error).size
    return Computed(range_, moved + U32 * (first * (size + moved) + second) + ETA32)
