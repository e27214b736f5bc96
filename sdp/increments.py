"""From a graph to a :class:`~sdp.chain.Chain`: matrices between states, slopes moved to [0, 1].

An element with slopes in [alpha, beta] is ``w = alpha v + (beta - alpha) w'`` with slopes of w' in [0, 1], so
alpha goes into the linear part; elements with alpha = beta are linear and vanish. A product ``x y`` has
increments ``y1 dx + x2 dy``: two elements, each with the other operand's range as its slopes (needs a
region).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bounds.errors import LimitExceeded, ModelUnsupported
from bounds.graph import Array, Graph, Node, Op
from bounds.kernels.numpy import NumpyKernels
from bounds.numerics import FLOAT64
from bounds.ops.table import bind
from sdp.chain import Chain, Step
from sdp.cut import NONLINEAR, Levels, cut
from sdp.matrices import FLOOR, Matrix
from sdp.prepare import prepare
from sdp.slopes import chord_range, slope_range

LARGEST = 1 << 24  # entries of one matrix

Ranges = Mapping[int, tuple[Array, Array]]
"""Per node id of the *prepared* graph: ``n`` lower and upper ends of its value on the region."""


@dataclass(frozen=True, slots=True)
class _Elements:
    """The nonlinear elements of one level: operand node, slopes, and the node whose value they add to."""

    operand: int
    target: int
    alpha: Array
    beta: Array


def read_chain(graph: Graph, ranges: Ranges | None = None, centre: Ranges | None = None) -> Chain:
    """The network's increments.

    Args:
        graph: prepared (:func:`sdp.prepare.prepare`).
        ranges: intervals of nodes on a region; without them the bound is global.
        centre: enclosures of the same nodes at one point of it; the bound then holds for pairs of which that
            point is one.

    Raises:
        ModelUnsupported: an operator has no bounded slope; the message names the node.
        LimitExceeded: a matrix would be too large (convolutions: see :mod:`sdp.spectral`).
    """
    levels = cut(graph)
    reader = _Reader(graph, ranges or {}, centre or {})
    inputs = tuple(n.id for n in graph.nodes if n.op is Op.INPUT)
    x = reader.between(inputs, levels.states[0], {})
    steps = [reader.step(levels, k) for k in range(len(levels.nonlinear))]
    c = reader.between(levels.states[-1], tuple(p.node for p in graph.outputs), {})
    return Chain(x, tuple(steps), c)


def chain_of(graph: Graph) -> Chain:
    """Prepares and reads a graph; the bound is global."""
    return read_chain(prepare(graph).graph)


class _Reader:
    def __init__(self, graph: Graph, ranges: Ranges, centre: Ranges) -> None:
        self.graph, self.ranges, self.centre = graph, ranges, centre
        self.kernels = NumpyKernels(FLOAT64)

    def step(self, levels: Levels, k: int) -> Step:
        """The step from state k to state k + 1."""
        state, after = levels.states[k], levels.states[k + 1]
        parts = [e for i in levels.nonlinear[k] for e in self._elements(self.graph.nodes[i])]
        width = sum(self.graph.nodes[i].size for i in state)
        count = sum(len(e.alpha) for e in parts)
        self._guard(width + count, max(width, count))
        v = self.between(state, tuple(e.operand for e in parts), {})
        alpha = np.concatenate([e.alpha for e in parts])
        # rounded upwards, which only enlarges the slopes
        delta = np.nextafter(np.concatenate([e.beta for e in parts]) - alpha, np.inf)
        delta[np.concatenate([e.beta == e.alpha for e in parts])] = 0.0
        delta[(alpha == 0) & (np.concatenate([e.beta for e in parts]) == 1)] = 1.0
        outgoing = self.between(state, after, self._seeds(parts, width))
        whole_f, whole_g = (
            outgoing.columns(np.arange(width)),
            outgoing.columns(np.arange(width, width + count)),
        )
        moved = np.flatnonzero(alpha)
        if len(moved):
            whole_f = whole_f + whole_g.columns(moved).scaled_columns(alpha[moved]) @ v.rows(moved)
        live = np.flatnonzero(delta)
        g = whole_g.columns(live)
        if not np.all(delta[live] == 1):
            g = g.scaled_columns(delta[live])
        names = [(e.target, i) for e in parts for i in range(len(e.alpha))]
        return Step(whole_f, g, v.rows(live), tuple(names[i] for i in live))

    def _elements(self, node: Node) -> list[_Elements]:
        if node.op is not Op.MUL:
            operand = node.inputs[0]
            infinite = np.full(node.size, np.inf)
            lo, hi = self.ranges.get(operand, (-infinite, infinite))
            if operand in self.centre:
                return [_Elements(operand, node.id, *chord_range(node, lo, hi, self.centre[operand]))]
            return [_Elements(operand, node.id, *slope_range(node, lo, hi))]
        left, right = node.inputs
        if left not in self.ranges or right not in self.ranges:
            detail = (
                "a product of two tensors has no Lipschitz constant on an unbounded domain; give a region"
            )
            raise ModelUnsupported("product", node.source, detail)
        found: list[_Elements] = []
        for operand, other in ((left, right), (right, left)):
            lo, hi = self.ranges[other]
            if not (np.isfinite(lo).all() and np.isfinite(hi).all()):
                detail = "an operand is unbounded on this region; choose a smaller one"
                raise ModelUnsupported("product", node.source, detail)
            found.append(_Elements(operand, node.id, lo, hi))
        return found

    def _seeds(self, parts: Sequence[_Elements], width: int) -> dict[int, tuple[int, int]]:
        """Per nonlinear node the first column of each of its elements' blocks."""
        seeds: dict[int, list[int]] = {}
        at = width
        for e in parts:
            seeds.setdefault(e.target, []).append(at)
            at += len(e.alpha)
        return {node: (starts[0], starts[-1]) for node, starts in seeds.items()}

    def between(
        self, sources: Sequence[int], targets: Sequence[int], seeds: Mapping[int, tuple[int, int]]
    ) -> Matrix:
        """The matrix from the stacked values of ``sources`` (then of seeded nodes) to the stacked targets."""
        size = {i: self.graph.nodes[i].size for i in (*sources, *seeds)}
        width = sum(size[i] for i in sources)
        columns = width + sum(size[i] * (1 if a == b else 2) for i, (a, b) in seeds.items())
        self._guard(columns, sum(self.graph.nodes[i].size for i in targets))
        known: dict[int, tuple[Array, Array, float]] = {}
        at = 0
        for i in sources:
            known[i] = _unit(columns, size[i], (at,))
            at += size[i]
        for i, starts in seeds.items():
            known[i] = _unit(columns, size[i], tuple(set(starts)))
        for i in self._needed(targets, known):
            known[i] = self._apply(self.graph.nodes[i], known)
        values, sizes = [known[i][0].T for i in targets], [known[i][1].T for i in targets]
        slip = max((known[i][2] for i in targets), default=0.0)
        return Matrix(
            np.ascontiguousarray(np.concatenate(values)), np.ascontiguousarray(np.concatenate(sizes)), slip
        )

    def _needed(self, targets: Sequence[int], known: Mapping[int, object]) -> list[int]:
        found: set[int] = set()
        stack = [i for i in targets if i not in known]
        while stack:
            i = stack.pop()
            if i in found:
                continue
            node = self.graph.nodes[i]
            if node.op in NONLINEAR or node.op is Op.INPUT:
                raise AssertionError(f"node {i} is not a function of the state")
            found.add(i)
            stack.extend(j for j in node.inputs if j not in known)
        return sorted(found)

    def _apply(
        self, node: Node, known: Mapping[int, tuple[Array, Array, float]]
    ) -> tuple[Array, Array, float]:
        """One affine node on rows: value, magnitudes, slip."""
        operands = [known[i] for i in node.inputs]
        if node.op is Op.RESHAPE:
            return operands[0]
        map_ = bind(node, self.graph, self.kernels)
        self._guard(len(operands[0][0]), node.size)
        value = map_.apply([o[0] for o in operands])
        size = map_.apply_abs([o[1] for o in operands])
        slip = max(o[2] for o in operands)
        if map_.moves is None:
            gamma = FLOAT64.gamma(map_.terms + 2)
            size = size * FLOAT64.slack(map_.terms + 2) * (1 + node.weight_error) + FLOOR
            slip = (slip + gamma + node.weight_error) * (1 + 2.0**-20)
        return value, size, slip

    def _guard(self, rows: int, columns: int) -> None:
        if rows * columns > LARGEST:
            raise LimitExceeded(
                f"a step of {rows} by {columns} is too large for dense multipliers; use --method product"
            )


def _unit(columns: int, size: int, starts: tuple[int, ...]) -> tuple[Array, Array, float]:
    rows = np.zeros((columns, size))
    for start in starts:
        rows[np.arange(start, start + size), np.arange(size)] = 1.0
    return rows, rows, 0.0
