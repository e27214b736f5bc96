"""Witnesses, re-evaluated: by onnxruntime, or over the reals."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import onnx

from bounds.errors import CertificateRejected, ModelInvalid
from verifier.check.arithmetic import Arithmetic, float_above, float_below
from verifier.check.bounds import Bounder
from verifier.check.evidence import property_rows
from verifier.check.functions import rational
from verifier.check.importer import parse
from verifier.check.network import Array, Kind, Network
from verifier.check.reader import Certificate, reject
from verifier.spec.check_point import inside
from verifier.spec.model import Property, Row
from verifier.spec.polynomial import linear_cases
from verifier.verdict import Semantics

_EXACT_WORK = 200_000  # multiplications of one forward evaluation that Fractions are used for
_NUMBER = frozenset("0123456789-/")


def check_witness(
    certificate: Certificate, prop: Property, models: Mapping[str, bytes], network: Callable[[], Network]
) -> str:
    """Re-evaluates the witness; returns a remark. Raises CertificateRejected."""
    witness = certificate.witness
    if set(witness) != {"x", "y", "case", "disjunct", "kind", "versions"}:
        reject("witness", "fields are missing or unknown")
    x, y = _numbers(witness["x"], prop.input_size), _numbers(witness["y"], prop.output_size)
    c, d = witness["case"], witness["disjunct"]
    if type(c) is not int or type(d) is not int or not 0 <= c < len(prop.cases):
        reject("witness", "names no case")
    case = prop.cases[c]
    if not 0 <= d < len(case.disjuncts):
        reject("witness", "names no disjunct")
    if not inside(case, x):
        reject("witness", "lies outside the property's input set")
    rows = case.disjuncts[d]
    if witness["kind"] == "replayed":
        again = replay(models, prop, x)
        xs, ys = dict(enumerate(x)), dict(enumerate(again))
        if not all(row.holds(row.value(xs, ys)) for row in rows):
            reject("witness", "onnxruntime's outputs do not violate the property here")
        return "" if again == y else "the stored outputs differ from onnxruntime's here; these violate it too"
    if witness["kind"] != "rigorous" or certificate.semantics is not Semantics.REAL:
        reject("witness", f"kind {witness['kind']!r} proves nothing at level {certificate.semantics.value}")
    _prove_point(network(), linear_cases(prop)[c].disjuncts[d], x)
    return ""


def _numbers(stored: Any, count: int) -> list[Fraction]:
    if not isinstance(stored, list) or len(stored) != count:
        reject("witness", f"does not list {count} numbers")
    numbers: list[Fraction] = []
    for text in stored:
        if not isinstance(text, str) or not set(text) <= _NUMBER:
            reject("witness", f"{text!r} is no exact number")
        try:
            numbers.append(Fraction(text))
        except (ValueError, ZeroDivisionError):
            reject("witness", f"{text!r} is no exact number")
    return numbers


def _prove_point(network: Network, rows: Sequence[Row], x: Sequence[Fraction]) -> None:
    """``-expr >= 0`` (``> 0`` if strict) at the one point, by the bounding rule on a box without width."""
    work = sum(m.inputs * m.roundings for node in network.nodes for _, chain in node.terms for m in chain)
    exact = work <= _EXACT_WORK and all(rational(network.nodes[i].function) for i in network.of(Kind.SCALAR))
    to = Arithmetic(exact)
    bounder = Bounder(network, to, float32=False, forward=False)
    ends = [np.array([list(x)], object)] * 2
    if not to.exact:
        ends = [np.array([[f(v) for v in x]]) for f in (float_below, float_above)]
    with np.errstate(all="ignore"):
        state = bounder.run(ends[0], ends[1])
        opposite = [
            Row({i: -v for i, v in r.outputs.items()}, {i: -v for i, v in r.inputs.items()}, -r.constant)
            for r in rows
        ]
        box = np.zeros(len(rows), np.int64)
        packed = property_rows(bounder, opposite, box, state.mag)
        direct = bounder.direct(state, packed)
        found = np.maximum(bounder.minimum(state, packed, None), direct)
    for row, least in zip(rows, found.tolist(), strict=True):
        if not (least > 0 if row.strict else least >= 0):
            reject("witness", "a row is not proved to hold at the witness over the reals")


def replay(models: Mapping[str, bytes], prop: Property, x: Sequence[Fraction]) -> list[Fraction]:
    """The property's hidden and output variables as onnxruntime on the CPU computes them, exactly."""
    results: dict[str, dict[str, Array]] = {}
    ports: dict[str, list[Fraction]] = {}
    alone = len(prop.networks) == 1
    for ref in prop.networks:
        point: list[Fraction] = []
        offset = 0
        for v in prop.inputs:
            point += x[offset : offset + v.size] if alone or v.network == ref.name else []
            offset += v.size
        hidden = [v.onnx for v in prop.outputs if v.kind == "hidden" and (alone or v.network == ref.name)]
        results[ref.name], names = _run(models[ref.name], point, hidden)
        ports[ref.name] = [e for name in names for e in _fractions(results[ref.name][name])]
    found: list[Fraction] = []
    for v in prop.outputs:
        name = prop.networks[0].name if alone else v.network
        if v.kind == "hidden":
            values = _fractions(results[name][v.onnx])
        else:
            values, ports[name] = ports[name][: v.size], ports[name][v.size :]
        found += values
    if len(found) != prop.output_size or any(ports.values()):
        reject("witness", "the model's outputs are not those that the property declares")
    return found


def _fractions(a: Array) -> list[Fraction]:
    if not np.isfinite(a).all():
        reject("witness", "onnxruntime's outputs are not finite")
    return [Fraction(float(v)) for v in a.reshape(-1)]


def _run(data: bytes, point: Sequence[Fraction], hidden: Sequence[str]) -> tuple[dict[str, Array], list[str]]:
    import onnxruntime

    model = parse(data)
    names = [o.name for o in model.graph.output]
    extra = [onnx.ValueInfoProto(name=h) for h in dict.fromkeys(hidden) if h not in names]
    model.graph.output.extend(extra)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    try:
        whole = model.SerializeToString() if extra else data
        session = onnxruntime.InferenceSession(whole, options, providers=["CPUExecutionProvider"])
        feeds: dict[str, Array] = {}
        for port in session.get_inputs():
            shape = [n if isinstance(n, int) and n > 0 else 1 for n in port.shape]
            size = math.prod(shape)
            dtype = {"tensor(float)": np.float32, "tensor(double)": np.float64}.get(port.type)
            if dtype is None or len(point) < size:
                raise ModelInvalid(
                    f"input '{port.name}' is no float tensor, or has more elements than the property"
                )
            values = np.array([float(v) for v in point[:size]], dtype)
            if any(Fraction(float(v)) != w for v, w in zip(values, point, strict=False)):
                reject("witness", "cannot be represented in the model's input type")
            feeds[port.name], point = values.reshape(shape), point[size:]
        outputs = session.run(None, feeds)
    except (CertificateRejected, ModelInvalid):
        raise
    except Exception as error:  # onnxruntime raises its own classes, derived from Exception alone
        raise ModelInvalid(f"onnxruntime cannot run the model ({str(error)[:200]}); check the file") from None
    if point:
        reject("witness", "has more numbers than the model has inputs")
    arrays = [np.asarray(v) for v in outputs]
    return dict(zip([*names, *(e.name for e in extra)], arrays, strict=True)), names
