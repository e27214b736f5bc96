"""Upper lines of rectifiers with a slope for every edge: past the operand, straight to what it is made of.

For ``h = max(0, z)``, ``z = w . x + b`` and *any* vector a, ``h <= a . x + c`` holds on a box if and only if
``c >= max(max -a . x, max (w - a) . x + b)`` there: two dot products with the box's ends. With ``a_i = t_i
w_i`` and t in [0, 1] all facets of the convex hull of the neuron over the box are of this form, and all t_i
equal to ``u / (u - l)`` is the chord of the ordinary triangle. The operand's interval alone cannot tell them
apart.
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
    first, last = np.searchsorted(row, wanted, side="left"), np.searchsorted(row, wanted, side="right")
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
        return tuple(e[:, step.start : step.stop] for e in tape.ends)
    assert isinstance(step, ReluStep)
    lo, hi = tape.relaxations[step.index].intervals[0]
    return k.maximum(lo, 0), k.maximum(hi, 0)


@dataclass(frozen=True, slots=True)
class EdgeLayer:
    """What lines of one step need of the anchor, in its precision; ``m`` elements of the step, ``n`` of x.

    Attributes:
        step: the step.
        weight: ``m n``; least, most: ``m n`` the two ends of ``w x`` on the anchor's box; size: ``m n`` of
            ``|w x|``.
        top: ``m`` the sum of ``most`` and the bias; sums: ``m`` what the magnitudes of its terms add up to.
        error: ``m`` bound on ``|z - (w . x + b)|``.
        reach: ``n`` bound on ``|x|``.
    """

    step: EdgeStep
    weight: Any
    least: Any
    most: Any
    size: Any
    top: Any
    sums: Any
    error: Any
    reach: Any

    @staticmethod
    def of(anchor: Tape, step: EdgeStep) -> EdgeLayer:
        """Of a tape of one box."""
        k, w, bias = anchor.kernels, step.dense.weight, step.dense.bias
        lo, hi = (v[0] for v in box_of(anchor, step.slot))
        reach = k.maximum(abs(lo), abs(hi))
        ends = w * lo, w * hi
        most, size = k.maximum(*ends), abs(w) * reach
        top, sums = k.sum(most, 1), k.sum(size, 1)
        if bias is not None:
            top, sums = top + bias, sums + abs(bias)
        error = anchor.error[step.relu.source]
        return EdgeLayer(step, w, k.minimum(*ends), most, size, top, sums, error, reach)


@dataclass(frozen=True, slots=True)
class EdgeLines:
    """Lines ``h <= a . x + c`` of one step in working precision.

    Attributes:
        layer: the step's.
        row, element: ``P`` numpy, row (ascending) and element of the step.
        t: ``P n`` numpy uint8, slopes in 1/128.
        a: ``P n``; c: ``P``, rounded upwards; mass: ``P``, a bound on ``|a| . |x|``.
    """

    layer: EdgeLayer
    row: Array
    element: Array
    t: Array
    a: Any
    c: Any
    mass: Any

    @property
    def slot(self) -> int:
        """Where x is."""
        return self.layer.step.slot


def edge_lines(anchor: Tape, layer: EdgeLayer, row: Array, element: Array, t: Array) -> EdgeLines:
    """The lines with slopes ``t: P n`` (uint8, in 1/128) of rows and elements ``P``, on the anchor's box.

    Soundness: the line's coefficients a are the *computed* products ``t w``, whatever they are. Over the
    reals ``max -a . x = -sum t min(w x)`` and ``max (w - a) . x = sum (1 - t) max(w x)`` up to the rounding
    of a, as t is in [0, 1]; each sum pays ``gamma`` times the magnitudes of its terms for that, for its
    products and additions and those in the layer, and the second also ``error``: conversion of weights and,
    at level ``float32``, the network's own rounding. An infinite end makes c infinite or NaN, and nothing is
    proved.
    """
    k, p = anchor.kernels, anchor.kernels.precision
    at, n = k.array(element), layer.step.dense.inner
    share = k.array(t.astype(np.float64) / SLOPE_STEPS)
    a = share * k.take(layer.weight, at)
    idle = -k.rowdot(share, k.take(layer.least, at))
    active = k.take(layer.top, at) - k.rowdot(share, k.take(layer.most, at))
    error, mass = k.take(layer.error, at), k.rowdot(share, k.take(layer.size, at))
    if p.u:
        slack, tiny = p.slack(anchor.plan.terms + n + 8), p.eta * (2 * n + 8) * (1 + k.total(layer.reach))
        mass = mass * slack + tiny
        idle = idle + (p.gamma(n + 12) * mass + tiny)
        sums = (mass + k.take(layer.sums, at)) * slack
        active = active + (error * slack + (p.gamma(n + 12) * sums + tiny))
    else:
        active = active + error
    c = k.maximum(idle, active)
    c = c + 4 * p.u * abs(c)
    return EdgeLines(layer, row, element, t, a, c, mass)


def lines_of(anchor: Tape, layers: dict[int, EdgeLayer], slopes: EdgeSlopes) -> dict[int, EdgeLines]:
    """All lines with the given slopes, by index of the step."""
    out: dict[int, EdgeLines] = {}
    for index, layer in layers.items():
        first, size, n = layer.step.relu.offset, layer.step.relu.size, layer.step.dense.inner
        mine = np.flatnonzero((slopes.neuron >= first) & (slopes.neuron < first + size))
        if len(mine):
            t = slopes.slopes[slopes.start[mine][:, None] + np.arange(n)]
            out[index] = edge_lines(anchor, layer, slopes.row[mine], slopes.neuron[mine] - first, t)
    return out


@dataclass(frozen=True, slots=True)
class EdgePart:
    """What lines take over from packed rows: ``part: R n`` coefficients, ``drop: R`` constant, error."""

    part: Any
    drop: Any
    error: Any


def take_over(tape: Tape, lines: EdgeLines, a: Any, dom: Any) -> tuple[Any, EdgePart | None]:
    """Moves negative coefficients of rows ``a: R n`` over boxes ``dom: R`` to the lines of their elements.

    Soundness: ``g h >= g (a . x + c)`` for ``g <= 0``. Each coefficient of the part is a sum of as many
    products as the row has lines, and so is the constant.

    Returns:
        The rows without these coefficients, and where they went (None: nothing was taken).
    """
    k, p = tape.kernels, tape.kernels.precision
    packed, line = lines_of_rows(lines.row, np.asarray(k.numpy(dom)).astype(np.int64))
    if not len(packed):
        return a, None
    at = k.array(packed), k.array(lines.element[line])
    held = a[at]
    g = k.minimum(held, 0)
    a = k.copy(a)
    a[at] = k.maximum(held, 0)
    slopes, c, mass = (lines.a, lines.c, lines.mass)
    if len(line) != len(lines.row) or not np.array_equal(line, np.arange(len(line))):
        slopes, c, mass = (k.take(v, k.array(line)) for v in (slopes, c, mass))
    constants, size = g * c, k.zeros(len(a))
    part, drop = k.zeros(len(a), slopes.shape[1]), k.zeros(len(a))
    where = np.flatnonzero(np.append(True, packed[1:] != packed[:-1]))
    rows = k.array(packed[where])
    part[rows] = _segments(g[:, None] * slopes, where)
    drop[rows] = _segments(constants, where)
    if not p.u:
        return a, EdgePart(part, drop, size)
    size[rows] = _segments(abs(constants) - g * mass, where)
    most = int(np.bincount(packed).max())
    error = p.gamma(most + 4) * size * p.slack(most + 4)
    return a, EdgePart(part, drop, error + p.eta * (most + 2) * (1 + k.total(lines.layer.reach)))


def _segments(a: Any, starts: Array) -> Any:
    """Sums of consecutive pieces of ``a: P *`` (NumPy arrays: searches that split operands run on these)."""
    return np.add.reduceat(a, starts, axis=0)


def values_on(tape: Tape, lines: EdgeLines, arrived: Any, value: Any, x: Any, dom: Any) -> Any:
    """``value: R n`` of the chosen lines of a step, with these lines' values where rows use them.

    A guide, not a bound.
    """
    k = tape.kernels
    packed, line = lines_of_rows(lines.row, np.asarray(k.numpy(dom)).astype(np.int64))
    at = k.array(packed), k.array(lines.element[line])
    which = k.array(line)
    own = k.rowdot(k.take(lines.a, which), k.take(x, at[0])) + k.take(lines.c, which)
    out = k.copy(value)
    out[at] = k.where(arrived[at] < 0, own, value[at])
    return out


def edge_losses(
    tape: Tape, lines: EdgeLines, arrived: Any, losses: Any, at: tuple[Any, Any], dom: Any
) -> Any:
    """``losses: R n`` of a step, with these lines' own where rows use them.

    Args:
        tape, lines, arrived, dom: as for :func:`values_on`.
        losses: by the ordinary lines.
        at: ``R n`` values of the operand, and of what it is made of.
    """
    real = tape.kernels.maximum(at[0], 0)
    own = values_on(tape, lines, arrived, real, at[1], dom)
    return np.where(own != real, arrived * (real - own), losses)
