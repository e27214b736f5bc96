"""Upper lines of rectifiers with a slope for every edge: past the operand, straight to what it is made of.

For ``h = max(0, z)``, ``z = w . x + b`` and *any* vector a, ``h <= a . x + c`` holds on a box if and only if
``c >= max(max -a . x, max (w - a) . x + b)`` there: two dot products with the box's ends. With ``a_i = t_i w_i``
and t in [0, 1] all facets of the convex hull of the neuron over the box are of this form, and all t_i equal to
``u / (u - l)`` is the chord of the ordinary triangle. The operand's interval alone cannot tell them apart.
References: Anderson et al., Strong mixed-integer programming formulations for trained neural networks (2020),
section 3; Tjandraatmadja et al., The Convex Relaxation Barrier, Revisited (2020), eq. 6-9.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bounds.graph import Array
from bounds.ops.linear import DenseMap
from bounds.plan import AffineStep, InputStep, Plan, ReluStep
from bounds.relax.relu import SLOPE_STEPS

if TYPE_CHECKING:
    from bounds.methods.tape import Tape

MOST_EDGES = 100_000
"""Edges (neurons times fan-in) of all layers that may get slopes of their own: rows hold one for each."""


@dataclass(frozen=True, slots=True)
class EdgeSlopes:
    """Slopes of ``P`` upper lines, each of one rectified element in one row.

    Attributes:
        row: ``P`` int64, ascending; of a row an element has one line at most.
        neuron: ``P`` int64, number of the rectified element (:attr:`bounds.plan.Plan.operands`).
        start: ``P + 1`` int64, where the line's slopes are.
        slopes: ``V`` uint8, t in 1/128, one for every element of the vector that the operand is made of.
    """

    row: Array
    neuron: Array
    start: Array
    slopes: Array

    def __len__(self) -> int:
        return len(self.row)

    @staticmethod
    def none() -> EdgeSlopes:
        """No lines."""
        empty = np.zeros(0, dtype=np.int64)
        return EdgeSlopes(empty, empty, np.zeros(1, dtype=np.int64), np.zeros(0, dtype=np.uint8))

    @staticmethod
    def of(lines: list[tuple[int, int, Array]]) -> EdgeSlopes:
        """From rows (ascending), neurons, and slopes in 1/128 (uint8)."""
        if not lines:
            return EdgeSlopes.none()
        return EdgeSlopes(
            np.array([r for r, _, _ in lines], dtype=np.int64),
            np.array([n for _, n, _ in lines], dtype=np.int64),
            np.cumsum([0, *(len(t) for _, _, t in lines)], dtype=np.int64),
            np.concatenate([t for _, _, t in lines]).astype(np.uint8),
        )

    def take(self, rows: Array) -> EdgeSlopes:
        """Those of the listed rows, which are counted from 0 then (a row may be listed twice)."""
        packed, held = lines_of_rows(self.row, rows)
        size = (self.start[1:] - self.start[:-1])[held]
        start = np.cumsum([0, *size], dtype=np.int64)
        at = np.arange(start[-1]) - np.repeat(start[:-1] - self.start[:-1][held], size)
        return EdgeSlopes(packed, self.neuron[held], start, self.slopes[at])

    @staticmethod
    def concat(parts: list[EdgeSlopes], first: Array) -> EdgeSlopes:
        """All of them in order; the rows of each part are counted from ``first`` (ascending) on."""
        held = [EdgeSlopes.none(), *parts]
        size = np.concatenate([p.start[1:] - p.start[:-1] for p in held])
        return EdgeSlopes(
            np.concatenate([p.row + s for p, s in zip(held, [0, *first.tolist()], strict=True)]),
            np.concatenate([p.neuron for p in held]),
            np.cumsum([0, *size], dtype=np.int64),
            np.concatenate([p.slopes for p in held]),
        )


def lines_of_rows(row: Array, wanted: Array) -> tuple[Array, Array]:
    """Pairs (position in ``wanted``, line) of all lines, whose rows ascend, of the wanted rows."""
    first, last = (np.searchsorted(row, wanted, side=s) for s in ("left", "right"))  # type: ignore[call-overload]
    count = last - first
    packed = np.repeat(np.arange(len(wanted)), count)
    return packed, np.arange(len(packed)) + np.repeat(first - (np.cumsum(count) - count), count)


@dataclass(frozen=True, slots=True)
class EdgeStep:
    """A rectifier behind a dense map of one operand that is an input or the value of a rectifier.

    Attributes:
        relu, affine: the steps.
        slot: of the vector that the operand is made of.
        dense: the map.
    """

    relu: ReluStep
    affine: AffineStep
    slot: int
    dense: DenseMap


def edge_steps(plan: Plan) -> dict[int, EdgeStep]:
    """By index of the rectifier those that may have per-edge slopes; none where there are too many edges."""
    found: dict[int, EdgeStep] = {}
    edges = 0
    for step in plan.relus:
        affine = plan.steps[plan.producer[step.source]]
        if not isinstance(affine, AffineStep) or len(affine.sources) != 1:
            continue
        dense, (source,) = affine.map, affine.sources
        if not isinstance(dense, DenseMap) or dense.lead != 1:
            continue
        if isinstance(plan.steps[plan.producer[source]], InputStep | ReluStep):
            found[step.index] = EdgeStep(step, affine, source, dense)
            edges += dense.size * dense.inner
    return found if edges <= MOST_EDGES else {}


def box_of(tape: Tape, slot: int) -> tuple[Any, Any]:
    """``D n`` twice: the interval of an input, or of the value of a rectifier."""
    step, k = tape.plan.steps[tape.plan.producer[slot]], tape.kernels
    if isinstance(step, InputStep):
        return tuple(e[:, step.start : step.stop] for e in tape.ends)  # type: ignore[return-value]
    assert isinstance(step, ReluStep)
    lo, hi = tape.relaxations[step.index].intervals[0]
    return k.maximum(lo, 0), k.maximum(hi, 0)


@dataclass(frozen=True, slots=True)
class EdgeLines:
    """Lines ``h <= a . x + c`` of one step in working precision.

    Attributes:
        slot: where x is.
        row, element: ``P`` numpy, row (ascending) and element of the step.
        a: ``P n``; c: ``P``, rounded upwards; mass: ``P``, a bound on ``|a| . |x|``.
        reach: ``n`` a bound on ``|x|``.
    """

    slot: int
    row: Array
    element: Array
    a: Any
    c: Any
    mass: Any
    reach: Any

    def of(self, rows: Array) -> tuple[Array, Array]:
        """For packed rows over boxes ``rows: R`` (numpy) the pairs of packed row and line."""
        return lines_of_rows(self.row, rows)


def edge_lines(anchor: Tape, steps: dict[int, EdgeStep], slopes: EdgeSlopes) -> dict[int, EdgeLines]:
    """The lines with the given slopes, valid on the box of the anchor, a tape of one box.

    Soundness: the line's coefficients a are the *computed* products ``t w``, whatever they are. Its constant is
    the larger of two sums, each enlarged by its rounding (``gamma`` times the sum of its terms' magnitudes) and
    the second by ``error``, the anchor's bound on ``|z - (w . x + b)|``: conversion of weights and, at level
    ``float32``, the network's own rounding. An infinite end makes c infinite or NaN, and nothing is proved.
    """
    k, p = anchor.kernels, anchor.kernels.precision
    out: dict[int, EdgeLines] = {}
    for index, step in steps.items():
        offset, size, n = step.relu.offset, step.relu.size, step.dense.inner
        mine = np.flatnonzero((slopes.neuron >= offset) & (slopes.neuron < offset + size))
        if not len(mine):
            continue
        element = slopes.neuron[mine] - offset
        at = k.array(element)
        t = slopes.slopes[slopes.start[mine][:, None] + np.arange(n)]
        w = k.take(step.dense.weight, at)
        a = k.array(t.astype(np.float64) / SLOPE_STEPS) * w
        lo, hi = (v[0] for v in box_of(anchor, step.slot))
        reach = k.maximum(abs(lo), abs(hi))
        rest = w - a
        bias = k.zeros(len(mine)) if step.dense.bias is None else k.take(step.dense.bias, at)
        idle = -(k.minimum(a, 0) @ hi + k.maximum(a, 0) @ lo)
        active = k.maximum(rest, 0) @ hi + k.minimum(rest, 0) @ lo + bias
        error = k.take(anchor.error[step.relu.source], at)
        mass, sums = abs(a) @ reach, (abs(a) + abs(w)) @ reach + abs(bias)
        if p.u:
            # differences, products and sums of both halves; then what all this takes off itself
            slack, tiny = p.slack(anchor.plan.terms + n + 8), p.eta * (2 * n + 8) * (1 + k.total(reach))
            mass, sums = mass * slack + tiny, sums * slack
            idle = idle + (p.gamma(2 * n + 8) * mass + tiny)
            error = error * slack + (p.gamma(2 * n + 8) * sums + tiny)
        c = k.maximum(idle, active + error)
        c = c + 4 * p.u * abs(c)
        out[index] = EdgeLines(step.slot, slopes.row[mine], element, a, c, mass, reach)
    return out


@dataclass(frozen=True, slots=True)
class EdgePart:
    """What lines take over from packed rows: ``part: R n`` coefficients, ``drop: R`` constant, ``error: R``."""

    part: Any
    drop: Any
    error: Any


def take_over(tape: Tape, lines: EdgeLines, a: Any, dom: Any) -> tuple[Any, EdgePart | None]:
    """Moves negative coefficients of rows ``a: R n`` over boxes ``dom: R`` to the lines of their elements.

    Soundness: ``g h >= g (a . x + c)`` for ``g <= 0``. Each coefficient of the part is a sum of as many products
    as the row has lines, and so is the constant.

    Returns:
        The rows without these coefficients, and where they went (None: nothing was taken).
    """
    k, p = tape.kernels, tape.kernels.precision
    packed, line = lines.of(np.asarray(k.numpy(dom)).astype(np.int64))
    if not len(packed):
        return a, None
    at = k.array(packed), k.array(lines.element[line])
    held, which = a[at], k.array(line)
    g = k.minimum(held, 0)
    a = k.copy(a)
    a[at] = k.maximum(held, 0)
    drop, size = k.zeros(len(a)), k.zeros(len(a))
    part = k.zeros(len(a), lines.a.shape[1])
    constants = g * k.take(lines.c, which)
    k.add_at(part, (at[0],), g[:, None] * k.take(lines.a, which))
    k.add_at(drop, (at[0],), constants)
    if not p.u:
        return a, EdgePart(part, drop, size)
    k.add_at(size, (at[0],), abs(constants) - g * k.take(lines.mass, which))
    most = int(np.bincount(packed).max())
    error = p.gamma(most + 4) * size * p.slack(most + 4) + p.eta * (most + 2) * (1 + k.total(lines.reach))
    return a, EdgePart(part, drop, error)


def values_on(tape: Tape, lines: EdgeLines, arrived: Any, value: Any, x: Any, dom: Any) -> Any:
    """``value: R n`` of the chosen lines of a step, with these lines' values where rows use them (a guide)."""
    k = tape.kernels
    packed, line = lines.of(np.asarray(k.numpy(dom)).astype(np.int64))
    at = k.array(packed), k.array(lines.element[line])
    which = k.array(line)
    own = k.rowdot(k.take(lines.a, which), k.take(x, at[0])) + k.take(lines.c, which)
    out = k.copy(value)
    out[at] = k.where(arrived[at] < 0, own, value[at])
    return out


# ------------------------------------------------------------------ the best facet at a point
def facets(weights: Array, lo: Array, hi: Array, top: Array, x: Array) -> tuple[Array, Array]:
    """The tightest facet of each neuron's hull at the point x: slopes t (``P n``) and its value there (``P``).

    Greedy (Tjandraatmadja et al. 2020, proposition 2): edges are taken in the order of how far x is from the end
    that makes the operand least, as long as the operand can still be positive without what they add.

    Args:
        weights: ``P n`` float64; lo, hi: ``n`` the box; top: ``P`` the operand's largest value on it.
        x: ``n``.
    """
    step = np.abs(weights) * (hi - lo)
    width = np.where(hi > lo, hi - lo, 1)
    share = np.where(weights >= 0, x - lo, hi - x) / width
    share = np.where(step > 0, np.clip(share, 0, 1), 2)
    order = np.argsort(share, axis=1, kind="stable")
    steps = np.take_along_axis(step, order, axis=1)
    left = top[:, None] - np.cumsum(steps, axis=1)
    place = np.argmax(left < 0, axis=1)
    rows = np.arange(len(weights))
    found = left[rows, place] < 0  # otherwise the operand is never negative: the identity
    rank = np.arange(weights.shape[1])[None, :]
    last = np.where(found, place, weights.shape[1])
    sorted_t = (rank < last[:, None]).astype(np.float64)
    at = np.where(found, place, 0)
    rest = (left + steps)[rows, at] / np.where(steps[rows, at] > 0, steps[rows, at], 1)
    sorted_t[rows[found], place[found]] = np.clip(rest, 0, 1)[found]
    t = np.empty_like(sorted_t)
    np.put_along_axis(t, order, sorted_t, axis=1)
    used = np.where(step > 0, share, 0) * step
    least = top - step.sum(axis=1)
    value = (t * used).sum(axis=1) + np.where(found, 0.0, least)
    return t, value
