"""The table of affine primitives; adding one is a row here and a file beside this one."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from bounds.graph import Graph, Node, Op
from bounds.kernels.base import Kernels
from bounds.kernels.numpy import NumpyKernels
from bounds.numerics import FLOAT64
from bounds.ops.base import AffineMap
from bounds.ops.conv import as_dense, conv, fits_dense
from bounds.ops.linear import linear
from bounds.ops.structure import add, concat, scale, sum_over, take

AFFINE: Mapping[Op, Callable[[Node, Graph, Kernels], AffineMap]] = {
    Op.LINEAR: linear,
    Op.CONV: conv,
    Op.CONV_TRANSPOSE: conv,
    Op.SCALE: scale,
    Op.ADD: add,
    Op.TAKE: take,
    Op.CONCAT: concat,
    Op.SUM: sum_over,
}


def bind(node: Node, graph: Graph, kernels: Kernels) -> AffineMap:
    """The affine map of a node in the kernels' precision; small convolutions become matrices."""
    if node.op in (Op.CONV, Op.CONV_TRANSPOSE) and fits_dense(node, graph):
        return as_dense(node, kernels, conv(node, graph, NumpyKernels(FLOAT64)))
    return AFFINE[node.op](node, graph, kernels)
