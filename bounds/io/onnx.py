"""ONNX files as graphs.

``load`` reads a model into a :class:`bounds.graph.Graph` that is the *real* function with exactly
the stored weights; operators come from one table (:mod:`bounds.io.onnx_ops`). Operators that are
not in it are reported before any work is done. Nothing here imports onnxruntime or torch.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import onnx
from google.protobuf.message import DecodeError, EncodeError

from bounds.errors import LimitExceeded, ModelInvalid, ModelUnsupported
from bounds.graph import Graph, GraphBuilder
from bounds.io.context import Call, Context
from bounds.io.limits import Limits, read_bytes, resolve
from bounds.io.onnx_ops import BUILDERS
from bounds.io.onnx_ops.constant import ELEMENT_TYPES
from bounds.io.tensors import attribute_value, constant_of, inline_external
from bounds.io.values import Value, Var
from bounds.passes.dead import drop_dead
from bounds.shapes import Shape

OLDEST_OPSET = 7
_CONTROL = "; its body is not followed, export the model unrolled for fixed shapes, without control flow"
_RANDOM = "; a random result has no bound, export the model in inference mode (model.eval())"
_DYNAMIC = "; the shape of its result depends on data, export the model with fixed shapes"
_LISTS = "; only tensors are analysed, export the model without sequences and optional values"
_TEXT = "; only numbers are analysed, move the handling of text out of the model"
_COMPLEX = "; complex numbers are not analysed, write it with real matrix products"
_ADVICE: Mapping[str, str] = {
    **dict.fromkeys(("If", "Loop", "Scan", "SequenceMap"), _CONTROL),
    **dict.fromkeys(
        (
            "Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform",
            "RandomUniformLike",
        ),
        _RANDOM,
    ),
    **dict.fromkeys(("NonMaxSuppression", "NonZero", "Unique", "Compress"), _DYNAMIC),
    **dict.fromkeys(
        (
            "ConcatFromSequence", "Optional", "OptionalGetElement", "OptionalHasElement", "SequenceAt",
            "SequenceConstruct", "SequenceEmpty", "SequenceErase", "SequenceInsert", "SequenceLength",
            "SplitToSequence",
        ),
        _LISTS,
    ),
    **dict.fromkeys(
        ("RegexFullMatch", "StringConcat", "StringNormalizer", "StringSplit", "TfIdfVectorizer"), _TEXT
    ),
    **dict.fromkeys(("DFT", "STFT"), _COMPLEX),
}  # fmt: skip
_DOMAINS = ("", "ai.onnx")


@dataclass(frozen=True, slots=True)
class Model:
    """A network read from a file.

    Attributes:
        graph: the network, lowered to primitives.
        onnx_bytes: the self-contained model (decompressed, external tensors stored inside).
        sha256: hex digest of the decompressed file, followed by its external tensors if there are any.
        path: where it was read from, as the user named it.
        tensors: ONNX tensor name -> id of the graph's node with that value (aliases included).
        known: shape and element type of every tensor that depends on the input, by name; tensors inside of
            what became one function have no node in ``graph`` (see :meth:`exposing`).
    """

    graph: Graph
    onnx_bytes: bytes
    sha256: str
    path: str
    tensors: Mapping[str, int]
    known: Mapping[str, tuple[Shape, str]]
    _whole: tuple[Graph, Mapping[str, int]]  # with the nodes of every tensor

    def exposing(self, names: Iterable[str]) -> Model:
        """The same model, in which the named tensors (all of them ``known``) have nodes."""
        graph, tensors = self._whole
        wanted = [name for name in names if name in self.known]
        if all(name in self.tensors for name in wanted):
            return self
        slim, kept = drop_dead(graph, [tensors[name] for name in wanted])
        return replace(self, graph=slim, tensors=_renamed(tensors, kept))


@dataclass(frozen=True, slots=True)
class Description:
    """What ``inspect`` shows of a file, also of one that is not supported."""

    opset: int
    producer: str
    inputs: tuple[tuple[str, str, str], ...]
    outputs: tuple[tuple[str, str, str], ...]
    operators: Mapping[str, int]
    parameters: int
    unsupported: tuple[tuple[str, str], ...]


def load(path: str | Path, *, limits: Limits | None = None) -> Model:
    """Reads an ONNX file (``.gz`` accepted; ``x.onnx`` also finds ``x.onnx.gz``).

    Raises:
        BadInput: the file cannot be read.
        LimitExceeded: it is larger than ``limits`` allow.
        ModelInvalid: it is malformed, has dynamic shapes, or NaN or infinite weights.
        ModelUnsupported: it uses an operator, or a form of one, that is not analysed.
    """
    limits = limits or Limits()
    return load_bytes(read_bytes(path, limits), str(path), limits=limits, directory=resolve(path).parent)


def load_bytes(
    data: bytes, path: str, *, limits: Limits | None = None, directory: Path | None = None
) -> Model:
    """As :func:`load`, from bytes; ``directory`` is where external tensors may lie (None: nowhere)."""
    limits = limits or Limits()
    proto = _parse(data, path, limits)
    digest = hashlib.sha256(data)
    blobs = inline_external(proto.graph, directory, path, limits)
    for blob in blobs:
        digest.update(blob)
    if blobs:
        data = _serialise(proto, path)
    opset = _opset(proto, path)
    live = _live_nodes(proto.graph)
    _refuse_unsupported(_unsupported(live), path)
    importer = _Importer(proto.graph, opset, path, limits)
    whole = importer.run(live)
    graph, kept = drop_dead(whole)
    known = {name: (importer.values[name].shape, importer.values[name].dtype) for name in importer.tensors}
    return Model(
        graph,
        data,
        digest.hexdigest(),
        path,
        _renamed(importer.tensors, kept),
        MappingProxyType(known),
        (whole, MappingProxyType(importer.tensors)),
    )


def _renamed(tensors: Mapping[str, int], kept: Mapping[int, int]) -> Mapping[str, int]:
    return MappingProxyType({name: kept[k] for name, k in tensors.items() if k in kept})


def unsupported(path: str | Path, *, limits: Limits | None = None) -> list[tuple[str, str]]:
    """The (operator, node name) pairs of a file that have no builder."""
    limits = limits or Limits()
    return _unsupported(_live_nodes(_parse(read_bytes(path, limits), str(path), limits).graph))


def describe(path: str | Path, *, limits: Limits | None = None) -> Description:
    """Summarises a file without analysing it."""
    limits = limits or Limits()
    proto = _parse(read_bytes(path, limits), str(path), limits)
    graph = proto.graph
    stored = {t.name for t in graph.initializer}
    sizes = [_product(t.dims) for t in graph.initializer]
    return Description(
        opset=max((o.version for o in proto.opset_import if o.domain in _DOMAINS), default=0),
        producer=f"{proto.producer_name} {proto.producer_version}".strip(),
        inputs=tuple(_signature(v) for v in graph.input if v.name not in stored),
        outputs=tuple(_signature(v) for v in graph.output),
        operators=dict(Counter(n.op_type for n in graph.node).most_common()),
        parameters=sum(sizes),
        unsupported=tuple(_unsupported(_live_nodes(graph))),
    )


def _product(dims: Sequence[int]) -> int:
    size = 1
    for d in dims:
        size *= d
    return size


def _signature(info: onnx.ValueInfoProto) -> tuple[str, str, str]:
    kind = info.type.tensor_type
    dims = [str(d.dim_value) if d.HasField("dim_value") else d.dim_param or "?" for d in kind.shape.dim]
    return info.name, "x".join(dims) or "scalar", ELEMENT_TYPES.get(kind.elem_type, str(kind.elem_type))


def _parse(data: bytes, path: str, limits: Limits) -> onnx.ModelProto:
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
    except DecodeError:
        raise ModelInvalid(
            f"{path}: not an ONNX file (protobuf cannot be decoded); check or export it again"
        ) from None
    if not proto.graph.output or not (proto.graph.node or proto.graph.input):
        raise ModelInvalid(f"{path}: not an ONNX model (no graph with outputs); check or export it again")
    if len(proto.graph.node) > limits.nodes:
        raise LimitExceeded(
            f"{path}: {len(proto.graph.node)} nodes exceed the limit of {limits.nodes}; raise the limit"
        )
    if proto.graph.sparse_initializer:
        raise ModelInvalid(
            f"{path}: sparse initializers are not supported; store the weights as dense tensors"
        )
    if not all(isinstance(name, str) and name.isprintable() for name in _names(proto)):
        raise ModelInvalid(f"{path}: a name is not printable text; check or export the model again")
    return proto


def _names(proto: onnx.ModelProto) -> Iterator[object]:
    """Every name in the file; protobuf hands out bytes where they are not UTF-8."""
    graph = proto.graph
    for info in (*graph.input, *graph.output):
        yield info.name
        yield from (dim.dim_param for dim in info.type.tensor_type.shape.dim)
    yield from (tensor.name for tensor in graph.initializer)
    yield from (opset.domain for opset in proto.opset_import)
    for node in graph.node:
        yield from (node.name, node.op_type, node.domain, *node.input, *node.output)
        yield from (attribute.name for attribute in node.attribute)


def _serialise(proto: onnx.ModelProto, path: str) -> bytes:
    try:
        return proto.SerializeToString()
    except (EncodeError, ValueError):
        raise LimitExceeded(
            f"{path}: with its external data over the 2 GiB of one ONNX message; use a smaller model"
        ) from None


def _opset(proto: onnx.ModelProto, path: str) -> int:
    versions = [o.version for o in proto.opset_import if o.domain in _DOMAINS]
    newest = onnx.defs.onnx_opset_version()
    if not versions or not OLDEST_OPSET <= versions[0] <= newest:
        raise ModelInvalid(
            f"{path}: opset {versions[0] if versions else 'missing'} is outside {OLDEST_OPSET}..{newest}; "
            "convert it with onnx.version_converter"
        )
    return versions[0]


def _live_nodes(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """The nodes that outputs depend on, in file order (which ONNX requires to be topological)."""
    wanted = {v.name for v in graph.output}
    live: list[onnx.NodeProto] = []
    for node in reversed(graph.node):
        if any(name in wanted for name in node.output if name):
            live.append(node)
            wanted.update(node.input)
    return live[::-1]


def _unsupported(nodes: Sequence[onnx.NodeProto]) -> list[tuple[str, str]]:
    return [
        (n.op_type if n.domain in _DOMAINS else f"{n.domain}.{n.op_type}", _name(n))
        for n in nodes
        if n.domain not in _DOMAINS or n.op_type not in BUILDERS
    ]


def _refuse_unsupported(found: Sequence[tuple[str, str]], path: str) -> None:
    if not found:
        return
    operators = sorted({op for op, _ in found})
    others = f" (in all: {', '.join(operators)})" if len(operators) > 1 else ""
    advice = _ADVICE.get(found[0][0], ", replace it or remove it")
    if "." in found[0][0]:
        advice = "; it is of a custom domain, export with the standard operators of ONNX only"
    detail = f"not analysed{others}; `verify inspect {path}` lists what is{advice}"
    raise ModelUnsupported(found[0][0], found[0][1], detail)


def _name(node: onnx.NodeProto) -> str:
    return node.name or next((name for name in node.output if name), node.op_type)


class _Importer:
    """Walks the live nodes once and hands each to its builder."""

    def __init__(self, graph: onnx.GraphProto, opset: int, path: str, limits: Limits) -> None:
        self.proto, self.opset, self.path, self.limits = graph, opset, path, limits
        self.stored = {t.name: t for t in graph.initializer}
        self.context = Context(GraphBuilder(), limits)
        self.values: dict[str, Value] = {}
        self.tensors: dict[str, int] = {}
        self.reads: Counter[str] = Counter()  # how often a tensor is read, the model's outputs included

    def run(self, live: Sequence[onnx.NodeProto]) -> Graph:
        """Returns the graph with the nodes of all values, also of those that no output depends on."""
        builder = self.context.builder
        for info in self.proto.input:
            if info.name not in self.stored:
                self._input(info)
        if not builder.nodes:
            raise ModelInvalid(
                f"{self.path}: the model has no inputs; nothing can be verified about a constant"
            )
        self.reads.update(name for node in live for name in node.input)
        self.reads.update(info.name for info in self.proto.output)
        for node in live:
            self._node(node)
        for info in self.proto.output:
            self.context.source = info.name
            value = self.context.variable(self._lookup(info.name, f"output '{info.name}'"))
            if value.masked is not None or value.node in self.context.nan_tests:
                raise ModelUnsupported(
                    "Output", info.name, "is minus infinity in places, or a test for NaN; remove this output"
                )
            builder.output(info.name, value.node, value.dtype)
        return builder.build()

    def _input(self, info: onnx.ValueInfoProto) -> None:
        where = f"{self.path}: input '{info.name}'"
        kind = info.type.tensor_type
        dtype = ELEMENT_TYPES.get(kind.elem_type, str(kind.elem_type))
        if not info.type.HasField("tensor_type") or not kind.HasField("shape"):
            raise ModelInvalid(f"{where}: has no tensor shape; export with fixed shapes")
        if dtype not in ("float32", "float64"):
            raise ModelUnsupported(
                "Input", info.name, f"element type {dtype}; export with float32 or float64 inputs"
            )
        shape: list[int] = []
        for i, dim in enumerate(kind.shape.dim):
            if dim.dim_value > 0:
                shape.append(dim.dim_value)
            elif i == 0:  # a free batch axis: one point at a time
                shape.append(1)
            else:
                label = dim.dim_param or "unnamed"
                raise ModelInvalid(f"{where}: dimension {i} ('{label}') is dynamic; export with fixed shapes")
        if info.name in self.values:
            raise ModelInvalid(f"{where}: is declared twice; export the model again")
        self.context.source = info.name
        node = self.context.builder.input(info.name, self.context.guard(shape), dtype)
        self.values[info.name] = Var(node, tuple(shape), dtype)
        self.tensors[info.name] = node

    def _lookup(self, name: str, where: str) -> Value:
        value = self.values.get(name)
        if value is None:
            if name not in self.stored:
                raise ModelInvalid(
                    f"{self.path}: {where} uses tensor '{name}' before it is computed; export the model again"
                )
            value = constant_of(self.stored[name], f"{self.path}: tensor '{name}'", self.limits)
            self.values[name] = value
        return value

    def _node(self, node: onnx.NodeProto) -> None:
        name = _name(node)
        where = f"node '{name}' ({node.op_type})"
        call = Call(
            op_type=node.op_type,
            name=name,
            opset=self.opset,
            inputs=tuple(self._lookup(i, where) if i else None for i in node.input),
            attributes={
                a.name: attribute_value(a, f"{self.path}: {where}", self.limits) for a in node.attribute
            },
            outputs=tuple(node.output),
        )
        self.context.source, self.context.operator = name, node.op_type
        self.context.lone = frozenset(
            v.node
            for i, v in zip(node.input, call.inputs, strict=True)
            if isinstance(v, Var) and self.reads[i] == 1
        )
        start = len(self.context.builder.nodes)
        try:
            results = BUILDERS[node.op_type](self.context, call)
        except (ValueError, IndexError, KeyError, TypeError, ArithmeticError, AttributeError) as error:
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            raise ModelInvalid(f"{self.path}: {where}: {reason}; check or export the model again") from None
        if any(node.output[len(results) :]):
            raise ModelUnsupported(
                node.op_type, name, f"only its first {len(results)} outputs are analysed; remove the others"
            )
        for tensor, value in zip(node.output, results, strict=False):
            if tensor:
                self._bind(tensor, value, start)

    def _bind(self, tensor: str, value: Value, start: int) -> None:
        if tensor in self.values or tensor in self.stored:
            raise ModelInvalid(f"{self.path}: tensor '{tensor}' is computed twice; export the model again")
        self.values[tensor] = value
        if isinstance(value, Var) and value.masked is None:
            self.tensors[tensor] = value.node
            nodes = self.context.builder.nodes
            if value.node >= start and not nodes[value.node].tensor:
                nodes[value.node] = replace(nodes[value.node], tensor=tensor)
