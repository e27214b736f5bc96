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
from bounds.evaluate import evaluate
from bounds.io.onnx import load_bytes
from sdp.certificate import certificate_text
from sdp.radius import local_radius, margins_at, point_scores
from verifier.check.functions import X, call, const
from verifier.check.importer import whole
from verifier.check.increments import increments
from verifier.check.lipschitz import check_document, check_lipschitz, validated
from verifier.check.network import Kind, Node
from verifier.check.radius import check_radius_document, validated_radius
from verifier.check.slopes import slopes
from verifier.lipschitz_certificate import bound_certificate, radius_certificate

QUICK = sdp.Effort(seconds=20, sampling=None)


def made(net: Net, **options: Any) -> tuple[dict[str, Any], bytes]:
    model = net.model()
    bound = sdp.lipschitz(model, effort=QUICK, **options)
    if "region" not in options:
        return json.loads(certificate_text(bound, model.sha256, "test")), net.bytes()
    document = json.loads(bound_certificate(bound, model))
    assert bound.upper < document["upper"] <= bound.upper * 1.04
    return document, net.bytes()


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
    with pytest.raises(BadInput, match="no multipliers"):
        certificate_text(sdp.lipschitz(model, effort=QUICK, method="product"), model.sha256, "test")
    net = Net(3).dense(rng.standard_normal((3, 3)))
    (net.x,) = net.op("Mul", net.x, "X")
    region = sdp.Region(-np.ones(3), np.ones(3))
    with pytest.raises(BadInput, match="rectifiers"):
        certificate_text(sdp.lipschitz(net.model(), region=region, effort=QUICK), "", "test")


# -------------------------------------------------------------------- regions, rows, radii
LOCAL_KINDS = ["Relu", "Tanh", "Sigmoid", "LeakyRelu", "Elu", "Abs", "maxmin", "groupsort3", "residual"]


@pytest.mark.parametrize("kind", LOCAL_KINDS)
def test_local_bounds_are_proved_again(kind: str, rng: np.random.Generator) -> None:
    """The checker finds the ranges on the region itself."""
    net = random_net(rng, kind, (4, 12, 12, 3))
    for norm in ("2", "inf"):
        region = sdp.Region.around(rng.standard_normal(4), 0.3, norm)
        document, data = made(net, region=region, norm=norm)
        result = check_document(validated(document), data)
        assert result.local and result.upper == document["upper"]


def test_a_larger_region_is_another_claim(rng: np.random.Generator) -> None:
    net = random_net(rng, "Relu", (4, 12, 12, 3))
    document, data = made(net, region=sdp.Region.around(rng.standard_normal(4), 0.1, "2"))
    everywhere, _ = made(net)
    assert document["upper"] < 0.9 * everywhere["upper"]
    for changed in (
        document | {"region": None},
        document | {"region": document["region"] | {"ball": None, "lo": [-9.0] * 4, "hi": [9.0] * 4}},
        document
        | {"region": document["region"] | {"lo": document["region"]["hi"], "hi": document["region"]["lo"]}},
        document | {"region": {}},
    ):
        with pytest.raises(CertificateRejected):
            check_document(validated(changed), data)


def test_rows_are_part_of_the_claim(rng: np.random.Generator) -> None:
    document, data = made(random_net(rng, "Relu", (4, 8, 8, 3)), rows=sdp.margins(3), output_norm="inf")
    assert check_document(validated(document), data).rows == 3
    document["rows"][1] = [2.0 * v for v in document["rows"][1]]
    with pytest.raises(CertificateRejected):
        check_document(validated(document), data)


def radius_document(
    kind: str, rng: np.random.Generator, norm: str = "2"
) -> tuple[dict[str, Any], bytes, float]:
    """A certified radius, around a point whose class is clear; and the largest it could be."""
    net = random_net(rng, kind, (4, 12, 12, 3))
    model = net.model()
    for _ in range(100):
        x = rng.standard_normal(4)
        low, high = point_scores(model.graph, x)
        label = int(np.argmax(low))
        margin = margins_at(low, high, label)
        if np.all(np.delete(margin, label) > 0.1):
            break
    found = local_radius(model.graph, x, label, margin, norm=norm, effort=QUICK)
    assert found.radius > 0
    order = {"1": 1, "2": 2, "inf": np.inf}[norm]
    steps = rng.standard_normal((4000, 4))
    steps /= np.linalg.norm(steps, order, axis=1, keepdims=True)
    steps *= np.linspace(0.01, 20, 4000)[:, None] * found.radius
    wrong = evaluate(model.graph, x + steps).argmax(1) != label
    distance = np.linalg.norm(steps, order, axis=1)[wrong].min(initial=np.inf)
    document = json.loads(radius_certificate(found, model))
    assert found.radius * 0.96 <= document["radius"] < found.radius
    return document, net.bytes(), float(distance)


@pytest.mark.parametrize("kind", LOCAL_KINDS)
def test_radii_are_proved_again(kind: str, rng: np.random.Generator) -> None:
    document, data, distance = radius_document(kind, rng)
    result = check_radius_document(validated_radius(document), data)
    assert result.radius == document["radius"] < distance


@pytest.mark.parametrize("norm", ["1", "inf"])
def test_radii_in_other_norms(norm: str, rng: np.random.Generator) -> None:
    document, data, distance = radius_document("Relu", rng, norm)
    assert check_radius_document(validated_radius(document), data).radius < distance


def mutate_radius(document: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    """One change somewhere: a larger claim, another centre, label or norm, a moved multiplier."""
    changed = copy.deepcopy(document)
    problem = changed["problems"][int(rng.integers(len(changed["problems"])))]
    pick = problem["relus"][int(rng.integers(len(problem["relus"])))]
    i = int(rng.integers(len(pick)))
    match int(rng.integers(8)):
        case 0:
            changed["radius"] *= float(rng.uniform(1.001, 3))
        case 1:
            changed["centre"][int(rng.integers(4))] += float(rng.normal())
        case 2:
            changed["label"] = (changed["label"] + 1) % 3
        case 3:
            changed["norm"] = str(rng.choice(["inf", "1"]))
        case 4:
            pick[i] *= float(10 ** rng.uniform(-6, 6))
        case 5:
            pick[i] = -1.0
        case 6:
            pick.pop()
        case _:
            changed["problems"].pop()
    return changed


def test_mutated_local_certificates_are_rejected_unless_still_valid(rng: np.random.Generator) -> None:
    """Fifty radii and fifty local bounds; what is accepted is still true of sampled points."""
    document, data, _ = radius_document("Relu", rng)
    graph = load_bytes(data, "net").graph
    rejected = 0
    for _ in range(50):
        changed = mutate_radius(document, rng)
        try:
            result = check_radius_document(validated_radius(changed), data)
        except SureboundError:
            rejected += 1
            continue
        step = rng.standard_normal((2000, 4))
        order = {"1": 1, "2": 2, "inf": np.inf}[result.norm]
        step *= result.radius / np.linalg.norm(step, order, axis=1, keepdims=True)
        assert np.all(evaluate(graph, np.array(changed["centre"]) + step).argmax(1) == result.label)
    assert rejected >= 25
    document, data = made(
        random_net(rng, "Relu", (4, 8, 8, 3)), region=sdp.Region.around(rng.standard_normal(4), 0.4, "2")
    )
    graph, rejected = load_bytes(data, "net").graph, 0
    for _ in range(50):
        changed = mutate(document, rng)
        ball = changed["region"]["ball"]
        if rng.random() < 0.4:
            changed = copy.deepcopy(document)
            ball = changed["region"]["ball"]
            ball["radius"] *= 4.0
            changed["region"]["lo"] = [c - ball["radius"] for c in ball["centre"]]
            changed["region"]["hi"] = [c + ball["radius"] for c in ball["centre"]]
        try:
            result = check_document(validated(changed), data)
        except SureboundError:
            rejected += 1
            continue
        ends = rng.standard_normal((2, 1000, 4))
        ends *= ball["radius"] * rng.random((2, 1000, 1)) / np.linalg.norm(ends, axis=2, keepdims=True)
        a, b = (np.array(ball["centre"]) + e for e in ends)
        change = np.linalg.norm(evaluate(graph, a) - evaluate(graph, b), axis=1)
        assert np.all(change <= result.upper * np.linalg.norm(a - b, axis=1) * (1 + 1e-9)), changed
    assert rejected >= 30


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
