"""Lipschitz certificates: accepted when they prove their bound, rejected when they do not."""

from __future__ import annotations

import copy
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "sdp"))

from lipschitz_nets import Net, random_net

import sdp
from bounds.errors import BadInput, CertificateInvalid, CertificateRejected, SureboundError
from sdp.certificate import certificate_text
from verifier.check.functions import X, call, const
from verifier.check.importer import whole
from verifier.check.increments import increments
from verifier.check.lipschitz import check_document, check_lipschitz, validated
from verifier.check.network import Kind, Node
from verifier.check.slopes import slopes

QUICK = sdp.Effort(seconds=20, sampling=None)


def made(net: Net, **options: Any) -> tuple[dict[str, Any], bytes]:
    model = net.model()
    bound = sdp.lipschitz(model, effort=QUICK, **options)
    return json.loads(certificate_text(bound, model.sha256, "test")), net.bytes()


@pytest.mark.parametrize(
    "kind",
    [
        "Relu",
        "Tanh",
        "Sigmoid",
        "LeakyRelu",
        "Elu",
        "Abs",
        "maxmin",
        "groupsort3",
        "householder",
        "residual",
        "dense-skip",
    ],
)
def test_bounds_are_proved_again(kind: str, rng: np.random.Generator) -> None:
    document, data = made(random_net(rng, kind, (4, 12, 12, 3)))
    result = check_document(validated(document), data)
    assert result.upper == document["upper"]


@pytest.mark.parametrize(
    ("norm", "output_norm"), [("inf", "inf"), ("1", "1"), ("inf", "1"), ("2", "inf"), ("1", "2")]
)
def test_every_pair_of_norms(norm: str, output_norm: str, rng: np.random.Generator) -> None:
    document, data = made(random_net(rng, "Relu", (4, 6, 6, 3)), norm=norm, output_norm=output_norm)
    assert check_document(validated(document), data).norm == norm


@pytest.mark.parametrize("method", ["greedy", "eclipse-fast", "first-order"])
def test_every_method(method: str, rng: np.random.Generator) -> None:
    document, data = made(random_net(rng, "Relu", (4, 6, 6, 3)), method=method)
    check_document(validated(document), data)


def test_files_are_read_and_tied_to_their_model(tmp_path: Path, rng: np.random.Generator) -> None:
    net, other = random_net(rng, "Relu", (3, 4, 2)), random_net(rng, "Relu", (3, 4, 2))
    document, data = made(net)
    cert, model, wrong = tmp_path / "c.json", tmp_path / "m.onnx", tmp_path / "w.onnx"
    cert.write_text(json.dumps(document), encoding="utf-8")
    model.write_bytes(data)
    wrong.write_bytes(other.bytes())
    assert check_lipschitz(cert, model).problems == 1
    with pytest.raises(CertificateRejected, match="another file"):
        check_lipschitz(cert, wrong)
    cert.write_text("{", encoding="utf-8")
    with pytest.raises(CertificateInvalid):
        check_lipschitz(cert, model)


def test_bounds_without_certificates_say_so(rng: np.random.Generator) -> None:
    model = random_net(rng, "Relu", (3, 4, 2)).model()
    for options in (
        {"method": "product"},
        {"region": sdp.Region(np.zeros(3), np.ones(3))},
        {"rows": np.ones((1, 2))},
    ):
        with pytest.raises(BadInput):
            certificate_text(sdp.lipschitz(model, effort=QUICK, **options), model.sha256, "test")


def mutate(document: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    """One change somewhere: a smaller claim, a moved multiplier, another norm, a lost or added piece."""
    changed = copy.deepcopy(document)
    problem = changed["problems"][int(rng.integers(len(changed["problems"])))]
    lists = [r for r in (*problem["relus"], *problem["scalars"]) if isinstance(r, list) and r]
    pick = lists[int(rng.integers(len(lists)))]
    i = int(rng.integers(len(pick)))
    match int(rng.integers(9)):
        case 0:
            changed["upper"] *= float(rng.uniform(0.2, 0.99999))
        case 1:
            pick[i] *= float(10 ** rng.uniform(-6, 6))
        case 2:
            pick[i] = -pick[i]
        case 3:
            pick[i] = float("nan")
        case 4:
            pick.pop(i)
        case 5:
            changed["norm"] = "inf"
        case 6:
            problem["relus"][int(rng.integers(len(problem["relus"])))] = {
                "like": 0,
                "sign": int(rng.choice([-1, 1])),
            }
        case 7:
            pick[i] = 0.0
        case _:
            problem["relus"].append([1.0])
    return changed


@pytest.mark.parametrize("kind", ["Relu", "maxmin"])
def test_mutated_certificates_are_rejected_unless_still_valid(kind: str, rng: np.random.Generator) -> None:
    """Fifty of each kind; what is accepted must be at least the optimum: nothing valid is below."""
    document, data = made(random_net(rng, kind, (4, 8, 8, 3)))
    best = document["upper"] * (1 - 2e-5)  # how far the optimiser may be from the optimum
    rejected = 0
    for _ in range(50):
        changed = mutate(document, rng)
        try:
            result = check_document(validated(changed), data)
        except SureboundError:
            rejected += 1
            continue
        assert result.norm == "2" and result.upper >= best, changed
    assert rejected >= 35


def test_unrelated_rectifiers_cannot_be_declared_opposite(rng: np.random.Generator) -> None:
    document, data = made(random_net(rng, "Relu", (3, 4, 4, 2)))
    document["problems"][0]["relus"][1] = {"like": 0, "sign": -1}
    with pytest.raises(CertificateRejected, match="operand"):
        check_document(validated(document), data)


def test_maxmin_needs_one_rectifier_per_pair(rng: np.random.Generator) -> None:
    document, data = made(Net(4).maxmin())
    assert document["problems"][0]["relus"][1] == {"like": 0, "sign": -1}
    assert document["upper"] == pytest.approx(1, abs=1e-4)
    assert check_document(validated(document), data).upper < 1.001


@pytest.mark.parametrize(
    ("function", "least", "most"),
    [
        (call("tanh", X), 0, 1),
        (call("sigmoid", X), 0, 0.25),
        (call("max", X, call("*", X, const(0.1))), 0.1, 1),
        (call("sin", X), -1, 1),
        (call("min", call("relu", X), const(6.0)), 0, 1),
    ],
)
def test_slopes_enclose_and_are_close(function: Any, least: float, most: float) -> None:
    low, high = slopes(Node(1, Kind.SCALAR, function=function))
    assert low <= least and high >= most
    assert low == pytest.approx(least, abs=1e-6) and high == pytest.approx(most, abs=1e-6)


@pytest.mark.parametrize("function", [call("exp", X), call("floor", X), call("pow", X, value=2.0)])
def test_unbounded_slopes_are_rejected(function: Any) -> None:
    with pytest.raises(CertificateRejected):
        slopes(Node(1, Kind.SCALAR, function=function))


def test_increments_are_the_networks_own(rng: np.random.Generator) -> None:
    """On a path where every slope is one, the chain of matrices is the network's difference."""
    w, v = (rng.standard_normal((4, 4)).astype(np.float32) for _ in range(2))
    chain = increments(whole(Net(4).dense(w).apply("Relu").dense(v).bytes()))
    level = chain.levels[0]
    state = (
        level.h.value[:, : level.d.value.shape[1]]
        + level.h.value[:, level.d.value.shape[1] :] @ level.d.value
    )
    np.testing.assert_allclose(
        chain.c.value @ state @ chain.x.value, v.astype(float) @ w.astype(float), rtol=1e-12
    )
