"""A graph compiled for bounding: a flat list of steps on flat vectors, in one precision.

RESHAPE costs nothing (flat vectors do not change), constants are converted once, and every vector has a
*slot*. A plan is immutable and may be shared by threads.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from bounds.graph import UNMODELLED, Graph, Node, Op
from bounds.kernels.base import Kernels
from bounds.numerics import NetworkRounding
from bounds.ops.base import AffineMap
from bounds.ops.table import bind
from bounds.relax.scalar import ScalarFunction, scalar_function


@dataclass(frozen=True, slots=True)
class InputStep:
    """Slot ``slot`` holds elements ``start:stop`` of the flat input."""

    slot: int
    start: int
    stop: int

    @property
    def sources(self) -> tuple[int, ...]:
        """None."""
        return ()


@dataclass(frozen=True, slots=True)
class AffineStep:
    """``slot = map(sources)``.

    Attributes:
        relative: coefficient g of the rounding term: computed values and computed adjoint rows are
            off by at most ``g T`` in effect, ``T = |W| m + |b|`` (own arithmetic, weight errors).
        network: the same for the network's own float32 rounding (0 at level ``real``).
        network_eta: absolute part of the latter.
        exact: the map's constants are the network's own.
    """

    slot: int
    sources: tuple[int, ...]
    map: AffineMap
    relative: Any
    network: Any
    network_eta: Any
    exact: bool = False


@dataclass(frozen=True, slots=True)
class ReluStep:
    """``slot = max(source, 0)``; ``index`` counts nonlinear steps, ``offset`` rectified neurons before it."""

    slot: int
    source: int
    index: int
    offset: int
    size: int

    @property
    def sources(self) -> tuple[int, ...]:
        """The operand."""
        return (self.source,)


@dataclass(frozen=True, slots=True)
class ScalarStep:
    """``slot = function(source)`` elementwise; ``offset`` counts elements of scalar steps before it.

    ``rounds``: the network's own rounding there is part of every bound; ``modelled``: and it is known.
    """

    slot: int
    source: int
    index: int
    offset: int
    size: int
    function: ScalarFunction
    rounds: bool
    modelled: bool

    @property
    def sources(self) -> tuple[int, ...]:
        """The operand."""
        return (self.source,)


@dataclass(frozen=True, slots=True)
class ProductStep:
    """``slot = left * right`` elementwise; ``offset`` counts elements of product steps before it.

    ``network``, ``network_eta``: as for :class:`AffineStep`, relative to ``|left| |right|``.
    """

    slot: int
    left: int
    right: int
    index: int
    offset: int
    size: int
    network: Any
    network_eta: Any

    @property
    def sources(self) -> tuple[int, ...]:
        """The operands."""
        return (self.left, self.right)


NonlinearStep = ReluStep | ScalarStep | ProductStep


@dataclass(frozen=True, slots=True)
class Operand:
    """Operand ``position`` of nonlinear step ``index``: ``size`` elements of ``slot``, from number
    ``offset`` on."""

    index: int
    position: int
    slot: int
    offset: int
    size: int


# an element of an elementary function costs about as much as this many multiply-adds
_NONLINEAR_WORK = 20

Step = InputStep | AffineStep | NonlinearStep


@dataclass(frozen=True, slots=True)
class Plan:
    """See the module.

    Attributes:
        steps: in topological order.
        kernels: backend and precision.
        input_size: flat input size ``d``.
        outputs: slots of the outputs, in order; output_sizes their sizes.
        fanout: per slot the number of reads (outputs included).
        producer: per slot the index of its step.
        neurons: total number of rectified neurons ``N``; scalars, products: elements of the other
            nonlinear steps, ``M`` and ``P``.
        terms: the longest sum anywhere plus four additions a step (for slack factors).
    """

    steps: tuple[Step, ...]
    kernels: Kernels
    input_size: int
    outputs: tuple[int, ...]
    output_sizes: tuple[int, ...]
    sizes: tuple[int, ...]
    fanout: tuple[int, ...]
    producer: tuple[int, ...]
    neurons: int
    scalars: int
    products: int
    terms: int

    @property
    def relus(self) -> tuple[ReluStep, ...]:
        """The rectifier steps in order."""
        return tuple(s for s in self.steps if isinstance(s, ReluStep))

    @property
    def nonlinear(self) -> tuple[NonlinearStep, ...]:
        """The nonlinear steps in order."""
        return tuple(s for s in self.steps if isinstance(s, NonlinearStep))

    @property
    def operands(self) -> tuple[Operand, ...]:
        """All operands of nonlinear steps, numbered as in certificates.

        First those of rectifiers (``N`` elements), then of scalars (``M``), left operands of products
        (``P``) and right ones.
        """
        n, m, p = self.neurons, self.scalars, self.products
        made: list[Operand] = []
        for step in self.nonlinear:
            first = (0, n, n + m)[(ReluStep, ScalarStep, ProductStep).index(type(step))]
            for position, slot in enumerate(step.sources):
                offset = first + position * p + step.offset
                made.append(Operand(step.index, position, slot, offset, step.size))
        return tuple(sorted(made, key=lambda o: o.offset))

    @property
    def work(self) -> int:
        """Multiply-adds of one evaluation, roughly (for choosing block sizes)."""
        return self.work_before(len(self.steps))

    def work_before(self, first: int) -> int:
        """The same of the steps before index ``first``."""
        total = 0
        for step in self.steps[:first]:
            if isinstance(step, AffineStep):
                total += step.map.work
            elif not isinstance(step, InputStep | ReluStep):
                total += _NONLINEAR_WORK * step.size
        return max(total, 1)


def _relative(map_: AffineMap, weight_error: float, kernels: Kernels) -> Any:
    if kernels.precision.u == 0:
        return Fraction(weight_error)
    # + 8: the value's own centre/radius arithmetic, bias, outward step and the relaxation step's
    # single rounding, all of which are at most u T each
    g = kernels.precision.gamma(map_.terms + 8)
    return (g + weight_error + map_.weight_error) * kernels.precision.slack(map_.terms + 8)


NONLINEAR: tuple[Op, ...] = (Op.RELU, Op.SCALAR, Op.MUL)


def _fraction(value: float) -> Any:
    return Fraction(value) if math.isfinite(value) else value


class _Counts:
    """Makes steps and numbers their elements per kind."""

    def __init__(self, kernels: Kernels, network: NetworkRounding | None) -> None:
        self.kernels, self.network = kernels, network
        self.exactly = _fraction if kernels.precision.u == 0 else float
        self.elements: dict[Op, int] = dict.fromkeys(NONLINEAR, 0)
        self.index = 0

    def rounding(self, roundings: int) -> tuple[Any, Any]:
        """Relative and absolute part of the network's own rounding, in working arithmetic."""
        if self.network is None:
            return self.exactly(0), self.exactly(0)
        return (
            self.exactly(self.network.relative(roundings)),
            self.exactly(self.network.absolute(roundings)),
        )

    def affine(self, node: Node, graph: Graph, slot: int, sources: tuple[int, ...]) -> AffineStep:
        """The step of an affine node."""
        map_ = bind(node, graph, self.kernels)
        relative = _relative(map_, node.weight_error, self.kernels)
        exact = node.weight_error == 0 and map_.weight_error == 0
        return AffineStep(slot, sources, map_, relative, *self.rounding(node.roundings), exact)

    def nonlinear(self, node: Node, slot: int, sources: tuple[int, ...]) -> NonlinearStep:
        """The step of a nonlinear node."""
        index, offset, size = self.index, self.elements[node.op], node.size
        self.index += 1
        self.elements[node.op] += node.size
        if node.op is Op.RELU:
            return ReluStep(slot, sources[0], index, offset, size)
        if node.op is Op.MUL:
            left, right = sources
            return ProductStep(slot, left, right, index, offset, size, *self.rounding(node.roundings))
        function = scalar_function(node.params["function"])
        rounds = self.network is not None and node.roundings > 0
        known = node.roundings < UNMODELLED
        return ScalarStep(slot, sources[0], index, offset, size, function, rounds, known)


def compile_plan(graph: Graph, kernels: Kernels, network: NetworkRounding | None = None) -> Plan:
    """Compiles a graph.

    Args:
        graph: the network.
        kernels: backend and precision of the plan.
        network: given at semantics level ``float32``: the network's own rounding is then part of
            every bound.

    Returns:
        The plan.
    """
    slot_of: dict[int, int] = {}
    sizes: list[int] = []
    steps: list[Step] = []
    producer: list[int] = []
    starts: dict[int, int] = {}
    position = 0
    for port in graph.inputs:
        starts[port.node] = position
        position += graph.nodes[port.node].size
    count = _Counts(kernels, network)
    for node in graph.nodes:
        sources = tuple(slot_of[i] for i in node.inputs)
        if node.op is Op.RESHAPE:
            slot_of[node.id] = sources[0]
            continue
        slot = slot_of[node.id] = len(sizes)
        sizes.append(node.size)
        producer.append(len(steps))
        if node.op is Op.INPUT:
            steps.append(InputStep(slot, starts[node.id], starts[node.id] + node.size))
        elif node.op in NONLINEAR:
            steps.append(count.nonlinear(node, slot, sources))
        else:
            steps.append(count.affine(node, graph, slot, sources))
    outputs = tuple(slot_of[p.node] for p in graph.outputs)
    return Plan(
        tuple(steps),
        kernels,
        graph.input_size,
        outputs,
        tuple(sizes[s] for s in outputs),
        tuple(sizes),
        _fanout(steps, outputs, len(sizes)),
        tuple(producer),
        count.elements[Op.RELU],
        count.elements[Op.SCALAR],
        count.elements[Op.MUL],
        max([graph.input_size, *sizes, *(s.map.terms for s in steps if isinstance(s, AffineStep))])
        + 4 * len(steps),
    )


def _fanout(steps: list[Step], outputs: tuple[int, ...], slots: int) -> tuple[int, ...]:
    counts = [0] * slots
    for step in steps:
        for s in step.sources:
            counts[s] += 1
    for s in outputs:
        counts[s] += 1
    return tuple(counts)


def evaluate(plan: Plan, x: Any) -> Any:
    """``D outputs``: plain evaluation (rounded, for attacks and guesses, not for proofs)."""
    values: dict[int, Any] = {}
    for step in plan.steps:
        if isinstance(step, InputStep):
            values[step.slot] = x[:, step.start : step.stop]
        elif not isinstance(step, AffineStep):
            values[step.slot] = apply_nonlinear(plan.kernels, step, [values[s] for s in step.sources])
        else:
            y = step.map.apply([values[s] for s in step.sources])
            values[step.slot] = y if step.map.bias is None else y + step.map.bias
    if len(plan.outputs) == 1:
        return values[plan.outputs[0]]
    return plan.kernels.concat([values[s] for s in plan.outputs], axis=1)


def apply_nonlinear(kernels: Kernels, step: NonlinearStep, xs: list[Any]) -> Any:
    """``D n``: a nonlinear step at points, rounded."""
    if isinstance(step, ReluStep):
        return kernels.maximum(xs[0], 0)
    if isinstance(step, ProductStep):
        return xs[0] * xs[1]
    exact = kernels.precision.u == 0 and step.function.rational
    return kernels.array(step.function.value(xs[0] if exact else kernels.numpy(xs[0])))


def slopes_at(kernels: Kernels, step: NonlinearStep, xs: list[Any]) -> tuple[Any, ...]:
    """Per operand ``D n``: derivatives of a nonlinear step at points (a guide for descent, no proof)."""
    if isinstance(step, ReluStep):
        return (kernels.where(xs[0] > 0, 1, 0),)
    if isinstance(step, ProductStep):
        return xs[1], xs[0]
    return (kernels.array(step.function.derivative(kernels.numpy(xs[0]))),)
