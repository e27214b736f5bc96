"""Compares an imported graph with onnxruntime, point by point.

Every tensor is compared, and each is computed from onnxruntime's own values of the tensors before
it: over a whole network worst-case rounding bounds grow until they hide any defect, over one operator
they are tight. The tolerance is no guess: a running error analysis propagates how far rounded
arithmetic may be from the real operator, from ``Node.roundings`` and ``Node.weight_error`` (the bound
stated in :mod:`bounds.graph`). It is multiplied by ``FACTOR``, which leaves room for the float64
rounding of the comparison itself. This guards against import defects; no verdict rests on it.
"""

from __future__ import annotations

import math
from dataclasses import replace
from types import MappingProxyType

import numpy as np
import onnx

from bounds.errors import ModelInvalid
from bounds.evaluate import apply_node
from bounds.graph import Array, Graph, Node, Op
from bounds.io.deviation import deviation
from bounds.io.onnx import Model
from bounds.io.session import Session

FACTOR = 4.0
_WORK = 2_000_000_000  # multiplications per comparison; fewer points are used for larger networks
_UNIT = {"float32": (2.0**-24, 2.0**-126), "float64": (2.0**-53, 2.0**-1022)}  # rounding, flushed subnormal
_UNCOUNTED = 256  # roundings where nobody counted them
_WEIGHTS = ("weight", "scale", "coefficients")
_SHIFTS = ("bias", "shift", "fill")


def compare_with_onnxruntime(model: Model, *, seed: int = 0) -> None:
    """Checks that the graph computes what onnxruntime computes, on random and extreme inputs.

    Raises:
        ModelInvalid: a difference beyond rounding; the message names the first differing node.
    """
    graph = model.graph
    session, shown = _talkative(model)
    unit, eta = max(_UNIT.get(p.dtype, _UNIT["float32"]) for p in graph.inputs)
    for x in _points(graph, seed):
        found = dict(zip(shown, session.run(x), strict=True))
        _compare_point(model, x, found, (unit, eta))


def _talkative(model: Model) -> tuple[Session, list[str]]:
    """The original model with every tensor that the graph knows as an output, in the model's order."""
    proto = onnx.ModelProto()
    proto.ParseFromString(model.onnx_bytes)
    shown = [name for node in proto.graph.node for name in node.output if name in model.tensors]
    shown += [v.name for v in proto.graph.output if v.name not in model.tensors]  # constant outputs
    declared = {v.name: v for v in proto.graph.output}
    del proto.graph.output[:]
    proto.graph.output.extend(declared.get(name, onnx.ValueInfoProto(name=name)) for name in shown)
    return Session(model, onnx_bytes=proto.SerializeToString()), shown


def _compare_point(model: Model, x: Array, found: dict[str, Array], arithmetic: tuple[float, float]) -> None:
    """Walks the graph at one point; each tensor onnxruntime shows replaces ours once checked."""
    graph = model.graph
    names: dict[int, list[str]] = {}
    for name in found:
        port = next((p.node for p in graph.outputs if p.name == name), -1)
        names.setdefault(model.tensors.get(name, port), []).append(name)
    values: list[Array] = []
    errors: list[Array] = []
    start = 0
    for node in graph.nodes:
        if node.op is Op.INPUT:
            value = x[None, start : start + node.size].reshape(1, *node.shape)
            error = np.zeros_like(value)
            start += node.size
        else:
            inputs = [values[k] for k in node.inputs]
            with np.errstate(all="ignore"):  # overflow only makes the bound infinite
                value = apply_node(node, inputs, None, x.dtype)
                error = _step(node, inputs, [errors[k] for k in node.inputs], *arithmetic)
        for name in names.get(node.id, []):
            if _differs(found[name], value, error):
                raise ModelInvalid(_message(model, name, node))
        if names.get(node.id):
            value, error = _adopt(found[names[node.id][0]], value.shape)
        values.append(value)
        errors.append(error)


def _adopt(found: Array, shape: tuple[int, ...]) -> tuple[Array, Array]:
    """onnxruntime's tensor as the value that the next nodes see; what overflowed has no bound."""
    value = found.astype(np.float64).reshape(shape)
    finite = np.isfinite(value)
    return np.where(finite, value, 0.0), np.where(finite, 0.0, np.inf)


def _points(graph: Graph, seed: int) -> Array:
    """Points ``(D, input_size)``: zeros, ones, normal, large and tiny; exact in the inputs' own type."""
    rng = np.random.default_rng(seed)
    n = graph.input_size
    rows = [
        rng.standard_normal(n),
        1e3 * rng.standard_normal(n),
        np.zeros(n),
        np.ones(n),
        -np.ones(n),
        1e-6 * rng.standard_normal(n),
    ]
    cost = sum(_multiplications(node) for node in graph.nodes)
    count = min(len(rows), max(1, _WORK // max(1, 3 * cost)))
    return np.stack(rows[:count]).astype(np.float32).astype(np.float64)


def _multiplications(node: Node) -> int:
    if node.op not in (Op.LINEAR, Op.CONV, Op.CONV_TRANSPOSE):
        return node.size
    return math.prod(node.params["weight"].shape[1:]) * node.size


def _step(node: Node, inputs: list[Array], errors: list[Array], unit: float, eta: float) -> Array:
    """``E_y <= |W| E_x + gamma_k (|W| (|x| + E_x) + |b|) + k eta``, weight errors likewise."""
    if node.op is Op.RELU:
        return errors[0]
    k = min(node.roundings, _UNCOUNTED)
    if node.op is Op.SCALAR:
        # where the importer knows no count, the runtime may compute something quite different
        scale = k if node.roundings > k else 1
        return deviation(node.params["function"], inputs[0], errors[0], scale * unit, scale * eta)
    relative = k * unit / (1 - k * unit) + node.weight_error + (k + 1) * 2.0**-53
    if node.op is Op.MUL:
        (x, y), (e, f) = (np.abs(v) for v in inputs), errors
        return x * f + y * e + e * f + relative * (x + e) * (y + f) + k * eta
    params = {name: _magnitude(name, value, relative) for name, value in node.params.items()}
    absolute = replace(node, params=MappingProxyType(params))
    spread = [(1 + relative) * e + relative * np.abs(x) for x, e in zip(inputs, errors, strict=True)]
    return apply_node(absolute, spread, None, spread[0].dtype) + k * eta


def _magnitude(name: str, value: Array, relative: float) -> Array:
    if name in _WEIGHTS:
        return np.abs(value)
    return np.abs(value) * relative if name in _SHIFTS else value


def _differs(found: Array, value: Array, error: Array) -> bool:
    """Whether onnxruntime's tensor is not within the tolerance; overflow says nothing."""
    if found.size != value.size:
        return True
    with np.errstate(all="ignore"):
        gap = np.abs(found.astype(np.float64).reshape(value.shape) - value)
    silent = (
        ~np.isfinite(error) | (np.abs(value) + error > 1e37)
        if found.dtype == np.float32
        else ~np.isfinite(error)
    )
    return not bool(np.all((gap <= FACTOR * error) | silent))


def _message(model: Model, tensor: str, node: Node) -> str:
    return (
        f"{model.path}: imported graph and onnxruntime differ beyond rounding, first at node '{node.source}' "
        f"(tensor '{tensor}'); its import is wrong, report the model"
    )
