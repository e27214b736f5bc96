"""An earlier proof helps and never decides: whatever it holds, the verdict is that of the network at hand."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from test_many_cases import network as many_network
from test_many_cases import prop as many_prop
from test_operand_search import hard

from bounds.errors import BadInput, CertificateInvalid
from verifier import Options, verify
from verifier.check.main import check
from verifier.verdict import Status

Query = tuple[Path, Path]


@pytest.fixture(params=["inputs", "Relu", "product", "Sigmoid", "many"])
def query(request: pytest.FixtureRequest, examples: Path, tmp_path: Path) -> Query:
    """A query that is proved, by each kind of search."""
    if request.param == "inputs":
        return examples / "models/pendulum.onnx", examples / "properties/pendulum_limit_unsat.vnnlib"
    if request.param == "many":
        model = many_network(tmp_path / "m.onnx", 2.0)
        return model, many_prop(tmp_path, model, 0.06, radius=0.2)
    return hard(tmp_path, request.param, 0.25)


def tuned(model: Path, path: Path, share: float, seed: int = 1) -> Path:
    """The network with weights changed a little."""
    net, random = onnx.load(model), np.random.default_rng(seed)
    for tensor in net.graph.initializer:
        held = numpy_helper.to_array(tensor)
        if held.dtype == np.float32 and held.size > 1:
            noise = 1 + share * random.standard_normal(held.shape)
            tensor.CopyFrom(numpy_helper.from_array((held * noise).astype(np.float32), tensor.name))
    onnx.save(net, path)
    return path


def changed(path: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """A certificate whose arrays were tampered with."""
    with zipfile.ZipFile(path) as z:
        members = {name: z.read(name) for name in z.namelist()}
    arrays = {n: np.load(io.BytesIO(m)).copy() for n, m in members.items() if n.startswith("arrays/")}
    change(arrays)
    for name, array in arrays.items():
        buffer = io.BytesIO()
        np.save(buffer, array)
        members[name] = buffer.getvalue()
    out = path.with_suffix(".changed")
    with zipfile.ZipFile(out, "w") as z:
        for name, data in members.items():
            z.writestr(name, data)
    return out


def proof(query: Query, path: Path) -> Path:
    assert verify(*query, certificate=path).status is Status.UNSAT
    return path


def holds(query: Query, certificate: Path) -> None:
    assert check(certificate, {"": query[0]}, query[1]).verdict == Status.UNSAT.value


def test_the_same_question_needs_the_leaves_only(query: Query, tmp_path: Path) -> None:
    old = tmp_path / "old.sbcert"
    first = verify(*query, certificate=old)
    again = verify(*query, certificate=tmp_path / "new.sbcert", earlier=old)
    assert first.status is again.status is Status.UNSAT
    # a root, and where operands are split the roots of groups, beside the leaves
    assert again.stats.domains <= max(first.stats.leaves + 1, first.stats.domains)
    if first.stats.domains > 2 * len(first.input_names):
        assert again.stats.domains < first.stats.domains
    holds(query, tmp_path / "new.sbcert")


@pytest.mark.parametrize("share", [0.001, 0.02, 0.3])
def test_a_changed_network_is_decided_on_its_own(query: Query, tmp_path: Path, share: float) -> None:
    old = proof(query, tmp_path / "old.sbcert")
    model = tuned(query[0], tmp_path / "tuned.onnx", share)
    options = Options(max_domains=20_000)
    alone = verify(model, query[1], options=options)
    new = tmp_path / "new.sbcert"
    helped = verify(model, query[1], options=options, certificate=new, earlier=old)
    assert helped.status is alone.status
    if helped.status is Status.UNSAT:
        assert check(new, {"": model}, query[1]).verdict == Status.UNSAT.value


def _points(arrays: dict[str, Any]) -> None:
    arrays["arrays/node_at.npy"] = np.random.default_rng(0).normal(size=len(arrays["arrays/node_at.npy"]))


def _dims(arrays: dict[str, Any]) -> None:
    dim = arrays["arrays/node_dim.npy"]
    dim[dim >= 0] = np.random.default_rng(0).integers(0, 1 << 20, int((dim >= 0).sum()))


def _children(arrays: dict[str, Any]) -> None:
    left = arrays["arrays/node_left.npy"]
    left[left >= 0] = left[left >= 0][::-1]


def _loops(arrays: dict[str, Any]) -> None:
    arrays["arrays/node_left.npy"][:] = 0


def _evidence(arrays: dict[str, Any]) -> None:
    random = np.random.default_rng(0)
    for name in ("ev_row", "ev_disjunct", "ev_node", "beta_operand", "beta_ev"):
        held = arrays[f"arrays/{name}.npy"]
        arrays[f"arrays/{name}.npy"] = random.integers(0, 1 << 20, held.shape).astype(held.dtype)
    slopes = arrays["arrays/ev_slopes.npy"]
    arrays["arrays/ev_slopes.npy"] = random.integers(0, 256, slopes.shape).astype(np.uint8)
    arrays["arrays/beta.npy"] = random.normal(size=arrays["arrays/beta.npy"].shape) * 1e3


@pytest.mark.parametrize("change", [_points, _dims, _children, _loops, _evidence])
def test_nonsense_is_harmless(query: Query, tmp_path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    old = changed(proof(query, tmp_path / "old.sbcert"), change)
    new = tmp_path / "new.sbcert"
    done = verify(*query, options=Options(max_domains=20_000), certificate=new, earlier=old)
    assert done.status is Status.UNSAT
    holds(query, new)


def test_limits_hold_while_unfolding(query: Query, tmp_path: Path) -> None:
    old = proof(query, tmp_path / "old.sbcert")
    done = verify(*query, options=Options(max_domains=3), earlier=old)
    assert done.stats.domains <= 3
    assert done.status in (Status.UNKNOWN, Status.UNSAT)


def test_a_counterexample_is_tried_first(examples: Path, tmp_path: Path) -> None:
    query = examples / "models/pendulum.onnx", examples / "properties/pendulum_limit_sat.vnnlib"
    old = tmp_path / "old.sbcert"
    first = verify(*query, certificate=old)
    again = verify(*query, earlier=old)
    assert first.status is again.status is Status.SAT
    assert first.witness is not None and again.witness is not None
    assert again.witness.x == first.witness.x


def test_what_does_not_fit_is_said(examples: Path, tmp_path: Path) -> None:
    models, properties = examples / "models", examples / "properties"
    pendulum = models / "pendulum.onnx", properties / "pendulum_limit_unsat.vnnlib"
    digits = models / "digits_mlp.onnx", properties / "digits_mlp_unsat.vnnlib"
    done = verify(*digits, earlier=proof(pendulum, tmp_path / "p.sbcert"))
    assert done.status is Status.UNSAT
    assert any("of no use here" in note for note in done.notes)
    point = tmp_path / "sat.sbcert"
    verify(models / "digits_mlp.onnx", properties / "digits_mlp_sat.vnnlib", certificate=point)
    done = verify(*pendulum, earlier=point)
    assert done.status is Status.UNSAT and any("number of inputs" in note for note in done.notes)


def test_what_is_no_certificate_is_an_error(examples: Path, tmp_path: Path) -> None:
    query = examples / "models/pendulum.onnx", examples / "properties/pendulum_limit_unsat.vnnlib"
    (tmp_path / "x.json").write_text(json.dumps({}))
    with pytest.raises(CertificateInvalid):
        verify(*query, earlier=tmp_path / "x.json")
    with pytest.raises(BadInput):
        verify(*query, earlier=tmp_path / "nowhere")
