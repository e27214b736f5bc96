"""Gathering, scattering, masking by constants, and shape arithmetic, against onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx_checks import agree, f, ints, model_of, w

from bounds.errors import ModelInvalid, ModelUnsupported
from bounds.evaluate import evaluate
from bounds.io.session import Session


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_gather_elements(axis: int) -> None:
    index = np.random.default_rng(0).integers(-2, 2, (2, 2, 2))
    agree(f"y = GatherElements<axis={axis}>(x, i)", 13, x=(2, 3, 2), i=index)
    agree(f"c = GatherElements<axis={axis}>(a, i) y = Add(x, c)", 13, x=(1,), a=w(2, 3, 2), i=index)


def test_gather_nd() -> None:
    agree("y = GatherND(x, i)", 13, x=(2, 3, 4), i=np.array([[0, -1], [1, 2]]))
    agree("y = GatherND(x, i)", 13, x=(2, 3, 4), i=np.array([[[0, 1, 2]], [[1, 2, -4]]]))
    agree("y = GatherND<batch_dims=1>(x, i)", 13, x=(2, 3, 4), i=np.array([[[1]], [[2]]]))
    agree("y = GatherND<batch_dims=1>(x, i)", 13, x=(2, 3, 4), i=np.array([[0, 1], [2, 3]]))


@pytest.mark.parametrize("reduction", ["none", "add", "mul", "max", "min"])
def test_scatter(reduction: str) -> None:
    body = f'y = ScatterElements<axis=1,reduction="{reduction}">(x, i, u)'
    index = np.array([[0, -1], [1, 2]]) if reduction == "none" else np.array([[1, 1], [2, 1]])
    agree(body, 18, x=(2, 3), i=index, u=(2, 2))
    agree(body, 18, x=(2, 3), i=index, u=w(2, 2))
    agree(body, 18, x=w(2, 3), i=index, u=(2, 2))
    body = f'y = ScatterND<reduction="{reduction}">(x, i, u)'
    rows = np.array([[0], [2]]) if reduction == "none" else np.array([[0], [2], [0], [0]])
    agree(body, 18, x=(3, 2), i=rows, u=(len(rows), 2))
    agree(body, 18, x=(3, 2), i=np.array([[0, 1], [2, 0]]), u=w(2))


def test_scatter_of_constants() -> None:
    agree("c = ScatterND(a, i, u) y = Add(x, c)", 13, x=(1,), a=w(3), i=np.array([[1]]), u=f(7).reshape(1))
    agree("c = ScatterND(a, i, u) y = Gather(x, c)", 13, x=(5,), a=ints(0, 1), i=np.array([[1]]), u=ints(4))
    agree("y = Scatter(x, i, u)", 10, x=(3, 2), i=np.array([[0, 2]]), u=w(1, 2))


def test_bad_indices() -> None:
    for body in ("y = GatherND(x, i)", "y = GatherElements(x, i)", "y = ScatterND(x, i, u)"):
        with pytest.raises(ModelInvalid):
            model_of(body, 13, x=(2, 2), i=np.array([[0, 5]]), u=w(1))
    with pytest.raises(ModelUnsupported, match="depends on the network input"):
        model_of("i = Cast<to=7>(x) y = GatherND(x, i)", 13, x=(2, 2))


@pytest.mark.parametrize("upper", [0, 1])
@pytest.mark.parametrize("k", [-2, 0, 1, 9])
def test_trilu(upper: int, k: int) -> None:
    agree(f"y = Trilu<upper={upper}>(x, k)", 14, x=(2, 3, 4), k=ints(k).reshape(()))
    agree(f"c = Trilu<upper={upper}>(a) y = Add(x, c)", 14, x=(1,), a=w(3, 4))


def test_compress_and_reverse() -> None:
    agree("y = Compress<axis=1>(x, c)", 13, x=(2, 3), c=np.array([True, False, True]))
    agree("y = Compress(x, c)", 13, x=(2, 3), c=np.array([True, False, True, True]))
    agree("y = ReverseSequence(x, n)", 13, x=(4, 3, 2), n=ints(1, 4, 2))
    agree("y = ReverseSequence<time_axis=1,batch_axis=0>(x, n)", 13, x=(3, 4), n=ints(1, 4, 2))


def test_constants_of_shapes() -> None:
    agree("e = EyeLike<k=1>(x) y = Add(x, e)", 13, x=(3, 4))
    agree(
        "n = NonZero(c) t = Transpose(n) y = GatherND(x, t)", 13, x=(2, 2), c=ints(1, 0, 3, 2).reshape(2, 2)
    )
    agree("u, a, b, c = Unique<sorted=0>(i) y = Gather(x, u)", 13, x=(6,), i=ints(4, 1, 4, 0))
    agree("u, a, b, c = Unique(i) d = Add(a, c) y = Gather(x, d)", 13, x=(9,), i=ints(4, 1, 4, 0))


def test_shape_arithmetic_chains() -> None:
    """What exporters emit for view(batch, -1) and the like."""
    agree(
        "s = Shape(x) a = Gather<axis=0>(s, zero) b = Unsqueeze(a, axes) m = ReduceProd<keepdims=1>(s)"
        "q = Div(m, b) t = Concat<axis=0>(b, q) y = Reshape(x, t)",
        13, x=(2, 3, 4), zero=np.array(0), axes=ints(0),
    )  # fmt: skip
    agree(
        "s = Shape(x) k = ConstantOfShape<value = int64[1] {1}>(one) e = Equal(s, k) t = Where(e, two, s)"
        "y = Expand(x, t)",
        13, x=(2, 1), one=ints(2), two=ints(5, 5),
    )  # fmt: skip
    agree("s = Size(x) h = Div(s, two) r = Range(zero, h, one) y = Gather<axis=0>(x, r)", 13, x=(8,),
          two=np.array(2), zero=np.array(0), one=np.array(1))  # fmt: skip


PATCH = (
    "a = Gather(p, zero) r = Cast<to=7>(a) e = Add(r, two) s = Unsqueeze(r, zeros) t = Unsqueeze(e, zeros)"
    "n = Constant<value = int64[6] {0, 1, 2, 3, 4, 5}>() i = Slice(n, s, t, zeros)"
)


def at_places(body: str, **operands: Any) -> None:
    """Compares with onnxruntime at fractional places of a patch of two rows in an image of six."""
    given: dict[str, Any] = {"p": (1,), "zero": np.array(0), "two": np.array(2), "zeros": ints(0), **operands}
    model = model_of(PATCH + body, 13, **given)
    session = Session(model)
    rng = np.random.default_rng(0)
    for place in (0.0, 0.9, 1.0, 2.5, 4.0, 4.99):
        x = rng.standard_normal(model.graph.input_size).astype(np.float32).astype(np.float64)
        x[0] = place
        wanted = np.concatenate([y.ravel() for y in session.run(x)])
        np.testing.assert_allclose(evaluate(model.graph, x[None])[0], wanted, rtol=1e-6)


def test_slices_at_a_computed_place() -> None:
    at_places("y = Cast<to=1>(i)")
    at_places("y = Slice(c, s, t, zeros)", c=w(6, 3))
    at_places("y = Slice(x, s, t, zeros)", x=(6, 3))
    at_places("d = Slice(o, s, t, zeros) y = Add(x, d)", o=np.ones((6, 2), np.float32), x=(2,))


def test_scatter_at_a_computed_place() -> None:
    rows = "j = Unsqueeze(i, ones) m = ScatterND(c, j, u) y = Mul(x, m)"
    at_places(rows, c=w(6, 3), u=0 * w(2, 3), x=(6, 3), ones=ints(1))
    both = "j = Unsqueeze(i, ones) k = Concat<axis=1>(j, j) m = ScatterND(c, k, u) y = Mul(x, m)"
    at_places(both, c=w(6, 6), u=0 * w(2) + 7, x=(6, 6), ones=ints(1))
    mixed = "j = Unsqueeze(i, ones) k = Concat<axis=1>(q, j) m = ScatterND(c, k, u) y = Mul(x, m)"
    at_places(mixed, c=w(4, 6), u=0 * w(2) + 7, x=(4, 6), ones=ints(1), q=ints(3, -2).reshape(2, 1))


def test_computed_places_that_are_not_analysed() -> None:
    with pytest.raises(ModelUnsupported, match="length depends"):
        model_of("r = Cast<to=7>(p) y = Slice(x, z, r, z)", 13, p=(1,), x=(6,), z=ints(0))
    with pytest.raises(ModelUnsupported, match="different updates"):
        model_of("r = Cast<to=7>(p) y = ScatterND(c, r, u)", 13, p=(2, 1), c=w(6), u=w(2))
