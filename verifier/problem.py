"""A query made concrete: the property bound to its networks, and the originals to replay on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from bounds.errors import QueryMismatch
from bounds.graph import Array, Graph
from bounds.io.onnx import Model, load
from bounds.io.session import Session
from bounds.merge import Part, Place, join
from bounds.monomials import with_products
from bounds.passes.base import Pipeline
from bounds.passes.dead import DropDead
from bounds.passes.fold import FoldMoves
from bounds.passes.fuse import FuseScale
from verifier.spec.bind import bind
from verifier.spec.model import Case, Property, Variable
from verifier.spec.polynomial import linear_cases, monomials
from verifier.verdict import Semantics


@dataclass(frozen=True, slots=True)
class _Copy:
    """One declared network: where its flat inputs and its declared outputs sit in the property's order."""

    name: str
    model: Model
    inputs: tuple[int, ...]  # start of each of the model's input ports in the flat input
    shown: tuple[str, ...]  # ONNX tensor names to show, in the property's order
    places: tuple[slice, ...]  # their places in the flat output


@dataclass(frozen=True, slots=True)
class Problem:
    """A property with its networks.

    Attributes:
        property: the property.
        models: declared name -> model, as given by the user.
        cases: the property's cases with linear rows only: products of variables are more outputs, which
            ``graph`` has after the declared ones.
        original: the joined graph as imported (for exact confirmation).
        graph: the same with these products and after the rewrites that are sound at the asked level (for
            bounding).
        dtypes: element type of every flat input, as a numpy name ("float32", "int64", ...).
    """

    property: Property
    cases: tuple[Case, ...]
    models: Mapping[str, Model]
    original: Graph
    graph: Graph
    dtypes: tuple[str, ...]
    copies: tuple[_Copy, ...]

    def replay(self, x: Array) -> list[Fraction]:
        """The property's flat outputs at ``x`` as onnxruntime computes them on the original files."""
        out: list[Fraction] = [Fraction(0)] * self.property.output_size
        for copy in self.copies:
            point = np.concatenate(
                [
                    x[start : start + _size(port.shape)]
                    for start, port in zip(copy.inputs, copy.model.graph.inputs, strict=True)
                ]
            )
            values = _session(copy).run(point)
            for place, value in zip(copy.places, values, strict=True):
                flat = np.asarray(value).reshape(-1)
                if flat.dtype.kind in "iub":
                    out[place] = [Fraction(int(v)) for v in flat]
                    continue
                if not np.all(np.isfinite(flat.astype(np.float64))):
                    # a NaN or infinite output compares with nothing: it confirms nothing
                    return []
                out[place] = [Fraction(float(v)) for v in flat]
        return out


def _size(shape: Sequence[int]) -> int:
    return int(np.prod(shape, dtype=np.int64))


Network = str | Path | Model
_SESSIONS: dict[tuple[str, tuple[str, ...]], Session] = {}


def _session(copy: _Copy) -> Session:
    """One onnxruntime session per model and shown tensors (sessions are stateless and slow to make)."""
    key = (copy.model.sha256, copy.shown)
    if key not in _SESSIONS:
        if len(_SESSIONS) > 8:
            _SESSIONS.clear()
        _SESSIONS[key] = Session(copy.model, onnx_bytes=_showing(copy.model, copy.shown))
    return _SESSIONS[key]


def _showing(model: Model, shown: tuple[str, ...]) -> bytes | None:
    """The original model with exactly these tensors as outputs; None when they are its outputs."""
    if shown == tuple(p.name for p in model.graph.outputs):
        return None
    import onnx

    proto = onnx.ModelProto()
    proto.ParseFromString(model.onnx_bytes)
    declared = {v.name: v for v in proto.graph.output}
    del proto.graph.output[:]
    proto.graph.output.extend(declared.get(n, onnx.ValueInfoProto(name=n)) for n in shown)
    return proto.SerializeToString()


def load_models(given: Network | Mapping[str, Network], prop: Property) -> dict[str, Model]:
    """Loads the model of every independent network that is not loaded; the names must be the property's."""
    names = [n.name for n in prop.networks if n.relation != "equal"]
    if not isinstance(given, Mapping):
        if len(names) != 1:
            wanted = ", ".join(f"--network {n}=MODEL" for n in names)
            raise QueryMismatch(
                f"the property speaks about {len(names)} networks, one model is given; use {wanted}"
            )
        return {names[0]: _loaded(given)}
    if len(given) == 1 and len(names) == 1 and set(given) <= {"", names[0]}:
        return {names[0]: _loaded(next(iter(given.values())))}
    if set(given) != set(names):
        raise QueryMismatch(
            f"the property declares the networks {', '.join(names)}; models were given for "
            f"{', '.join(given) or 'none'}; give exactly one model for each"
        )
    return {name: _loaded(one) for name, one in given.items()}


def _loaded(given: Network) -> Model:
    return given if isinstance(given, Model) else load(given)


def make_problem(prop: Property, models: Mapping[str, Model], semantics: Semantics) -> Problem:
    """Binds a property to its models.

    Raises:
        QueryMismatch: arity, names, shapes or element types do not fit.
    """
    bound = _bind(prop, models)
    hidden = {v.onnx for v in prop.outputs if v.kind == "hidden"}
    models = {name: model.exposing(hidden) for name, model in models.items()}
    owner = {n.name: n.same_as if n.relation == "equal" else n.name for n in prop.networks}
    parts = [Part(n.name, models[owner[n.name]].graph) for n in prop.networks]
    _check_isomorphic(prop, models)
    starts = _starts(prop.inputs)
    inputs: list[Place] = []
    dtypes: list[str] = []
    first: dict[str, dict[str, int]] = {p.name: {} for p in parts}
    for variable, start in zip(prop.inputs, starts, strict=True):
        model = models[owner[variable.network]]
        ports = {p.name: p for p in model.graph.inputs}
        offset = start
        for name in bound[variable.name]:
            port = ports[name]
            inputs.append(Place(variable.network, port.node))
            first[variable.network][name] = offset
            dtypes += [port.dtype] * _size(port.shape)
            offset += _size(port.shape)
    outputs: list[tuple[str, Place]] = []
    shown: dict[str, list[tuple[str, slice]]] = {p.name: [] for p in parts}
    for variable, start in zip(prop.outputs, _starts(prop.outputs), strict=True):
        model = models[owner[variable.network]]
        offset = start
        for name in bound[variable.name]:
            node = _node_of(model, name)
            outputs.append((variable.name, Place(variable.network, node)))
            size = model.graph.nodes[node].size
            shown[variable.network].append((name, slice(offset, offset + size)))
            offset += size
    original = join(parts, inputs, outputs)
    passes = Pipeline([FoldMoves(), FuseScale(exact_only=semantics is Semantics.FLOAT32), DropDead()])
    copies = tuple(
        _Copy(
            p.name,
            models[owner[p.name]],
            tuple(first[p.name][port.name] for port in models[owner[p.name]].graph.inputs),
            tuple(name for name, _ in shown[p.name]),
            tuple(place for _, place in shown[p.name]),
        )
        for p in parts
        if shown[p.name]
    )
    graph = passes.apply(with_products(original, monomials(prop))).graph
    return Problem(prop, linear_cases(prop), models, original, graph, tuple(dtypes), copies)


def _bind(prop: Property, models: Mapping[str, Model]) -> dict[str, tuple[str, ...]]:
    bound: dict[str, tuple[str, ...]] = {}
    for name, model in models.items():
        graph = model.graph
        hidden = [(name, shape, dtype) for name, (shape, dtype) in model.known.items()]
        bound |= bind(
            prop,
            [(p.name, p.shape, p.dtype) for p in graph.inputs],
            [(p.name, p.shape, p.dtype) for p in graph.outputs],
            network=name,
            hidden=hidden,
        )
    return bound


def _check_isomorphic(prop: Property, models: Mapping[str, Model]) -> None:
    for ref in prop.networks:
        if ref.relation != "isomorphic":
            continue
        a, b = models[ref.name].graph, models[ref.same_as].graph
        same = len(a.nodes) == len(b.nodes) and all(
            (x.op, x.inputs, x.shape) == (y.op, y.inputs, y.shape)
            for x, y in zip(a.nodes, b.nodes, strict=True)
        )
        if not same:
            raise QueryMismatch(
                f"networks {ref.name} and {ref.same_as} are declared isomorphic, but their graphs differ; "
                "give two models of the same architecture"
            )


def _starts(variables: Sequence[Variable]) -> list[int]:
    starts, total = [], 0
    for v in variables:
        starts.append(total)
        total += v.size
    return starts


def _node_of(model: Model, name: str) -> int:
    for port in model.graph.outputs:
        if port.name == name:
            return port.node
    return model.tensors[name]


def float64_box(lower: Sequence[Fraction], upper: Sequence[Fraction]) -> tuple[Array, Array]:
    """The exact box rounded outwards to float64."""
    lo = np.array([_below(v.numerator, v.denominator) for v in lower], dtype=np.float64)
    hi = np.array([-_below(-v.numerator, v.denominator) for v in upper], dtype=np.float64)
    return lo, hi


def _below(numerator: int, denominator: int) -> float:
    """The largest float64 not above a rational (to within one step when conversion overshoots).

    In whole numbers: images have thousands of ends, and a comparison of fractions makes several new ones.
    """
    try:
        near = numerator / denominator
    except OverflowError:
        return -np.inf if numerator < 0 else float(np.finfo(np.float64).max)
    n, d = near.as_integer_ratio()
    return near if n * denominator <= numerator * d else float(np.nextafter(near, -np.inf))


def exact_array(values: Any) -> Array:
    """An object array of Fractions."""
    out = np.empty(len(values), dtype=object)
    out[:] = [Fraction(v) for v in values]
    return out
