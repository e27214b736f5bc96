"""LINEAR: a matrix on the last axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any

import numpy as np

from bounds.graph import Array, Graph, Node
from bounds.kernels.base import Kernels
from bounds.ops.base import AffineMap, sign_of


class DenseMap(AffineMap):
    """``y[..., o] = sum_i W[o, i] x[..., i]`` for ``lead`` stacked vectors."""

    def __init__(self, kernels: Kernels, weight: Array, bias: Array | None, lead: int) -> None:
        out, inner = weight.shape
        super().__init__(kernels, (lead * inner,), lead * out)
        self.lead, self.out, self.inner = lead, out, inner
        # zeros add nothing, and adding nothing is exact
        used = weight != 0
        self.terms = int(max(1, used.sum(axis=0).max(initial=0), used.sum(axis=1).max(initial=0)))
        self.weight = self.constant(weight)
        self._t = self.constant(np.ascontiguousarray(weight.T))
        self._abs_t = kernels.array(np.ascontiguousarray(np.abs(weight).T))
        self.signs = sign_of(weight)
        self.set_bias(None if bias is None else np.tile(bias, lead))

    def apply(self, xs: Sequence[Any]) -> Any:
        return self._stacked(xs[0], self._t)

    def apply_abs(self, xs: Sequence[Any]) -> Any:
        return self._stacked(xs[0], self._abs_t)

    def adjoint(self, a: Any) -> tuple[Any, ...]:
        return (self._stacked(a, self.weight),)

    def _stacked(self, x: Any, matrix: Any) -> Any:
        if self.lead == 1:
            return self.kernels.matmul(x, matrix)
        out = self.kernels.matmul(x.reshape(len(x) * self.lead, -1), matrix)
        return out.reshape(len(x), -1)

    def with_constants(self, constants: Mapping[str, Any]) -> AffineMap:
        out = copy(self)
        out.weight = constants["weight"]
        out._t, out._abs_t = out.weight.T, abs(out.weight).T
        out.signs, out.whole = None, False
        if "bias" in constants:
            out.bias = self.kernels.concat([constants["bias"]] * self.lead)
            out.bias_abs = abs(out.bias)
        return out

    def closure(self, index: Array) -> Array:
        # of several stacked vectors those that are touched
        if self.lead == 1:
            return index
        touched = np.unique(index // self.out)
        return (touched[:, None] * self.out + np.arange(self.out)).reshape(-1)

    def restricted(self, index: Array) -> tuple[AffineMap, tuple[Array, ...]]:
        k = self.kernels
        if self.lead > 1:
            touched = index[:: self.out] // self.out
            read = (touched[:, None] * self.inner + np.arange(self.inner)).reshape(-1)
            out = self.part((read.size,), index)
            out.lead = len(touched)
            return out, (read,)
        weight = k.take(self.weight, k.array(index))
        # a convolution written as a matrix is mostly zeros
        read = np.flatnonzero((np.asarray(k.numpy(weight)) != 0).any(axis=0))
        out = self.part((read.size,), index)
        out.out, out.inner = len(index), read.size
        out.weight = k.columns(weight, k.array(read))
        out._t = k.array(np.ascontiguousarray(out.weight.T)) if k.name == "numpy" else out.weight.T
        out._abs_t = abs(out._t)
        return out, (read,)

    def rows(self, index: Any) -> tuple[Any, ...]:
        if self.lead == 1:
            return (self.kernels.take(self.weight, index),)
        return super().rows(index)


def linear(node: Node, graph: Graph, kernels: Kernels) -> AffineMap:
    """Binds a LINEAR node."""
    lead = graph.nodes[node.inputs[0]].size // node.params["weight"].shape[1]
    return DenseMap(kernels, node.params["weight"], node.params.get("bias"), lead)
