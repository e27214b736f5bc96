"""Step 2 of the bounding rule: affine forms of all nodes in the inputs, forwards.

Forms have columns for those inputs alone that vary in some box of the block. An input that does not is a
number, which the constant part holds.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from verifier.check.arithmetic import Arithmetic
from verifier.check.network import Array, Kind, Node
from verifier.check.state import Affine, Form, State, forward, middle, unbounded


class Forms:
    """Makes the forms of one block of boxes ``low, high`` (D, inputs)."""

    def __init__(self, to: Arithmetic, low: Array, high: Array) -> None:
        self.to = to
        known = np.asarray(low == high, bool) & ~unbounded(low)
        self.free = np.flatnonzero(~known.all(axis=0))
        self.inputs = np.where(known.all(axis=0), low, 0)  # those known; 0 stands for others
        self.low, self.high = low[:, self.free], high[:, self.free]
        self.widest = np.maximum(-self.low, self.high)
        # underflow, in G on every input
        self.floor = to.tiny * (1 + self.widest.sum(axis=1, keepdims=True))

    def of_input(self) -> Form:
        """``x = G x + g``."""
        boxes, inputs = self.inputs.shape
        unit = np.zeros((len(self.free), inputs))
        unit[np.arange(len(self.free)), self.free] = 1
        rows = np.broadcast_to(self.to.array(unit), (boxes, *unit.shape))
        reach = np.zeros(self.inputs.shape, self.to.dtype)
        reach[:, self.free] = self.widest
        return Form(rows, self.inputs, np.zeros(self.inputs.shape, self.to.dtype), reach)

    def of(self, state: State, i: int, node: Node, a: Affine, pad: Array | None) -> Form:
        """Carries forms through node i."""
        if i == 0:
            return self.of_input()
        if node.kind is Kind.AFFINE:
            return self._affine(state.forms, node, a, pad)
        operands = tuple(state.forms[k] for k in node.operands)
        rows, centre, radius = state.relaxed[i].form(operands, self.floor)
        if pad is not None:
            radius = (radius + pad) * (1 + 8 * self.to.u)
        return Form(rows, centre, radius, self._reach(rows))

    def _affine(self, forms: Sequence[Form], node: Node, a: Affine, pad: Array | None) -> Form:
        boxes, free = self.low.shape
        dtype = self.to.dtype
        rows = np.zeros((boxes, free, node.size), dtype)
        centre, radius = (np.zeros((boxes, node.size), dtype) for _ in range(2))
        for source, chain, absolute in a.terms:
            f = forms[source]
            rows = rows + forward(chain, f.rows)
            centre = centre + forward(chain, f.centre)
            # rounding of G and g costs at most ours * |L| (|G| |x| + |g| + rho), anywhere in the box
            spent = f.radius + a.ours * (f.reach + np.abs(f.centre) + f.radius)
            radius = radius + forward(absolute, spent)
        if a.bias is not None:
            centre = centre + a.bias
        # pad holds this node's own errors, those of the bias included
        if pad is not None:
            radius = (radius + pad + self.floor) * (1 + 8 * self.to.u)
        return Form(rows, centre, radius, self._reach(rows))

    def _reach(self, rows: Array) -> Array:
        return self._over(self.widest, np.abs(rows))

    @staticmethod
    def _over(x: Array, rows: Array) -> Array:
        """``sum_j x[j] G[j]`` for every box."""
        return np.matmul(x[:, None, :], rows)[:, 0] if x.shape[1] else rows.sum(axis=1)

    def range(self, f: Form) -> tuple[Array, Array]:
        """The form's values over the boxes, outwards."""
        to = self.to
        mid, rad = middle(to, self.low, self.high)
        centre = self._over(mid, f.rows) + f.centre
        radius = self._over(rad, np.abs(f.rows)) + f.radius
        # f.reach is computed: a sum of non-negative products, covered by gamma's slack
        radius = radius + to.gamma(self.low.shape[1]) * (f.reach + np.abs(f.centre) + radius) + to.tiny
        return centre - radius, centre + radius
