"""The networks and queries of the branching benchmark: data, folding, the attack, the choice of a radius."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="./scripts/test installs PyTorch")

import genbab  # noqa: E402
from _genbab_instances import SHARE, attacked, choose_radius, queries, robustness  # noqa: E402
from _genbab_networks import (  # noqa: E402
    ACTIVATIONS,
    Data,
    Recipe,
    Sine,
    Trained,
    build,
    export,
    folded,
    load_data,
)
from torch import Tensor  # noqa: E402

from verifier.spec.emit import emit_vnnlib1  # noqa: E402
from verifier.spec.load import load  # noqa: E402

pytestmark = pytest.mark.torch


def images(x: Tensor, y: Tensor | None = None) -> Data:
    """Images of 2 x 2 pixels, for training and for tests; class 0 without labels."""
    labels = torch.zeros(len(x), dtype=torch.long) if y is None else y
    return Data("digits", (1, 2, 2), x, labels, x, labels)


def falling(edge: float) -> Callable[[float], float]:
    return lambda radius: max(0.0, min(1.0, 1.3 - radius / edge))


@pytest.mark.parametrize("edge", [0.0003, 0.01, 0.3])
def test_radius_puts_the_share_in_its_range(edge: float) -> None:
    radius = choose_radius(falling(edge))
    assert SHARE[0] <= falling(edge)(radius) <= SHARE[1]


def test_radius_of_a_jump_is_beside_it() -> None:
    tried: list[float] = []

    def share(radius: float) -> float:
        tried.append(radius)
        return 1.0 if radius < 0.02 else 0.1

    assert choose_radius(share) == pytest.approx(0.02, rel=0.05)
    assert len(tried) <= 12


def test_folding_keeps_the_function() -> None:
    for kind in ACTIVATIONS:
        torch.manual_seed(1)
        model = build(Recipe("digits", kind, "6x100", 0.0, 0), (1, 8, 8))
        model(torch.rand(200, 64) * 3)  # moves the running statistics away from 0 and 1
        model.eval()
        plain, x = folded(model), torch.rand(50, 64)
        assert not any(isinstance(m, torch.nn.BatchNorm1d) for m in plain.modules())
        assert torch.allclose(model(x), plain(x), atol=1e-4)
        assert torch.equal(plain(x), folded(plain)(x))


def test_attack_on_a_linear_network_is_exact() -> None:
    module = torch.nn.Linear(4, 10)
    torch.nn.init.zeros_(module.weight)
    torch.nn.init.zeros_(module.bias)
    module.weight.data[0] = torch.tensor([1.0, 1.0, -1.0, -1.0])
    data = images(torch.tensor([[0.6, 0.6, 0.4, 0.4]]))  # margin 0.4, lost at radius 0.1
    assert attacked(module, data, [0], 0.105) == [True]
    assert attacked(module, data, [0], 0.095) == [False]


def test_property_is_the_box_that_was_meant(tmp_path: Path) -> None:
    data = images(torch.tensor([[0.0, 0.3, 0.7, 1.0]]))
    path = tmp_path / "p.vnnlib"
    path.write_text(emit_vnnlib1(robustness(data, 0, 0.1)))
    case = load(path).cases[0]
    x = data.test_x[0]
    assert case.lower == tuple(Fraction(v) for v in (x - 0.1).clamp(0, 1).tolist())
    assert case.upper == tuple(Fraction(v) for v in (x + 0.1).clamp(0, 1).tolist())
    assert case.lower[0] == 0 and case.upper[3] == 1
    assert len(case.disjuncts) == 9


def test_queries_are_chosen_once(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(4, 16), Sine(), torch.nn.Linear(16, 10)).eval()
    x = torch.rand(40, 4)
    data = images(x, module(x).argmax(1))
    onnx = tmp_path / "net.onnx"
    export(module, 4, onnx)
    net = Trained(Recipe("digits", "sin", "tiny", 0.0, 0), module, onnx, 1.0)
    made = queries(net, data, 10, tmp_path)
    assert 5 <= len(made.queries) <= 10
    for query in made.queries:
        report = genbab.no_split(onnx, tmp_path / query.vnnlib, 100.0)
        assert (report.status.value == "unsat") == query.root
    stamp = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert queries(net, data, 10, tmp_path) == made
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == stamp


def test_data_folder(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="holds neither"):
        load_data(tmp_path)
    rgb = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3)
    labels = np.array([1, 2], dtype=np.uint8)
    np.savez(tmp_path / "cifar10_exact.npz", x_test=rgb, y_test=labels)  # nothing to train with
    np.savez(tmp_path / "cifar10_x.npz", x_train=rgb, y_train=labels, x_test=rgb[:1], y_test=labels[:1])
    np.savez(tmp_path / "mnist.npz", x_train=rgb[..., 0], y_train=labels, x_test=rgb[..., 0], y_test=labels)
    mnist, cifar = load_data(tmp_path)
    assert (mnist.name, mnist.shape) == ("mnist", (1, 4, 4))
    assert (cifar.name, cifar.shape) == ("cifar10", (3, 4, 4))
    assert float(cifar.x[1].reshape(3, 4, 4)[2, 1, 0]) == pytest.approx(float(rgb[1, 1, 0, 2]) / 255)
    assert torch.equal(cifar.test_y, torch.tensor([1]))
    assert mnist.digest != cifar.digest
