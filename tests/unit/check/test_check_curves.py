"""Certificates about functions and products: hand-made evidence, and what no evidence can prove."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import checker_nets as nets
import numpy as np
import onnx
import pytest

from bounds.errors import CertificateInvalid, CertificateRejected, ModelInvalid
from verifier.check.bounds import Bounder
from verifier.check.importer import combine
from verifier.check.main import check, check_parsed
from verifier.check.network import Kind
from verifier.check.reader import read
from verifier.spec.model import Power, Property, Row

N = nets.helper.make_node
REFUSED = (CertificateInvalid, CertificateRejected)
Array = np.ndarray


def claim(
    data: bytes,
    prop: Property,
    seed: int = 0,
    *,
    rows: Any = ((0, 0),),
    chords: bool = True,
    exact: bool = False,
) -> tuple[dict[str, Any], dict[str, Array]]:
    """A certificate that says: nothing is split, these (disjunct, row) are refuted. Lines are chords
    (of intervals found without them), or random ones."""
    network, rng = combine({"": data}, prop), np.random.default_rng(seed)
    e = len(rows)
    own, chosen = nets.choices(network, rng, 1, bits=True), nets.choices(network, rng, e)
    lines = chord_lines(network, prop) if chords else None
    marks = nets.everything(network, 1)
    arrays = {
        "node_dim": np.int32([-1]),
        "node_at": np.zeros(1),
        "node_left": np.int32([-1]),
        "ev_node": np.zeros(e, np.int32),
        "ev_disjunct": np.int32([d for d, _ in rows]),
        "ev_row": np.int32([r for _, r in rows]),
        "ev_exact": np.full(e, exact, np.uint8),
        "ev_slopes": chosen.slopes,
        "ev_lines": chosen.lines if lines is None else np.repeat(lines, e, axis=0),
        "ev_mixes": chosen.mixes,
        "box_node": np.int32([0]),
        "box_slopes": np.packbits(own.slopes // 128, axis=1, bitorder="little"),
        "box_lines": own.lines if lines is None else lines,
        "box_mixes": own.mixes,
        "box_refined": np.packbits(marks.rectifiers, axis=1, bitorder="little"),
        "box_refined_scalars": np.packbits(marks.scalars, axis=1, bitorder="little"),
        "box_refined_products": np.packbits(marks.products, axis=1, bitorder="little"),
    }
    return nets.document(data, prop, network), nets.upgraded(arrays)


@np.errstate(all="ignore")
def chord_lines(network: Any, prop: Property) -> Array:
    """Slopes of the chords, over intervals by interval arithmetic: (1, 2 M)."""
    from verifier.check.arithmetic import Arithmetic

    case, bounder = prop.cases[0], Bounder(network, Arithmetic(False), float32=False, forward=False)
    low, high = (np.array([[float(v) for v in side]]) for side in (case.lower, case.upper))
    state = bounder.run(low, high)
    slopes = [np.zeros(0)]
    for i in network.of(Kind.SCALAR):
        relaxed = state.relaxed[i]
        ends = [nets.plain_value(network.nodes[i].function, v[0]) for v in (relaxed.low, relaxed.high)]
        gap = relaxed.high[0] - relaxed.low[0]
        slopes.append(np.nan_to_num((ends[1] - ends[0]) / np.where(gap > 0, gap, 1.0)))
    flat = np.concatenate(slopes).astype(np.float32)
    flat[~np.isfinite(flat)] = 0
    return np.concatenate([flat, flat])[None]


def verdict(path: Path, made: tuple[Any, Any], data: bytes, prop: Property, **changes: Any) -> str:
    doc, arrays = made
    return check_parsed(read(nets.write(path / "c", {**doc, **changes}, arrays)), {"": data}, prop).verdict


def property_of(low: Any, high: Any, *disjuncts: list[Row], outputs: int = 1) -> Property:
    return nets.make_property(len(low), outputs, [nets.box_case(low, high, *disjuncts)])


def network_of(*nodes: Any, shape: Any = (1, 2), **weights: Any) -> bytes:
    return nets.model(nodes, weights, list(shape))


SPLIT = N("Split", ["x"], ["a", "b"], axis=1)
SOFTMAX = network_of(N("Softmax", ["x"], ["y"], axis=1), shape=(1, 3))
# name -> network, box, a lower bound of the first output that is true, and one that just is not
CLAIMS: dict[str, tuple[bytes, list[Any], list[Any], float, float]] = {
    "sigmoid": (network_of(N("Sigmoid", ["x"], ["y"]), shape=(1, 1)), [-1], [2], 0.268, 0.26895),
    "square": (network_of(N("Mul", ["x", "x"], ["y"]), shape=(1, 1)), [-1], [2], -1.3, 1e-9),
    "product": (network_of(SPLIT, N("Mul", ["a", "b"], ["y"])), [-1, 1], [2, 3], -4.2, -2.9999),
    "gelu": (nets.model([N("Gelu", ["x"], ["y"])], {}, [1, 1], opset=20), [-3], [1], -0.8, -0.1699),
    "softmax": (SOFTMAX, [0, 0, 0], [1, 1, 1], 0.02, 0.15537),
    "quotient": (network_of(SPLIT, N("Div", ["a", "b"], ["y"])), [1, 2], [2, 4], 0.05, 0.25001),
    "staircase": (network_of(N("Floor", ["x"], ["y"]), shape=(1, 1)), [-0.5], [3.5], -1.6, -0.999),
    "two layers": (
        network_of(
            N("Tanh", ["x"], ["t"]), N("MatMul", ["t", "w"], ["z"]), N("Exp", ["z"], ["y"]),
            w=np.float32([[1], [-1]]),
        ),
        [-0.1, -0.1], [0.1, 0.1], 0.78, 0.8193,
    ),
}  # fmt: skip


OUTPUTS = {"softmax": 3}


def at_least(bound: float, **more: Any) -> list[Row]:
    """The unsafe condition ``y <= bound``."""
    return [nets.row({0: 1}, -Fraction(bound), **more)]


@pytest.mark.parametrize("name", CLAIMS)
@pytest.mark.parametrize("changes", [{}, {"forward": True}, {"semantics": "float32"}], ids=str)
def test_evidence_by_chords_is_accepted(name: str, changes: Any, tmp_path: Path) -> None:
    data, low, high, true, _ = CLAIMS[name]
    prop = property_of(low, high, at_least(true), outputs=OUTPUTS.get(name, 1))
    if name == "softmax" and changes.get("semantics"):
        with pytest.raises(CertificateRejected, match="bound"):
            verdict(tmp_path, claim(data, prop), data, prop, **changes)
        return
    assert verdict(tmp_path, claim(data, prop), data, prop, **changes) == "unsat"
    assert verdict(tmp_path, claim(data, prop, exact=True), data, prop, **changes) == "unsat"


@pytest.mark.parametrize("name", CLAIMS)
def test_no_choice_proves_what_is_false(name: str, tmp_path: Path) -> None:
    data, low, high, _, false = CLAIMS[name]
    prop = property_of(low, high, at_least(false), outputs=OUTPUTS.get(name, 1))
    for seed in range(24):
        made = claim(data, prop, seed, chords=seed % 3 == 0, exact=seed % 4 == 3)
        made[1]["ev_lines"] *= np.float32(10.0 ** (seed % 5 - 2))
        with pytest.raises(CertificateRejected, match=r"bound|exact"):
            verdict(tmp_path, made, data, prop, forward=bool(seed % 2))


def test_slopes_far_off_prove_nothing_or_the_truth(tmp_path: Path) -> None:
    data, low, high, true, false = CLAIMS["two layers"]
    for value in (np.float32(3e38), np.float32(-3e38), np.float32(1e-40)):
        for bound in (true - 0.1, false):  # the first follows from intervals alone
            prop = property_of(low, high, at_least(bound))
            made = claim(data, prop)
            made[1]["ev_lines"][:] = made[1]["box_lines"][:] = value
            if bound < true:
                assert verdict(tmp_path, made, data, prop) == "unsat"
                continue
            with pytest.raises(CertificateRejected, match="bound"):
                verdict(tmp_path, made, data, prop)


def test_altered_arrays_are_refused(tmp_path: Path) -> None:
    nodes = [SPLIT, N("Sigmoid", ["a"], ["s"]), N("Mul", ["s", "b"], ["y"])]
    data = network_of(*nodes)
    prop = property_of([0, 1], [1, 2], at_least(0.1))
    good = claim(data, prop)
    assert verdict(tmp_path, good, data, prop) == "unsat"
    changes: list[tuple[str, Any]] = []
    for name in ("ev_lines", "box_lines"):
        changes += [(name, np.full((1, 2), v, np.float32)) for v in (np.nan, np.inf, -np.inf)]
        changes += [(name, np.zeros(s, np.float32)) for s in ((1, 1), (1, 3), (2, 2), (0, 2), (2,))]
        changes += [(name, np.zeros((1, 2), t)) for t in (np.float64, np.float16, ">f4", np.int32)]
    for name in ("ev_mixes", "box_mixes"):
        changes += [(name, np.full((1, 2), 129, np.uint8)), (name, np.zeros((1, 4), np.uint8))]
        changes += [(name, np.zeros((1, 2), t)) for t in (np.int8, np.uint16)]
    for name in ("box_refined_scalars", "box_refined_products"):
        changes += [(name, np.zeros(s, np.uint8)) for s in ((1, 0), (1, 2), (2, 1))]
    for name, value in changes:
        with pytest.raises(REFUSED):
            verdict(tmp_path, (good[0], {**good[1], name: value}), data, prop)
    for key in ("scalars", "products"):
        for listed in ([], [{"tensor": "y", "size": 2}], [{"tensor": "other", "size": 1}], [{"size": 1}], 1):
            with pytest.raises(REFUSED):
                verdict(tmp_path, good, data, prop, **{key: listed})


def test_random_mutations_never_prove_what_is_false(tmp_path: Path) -> None:
    data, low, high, _, false = CLAIMS["two layers"]
    prop, rng = property_of(low, high, at_least(false)), np.random.default_rng(3)
    doc, arrays = claim(data, prop)
    for k in range(60):
        mutated = {name: v.copy() for name, v in arrays.items()}
        names = [
            name for name, v in mutated.items() if v.size and name.startswith(("ev_l", "box_l", "box_r"))
        ]
        flat = mutated[names[k % len(names)]].reshape(-1)
        flat[int(rng.integers(flat.size))] = (
            rng.standard_normal() if flat.dtype.kind == "f" else rng.integers(256)
        )
        with pytest.raises(REFUSED):
            verdict(tmp_path, (doc, mutated), data, prop, forward=bool(k % 2))


# ------------------------------------------------------------------ ties
def test_probabilities_are_at_most_one(tmp_path: Path) -> None:
    """``softmax > 1`` is refuted with equality, around float64 lines taken as exact numbers."""
    for data, n in ((SOFTMAX, 3), (network_of(N("Softmax", ["x"], ["y"], axis=1)), 2)):
        wide = 1000 if n == 2 else 100  # exact numbers are finite
        prop = property_of([-wide] * n, [wide] * n, [nets.row({0: -1}, 1, strict=True)], outputs=n)
        made = claim(data, prop, exact=True)
        made[1]["ev_lines"][:] = made[1]["box_lines"][:] = 0
        assert verdict(tmp_path, made, data, prop) == "unsat"
        made[1]["ev_exact"][:] = 0
        if n == 2:  # the sum 1 - s is rounded
            with pytest.raises(CertificateRejected, match="bound"):
                verdict(tmp_path, made, data, prop)


def test_squares_are_not_negative(tmp_path: Path) -> None:
    data, low, high, _, _ = CLAIMS["square"]
    prop = property_of(low, high, at_least(0, strict=True))
    made = claim(data, prop, exact=True)
    made[1]["ev_lines"][:] = 0
    assert verdict(tmp_path, made, data, prop) == "unsat"


# ------------------------------------------------------------------ polynomial properties
def polynomial(strict: bool, constant: Any) -> Property:
    """``x^2 y + constant <= 0`` (or <) for y = -x on [1, 2]: the left side is constant - x^3."""
    monomial = (Power(False, 0, 2), Power(True, 0, 1))
    row = Row({}, {}, Fraction(constant), strict, {monomial: Fraction(1)})
    return property_of([1], [2], [row])


def test_polynomial_rows(tmp_path: Path) -> None:
    data = network_of(N("Neg", ["x"], ["y"]), shape=(1, 1))
    network = combine({"": data}, polynomial(False, 9))
    assert [network.elements(k) for k in nets.KINDS.values()] == [0, 1, 1]
    assert nets.Plain(network).exact([Fraction(3, 2)]) == [Fraction(-3, 2), Fraction(-27, 8)]
    prop = polynomial(False, 9)
    assert verdict(tmp_path, claim(data, prop), data, prop) == "unsat"
    prop = polynomial(False, Fraction(15, 2))
    for seed in range(8):
        with pytest.raises(CertificateRejected, match="bound"):
            verdict(tmp_path, claim(data, prop, seed, chords=False, exact=seed > 5), data, prop)
    doc = nets.document(data, prop, network, verdict="sat")
    doc["witness"] = {
        "x": ["2"], "y": ["-2"], "case": 0, "disjunct": 0, "kind": "rigorous", "versions": {},
    }  # fmt: skip
    for kind in ("rigorous", "replayed"):
        doc["witness"]["kind"] = kind
        assert verdict(tmp_path, (doc, {}), data, prop) == "sat"
        doc["witness"]["x"] = ["1"]
        with pytest.raises(CertificateRejected, match="witness"):
            verdict(tmp_path, (doc, {}), data, prop)
        doc["witness"]["x"] = ["2"]


def test_monomials_of_several_variables() -> None:
    data = network_of(N("Neg", ["x"], ["y"]))
    monomials = [
        (Power(False, 1, 1), Power(True, 0, 3)),
        (Power(True, 1, 2),),
        (Power(False, 0, 2), Power(False, 1, 1), Power(True, 0, 1)),
    ]
    rows = [Row({}, {}, Fraction(0), False, {m: Fraction(1)}) for m in monomials]
    network = combine({"": data}, property_of([0, 0], [1, 1], rows, outputs=2))
    assert [network.nodes[i].size for i in network.of(Kind.SCALAR)] == [2, 1]  # squares, then cubes
    assert [network.nodes[i].size for i in network.of(Kind.PRODUCT)] == [2, 1]
    x, y = Fraction(2, 3), Fraction(-5, 7)
    assert nets.Plain(network).exact([x, y]) == [-x, -y, y * -(x**3), y**2, x**2 * y * -x]


# ------------------------------------------------------------------ external tensors
def test_external_tensors_belong_to_the_model(tmp_path: Path) -> None:
    import hashlib

    weight = np.float32([[2.0], [1.0]])
    model = onnx.ModelProto.FromString(network_of(N("MatMul", ["x", "w"], ["y"]), w=weight))
    tensor = model.graph.initializer[0]
    tensor.raw_data, tensor.data_location = b"", onnx.TensorProto.EXTERNAL
    for key, value in (("location", "w.bin"), ("offset", "4"), ("length", "8")):
        tensor.external_data.add(key=key, value=value)
    (tmp_path / "w.bin").write_bytes(b"\0\0\0\0" + weight.tobytes() + b"\0")
    data = model.SerializeToString()
    (tmp_path / "m.onnx").write_bytes(data)
    inner = network_of(N("MatMul", ["x", "w"], ["y"]), w=weight)
    prop = property_of([1, 1], [2, 2], at_least(2))
    doc, arrays = claim(inner, prop)
    doc["models"] = [{"name": "", "sha256": hashlib.sha256(data + weight.tobytes()).hexdigest()}]
    from verifier.spec import serial

    built = serial.build(prop.variables, prop.cases)
    doc["property"] = {"language": built.language, "sha256": built.sha256, "text": built.text}
    path = nets.write(tmp_path / "c", doc, arrays)
    assert check(path, {"": tmp_path / "m.onnx"}, None).verdict == "unsat"
    (tmp_path / "w.bin").write_bytes(b"\0\0\0\0" + (weight + 1).tobytes())
    with pytest.raises(CertificateRejected, match="model"):
        check(path, {"": tmp_path / "m.onnx"}, None)
    for key, value in ((0, "../w.bin"), (0, "/etc/passwd"), (0, "missing"), (1, "40"), (2, "-1")):
        saved = tensor.external_data[key].value
        tensor.external_data[key].value = value
        (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
        with pytest.raises((ModelInvalid, CertificateRejected)):
            check(path, {"": tmp_path / "m.onnx"}, None)
        tensor.external_data[key].value = saved


# ------------------------------------------------------------------ elements without bounds
def two_heads(second: str) -> bytes:
    """``y = (x + 1, second(x - 2))``."""
    nodes = [N("Add", ["x", "one"], ["a"]), N("Sub", ["x", "two"], ["b"]), N(second, ["b"], ["c"])]
    nodes.append(N("Concat", ["a", "c"], ["y"], axis=1))
    return network_of(*nodes, shape=(1, 1), one=np.float32(1), two=np.float32(2))


@pytest.mark.parametrize("second", ["Log", "Reciprocal", "Exp"])
@pytest.mark.parametrize("exact", [False, True])
def test_what_has_no_bound_harms_only_those_who_read_it(second: str, exact: bool, tmp_path: Path) -> None:
    data = two_heads(second)
    high = 3 if second != "Exp" else 800
    first = property_of([-1], [high], [nets.row({0: 1}, Fraction(-1, 100))], outputs=2)
    made = claim(data, first, exact=exact)
    if second == "Reciprocal" and exact:
        with pytest.raises(CertificateRejected, match="exact"):
            verdict(tmp_path, made, data, first)
        return
    for changes in ({}, {"forward": True}, {"semantics": "float32"}):
        with pytest.raises(CertificateRejected, match="bound"):  # x + 1 may be 0
            verdict(tmp_path, made, data, first, **changes)
    better = property_of([-1], [high], [nets.row({0: 1}, 1)], outputs=2)
    for changes in ({}, {"forward": True}, {"semantics": "float32"}):
        made = claim(data, better, exact=exact)
        assert verdict(tmp_path, made, data, better, **changes) == "unsat"
    both = property_of([-1], [high], [nets.row({0: 1, 1: Fraction(1, 10**9)}, 10**12)], outputs=2)
    for changes in ({}, {"forward": True}, {"semantics": "float32"}):
        if second == "Exp" and "semantics" not in changes:
            continue  # bounded from below: true, and proved
        with pytest.raises(CertificateRejected, match="bound"):
            verdict(tmp_path, claim(data, both, exact=exact), data, both, **changes)


def test_softmax_of_huge_logits(tmp_path: Path) -> None:
    """Masks of -1e9: exponentials overflow, probabilities are between 0 and 1 all the same."""
    mask = np.float32([[0, -1e9, 0]])
    nodes = [N("Add", ["x", "m"], ["z"]), N("Softmax", ["z"], ["y"], axis=1)]
    data = network_of(*nodes, shape=(1, 3), m=mask)
    rows = [nets.row({0: 1, 2: 1}, Fraction(-1, 2))], [nets.row({1: -1}, Fraction(1, 2))]
    prop = property_of([0, 0, 0], [1, 1, 1], *rows, outputs=3)
    doc, arrays = claim(data, prop, rows=[(0, 0), (1, 0)])
    for name in ("ev_lines", "box_lines"):
        arrays[name][:] = 0  # as operands reach that far
    assert verdict(tmp_path, (doc, arrays), data, prop) == "unsat"
    assert verdict(tmp_path, (doc, arrays), data, prop, forward=True) == "unsat"
