"""Every parameterisation, exported: onnxruntime computes the same, and another proof confirms the claim."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="needs PyTorch: ./scripts/test installs it")
pytestmark = pytest.mark.torch

import sdp  # noqa: E402
from training.config import from_mapping  # noqa: E402
from training.export import differences, export  # noqa: E402
from training.layers import LAYERS  # noqa: E402
from training.network import build_lipschitz  # noqa: E402

ACTIVATIONS = {"aol": "groupsort4", "lot": "householder", "spectral": "abs"}


@pytest.mark.parametrize("layer", LAYERS)
def test_a_convolutional_network_of_every_layer(layer: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    activation = "relu" if LAYERS[layer].own_relu else ACTIVATIONS.get(layer, "maxmin")
    model = {
        "layer": layer,
        "activation": activation,
        "conv": [8],
        "stride": [2],
        "hidden": [16],
        "centre": 0.1,
    }
    network = build_lipschitz(from_mapping({"model": model}).model, (1, 8, 8), 10)
    network(torch.rand(8, 1, 8, 8))
    proved = network.eval().materialise()
    assert 0.3 < proved.lipschitz <= 1.0
    x, file = torch.rand(5, 1, 8, 8), tmp_path / "net.onnx"
    export(proved.body, (1, 8, 8), file, {"surebound.lipschitz": "1.0"})
    assert differences(file, proved.body, x) < 2e-6
    with torch.no_grad():
        # the whole network is the trained one but for one factor
        torch.testing.assert_close(proved.body(x), network(x) * proved.factor, rtol=1e-4, atol=1e-5)
    bound = sdp.lipschitz(file, effort=sdp.Effort(seconds=20))
    assert bound.lower <= proved.lipschitz
    assert bound.upper <= 1.0
