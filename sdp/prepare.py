"""Rewrites of a graph before its increments are read off; all exact over the reals.

Two rectifiers of opposite operands are one: ``relu(-v) = relu(v) - v``. That is what makes MaxMin one scalar
rectifier per pair: the importer writes ``max(a, b)`` with ``relu(a - b)`` and ``min(a, b)`` with
``relu(b - a)``. Treated as unrelated, the two cost a factor of up to sqrt 2 a layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, TypeAlias

import numpy as np

from bounds.graph import Graph, Node, Op
from bounds.passes.base import Rewriter
from bounds.passes.dead import drop_dead

Form: TypeAlias = dict[int, Fraction]
"""A value as a combination of nodes' flat values: node id -> coefficient."""

MAX_TERMS = 16  # longer combinations are nodes of their own


@dataclass(frozen=True, slots=True)
class Prepared:
    """A rewritten graph.

    Attributes:
        graph: the new graph.
        origin: node id there -> id of the rectifier or scalar node of the old graph that it stands for.
        merged: old rectifier that vanished -> the old one it is expressed by, and the sign of its operand.
    """

    graph: Graph
    origin: Mapping[int, int]
    merged: Mapping[int, tuple[int, int]]


def prepare(graph: Graph) -> Prepared:
    """Merges equal nodes, and rectifiers of equal or opposite operands."""
    merger, rewriter = _Merger(), Rewriter(graph)
    slim, kept = drop_dead(rewriter.run(merger.emit))
    origin = {kept[new]: old for new, old in merger.origin.items() if new in kept}
    return Prepared(slim, origin, merger.merged)


class _Merger:
    def __init__(self) -> None:
        self.seen: dict[Any, int] = {}
        self.forms: dict[int, Form] = {}
        self.rectified: dict[frozenset[tuple[int, Fraction]], int] = {}
        self.origin: dict[int, int] = {}
        self.merged: dict[int, tuple[int, int]] = {}

    def emit(self, rewriter: Rewriter, node: Node) -> int:
        """Puts the node, or finds one that has its value."""
        inputs = tuple(rewriter.renamed[k] for k in node.inputs)
        if node.op is Op.RELU:
            return self._rectifier(rewriter, node, inputs[0])
        key = (node.op, inputs, node.shape, node.weight_error, _digest(node))
        if node.op is Op.INPUT or key not in self.seen:
            new = rewriter.put(node, inputs)
            self.seen[key] = new
            self.origin[new] = node.id
            self.forms[new] = self._form(node, new, inputs)
        return self.seen[key]

    def _rectifier(self, rewriter: Rewriter, node: Node, operand: int) -> int:
        form = self.forms[operand]
        same = self.rectified.get(_key(form, 1))
        opposite = self.rectified.get(_key(form, -1))
        found = same if same is not None else opposite
        if found is None:
            new = rewriter.put(node, (operand,))
            self.rectified[_key(form, 1)] = new
            self.origin[new] = node.id
            self.forms[new] = {new: Fraction(1)}
            return new
        self.merged[node.id] = self.origin[found], 1 if same is not None else -1
        value = found
        if rewriter.nodes[found].shape != node.shape:
            value = _put(rewriter, node, Op.RESHAPE, (found,), {})
            self.forms[value] = self.forms[found]
        if same is not None:
            return value
        coefficients = {"coefficients": np.array([1.0, 1.0])}
        new = _put(rewriter, node, Op.ADD, (value, operand), coefficients)
        self.forms[new] = {found: Fraction(1)} | form
        return new

    def _form(self, node: Node, new: int, inputs: tuple[int, ...]) -> Form:
        own = {new: Fraction(1)}
        if node.weight_error:
            return own
        if node.op is Op.RESHAPE:
            return self.forms[inputs[0]]
        if node.op is Op.ADD:
            total: Form = {}
            for c, k in zip(node.params["coefficients"], inputs, strict=True):
                for source, factor in self.forms[k].items():
                    total[source] = total.get(source, Fraction(0)) + Fraction(float(c)) * factor
            total = {k: c for k, c in total.items() if c}
            return total if 0 < len(total) <= MAX_TERMS else own
        if node.op is Op.SCALE:
            scale = np.asarray(node.params["scale"])
            if (
                not np.any(node.params["shift"])
                and scale.size
                and np.all(scale == scale.flat[0])
                and scale.flat[0]
            ):
                factor = Fraction(float(scale.flat[0]))
                return {k: c * factor for k, c in self.forms[inputs[0]].items()}
        return own


def _put(rewriter: Rewriter, like: Node, op: Op, inputs: tuple[int, ...], params: dict[str, Any]) -> int:
    node = Node(0, op, inputs, like.shape, params, source=like.source)
    return rewriter.put(node, inputs)


def _key(form: Form, sign: int) -> frozenset[tuple[int, Fraction]]:
    return frozenset((k, c * sign) for k, c in form.items())


def _digest(node: Node) -> Any:
    """What tells nodes of one kind apart: their constants."""
    parts: list[Any] = []
    for name, value in sorted(node.params.items()):
        if isinstance(value, np.ndarray):
            parts.append((name, value.dtype.str, value.shape, value.tobytes()))
        else:
            parts.append((name, value))
    return tuple(parts)
