"""Ranges of every nonlinear operand on a box or ball, from the project's own bound propagation."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from bounds.ball import Ball
from bounds.errors import BadInput
from bounds.graph import Array, Graph, Op
from bounds.kernels.numpy import NumpyKernels
from bounds.methods.rule import FORWARD_INPUTS, Rule, relax_boxes
from bounds.numerics import FLOAT64
from bounds.plan import compile_plan
from bounds.relax.product import ProductRelaxation
from sdp.cut import NONLINEAR
from sdp.increments import Ranges


@dataclass(frozen=True, slots=True)
class Region:
    """A convex set of inputs: a box, intersected with a ball where one is given.

    Attributes:
        lo, hi: ``inputs`` float64, finite.
        ball: in the 1-norm or 2-norm.
    """

    lo: Array
    hi: Array
    ball: Ball | None = None

    @staticmethod
    def around(centre: Array, radius: float, norm: str = "inf") -> Region:
        """The ball of the norm ("1", "2" or "inf") around a point, rounded outwards."""
        centre = np.asarray(centre, dtype=np.float64).reshape(-1)
        lo, hi = np.nextafter(centre - radius, -np.inf), np.nextafter(centre + radius, np.inf)
        return Region(lo, hi, None if norm == "inf" else Ball(centre, radius, int(norm)))

    def checked(self, inputs: int) -> Region:
        """The same with flat float64 ends; refuses what is no box for a network of so many inputs."""
        lo, hi = (np.asarray(v, dtype=np.float64).reshape(-1) for v in (self.lo, self.hi))
        if not (
            lo.size == hi.size == inputs
            and np.isfinite(lo).all()
            and np.isfinite(hi).all()
            and (lo <= hi).all()
        ):
            raise BadInput(f"the region must be two finite ends lo <= hi for each of {inputs} inputs")
        return replace(self, lo=lo, hi=hi)


def ranges_on(graph: Graph, region: Region) -> Ranges:
    """Per operand (node id) of a nonlinear node its range on the region.

    Soundness: that of :func:`bounds.methods.rule.relax_boxes` in float64, over the reals.
    """
    rule = Rule(forward=graph.input_size <= FORWARD_INPUTS, ball=region.ball)
    return _operands(graph, region.lo, region.hi, rule)


def point_ranges(graph: Graph, x: Array) -> Ranges:
    """Enclosures of the same operands at one point (``inputs``)."""
    return _operands(graph, x, x, Rule(forward=False, refine=False))


def _operands(graph: Graph, lo: Array, hi: Array, rule: Rule) -> Ranges:
    plan = compile_plan(graph, NumpyKernels(FLOAT64))
    with np.errstate(all="ignore"):
        tape = relax_boxes(plan, lo[None], hi[None], rule)
    found: dict[int, tuple[Array, Array]] = {}
    nodes = [n for n in graph.nodes if n.op in NONLINEAR]
    for node, relaxation in zip(nodes, tape.relaxations, strict=True):
        if node.op is Op.MUL:
            assert isinstance(relaxation, ProductRelaxation)
            ends = [(relaxation.xl, relaxation.xu), (relaxation.yl, relaxation.yu)]
        else:
            ends = [(relaxation.lo, relaxation.hi)]  # pyright: ignore[reportAttributeAccessIssue]
        for operand, (lo, hi) in zip(node.inputs, ends, strict=True):
            # a NaN is no bound
            below = np.where(lo[0] == lo[0], lo[0], -np.inf)
            above = np.where(hi[0] == hi[0], hi[0], np.inf)
            found[operand] = below.astype(np.float64), above.astype(np.float64)
    return found
