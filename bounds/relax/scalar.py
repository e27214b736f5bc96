"""Relaxation of any scalar function: rigorous ranges and lines, found from its expression alone.

A :class:`ScalarFunction` is analysed once: the line is cut where the function is not smooth, and each smooth
piece into stretches of proved curvature (:mod:`~bounds.relax.segments`). After that, a batch of intervals
costs a few vector operations, and no function needs code of its own.
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np

from bounds.evaluate_scalar import evaluate_expression
from bounds.expression import Expr, is_rational
from bounds.relax import exact
from bounds.relax.derivative import derivative, recognise
from bounds.relax.enclose import MAX, enclose
from bounds.relax.envelope import envelope_slopes
from bounds.relax.isolate import CORE, UNKNOWN
from bounds.relax.lines import Lines, box_values, flipped, pairs, reduce_least
from bounds.relax.model_rounding import model_error
from bounds.relax.pieces import MAX_PIECES, Piece
from bounds.relax.segments import Partition, partition, pieces
from bounds.relax.tables import SlopeTable

CHUNK = 16384  # intervals at a time: their arrays stay in the cache
LARGEST_SLOPE = float(np.finfo(np.float32).max)
LARGEST_WINDOW = 4096.0  # periodic functions are analysed up to here


class ScalarFunction:
    """One function of one variable, analysed once.

    Arrays are float64 of one common (or broadcastable) shape, and may hold infinite ends and ``lo == hi``;
    for rational functions also object arrays of ``Fraction``, and then results are exact where the structure
    allows.

    Attributes:
        expression: what the model computes.
        rational: it maps rationals to rationals.
    """

    def __init__(self, expression: Expr) -> None:
        self.expression = expression
        self.rational = is_rational(expression)
        self._simple = recognise(expression)
        self._window = CORE
        self._pieces: list[Piece] | None = None
        self._partitions: dict[int, Partition] = {}
        self._table: SlopeTable | None = None

    # -- evaluation -----------------------------------------------------------------------------------------

    def value(self, z: Any) -> Any:
        """The function at every element of ``z``, in its arithmetic; not rigorous."""
        return evaluate_expression(self.expression, np.asarray(z))

    def derivative(self, z: Any) -> Any:
        """Its slope (one side's at kinks, 0 at jumps and where it is not finite)."""
        z = np.asarray(z)
        d = evaluate_expression(derivative(self._simple), z)
        if _is_exact(z):
            return d
        return np.where(np.isfinite(d), d, 0).astype(z.dtype)

    # -- shape ----------------------------------------------------------------------------------------------

    def segments(self, lo: float, hi: float) -> Partition:
        """Stretches of proved curvature and the points between them, known at least on ``[lo, hi]``."""
        return self._known(np.array([lo]), np.array([hi]), 2)

    def _known(self, lo: Any, hi: Any, order: int) -> Partition:
        """The partition by curvature (2) or monotonicity (1); grows with the intervals asked for."""
        part = self._partition(order)
        reach = _reach(lo, hi)
        limit = min(reach, LARGEST_WINDOW)
        while self._window < limit and len(part.boxes) <= MAX_PIECES and self._given_up(part, lo, hi):
            self._window = min(self._window * 2, LARGEST_WINDOW)
            self._pieces, self._partitions, self._table = None, {}, None
            part = self._partition(order)
        return part

    def _given_up(self, part: Partition, lo: Any, hi: Any) -> bool:
        """Whether some interval meets an end of the line that the window left out."""
        first, last = part.proved
        left = -np.inf < first <= -self._window / 2 and bool((lo < first).any())
        return left or (self._window / 2 <= last < np.inf and bool((hi > last).any()))

    def _partition(self, order: int) -> Partition:
        if order not in self._partitions:
            if self._pieces is None:
                self._pieces = pieces(self._simple, self._window)
            self._partitions[order] = partition(self._simple, self._pieces, self._window, order=order)
        return self._partitions[order]

    def _slopes(self) -> SlopeTable:
        if self._table is None:
            with np.errstate(all="ignore"):
                self._table = SlopeTable(self._partition(2))
        return self._table

    # -- bounds ---------------------------------------------------------------------------------------------

    def range(self, lo: Any, hi: Any) -> tuple[Any, Any]:
        """Encloses ``f([lo, hi])``: rigorous, tight; infinite where nothing is known."""
        lo, hi = np.broadcast_arrays(lo, hi)
        if _is_exact(lo):
            zero = _fractions(np.zeros(lo.shape))
            return self.intercepts(lo, hi, zero, zero)
        return self._each_chunk(self._range, lo, hi)

    def _range(self, lo: Any, hi: Any) -> tuple[Any, Any]:
        a, b = np.maximum(lo, -MAX), np.minimum(hi, MAX)
        part = self._known(a, b, 1)
        at_lo, at_hi = enclose(self._simple, a, a), enclose(self._simple, b, b)
        p = pairs(part, a, b)
        hidden = np.unique(p.element[part.kind[p.segment] == UNKNOWN])
        out: list[Any] = []
        for sign in (1, -1):
            least = np.minimum(flipped(sign, at_lo)[0], flipped(sign, at_hi)[0])
            if len(p.box):
                reduce_least(least, p.box_element, box_values(part, p, a, b, sign))
            out.append(least)
        if len(hidden):
            zero = np.zeros(len(hidden))
            low, high = self._intercepts(lo[hidden], hi[hidden], zero, zero)
            out[0][hidden], out[1][hidden] = low, -high
        flat = np.zeros(len(lo))
        return self._tails(lo, hi, flat, out[0], 1), -self._tails(lo, hi, flat, out[1], -1)

    def supporting(self, lo: Any, hi: Any, at: Any) -> tuple[Any, Any]:
        """Slopes of the convex and of the concave envelope of f on ``[lo, hi]`` at ``at``.

        The line of that slope below (above) f is the highest (lowest) one at ``at``. Any slope is sound;
        these are good, finite, and exactly representable in float32. Zero where an interval is unbounded.
        """
        lo, hi, at = np.broadcast_arrays(lo, hi, at)
        if _is_exact(lo):
            kl, ku = self.supporting(*(v.astype(np.float64) for v in (lo, hi, at)))
            return _fractions(kl), _fractions(ku)
        return self._each_chunk(self._supporting, lo, hi, at)

    def _supporting(self, lo: Any, hi: Any, at: Any) -> tuple[Any, Any]:
        bounded = np.isfinite(lo) & np.isfinite(hi) & (lo <= hi)
        keep = slice(None) if bounded.all() else np.flatnonzero(bounded)
        a, b = lo[keep], hi[keep]
        part = self._known(a, b, 2)
        inside = np.minimum(np.maximum(at[keep], a), b)
        found = envelope_slopes(self._simple, part, self._slopes(), a, b, inside)
        out = np.zeros((2, len(lo)))
        for i in range(2):
            k = np.minimum(np.maximum(found[i], -LARGEST_SLOPE), LARGEST_SLOPE)
            out[i, keep] = np.where(np.isnan(k), 0.0, k).astype(np.float32)
        return out[0], out[1]

    def intercepts(self, lo: Any, hi: Any, kl: Any, ku: Any) -> tuple[Any, Any]:
        """``bl, bu`` with ``kl z + bl <= f(z) <= ku z + bu`` for every real z in ``[lo, hi]``.

        Rigorous for the exact function and the exact slopes, and tight; infinite where nothing is known (the
        domain is left, overflow), never NaN.
        """
        lo, hi, kl, ku = np.broadcast_arrays(lo, hi, kl, ku)
        if _is_exact(lo):
            return self._exact(lo, hi, kl, ku)
        return self._each_chunk(self._intercepts, lo, hi, kl, ku)

    def _intercepts(self, lo: Any, hi: Any, kl: Any, ku: Any) -> tuple[Any, Any]:
        a, b = np.maximum(lo, -MAX), np.minimum(hi, MAX)
        part = self._known(a, b, 2)
        lines = Lines(self._simple, part, self._slopes(), a, b)
        least = self._tails(lo, hi, kl, lines.below(kl, 1), 1)
        most = self._tails(lo, hi, -ku, lines.below(-ku, -1), -1)
        return least, -most

    def _tails(self, lo: Any, hi: Any, k: Any, bound: Any, sign: int) -> Any:
        """Adds what lies beyond the largest float, and makes what is not known minus infinity."""
        for wide, a, b, outward in ((hi == np.inf, MAX, np.inf, 1), (lo == -np.inf, -np.inf, -MAX, -1)):
            if wide.any():
                value = flipped(sign, enclose(self._simple, np.array([a]), np.array([b])))[0][0]
                # k z is bounded above there only if k points inwards
                bound = np.where(wide, np.minimum(bound, np.where(k * outward > 0, -np.inf, value)), bound)
        return np.where(np.isnan(bound) | ~(lo <= hi), -np.inf, bound)

    def _exact(self, lo: Any, hi: Any, kl: Any, ku: Any) -> tuple[Any, Any]:
        below, above = np.empty(lo.shape, dtype=object), np.empty(lo.shape, dtype=object)
        part = self._known(lo.astype(np.float64), hi.astype(np.float64), 2)
        for i in np.ndindex(lo.shape):
            k, q = Fraction(kl[i]), Fraction(ku[i])
            below[i] = exact.least(self.expression, part, lo[i], hi[i], k, 1)
            above[i] = -exact.least(self.expression, part, lo[i], hi[i], -q, -1)
        return below, above

    def model_error(self, lo: Any, hi: Any) -> Any:
        """At least ``|fl32(f)(z) - f(z)|`` for float32 z in ``[lo, hi]`` (:mod:`.model_rounding`)."""
        lo, hi = np.broadcast_arrays(np.asarray(lo, dtype=np.float64), np.asarray(hi, dtype=np.float64))
        return model_error(self.expression, lo, hi)

    def _each_chunk(self, work: Any, *arrays: Any) -> tuple[Any, Any]:
        """Applies ``work`` to flat pieces of the arrays."""
        shape = arrays[0].shape
        flat = [np.ascontiguousarray(v, dtype=np.float64).ravel() for v in arrays]
        first, second = np.empty(flat[0].size), np.empty(flat[0].size)
        with np.errstate(all="ignore"):
            for start in range(0, flat[0].size, CHUNK):
                part = slice(start, start + CHUNK)
                first[part], second[part] = work(*(v[part] for v in flat))
        return first.reshape(shape), second.reshape(shape)


def _reach(lo: Any, hi: Any) -> float:
    """The largest end asked for, unless it is out of reach anyway."""
    ends = np.abs(np.concatenate([lo, hi]))
    ends = ends[ends <= LARGEST_WINDOW]
    return float(ends.max()) if len(ends) else 0.0


def _is_exact(values: Any) -> bool:
    return np.asarray(values).dtype == np.dtype(object)


def _fractions(values: Any) -> Any:
    return np.frompyfunc(Fraction, 1, 1)(values)


@lru_cache(maxsize=1024)
def scalar_function(expression: Expr) -> ScalarFunction:
    """The function of an expression; analysed once per process."""
    return ScalarFunction(expression)
