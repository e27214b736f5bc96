"""A graph compiled for bounding: a flat list of steps on flat vectors, in one precision.

RESHAPE costs nothing (flat vectors do not change), constants are converted once, and every vector has a
*slot*. A plan is immutable and may be shared by threads.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from bounds.graph import Graph, Op
from bounds.kernels.base import Kernels
from bounds.numerics import NetworkRounding
from bounds.ops.base import AffineMap
from bounds.ops.table import bind


@dataclass(frozen=True, slots=True)
class InputStep:
    """Slot ``slot`` holds elements ``start:stop`` of the flat input."""

    slot: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class AffineStep:
    """``slot = map(sources)``.

    Attributes:
        relative: coefficient g of the rounding term: computed values and computed adjoint rows are
            off by at most ``g T`` in effect, ``T = |W| m + |b|`` (own arithmetic, weight errors).
        network: the same for the network's own float32 rounding (0 at level ``real``).
        network_eta: absolute part of the latter.
    """

    slot: int
    sources: tuple[int, ...]
    map: AffineMap
    relative: Any
    network: Any
    network_eta: Any


@dataclass(frozen=True, slots=True)
class ReluStep:
    """``slot = max(source, 0)``; ``index`` counts rectifiers, ``offset`` their neurons before it."""

    slot: int
    source: int
    index: int
    offset: int
    size: int


Step = InputStep | AffineStep | ReluStep


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
        neurons: total number of rectified neurons ``N``.
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
    terms: int

    @property
    def relus(self) -> tuple[ReluStep, ...]:
        """The rectifier steps in order."""
        return tuple(s for s in self.steps if isinstance(s, ReluStep))

    @property
    def work(self) -> int:
        """Multiply-adds of one evaluation, roughly (for choosing block sizes)."""
        total = 0
        for step in self.steps:
            if isinstance(step, AffineStep):
                total += sum(step.map.sizes) if step.map.terms == 1 else step.map.size * step.map.terms
        return max(total, 1)


def _relative(map_: AffineMap, weight_error: float, kernels: Kernels) -> Any:
    if kernels.precision.u == 0:
        return Fraction(weight_error)
    # + 8: the value's own centre/radius arithmetic, bias, outward step and the relaxation step's
    # single rounding, all of which are at most u T each
    g = kernels.precision.gamma(map_.terms + 8)
    return (g + weight_error + map_.weight_error) * kernels.precision.slack(map_.terms + 8)


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
    exactly = Fraction if kernels.precision.u == 0 else float
    slot_of: dict[int, int] = {}
    sizes: list[int] = []
    steps: list[Step] = []
    producer: list[int] = []
    starts: dict[int, int] = {}
    position = 0
    for port in graph.inputs:
        starts[port.node] = position
        position += graph.nodes[port.node].size
    neurons = relus = 0
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
        elif node.op is Op.RELU:
            steps.append(ReluStep(slot, sources[0], relus, neurons, node.size))
            relus, neurons = relus + 1, neurons + node.size
        else:
            map_ = bind(node, graph, kernels)
            steps.append(
                AffineStep(
                    slot,
                    sources,
                    map_,
                    _relative(map_, node.weight_error, kernels),
                    exactly(network.relative(node.roundings) if network else 0),
                    exactly(network.absolute(node.roundings) if network else 0),
                )
            )
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
        neurons,
        max([graph.input_size, *sizes, *(s.map.terms for s in steps if isinstance(s, AffineStep))])
        + 4 * len(steps),
    )


def _fanout(steps: list[Step], outputs: tuple[int, ...], slots: int) -> tuple[int, ...]:
    counts = [0] * slots
    for step in steps:
        if isinstance(step, AffineStep):
            for s in step.sources:
                counts[s] += 1
        elif isinstance(step, ReluStep):
            counts[step.source] += 1
    for s in outputs:
        counts[s] += 1
    return tuple(counts)


def evaluate(plan: Plan, x: Any) -> Any:
    """``D outputs``: plain evaluation (rounded, for attacks and guesses, not for proofs)."""
    values: dict[int, Any] = {}
    for step in plan.steps:
        if isinstance(step, InputStep):
            values[step.slot] = x[:, step.start : step.stop]
        elif isinstance(step, ReluStep):
            values[step.slot] = plan.kernels.maximum(values[step.source], 0)
        else:
            y = step.map.apply([values[s] for s in step.sources])
            values[step.slot] = y if step.map.bias is None else y + step.map.bias
    if len(plan.outputs) == 1:
        return values[plan.outputs[0]]
    return plan.kernels.concat([values[s] for s in plan.outputs], axis=1)
