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
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np

from bounds.errors import CertificateRejected
from verifier.check.arithmetic import ETA32, LARGEST_SUM, Arithmetic, float_above
from verifier.check.network import Array, Chain, Dense, Network, Take
from verifier.spec.model import Ball

_ROW_ELEMENTS = 1 << 14  # of one chunk of packed rows at the widest node
SLOPE_UNIT = 128


@dataclass(frozen=True, slots=True)
class Affine:
    """An affine node prepared for bounding: maps, absolute maps, and coefficients of its errors."""

    terms: tuple[tuple[int, Chain, Chain], ...]
    bias: Array | None
    absolute_bias: Array | None
    ours: Any  # relative rounding error of our own arithmetic at this node
    model: Any  # relative error of the model: inexact weights, float32 rounding
    floor: Any  # absolute part of the latter
    moves: bool  # nothing but a movement of data: exact


@dataclass(frozen=True, slots=True)
class Form:
    """``z(x)`` lies in ``G x + g +- rho`` on each box; ``reach = |G| max|x|``; G is (D, inputs, n)."""

    rows: Array
    centre: Array
    radius: Array
    reach: Array


class Cost:
    """What a row with coefficients A pays at a node: ``|A| . each[box]``, at most ``|A| . peak``."""

    def __init__(self, each: Array) -> None:
        self.each, self.peak = each, each.max(axis=0)


@dataclass(slots=True)
class State:
    """Everything known about one block of boxes; lists run over nodes, arrays are (D, n)."""

    low: list[Array] = field(default_factory=list[Array])
    high: list[Array] = field(default_factory=list[Array])
    mag: list[Array] = field(default_factory=list[Array])
    pad: list[Cost | None] = field(default_factory=list["Cost | None"])
    floor: list[Any] = field(default_factory=list[Any])  # what underflow of coefficients can cost
    forms: list[Form] = field(default_factory=list[Form])
    relaxed: dict[int, Relaxed] = field(default_factory=dict[int, "Relaxed"])


@dataclass(frozen=True, slots=True)
class Relaxed:
    """``lower z <= relu(z) <= slope z + shift`` on [low, high]; ``cost`` is the rounding of a row step."""

    ambiguous: Array
    lower: Array
    slope: Array
    shift: Array
    cost: Cost


@dataclass(slots=True)
class Rows:
    """R packed rows: coefficients per node (R, n), constants and errors (R,), and each row's box."""

    parts: dict[int, Array]
    constant: Array
    error: Array
    box: Array


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
        self.offsets: dict[int, int] = {}
        total = 0
        for i in network.rectifiers:
            self.offsets[i] = total
            total += network.nodes[i].size
        self.table = arithmetic.array(np.arange(SLOPE_UNIT + 1) / SLOPE_UNIT)
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
        if self.float32 and node.roundings:
            model = (model + to.gamma32(node.roundings)) * to.slack
            floor = to.number(node.roundings * ETA32)
        bias = None if node.bias is None else to.array(node.bias)
        moves = bias is None and len(terms) == 1 and all(isinstance(m, Take) for m in terms[0][1])
        absolute = None if bias is None else np.abs(bias)
        return Affine(
            tuple(terms), bias, absolute, to.gamma(k) if k else 0, model, floor, moves and not model
        )

    # -------------------------------------------------------------- intervals, forwards
    def run(self, low: Array, high: Array, bits: Array | None, refined: Array | None = None) -> State:
        """Steps 1 to 3 of the rule for boxes ``low, high`` (D, inputs).

        ``bits`` (D, neurons) are slopes (None: 1 for active neurons, else 0); step 3 bounds the neurons
        marked in ``refined`` (D, neurons), or all ambiguous ones.
        """
        state = State()
        for i, node in enumerate(self.network.nodes):
            pad: Array | None = None
            if node.relu >= 0:
                self._tighten(state, node.relu, None if refined is None else self._of(i, refined))
                self._relax(state, i, bits)
                lo, hi = (np.maximum(v[node.relu], 0) for v in (state.low, state.high))
            elif i > 0:
                lo, hi, pad = self._affine_interval(state, i)
            else:
                lo, hi = low, high
            if self.forward:
                form = self._form(state, i, pad, low, high)
                state.forms.append(form)
                least, most = self._range(form, low, high)
                lo, hi = np.fmax(lo, least), np.fmin(hi, most)
            for store, value in ((state.low, lo), (state.high, hi), (state.mag, np.maximum(-lo, hi))):
                store.append(value)
            state.pad.append(None if pad is None else Cost(pad))
            state.floor.append(self.arithmetic.tiny * (1 + state.mag[i].max(axis=0).sum()))
        return state

    def _without_nan(self, low: Array, high: Array) -> tuple[Array, Array]:
        """A NaN says nothing: as an infinity it stays harmless, and proves nothing either."""
        if self.arithmetic.exact:
            return low, high
        return np.where(np.isnan(low), -np.inf, low), np.where(np.isnan(high), np.inf, high)

    def _affine_interval(self, state: State, i: int) -> tuple[Array, Array, Array | None]:
        """``L mid + b -+ (|L| rad + pad)``.

        With S = |L| mag + |b|, our own rounding of centre and radius is at most ``ours * S + tiny``,
        as |mid| + rad <= mag up to roundings that ``ours`` has to spare; the model's is ``model * S +
        floor``. Together: ``pad``. The three last additions round relative to at most 2 S + pad.
        """
        a, u = self.affine[i], self.arithmetic.u
        if a.moves:
            ((source, chain, _),) = a.terms
            return _forward(chain, state.low[source]), _forward(chain, state.high[source]), None
        shape = (len(state.low[0]), self.network.nodes[i].size)
        centre, radius, size = (np.zeros(shape, self.arithmetic.dtype) for _ in range(3))
        for source, chain, absolute in a.terms:
            mid, rad = self._middle(state.low[source], state.high[source])
            centre = centre + _forward(chain, mid)
            radius = radius + _forward(absolute, rad)
            size = size + _forward(absolute, state.mag[source])
        if a.bias is not None and a.absolute_bias is not None:
            centre, size = centre + a.bias, size + a.absolute_bias
        if self.float32 and self.network.nodes[i].roundings and not np.all(size <= LARGEST_SUM):
            # the rounding model holds while no partial sum overflows; S bounds them all
            raise CertificateRejected("float32", f"a sum at node {i} of the normal form may overflow")
        if self.arithmetic.exact and not a.model:
            return centre - radius, centre + radius, None
        pad = (size * (a.ours + a.model) + (a.floor + self.arithmetic.tiny)) * self.arithmetic.slack
        radius = radius + pad
        radius = radius + 8 * u * (size + radius)
        return *self._without_nan(centre - radius, centre + radius), pad

    def _middle(self, low: Array, high: Array) -> tuple[Array, Array]:
        """A centre and a radius that covers the interval, whatever rounding did to the centre."""
        half = self.arithmetic.array(np.array(0.5))[()]
        mid = low * half + high * half
        rad = np.maximum(high - mid, mid - low)
        return mid, rad * (1 + 4 * self.arithmetic.u) + self.arithmetic.tiny

    def _relax(self, state: State, i: int, bits: Array | None) -> None:
        """Lower and upper lines of a rectifier with input in [l, u].

        The lower line ``a z`` is valid for every a in [0, 1] and every z, so the stored slope is used
        whatever the interval (a neuron on the edge of stability then changes nothing). The upper one,
        ``s z + t``, needs ``s l + t >= 0`` and ``s u + t >= u``, as relu is convex. s is u / (u - l)
        rounded, at most 1;
        the two products and the difference behind t err by at most 3 u (u - l) + 2 eta together.
        A row step multiplies by the slopes (one rounding) and sums ``A t``: ``cost``.
        """
        to, source = self.arithmetic, self.network.nodes[i].relu
        l, h = state.low[source], state.high[source]
        active, idle = l >= 0, h <= 0
        ambiguous = ~(active | idle)
        gap = np.where(ambiguous, h - l, 1)
        slope = np.where(ambiguous, np.minimum(h / gap, 1), np.where(active, 1, 0))
        shift = np.maximum(-slope * l, h - slope * h) + 8 * to.u * gap + 2 * to.tiny
        shift = np.where(ambiguous, shift, 0)
        chosen = active.astype(np.intp) if bits is None else self._of(i, bits)
        lower = self.table[chosen * SLOPE_UNIT]
        cost = to.gamma(0) * state.mag[source] + to.gamma(l.shape[1]) * shift + to.tiny
        state.relaxed[i] = Relaxed(ambiguous, lower, slope, shift, Cost(cost))

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
        if node.relu >= 0:
            f, r = state.forms[node.relu], state.relaxed[i]
            half = r.shift * to.array(np.array(0.5))[()]
            # relu(z) is in s z + [0, shift]: for 0 <= s <= 1 the line s z lies below relu
            rows = f.rows * r.slope[:, None, :]
            centre = f.centre * r.slope + half
            spent = to.gamma(4) * (f.reach + np.abs(f.centre) + f.radius + r.shift) + floor
            radius = f.radius * r.slope + half + np.where(r.ambiguous, spent, 0)
            return Form(rows, centre, radius, self._reach(rows, widest))
        shape = (boxes, node.size)
        rows = np.zeros((boxes, inputs, node.size), to.dtype)
        centre, radius = np.zeros(shape, to.dtype), np.zeros(shape, to.dtype)
        for source, chain, absolute in a.terms:
            f = state.forms[source]
            rows = rows + _forward(chain, f.rows)
            centre = centre + _forward(chain, f.centre)
            # rounding of G and g costs at most ours * |L| (|G| |x| + |g| + rho), anywhere in the box
            spent = f.radius + a.ours * (f.reach + np.abs(f.centre) + f.radius)
            radius = radius + _forward(absolute, spent)
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
        mid, rad = self._middle(low, high)
        centre = np.matmul(mid[:, None, :], f.rows)[:, 0] + f.centre
        radius = np.matmul(rad[:, None, :], np.abs(f.rows))[:, 0] + f.radius
        # f.reach is computed: a sum of non-negative products, covered by gamma's slack
        radius = radius + to.gamma(low.shape[1]) * (f.reach + np.abs(f.centre) + radius) + to.tiny
        return centre - radius, centre + radius

    # -------------------------------------------------------------- rows, backwards
    def _tighten(self, state: State, i: int, wanted: Array | None) -> None:
        """Step 3: bounds the wanted (D, n) elements of node i, or all ambiguous ones, from both sides."""
        low, high = state.low[i], state.high[i]
        box, element = np.nonzero(~((low >= 0) | (high <= 0)) if wanted is None else wanted)
        if i == 0 or not box.size:
            return
        low, high = low.copy(), high.copy()
        for part in self.chunks(len(box), 2):
            where = box[part], element[part]
            found = self.minimum(state, self._unit_rows(state, i, where[0], where[1]), None)
            half = len(where[0])
            low[where] = np.fmax(low[where], found[:half])
            high[where] = np.fmin(high[where], -found[half:])
        state.low[i], state.high[i], state.mag[i] = low, high, np.maximum(-low, high)

    def _of(self, i: int, neurons: Array) -> Array:
        """The columns of (D, neurons) that belong to rectifier node i."""
        return neurons[:, self.offsets[i] : self.offsets[i] + self.network.nodes[i].size]

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

    def minimum(self, state: State, rows: Rows, slopes: Array | None) -> Array:
        """Lower bounds (R,) of packed rows; ``slopes`` (R, neurons) in 128ths, or the boxes' own."""
        for i in range(len(state.low) - 1, 0, -1):
            a = rows.parts.pop(i, None)
            if a is None:
                continue
            if self.network.nodes[i].relu >= 0:
                self._through_relu(state, rows, i, a, slopes)
            else:
                self._through_affine(state, rows, i, a)
        return self._concretise(state, rows)

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
            part = a
            for m in reversed(chain):
                part = m.backward(part)
            if node.ours:
                rows.error += state.floor[source]
            self._add_part(state, rows, source, part)

    def _through_relu(self, state: State, rows: Rows, i: int, a: Array, slopes: Array | None) -> None:
        """Positive coefficients take the lower line, negative ones the upper line."""
        source, r = self.network.nodes[i].relu, state.relaxed[i]
        self._charge(rows, a, r.cost)
        if slopes is None:
            lower = r.lower[rows.box]
        else:
            lower = self.table[slopes[:, self.offsets[i] : self.offsets[i] + a.shape[1]]]
        positive = np.maximum(a, 0)
        negative = a - positive  # exact: one of the two is 0
        self._add_constant(rows, _dot(negative, r.shift[rows.box]))
        rows.error += state.floor[source]
        self._add_part(state, rows, source, positive * lower + negative * r.slope[rows.box])

    def _add_part(self, state: State, rows: Rows, source: int, part: Array) -> None:
        """Adds coefficients; where two paths meet, the sum rounds once."""
        known = rows.parts.get(source)
        if known is not None:
            part = known + part
            if not self.arithmetic.exact:
                rows.error += self.arithmetic.gamma(0) * (np.abs(part) @ state.mag[source].max(axis=0))
                rows.error += state.floor[source]
        rows.parts[source] = part

    def _add_constant(self, rows: Rows, value: Array) -> None:
        rows.constant = rows.constant + value
        rows.error += 2 * self.arithmetic.u * np.abs(rows.constant) + self.arithmetic.tiny

    def _charge(self, rows: Rows, a: Array, cost: Cost | None) -> None:
        """Adds ``|A| . cost``: per row's box where it matters, else with the block's largest cost."""
        if cost is None:
            return
        if self.float32 or self.arithmetic.exact:
            rows.error += _dot(np.abs(a), cost.each[rows.box]) + self.arithmetic.tiny
        else:
            rows.error += np.abs(a) @ cost.peak + self.arithmetic.tiny

    def _concretise(self, state: State, rows: Rows) -> Array:
        """The least value over the input box, minus every error."""
        to = self.arithmetic
        a = rows.parts.pop(0, None)
        total, spread, error = rows.constant, rows.error * 0, rows.error
        if a is not None:
            mid, rad = self._middle(state.low[0], state.high[0])
            absolute = np.abs(a)
            centre = _dot(a, mid[rows.box])
            spread = _dot(absolute, rad[rows.box])
            reach = _dot(absolute, (np.abs(mid) + rad)[rows.box])
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
            dual = np.sqrt(_dot(a, a) + to.tiny) * (1 + to.gamma(a.shape[1]))
        reach = np.abs(a) @ np.abs(near)
        error = rows.error + to.gamma(a.shape[1]) * (reach + radius * dual)
        return self._least(rows.constant + a @ near, radius * dual, error, rows)


def _forward(chain: Chain, x: Array) -> Array:
    for m in chain:
        x = m.forward(x)
    return x


def _dot(a: Array, b: Array) -> Array:
    """Row by row; any order of summation is allowed."""
    return np.einsum("rn,rn->r", a, b)
