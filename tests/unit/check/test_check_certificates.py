"""Certificates of a naive prover are accepted; what is not a proof, or not a certificate, is refused."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import zipfile
from fractions import Fraction
from pathlib import Path
from typing import Any

import checker_nets as nets
import checker_trees as trees
import numpy as np
import pytest

from bounds.errors import (
    BadInput,
    CertificateInvalid,
    CertificateRejected,
    LimitExceeded,
    QueryMismatch,
    SureboundError,
)
from verifier.check.importer import combine
from verifier.check.main import check, check_parsed
from verifier.check.reader import read
from verifier.spec import serial
from verifier.spec.model import NetworkRef, Property, Variable

REFUSED = (CertificateInvalid, CertificateRejected)


def made(
    name: str, seed: int, margin: Any = Fraction(1, 8)
) -> tuple[bytes, Property, nets.Prover, dict[str, Any] | None]:
    make, size = nets.FAMILIES[name]
    rng = np.random.default_rng(seed)
    data = make(rng)
    prop = nets.refutable(data, size, rng, margin=margin)
    prover = nets.Prover(data, prop)
    return data, prop, prover, prover.prove()


def verdict(path: Path, doc: Any, arrays: Any, data: bytes, prop: Property) -> Any:
    return check_parsed(read(nets.write(path / "c.sbcert", doc, arrays)), {"": data}, prop)


# ------------------------------------------------------------------ valid ones
@pytest.mark.parametrize("name", nets.FAMILIES)
def test_valid_certificates_are_accepted(name: str, tmp_path: Path) -> None:
    proved = 0
    for seed in range(8):
        data, prop, prover, arrays = made(name, seed)
        if arrays is None:
            continue
        proved += 1
        for changes in ({}, {"forward": True}, {"semantics": "float32"}):
            result = verdict(tmp_path, prover.document(data, **changes), arrays, data, prop)
            assert (result.verdict, result.nodes) == ("unsat", len(arrays["node_dim"]))
            assert result.evidence == len(arrays["ev_node"])
        if len(arrays["ev_node"]) < 12 and name != "maxpool":
            arrays["ev_exact"][:] = 1
            assert verdict(tmp_path, prover.document(data), arrays, data, prop).verdict == "unsat"
    assert proved >= 2


def test_equality_needs_exact_arithmetic(tmp_path: Path) -> None:
    """relu(x) >= 0 with equality: the strict row is refuted by ``>= 0``, in exact arithmetic only."""
    data = nets.dense(np.random.default_rng(0), (1, 1, 1))
    data = nets.model([nets.helper.make_node("Relu", ["x"], ["y"])], {}, [1, 1])
    for strict in (True, False):
        case = nets.box_case([Fraction(-1, 3)], [1], [nets.row({0: 3}, strict=strict)])
        prop = nets.make_property(1, 1, [case])
        prover = nets.Prover(data, prop)
        prover.tree, prover.evidence, prover.slopes = [[-1, 0.0, -1]], [(0, 0, 0)], {0: np.zeros(1)}
        arrays = prover.arrays()
        for exact in (0, 1):
            arrays["ev_exact"][:] = exact
            if strict and exact:
                assert verdict(tmp_path, prover.document(data), arrays, data, prop).verdict == "unsat"
            else:
                with pytest.raises(CertificateRejected, match="bound"):
                    verdict(tmp_path, prover.document(data), arrays, data, prop)


def test_float32_level_needs_the_margin_for_it(tmp_path: Path) -> None:
    """A margin between float64's and float32's rounding proves the real statement only."""
    w = {"w": np.full((100, 1), 1.0, np.float32)}
    data = nets.model([nets.helper.make_node("MatMul", ["x", "w"], ["y"])], w, [1, 100])
    case = nets.box_case([1] * 100, [2] * 100, [nets.row({0: 1}, Fraction(1, 10**6) - 100)])
    prop = nets.make_property(100, 1, [case])
    prover = nets.Prover(data, prop)
    arrays = prover.prove()
    assert verdict(tmp_path, prover.document(data), arrays, data, prop).semantics == "real"
    with pytest.raises(CertificateRejected, match="bound"):
        verdict(tmp_path, prover.document(data, semantics="float32"), arrays, data, prop)


def test_empty_cases_and_no_cases(tmp_path: Path) -> None:
    data = nets.dense(np.random.default_rng(0), (2, 2, 2))
    empty = nets.box_case([1, 0], [0, 1], [nets.row({0: 1})])
    for cases in ([empty], []):
        prop = nets.make_property(2, 2, cases)
        prover = nets.Prover(data, prop)
        result = verdict(tmp_path, prover.document(data), prover.prove(), data, prop)
        assert result.message == "the input set is empty"


def test_several_cases_and_evidence_at_an_ancestor(tmp_path: Path) -> None:
    data, prop, prover, arrays = made("dense", 3)
    case = prop.cases[0]
    prop = nets.make_property(2, 2, [case, nets.box_case([1, 0], [0, 1], [nets.row({0: 1})]), case])
    prover = nets.Prover(data, prop)
    arrays = prover.prove()
    assert arrays is not None
    assert verdict(tmp_path, prover.document(data), arrays, data, prop).verdict == "unsat"
    # split a settled root: its evidence now stands at an ancestor of the two new leaves
    t = len(arrays["node_dim"])
    root = int(np.flatnonzero(arrays["node_left"] == -1)[0])
    low = float(case.lower[0])
    arrays["node_dim"] = np.append(arrays["node_dim"], np.int32([-1, -1])).astype(np.int32)
    arrays["node_at"] = np.append(arrays["node_at"], [0.0, 0.0])
    arrays["node_left"] = np.append(arrays["node_left"], np.int32([-1, -1])).astype(np.int32)
    if root == 0:
        arrays["node_dim"][root], arrays["node_at"][root], arrays["node_left"][root] = 0, low, t
        assert verdict(tmp_path, prover.document(data), arrays, data, prop).nodes == t + 2


# ------------------------------------------------------------------ several networks, files
def test_two_networks_side_by_side_and_hidden_tensors(tmp_path: Path) -> None:
    """f(x) - f(x') for one model used twice, and a hidden tensor among the outputs."""
    w = {"w": np.float32([[1.0], [-1.0]]), "v": np.float32([[2.0]])}
    nodes = [nets.helper.make_node("MatMul", ["x", "w"], ["h"]), nets.helper.make_node("Relu", ["h"], ["a"])]
    data = nets.model([*nodes, nets.helper.make_node("MatMul", ["a", "v"], ["y"])], w, [1, 2])
    variables = (
        Variable("A", "input", (2,), network="f"),
        Variable("H", "hidden", (1,), network="f", onnx="h"),
        Variable("B", "output", (1,), network="f"),
        Variable("C", "input", (2,), network="g"),
        Variable("D", "output", (1,), network="g"),
    )
    # unsafe: 2 relu(h) - g(c) + 4 <= 0, or h <= -1.5; x in [0,1]^2, c in [0, 1] x {0}
    rows = [[nets.row({1: 1, 2: -1}, 2.25)], [nets.row({0: 1}, 1.5)]]
    case = nets.box_case([0, 0, 0, 0], [1, 1, 1, 0], *rows)
    networks = (NetworkRef("f"), NetworkRef("g", "equal", "f"))
    prop = Property(variables, (case,), networks, "vnnlib-2", sha256="cd" * 32)
    network = combine({"f": data, "g": data}, prop)
    assert [node.size for node in (network.nodes[0], network.nodes[network.output])] == [4, 3]
    arrays = {
        "node_dim": np.int32([-1]), "node_at": np.zeros(1), "node_left": np.int32([-1]),
        "ev_node": np.int32([0, 0]), "ev_disjunct": np.int32([0, 1]), "ev_row": np.int32([0, 0]),
        "ev_exact": np.uint8([0, 0]), "ev_slopes": np.zeros((2, 2), np.uint8),
        "box_node": np.int32([0]), "box_slopes": np.zeros((1, 1), np.uint8),
        "box_refined": np.full((1, 1), 255, np.uint8), **nets.bare(2, 1),
    }  # fmt: skip
    arrays = nets.upgraded(arrays)
    doc = nets.document(data, prop, network)
    doc["models"] = [{"name": "f", "sha256": doc["models"][0]["sha256"]}]
    certificate = read(nets.write(tmp_path / "c", doc, arrays))
    for models in ({"f": data}, {"": data}):
        assert check_parsed(certificate, models, prop).verdict == "unsat"
    with pytest.raises(QueryMismatch):
        check_parsed(certificate, {"f": data, "g": data}, prop)


def test_files_from_disk_and_a_built_property(tmp_path: Path) -> None:
    data, prop, _, arrays = made("dense", 3)
    built = serial.build(prop.variables, prop.cases)
    prover = nets.Prover(data, built)
    arrays = prover.prove()
    (tmp_path / "m.onnx").write_bytes(data)
    path = nets.write(tmp_path / "c.sbcert", prover.document(data), arrays)
    calls: list[tuple[int, int]] = []
    result = check(
        path, {"": tmp_path / "m.onnx"}, None, progress=lambda done, total: calls.append((done, total))
    )
    assert result.verdict == "unsat"
    assert calls[-1][0] == calls[-1][1] == len(arrays["box_node"])
    doc = prover.document(data)
    doc["property"]["text"] = ""
    with pytest.raises(BadInput, match="--property"):
        check(nets.write(path, doc, arrays), {"": tmp_path / "m.onnx"}, None)
    with pytest.raises(BadInput):
        check(path, {"": tmp_path / "none.onnx"}, tmp_path / "none.vnnlib")


# ------------------------------------------------------------------ witnesses
def sat_document(data: bytes, prop: Property, **witness: Any) -> dict[str, Any]:
    network = combine({"": data}, prop)
    full = {
        "x": ["1/2"],
        "y": ["1/2"],
        "case": 0,
        "disjunct": 0,
        "kind": "replayed",
        "versions": {},
        **witness,
    }
    return nets.document(data, prop, network, verdict="sat", witness=full)


def test_witnesses(tmp_path: Path) -> None:
    data = nets.model([nets.helper.make_node("Relu", ["x"], ["y"])], {}, [1, 1])
    third = Fraction(1, 3)
    case = nets.box_case([0], [third], [nets.row({0: 1}, -1)], [nets.row({0: -1}, third)])
    prop = nets.make_property(1, 1, [case])

    def said(**witness: Any) -> str:
        doc = sat_document(data, prop, **witness)
        doc["semantics"] = witness.pop("semantics", "real")
        doc["witness"].pop("semantics", None)
        return check_parsed(read(nets.write(tmp_path / "c", doc, {})), {"": data}, prop).verdict

    assert said(x=["1/4"], y=["1/4"]) == "sat"
    assert said(x=["1/4"], y=["1/4"], kind="rigorous") == "sat"
    assert said(x=["1/3"], y=["1/3"], disjunct=1, kind="rigorous") == "sat"  # with equality, and no float32
    for wrong in (
        {"x": ["1/3"], "y": ["1/3"], "disjunct": 1},  # not representable
        {"x": ["1/3"], "y": ["1/3"], "disjunct": 1, "kind": "rigorous", "semantics": "float32"},
        {"x": ["1/4"], "y": ["1/4"], "disjunct": 1},
        {"x": ["1/4"], "y": ["1/4"], "disjunct": 1, "kind": "rigorous"},
        {"x": ["1/2"], "y": ["1/2"]},  # outside
        {"x": ["1/4"], "y": ["1/4"], "disjunct": 2},
        {"x": ["1/4"], "y": ["1/4"], "case": 1},
        {"x": ["1/4"], "y": ["1/4"], "case": -1},
        {"x": ["1/4", "0"], "y": ["1/4"]},
        {"x": ["1/4"], "y": []},
        {"x": ["0.25"], "y": ["1/4"]},
        {"x": ["1/0"], "y": ["1/4"]},
        {"x": [0.25], "y": ["1/4"]},
        {"x": ["1/4"], "y": ["1/4"], "kind": "believed"},
        {"x": ["1/4"], "y": ["1/4"], "more": 1},
    ):
        with pytest.raises(CertificateRejected):
            said(**wrong)


def test_rigorous_witness_of_a_large_network_by_intervals(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    w = {"w": rng.standard_normal((600, 400)).astype(np.float32), "v": np.ones((400, 1), np.float32)}
    nodes = [nets.helper.make_node("MatMul", ["x", "w"], ["h"]), nets.helper.make_node("Relu", ["h"], ["a"])]
    data = nets.model([*nodes, nets.helper.make_node("MatMul", ["a", "v"], ["y"])], w, [1, 600])
    x = [Fraction(k, 7) for k in range(600)]
    case = nets.box_case([0] * 600, [100] * 600, [nets.row({0: -1}, 1)])
    prop = nets.make_property(600, 1, [case])
    doc = sat_document(data, prop, x=[str(v) for v in x], y=["1"], kind="rigorous")
    assert check_parsed(read(nets.write(tmp_path / "c", doc, {})), {"": data}, prop).verdict == "sat"
    doc["witness"]["x"] = ["0"] * 600
    with pytest.raises(CertificateRejected):
        check_parsed(read(nets.write(tmp_path / "c", doc, {})), {"": data}, prop)


# ------------------------------------------------------------------ malformed files
def npy(array: Any, **more: Any) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.asarray(array), **more)
    return stream.getvalue()


def test_malformed_arrays_are_refused(tmp_path: Path) -> None:
    data, prop, prover, arrays = made("dense", 3)
    assert arrays is not None
    doc = prover.document(data)
    good = npy(arrays["node_at"])
    wrong: list[tuple[str, Any]] = [
        ("node_at", npy(np.array([None] * len(arrays["node_at"]), object), allow_pickle=True)),
        ("node_at", good[:-1]),
        ("node_at", good + b"\0"),
        ("node_at", good[:9]),
        ("node_at", b""),
        ("node_at", npy(arrays["node_at"], version=(3, 0))),
        ("node_at", arrays["node_at"].astype(np.float32)),
        ("node_at", arrays["node_at"].astype(">f8")),
        ("node_at", arrays["node_at"][:-1]),
        ("node_at", arrays["node_at"][:, None]),
        ("ev_slopes", np.asfortranarray(np.repeat(arrays["ev_slopes"], 2, axis=0))),
        ("ev_slopes", arrays["ev_slopes"][:, :-1]),
        ("ev_node", arrays["ev_node"].astype(np.int64)),
        ("extra", arrays["ev_node"]),
        ("node_at", good.replace(b"'shape': (", b"'shape': (9")),
    ]
    for name, value in wrong:
        with pytest.raises((*REFUSED, LimitExceeded)):
            verdict(tmp_path, doc, {**arrays, name: value}, data, prop)
    for name in arrays:
        with pytest.raises(CertificateInvalid):
            verdict(tmp_path, doc, {k: v for k, v in arrays.items() if k != name}, data, prop)


def test_malformed_containers_are_refused(tmp_path: Path) -> None:
    data, _, prover, arrays = made("dense", 3)
    path = nets.write(tmp_path / "c.sbcert", prover.document(data), arrays)
    whole = path.read_bytes()
    for cut in (0, 1, 30, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(CertificateInvalid):
            read(path)
    rng = np.random.default_rng(0)
    for _ in range(60):  # any damage is an error of ours, never a crash
        broken = bytearray(whole)
        broken[int(rng.integers(len(whole)))] ^= int(rng.integers(1, 256))
        path.write_bytes(bytes(broken))
        with contextlib.suppress(SureboundError):
            read(path)
    with pytest.raises(BadInput):
        read(tmp_path / "none.sbcert")
    for text in ("[]", "{}", "{", "[" * 100_000, '{"a":1,"a":1}', '{"a": NaN}', "\xff"):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("certificate.json", text.encode("latin-1"))
        with pytest.raises(CertificateInvalid):
            read(path)


def test_zip_bombs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, _, prover, arrays = made("dense", 3)
    assert arrays is not None
    path = nets.write(tmp_path / "c.sbcert", prover.document(data), arrays)
    monkeypatch.setattr("verifier.check.reader.MAX_BYTES", 1000)
    with pytest.raises(LimitExceeded):
        read(path)
    monkeypatch.undo()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("certificate.json", json.dumps(prover.document(data)))
    with pytest.raises(CertificateInvalid, match="deflate"):
        read(path)
    # a header that promises more than the file holds allocates nothing
    stored = npy(np.zeros(0)).replace(b"(0,), }", b"(999999999999,), }"[:18])
    with pytest.raises((CertificateInvalid, LimitExceeded)):
        read(nets.write(path, prover.document(data), {**arrays, "node_at": stored}))


# ------------------------------------------------------------------ mutations
JSON_CHANGES: list[tuple[tuple[Any, ...], Any]] = [
    (("format",), "other"), (("version",), 1), (("version",), 5), (("version",), True), (("verdict",), "sat"),
    (("verdict",), "unknown"), (("semantics",), "nominal"), (("models",), []),
    (("models", 0, "sha256"), "0" * 64), (("models", 0), "x"), (("property", "sha256"), "0" * 64),
    (("property", "language"), "vnnlib-2"), (("property",), {}), (("relus", 0, "size"), 5),
    (("relus", 0, "tensor"), "other"), (("relus",), []), (("root_precision",), 32), (("forward",), 1),
    (("producer",), None), (("witness",), {}), (("relus", 0, "size"), -1), (("relus", 0, "size"), True),
    (("unknown",), 1),
]  # fmt: skip


@pytest.mark.parametrize(("path", "value"), JSON_CHANGES, ids=str)
def test_changed_claims_are_refused(path: tuple[Any, ...], value: Any, tmp_path: Path) -> None:
    data, prop, prover, arrays = made("dense", 3)
    doc: Any = copy.deepcopy(prover.document(data))
    holder = doc
    for key in path[:-1]:
        holder = holder[key]
    holder[path[-1]] = value
    with pytest.raises(REFUSED):
        verdict(tmp_path, doc, arrays, data, prop)


def split_certificate() -> tuple[bytes, Property, nets.Prover, dict[str, Any]]:
    """A certificate with several splits."""
    for seed in range(60):
        data, prop, prover, arrays = made("dense", seed, Fraction(1, 64))
        if arrays is not None and 7 <= len(arrays["node_dim"]) < 40:
            return data, prop, prover, arrays
    raise AssertionError("no seed gives a tree")


def test_structural_mutations_are_always_rejected(tmp_path: Path) -> None:
    data, prop, prover, arrays = split_certificate()
    doc = prover.document(data)
    inner = np.flatnonzero(arrays["node_left"] != -1)
    leaf = np.flatnonzero(arrays["node_left"] == -1)
    wrong: list[dict[str, Any]] = []

    def changed(name: str, at: Any, value: Any) -> None:
        copy_ = {k: v.copy() for k, v in arrays.items()}
        copy_[name][at] = value
        wrong.append(copy_)

    for node in inner:
        for value in (np.nan, np.inf, -np.inf, 1e9, -1e9):
            changed("node_at", node, value)
        for value in (-1, -2, -3, 2 + 9, 1000):
            changed("node_dim", node, value)
        for value in (
            -1,
            0,
            int(node),
            int(arrays["node_left"][node]) + 1,
            int(arrays["node_left"][node]) - 1,
            10**6,
            -5,
        ):
            changed("node_left", node, value)
    for node in leaf:
        changed("node_dim", node, 0)
        changed("node_at", node, 0.5)
        changed("node_at", node, np.nan)
        changed("node_left", node, 1)
    for e in range(len(arrays["ev_node"])):
        dropped = {k: np.delete(v, e, axis=0) if k.startswith("ev_") else v for k, v in arrays.items()}
        wrong.append(dropped)
        keep = np.isin(arrays["box_node"], dropped["ev_node"])
        fixed = {k: v[keep] if k.startswith("box_") else v for k, v in dropped.items()}
        wrong.append(nets.upgraded(fixed))
        for value in (-1, 2, 99):
            changed("ev_disjunct", e, value)
            changed("ev_row", e, value)
        changed("ev_disjunct", e, 1 - arrays["ev_disjunct"][e])
        changed("ev_node", e, 10**6)
        changed("ev_node", e, -1)
        changed("ev_exact", e, 2)
        changed("ev_slopes", (e, 0), 129)
    for b in range(len(arrays["box_node"])):
        changed("box_node", b, arrays["box_node"][b] + 1000)
    assert np.all(arrays["node_at"][inner] != 0)  # or a copy could take the place of a split
    for name in (name for name in arrays if len(arrays[name])):
        wrong.append({**arrays, name: arrays[name][:-1]})
        wrong.append({**arrays, name: np.concatenate([arrays[name], arrays[name][-1:]])})
    assert len(wrong) > 200
    for k, mutated in enumerate(wrong):
        with pytest.raises(REFUSED):
            verdict(tmp_path, doc, mutated, data, prop)
            pytest.fail(f"mutation {k} was accepted")


def mutate(arrays: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    """One random change of one number."""
    mutated = {k: v.copy() for k, v in arrays.items()}
    filled = [name for name in arrays if arrays[name].size]
    name = filled[int(rng.integers(len(filled)))]
    flat = mutated[name].reshape(-1)
    k = int(rng.integers(flat.size))
    if name == "node_at":
        flat[k] += float(rng.standard_normal()) * 10.0 ** float(rng.integers(-17, 2))
    elif flat.dtype == np.uint8:
        flat[k] = rng.integers(0, 256)
    else:
        flat[k] += int(rng.integers(-2, 3))
    return mutated


def test_random_mutations_are_rejected_or_still_proofs(tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    data, prop, prover, arrays = split_certificate()
    doc, case = prover.document(data), prop.cases[0]
    low, high = (np.array([float(v) for v in side]) for side in (case.lower, case.upper))
    points = low + (high - low) * rng.integers(0, 33, (150, 2)) / 32
    known = trees.facts(nets.Plain(prover.network), prop, points, exact=True)
    accepted = 0
    for _ in range(300):
        mutated = mutate(arrays, rng)
        try:
            verdict(tmp_path, doc, mutated, data, prop)
        except REFUSED:
            continue
        accepted += 1
        trees.still_proves(mutated, prop, known)
    assert 0 < accepted < 200


@pytest.mark.parametrize("name", ["dense", "residual", "extrema"])
def test_a_false_property_is_never_accepted(name: str, tmp_path: Path) -> None:
    """Certificates that claim everything, for properties violated by ever less, mutated at will."""
    rng = np.random.default_rng(3)
    for seed, margin in enumerate((0, 1e-9, 1e-3, Fraction(1, 4))):
        make, size = nets.FAMILIES[name]
        data = make(np.random.default_rng(seed))
        prop = nets.refutable(data, size, np.random.default_rng(seed), margin=-Fraction(margin))
        prover = nets.Prover(data, prop)
        for depth in range(3):
            prover.evidence, prover.tree = [], []
            arrays = prover.prove(margin=-1e9)
            assert arrays is not None
            arrays["ev_row"][arrays["ev_disjunct"] == 1] = 1
            if depth:  # the same claims on a split tree
                dim = int(rng.integers(size))
                at = float((prop.cases[0].lower[dim] + prop.cases[0].upper[dim]) / 2)
                arrays["node_dim"], arrays["node_left"] = np.int32([dim, -1, -1]), np.int32([1, -1, -1])
                arrays["node_at"] = np.array([at, 0, 0])
                if depth == 2:
                    for k in [k for k in arrays if k.startswith(("ev_", "box_"))]:
                        arrays[k] = np.concatenate([arrays[k]] * 2)
                    arrays["ev_node"], arrays["box_node"] = np.int32([1, 1, 2, 2]), np.int32([1, 2])
                    arrays = nets.upgraded(arrays)
            for k in range(25):
                mutated = mutate(arrays, rng) if k else arrays
                if k % 5 == 4:
                    mutated["ev_exact"][:] = 1 if name != "extrema" else 0
                with pytest.raises(REFUSED):
                    verdict(tmp_path, prover.document(data, forward=bool(k % 2)), mutated, data, prop)
