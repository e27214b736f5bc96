"""Training against bounds: the verifier's values, true bounds, every loss, every activation."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs PyTorch: ./scripts/test installs it")
pytestmark = pytest.mark.torch

from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402

from bounds.errors import BadInput, ModelUnsupported  # noqa: E402
from bounds.io.torch_module import from_torch  # noqa: E402
from bounds.kernels.numpy import NumpyKernels  # noqa: E402
from bounds.methods.objective import bound_objectives, compile_objectives  # noqa: E402
from bounds.methods.rule import Rule, relax_boxes  # noqa: E402
from bounds.numerics import FLOAT64  # noqa: E402
from bounds.plan import compile_plan  # noqa: E402
from bounds.relax.catalogue import CATALOGUE  # noqa: E402
from training.config import BOUND_LOSSES, from_mapping  # noqa: E402
from training.data import Dataset  # noqa: E402
from training.network import build_plain  # noqa: E402
from training.robust import losses  # noqa: E402
from training.robust.activations import make_plain_activation  # noqa: E402
from training.robust.bounded import BoundedNetwork  # noqa: E402
from training.robust.certify import _objectives, certified_linf  # noqa: E402
from training.tasks import make_task  # noqa: E402

SHAPE = (1, 6, 6)


def network(activation: str = "relu", **keys: Any) -> nn.Sequential:
    torch.manual_seed(1)
    model = {
        "kind": "plain",
        "conv": [3, 4],
        "stride": [1, 2],
        "hidden": [9],
        "activation": activation,
        **keys,
    }
    module = build_plain(from_mapping({"model": model}).model, SHAPE, 3)
    for part in module:
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.3)
            part.running_var.uniform_(0.5, 2)
    return module.eval()


def boxes(count: int = 4, radius: float = 0.05) -> tuple[Any, Any, Any]:
    generator = torch.Generator().manual_seed(2)
    x = torch.rand(count, *SHAPE, generator=generator)
    return x - radius, x + radius, torch.arange(count) % 3


# what has jumps, poles or unbounded parts is bounded too, but not trained through
SMOOTH = [a.name for a in CATALOGUE if a.domain == (-math.inf, math.inf)]


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid", "softplus", "gelu"])
def test_bounds_agree_with_the_verifiers_on_the_exported_network(activation: str, batch_norm: bool) -> None:
    module = network(activation, batch_norm=batch_norm)
    lo, hi, y = boxes()
    net = BoundedNetwork(module, SHAPE)
    with torch.no_grad():
        linear = net.linear_margins(lo, hi, y, 3).numpy()
        interval = net.margins(lo, hi, y, 3).numpy()
    graph = from_torch(module, torch.zeros(1, *SHAPE)).graph
    tape = relax_boxes(
        compile_plan(graph, NumpyKernels(FLOAT64)),
        lo.flatten(1).double().numpy(),
        hi.flatten(1).double().numpy(),
        Rule(forward=False, refine=False),
    )
    for label in range(3):
        rows = np.array([np.eye(3)[label] - np.eye(3)[j] for j in range(3)])
        root = bound_objectives(tape, compile_objectives(tape.plan, _objectives(rows, 36))).lower
        mine = (y == label).numpy()
        np.testing.assert_allclose(linear[mine], root[mine], rtol=0, atol=1e-4)
    assert (linear >= interval - 1e-4).mean() > 0.5


@pytest.mark.parametrize("name", SMOOTH)
def test_bounds_hold_for_every_activation_and_have_gradients(name: str) -> None:
    module = network(name, conv=[2], stride=[2], hidden=[5])
    lo, hi, y = boxes(3, 0.1)
    net = BoundedNetwork(module, SHAPE)
    linear, interval = net.linear_margins(lo, hi, y, 3), net.margins(lo, hi, y, 3)
    generator = torch.Generator().manual_seed(3)
    for _ in range(50):
        x = lo + (hi - lo) * torch.rand(lo.shape, generator=generator)
        with torch.no_grad():
            f = module(x)
            torch.testing.assert_close(net.held(x), f, rtol=1e-4, atol=1e-4)
        margins = f.gather(1, y[:, None]) - f
        assert bool((linear.detach() <= margins + 1e-4 * (1 + margins.abs())).all())
        assert bool((interval.detach() <= margins + 1e-4 * (1 + margins.abs())).all())
    (linear + interval).sum().backward()
    last = list(module.parameters())[-2:]
    assert all(p.grad is not None and bool(torch.isfinite(p.grad).all()) for p in last)


@pytest.mark.parametrize("name", ["relu", "tanh", "gelu"])
def test_gradients_of_intervals_agree_with_finite_differences(name: str) -> None:
    module = network(name).double()
    lo, hi, y = (t.double() if t.is_floating_point() else t for t in boxes(3, 0.1))
    net = BoundedNetwork(module, SHAPE)

    def value() -> Any:
        return (net.margins(lo, hi, y, 3) * torch.arange(1.0, 4.0, dtype=torch.float64)).sum()

    parameters = list(module.parameters())
    gradients = torch.autograd.grad(value(), parameters)
    generator = torch.Generator().manual_seed(4)
    ways = [torch.randn(p.shape, generator=generator, dtype=torch.float64) for p in parameters]
    slope = sum(float((g * w).sum()) for g, w in zip(gradients, ways, strict=True))
    ends = []
    for step in (1e-6, -2e-6):
        with torch.no_grad():
            for p, w in zip(parameters, ways, strict=True):
                p.add_(step * w)
            ends.append(float(value()))
    assert (ends[0] - ends[1]) / 2e-6 == pytest.approx(slope, rel=1e-4)


@pytest.mark.parametrize("merge", [True, False])
def test_the_fused_loss_bounds_the_worst_cross_entropy(merge: bool) -> None:
    module = network()
    for radius in (0.0, 0.02, 0.2):
        lo, hi, y = boxes(4, radius)
        net = BoundedNetwork(module, SHAPE)
        with torch.no_grad():
            bound = losses.fused_cross_entropy(net, lo, hi, y, 3, merge=merge)
            apart = functional.cross_entropy(-net.linear_margins(lo, hi, y, 3), y, reduction="none")
            worst = torch.zeros(4)
            for _ in range(100):
                x = lo + (hi - lo) * torch.rand_like(lo)
                worst = torch.maximum(worst, functional.cross_entropy(module(x), y, reduction="none"))
        assert bool((bound >= worst - 1e-5).all())
        if radius == 0.0:
            torch.testing.assert_close(bound, worst, rtol=1e-4, atol=1e-4)
        assert bool((bound >= apart - 1.0).all())


def batch_of(name: str, module: nn.Sequential, radius: float = 0.1, **keys: Any) -> losses.Batch:
    lo, hi, y = boxes(6, 0.0)
    net = BoundedNetwork(module, SHAPE)
    clean = net.clean(lo)
    config = from_mapping({"loss": {"name": name, **keys}}).loss
    del hi
    return losses.Batch(net, lo, y, clean, radius, 1.0, 3, config, (0.0, 1.0))


@pytest.mark.parametrize("name", BOUND_LOSSES)
@pytest.mark.parametrize("batch_norm", [False, True])
def test_every_loss_reaches_all_parameters_and_is_clean_at_radius_zero(name: str, batch_norm: bool) -> None:
    torch.manual_seed(5)
    module = network(batch_norm=batch_norm).train()
    batch = batch_of(name, module, alpha=0.5)
    losses.LOSSES[name](batch).backward()
    for p in module.parameters():
        assert p.grad is not None and bool(torch.isfinite(p.grad).all())
    at_zero = losses.LOSSES[name](batch_of(name, module, 0.0, alpha=0.5))
    clean = functional.cross_entropy(batch.clean, batch.y)
    # the product losses are squares there, their gradient is what counts
    expected = 2 * clean**2 if name in ("taps", "staps") else clean
    torch.testing.assert_close(at_zero, expected, rtol=1e-4, atol=1e-4)


def test_order_of_losses() -> None:
    """Adversarial <= SABR-like and convex combinations <= IBP, on one batch."""
    torch.manual_seed(6)
    module = network()
    value = {
        n: float(losses.LOSSES[n](batch_of(n, module, alpha=0.5, box=0.3)).detach()) for n in BOUND_LOSSES
    }
    adversarial = float(losses.LOSSES["mtl-ibp"](batch_of("mtl-ibp", module, alpha=0.0)).detach())
    assert adversarial < value["sabr"] < value["ibp"]
    assert adversarial < value["exp-ibp"] <= value["mtl-ibp"] < value["ibp"]
    assert adversarial < value["cc-ibp"] <= value["mtl-ibp"] + 1e-4
    assert value["crown-ibp"] != value["ibp"]


def test_initialisation_keeps_interval_widths() -> None:
    """IBP initialisation: widths neither explode nor vanish over 8 layers, PyTorch's default explodes."""
    torch.manual_seed(7)
    widths = {}
    for how in ("ibp", "default"):
        parts: list[nn.Module] = []
        for _ in range(8):
            parts += [nn.Linear(64, 64), nn.ReLU()]
        module = nn.Sequential(*parts)
        if how == "ibp":
            losses.ibp_initialise(module)
        net = BoundedNetwork(module, (64,))
        x = torch.rand(32, 64)
        ends = net.bounds.hidden_intervals(x - 0.1, x + 0.1)
        widths[how] = float((ends[-1][1] - ends[-1][0]).mean().detach() / 0.2)
    assert 0.2 < widths["ibp"] < 5
    assert widths["default"] > 20


def test_balance_is_zero_for_balanced_and_positive_for_exploding_networks() -> None:
    torch.manual_seed(8)
    wild = nn.Sequential(
        nn.Flatten(), *[m for _ in range(4) for m in (nn.Linear(36, 36), nn.ReLU())], nn.Linear(36, 3)
    )
    with torch.no_grad():
        for p in wild.parameters():
            p.normal_(0, 1)
    assert float(losses.balance(batch_of("ibp", wild)).detach()) > 0.5


@pytest.mark.parametrize("name", BOUND_LOSSES)
def test_a_few_steps_of_training_raise_certified_margins(name: str) -> None:
    torch.manual_seed(9)
    x = torch.rand(60, *SHAPE) * 0.1
    y = torch.arange(60) % 3
    for i in range(60):
        x[i, 0, 2 * int(y[i]) : 2 * int(y[i]) + 2] += 0.9
    data = Dataset(x, y, x, y, 3)
    config = from_mapping(
        {
            "model": {
                "kind": "plain",
                "activation": "relu",
                "conv": [4],
                "stride": [2],
                "hidden": [16],
                "init": "ibp",
            },
            "loss": {
                "name": name,
                "radius": 0.1,
                "ramp": 0.0,
                "alpha": 0.5,
                "kappa_end": 0.3,
                "mix_end": 1.0,
            },
            "evaluate": {"radii": [0.1]},
        }
    )
    task = make_task(config, data)
    optimiser = torch.optim.Adam(task.model.parameters(), lr=0.01)
    for _ in range(70):
        optimiser.zero_grad()
        task.loss(x, y, 0.5).backward()
        optimiser.step()
    product = task.finish(x, y, [0.05])
    assert product.measured.clean == 1.0
    assert product.measured.certified["0.05"] >= 0.9


def test_rigorous_accuracy() -> None:
    module = network()
    lo, _, _ = boxes(30, 0.0)
    y = module(lo).argmax(1)
    clean, certified = certified_linf(module, lo, y, [0.01, 0.1, 1.0], 3, None)
    assert clean == 1.0
    assert certified["0.01"] >= certified["0.1"] >= certified["1"]
    assert certified["0.01"] > 0.5
    with torch.no_grad():
        module[0].weight.fill_(float("nan"))
    with pytest.raises(ValueError, match="nothing can be proved"):
        certified_linf(module, lo, y, [0.01], 3, None)


def test_unknown_modules_and_activations_are_refused() -> None:
    with pytest.raises(ModelUnsupported, match="no trained bounds yet"):
        BoundedNetwork(nn.Sequential(nn.Linear(2, 2), nn.Softmax(dim=1)), (2,))
    with pytest.raises(BadInput, match="unknown activation"):
        make_plain_activation("nonsense")
