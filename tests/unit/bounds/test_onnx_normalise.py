"""Normalisations against onnxruntime."""

from __future__ import annotations

import pytest
from onnx_checks import agree, ints, model_of, w

from bounds.errors import ModelInvalid
from bounds.expression import X
from bounds.graph import UNMODELLED

IMAGE = (2, 4, 3, 2)


@pytest.mark.parametrize("axis", [-1, 0, 1, 2])
def test_layer_normalization(axis: int) -> None:
    shape = (2, 3, 4)
    scale = shape[axis:]
    agree(f"y = LayerNormalization<axis={axis}>(x, s, b)", 17, x=shape, s=w(*scale), b=w(*scale))
    agree(f"y = LayerNormalization<axis={axis},epsilon=0.1>(x, s)", 17, x=shape, s=w(*scale))
    agree("y, m, r = LayerNormalization(x, s)", 17, x=shape, s=w(4), outputs="float y, float m, float r")


def test_long_rows() -> None:
    agree("y = LayerNormalization(x, s)", 17, x=(1, 600), s=w(600))


@pytest.mark.parametrize("axis", [-1, 1])
def test_rms_normalization(axis: int) -> None:
    agree(f"y = RMSNormalization<axis={axis}>(x, s)", 23, x=(2, 3, 4), s=w(*(2, 3, 4)[axis:]))


@pytest.mark.parametrize("opset", [18, 21])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_group_normalization(opset: int, groups: int) -> None:
    n = groups if opset < 21 else 4
    agree(f"y = GroupNormalization<num_groups={groups}>(x, s, b)", opset, x=IMAGE, s=w(n), b=w(n, seed=1))


def test_instance_normalization() -> None:
    agree("y = InstanceNormalization(x, s, b)", 13, x=IMAGE, s=w(4), b=w(4, seed=1))
    agree("y = InstanceNormalization(x, s, b)", 13, x=(2, 4, 5), s=w(4), b=w(4, seed=1))


def test_mean_variance_normalization() -> None:
    agree("y = MeanVarianceNormalization(x)", 13, x=IMAGE)
    agree("y = MeanVarianceNormalization<axes=[2,3]>(x)", 13, x=IMAGE)


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("axis", [-1, 1])
def test_lp_normalization(p: int, axis: int) -> None:
    agree(f"y = LpNormalization<p={p},axis={axis}>(x)", 13, x=(2, 3, 4))


@pytest.mark.parametrize("size", [1, 3, 5, 7])
def test_local_response(size: int) -> None:
    agree(f"y = LRN<size={size},alpha=0.5,beta=0.6,bias=1.5>(x)", 13, x=IMAGE)
    agree(f"y = LRN<size={size}>(x)", 13, x=IMAGE)


def test_batch_normalization_of_variables_in_channels() -> None:
    agree("y = BatchNormalization(x, s, b, m, v)", 15, x=IMAGE, s=w(4), b=w(4), m=w(4), v=abs(w(4)))


def test_normal_form() -> None:
    model = model_of("y = LayerNormalization(x, s)", 17, x=(2, 3), s=w(3))
    assert [n.params["function"] for n in model.graph.scalars] == [X**2, X**-0.5]
    assert model.graph.scalars[1].roundings == UNMODELLED
    assert len(model.graph.products) == 1


def test_decomposed_layer_normalization() -> None:
    """As exporters before opset 17 spell it."""
    agree(
        "m = ReduceMean<axes=[-1]>(x) d = Sub(x, m) q = Pow(d, two) v = ReduceMean<axes=[-1]>(q)"
        "e = Add(v, eps)"
        "s = Sqrt(e) n = Div(d, s) g = Mul(n, w) y = Add(g, b)",
        13, x=(2, 4), two=w(1)[0] * 0 + 2, eps=w(1)[0] * 0 + 1e-5, w=w(4), b=w(4),
    )  # fmt: skip


@pytest.mark.parametrize("body", ["y = LRN<size=0>(x)", "y = GroupNormalization<num_groups=3>(x, s, s)"])
def test_bad_attributes(body: str) -> None:
    with pytest.raises(ModelInvalid):
        model_of(body, 18, x=IMAGE, s=w(3), a=ints(0))
