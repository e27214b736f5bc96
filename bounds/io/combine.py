"""Two networks, or one at two points, as a single ONNX model: relations between them become properties.

Whoever proves something about the combined model proves it about the parts: nothing is computed here, nodes
are put side by side under names of their own. The bytes are a function of the parts' bytes, so a certificate
about a combined model can be checked by combining the parts again.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, compose, helper, numpy_helper

from bounds.errors import ModelUnsupported, QueryMismatch

FIRST, SECOND = "f/", "g/"
SHIFT = "t"


def side_by_side(first: bytes, second: bytes, names: tuple[str, str]) -> bytes:
    """``x -> (f(x), g(x))``: both networks on the same inputs, the outputs of the first before the second's.

    Args:
        first, second: self-contained ONNX models.
        names: of the networks, for messages.

    Raises:
        QueryMismatch: inputs or outputs differ in number, shape or type.
        ModelUnsupported: the models use different versions of operators.
    """
    f, g = _parsed(first, FIRST), _parsed(second, SECOND)
    for what, a, b in (("inputs", _inputs(f), _inputs(g)), ("outputs", f.graph.output, g.graph.output)):
        signs = [[(p.type.tensor_type.elem_type, _shape(p)) for p in ports] for ports in (a, b)]
        if what == "outputs":  # flat outputs are compared
            signs = [[(kind, _size(shape)) for kind, shape in one] for one in signs]
        if signs[0] != signs[1]:
            raise QueryMismatch(
                f"{names[0]} and {names[1]} have different {what} ({_told(signs[0])} and {_told(signs[1])}); "
                "give networks of the same form"
            )
    graph = onnx.GraphProto(name="side by side")
    for port, (a, b) in enumerate(zip(_inputs(f), _inputs(g), strict=True)):
        graph.input.add().CopyFrom(_renamed(a, f"x{port}"))
        graph.node.extend(_copy(f"x{port}", p.name) for p in (a, b))
    for part in (f, g):
        _take(graph, part)
        graph.output.extend(part.graph.output)
    return _whole(graph, f, g, names)


def shifted(model: bytes, index: int, name: str) -> bytes:
    """``(x, t) -> (f(x), f(x + t e_index))`` for flat input ``index``; ``t`` is the last input.

    Raises:
        QueryMismatch: the network has several inputs, or its input has another type than float32 or float64.
    """
    f, g = _parsed(model, FIRST), _parsed(model, SECOND)
    ports = _inputs(f)
    kind = ports[0].type.tensor_type.elem_type
    if len(ports) != 1 or kind not in (TensorProto.FLOAT, TensorProto.DOUBLE):
        raise QueryMismatch(
            f"{name}: has {len(ports)} inputs, or one that is no float; give one of one float input"
        )
    shape = _shape(ports[0])
    unit = np.zeros(shape, dtype=helper.tensor_dtype_to_np_dtype(kind))
    unit.reshape(-1)[index] = 1
    graph = onnx.GraphProto(name="shifted")
    graph.input.add().CopyFrom(_renamed(ports[0], "x"))
    graph.input.add().CopyFrom(helper.make_tensor_value_info(SHIFT, kind, [1]))
    graph.initializer.add().CopyFrom(numpy_helper.from_array(unit, "unit"))
    graph.node.extend(
        (
            _copy("x", ports[0].name),
            helper.make_node("Mul", [SHIFT, "unit"], ["step"], name="step"),
            helper.make_node("Add", ["x", "step"], [_inputs(g)[0].name], name="move"),
        )
    )
    for part in (f, g):
        _take(graph, part)
        graph.output.extend(part.graph.output)
    return _whole(graph, f, g, (name, name))


def _parsed(data: bytes, prefix: str) -> onnx.ModelProto:
    model = onnx.ModelProto()
    model.ParseFromString(data)
    return compose.add_prefix(model, prefix)


def _inputs(model: onnx.ModelProto) -> Sequence[onnx.ValueInfoProto]:
    """Inputs that are not stored tensors (old files list those too)."""
    stored = {t.name for t in model.graph.initializer} | {
        t.values.name for t in model.graph.sparse_initializer
    }
    return [p for p in model.graph.input if p.name not in stored]


def _shape(port: onnx.ValueInfoProto) -> tuple[int, ...]:
    """A dimension that is not fixed counts as one (a batch of one)."""
    return tuple(d.dim_value if d.dim_value > 0 else 1 for d in port.type.tensor_type.shape.dim)


def _size(shape: tuple[int, ...]) -> int:
    return int(np.prod(shape, dtype=np.int64))


def _told(signs: Sequence[tuple[int, object]]) -> str:
    return ", ".join(f"{TensorProto.DataType.Name(kind).lower()} {shape}" for kind, shape in signs)


def _renamed(port: onnx.ValueInfoProto, name: str) -> onnx.ValueInfoProto:
    kind = port.type.tensor_type.elem_type
    return helper.make_tensor_value_info(name, kind, list(_shape(port)))


def _copy(source: str, target: str) -> onnx.NodeProto:
    return helper.make_node("Identity", [source], [target], name=f"{source}->{target}")


def _take(graph: onnx.GraphProto, part: onnx.ModelProto) -> None:
    graph.node.extend(part.graph.node)
    graph.initializer.extend(part.graph.initializer)
    graph.sparse_initializer.extend(part.graph.sparse_initializer)


def _whole(graph: onnx.GraphProto, f: onnx.ModelProto, g: onnx.ModelProto, names: tuple[str, str]) -> bytes:
    opsets: dict[str, int] = {}
    for part in (f, g):
        for entry in part.opset_import:
            domain = "" if entry.domain == "ai.onnx" else entry.domain
            if opsets.setdefault(domain, entry.version) != entry.version:
                raise ModelUnsupported(
                    "(all)", domain or "ai.onnx",
                    f"{names[0]} has version {opsets[domain]} of the operators, {names[1]} {entry.version}; "
                    "export both with the same opset",
                )  # fmt: skip
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid(d, v) for d, v in sorted(opsets.items())],
        ir_version=max(f.ir_version, g.ir_version),
    )
    for part in (f, g):
        model.functions.extend(part.functions)
    return model.SerializeToString(deterministic=True)
