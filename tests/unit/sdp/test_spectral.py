"""Norms of convolutions on their kernels, against unrolled matrices."""

from __future__ import annotations

import numpy as np
import pytest

from bounds.graph import GraphBuilder, Op
from bounds.kernels.numpy import NumpyKernels
from bounds.numerics import FLOAT64
from bounds.ops.table import bind
from sdp.spectral import conv_norm, matrix_norm, structured_product


def unrolled(
    weight: np.ndarray, image: int, stride: int, pad: int, groups: int, dilation: int = 1
) -> np.ndarray:
    builder = GraphBuilder()
    x = builder.input("X", (1, weight.shape[1] * groups, image, image))
    out = (image + 2 * pad - dilation * (weight.shape[2] - 1) - 1) // stride + 1
    params = {
        "weight": weight, "bias": np.zeros(len(weight)), "strides": (stride, stride), "pads": (pad,) * 4,
        "dilations": (dilation, dilation), "groups": groups,
    }  # fmt: skip
    y = builder.add(Op.CONV, (x,), (1, len(weight), out, out), params)
    builder.output("Y", y)
    graph = builder.build()
    map_ = bind(graph.nodes[y], graph, NumpyKernels(FLOAT64))
    return map_.apply([np.eye(graph.nodes[x].size)]).T


@pytest.mark.parametrize(
    ("shape", "stride", "pad", "groups"),
    [
        ((4, 3, 3, 3), 1, 1, 1),
        ((6, 2, 3, 3), 2, 1, 1),
        ((4, 1, 3, 3), 1, 1, 2),
        ((2, 5, 1, 1), 1, 0, 1),
        ((3, 3, 5, 5), 2, 2, 1),
    ],
)
def test_norms_are_bounds_and_close(
    shape: tuple[int, ...], stride: int, pad: int, groups: int, rng: np.random.Generator
) -> None:
    weight = rng.standard_normal(shape)
    true = np.linalg.norm(unrolled(weight, 14, stride, pad, groups), 2)
    found = conv_norm(weight, (stride, stride), groups)
    assert true <= found <= 1.35 * true


def test_dilation_does_not_change_the_norm(rng: np.random.Generator) -> None:
    weight = rng.standard_normal((3, 2, 3, 3))
    assert np.linalg.norm(unrolled(weight, 15, 1, 2, 1, 2), 2) <= conv_norm(weight, (1, 1), 1)


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_matrices_of_any_scale(scale: float, rng: np.random.Generator) -> None:
    w = scale * rng.standard_normal((5, 9))
    assert matrix_norm(w) == pytest.approx(np.linalg.norm(w, 2), rel=1e-9)
    assert matrix_norm(w) >= np.linalg.norm(w, 2) * (1 - 1e-15)
    k = scale * rng.standard_normal((2, 2, 3, 3))
    assert conv_norm(k, (1, 1), 1) == pytest.approx(scale * conv_norm(k / scale, (1, 1), 1), rel=1e-9)


def test_a_whole_graph_is_the_product_of_its_norms(rng: np.random.Generator) -> None:
    builder = GraphBuilder()
    x = builder.input("X", (1, 4))
    a, b = rng.standard_normal((6, 4)), rng.standard_normal((3, 6))
    y = builder.add(Op.LINEAR, (x,), (1, 6), {"weight": a, "bias": np.zeros(6)})
    y = builder.add(Op.RELU, (y,), (1, 6))
    y = builder.add(Op.LINEAR, (y,), (1, 3), {"weight": b, "bias": np.zeros(3)})
    builder.output("Y", y)
    wanted = np.linalg.norm(a, 2) * np.linalg.norm(b, 2)
    assert structured_product(builder.build(), {}) == pytest.approx(wanted, rel=1e-8)
