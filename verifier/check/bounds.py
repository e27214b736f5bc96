"""The bounding rule of the certificate format, for blocks of boxes at once.

Shapes: ``D`` boxes of a block, ``R`` packed rows, ``n`` elements of a node. Soundness of each step is
argued where it is taken; all of it rests on two invariants.

*Intervals.* For every box of the block, every x in it, and every node: the value z(x) of the node lies
in ``[low, high]``, and ``|z(x)| <= mag``. At level ``float32`` "the value" is any value that an
evaluation within the rounding model can produce; otherwise the exact one.

*Rows.* A row is a linear function of nodes, ``sum_i A_i . z_i + c`` with its error e, and at every
moment ``true row value >= sum_i A_i . z_i(x) + c - e`` holds in exact arithmetic for the floats
stored in A, c and e. Each step replaces one node by its sources and adds to e what it can cost.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fractions import Fraction
from types import MappingProxyType
from typing import TypeAlias

import numpy as np

from verifier.check.arithmetic import ETA32, LARGEST_SUM, TOO_MANY, Arithmetic, float_above
from verifier.check.edges import Lines, Stated, base_of, line, take_over
from verifier.check.forms import Forms
from verifier.check.network import Array, Chain, Dense, Kind, Network, Take
from verifier.check.nonlinear import SLOPE_UNIT, Context, Curve, Product, Rectifier, Relaxed
from verifier.check.regions import NOTHING, Given, Limits, Multipliers, Regions, Sharp
from verifier.check.rounding import model_error
from verifier.check.state import (
    Affine,
    Choices,
    Cost,
    Interval,
    Layout,
    Rows,
    State,
    backward,
    dot,
    forward,
    indicator,
    middle,
    sign_of,
    unbounded,
    weigh,
    without_nan,
)
from verifier.spec.model import Ball

Units: TypeAlias = tuple[int, Array, Array, int]  # rows sign * z_i[element]: i, boxes, elements, sign
_HUGE = 2.0**900
_ROW_ELEMENTS = 1 << 14  # of one chunk of packed rows at the widest node
_LEAST_ROWS = 32  # however wide it is: every chunk reads all weights


class Bounder:
    """Applies the rule to one network in one arithmetic at one level."""

    def __init__(
        self,
        network: Network,
        arithmetic: Arithmetic,
        *,
        float32: bool,
        forward: bool,
        ball: Ball | None = None,
    ) -> None:
        self.network, self.arithmetic, self.ball = network, arithmetic, ball
        self.float32, self.forward = float32, forward
        self.layout = Layout(network)
        self.affine = [self._prepare(i) for i in range(len(network.nodes))]
        inner = [m.inputs for node in network.nodes for _, chain in node.terms for m in chain]
        self.width = max([*inner, *(node.size for node in network.nodes)])

    def _prepare(self, i: int) -> Affine:
        node, to = self.network.nodes[i], self.arithmetic
        terms = [
            (
                source,
                tuple(m.with_weights(to.array) for m in chain),
                tuple(m.with_weights(lambda w: to.array(np.abs(w))) for m in chain),
            )
            for source, chain in node.terms
        ]
        # Roundings of one element on the way through, forwards or backwards: those of each map of a
        # chain add up ((1 + gamma_a)(1 + gamma_b) <= 1 + gamma_(a+b)); so do the terms and the bias.
        k = max((sum(m.roundings for m in chain) for _, chain in node.terms), default=0)
        k += max(0, len(terms) - 1) + (node.size if node.bias is not None else 0)
        model, floor = to.number(node.error), 0
        affine = node.kind is Kind.AFFINE
        blind = self.float32 and affine and node.roundings >= TOO_MANY
        if self.float32 and node.roundings and affine and not blind:
            model = (model + to.gamma32(node.roundings)) * to.slack
            floor = to.number(node.roundings * ETA32)
        bias = None if node.bias is None else to.array(node.bias)
        moves = bias is None and len(terms) == 1 and all(isinstance(m, Take) for m in terms[0][1])
        absolute = None if bias is None else np.abs(bias)
        signs = tuple(sign_of(chain) for _, chain in node.terms)
        signs = signs if all(signs) and model < 1 else ()
        ours, moves = to.gamma(k) if k else 0, moves and not model and not blind
        return Affine(tuple(terms), bias, absolute, ours, model, floor, blind, signs, moves)

    # -------------------------------------------------------------- intervals, forwards
    def run(self, low: Array, high: Array, given: Given = NOTHING) -> State:
        """Steps 1 to 3 of the rule for boxes ``low, high`` (D, inputs)."""
        split = np.zeros(len(low), bool)
        for limit in given.limits.values():
            split[limit.of] = True
        state, formed = State(split, np.zeros(len(low), bool)), self.forward
        forms = Forms(self.arithmetic, low, high) if formed else None
        for i, node in enumerate(self.network.nodes):
            pad: Array | None = None
            if node.kind is Kind.INPUT:
                lo, hi = low, high
            elif node.kind is Kind.AFFINE:
                lo, hi, pad = self._affine_interval(state, i)
            else:
                lo, hi, pad = self._nonlinear(state, i, given)
            # forms of what has no bound would have to be told from numbers in exact arithmetic
            formed = formed and not (self.arithmetic.exact and (unbounded(lo) | unbounded(hi)).any())
            if formed and forms is not None:
                form = forms.of(state, i, node, self.affine[i], pad)
                state.forms.append(form)
                least, most = forms.range(form)
                lo, hi = np.fmax(lo, least), np.fmin(hi, most)
            lo, hi = state.settled(lo, hi)
            for store, value in ((state.low, lo), (state.high, hi), (state.mag, np.maximum(-lo, hi))):
                store.append(value)
            state.pad.append(None if pad is None else Cost(pad))
            known = np.where(unbounded(state.mag[i]), 0, state.mag[i])
            state.floor.append(self.arithmetic.tiny * (1 + known.max(axis=0).sum()))
        return state

    def _nonlinear(self, state: State, i: int, given: Given) -> tuple[Array, Array, Array | None]:
        """Bounds the operands where that is asked for, cuts them down to the box's limits, then relaxes."""
        node, to = self.network.nodes[i], self.arithmetic
        intervals: list[Interval] = []
        for k, source in enumerate(node.operands):
            interval = state.low[source], state.high[source]
            if given.marks is not None:
                wanted = self.layout.part(i, given.marks.of(node.kind), k)
                sharp = given.sharp and given.sharp.among(self.layout.first(i, k), node.size)
                interval = self._tighten(state, source, interval, wanted, sharp)
            low, high = state.settled(*interval)
            limit = given.limits.get(self.layout.tensor(source))
            if limit is not None:
                low, high, empty = limit.apply(low, high)
                state.empty |= empty
            intervals.append((low, high))
        relaxed = self._relax(Context(to, self.layout, i, given.choice), intervals)
        pad = self._model_error(i, intervals)
        state.relaxed[i], state.operands[i] = relaxed, intervals
        lo, hi = without_nan(to, *relaxed.interval())
        if pad is None:
            return lo, hi, None
        slip = pad * (1 + 8 * to.u)
        if not to.exact:
            slip = slip + 8 * to.u * np.maximum(np.abs(lo), np.abs(hi))
        return *without_nan(to, lo - slip, hi + slip), pad

    def _relax(self, context: Context, intervals: list[Interval]) -> Relaxed:
        node = self.network.nodes[context.node]
        low, high = intervals[0]
        if node.kind is Kind.PRODUCT:
            return Product(context, intervals[0], intervals[1])
        mag = np.maximum(-low, high)
        if node.kind is Kind.RELU:
            return Rectifier(context, low, high, mag)
        return Curve(context, node.function, low, high, mag)

    def _model_error(self, i: int, intervals: list[Interval]) -> Array | None:
        """How far the model's own value of a nonlinear node may be off (level ``float32``)."""
        node, to = self.network.nodes[i], self.arithmetic
        if not self.float32 or not node.roundings or node.kind is Kind.RELU:
            return None
        low, high = intervals[0]
        nothing = np.full(low.shape, np.inf, to.dtype)
        if node.roundings >= TOO_MANY:
            return nothing
        if node.kind is Kind.SCALAR:
            return to.array(model_error(node.function, *to.outwards(low, high)))
        size = np.maximum(-low, high) * np.maximum(-intervals[1][0], intervals[1][1])
        fits = np.asarray(size <= LARGEST_SUM, bool)  # else it may overflow
        error = np.where(fits, size, 0) * to.gamma32(node.roundings) + to.number(node.roundings * ETA32)
        return np.where(fits, error * to.slack, nothing)

    def _affine_interval(self, state: State, i: int) -> tuple[Array, Array, Array | None]:
        """``L mid + b -+ (|L| rad + pad)``.

        With S = |L| mag + |b|, our own rounding of centre and radius is at most ``ours * S + tiny``,
        as |mid| + rad <= mag up to roundings that ``ours`` has to spare; the model's is ``model * S +
        floor``. Together: ``pad``. The three last additions round relative to at most 2 S + pad.
        An element that reads an unbounded one has no bounds, and at level ``float32`` neither has one whose
        partial sums, bounded by S, might overflow.
        """
        a, to = self.affine[i], self.arithmetic
        if a.moves:
            ((source, chain, _),) = a.terms
            return forward(chain, state.low[source]), forward(chain, state.high[source]), None
        shape = (len(state.low[0]), self.network.nodes[i].size)
        centre, radius, size = (np.zeros(shape, to.dtype) for _ in range(3))
        lost = np.full(shape, a.blind)
        for source, chain, absolute in a.terms:
            low, high, open_ = self._bounded(state.low[source], state.high[source])
            lost = lost | self._reads(chain, open_)
            mid, rad = middle(to, low, high)
            centre = centre + forward(chain, mid)
            radius = radius + forward(absolute, rad)
            size = size + forward(absolute, np.maximum(-low, high))
        if a.bias is not None and a.absolute_bias is not None:
            centre, size = centre + a.bias, size + a.absolute_bias
        if self.float32 and self.network.nodes[i].roundings:
            lost = lost | ~np.asarray(size <= LARGEST_SUM, bool)
        pad: Array | None = None
        if not to.exact or a.model or lost.any():
            spent = (size * (a.ours + a.model) + (a.floor + to.tiny)) * to.slack
            radius = radius + spent
            radius = radius + 8 * to.u * (size + radius)
            pad = np.where(lost, np.inf, spent)
        low, high = without_nan(to, centre - radius, centre + radius)
        low, high = np.where(lost, -np.inf, low), np.where(lost, np.inf, high)
        if a.signs and not a.blind:
            low = np.maximum(low, self._end(state, i, lower=True))
            high = np.minimum(high, self._end(state, i, lower=False))
        return low, high, pad

    def _end(self, state: State, i: int, *, lower: bool) -> Array:
        """One end of an affine node by itself, which is possible where each term's weights have one sign.

        The value, and the model's rounded value too (its error is less than the value's magnitude), grows or
        falls with every element of a term; so rounding is charged at this end's own magnitude.
        """
        a, to = self.affine[i], self.arithmetic
        shape = (len(state.low[0]), self.network.nodes[i].size)
        value, size = (np.zeros(shape, to.dtype) for _ in range(2))
        lost = np.zeros(shape, bool)
        for (source, chain, absolute), sign in zip(a.terms, a.signs, strict=True):
            end = state.low[source] if (sign > 0) is lower else state.high[source]
            if not to.exact:  # huge numbers would overflow in the sum; nearer to 0 this end is a bound too
                end = np.minimum(end, _HUGE) if (sign > 0) is lower else np.maximum(end, -_HUGE)
            end, _, open_ = self._bounded(end, end)
            lost = lost | self._reads(chain, open_)
            value, size = value + forward(chain, end), size + forward(absolute, np.abs(end))
        if a.bias is not None and a.absolute_bias is not None:
            value, size = value + a.bias, size + a.absolute_bias
        if self.float32 and self.network.nodes[i].roundings:
            lost = lost | ~np.asarray(size <= LARGEST_SUM, bool)
        error = (size * (a.ours + a.model) + (a.floor + to.tiny)) * to.slack
        error = error + 8 * to.u * (size + error)
        found = value - error if lower else value + error
        nothing = -np.inf if lower else np.inf
        return np.where(lost | np.asarray(found != found, bool), nothing, found)

    @staticmethod
    def _bounded(low: Array, high: Array) -> tuple[Array, Array, Array | None]:
        """The interval with zeros where it is unbounded, and where that is (None: nowhere)."""
        open_ = unbounded(low) | unbounded(high)
        if not open_.any():
            return low, high, None
        return np.where(open_, 0, low), np.where(open_, 0, high), open_

    @staticmethod
    def _reads(chain: Chain, open_: Array | None) -> Array:
        """Which results of a chain read any of the given elements."""
        if open_ is None:
            return np.asarray(False)
        return forward(indicator(chain), open_.astype(np.float64)) > 0

    # -------------------------------------------------------------- rows, backwards
    def _tighten(
        self, state: State, i: int, interval: Interval, wanted: Array, sharp: Sharp | None
    ) -> Interval:
        """Step 3: bounds the wanted (D, n) elements of node i from both sides, where they come from.

        Bounds with parameters of their own (``sharp``) are found one by one, others once for every element
        that is asked for.
        """
        box, element = np.nonzero(wanted)
        if i == 0 or not box.size:
            return interval
        origin, index = self._origin(i)
        place = index[element]
        box, element, place = box[place >= 0], element[place >= 0], place[place >= 0]
        if not box.size:
            return interval
        size, asked = self.network.nodes[origin].size, box * wanted.shape[1] + element
        ends = interval[0].copy(), interval[1].copy()
        for side, sign, closer in ((0, 1, np.fmax), (1, -1, np.fmin)):
            least = np.full(len(box), -np.inf, self.arithmetic.dtype)
            rest = np.ones(len(box), bool)
            if sharp is not None:
                mine = np.flatnonzero(sharp.upper == side)
                key = sharp.box[mine] * wanted.shape[1] + sharp.operand[mine]
                known = np.isin(key, asked)  # others are about constants
                mine, spot = mine[known], np.searchsorted(asked, key[known])
                rest[spot] = False
                units = origin, box[spot], place[spot], sign
                least[spot] = self._least_of(state, units, sharp.choices[mine])
            once, back = np.unique(box[rest] * size + place[rest], return_inverse=True)
            units = origin, *np.divmod(once, size), sign
            least[rest] = self._least_of(state, units, None)[back]
            ends[side][box, element] = closer(ends[side][box, element], sign * least)
        return ends

    def _least_of(self, state: State, units: Units, choice: Choices | None) -> Array:
        """Lower bounds of ``sign z`` for single elements; ``choice`` as in :meth:`minimum`."""
        origin, box, element, sign = units
        found = np.full(len(box), -np.inf, self.arithmetic.dtype)
        for part in self.chunks(len(box)):
            rows = self._unit_rows(state, (origin, box[part], element[part], sign))
            found[part] = self.minimum(state, rows, None if choice is None else choice[part])
        return found

    def _origin(self, i: int) -> tuple[int, Array]:
        """The node whose elements node i merely repeats, and where each comes from (-1: a constant)."""
        index = np.arange(self.network.nodes[i].size)
        while self.affine[i].moves:
            ((i, chain, _),) = self.affine[i].terms
            for m in reversed(chain):
                assert isinstance(m, Take)
                index = np.where(index >= 0, m.index[index], -1)
        return i, index

    def _unit_rows(self, state: State, units: Units) -> Rows:
        """Rows ``sign z_i[element]``; one step is taken at once where it is a lookup."""
        i, box, element, sign = units
        r, a, dtype = len(box), self.affine[i], self.arithmetic.dtype
        zero = np.zeros(r, dtype)
        last = a.terms[0][1] if len(a.terms) == 1 else ()
        dense = last[0] if len(last) == 1 else None
        if not isinstance(dense, Dense) or dense.positions != 1 or len(dense.weight) != 1:
            start = np.zeros((r, self.network.nodes[i].size), dtype)
            start[np.arange(r), element] = sign
            return Rows({i: start}, zero, zero.copy(), box)
        constant = zero if a.bias is None else sign * a.bias[element]
        pad = state.pad[i]  # nothing of ours is rounded here; the model's errors are in pad
        error = zero.copy() if pad is None else pad.each[box, element]
        return Rows({a.terms[0][0]: sign * dense.weight[0][element]}, constant, error, box)

    def chunks(self, count: int) -> Iterator[slice]:
        """Slices of at most so many rows that a chunk stays small in memory."""
        step = max(_LEAST_ROWS, _ROW_ELEMENTS // self.width)
        return (slice(k, min(k + step, count)) for k in range(0, count, step))

    def regions(self, state: State, box: Array, ends: Interval, limits: Mapping[int, Limits]) -> Regions:
        """One part of a box for each row: input boxes ``ends``, and limits (by rows) besides the box's own.

        Only the relaxations of limited operands are made anew; whatever else holds in the box holds here.
        """
        operands: dict[int, list[Interval]] = {}
        empty = state.empty[box]
        for i, known in state.operands.items():
            found = [limits.get(self.layout.tensor(k)) for k in self.network.nodes[i].operands]
            if not any(found):
                continue
            operands[i] = [(low[box], high[box]) for low, high in known]
            for k, limit in enumerate(found):
                if limit is not None:
                    low, high, nothing = limit.apply(*operands[i][k])
                    operands[i][k] = low, high
                    empty |= nothing
        relaxed = {
            i: self._relax(Context(self.arithmetic, self.layout, i, None), intervals)
            for i, intervals in operands.items()
        }
        return Regions(box, *ends, operands, relaxed, empty)

    def minimum(
        self,
        state: State,
        rows: Rows,
        choice: Choices | None,
        regions: Regions | None = None,
        multipliers: Multipliers | None = None,
        edges: Mapping[int, Lines] = MappingProxyType({}),
    ) -> Array:
        """Lower bounds (R,) of packed rows over their boxes, or over the regions inside of them.

        ``choice`` (R lines) is the rows'; without one they take the boxes' own. ``edges``: lines of
        rectifiers with a slope for every edge, by node.
        """
        to = self.arithmetic
        if multipliers is not None:
            multipliers.into_constant(to, rows)
        for i in range(len(state.low) - 1, -1, -1):
            a = rows.parts.pop(i, None)
            if multipliers is not None:
                a = multipliers.into(to, state, rows, i, a)
            if a is None:
                continue
            if i == 0:
                rows.parts[0] = a
            elif self.network.nodes[i].kind is Kind.AFFINE:
                self._through_affine(state, rows, i, a)
            else:
                if i in edges:
                    a, part = take_over(to, state, rows, edges[i], a)
                    self._add_part(state, rows, edges[i].base, part)
                self._through_nonlinear(state, rows, i, a, choice, regions)
        found = self._concretise(state, rows, regions)
        lost = np.asarray(found != found, bool)  # a NaN proves nothing
        return np.where(lost if multipliers is None else lost | multipliers.lost, -np.inf, found)

    def edges(self, state: State, box: Array, stated: Stated | None) -> dict[int, Lines]:
        """The lines that a certificate states for rows over boxes ``box`` (R,), by rectifier node."""
        found: dict[int, Lines] = {}
        if stated is None:
            return found
        for i in self.network.of(Kind.RELU):
            first, node = self.layout.start[i], self.network.nodes[i]
            mine = np.flatnonzero((stated.neuron >= first) & (stated.neuron < first + node.size))
            base = base_of(self.network, i)
            if not mine.size or base is None:
                continue
            row, element = stated.row[mine], stated.neuron[mine] - first
            units = node.operands[0], box[row], element, -1
            z = self._unit_rows(state, units)
            for k in range(node.operands[0], base, -1):
                a = z.parts.pop(k, None)
                if a is not None:
                    self._through_affine(state, z, k, a)
            width = self.network.nodes[base].size
            if base not in z.parts:  # a constant
                z.parts[base] = np.zeros((len(row), width), self.arithmetic.dtype)
            t = stated.slopes[stated.start[mine][:, None] + np.arange(width)] / SLOPE_UNIT
            found[i] = Lines(
                base, row, element, *line(self.arithmetic, state, base, z, self.arithmetic.array(t))
            )
        return found

    def direct(self, state: State, rows: Rows, regions: Regions | None = None) -> Array:
        """Lower bounds (R,) of packed rows by the intervals of what they read."""
        to = self.arithmetic
        total, error = rows.constant, rows.error
        for i, a in rows.parts.items():
            low, high = state.low[i][rows.box], state.high[i][rows.box]
            if i == 0 and regions is not None:
                low, high = regions.low, regions.high
            ends = np.where(np.asarray(a > 0, bool), low, high)
            used, open_ = np.asarray(a != 0, bool), unbounded(ends)
            known = dot(a, np.where(used & ~open_, ends, 0))
            total = total + np.where((used & open_).any(axis=1), -np.inf, known)
            if not to.exact:
                error = error + to.gamma(a.shape[1] + 2) * weigh(a, state.mag[i][rows.box]) + to.tiny
        found = total - error if to.exact else self._least(total, total * 0, error, rows)
        return np.where(np.asarray(found != found, bool), -np.inf, found)

    def _through_affine(self, state: State, rows: Rows, i: int, a: Array) -> None:
        """A z becomes A L z' + A b.

        Computing A L is off by at most ``gamma |A| |L|`` (and tiny) elementwise, which on |z'| <= mag
        costs ``gamma |A| (|L| mag)``; A b costs ``gamma |A| |b|``; the model's own deviation of z
        costs ``|A| pad_model``. The sum of the three is ``|A| pad``.
        """
        node = self.affine[i]
        self._charge(rows, a, state.pad[i])
        if node.bias is not None:
            self._add_constant(rows, a @ node.bias)
        for source, chain, _ in node.terms:
            part = backward(chain, a)
            if node.ours:
                rows.error += state.floor[source]
            open_ = unbounded(state.mag[source])
            if open_.any() and not self.arithmetic.exact:
                # of what has no bound, not even a coefficient that underflows may be neglected
                touched = backward(indicator(chain), np.asarray(a != 0, np.float64)) > 0
                rows.error += np.where((touched & open_[rows.box]).any(axis=1), np.inf, 0.0)
            self._add_part(state, rows, source, part)

    def _through_nonlinear(
        self, state: State, rows: Rows, i: int, a: Array, choice: Choices | None, regions: Regions | None
    ) -> None:
        """Positive coefficients take the line below, negative ones the line above."""
        self._charge(rows, a, state.pad[i])
        if regions is not None and i in regions.relaxed:
            pushed = regions.relaxed[i].push(a, np.arange(len(a)), choice)
        else:
            pushed = state.relaxed[i].push(a, rows.box, choice)
        self._add_constant(rows, pushed.constant)
        rows.error += pushed.error + self.arithmetic.tiny
        for source, part in zip(self.network.nodes[i].operands, pushed.parts, strict=True):
            rows.error += state.floor[source]
            self._add_part(state, rows, source, part)

    def _add_part(self, state: State, rows: Rows, source: int, part: Array) -> None:
        """Adds coefficients; where two paths meet, the sum rounds once."""
        known = rows.parts.get(source)
        if known is not None:
            part = known + part
            if not self.arithmetic.exact:
                rows.error += self.arithmetic.gamma(0) * weigh(part, state.mag[source].max(axis=0))
                rows.error += state.floor[source]
        rows.parts[source] = part

    def _add_constant(self, rows: Rows, value: Array) -> None:
        rows.constant = rows.constant + value
        rows.error += 2 * self.arithmetic.u * np.abs(rows.constant) + self.arithmetic.tiny

    def _charge(self, rows: Rows, a: Array, cost: Cost | None) -> None:
        """Adds ``|A| . cost``: per row's box where it matters, else with the block's largest cost."""
        if cost is None:
            return
        each = self.float32 or self.arithmetic.exact or unbounded(cost.peak).any()
        rows.error = rows.error + weigh(a, cost.each[rows.box] if each else cost.peak) + self.arithmetic.tiny

    def _concretise(self, state: State, rows: Rows, regions: Regions | None) -> Array:
        """The least value over the input box, minus every error."""
        to = self.arithmetic
        a = rows.parts.pop(0, None)
        total, spread, error = rows.constant, rows.error * 0, rows.error
        if a is not None:
            if regions is None:
                mid, rad = (v[rows.box] for v in middle(to, state.low[0], state.high[0]))
            else:
                mid, rad = middle(to, regions.low, regions.high)
            absolute = np.abs(a)
            centre = dot(a, mid)
            spread = dot(absolute, rad)
            reach = dot(absolute, np.abs(mid) + rad)
            total = total + centre
            error = error + to.gamma(a.shape[1]) * reach
        lower = self._least(total, spread, error, rows)
        if a is None or self.ball is None or to.exact:  # a 2-norm is no rational: exact mode uses the box
            return lower
        return np.fmax(lower, self._over_ball(a, rows))

    def _least(self, total: Array, spread: Array, error: Array, rows: Rows) -> Array:
        """``total - spread`` less all errors, those of this line included."""
        to = self.arithmetic
        error = (error + 8 * to.u * np.abs(rows.constant) + to.tiny) * to.slack
        error = error + 8 * to.u * (np.abs(total) + spread + error)
        return total - spread - error

    def _over_ball(self, a: Array, rows: Rows) -> Array:
        """``a . x >= a . c - r |a|_q`` on the ball, with the dual norm (2 for 2, the maximum for 1).

        The sum of squares errs by gamma and, where squares underflow, by ``tiny``; the root halves the
        former. The radius is rounded up and covers the rounding of the centre.
        """
        to, ball = self.arithmetic, self.ball
        assert ball is not None
        near = np.array([float(v) for v in ball.center])
        shift = sum(
            (abs(Fraction(float(n)) - v) for n, v in zip(near, ball.center, strict=True)), Fraction(0)
        )
        radius = float_above(ball.radius + shift)
        if ball.norm == 1:
            dual = np.abs(a).max(axis=1)
        else:
            dual = np.sqrt(dot(a, a) + to.tiny) * (1 + to.gamma(a.shape[1]))
        reach = np.abs(a) @ np.abs(near)
        error = rows.error + to.gamma(a.shape[1]) * (reach + radius * dual)
        return self._least(rows.constant + a @ near, radius * dual, error, rows)
