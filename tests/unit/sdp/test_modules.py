"""PyTorch modules, those with parametrised weights included."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import sdp
from bounds.errors import BadInput

torch = pytest.importorskip("torch", reason="needs PyTorch: pip install 'surebound[torch]'")
pytestmark = pytest.mark.torch
QUICK = sdp.Effort(seconds=10, sampling=sdp.Sampling(points=8, rounds=2, candidates=8))


class MaxMin(torch.nn.Module):
    """Pairs in order, as training code writes it."""

    def forward(self, x: Any) -> Any:
        a, b = x[:, ::2], x[:, 1::2]
        return torch.cat([torch.maximum(a, b), torch.minimum(a, b)], dim=1)


def test_orthogonal_layers_with_maxmin_have_constant_one() -> None:
    torch.manual_seed(0)
    layers = [torch.nn.utils.parametrizations.orthogonal(torch.nn.Linear(8, 8)) for _ in range(3)]
    module = torch.nn.Sequential(layers[0], MaxMin(), layers[1], MaxMin(), layers[2])
    bound = sdp.lipschitz(module, effort=QUICK)
    assert bound.upper == pytest.approx(1, abs=1e-4) and bound.upper >= bound.lower > 0.99
    assert hasattr(layers[0], "parametrizations")  # the module itself is not changed


def test_a_shape_is_needed_where_none_can_be_guessed() -> None:
    module = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.ReLU(), torch.nn.Flatten())
    with pytest.raises(BadInput, match="example="):
        sdp.lipschitz(module)
    bound = sdp.lipschitz(module, example=(1, 1, 5, 5), effort=QUICK)
    assert 0 < bound.lower <= bound.upper
    assert np.isfinite(bound.upper)


def test_other_things_are_no_models() -> None:
    with pytest.raises(BadInput, match="no model"):
        sdp.lipschitz(3)
