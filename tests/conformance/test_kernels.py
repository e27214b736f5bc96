"""Every primitive of every backend against plain NumPy, in both precisions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from backend_graphs import ALL_DEVICES, kernels_on

from bounds.kernels.base import Kernels
from bounds.numerics import FLOAT32, FLOAT64, Precision
from bounds.ops.conv import ConvGeometry

pytestmark = [
    pytest.mark.parametrize("precision", [FLOAT32, FLOAT64], ids=lambda p: p.name),
    pytest.mark.parametrize("device", ALL_DEVICES),
]
ROWS, SIZE = 7, 33


@pytest.fixture
def kernels(device: str, precision: Precision) -> Kernels:
    return kernels_on(device, precision)


class Data:
    """Numbers that are exact in float32, and what the backend makes of them."""

    def __init__(self, kernels: Kernels, rng: np.random.Generator) -> None:
        self.k, self.rng = kernels, rng

    def pair(self, *shape: int) -> tuple[Any, Any]:
        values = self.rng.standard_normal(shape).astype(np.float32).astype(np.float64)
        return values, self.k.array(values)

    def sums_agree(self, found: Any, expected: Any, scale: Any, terms: int) -> None:
        """Within ``gamma_terms`` of the sum of magnitudes: what bounds/numerics.py assumes."""
        slack = self.k.precision.gamma(terms) * np.asarray(scale) * 2
        assert (np.abs(self.k.numpy(found) - expected) <= slack).all()

    def same(self, found: Any, expected: Any) -> None:
        np.testing.assert_array_equal(self.k.numpy(found), expected)


@pytest.fixture
def data(kernels: Kernels, rng: np.random.Generator) -> Data:
    return Data(kernels, rng)


def test_arrays_go_there_and_back(kernels: Kernels, data: Data) -> None:
    values, array = data.pair(3, 4)
    data.same(array, values)
    assert kernels.numpy(array).dtype == np.float64
    assert kernels.numpy(kernels.array(np.array([True, False]))).dtype == bool
    assert kernels.numpy(kernels.array(np.arange(3))).dtype.kind == "i"
    third = np.array([1 / 3])
    data.same(kernels.array(third), third.astype(kernels.precision.dtype))
    data.same(kernels.zeros(2, 3), np.zeros((2, 3)))
    assert kernels.numpy(kernels.zeros(2) + array[0, :2]).dtype == np.float64


def test_products(kernels: Kernels, data: Data) -> None:
    (a, a_), (b, b_), (t, t_) = data.pair(ROWS, SIZE), data.pair(ROWS, SIZE), data.pair(SIZE)
    (m, m_), t, t_ = data.pair(SIZE, 5), abs(t), abs(t_)
    data.sums_agree(kernels.matmul(a_, m_), a @ m, abs(a) @ abs(m), SIZE)
    data.sums_agree(kernels.rowdot(a_, b_), (a * b).sum(1), abs(a * b).sum(1), SIZE)
    data.sums_agree(kernels.abs_dot(a_, t_), abs(a) @ t, abs(a) @ t, SIZE)
    expected = (a * b).sum(1) - (abs(a) * abs(b)).sum(1)
    data.sums_agree(kernels.concretize(a_, b_, abs(b_)), expected, 2 * abs(a * b).sum(1), SIZE + 1)


def test_rows_of_a_single_box_are_as_good_as_copies(kernels: Kernels, data: Data) -> None:
    (a, a_), (one, one_) = data.pair(ROWS, SIZE), data.pair(1, SIZE)
    every = kernels.take(one_, kernels.array(np.zeros(ROWS, dtype=np.int64)))
    data.same(every, np.repeat(one, ROWS, axis=0))
    data.sums_agree(kernels.rowdot(a_, every), a @ one[0], abs(a) @ abs(one[0]), SIZE)
    out, drop = kernels.relax(a_, abs(every), abs(every) + 1, every)
    data.sums_agree(drop, np.minimum(a, 0) @ one[0], abs(a) @ abs(one[0]), SIZE)
    assert kernels.numpy(out).shape == (ROWS, SIZE)


def test_relax_rounds_each_coefficient_once(kernels: Kernels, data: Data) -> None:
    (a, a_), (lower, lower_), (upper, upper_) = (data.pair(ROWS, SIZE) for _ in range(3))
    offset, offset_ = data.pair(ROWS, SIZE)
    kept = kernels.numpy(a_).copy()
    out, drop = kernels.relax(a_, lower_, upper_, offset_)
    # a float64 product of two float32 numbers is exact, so rounding it is the one rounding allowed
    chosen = np.where(a < 0, upper, lower)
    data.same(out, (a * chosen).astype(kernels.precision.dtype).astype(np.float64))
    negative = np.minimum(a, 0) * offset
    data.sums_agree(drop, negative.sum(1), abs(negative).sum(1), SIZE)
    data.same(a_, kept)
    data.same(lower_, lower)


def test_relax_passes_on_what_is_not_a_number(kernels: Kernels) -> None:
    a = kernels.array(np.array([[np.nan, 1.0]]))
    one = kernels.array(np.ones((1, 2)))
    out, drop = kernels.relax(a, one, one, one)
    assert np.isnan(kernels.numpy(out)[0, 0])
    assert np.isnan(kernels.numpy(drop)[0])


def test_choices(kernels: Kernels, data: Data) -> None:
    (a, a_), (b, b_) = data.pair(ROWS, SIZE), data.pair(ROWS, SIZE)
    dtype = kernels.precision.dtype
    data.same(kernels.where(a_ > 0, a_, b_), np.where(a > 0, a, b))
    data.same(kernels.where(a_ > 0, a_, 0), np.where(a > 0, a, 0))
    data.same(kernels.where(a_ > 0, -1, 1) * b_, np.where(a > 0, -1, 1) * b)
    data.same(kernels.where(a_ > 0, 2.0**-126, 0), np.where(a > 0, 2.0**-126, 0))
    data.same(kernels.minimum(a_, b_), np.minimum(a, b))
    data.same(kernels.maximum(a_, b_), np.maximum(a, b))
    data.same(kernels.minimum(a_, 0), np.minimum(a, 0))
    data.same(kernels.maximum(a_, 0.5), np.maximum(a, 0.5))
    quotient = (a.astype(dtype) / b.astype(dtype)).astype(np.float64)
    data.same(kernels.divide(a_, b_), quotient)


def test_reductions(kernels: Kernels, data: Data) -> None:
    a, a_ = data.pair(ROWS, SIZE)
    data.same(kernels.max0(a_), a.max(axis=0))
    data.sums_agree(kernels.sum(a_, 1), a.sum(1), abs(a).sum(1), SIZE)
    data.sums_agree(kernels.total(a_), a.sum(), abs(a).sum(), a.size)


def test_gathering_and_scattering(kernels: Kernels, data: Data) -> None:
    a, a_ = data.pair(ROWS, SIZE)
    index = data.rng.integers(0, ROWS, 11)
    data.same(kernels.take(a_, kernels.array(index)), a[index])
    data.same(kernels.take(a_[:, 0], kernels.array(index)), a[index, 0])
    data.same(kernels.concat([a_, a_], axis=1), np.concatenate([a, a], axis=1))
    rows, columns = kernels.nonzero(a_ > 1)
    assert [kernels.numpy(i).tolist() for i in (rows, columns)] == [i.tolist() for i in np.nonzero(a > 1)]
    grid = data.rng.integers(0, SIZE, (4, 5))
    data.same(kernels.columns(a_, kernels.array(grid)), a[:, grid])
    order = data.rng.permutation(50)[:SIZE]
    wide = np.zeros((ROWS, 50))
    wide[:, order] = a
    data.same(kernels.spread(a_, kernels.array(order), 50, unique=True), wide)
    crowded = data.rng.integers(0, 6, SIZE)
    hit = (crowded[:, None] == np.arange(6)).astype(np.float64)
    found = kernels.spread(a_, kernels.array(crowded), 6, unique=False)
    data.sums_agree(found, a @ hit, abs(a) @ hit, SIZE)
    data.same(kernels.unit_rows(kernels.array(np.array([2, 0, 2])), 4), np.eye(4)[[2, 0, 2]])


def test_a_copy_is_one(kernels: Kernels, data: Data) -> None:
    a, a_ = data.pair(3, 4)
    mine = kernels.copy(a_)
    mine[0, 0] = 7.0
    data.same(a_, a)


def test_constants_do_not_share_memory_with_the_graph(kernels: Kernels) -> None:
    values = np.ones((2, 2), dtype=kernels.precision.dtype)
    values.setflags(write=False)
    assert (kernels.numpy(kernels.array(values)) == 1).all()  # no warning about read-only memory


@pytest.mark.parametrize("kind", ["plain", "strided", "dilated", "grouped", "uneven"])
def test_convolution_and_its_adjoint(kernels: Kernels, data: Data, kind: str) -> None:
    how: dict[str, Any] = {"strides": (1, 1), "pads": (1, 1, 1, 1), "dilations": (1, 1), "groups": 1}
    how.update({
        "plain": {}, "strided": {"strides": (2, 3)}, "dilated": {"dilations": (2, 1)},
        "grouped": {"groups": 2}, "uneven": {"pads": (2, 0, 1, 3), "strides": (2, 2)},
    }[kind])  # fmt: skip
    weight, _ = data.pair(6, 4 // how["groups"], 3, 2)
    x, x_ = data.pair(5, 2 * 4 * 9 * 8)
    size = [
        (n + how["pads"][i] + how["pads"][i + 2] - how["dilations"][i] * (k - 1) - 1) // how["strides"][i] + 1
        for i, (n, k) in enumerate(zip((9, 8), (3, 2), strict=True))
    ]
    geometry = ConvGeometry((2, 4, 9, 8), (2, 6, *size), {**how, "weight": weight})
    matrix = _matrix(geometry, weight)
    w_ = kernels.array(kernels.conv_weight(weight, geometry))
    data.sums_agree(kernels.conv(x_, w_, geometry), x @ matrix.T, abs(x) @ abs(matrix.T), 40)
    a, a_ = data.pair(5, len(matrix))
    data.sums_agree(kernels.conv_adjoint(a_, w_, geometry), a @ matrix, abs(a) @ abs(matrix), 80)


def _matrix(g: ConvGeometry, weight: Any) -> Any:
    """The convolution written out entry by entry."""
    out = np.zeros((g.n, g.o, g.p, g.q, g.n, g.c, g.h, g.w))
    inner, outer = g.c // g.groups, g.o // g.groups
    for o, p, q, c, i, j in np.ndindex(g.o, g.p, g.q, inner, *g.kernel):
        y = p * g.strides[0] + i * g.dilations[0] - g.pads[0]
        x = q * g.strides[1] + j * g.dilations[1] - g.pads[1]
        if 0 <= y < g.h and 0 <= x < g.w:
            for n in range(g.n):
                out[n, o, p, q, n, o // outer * inner + c, y, x] = weight[o, c, i, j]
    return out.reshape(g.n * g.o * g.p * g.q, -1)
