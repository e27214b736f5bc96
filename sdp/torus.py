"""Convolutional networks by frequency: LipSDP with one multiplier per channel, never unrolled; L2 to L2.

A zero-padded convolution is a circular one on a torus that is large enough, followed by a crop to the image.
Rectifiers come next, and the crop is one of their slopes: outside of the image the slope is 0, which lies in
[0, 1] like any other. So the network on the torus, with *free* slopes, has every difference of the true one,
and with multipliers that do not depend on the position everything is invariant under shifts: in the Fourier
basis (unitary, so norms stay) the matrix inequality falls apart into one small problem for every frequency of
the coarsest grid, with the finer grids' aliases of it side by side where strides fold them together:

    (W x)^(w) = 1/s sum over aliases w' of w:  K^(w') x^(w'),    K^(w) = sum_j K_j exp(i w (j - pad)).

Each is a :class:`sdp.chain.Chain` (real and imaginary parts stacked), proved by :mod:`sdp.certify` with the
errors of the transform in its matrices. The bound is the largest over frequencies, times that of what follows
the convolutions.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from bounds.graph import Array, Graph, GraphBuilder, Op
from bounds.numerics import FLOAT64
from sdp.certify import repaired
from sdp.chain import Chain, Infeasible, Multipliers, Step, backward, largest
from sdp.first_order import slope_of_value
from sdp.matrices import Matrix
from sdp.objective import Norm

MOST_WORK = 4e11  # multiply-adds of one proof of all frequencies
ACTIVE = 3  # frequencies that a step of the search looks at
STEPS, REFRESH = 150, 15
RATE = 0.15


@dataclass(frozen=True, slots=True)
class Layer:
    """A convolution with a rectifier on its result.

    Attributes:
        weight: ``O C kh kw``, groups filled up with zeros.
        stride, pads: (top, left, bottom, right).
        image: height and width of the result.
        error: relative, of the weights.
    """

    weight: Array
    stride: int
    pads: tuple[int, int, int, int]
    image: tuple[int, int]
    error: float


@dataclass(frozen=True, slots=True)
class Split:
    """A network as convolutions and the rest, which may be empty."""

    layers: tuple[Layer, ...]
    size: tuple[int, int]
    rest: Graph | None


def split(graph: Graph) -> Split | None:
    """The convolutions that a graph begins with; None where there are none of the kind."""
    readers = graph.consumers()
    at, layers, cut = graph.inputs[0].node, list[Layer](), graph.inputs[0].node
    first: tuple[int, int] | None = None
    if len(graph.inputs) != 1 or len(graph.outputs) != 1:
        return None
    while len(readers[at]) == 1:
        node = graph.nodes[readers[at][0]]
        if node.op is Op.RESHAPE and not layers and len(node.inputs) == 1:
            at = node.id
            continue
        layer = _layer(graph, node.id)
        if layer is None or len(readers[node.id]) != 1:
            break
        after = graph.nodes[readers[node.id][0]]
        if after.op is not Op.RELU:
            break
        if first is None:
            first = graph.nodes[at].shape[2], graph.nodes[at].shape[3]
        layers.append(layer)
        at = cut = after.id
    if not layers or first is None:
        return None
    return Split(tuple(layers), first, _rest(graph, cut))


def _layer(graph: Graph, i: int) -> Layer | None:
    node = graph.nodes[i]
    if node.op is not Op.CONV or graph.nodes[node.inputs[0]].shape[0] != 1:
        return None
    p = node.params
    strides, groups = tuple(p["strides"]), int(p["groups"])
    if strides[0] != strides[1] or tuple(p["dilations"]) != (1, 1):
        return None
    weight = np.asarray(p["weight"], dtype=np.float64)
    if groups > 1:
        o, c = weight.shape[:2]
        full = np.zeros((o, c * groups, *weight.shape[2:]))
        for g in range(groups):
            rows = slice(g * o // groups, (g + 1) * o // groups)
            full[rows, g * c : (g + 1) * c] = weight[rows]
        weight = full
    pads = tuple(int(v) for v in p["pads"])
    return Layer(weight, int(strides[0]), pads, (node.shape[2], node.shape[3]), node.weight_error)  # type: ignore[arg-type]


def _rest(graph: Graph, cut: int) -> Graph | None:
    """What follows node ``cut``, as a graph; None if that is nothing."""
    if graph.outputs[0].node == cut:
        return None
    builder = GraphBuilder()
    known = {cut: builder.input("cut", graph.nodes[cut].shape)}
    for node in graph.nodes[cut + 1 :]:
        if any(i not in known for i in node.inputs) or not node.inputs:
            continue
        known[node.id] = builder.add(
            node.op, [known[i] for i in node.inputs], node.shape, node.params,
            roundings=node.roundings, weight_error=node.weight_error, source=node.source,
        )  # fmt: skip
    builder.output("out", known[graph.outputs[0].node])
    return builder.build()


# ------------------------------------------------------------------ frequencies
def torus_size(split: Split, axis: int) -> int:
    """Points of the finest torus along one axis: no read from an image wraps around into it."""
    total = math.prod(layer.stride for layer in split.layers)
    size = -(-split.size[axis] // total) * total
    while not _fits(split, axis, size):
        size += total
    return size


def _fits(split: Split, axis: int, size: int) -> bool:
    image = split.size[axis]
    for layer in split.layers:
        kernel, pad, out = layer.weight.shape[2 + axis], layer.pads[axis], layer.image[axis]
        lowest, highest = -pad, (out - 1) * layer.stride - pad + kernel - 1
        # below zero comes from the end of the torus, beyond the image; above stays on the torus
        if -lowest > size - image or highest > size - 1 or size % layer.stride or image > size:
            return False
        size, image = size // layer.stride, out
        if image > size:
            return False
    return True


@dataclass(frozen=True, slots=True)
class Frequencies:
    """One chain per coarse frequency, and which channel each element of each step belongs to."""

    chains: tuple[Chain, ...]
    channel: tuple[Array, ...]

    def multipliers(self, per_channel: Sequence[Array]) -> Multipliers:
        """Every element's."""
        return [one[owner] for one, owner in zip(per_channel, self.channel, strict=True)]


def frequencies(split: Split) -> Frequencies | None:
    """The problems of all coarse frequencies up to sign; None if proving them would take too long."""
    finest = torus_size(split, 0), torus_size(split, 1)
    sizes = [finest]
    for layer in split.layers:
        sizes.append((sizes[-1][0] // layer.stride, sizes[-1][1] // layer.stride))
    base = sizes[-1]
    channels = [split.layers[0].weight.shape[1], *(layer.weight.shape[0] for layer in split.layers)]
    aliases = [(a // base[0]) * (b // base[1]) for a, b in sizes]
    widths = [2 * a * c for a, c in zip(aliases, channels, strict=True)]
    work = sum((a + b) ** 3 * 6.0 for a, b in pairwise(widths))
    pairs = [
        (u, v)
        for u in range(base[0])
        for v in range(base[1])
        if (u, v) <= ((-u) % base[0], (-v) % base[1])  # conjugates have the same bound
    ]
    if work * len(pairs) > MOST_WORK:
        return None
    owners = tuple(np.tile(np.arange(c), 2 * a) for a, c in zip(aliases[1:], channels[1:], strict=True))
    return Frequencies(tuple(_chain(split, sizes, pair) for pair in pairs), owners)


def _chain(split: Split, sizes: Sequence[tuple[int, int]], pair: tuple[int, int]) -> Chain:
    steps: list[Step] = []
    for layer, fine, coarse in zip(split.layers, sizes, sizes[1:], strict=False):
        d = _operator(layer, fine, coarse, _aliased(pair, fine, sizes[-1]), _aliased(pair, coarse, sizes[-1]))
        rows, columns = d.shape
        steps.append(Step(Matrix.exact(np.zeros((rows, columns))), Matrix.identity(rows), d))
    return Chain(Matrix.identity(steps[0].d.shape[1]), tuple(steps), Matrix.identity(steps[-1].d.shape[0]))


def _aliased(pair: tuple[int, int], size: tuple[int, int], base: tuple[int, int]) -> list[tuple[int, int]]:
    return [(u, v) for u in range(pair[0], size[0], base[0]) for v in range(pair[1], size[1], base[1])]


def _operator(
    layer: Layer,
    fine: tuple[int, int],
    coarse: tuple[int, int],
    inputs: list[tuple[int, int]],
    outputs: list[tuple[int, int]],
) -> Matrix:
    """The layer between two lists of frequencies: ``[Re -Im; Im Re]``.

    Soundness: an entry sums kh kw products of a weight with a cosine (or sine) of an angle below 2 pi that is
    off by at most a few dozen units; ``slip`` pays for 64 roundings more than the sum's own.
    """
    o, c, kh, kw = layer.weight.shape
    value = np.zeros((len(outputs), o, len(inputs), c), dtype=np.complex128)
    size = np.zeros((len(outputs), o, len(inputs), c))
    most = np.abs(layer.weight).sum(axis=(2, 3))
    for b, (u, v) in enumerate(inputs):
        a = outputs.index((u % coarse[0], v % coarse[1]))
        # exact whole numbers before the division: the angle is as good as one rounding makes it
        down = (u * (np.arange(kh) - layer.pads[0])) % fine[0] / fine[0]
        right = (v * (np.arange(kw) - layer.pads[1])) % fine[1] / fine[1]
        phase = np.exp(2j * np.pi * down)[:, None] * np.exp(2j * np.pi * right)[None, :]
        value[a, :, b] = np.einsum("ocij,ij->oc", layer.weight, phase) / layer.stride
        size[a, :, b] = most / layer.stride
    flat = value.reshape(len(outputs) * o, len(inputs) * c)
    size = size.reshape(flat.shape) * (1 + 2.0**-30)
    stacked = np.block([[flat.real, -flat.imag], [flat.imag, flat.real]])
    slip = FLOAT64.gamma(kh * kw + 64) + layer.error * (1 + 2.0**-20)
    return Matrix(stacked, np.block([[size, size], [size, size]]) * (1 + layer.error) * (1 + slip), slip)


# ------------------------------------------------------------------ multipliers
def bound_convolutions(split: Split, should_stop: Callable[[], bool]) -> float | None:
    """A proved L2 bound of the convolutions with their rectifiers; None if there is none within reach."""
    problem = frequencies(split)
    if problem is None:
        return None
    best = _search(problem, should_stop)
    if best is None:
        return None
    lam = problem.multipliers(best)
    try:
        return max(repaired(chain, lam, np.ones(chain.outputs), Norm.TWO).upper for chain in problem.chains)
    except Infeasible:
        return None


def _search(problem: Frequencies, should_stop: Callable[[], bool]) -> list[Array] | None:
    """Adam on the logarithms of the channels' multipliers, on the frequencies that matter."""
    per_channel = _start(problem)
    theta = [np.log(one) for one in per_channel]
    best, least = per_channel, _worst(problem, per_channel)[0]
    first, second = [np.zeros_like(t) for t in theta], [np.zeros_like(t) for t in theta]
    active, rate = _worst(problem, per_channel)[1], RATE
    for t in range(1, STEPS + 1):
        if should_stop():
            break
        if t % REFRESH == 0:
            value, active = _worst(problem, [np.exp(v) for v in theta])
            if value < least:
                best, least = [np.exp(v) for v in theta], value
            else:
                theta, rate = [np.log(one) for one in best], rate / 2
                active = _worst(problem, best)[1] | active
        slope = _gradient(problem, theta, active)
        if slope is None:
            theta, rate = [np.log(one) for one in best], rate / 2
            continue
        for k, g in enumerate(slope):
            first[k] = 0.9 * first[k] + 0.1 * g
            second[k] = 0.99 * second[k] + 0.01 * g * g
            move = first[k] / (1 - 0.9**t) / (np.sqrt(second[k] / (1 - 0.99**t)) + 1e-12)
            theta[k] = theta[k] - rate * move
    final = [np.exp(v) for v in theta]
    value = _worst(problem, final)[0]
    chosen = final if value < least else best
    return chosen if np.isfinite(min(value, least)) else None


def _start(problem: Frequencies) -> list[Array]:
    """One number per layer that is feasible at every frequency, backwards from the output."""
    storages = [np.eye(chain.outputs) for chain in problem.chains]
    found: list[Array] = []
    for k in reversed(range(len(problem.channel))):
        top = max(largest(q) for q in storages)
        owner = problem.channel[k]
        found.append(np.full(int(owner.max()) + 1, top))
        one = found[-1][owner]
        storages = [_back(chain.steps[k], one, q) for chain, q in zip(problem.chains, storages, strict=True)]
    return found[::-1]


def _back(step: Step, lam: Array, q: Array) -> Array:
    d = step.d.value
    inner = lam[:, None] * np.linalg.solve(np.diag(2 * lam) - q, np.diag(lam))
    before = d.T @ inner @ d
    return (before + before.T) / 2


def _worst(problem: Frequencies, per_channel: Sequence[Array]) -> tuple[float, set[int]]:
    """The bound squared over all frequencies, and the ones with the largest."""
    lam = problem.multipliers(per_channel)
    values = np.full(len(problem.chains), np.inf)
    for i, chain in enumerate(problem.chains):
        try:
            values[i] = largest(backward(chain, lam, np.eye(chain.outputs)).q[0])
        except Infeasible:
            continue
    return float(values.max()), set(np.argsort(-values)[:ACTIVE].tolist())


def _gradient(problem: Frequencies, theta: Sequence[Array], active: set[int]) -> list[Array] | None:
    """Of the logarithm of the active frequencies' bounds, by channel."""
    lam = problem.multipliers([np.exp(v) for v in theta])
    total = [np.zeros_like(v) for v in theta]
    values: list[tuple[float, list[Array]]] = []
    for i in sorted(active):
        chain = problem.chains[i]
        try:
            values.append(slope_of_value(chain, np.eye(chain.outputs), lam))
        except Infeasible:
            return None
    top = max(value for value, _ in values)
    weights = np.array([math.exp(20 * (value / top - 1)) for value, _ in values])
    for weight, (_, parts) in zip(weights / weights.sum(), values, strict=True):
        for k, owner in enumerate(problem.channel):
            np.add.at(total[k], owner, weight * parts[k])
    return total


def timer(seconds: float) -> Callable[[], bool]:
    """Whether so many seconds are over."""
    end = time.monotonic() + seconds
    return lambda: time.monotonic() > end
