"""Layers of other libraries come in with their present weights, and the constant is proved of those."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs PyTorch: ./scripts/test installs it")
pytestmark = pytest.mark.torch

from torch import nn  # noqa: E402
from torch.nn.utils.parametrizations import orthogonal  # noqa: E402

import sdp  # noqa: E402
from bounds.errors import BadInput  # noqa: E402
from bounds.io.torch_module import from_torch  # noqa: E402
from training.interop import plain  # noqa: E402


def proved(network: Any, shape: tuple[int, ...]) -> Any:
    """The bound of the plain form, which computes the same."""
    x = torch.randn(3, *shape)
    made = plain(network, x)
    with torch.no_grad():
        torch.testing.assert_close(made(x), network.eval()(x), rtol=1e-4, atol=1e-5)
    return sdp.lipschitz(from_torch(made, torch.zeros(1, *shape)), effort=sdp.Effort(seconds=10))


def test_parametrised_layers() -> None:
    """PyTorch's own parametrisations, which both libraries build on."""
    torch.manual_seed(0)
    network = nn.Sequential(orthogonal(nn.Linear(6, 8)), nn.ReLU(), orthogonal(nn.Linear(8, 3)))
    bound = proved(network, (6,))
    assert 0.5 < bound.lower <= bound.upper <= 1.00001


def test_torchlip() -> None:
    torchlip = pytest.importorskip("deel.torchlip", reason="pip install deel-torchlip")
    torch.manual_seed(0)
    dense = torchlip.Sequential(
        torchlip.SpectralLinear(16, 32), torchlip.GroupSort2(), torchlip.FrobeniusLinear(32, 1)
    )
    assert proved(dense, (16,)).upper <= 1.0001
    images = torchlip.Sequential(
        torchlip.SpectralConv2d(1, 4, 3), torchlip.GroupSort2(), nn.Flatten(), torchlip.SpectralLinear(144, 3)
    )
    images(torch.randn(2, 1, 8, 8))
    assert proved(images.eval(), (1, 8, 8)).upper <= 1.05  # a first-order search leaves a little


@pytest.mark.parametrize("stride", [1, 2])
def test_orthogonium(stride: int) -> None:
    layers = pytest.importorskip("orthogonium.layers", reason="pip install orthogonium einops")
    torch.manual_seed(0)
    conv = layers.AdaptiveOrthoConv2d(3, 8, 3, stride=stride, padding=1, padding_mode="zeros")
    network = nn.Sequential(conv, nn.ReLU(), nn.Flatten(), layers.OrthoLinear(8 * (8 // stride) ** 2, 4))
    bound = proved(network.eval(), (3, 8, 8))
    assert bound.lower <= bound.upper <= 1.05


class Odd(nn.Linear):
    """A layer whose weight is not all it does."""

    def forward(self, input: Any) -> Any:
        return 2 * super().forward(input)


def test_a_layer_that_does_more_is_refused() -> None:
    with pytest.raises(BadInput, match="does more than"):
        plain(nn.Sequential(Odd(3, 2)), torch.randn(4, 3))


def test_a_nan_is_refused() -> None:
    network = nn.Sequential(Odd(3, 2))
    with torch.no_grad():
        network[0].weight.fill_(float("nan"))
    with pytest.raises(BadInput, match="does more than"):
        plain(network, torch.randn(4, 3))
