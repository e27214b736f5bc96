"""Evaluation of a graph at points, in whatever arithmetic the points are given in.

The arithmetic is the array's element type: float64, float32, or ``object`` arrays of
``fractions.Fraction``, for which every step is exact. Nothing here bounds anything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any, TypeAlias

import numpy as np

from bounds.evaluate_scalar import evaluate_expression
from bounds.graph import Array, Graph, Node, Op

Kernel: TypeAlias = Callable[[Node, Mapping[str, Any], Sequence[Array]], Array]


def evaluate(graph: Graph, x: Array) -> Array:
    """Evaluates the network at ``D`` points.

    Args:
        graph: the network.
        x: points ``(D, input_size)``, all inputs flattened (C order) and concatenated.

    Returns:
        ``(D, output_size)``, all outputs flattened and concatenated, in the arithmetic of ``x``.
    """
    last = {k: node.id for node in graph.nodes for k in node.inputs}
    last.update({port.node: len(graph.nodes) for port in graph.outputs})
    values: dict[int, Array] = {}
    feeds = _split_inputs(graph, x)
    for node in graph.nodes:
        values[node.id] = apply_node(node, [values[k] for k in node.inputs], feeds.get(node.id), x.dtype)
        for k in {*node.inputs, node.id}:
            if last.get(k, -1) <= node.id:
                del values[k]
    rows = [values[p.node].reshape(len(x), -1) for p in graph.outputs]
    return np.concatenate(rows, axis=1)


def evaluate_nodes(graph: Graph, x: Array) -> list[Array]:
    """Evaluates the network at points ``(D, input_size)``; returns every node's value ``(D, *n)``."""
    values: list[Array] = []
    feeds = _split_inputs(graph, x)
    for node in graph.nodes:
        values.append(apply_node(node, [values[k] for k in node.inputs], feeds.get(node.id), x.dtype))
    return values


def apply_node(node: Node, inputs: Sequence[Array], feed: Array | None, dtype: np.dtype[Any]) -> Array:
    """Applies one primitive to operands ``(D, *n_k)``; ``feed`` is the value of an ``INPUT`` node."""
    if node.op is Op.INPUT:
        if feed is None:
            raise ValueError(f"node {node.id} is an input without a value")
        return feed
    params = {k: _convert(v, dtype) for k, v in node.params.items()}
    with np.errstate(all="ignore"):  # where a function leaves its domain or overflows: NaN, infinity
        return KERNELS[node.op](node, params, inputs)


def _split_inputs(graph: Graph, x: Array) -> dict[int, Array]:
    if x.ndim != 2 or x.shape[1] != graph.input_size:
        raise ValueError(f"expected points of shape (D, {graph.input_size}), got {x.shape}")
    feeds: dict[int, Array] = {}
    start = 0
    for port in graph.inputs:
        stop = start + int(np.prod(port.shape, dtype=np.int64))
        feeds[port.node] = x[:, start:stop].reshape(len(x), *port.shape)
        start = stop
    return feeds


def _convert(value: Any, dtype: np.dtype[Any]) -> Any:
    """Brings floating-point parameters into the arithmetic ``dtype``; others stay as they are."""
    if not isinstance(value, np.ndarray) or value.dtype.kind != "f":
        return value
    if dtype != np.dtype(object):
        return value.astype(dtype, copy=False)
    exact = np.empty(value.size, dtype=object)
    exact[:] = [Fraction(v) for v in value.ravel().tolist()]
    return exact.reshape(value.shape)


def _linear(node: Node, params: Mapping[str, Any], inputs: Sequence[Array]) -> Array:
    del node
    return inputs[0] @ params["weight"].T + params["bias"]


def _conv(node: Node, params: Mapping[str, Any], inputs: Sequence[Array]) -> Array:
    """im2col: gathers the windows as columns ``(D, N, G, C/G * kh * kw, OH * OW)``, then multiplies."""
    x, weight, groups = inputs[0], params["weight"], params["groups"]
    top, left, bottom, right = params["pads"]
    x = np.pad(x, [(0, 0)] * 3 + [(top, bottom), (left, right)])
    out, channels, height, width = weight.shape
    _, _, rows, cols = node.shape
    index = _window_index(height, rows, params["strides"][0], params["dilations"][0])
    jndex = _window_index(width, cols, params["strides"][1], params["dilations"][1])
    windows = x[:, :, :, index[:, None, :, None], jndex[None, :, None, :]]
    columns = windows.reshape(*x.shape[:2], groups, channels * height * width, rows * cols)
    kernel = weight.reshape(groups, out // groups, channels * height * width)
    y = (kernel @ columns).reshape(*x.shape[:2], out, rows, cols)
    return y + params["bias"][:, None, None]


def _window_index(kernel: int, windows: int, stride: int, dilation: int) -> Array:
    """Positions ``(kernel, windows)`` along one padded axis."""
    return np.arange(kernel)[:, None] * dilation + np.arange(windows)[None, :] * stride


def _conv_transpose(node: Node, params: Mapping[str, Any], inputs: Sequence[Array]) -> Array:
    """Adds ``weight[:, :, i, j]^T x`` into the output positions that kernel offset (i, j) reaches."""
    x, weight, groups = inputs[0], params["weight"], params["groups"]
    (sy, sx), (dy, dx), (top, left, bottom, right) = params["strides"], params["dilations"], params["pads"]
    batch, channels, height, width = x.shape[0] * x.shape[1], x.shape[2], x.shape[3], x.shape[4]
    _, out, rows, cols = node.shape
    flat = x.reshape(batch, groups, channels // groups, height * width)
    kernel = weight.reshape(groups, channels // groups, out // groups, *weight.shape[2:])
    full = np.zeros((batch, groups, out // groups, rows + top + bottom, cols + left + right), x.dtype)
    for i in range(weight.shape[2]):
        for j in range(weight.shape[3]):
            part = np.swapaxes(kernel[..., i, j], 1, 2) @ flat
            target = full[..., i * dy :: sy, j * dx :: sx][..., :height, :width]
            target += part.reshape(target.shape)
    y = full[..., top : top + rows, left : left + cols].reshape(*x.shape[:2], out, rows, cols)
    return y + params["bias"][:, None, None]


def _scale(node: Node, params: Mapping[str, Any], inputs: Sequence[Array]) -> Array:
    del node
    return inputs[0] * params["scale"] + params["shift"]


def _add(node: Node, params: Mapping[str, Any], inputs: Sequence[Array]) -> Array:
    del node
    total = inputs[0] * params["coefficients"][0]
    for k, x in enumerate(inputs[1:], start=1):
        total = total + x * params["coefficients"][k]
    return total


def _take(node: Node, params: Mapping[str, Any], inputs: Sequence[Array]) -> Array:
    x, index = inputs[0].reshape(len(inputs[0]), -1), params["index"]
    outside = index < 0
    if not outside.any():
        return x[:, index].reshape(len(x), *node.shape)
    y = np.empty((len(x), index.size), x.dtype)
    y[:, ~outside] = x[:, index[~outside]]
    y[:, outside] = params["fill"][outside]
    return y.reshape(len(x), *node.shape)


def _reshape(node: Node, params: Mapping[str, Any], inputs: Sequence[Array]) -> Array:
    del params
    return inputs[0].reshape(len(inputs[0]), *node.shape)


def _concat(node: Node, params: Mapping[str, Any], inputs: Sequence[Array]) -> Array:
    del node
    return np.concatenate(inputs, axis=params["axis"] + 1)


def _sum(node: Node, params: Mapping[str, Any], inputs: Sequence[Array]) -> Array:
    total = inputs[0].sum(axis=tuple(a + 1 for a in params["axes"]))
    return np.asarray(total, inputs[0].dtype).reshape(len(inputs[0]), *node.shape)


def _relu(node: Node, params: Mapping[str, Any], inputs: Sequence[Array]) -> Array:
    del node, params
    return np.maximum(inputs[0], 0)  # type-preserving: Python's 0 is exact in every arithmetic used here


def _scalar(node: Node, params: Mapping[str, Any], inputs: Sequence[Array]) -> Array:
    del node
    return evaluate_expression(params["function"], inputs[0])


def _mul(node: Node, params: Mapping[str, Any], inputs: Sequence[Array]) -> Array:
    del node, params
    return np.asarray(inputs[0] * inputs[1])


KERNELS: Mapping[Op, Kernel] = {
    Op.LINEAR: _linear,
    Op.CONV: _conv,
    Op.CONV_TRANSPOSE: _conv_transpose,
    Op.SCALE: _scale,
    Op.ADD: _add,
    Op.TAKE: _take,
    Op.RESHAPE: _reshape,
    Op.CONCAT: _concat,
    Op.SUM: _sum,
    Op.RELU: _relu,
    Op.SCALAR: _scalar,
    Op.MUL: _mul,
}
