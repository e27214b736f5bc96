"""Small convolutions as matrices: entry by entry what the convolution computes."""

from __future__ import annotations

import numpy as np
import pytest

from bounds.kernels.numpy import NumpyKernels
from bounds.numerics import FLOAT64
from bounds.ops.conv import ConvGeometry, _matrix


@pytest.mark.parametrize("seed", range(30))
def test_matrix_is_the_convolution(seed: int) -> None:
    rng = np.random.default_rng(seed)
    groups = int(rng.choice([1, 1, 2, 3]))
    c, o = (int(v) * groups for v in rng.integers(1, 5, 2))
    kernel, strides, dilations = (tuple(int(v) for v in rng.integers(1, m, 2)) for m in (4, 4, 3))
    pads = tuple(int(v) for v in rng.integers(0, 4, 4))
    h, w = (int(v) for v in rng.integers(6, 10, 2))
    reach = [d * (k - 1) + 1 for k, d in zip(kernel, dilations, strict=True)]
    p = (h + pads[0] + pads[2] - reach[0]) // strides[0] + 1
    q = (w + pads[1] + pads[3] - reach[1]) // strides[1] + 1
    weight = rng.normal(size=(o, c // groups, *kernel))
    params = {"weight": weight, "strides": strides, "pads": pads, "dilations": dilations, "groups": groups}
    g, kernels = ConvGeometry((1, c, h, w), (1, o, p, q), params), NumpyKernels(FLOAT64)
    matrix = _matrix(g, weight)
    taps = kernels.conv_weight(weight, g)
    np.testing.assert_array_equal(matrix, kernels.conv_adjoint(np.eye(len(matrix)), taps, g))
    np.testing.assert_array_equal(matrix.T, kernels.conv(np.eye(matrix.shape[1]), taps, g))
