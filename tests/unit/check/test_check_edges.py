"""Lines with a slope for every edge: the checker finds its own, and takes none on trust."""

from __future__ import annotations

import hashlib
import itertools
import json
import zipfile
from fractions import Fraction
from pathlib import Path
from typing import Any

import checker_nets as nets
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from bounds.errors import CertificateInvalid, CertificateRejected
from verifier import Options, verify
from verifier.check.arithmetic import Arithmetic
from verifier.check.bounds import Bounder
from verifier.check.edges import Stated, base_of
from verifier.check.importer import combine
from verifier.check.main import check
from verifier.check.network import Array, Kind
from verifier.check.reader import read
from verifier.query import Semantics
from verifier.verdict import Status

INPUTS, HIDDEN = 10, 20
REFUSED = (CertificateRejected, CertificateInvalid)


def saved(path: Path, seed: int, sizes: tuple[int, ...] = (INPUTS, HIDDEN, 1)) -> tuple[Path, list[Any]]:
    """A dense rectifier network, with Gemm or with MatMul and Add in turn; and its layers."""
    rng, nodes, stored, at = np.random.default_rng(seed), list[Any](), list[Any](), "x"
    layers = [
        ((rng.normal(size=(a, b)) / np.sqrt(a)).astype(np.float32), rng.normal(size=b).astype(np.float32) / 4)
        for a, b in itertools.pairwise(sizes)
    ]
    for i, (w, b) in enumerate(layers):
        stored += [numpy_helper.from_array(w, f"w{i}"), numpy_helper.from_array(b, f"b{i}")]
        if i % 2 == 0:
            nodes.append(helper.make_node("Gemm", [at, f"w{i}", f"b{i}"], [f"z{i}"]))
        else:
            nodes.append(helper.make_node("MatMul", [at, f"w{i}"], [f"m{i}"]))
            nodes.append(helper.make_node("Add", [f"m{i}", f"b{i}"], [f"z{i}"]))
        at = f"z{i}"
        if i < len(layers) - 1:
            nodes.append(helper.make_node("Relu", [at], [f"h{i}"]))
            at = f"h{i}"
    ports = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, d])
        for n, d in (("x", sizes[0]), (at, sizes[-1]))
    ]
    graph = helper.make_graph(nodes, "g", ports[:1], ports[1:], stored)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path, layers


def least_seen(layers: list[Any]) -> float:
    """The least output of local descents from many points of the box from -1 to 1."""
    (w, b), (v, c) = ((p.astype(np.float64) for p in layer) for layer in layers)
    x = np.random.default_rng(0).uniform(-1, 1, (256, INPUTS))
    for _ in range(200):
        z = x @ w + b
        x = np.clip(x - 0.05 * np.sign(((z > 0) * v[:, 0]) @ w.T), -1, 1)
    return float((np.maximum(x @ w + b, 0) @ v + c).min())


def prop(path: Path, threshold: float) -> Path:
    lines = [*(f"(declare-const X_{i} Real)" for i in range(INPUTS)), "(declare-const Y_0 Real)"]
    lines += [f"(assert (and (>= X_{i} -1) (<= X_{i} 1)))" for i in range(INPUTS)]
    path.write_text("\n".join([*lines, f"(assert (<= Y_0 {threshold:.6f}))"]))
    return path


def proved(folder: Path, seed: int, semantics: Semantics = Semantics.REAL) -> tuple[Path, Path, Path, float]:
    model, layers = saved(folder / "m.onnx", seed)
    least = least_seen(layers)
    spec, proof = prop(folder / "p.vnnlib", least - 0.03), folder / "p.sbcert"
    report = verify(model, spec, options=Options(semantics=semantics, timeout=120), certificate=proof)
    assert report.status is Status.UNSAT and "hulls" in report.strategy, report.strategy
    return model, spec, proof, least


def changed(proof: Path, arrays: dict[str, Any], spec: Path | None = None) -> Path:
    """The same certificate with other arrays, and about another property."""
    held = dict(read(proof).arrays) | arrays
    with zipfile.ZipFile(proof) as archive:
        document = json.loads(archive.read("certificate.json"))
    if spec is not None:
        document["property"]["sha256"] = hashlib.sha256(spec.read_bytes()).hexdigest()
    return nets.write(proof.with_name("changed"), document, held)


@pytest.mark.parametrize("semantics", [Semantics.REAL, Semantics.FLOAT32])
@pytest.mark.parametrize("seed", [0, 1])
def test_what_hulls_prove_is_proved_again(tmp_path: Path, seed: int, semantics: Semantics) -> None:
    model, spec, proof, _ = proved(tmp_path, seed, semantics)
    arrays = read(proof).arrays
    assert len(arrays["edge_ev"]) > 0
    assert len(arrays["edge_slopes"]) == INPUTS * len(arrays["edge_ev"])
    assert check(proof, {"": model}, spec).verdict == "unsat"
    # the lines are needed: without them the same evidence proves nothing
    none = {name: arrays[name][:0] for name in ("edge_ev", "edge_neuron", "edge_slopes")}
    with pytest.raises(CertificateRejected, match="positive"):
        check(changed(proof, none), {"": model}, spec)


def test_arrays_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    model, spec, proof, _ = proved(tmp_path, 0)
    a = read(proof).arrays
    ev, neuron, slopes = a["edge_ev"], a["edge_neuron"], a["edge_slopes"]
    wrong: list[dict[str, Any]] = [
        {"edge_ev": ev[::-1].copy()} if len(np.unique(ev)) > 1 else {"edge_ev": ev + len(a["ev_node"])},
        {"edge_ev": ev - 1},
        {"edge_ev": ev + len(a["ev_node"])},
        {"edge_neuron": neuron * 0},
        {"edge_neuron": neuron + HIDDEN},
        {"edge_neuron": neuron - HIDDEN},
        {"edge_slopes": slopes[:-1]},
        {"edge_slopes": np.append(slopes, slopes[:INPUTS])},
        {"edge_slopes": slopes | np.uint8(129)},
        {"edge_neuron": neuron[:-1]},
        {"edge_slopes": slopes.astype(np.float32)},
    ]
    for k, arrays in enumerate(wrong):
        with pytest.raises(REFUSED):
            check(changed(proof, arrays), {"": model}, spec)
            pytest.fail(f"change {k} was accepted")


def test_no_change_proves_what_is_false(tmp_path: Path) -> None:
    """The threshold lies above a value that is attained; slopes and elements are changed at random."""
    model, _, proof, least = proved(tmp_path, 0)
    false, rng, a = prop(tmp_path / "q.vnnlib", least + 1e-4), np.random.default_rng(0), read(proof).arrays
    for k in range(60):
        slopes, neuron = a["edge_slopes"].copy(), a["edge_neuron"].copy()
        if k % 3 == 0:
            slopes = rng.integers(0, 129, len(slopes)).astype(np.uint8)
        elif k % 3 == 1:
            at = rng.integers(len(slopes), size=8)
            slopes[at] = rng.choice([0, 64, 128], 8)
        else:
            neuron[rng.integers(len(neuron))] = rng.integers(HIDDEN)
        with pytest.raises(REFUSED):
            check(changed(proof, {"edge_slopes": slopes, "edge_neuron": neuron}, false), {"": model}, false)
            pytest.fail(f"change {k} was accepted")


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_lines_lie_above_their_rectifiers(tmp_path: Path, seed: int, exact: bool) -> None:
    """Both layers, at corners and inside, in exact numbers."""
    sizes = (3, 6, 5, 1)
    model, layers = saved(tmp_path / "m.onnx", seed, sizes)
    case = nets.box_case([-1.0] * 3, [0.5] * 3, [nets.row({0: 1})])
    network = combine({"": model.read_bytes()}, nets.make_property(3, 1, [case]))
    to, rng = Arithmetic(exact), np.random.default_rng(seed)
    bounder = Bounder(network, to, float32=False, forward=False)
    low, high = to.array(np.full((1, 3), -1.0)), to.array(np.full((1, 3), 0.5))
    state = bounder.run(low, high)
    steps = np.concatenate([np.indices((3, 3, 3)).reshape(3, -1).T / 2, rng.integers(0, 65, (8, 3)) / 64])
    x = exactly(-1.0 + 1.5 * steps)
    for i, (w, b) in zip(network.of(Kind.RELU), layers[:-1], strict=True):
        size, width = w.shape[1], w.shape[0]
        assert base_of(network, i) is not None
        h = np.maximum(x @ exactly(w) + exactly(b), Fraction(0))
        for _ in range(4):
            t = rng.integers(0, 129, (size, width)).astype(np.uint8)
            first = bounder.layout.start[i] + np.arange(size)
            stated = Stated(np.zeros(size, np.int64), first, np.arange(size + 1) * width, t.reshape(-1))
            lines = bounder.edges(state, np.zeros(1, np.int64), stated)[i]
            line = x @ exactly(lines.a).T + exactly(lines.c)
            assert (line >= h).all()
            if exact:  # and no constant is larger than it need be, where the base is the box itself
                corners = np.min(line[:27] - h[:27], axis=0)
                assert width > 3 or (corners == 0).all()
        x = h


def exactly(values: Any) -> Array:
    """Rationals of the same values."""
    return np.frompyfunc(lambda v: v if isinstance(v, Fraction) else Fraction(float(v)), 1, 1)(values)
