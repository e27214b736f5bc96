"""The claims of a certificate: evidence rows re-proved, and witnesses re-evaluated."""

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
from verifier.check.functions import rational
from verifier.check.importer import parse
from verifier.check.network import Array, Kind, Network
from verifier.check.nonlinear import SLOPE_UNIT
from verifier.check.reader import Certificate, reject
from verifier.check.state import Choices, Marks, Rows
from verifier.check.tree import Tree
from verifier.spec.check_point import inside
from verifier.spec.model import Case, Property, Row
from verifier.spec.polynomial import linear_cases
from verifier.verdict import Semantics

_BLOCK_ELEMENTS = 1 << 20
_MOST_BOXES = 128
_EXACT_WORK = 200_000  # multiplications of one forward evaluation that Fractions are used for
_NUMBER = frozenset("0123456789-/")


# ------------------------------------------------------------------ evidence
def validate(arrays: Mapping[str, Array], cases: Sequence[Case], tree: Tree) -> None:
    """Ranges and order of the evidence arrays; raises CertificateRejected."""
    node, box = arrays["ev_node"], arrays["box_node"]
    if np.any(node[1:] < node[:-1]) or np.any(node < 0) or np.any(node >= tree.size):
        reject("evidence", "ev_node is not ascending, or names no node")
    if not np.array_equal(np.unique(node), box):
        reject("evidence", "box_node is not the list of the nodes of ev_node")
    tops = {"ev_exact": 1, "ev_slopes": SLOPE_UNIT, "ev_mixes": SLOPE_UNIT, "box_mixes": SLOPE_UNIT}
    if any(np.any(arrays[k] > top) for k, top in tops.items()):
        reject("evidence", f"one of {', '.join(tops)} is out of range")
    for k in range(0, len(box), 1 << 16):  # blocks, as boxes() works out whole boxes
        part = box[k : k + (1 << 16)]
        case = _root_of(tree, part)
        if np.any(tree.empty[case]):
            reject("evidence", "evidence about an empty case")
        rows = slice(*np.searchsorted(node, [part[0], part[-1] + 1]))
        of = case[np.searchsorted(part, node[rows])]
        for c, d, r in zip(
            of.tolist(), arrays["ev_disjunct"][rows].tolist(), arrays["ev_row"][rows].tolist(), strict=True
        ):
            if not 0 <= d < len(cases[c].disjuncts) or not 0 <= r < len(cases[c].disjuncts[d]):
                reject("evidence", f"case {c} has no row {r} in disjunct {d}")


def _root_of(tree: Tree, nodes: Array) -> Array:
    root = nodes.astype(np.int64)
    while np.any(root >= tree.roots):
        root = np.where(root >= tree.roots, tree.parent[root], root)
    return root


def prove(
    network: Network,
    certificate: Certificate,
    cases: Sequence[Case],
    tree: Tree,
    progress: Callable[[int, int], None] | None,
) -> None:
    """Re-proves all evidence (cases are linear); raises CertificateRejected where one does not hold."""
    arrays = certificate.arrays
    float32 = certificate.semantics is Semantics.FLOAT32
    ball = cases[0].ball if len(cases) == 1 else None
    ev_node = arrays["ev_node"]
    inputs = network.nodes[0].size if certificate.forward else 0
    total = sum(node.size for node in network.nodes) * (1 + inputs)
    step = max(1, min(_MOST_BOXES, _BLOCK_ELEMENTS // max(1, total)))
    for exact in (False, True):
        bounder: Bounder | None = None
        wanted = (arrays["ev_exact"] == 1) == exact
        boxes = np.unique(ev_node[wanted])
        for k in range(0, len(boxes), step):
            bounder = bounder or Bounder(
                network, Arithmetic(exact), float32=float32, forward=certificate.forward, ball=ball
            )
            nodes = boxes[k : k + step]
            span = slice(*np.searchsorted(ev_node, [nodes[0], nodes[-1] + 1]))
            evidence = np.arange(span.start, span.stop)[wanted[span]]
            with np.errstate(all="ignore"):
                _prove_block(bounder, arrays, cases, tree, (nodes, evidence))
            if progress is not None:
                progress(min(k + step, len(boxes)), len(boxes))


def _prove_block(
    bounder: Bounder,
    arrays: Mapping[str, Array],
    cases: Sequence[Case],
    tree: Tree,
    block: tuple[Array, Array],
) -> None:
    nodes, evidence = block
    to = bounder.arithmetic
    low, high, case = tree.boxes(nodes)
    low, high = to.array(low), to.array(high)
    if to.exact:
        low, high = _exact_boxes(low, high, [cases[c] for c in case.tolist()])
    which = np.searchsorted(arrays["box_node"], nodes)
    choice, marks = _box_choices(bounder, arrays, which)
    state = bounder.run(low, high, choice, marks)
    box = np.searchsorted(nodes, arrays["ev_node"][evidence])
    picks = zip(
        case[box].tolist(),
        arrays["ev_disjunct"][evidence].tolist(),
        arrays["ev_row"][evidence].tolist(),
        strict=True,
    )
    rows = [cases[c].disjuncts[d][r] for c, d, r in picks]
    lines = Choices(arrays["ev_slopes"], arrays["ev_lines"], arrays["ev_mixes"])
    for part in bounder.chunks(len(rows), 1):
        packed = property_rows(bounder, rows[part], box[part], state.mag)
        direct = bounder.direct(state, packed)
        found = np.maximum(bounder.minimum(state, packed, lines[evidence[part]]), direct)
        strict = np.array([row.strict for row in rows[part]], bool)
        proved = np.where(strict, found >= 0, found > 0).astype(bool)  # a NaN is not proved
        if not proved.all():
            first = int(np.flatnonzero(~proved)[0])
            e = int(evidence[part][first])
            reject(
                "bound", f"evidence {e} at node {arrays['ev_node'][e]}: {float(found[first])} is not positive"
            )


def _box_choices(bounder: Bounder, arrays: Mapping[str, Array], which: Array) -> tuple[Choices, Marks]:
    """The stored choices for some of the boxes, and what step 3 of the rule bounds there."""
    totals = bounder.layout.total
    neurons, scalars, operands = totals[Kind.RELU], totals[Kind.SCALAR], 2 * totals[Kind.PRODUCT]

    def bits(name: str, count: int) -> Array:
        return np.unpackbits(arrays[name][which], axis=1, count=count, bitorder="little")

    slopes = bits("box_slopes", neurons) * np.uint8(SLOPE_UNIT)
    return (
        Choices(slopes, arrays["box_lines"][which], arrays["box_mixes"][which]),
        Marks(
            bits("box_refined", neurons),
            bits("box_refined_scalars", scalars),
            bits("box_refined_products", operands),
        ),
    )


def _exact_boxes(low: Array, high: Array, cases: Sequence[Case]) -> tuple[Array, Array]:
    """Boxes cut down to their cases' exact ones; where that leaves nothing, the side stays (still sound)."""
    most = np.maximum(low, np.array([c.lower for c in cases], object).reshape(low.shape))
    least = np.minimum(high, np.array([c.upper for c in cases], object).reshape(high.shape))
    empty = (most > least).astype(bool)
    return np.where(empty, low, most), np.where(empty, high, least)


def property_rows(bounder: Bounder, rows: Sequence[Row], box: Array, mag: Sequence[Array]) -> Rows:
    """Rows of the property in the bounder's arithmetic; what rounding a coefficient changes is charged."""
    to, network = bounder.arithmetic, bounder.network
    ends = (network.output, 0)
    sizes = [network.nodes[i].size for i in ends]
    packed = [np.zeros((len(rows), n), to.dtype) for n in (*sizes, 1)]
    error = np.zeros(len(rows), to.dtype)
    members: dict[int, list[int]] = {}
    for r, row in enumerate(rows):
        members.setdefault(id(row), []).append(r)
    for same in members.values():
        row = rows[same[0]]
        if row.products:
            reject("bound", "a polynomial row reached the linear bounds")
        for k, coefficients in enumerate((row.outputs, row.inputs, {0: row.constant})):
            for i, c in coefficients.items():
                value, off = _rounded(to, c)
                packed[k][same, i] = value
                if off:
                    most = mag[ends[k]][box[same], i] if k < 2 else np.ones(len(same))
                    error[same] += (off * most + to.tiny) * (1 + 2 * to.u)
    parts = {network.output: packed[0], 0: packed[1]}
    if network.output == 0:
        parts = {0: packed[0] + packed[1]}
        error = error + to.gamma(0) * (np.abs(parts[0]) * mag[0][box]).sum(axis=1) + to.tiny
    return Rows(parts, packed[2][:, 0], error, np.asarray(box))


def _rounded(to: Arithmetic, exact: Fraction) -> tuple[Any, Any]:
    """A number of this arithmetic near ``exact``, and a bound on the difference."""
    if to.exact:
        return exact, 0
    try:
        value = float(exact)
    except OverflowError:
        reject("bound", "a coefficient of the property is beyond float64")
    return value, float_above(abs(Fraction(value) - exact))


# ------------------------------------------------------------------ witnesses
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
