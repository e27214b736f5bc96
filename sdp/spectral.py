"""Products of norms, node by node, for networks whose steps are too large to be matrices; L2 to L2.

Convolutions stay kernels. On the infinite grid a convolution's Gram operator is again one, with kernel G;
zero padding restricts it to a part of the grid, which only lowers the norm. For every t, with ``|.|`` the
largest sum of magnitudes over one output channel,

    |K|^2 = |G| <= |G^(2^t)|^(1/2^t),

and the right side falls towards the norm as t grows. A stride s is a convolution of s^2 times the channels, a
dilation splits the grid into independent ones, groups are independent.

Reference: Delattre et al. 2023 (Gram iteration); Prach, Lampert 2022 (the bound with t = 0).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from bounds.errors import ModelUnsupported
from bounds.graph import Array, Graph, Node, Op
from bounds.numerics import FLOAT64
from sdp.certify import certify
from sdp.chain import Chain
from sdp.increments import Ranges
from sdp.matrices import Matrix
from sdp.objective import Norm
from sdp.slopes import slope_range

WORK = 4e9  # multiply-adds that one more squaring may cost
SQUARINGS = 6
UP = 1 + 2.0**-40  # pays for the few roundings of scalars beside each product


def structured_product(graph: Graph, ranges: Ranges) -> float:
    """A proved L2 bound of a whole graph.

    Args:
        graph: prepared.
        ranges: of nodes on a region; empty for a global bound.

    Soundness: every node's constant bounds that of its value as a function of all inputs together; each rule
    multiplies (or adds) proved norms and rounds upwards.

    Raises:
        ModelUnsupported: a step has no bounded slope.
    """
    known: list[float] = []
    for node in graph.nodes:
        known.append(_constant(graph, node, [known[i] for i in node.inputs], ranges) * UP)
    return math.hypot(*(known[p.node] for p in graph.outputs)) * UP


def _constant(graph: Graph, node: Node, sources: Sequence[float], ranges: Ranges) -> float:
    params, grown = node.params, 1 + node.weight_error
    match node.op:
        case Op.INPUT:
            return 1.0
        case Op.LINEAR:
            return sources[0] * matrix_norm(params["weight"]) * grown
        case Op.CONV | Op.CONV_TRANSPOSE:
            return sources[0] * conv_norm(params["weight"], params["strides"], int(params["groups"])) * grown
        case Op.SCALE:
            return sources[0] * float(np.max(np.abs(params["scale"]), initial=0.0)) * grown
        case Op.ADD:
            return (
                sum(abs(float(c)) * s for c, s in zip(params["coefficients"], sources, strict=True)) * grown
            )
        case Op.TAKE:
            index = np.asarray(params["index"]).reshape(-1)
            return sources[0] * math.sqrt(int(np.bincount(index[index >= 0], minlength=1).max()))
        case Op.RESHAPE:
            return sources[0]
        case Op.CONCAT:
            return math.hypot(*sources)
        case Op.SUM:
            return sources[0] * math.sqrt(graph.nodes[node.inputs[0]].size / max(node.size, 1))
        case Op.MUL:
            sizes = [_largest(node, ranges, i) for i in node.inputs]
            return sizes[1] * sources[0] + sizes[0] * sources[1]
        case Op.RELU | Op.SCALAR:
            infinite = np.full(node.size, np.inf)
            lo, hi = ranges.get(node.inputs[0], (-infinite, infinite))
            slopes = slope_range(node, lo, hi)
            return sources[0] * max(float(np.max(np.abs(s), initial=0.0)) for s in slopes)


def _largest(node: Node, ranges: Ranges, operand: int) -> float:
    if operand not in ranges:
        detail = "a product of two tensors has no Lipschitz constant on an unbounded domain; give a region"
        raise ModelUnsupported("product", node.source, detail)
    return float(max(np.max(np.abs(end), initial=0.0) for end in ranges[operand]))


def matrix_norm(weight: Array) -> float:
    """A proved bound on a matrix's spectral norm, tight to rounding."""
    small = weight if weight.shape[1] <= weight.shape[0] else np.ascontiguousarray(weight.T)
    chain = Chain(Matrix.exact(small), (), Matrix.identity(len(small)))
    return certify(chain, [], np.ones(len(small)), Norm.TWO).upper


def conv_norm(weight: Array, strides: Sequence[int], groups: int) -> float:
    """A proved bound on the norm of a zero-padded convolution on an image of any size.

    Args:
        weight: ``O C/groups kh kw``.
        strides: vertical and horizontal.
        groups: number of independent groups.
    """
    parts = np.split(weight, groups)
    return max(_group_norm(_phases(part, strides)) for part in parts)


def _phases(weight: Array, strides: Sequence[int]) -> Array:
    """The kernel on s_y s_x times the channels that has stride 1."""
    (sy, sx), (o, c, kh, kw) = strides, weight.shape
    height, width = -(-kh // sy), -(-kw // sx)
    padded = np.zeros((o, c, height * sy, width * sx))
    padded[:, :, :kh, :kw] = weight
    split = padded.reshape(o, c, height, sy, width, sx).transpose(0, 1, 3, 5, 2, 4)
    return split.reshape(o, c * sy * sx, height, width)


def _group_norm(weight: Array) -> float:
    if weight.shape[0] < weight.shape[1]:
        weight = weight.transpose(1, 0, 2, 3)[:, :, ::-1, ::-1]  # the adjoint has the same norm
    total = float(np.abs(weight).max(initial=0.0))
    if total == 0:
        return 0.0
    exponent = math.frexp(total)[1]
    weight = np.ldexp(weight, -exponent)  # exact but for underflow, which the errors below pay for
    flipped = weight.transpose(1, 0, 2, 3)[:, :, ::-1, ::-1]
    gram = _composed(flipped, weight)
    error = FLOAT64.gamma(_terms(weight) + 2) * _row_sum(flipped) * _row_sum(weight) * UP + 2.0**-900
    best, power = math.inf, 1
    for _ in range(SQUARINGS + 1):
        size = _row_sum(gram) + error
        best = min(best, (size * UP) ** (0.5 / power) * UP)
        if _terms(gram) * gram.size > WORK:
            break
        # keep the numbers near one; the scale is a power of two, so its root is taken exactly enough
        square = _composed(gram, gram)
        error = (2 * size * error + FLOAT64.gamma(_terms(gram) + 2) * size * size) * UP + 2.0**-900
        gram, power = square, 2 * power
        if _row_sum(gram) > 2.0**400:
            break
    return math.ldexp(best, exponent)


def _terms(kernel: Array) -> int:
    """The longest sum in a composition with this kernel on the right."""
    return kernel.shape[0] * kernel.shape[2] * kernel.shape[3]


def _row_sum(kernel: Array) -> float:
    """The largest sum of magnitudes over an output channel, rounded upwards."""
    sums = np.abs(kernel).sum(axis=(1, 2, 3))
    return float(sums.max(initial=0.0)) * FLOAT64.slack(kernel[0].size + 2)


def _composed(left: Array, right: Array) -> Array:
    """The kernel of ``left`` after ``right`` (both as convolutions on the infinite grid)."""
    (o, c, lh, lw), (_, n, rh, rw) = left.shape, right.shape
    out = np.zeros((o, n, lh + rh - 1, lw + rw - 1))
    flat = right.reshape(c, -1)
    for y in range(lh):
        for x in range(lw):
            out[:, :, y : y + rh, x : x + rw] += (left[:, :, y, x] @ flat).reshape(o, n, rh, rw)
    return out
