"""PyTorch modules come in through the same importer."""

from __future__ import annotations

import numpy as np
import pytest

from bounds.errors import ModelUnsupported
from bounds.evaluate import evaluate
from bounds.io.compare import compare_with_onnxruntime
from bounds.io.torch_module import from_torch

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch


def test_module_is_imported_in_inference_mode(capfd: pytest.CaptureFixture[str]) -> None:
    nn = torch.nn
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(),
        nn.Flatten(), nn.Linear(64, 5), nn.LeakyReLU(0.1), nn.Hardtanh(-2, 3),
    )  # fmt: skip
    model = from_torch(net, torch.zeros(1, 1, 8, 8))
    compare_with_onnxruntime(model)
    assert net.training
    x = torch.randn(1, 1, 8, 8)
    wanted = net.eval()(x).detach().numpy().ravel()
    np.testing.assert_allclose(
        evaluate(model.graph, x.numpy().reshape(1, -1).astype(np.float64))[0], wanted, atol=1e-5
    )
    assert capfd.readouterr().err == ""


def test_unsupported_layers_are_named() -> None:
    class Noise(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + torch.rand_like(x)

    with pytest.raises(ModelUnsupported, match=r"RandomUniformLike.*inference mode"):
        from_torch(torch.nn.Sequential(torch.nn.Linear(2, 2), Noise()), torch.zeros(1, 2))
