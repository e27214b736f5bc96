"""From ONNX bytes to one :class:`Network`: several models side by side on concatenated inputs.

Only protobuf is read with ``onnx``; nothing is executed. The whole file is understood or refused.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError, EncodeError

from bounds.errors import LimitExceeded, ModelInvalid, ModelUnsupported, QueryMismatch
from verifier.check.attention import ATTENTION
from verifier.check.calls import BOOL, FLOATS, INTEGERS, Call, Operator
from verifier.check.einsum import EINSUM
from verifier.check.elementwise import ELEMENTWISE
from verifier.check.linear import LINEAR
from verifier.check.logic import LOGIC
from verifier.check.maxima import MAXIMA
from verifier.check.monomials import with_monomials
from verifier.check.movement import MOVEMENT, concat
from verifier.check.network import Const, Lowering, Network, Value, Var, guard, prune
from verifier.check.normalise import NORMALISE
from verifier.check.quantise import QUANTISE
from verifier.check.recurrent import RECURRENT
from verifier.check.resample import RESAMPLE
from verifier.check.rows import ROWS
from verifier.check.selection import SELECTION
from verifier.spec.model import Property, Variable
from verifier.spec.polynomial import monomials

TABLE: Mapping[str, Operator] = {
    **ATTENTION,
    **EINSUM,
    **ELEMENTWISE,
    **LINEAR,
    **LOGIC,
    **MAXIMA,
    **MOVEMENT,
    **NORMALISE,
    **QUANTISE,
    **RECURRENT,
    **RESAMPLE,
    **ROWS,
    **SELECTION,
}


def parse(data: bytes) -> onnx.ModelProto:
    """The protobuf message of a model."""
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except DecodeError:
        raise ModelInvalid("the model is not an ONNX file; check the path") from None
    if not model.graph.output or model.graph.sparse_initializer:
        raise ModelInvalid("the model has no outputs, or sparse tensors, which the checker does not read")
    return model


def inline(data: bytes, directory: Path) -> tuple[bytes, list[bytes]]:
    """A model with its external tensors stored inside, and these tensors' bytes in the file's order.

    A location must be a plain path that stays inside the model's own directory, links followed.
    """
    model = parse(data)
    blobs: list[bytes] = []
    for proto in model.graph.initializer:
        if proto.data_location != onnx.TensorProto.EXTERNAL:
            continue
        fields = {entry.key: entry.value for entry in proto.external_data}
        relative, root = PurePosixPath(fields.get("location", "")), directory.resolve()
        file = (root / relative).resolve()
        plain = relative.parts and not relative.is_absolute() and ".." not in relative.parts
        if not plain or not file.is_relative_to(root):
            raise ModelInvalid(f"tensor '{proto.name}': {relative} is no plain path beside the model")
        try:
            content = file.read_bytes()
            start = int(fields.get("offset", "0"))
            stop = start + int(fields.get("length", str(len(content) - start)))
        except (OSError, ValueError) as error:
            raise ModelInvalid(f"tensor '{proto.name}': {error}; put {relative} beside the model") from None
        if not 0 <= start <= stop <= len(content):
            raise ModelInvalid(f"tensor '{proto.name}' lies outside {relative}; export the model again")
        blobs.append(content[start:stop])
        del proto.external_data[:]
        proto.data_location, proto.raw_data = onnx.TensorProto.DEFAULT, blobs[-1]
    try:
        return (model.SerializeToString() if blobs else data), blobs
    except (EncodeError, ValueError):
        raise LimitExceeded("with its external tensors the model is over 2 GiB; use a smaller one") from None


def tensor(proto: onnx.TensorProto) -> Const:
    """A stored tensor: floats exactly in float64."""
    if proto.data_location == onnx.TensorProto.EXTERNAL:
        raise ModelUnsupported("Initializer", proto.name, "external data; store the tensors in the file")
    guard(proto.dims)
    kind = {**FLOATS, **INTEGERS, BOOL: "bool"}.get(proto.data_type)
    if kind is None:
        raise ModelUnsupported(
            "Initializer", proto.name, f"element type {proto.data_type}; only numbers are read"
        )
    try:
        data = onnx.numpy_helper.to_array(proto)
    except (ValueError, TypeError) as error:
        raise ModelInvalid(f"tensor '{proto.name}': {error}; export the model again") from None
    stored = "float64" if kind in FLOATS.values() else "bool" if kind == "bool" else "int64"
    if kind == "uint64" and data.size and int(data.max()) >= 1 << 63:
        raise ModelUnsupported("Initializer", proto.name, "integers over 2^63")
    return Const(data.astype(stored), dtype=kind)


def combine(models: Mapping[str, bytes], prop: Property) -> Network:
    """The network of a property: inputs and outputs in the property's declared order, then its monomials.

    Args:
        models: for every network of the property (those declared equal to another included) its file.
        prop: the property.
    """
    net = Lowering(prop.input_size)
    everything = Var(0, (prop.input_size,))
    values: dict[str, tuple[dict[str, Value], list[Var]]] = {}
    for ref in prop.networks:
        offset, picks = 0, [np.zeros(0, np.int64)]
        for variable in prop.inputs:
            if variable.network == ref.name or len(prop.networks) == 1:
                picks.append(np.arange(offset, offset + variable.size))
            offset += variable.size
        own = net.take(everything, np.concatenate(picks))
        sizes = (
            [v.size for v in prop.inputs if v.network == ref.name] if prop.language == "vnnlib-2" else None
        )
        values[ref.name] = _lower(net, parse(models[ref.name]), own, sizes)
    parts: list[Var] = []
    used: dict[str, int] = dict.fromkeys(values, 0)
    single = next(iter(values)) if len(values) == 1 else None
    for variable in prop.outputs:
        name = variable.network if single is None else single
        known, ports = values[name]
        if variable.kind == "hidden":
            parts.append(_hidden(net, known, variable))
            continue
        whole = concat(net, [Var(p.node, (p.size,)) for p in ports], 0)
        start = used[name]
        used[name] = start + variable.size
        if used[name] > whole.size:
            raise QueryMismatch(
                f"output {variable.name} exceeds the model's {whole.size} outputs; check the files"
            )
        parts.append(net.take(whole, np.arange(start, used[name])))
    for name, (_, ports) in values.items():
        if used[name] != sum(p.size for p in ports):
            raise QueryMismatch(
                f"network '{name}': the property declares {used[name]} of its outputs; check the files"
            )
    whole = with_monomials(net, everything, concat(net, parts, 0), monomials(prop))
    return prune(net.nodes, whole.node)


def whole(data: bytes) -> Network:
    """The network of one model: all inputs and all outputs, flattened and concatenated."""
    model = parse(data)
    stored = {t.name for t in model.graph.initializer}
    net = Lowering(sum(math.prod(shape) for _, shape, _ in _ports(model.graph, stored)))
    _, ports = _lower(net, model, Var(0, (net.nodes[0].size,)), None)
    joined = concat(net, [Var(p.node, (p.size,)) for p in ports], 0)
    return prune(net.nodes, joined.node)


def _hidden(net: Lowering, known: Mapping[str, Value], variable: Variable) -> Var:
    value = known.get(variable.onnx)
    if value is None or math.prod(value.shape) != variable.size:
        raise QueryMismatch(f"hidden {variable.name}: the model has no tensor '{variable.onnx}' of its size")
    value = net.variable(value)
    net.numbers(value)
    return Var(value.node, (value.size,))


def _lower(
    net: Lowering, model: onnx.ModelProto, x: Var, sizes: list[int] | None
) -> tuple[dict[str, Value], list[Var]]:
    """Adds one model to ``net``; its inputs are consecutive pieces of ``x``."""
    graph = model.graph
    opset = max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=0)
    if not 7 <= opset <= onnx.defs.onnx_opset_version():
        raise ModelInvalid(f"the model's opset {opset} is not supported; convert it")
    known: dict[str, Value] = {}
    stored = {t.name: t for t in graph.initializer}
    offset = 0
    for i, (name, shape, dtype) in enumerate(_ports(graph, set(stored))):
        size = math.prod(shape)
        if offset + size > x.size or (sizes is not None and (i >= len(sizes) or sizes[i] != size)):
            raise QueryMismatch(f"model input '{name}' of shape {list(shape)} does not fit the property")
        known[name] = replace(net.take(x, np.arange(offset, offset + size).reshape(shape)), dtype=dtype)
        offset += size
    if offset != x.size:
        raise QueryMismatch(f"the property declares {x.size} inputs, the model {offset}; check the two files")
    live = _live(graph)
    reads = Counter(name for node in live for name in node.input)
    reads.update(info.name for info in graph.output)
    for node in live:
        for name in node.input:
            if name in stored and name not in known:
                known[name] = tensor(stored[name])
        for name, value in zip(node.output, _call(net, node, known, reads, opset), strict=False):
            if name in known or name in stored:
                raise ModelInvalid(f"tensor '{name}' is computed twice; export the model again")
            known[name] = value
    outputs: list[Var] = []
    for info in graph.output:
        value = known.get(info.name) or (tensor(stored[info.name]) if info.name in stored else None)
        if value is None:
            raise ModelInvalid(f"output '{info.name}' is never computed; export the model again")
        outputs.append(net.variable(value))
        net.numbers(outputs[-1])
    return known, outputs


def _ports(graph: onnx.GraphProto, stored: set[str]) -> list[tuple[str, tuple[int, ...], str]]:
    """Inputs with their shapes and element types; a free first dimension is a batch of one."""
    ports: list[tuple[str, tuple[int, ...], str]] = []
    for info in (i for i in graph.input if i.name not in stored):
        kind = info.type.tensor_type
        dims = [d.dim_value if d.dim_value > 0 or i else 1 for i, d in enumerate(kind.shape.dim)]
        if min(dims, default=1) < 1 or not kind.HasField("shape") or kind.elem_type not in (1, 11):
            raise ModelInvalid(f"input '{info.name}' is not a float32 or float64 tensor of fixed shape")
        ports.append((info.name, guard(dims), FLOATS[kind.elem_type]))
    return ports


def _live(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """Nodes that outputs depend on, in file order."""
    wanted, live = {v.name for v in graph.output}, list[onnx.NodeProto]()
    for node in reversed(graph.node):
        if any(name in wanted for name in node.output if name):
            live.append(node)
            wanted.update(node.input)
    return live[::-1]


def _call(
    net: Lowering,
    node: onnx.NodeProto,
    known: Mapping[str, Value],
    reads: Mapping[str, int],
    opset: int,
) -> list[Value]:
    label = node.name or (node.output[0] if node.output else node.op_type)
    operator = TABLE.get(node.op_type)
    if operator is None or node.domain not in ("", "ai.onnx"):
        raise ModelUnsupported(node.op_type, label, f"the checker has no operator {node.op_type}")
    missing = [name for name in node.input if name and name not in known]
    if missing:
        raise ModelInvalid(
            f"node '{label}' uses tensor '{missing[0]}' before it is computed; export it again"
        )
    attributes: dict[str, Any] = {}
    for a in node.attribute:
        value = onnx.helper.get_attribute_value(a)
        attributes[a.name] = tensor(value) if isinstance(value, onnx.TensorProto) else value
    operands = tuple(known[name] if name else None for name in node.input)
    read = [name for name in node.input if name and reads[name] == 1]
    net.lone = frozenset(v.node for v in (known[name] for name in read) if isinstance(v, Var))
    net.names = (label, *(name for name in node.output if name))
    outputs = [name for name in node.output if name]
    call = Call(node.op_type, label, opset, operands, attributes, len(outputs))
    try:
        results = list(operator(net, call))
    except (ValueError, IndexError, KeyError, TypeError, ArithmeticError, AssertionError) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ModelInvalid(
            f"node '{label}' ({node.op_type}): {reason}; check or export the model again"
        ) from None
    if len(results) < len(outputs):
        raise ModelUnsupported(node.op_type, label, "more outputs than the checker has rules for")
    return results
