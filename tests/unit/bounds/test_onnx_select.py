"""ArgMax, TopK, OneHot, Hardmax and gathering by a computed index, against onnxruntime."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from onnx_checks import agree, f, ints, model_of, w

from bounds.errors import ModelUnsupported
from bounds.evaluate import evaluate
from bounds.io.onnx_ops.select import _network  # pyright: ignore[reportPrivateUsage]


@pytest.mark.parametrize("op", ["ArgMax", "ArgMin"])
@pytest.mark.parametrize("last", [0, 1])
@pytest.mark.parametrize("shape", [(2, 3), (1, 2), (3, 1), (2, 5, 3)])
def test_arg_max(op: str, last: int, shape: tuple[int, ...]) -> None:
    for axis, keep in product(range(-1, len(shape)), (0, 1)):
        body = f"y = {op}<axis={axis}, keepdims={keep}, select_last_index={last}>(x)"
        agree(body, 13, x=shape, outputs="int64 y")
        agree(body, 13, x=shape, outputs="int64 y", whole=True, points=20)  # with ties


def test_of_constants() -> None:
    agree("i = ArgMax<keepdims=0, axis=1>(a) y = Gather<axis=1>(x, i)", 13, x=(2, 4), a=w(2, 4))
    agree("i = ArgMin<select_last_index=1>(a) y = Gather(x, i)", 13, x=(4, 2), a=f(2, 1, 1, 3))


@pytest.mark.parametrize("opset", [11, 13])
@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_hardmax(opset: int, axis: int) -> None:
    agree(f"y = Hardmax<axis={axis}>(x)", opset, x=(2, 3, 2), whole=True, points=10)


@pytest.mark.parametrize("n", range(1, 17))
def test_sorting_networks_sort(n: int) -> None:
    """The 0-1 principle: a network that sorts all zeros and ones sorts everything."""
    bits = (
        np.array(list(product((0, 1), repeat=n)))
        if n < 13
        else np.random.default_rng(n).integers(0, 2, (999, n))
    )
    for k in range(1, n + 1):
        rows = bits.copy()
        for layer in _network(n, k):
            assert len({i for pair in layer for i in pair}) == 2 * len(layer)
            for i, j in layer:
                rows[:, [i, j]] = -np.sort(-rows[:, [i, j]], axis=1)
        np.testing.assert_array_equal(rows[:, :k], -np.sort(-bits, axis=1)[:, :k])


@pytest.mark.parametrize("largest", [0, 1])
@pytest.mark.parametrize(
    ("shape", "axis", "k"), [((2, 5), 1, 3), ((5, 2), 0, 5), ((1, 7), -1, 1), ((2, 1), 1, 1)]
)
def test_top_k(largest: int, shape: tuple[int, ...], axis: int, k: int) -> None:
    body = f"y, i = TopK<axis={axis}, largest={largest}>(x, k)"
    for outputs in ("float y, int64 i", "float y", "int64 i"):
        agree(body, 11, x=shape, k=ints(k), outputs=outputs)
        agree(body, 11, x=shape, k=ints(k), outputs=outputs, whole=True, points=20)


def test_top_k_of_old_opsets() -> None:
    agree("y, i = TopK<k=2>(x)", 9, x=(2, 4), outputs="float y, int64 i")


def test_top_k_limits() -> None:
    with pytest.raises(ModelUnsupported, match="at most 64"):
        model_of("y, i = TopK(x, k)", 11, x=(1, 65), k=ints(2))
    with pytest.raises(ModelUnsupported, match="sorted"):
        model_of("y, i = TopK<sorted=0>(x, k)", 11, x=(1, 5), k=ints(2))
    agree("y, i = TopK(x, k)", 11, x=(1, 65), k=ints(1))


@pytest.mark.parametrize("axis", [-1, 0, 1])
def test_one_hot(axis: int) -> None:
    body = f"i = ArgMax<axis=1, keepdims=0>(x) y = OneHot<axis={axis}>(i, d, v)"
    for depth in (2, 3, 5):
        agree(body, 13, x=(4, 3), d=ints(depth), v=f(-1, 2))
        agree(body, 13, x=(4, 2), d=ints(depth), v=f(0, 1))
    agree(f"i = Cast<to=7>(x) y = OneHot<axis={axis}>(i, d, v)", 13, x=(6,), d=ints(3), v=f(0, 1), spread=1.5)
    agree(
        f"c = OneHot<axis={axis}>(i, d, v) y = Add(c, x)", 13, x=(1,), i=ints(0, 2, -1), d=ints(3), v=f(0, 1)
    )


def test_one_hot_of_arg_max_is_read_off_the_marks() -> None:
    body = "i = ArgMax<axis=1>(x) j = Squeeze(i, a) y = OneHot(j, d, v)"
    model = agree(body, 13, x=(4, 2), d=ints(2), v=f(0, 1), a=ints(1))
    assert len(model.graph.scalars) == 1


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_gather_by_computed_index(axis: int) -> None:
    body = f"i = ArgMax<axis=1, keepdims=0>(x) y = Gather<axis={axis}>(t, i)"
    agree(body, 13, x=(2, 3), t=w(3, 4, 3))
    agree(body, 13, x=(2, 3), t=(3, 4, 3))
    agree(body, 13, x=(2, 3), t=np.arange(36).reshape(3, 4, 3), outputs="int64 y")
    clipped = f"a = Clip(x, lo, hi) i = Cast<to=6>(a) y = Gather<axis={axis}>(t, i)"
    agree(clipped, 13, x=(5,), lo=f(-2), hi=f(2), t=w(3, 4, 3), spread=3)


def test_values_of_marks_are_exact() -> None:
    model = model_of("y = ArgMax<axis=1>(x)", 13, x=(1, 4), outputs="int64 y")
    x = np.array([[1, 1, 0, 1], [0, 0, 0, 0], [0, 1, 1, 1], [-1, -2, -3, 5.0]])
    np.testing.assert_array_equal(evaluate(model.graph, x).ravel(), [0, 0, 1, 3])
