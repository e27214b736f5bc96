"""Convolutions by frequency: above what samples and unrolled operators show, below the product of norms."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from lipschitz_nets import Net

import sdp
from bounds.errors import BadInput
from bounds.evaluate import evaluate
from sdp.prepare import prepare
from sdp.spectral import conv_norm
from sdp.torus import Split, bound_convolutions, split, timer, torus_size

QUICK = sdp.Effort(seconds=10, sampling=sdp.Sampling(points=12, rounds=4, candidates=8))
# channels, stride, kernel, padding (top, left, bottom, right), groups
SHAPES: list[list[tuple[int, int, int, list[int], int]]] = [
    [(3, 1, 3, [1] * 4, 1)],
    [(4, 1, 3, [1] * 4, 1), (3, 2, 3, [1] * 4, 1)],
    [(4, 2, 2, [0] * 4, 1), (4, 1, 3, [1] * 4, 2)],
    [(3, 1, 3, [0] * 4, 1), (4, 2, 4, [1] * 4, 1), (2, 1, 1, [0] * 4, 1)],
    [(3, 2, 3, [0, 0, 1, 1], 1), (3, 2, 3, [0, 1, 1, 0], 1)],
]


def network(
    layers: list[tuple[int, int, int, list[int], int]], rng: np.random.Generator, bias: float, *, dense: bool
) -> Net:
    net, channels, image = Net(2 * 36), 2, (6, 6)
    (x,) = net.op("Reshape", net.x, net.const([1, 2, 6, 6], np.int64))
    for out, stride, kernel, pads, groups in layers:
        weight = net.const(rng.standard_normal((out, channels // groups, kernel, kernel)) / kernel)
        more: dict[str, Any] = {"pads": pads, "strides": [stride] * 2, "group": groups}
        (x,) = net.op("Relu", net.op("Conv", x, weight, net.const(np.full(out, bias)), **more)[0])
        image = tuple((n + pads[i] + pads[i + 2] - kernel) // stride + 1 for i, n in enumerate(image))  # type: ignore[assignment]
        channels = out
    net.size = channels * image[0] * image[1]
    (net.x,) = net.op("Reshape", x, net.const([1, net.size], np.int64))
    if dense:
        net.dense(rng.standard_normal((5, net.size)) / 3).apply("Relu").dense(rng.standard_normal((3, 5)))
    return net


def parts(net: Net) -> Split:
    found = split(prepare(net.model().graph).graph)
    assert found is not None
    return found


@pytest.mark.parametrize("layers", SHAPES)
@pytest.mark.parametrize("bias", [0.0, 100.0])
def test_no_bound_is_below_what_the_network_does(layers: Any, bias: float, rng: np.random.Generator) -> None:
    """With a large bias every rectifier is open, and the network is its unrolled linear map."""
    model = network(layers, rng, bias, dense=False).model()
    bound = sdp.lipschitz(model, method="frequency", effort=QUICK)
    assert bound.lower <= bound.upper * (1 + 1e-9)
    x = np.zeros((1, 72))
    jacobian = np.array([evaluate(model.graph, x + e) - evaluate(model.graph, x) for e in np.eye(72)])[:, 0].T
    assert np.linalg.norm(jacobian, 2) <= bound.upper * (1 + 1e-9)
    if bias:
        assert bound.upper <= 4 * np.linalg.norm(jacobian, 2)


def test_it_beats_the_product_of_norms_and_meets_the_unrolled_optimum(rng: np.random.Generator) -> None:
    layers: Any = [(4, 1, 3, [1] * 4, 1), (4, 2, 3, [1] * 4, 1), (4, 1, 3, [1] * 4, 1)]
    net = network(layers, rng, 0.0, dense=False)
    ours = bound_convolutions(parts(net), timer(10))
    assert ours is not None
    product = np.prod([conv_norm(layer.weight, (layer.stride,) * 2, 1) for layer in parts(net).layers])
    unrolled = sdp.lipschitz(net.model(), method="first-order", effort=QUICK).upper
    # one multiplier per channel, on a torus: no better than one per element on the image
    assert unrolled * 0.99 <= ours < 0.8 * product


def test_dense_layers_after_convolutions(rng: np.random.Generator) -> None:
    model = network(SHAPES[1], rng, 0.0, dense=True).model()
    bound = sdp.lipschitz(model, method="frequency", effort=QUICK)
    assert bound.lower <= bound.upper * (1 + 1e-9)
    assert bound.method == "frequency" and bound.certified
    pairs = sdp.lipschitz(model, method="frequency", rows=sdp.margins(3), output_norm="inf", effort=QUICK)
    assert len(pairs.rows) == 3 and pairs.upper <= bound.upper * 1.5


def test_the_torus_is_large_enough(rng: np.random.Generator) -> None:
    for layers in SHAPES:
        found = parts(network(layers, rng, 0.0, dense=False))
        size, image = torus_size(found, 0), 6
        for layer in found.layers:
            reads = {
                i * layer.stride - layer.pads[0] + j
                for i in range(layer.image[0])
                for j in range(layer.weight.shape[2])
            }
            wrapped = {r % size for r in reads if not 0 <= r < image}
            assert all(w >= image for w in wrapped)
            assert size % layer.stride == 0
            size, image = size // layer.stride, layer.image[0]


def test_what_has_no_frequencies_says_so(rng: np.random.Generator) -> None:
    with pytest.raises(BadInput, match="frequency"):
        sdp.lipschitz(Net(2).dense(np.eye(2)).apply("Relu").model(), method="frequency")
