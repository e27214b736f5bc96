"""Bounds as differentiable functions of weights and inputs, for training.

The rule, the backward rows and the relaxations are the verifier's own, run by the PyTorch backend while
it records gradients. Rounding is left out: these are *nominal* bounds, what the method gives in exact
arithmetic up to unaccounted rounding. They steer an optimiser and **prove nothing**; evidence comes from
:class:`bounds.methods.bounder.BoxBounder` on the trained weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from bounds.errors import ModelUnsupported
from bounds.graph import Graph, Node, Op
from bounds.kernels.torch import TorchKernels
from bounds.methods import nominal
from bounds.methods.backward import Rows, backward, concretize
from bounds.methods.chain import Chain, chain_of
from bounds.methods.rule import Rule, relax_boxes
from bounds.methods.tape import Tape
from bounds.numerics import FLOAT32, Precision
from bounds.ops.base import AffineMap
from bounds.ops.table import AFFINE
from bounds.plan import AffineStep, Plan, ScalarStep, compile_plan

_TRAINED = {
    Op.LINEAR: ("weight", "bias"),
    Op.CONV: ("weight", "bias"),
    Op.CONV_TRANSPOSE: ("weight", "bias"),
    Op.SCALE: ("scale", "shift"),
}


class Head(Protocol):
    """Intervals up to the last affine step, which rows are multiplied with first (last-layer elision)."""

    @property
    def dtype(self) -> torch.dtype:
        """Of all numbers."""
        ...

    def parts(self, c: Tensor) -> tuple[Tensor, Tensor]:
        """Centre and radius ``D S`` of what rows ``c: D S outputs`` can be."""
        ...

    def shared(self, c: Tensor) -> tuple[Tensor, Tensor]:
        """The same of rows ``S outputs`` that all boxes share."""
        ...


@dataclass(frozen=True, slots=True)
class LastLayer:
    """A head behind a walk over a plan."""

    plan: Plan
    found: nominal.Intervals

    @property
    def dtype(self) -> torch.dtype:
        """See :class:`Head`."""
        return self.found.at[self.plan.steps[0].slot][0].dtype

    def shared(self, c: Tensor) -> tuple[Tensor, Tensor]:
        """See :class:`Head`."""
        boxes = len(self.found.at[self.plan.steps[0].slot][0])
        return self.parts(c.expand(boxes, *c.shape))

    def parts(self, c: Tensor) -> tuple[Tensor, Tensor]:
        """See :class:`Head`."""
        plan = self.plan
        if not _ends_affine(plan):
            at: dict[int, Tensor] = {}
            for slot, part in zip(plan.outputs, c.split(plan.output_sizes, dim=2), strict=True):
                at[slot] = at[slot] + part if slot in at else part
            return nominal.centre_and_radius(self.found, at, c.new_zeros(c.shape[:2]))
        last = plan.steps[-1]
        assert isinstance(last, AffineStep)
        const = c.new_zeros(c.shape[:2]) if last.map.bias is None else c @ last.map.bias
        parts = last.map.adjoint(c.reshape(-1, c.shape[2]))
        shaped = {s: p.reshape(*c.shape[:2], -1) for s, p in zip(last.sources, parts, strict=True)}
        return nominal.centre_and_radius(self.found, shaped, const)


@dataclass(frozen=True, slots=True)
class ChainHead:
    """A head behind a chain: the last weight and bias, centre and radius of its operand."""

    weight: Tensor
    bias: Tensor | None
    centre: Tensor
    radius: Tensor

    @property
    def dtype(self) -> torch.dtype:
        """See :class:`Head`."""
        return self.centre.dtype

    def parts(self, c: Tensor) -> tuple[Tensor, Tensor]:
        """See :class:`Head`."""
        rows = c @ self.weight
        const = c.new_zeros(c.shape[:2]) if self.bias is None else c @ self.bias
        return const + nominal.dot(rows, self.centre), nominal.dot(rows.abs(), self.radius)

    def shared(self, c: Tensor) -> tuple[Tensor, Tensor]:
        """See :class:`Head`."""
        rows = c @ self.weight
        middle = self.centre @ rows.mT
        return middle if self.bias is None else middle + c @ self.bias, self.radius @ rows.abs().mT


def _ends_affine(plan: Plan) -> bool:
    """Whether the output is that of the last step, an affine one with distinct operands."""
    last = plan.steps[-1]
    single = isinstance(last, AffineStep) and len(set(last.sources)) == len(last.sources)
    return single and plan.outputs == (last.slot,) and plan.fanout[last.slot] == 1


def _lowered(plan: Plan, found: nominal.Intervals, c: Tensor, d: Tensor) -> Tensor:
    at: dict[int, Tensor] = {}
    for slot, part in zip(plan.outputs, c.split(plan.output_sizes, dim=2), strict=True):
        at[slot] = at[slot] + part if slot in at else part
    rows, const = nominal.backward(plan, found, at, d)
    return nominal.concretize(found, rows, const)


class TrainableNetwork:
    """A graph whose weights are PyTorch parameters.

    Args:
        graph: the network; its weights are the starting values.
        precision: FLOAT32 or FLOAT64, the type of the parameters and of all arithmetic.
        device: where they live.
        weights: tensors to use in place of some parameters (say those of a module being trained), by the
            same names and in the shapes of the graph's own.

    Attributes:
        parameters: tensors by name, ``"<node id>.<weight|bias|scale|shift>"``. Every call reads their
            present values, so an optimiser may change them in place.
    """

    def __init__(
        self,
        graph: Graph,
        *,
        precision: Precision = FLOAT32,
        device: str = "cpu",
        weights: Mapping[str, Tensor] | None = None,
    ) -> None:
        # no unit roundoff: every error term of the shared code vanishes
        self.kernels = TorchKernels(
            replace(precision, name=f"nominal {precision.name}", u=0.0, eta=0.0), device
        )
        self.parameters: dict[str, Tensor] = {}
        self._plan = compile_plan(graph, self.kernels)
        for node in graph.products:
            raise ModelUnsupported("Mul", node.source, "products of two tensors have no trained bounds yet")
        still = (Op.INPUT, Op.RELU, Op.SCALAR, Op.RESHAPE)
        nodes = [n for n in graph.nodes if n.op not in still]
        steps = [s for s in self._plan.steps if isinstance(s, AffineStep)]
        self._maps = {
            step.slot: (node, AFFINE[node.op](node, graph, self.kernels))
            for step, node in zip(steps, nodes, strict=True)
        }
        for node in nodes:
            self._add_parameters(node, weights or {})
        self._chain: Chain | None = chain_of(self.plan())

    def plan(self) -> Plan:
        """The compiled network on the parameters' present values, without rounding terms."""
        steps = tuple(
            replace(s, map=self._bound_map(s.slot), relative=0.0, network=0.0, network_eta=0.0)
            if isinstance(s, AffineStep)
            else s
            for s in self._plan.steps
        )
        return replace(self._plan, steps=steps)

    def evaluate(self, x: Tensor) -> Tensor:
        """``D outputs`` for points ``D d``."""
        return nominal.points(self.plan(), self.kernels.array(x))

    def interval_bounds(
        self, lo: Tensor, hi: Tensor, c: Tensor, d: Tensor | None = None, *, merge: bool = False
    ) -> Tensor:
        """Lower bounds ``D S`` of ``c y + d`` over boxes, by interval arithmetic alone.

        Args:
            lo, hi: ``D inputs``.
            c: ``S outputs`` or, one set of rows per box, ``D S outputs``.
            d: ``S`` or ``D S``; zero if left out.
            merge: multiply the rows with the affine step before the output first (last-layer elision):
                tighter.
        """
        if merge:
            return self._merged_bounds(lo, hi, c, d)
        low, high = self.output_intervals(lo, hi)
        c, d = self._objectives(len(low), c, d)
        value = c.clamp(min=0) @ low[:, :, None] + c.clamp(max=0) @ high[:, :, None]
        return value[:, :, 0] + d

    def _merged_bounds(self, lo: Tensor, hi: Tensor, c: Tensor, d: Tensor | None) -> Tensor:
        c, d = self._objectives(len(lo), c, d)
        value, radius = self.head(lo, hi).parts(c)
        return value - radius + d

    def head(self, lo: Tensor, hi: Tensor) -> Head:
        """Intervals up to the last affine step over boxes ``D inputs``."""
        return self._walk(self.kernels.array(lo), self.kernels.array(hi))[0]

    def _walk(self, lo: Tensor, hi: Tensor) -> tuple[Head, Callable[[Tensor, Tensor], Tensor]]:
        """The head, and lower bounds of rows ``D S outputs`` and constants by a backward pass from there."""
        if self._chain is None:
            # outputs' own intervals are not needed: rows start there
            plan = self.plan()
            found = nominal.intervals(plan, lo, hi, len(plan.steps) - _ends_affine(plan))
            return LastLayer(plan, found), lambda c, d: _lowered(plan, found, c, d)
        chain, weights = self._chain, self._chain.weights(self._present)
        walked = chain.intervals(weights, lo, hi)
        return ChainHead(*weights[-1], *walked.last), lambda c, d: chain.lower(weights, walked, c, d)

    def _present(self, slot: int, name: str) -> Tensor | None:
        found = self.parameters.get(f"{self._maps[slot][0].id}.{name}")
        return None if found is None else self.kernels.array(found)

    def hidden_intervals(self, lo: Tensor, hi: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Intervals of the operands of every nonlinear step, in order."""
        plan = self.plan()
        found = nominal.intervals(plan, self.kernels.array(lo), self.kernels.array(hi))
        return [found.ends(s) for step in plan.nonlinear for s in step.sources]

    def output_intervals(self, lo: Tensor, hi: Tensor) -> tuple[Tensor, Tensor]:
        """``D outputs`` twice: intervals of the outputs over boxes ``D inputs``, by interval arithmetic."""
        plan = self.plan()
        found = nominal.intervals(plan, self.kernels.array(lo), self.kernels.array(hi))
        ends = [found.ends(s) for s in plan.outputs]
        return torch.cat([e[0] for e in ends], dim=1), torch.cat([e[1] for e in ends], dim=1)

    def linear_bounds(
        self,
        lo: Tensor,
        hi: Tensor,
        c: Tensor,
        d: Tensor | None = None,
        *,
        refine: bool = True,
        slopes: Sequence[Tensor] | None = None,
    ) -> Tensor:
        """Lower bounds ``D S`` of ``c y + d`` over boxes, by backward linear bounds (CROWN).

        Args:
            lo, hi, c, d: see :meth:`interval_bounds`.
            refine: bound ambiguous rectifiers backwards too; otherwise by intervals (CROWN-IBP), which is
                several times cheaper.
            slopes: per rectifier lower slopes ``D*S n`` in [0, 1] to use in the last pass (box-major).
        """
        if not refine and slopes is None:
            return self.mixed_bounds(lo, hi, c, d)
        if any(isinstance(s, ScalarStep) for s in self._plan.steps):
            raise ModelUnsupported(
                "scalar function", "", "refined bounds have no gradients in it; use refine=False"
            )
        tape = self._tape(lo, hi, refine=refine)
        c, d = self._objectives(len(tape), c, d)
        boxes, count = d.shape
        k = self.kernels
        rows = Rows({}, d.reshape(-1), k.zeros(boxes * count), k.array(np.repeat(np.arange(boxes), count)))
        flat, start = c.reshape(boxes * count, -1), 0
        for slot, size in zip(tape.plan.outputs, tape.plan.output_sizes, strict=True):
            part = flat[:, start : start + size]
            rows.at[slot] = rows.at[slot] + part if slot in rows.at else part
            start += size
        choices = None if slopes is None else [(s,) for s in slopes]
        a = backward(tape, rows, len(tape.plan.steps), choices)
        return concretize(tape, a, rows).reshape(boxes, count)

    def mixed_bounds(
        self,
        lo: Tensor,
        hi: Tensor,
        c: Tensor | Callable[[Head], tuple[Tensor, Tensor]],
        d: Tensor | None = None,
    ) -> Tensor:
        """Lower bounds ``D S`` by a backward pass over interval bounds (CROWN-IBP).

        Args:
            lo, hi: ``D inputs``.
            c, d: as elsewhere; ``c`` may be a function that makes ``(c, d)``, ``D S outputs`` and ``D S``,
                from what intervals say (loss fusion needs that before it knows its rows).
        """
        head, lowered = self._walk(self.kernels.array(lo), self.kernels.array(hi))
        if callable(c):
            c, d = c(head)
        return lowered(*self._objectives(len(lo), c, d))

    def _tape(self, lo: Tensor, hi: Tensor, *, refine: bool) -> Tape:
        k = self.kernels
        return relax_boxes(self.plan(), k.array(lo), k.array(hi), Rule(forward=False, refine=refine))

    def _objectives(self, boxes: int, c: Tensor, d: Tensor | None) -> tuple[Tensor, Tensor]:
        c = self.kernels.array(c)
        c = c.expand(boxes, *c.shape[-2:])
        if d is None:
            return c, self.kernels.zeros(*c.shape[:2])
        return c, self.kernels.array(d).expand(*c.shape[:2])

    def _add_parameters(self, node: Node, given: Mapping[str, Tensor]) -> None:
        for name in _TRAINED.get(node.op, ()):
            if name not in node.params:
                continue
            key, value = f"{node.id}.{name}", node.params[name]
            tensor = given.get(key)
            if tensor is None:
                tensor = torch.nn.Parameter(self.kernels.array(value))
            elif tuple(tensor.shape) != np.shape(value):
                raise ValueError(
                    f"weight {key} has shape {tuple(tensor.shape)}, the network's is {np.shape(value)}"
                )
            self.parameters[key] = tensor

    def _bound_map(self, slot: int) -> AffineMap:
        node, map_ = self._maps[slot]
        names = [n for n in _TRAINED.get(node.op, ()) if n in node.params]
        constants: dict[str, Any] = {n: self.kernels.array(self.parameters[f"{node.id}.{n}"]) for n in names}
        return map_.with_constants(constants) if constants else map_
