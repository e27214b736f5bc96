"""Which backend is chosen, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from bounds import device
from bounds.errors import BadInput
from bounds.graph import Graph, GraphBuilder, Op
from bounds.kernels.numpy import NumpyKernels
from bounds.numerics import EXACT, FLOAT32, FLOAT64

HOW = "needs PyTorch: pip install 'surebound[torch]'"


@pytest.fixture
def torch() -> Iterator[Any]:
    """PyTorch, with the precision settings put back afterwards."""
    module = pytest.importorskip("torch", reason=HOW)
    held = module.get_float32_matmul_precision()
    yield module
    module.set_float32_matmul_precision(held)


def convolution(channels: int, side: int = 32) -> Graph:
    b = GraphBuilder()
    x = b.input("x", (1, 3, side, side))
    how = {"strides": (1, 1), "pads": (1, 1, 1, 1), "dilations": (1, 1), "groups": 1}
    weight = np.zeros((channels, 3, 3, 3))
    y = b.add(Op.CONV, (x,), (1, channels, side, side), {"weight": weight, "bias": np.zeros(channels), **how})
    b.output("y", y)
    return b.build()


def test_work_is_that_of_convolutions_that_stay() -> None:
    assert device.convolution_work(convolution(1, side=8)) == 0  # becomes a matrix
    assert device.convolution_work(convolution(8)) == 8 * 32 * 32 * 27


def test_small_networks_run_in_numpy() -> None:
    assert isinstance(device.choose(device.TORCH_WORK - 1)(FLOAT32), NumpyKernels)
    assert isinstance(device.choose(10 * device.TORCH_WORK, device="numpy")(FLOAT64), NumpyKernels)


def test_choosing_numpy_imports_no_torch() -> None:
    code = (
        "from bounds.device import choose; from bounds.numerics import FLOAT32; choose(1000)(FLOAT32);"
        "import sys; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "torch_installed", lambda: False)
    assert isinstance(device.choose(10 * device.TORCH_WORK)(FLOAT32), NumpyKernels)
    with pytest.raises(BadInput, match=r"surebound\[torch\]"):
        device.choose(1, device="cpu")


@pytest.mark.torch
def test_large_convolutions_and_named_devices_run_in_torch(torch: Any) -> None:
    for factory in (device.choose(device.TORCH_WORK), device.choose(1, device="cpu")):
        kernels = factory(FLOAT64)
        assert kernels.name == "torch"
        assert kernels.zeros(1).dtype == torch.float64
        assert factory(FLOAT32).zeros(1).dtype == torch.float32
        assert isinstance(factory(EXACT), NumpyKernels)


@pytest.mark.torch
def test_devices_that_are_not_there(torch: Any) -> None:
    with pytest.raises(BadInput, match="unknown device 'abacus'"):
        device.choose(1, device="abacus")
    with pytest.raises(BadInput, match="'meta' is not supported"):
        device.choose(1, device="meta")
    with pytest.raises(BadInput, match="'cuda:63' is not there"):
        device.choose(1, device="cuda:63")


@pytest.mark.torch
def test_exact_arithmetic_is_refused(torch: Any) -> None:
    from bounds.kernels.torch import TorchKernels

    with pytest.raises(BadInput, match="no exact arithmetic"):
        TorchKernels(EXACT)


@pytest.mark.torch
def test_reduced_precision_is_refused(torch: Any) -> None:
    kernels = device.choose(1, device="cpu")(FLOAT32)
    torch.set_float32_matmul_precision("medium")  # bfloat16 where the processor has it
    with pytest.raises(BadInput, match="is on: turn it off"):
        device.choose(1, device="cpu")
    with pytest.raises(BadInput, match="is on: turn it off"):
        kernels.array(np.ones(3))  # noticed by kernels that exist already


@pytest.mark.torch
def test_autocast_is_refused(torch: Any) -> None:
    kernels = device.choose(1, device="cpu")(FLOAT32)
    with torch.autocast("cpu"), pytest.raises(BadInput, match="autocast"):
        kernels.array(np.ones(3))


@pytest.mark.torch
def test_convolutions_by_transform_are_noticed(torch: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in that mixes in what it should not see, as Winograd and FFT do, loses the probe."""
    import bounds.kernels.torch as backend
    from bounds.ops.conv import ConvGeometry

    how = {
        "strides": (1, 1),
        "pads": (1, 1, 1, 1),
        "dilations": (1, 1),
        "groups": 1,
        "weight": np.ones((2, 3, 3, 3)),
    }
    geometry = ConvGeometry((1, 3, 16, 16), (1, 2, 16, 16), how)
    weight = torch.ones(2, 3, 3, 3)
    assert backend._is_direct(weight, geometry)
    direct = backend._direct_conv

    def transform(padded: Any, weight: Any, g: Any) -> Any:
        mixed = padded.sum(dim=(1, 2, 3), keepdim=True)
        return (direct(padded, weight, g) + mixed) - mixed

    monkeypatch.setattr(backend, "_direct_conv", transform)
    assert not backend._is_direct(weight, geometry)


@pytest.mark.torch
@pytest.mark.gpu
def test_cuda_is_chosen_without_tf32(torch: Any) -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device: run `pytest -m gpu` on a machine that has one")
    torch.backends.cuda.matmul.allow_tf32 = True
    kernels = device.choose(1, device="cuda")(FLOAT32)
    assert kernels.zeros(1).device.type == "cuda"
    assert not torch.backends.cuda.matmul.allow_tf32
    assert not torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = True
    with pytest.raises(BadInput, match=r"cuda\.matmul"):
        kernels.array(np.ones(3))
    torch.backends.cuda.matmul.allow_tf32 = False
