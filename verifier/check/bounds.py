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

from collections.abc import Iterator
from fractions import Fraction

import numpy as np

from verifier.check.arithmetic import ETA32, LARGEST_SUM, TOO_MANY, Arithmetic, float_above
from verifier.check.network import Array, Chain, Dense, Kind, Network, Take
from verifier.check.nonlinear import Context, Curve, Product, Rectifier, Relaxed
from verifier.check.rounding import model_error
from verifier.check.state import (
    Affine,
    Choices,
    Cost,
    Form,
    Layout,
    Marks,
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

_HUGE = 2.0**900
_ROW_ELEMENTS = 1 << 14  # of one chunk of packed rows at the widest node


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
    def run(
        self, low: Array, high: Array, choice: Choices | None = None, marks: Marks | None = None
    ) -> State:
        """Steps 1 to 3 of the rule for boxes ``low, high`` (D, inputs).

        ``choice`` holds the boxes' own lines; step 3 bounds the elements in ``marks``, or none.
        """
        state, formed = State(), self.forward
        for i, node in enumerate(self.network.nodes):
            pad: Array | None = None
            if node.kind is Kind.INPUT:
                lo, hi = low, high
            elif node.kind is Kind.AFFINE:
                lo, hi, pad = self._affine_interval(state, i)
            else:
                lo, hi, pad = self._nonlinear(state, i, choice, marks)
            # forms of what has no bound would have to be told from numbers in exact arithmetic
            formed = formed and not (self.arithmetic.exact and (unbounded(lo) | unbounded(hi)).any())
            if formed:
                form = self._form(state, i, pad, low, high)
                state.forms.append(form)
                least, most = self._range(form, low, high)
                lo, hi = np.fmax(lo, least), np.fmin(hi, most)
            for store, value in ((state.low, lo), (state.high, hi), (state.mag, np.maximum(-lo, hi))):
                store.append(value)
            state.pad.append(None if pad is None else Cost(pad))
            known = np.where(unbounded(state.mag[i]), 0, state.mag[i])
            state.floor.append(self.arithmetic.tiny * (1 + known.max(axis=0).sum()))
        return state

    def _nonlinear(
        self, state: State, i: int, choice: Choices | None, marks: Marks | None
    ) -> tuple[Array, Array, Array | None]:
        """Bounds the operands where that is asked for, then relaxes the node on what was found."""
        node, to = self.network.nodes[i], self.arithmetic
        intervals = [(state.low[k], state.high[k]) for k in node.operands]
        if marks is not None:
            for k, source in enumerate(node.operands):
                wanted = self.layout.part(i, self._marks_of(node.kind, marks), k)
                intervals[k] = self._tighten(state, source, *intervals[k], wanted)
        relaxed, pad = self._relax(Context(to, self.layout, i, choice), intervals)
        state.relaxed[i] = relaxed
        lo, hi = without_nan(to, *relaxed.interval())
        if pad is None:
            return lo, hi, None
        slip = pad * (1 + 8 * to.u)
        if not to.exact:
            slip = slip + 8 * to.u * np.maximum(np.abs(lo), np.abs(hi))
        return *without_nan(to, lo - slip, hi + slip), pad

    @staticmethod
    def _marks_of(kind: Kind, marks: Marks) -> Array:
        return {Kind.RELU: marks.rectifiers, Kind.SCALAR: marks.scalars, Kind.PRODUCT: marks.products}[kind]

    def _relax(self, context: Context, intervals: list[tuple[Array, Array]]) -> tuple[Relaxed, Array | None]:
        """The relaxation, and how far the model's own value may be off (level ``float32``)."""
        node, to = self.network.nodes[context.node], self.arithmetic
        low, high = intervals[0]
        mag = np.maximum(-low, high)
        rounds = self.float32 and node.roundings > 0
        nothing = np.full(low.shape, np.inf, to.dtype)
        if node.kind is Kind.RELU:
            return Rectifier(context, low, high, mag), None
        if node.kind is Kind.SCALAR:
            curve = Curve(context, node.function, low, high, mag)
            if not rounds or node.roundings >= TOO_MANY:
                return curve, nothing if rounds else None
            return curve, to.array(model_error(node.function, *to.outwards(low, high)))
        product = Product(context, intervals[0], intervals[1])
        if not rounds or node.roundings >= TOO_MANY:
            return product, nothing if rounds else None
        size = mag * np.maximum(-intervals[1][0], intervals[1][1])
        fits = np.asarray(size <= LARGEST_SUM, bool)  # else it may overflow
        error = np.where(fits, size, 0) * to.gamma32(node.roundings) + to.number(node.roundings * ETA32)
        return product, np.where(fits, error * to.slack, nothing)

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

    # -------------------------------------------------------------- affine forms, forwards
    def _form(self, state: State, i: int, pad: Array | None, low: Array, high: Array) -> Form:
        """Step 2 of the rule: carries ``G x + g +- rho`` through node i."""
        to, node, a = self.arithmetic, self.network.nodes[i], self.affine[i]
        boxes, inputs = low.shape
        widest = np.maximum(-low, high)
        floor = to.tiny * (1 + widest.sum(axis=1, keepdims=True))  # underflow, in G on every input
        if i == 0:
            unit = np.broadcast_to(to.array(np.eye(inputs)), (boxes, inputs, inputs))
            zero = np.zeros(low.shape, to.dtype)
            return Form(unit, zero, zero, widest)
        if node.kind is not Kind.AFFINE:
            operands = tuple(state.forms[k] for k in node.operands)
            rows, centre, radius = state.relaxed[i].form(operands, floor)
            if pad is not None:
                radius = (radius + pad) * (1 + 8 * to.u)
            return Form(rows, centre, radius, self._reach(rows, widest))
        shape = (boxes, node.size)
        rows = np.zeros((boxes, inputs, node.size), to.dtype)
        centre, radius = np.zeros(shape, to.dtype), np.zeros(shape, to.dtype)
        for source, chain, absolute in a.terms:
            f = state.forms[source]
            rows = rows + forward(chain, f.rows)
            centre = centre + forward(chain, f.centre)
            # rounding of G and g costs at most ours * |L| (|G| |x| + |g| + rho), anywhere in the box
            spent = f.radius + a.ours * (f.reach + np.abs(f.centre) + f.radius)
            radius = radius + forward(absolute, spent)
        if a.bias is not None:
            centre = centre + a.bias
        # pad holds this node's own errors, those of the bias included
        if pad is not None:
            radius = (radius + pad + floor) * (1 + 8 * to.u)
        return Form(rows, centre, radius, self._reach(rows, widest))

    @staticmethod
    def _reach(rows: Array, widest: Array) -> Array:
        return np.matmul(widest[:, None, :], np.abs(rows))[:, 0]

    def _range(self, f: Form, low: Array, high: Array) -> tuple[Array, Array]:
        """The form's values over the box, outwards."""
        to = self.arithmetic
        mid, rad = middle(to, low, high)
        centre = np.matmul(mid[:, None, :], f.rows)[:, 0] + f.centre
        radius = np.matmul(rad[:, None, :], np.abs(f.rows))[:, 0] + f.radius
        # f.reach is computed: a sum of non-negative products, covered by gamma's slack
        radius = radius + to.gamma(low.shape[1]) * (f.reach + np.abs(f.centre) + radius) + to.tiny
        return centre - radius, centre + radius

    # -------------------------------------------------------------- rows, backwards
    def _tighten(self, state: State, i: int, low: Array, high: Array, wanted: Array) -> tuple[Array, Array]:
        """Step 3: bounds the wanted (D, n) elements of node i from both sides, where they come from."""
        box, element = np.nonzero(wanted)
        if i == 0 or not box.size:
            return low, high
        origin, index = self._origin(i)
        place = index[element]
        box, element, place = box[place >= 0], element[place >= 0], place[place >= 0]
        size = self.network.nodes[origin].size
        once, back = np.unique(box * size + place, return_inverse=True)
        found: list[list[Array]] = [[], []]
        for part in self.chunks(len(once), 2):
            where = np.divmod(once[part], size)
            least = self.minimum(state, self._unit_rows(state, origin, where[0], where[1]), None)
            half = len(where[0])
            found[0].append(least[:half])
            found[1].append(-least[half:])
        low, high = low.copy(), high.copy()
        if len(once):
            low[box, element] = np.fmax(low[box, element], np.concatenate(found[0])[back])
            high[box, element] = np.fmin(high[box, element], np.concatenate(found[1])[back])
        return low, high

    def _origin(self, i: int) -> tuple[int, Array]:
        """The node whose elements node i merely repeats, and where each comes from (-1: a constant)."""
        index = np.arange(self.network.nodes[i].size)
        while self.affine[i].moves:
            ((i, chain, _),) = self.affine[i].terms
            for m in reversed(chain):
                assert isinstance(m, Take)
                index = np.where(index >= 0, m.index[index], -1)
        return i, index

    def _unit_rows(self, state: State, i: int, box: Array, element: Array) -> Rows:
        """Rows ``z_i[element]`` and ``-z_i[element]``; one step is taken at once where it is a lookup."""
        r, a, dtype = len(box), self.affine[i], self.arithmetic.dtype
        zero = np.zeros(2 * r, dtype)
        both = np.concatenate([box, box])
        last = a.terms[0][1] if len(a.terms) == 1 else ()
        dense = last[0] if len(last) == 1 else None
        if not isinstance(dense, Dense) or dense.positions != 1 or len(dense.weight) != 1:
            start = np.zeros((2 * r, self.network.nodes[i].size), dtype)
            start[np.arange(r), element] = 1
            start[np.arange(r, 2 * r), element] = -1
            return Rows({i: start}, zero, zero.copy(), both)
        weight = dense.weight[0][element]
        constant = zero if a.bias is None else np.concatenate([a.bias[element], -a.bias[element]])
        pad = state.pad[i]  # nothing of ours is rounded here; the model's errors are in pad
        error = zero.copy() if pad is None else np.concatenate([pad.each[box, element]] * 2)
        return Rows({a.terms[0][0]: np.concatenate([weight, -weight])}, constant, error, both)

    def chunks(self, count: int, factor: int) -> Iterator[slice]:
        """Slices of at most so many rows that a chunk stays small in memory."""
        step = max(8, _ROW_ELEMENTS // (self.width * factor))
        return (slice(k, min(k + step, count)) for k in range(0, count, step))

    def minimum(self, state: State, rows: Rows, choice: Choices | None) -> Array:
        """Lower bounds (R,) of packed rows; ``choice`` (R lines) for them, or the boxes' own."""
        for i in range(len(state.low) - 1, 0, -1):
            a = rows.parts.pop(i, None)
            if a is None:
                continue
            if self.network.nodes[i].kind is Kind.AFFINE:
                self._through_affine(state, rows, i, a)
            else:
                self._through_nonlinear(state, rows, i, a, choice)
        found = self._concretise(state, rows)
        return np.where(np.asarray(found != found, bool), -np.inf, found)  # a NaN proves nothing

    def direct(self, state: State, rows: Rows) -> Array:
        """Lower bounds (R,) of packed rows by the intervals of what they read."""
        to = self.arithmetic
        total, error = rows.constant, rows.error
        for i, a in rows.parts.items():
            ends = np.where(np.asarray(a > 0, bool), state.low[i][rows.box], state.high[i][rows.box])
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

    def _through_nonlinear(self, state: State, rows: Rows, i: int, a: Array, choice: Choices | None) -> None:
        """Positive coefficients take the line below, negative ones the line above."""
        self._charge(rows, a, state.pad[i])
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

    def _concretise(self, state: State, rows: Rows) -> Array:
        """The least value over the input box, minus every error."""
        to = self.arithmetic
        a = rows.parts.pop(0, None)
        total, spread, error = rows.constant, rows.error * 0, rows.error
        if a is not None:
            mid, rad = middle(to, state.low[0], state.high[0])
            absolute = np.abs(a)
            centre = dot(a, mid[rows.box])
            spread = dot(absolute, rad[rows.box])
            reach = dot(absolute, (np.abs(mid) + rad)[rows.box])
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
