"""Margin losses against their formulas, decay against its own, schedules, and the report's picture."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs PyTorch: ./scripts/test installs it")
pytestmark = pytest.mark.torch

from training import decay, losses, schedule  # noqa: E402
from training.config import LossConfig, TrainConfig, from_mapping  # noqa: E402
from training.curve import write_curve  # noqa: E402
from training.initialise import initialise  # noqa: E402
from training.layers import make_activation, make_dense  # noqa: E402
from training.network import build_lipschitz  # noqa: E402

F = torch.tensor([[2.0, 1.0, -1.0], [0.0, 0.5, 0.25]], dtype=torch.float64)
Y = torch.tensor([0, 0])
D = torch.tensor([[0.0, 2.0, 1.0], [2.0, 0.0, 1.0], [1.0, 1.0, 0.0]], dtype=torch.float64)


def test_certified_radii_by_hand() -> None:
    # (2-1)/2 and (2+1)/1; (0-0.5)/2 and (0-0.25)/1
    assert losses.certified_radii(F, Y, D).tolist() == [0.5, -0.25]


def test_losses_by_hand() -> None:
    config = LossConfig(temperature=0.5, offset=0.3, beta=2.0)

    def logs(rows: list[list[float]]) -> list[float]:
        return [r[0] - math.log(sum(math.exp(v) for v in r)) for r in rows]

    plain = logs([[v / 0.5 for v in row] for row in F.tolist()])
    moved = logs([[(row[0] - 0.3) / 0.5, row[1] / 0.5, row[2] / 0.5] for row in F.tolist()])
    assert float(losses.cross_entropy(F, Y, D, config, 0.4)) == pytest.approx(-0.5 * sum(plain) / 2)
    assert float(losses.offset(F, Y, D, config, 0.4)) == pytest.approx(-0.5 * sum(moved) / 2)
    annealed = [-0.5 * (1 - math.exp(v)) ** 2 * v for v in moved]
    assert float(losses.logit_annealing(F, Y, D, config, 0.4)) == pytest.approx(sum(annealed) / 2)
    # margins are worth 0.5 and 3, clipped to 0.4; -0.25 (in units of d) and worse, clipped to 0.004
    raised = logs(
        [[4.0, (1 + 0.8) / 0.5, (-1 + 0.4) / 0.5], [0.0, (0.5 + 0.008) / 0.5, (0.25 + 0.004) / 0.5]]
    )
    assert float(losses.emma(F, Y, D, config, 0.4)) == pytest.approx(-0.5 * sum(raised) / 2)
    assert float(losses.hinge(F, Y, D, config, 0.6)) == pytest.approx((0.1 + 0.85) / 2)
    automatic = LossConfig(temperature=0.5)
    assert float(losses.offset(F, Y, D, automatic, 0.3 / math.sqrt(2))) == pytest.approx(
        -0.5 * sum(moved) / 2
    )


@pytest.mark.parametrize("n", [16, 64, 256])
def test_one_layer_decays_by_the_formula(n: int) -> None:
    torch.manual_seed(n)
    found = 0.0
    count = max(2, 4000 // n)
    for _ in range(count):
        layer = make_dense("aol", n, n).double()
        with torch.no_grad():
            layer.raw.normal_(0, 3.0)
            found += float((layer.matrix() ** 2).mean()) / count
    assert found == pytest.approx(decay.aol_variance(n, n), rel=0.05)
    assert decay.expected_overlap(n) == pytest.approx(math.sqrt(2 * n / math.pi), rel=0.05)
    assert decay.aol_gain(n, relu=True) == pytest.approx(math.sqrt(math.pi / (2 * n)) / 2, rel=0.2)


def ratio(layer: str, start: str, activation: str, depth: int, **options: Any) -> float:
    torch.manual_seed(1)
    layers: list[Any] = []
    for _ in range(depth):
        made = make_dense(layer, 32, 32, **options).eval()
        initialise(made, start)
        layers.append(made)
        if layer != "sll":
            layers.append(make_activation(activation, 32))
    return decay.through(layers, torch.randn(64, 32), [len(layers)])[0].distance


def test_remedies_help() -> None:
    assert ratio("aol", "gaussian", "relu", 20) < 1e-9
    assert ratio("aol", "orthogonal", "maxmin", 20) > 0.1
    assert ratio("sll", "gaussian", "relu", 50) < 0.02
    assert ratio("sll", "gaussian", "relu", 50, hidden=4) > 0.1
    assert ratio("sll", "orthogonal", "relu", 20) > 0.1


def test_a_decaying_network_is_warned_about() -> None:
    torch.manual_seed(2)
    x = torch.randn(32, 16)
    for init, warned in (("gaussian", True), ("orthogonal", False)):
        model = from_mapping({"model": {"layer": "aol", "activation": "maxmin", "hidden": [16] * 30}}).model
        network = build_lipschitz(model, (16,), 4)
        initialise(network, init)
        text = decay.warning_of(network, x)
        assert bool(text) is warned
        assert not warned or ("31 layers" in text and "orthogonal" in text)


def test_schedules() -> None:
    config = TrainConfig(lr=1.0, schedule="steps")
    assert [round(schedule.rate(config, s), 6) for s in (0.0, 0.7, 0.9)] == [1.0, 0.1, 0.01]
    assert schedule.rate(TrainConfig(lr=1.0), 1.0) == pytest.approx(0.0)
    assert schedule.rate(TrainConfig(lr=1.0, schedule="onecycle"), 0.2) == pytest.approx(1.0)
    loss = LossConfig(warmup=0.1, ramp=0.4, kappa_end=0.2, mix_end=0.5)
    assert [round(schedule.ramp(loss, s), 6) for s in (0.0, 0.1, 0.3, 0.5, 1.0)] == [0, 0, 0.5, 1, 1]
    assert [round(schedule.kappa(loss, s), 6) for s in (0.0, 0.3, 1.0)] == [1, 0.6, 0.2]
    assert [round(schedule.mix(loss, s), 6) for s in (0.0, 0.3, 1.0)] == [1, 0.75, 0.5]


def test_the_picture_draws_what_there_is(tmp_path: Path) -> None:
    report = {"norm": "2", "clean": 1.0, "certified": {"0.5": 0.5, "1": 0.0}, "attacked": {"0.5": 0.75}}
    write_curve(tmp_path / "a.svg", report)
    text = (tmp_path / "a.svg").read_text()
    assert text.count("<polyline") == 2
    assert "60.0,24.0 270.0,149.0 480.0,274.0" in text  # clean, half at half, nothing at the end
