"""Chains: both recorded walks against the general ones, values and all gradients, in double precision."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs PyTorch: ./scripts/test installs it")
pytestmark = pytest.mark.torch

from torch import nn  # noqa: E402

from bounds.methods import nominal  # noqa: E402
from training.robust.bounded import BoundedNetwork, margin_rows  # noqa: E402

BUILDS: dict[str, tuple[tuple[int, ...], Any]] = {
    "dense": (
        (6,),
        lambda: [nn.Linear(6, 9), nn.ReLU(), nn.Linear(9, 7, bias=False), nn.ReLU(), nn.Linear(7, 4)],
    ),
    "dense normalised": (
        (6,),
        lambda: [nn.Linear(6, 9, bias=False), nn.BatchNorm1d(9), nn.ReLU(), nn.Linear(9, 4, bias=False)],
    ),
    "images": (
        (2, 7, 6),
        lambda: [
            nn.Conv2d(2, 4, 3, 2, 1), nn.ReLU(), nn.Conv2d(4, 6, (2, 3), 1, (0, 1), groups=2, bias=False),
            nn.ReLU(), nn.Flatten(), nn.Linear(6 * 3 * 3, 5), nn.ReLU(), nn.Linear(5, 4),
        ],
    ),
    "one channel, normalised": (
        (1, 8, 8),
        lambda: [
            nn.Conv2d(1, 3, 4, 2, 1), nn.BatchNorm2d(3), nn.ReLU(),
            nn.Conv2d(3, 4, 3, 1, 2, dilation=2, bias=False), nn.BatchNorm2d(4), nn.ReLU(),
            nn.Flatten(), nn.Linear(4 * 4 * 4, 4),
        ],
    ),
}  # fmt: skip


def bounds_and_gradients(net: Any, x: Any, y: Any, *, chained: bool) -> tuple[Any, ...]:
    """Linear and interval margins of small boxes, the inputs' and all parameters' gradients of a mixture."""
    held = net.bounds._chain
    assert held is not None, "this network is a chain"
    lo, hi = (x - 0.1).requires_grad_(), (x + 0.15).requires_grad_()
    net.module.train()
    net.clean(x)  # normalisation from this batch: gradients reach its statistics
    if not chained:
        net.bounds._chain = None
    try:
        linear = net.bounds.mixed_bounds(lo.flatten(1), hi.flatten(1), margin_rows(y, 4, lo))
        interval = net.margins(lo, hi, y, 4)
    finally:
        net.bounds._chain = held
    generator = torch.Generator().manual_seed(3)
    mixture = sum(
        (b * torch.randn(b.shape, generator=generator, dtype=b.dtype)).sum() for b in (linear, interval)
    )
    gradients = torch.autograd.grad(mixture, [lo, hi, *net.module.parameters()])
    return linear.detach(), interval.detach(), *gradients


@pytest.mark.parametrize("cached", [1 << 17, 40])
@pytest.mark.parametrize("name", BUILDS)
def test_a_chain_is_the_general_walk(name: str, cached: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nominal, "_CACHED", cached)  # in one block, and in many
    torch.manual_seed(1)
    shape, build = BUILDS[name]
    module = nn.Sequential(*build()).double()
    for p in module.parameters():
        with torch.no_grad():
            p.add_(0.3 * torch.randn_like(p))
    net = BoundedNetwork(module, shape)
    x, y = torch.rand(5, *shape, dtype=torch.float64), torch.tensor([0, 3, 1, 1, 2])
    own, general = (bounds_and_gradients(net, x, y, chained=c) for c in (True, False))
    for number, (a, b) in enumerate(zip(own, general, strict=True)):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9, msg=lambda m, n=number: f"result {n}: {m}")


@pytest.mark.parametrize(
    "module",
    [
        nn.Sequential(nn.Linear(3, 3)),
        nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.ReLU(), nn.Linear(3, 2)),
        nn.Sequential(nn.Linear(3, 3), nn.ReLU()),
    ],
)
def test_what_is_no_chain_takes_the_general_walk(module: Any) -> None:
    assert BoundedNetwork(module, (3,)).bounds._chain is None
