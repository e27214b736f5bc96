"""The one place that decides which backend does the work, and on which device.

NumPy is the default. CPU time of whole blocks with slope steps, float32, one thread each on a two-core
x86 machine, NumPy's over PyTorch's (above 1 PyTorch is faster):

=====================================================  ===========
dense 5-50x6-5 (ACAS size), 1 box / 256 boxes          0.5 / 0.7
dense 784-256x6-10 / 784-1024x4-10                     0.7 / 0.7
3x32x32, two convolutions of 8 to 16 channels          0.7 to 0.9
3x32x32, two convolutions of 32 or 64 channels         0.9 to 1.6
3x32x32, three or four convolutions of 16 to 64        1.1 to 1.8
=====================================================  ===========

In float64 the ratios are about the same. PyTorch's import alone costs about 1.5 s, so it is worth its
while only where one block takes as long; smaller networks get it when the caller names a device.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from bounds.errors import BadInput
from bounds.graph import Graph, Op
from bounds.kernels.base import Kernels
from bounds.kernels.numpy import NumpyKernels
from bounds.numerics import FLOAT32, Precision
from bounds.ops.conv import fits_dense

KernelsFactory: TypeAlias = Callable[[Precision], Kernels]

# multiply-adds in convolutions (see `convolution_work`): of seven networks above this, six gained 4 to 78 %
# and one lost 11 % (geometric mean 1.3); none below it gained
TORCH_WORK = 2_500_000


def choose(work: int, *, device: str | None = None) -> KernelsFactory:
    """The backend for a network.

    Args:
        work: multiply-adds of its convolutions, from :func:`convolution_work`.
        device: None: decide by size, on the CPU. "numpy": the NumPy backend. Anything else ("cpu", "cuda",
            "cuda:1") is a PyTorch device and selects PyTorch; for CUDA, TF32 is turned off in this process.

    Returns:
        A function from precision to kernels. Exact arithmetic is NumPy's on every device.

    Raises:
        BadInput: the device cannot be used (PyTorch or the device is missing, products are shortened).
    """
    if device == "numpy" or (device is None and not (work >= TORCH_WORK and torch_installed())):
        return NumpyKernels
    if not torch_installed():
        raise BadInput(
            f"device '{device}' needs PyTorch: pip install 'surebound[torch]', or leave the device out"
        )
    return _torch_factory(device or "cpu")


def convolution_work(graph: Graph) -> int:
    """Multiply-adds of one evaluation in convolutions that do not become matrices."""
    total = 0
    for node in graph.nodes:
        if node.op not in (Op.CONV, Op.CONV_TRANSPOSE):
            continue
        read = graph.nodes[node.inputs[0]].size
        if not fits_dense(node, graph):
            across = read if node.op is Op.CONV_TRANSPOSE else node.size
            total += across * int(np.prod(node.params["weight"].shape[1:], dtype=np.int64))
    return total


def torch_installed() -> bool:
    """Whether PyTorch can be imported (it is not)."""
    return importlib.util.find_spec("torch") is not None


def _torch_factory(device: str) -> KernelsFactory:
    from bounds.kernels.torch import TorchKernels, full_precision

    if device.startswith("cuda"):
        full_precision()
    TorchKernels(FLOAT32, device)  # say now, not in the middle of a search, what is wrong

    def kernels(precision: Precision) -> Kernels:
        return TorchKernels(precision, device) if precision.u else NumpyKernels(precision)

    return kernels
