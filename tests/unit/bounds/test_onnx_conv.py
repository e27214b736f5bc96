"""Convolutions and pooling along one, two and three axes, against onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx_checks import agree, model_of, w

from bounds.errors import ModelUnsupported
from bounds.graph import Op

LINE, PLANE, SPACE = (2, 4, 7), (2, 4, 5, 6), (2, 4, 4, 5, 3)
WINDOWS = [
    "",
    "strides=[{2}],pads=[{1},{0}]",
    "dilations=[{2}],pads=[{1},{2}]",
    'auto_pad="SAME_UPPER",strides=[{2}]',
    'auto_pad="SAME_LOWER"',
    'auto_pad="VALID"',
]


def filled(window: str, rank: int, **more: Any) -> str:
    """Repeats the numbers in braces for every axis and adds attributes."""
    for n in "012":
        window = window.replace("{" + n + "}", ",".join([n] * rank))
    parts = [p for p in (window, *(f"{k}={v}" for k, v in more.items())) if p]
    return f"<{','.join(parts)}>" if parts else ""


@pytest.mark.parametrize("x", [LINE, PLANE, SPACE])
@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("group", [1, 2, 4])
def test_conv(x: tuple[int, ...], window: str, group: int) -> None:
    rank = len(x) - 2
    body = f"y = Conv{filled(window, rank, group=group)}(x, k, b)"
    k = (4, 4 // group, *(2, 3, 2)[:rank])
    agree(body, 13, x=x, k=w(*k), b=w(4))
    if "dilations" not in window:
        agree(body, 13, x=x, k=k, b=(4,))
        agree(body, 13, x=x, k=w(*k), b=(4,))


@pytest.mark.parametrize("x", [LINE, PLANE, SPACE])
@pytest.mark.parametrize("window", [*WINDOWS[:3], "strides=[{2}],output_padding=[{1}]"])
@pytest.mark.parametrize("group", [1, 2])
def test_conv_transpose(x: tuple[int, ...], window: str, group: int) -> None:
    rank = len(x) - 2
    body = f"y = ConvTranspose{filled(window, rank, group=group)}(x, k, b)"
    agree(body, 13, x=x, k=w(4, 3, *(2, 3, 2)[:rank]), b=w(3 * group))


def test_conv_transpose_to_a_shape() -> None:
    body = "y = ConvTranspose<strides=[2,2,2],output_shape=[8,10,6]>(x, k)"
    agree(body, 13, x=SPACE, k=w(4, 3, 3, 3, 2))
    with pytest.raises(ModelUnsupported, match="weight depends"):
        model_of("y = ConvTranspose(x, k)", 13, x=PLANE, k=(4, 2, 3, 3))


@pytest.mark.parametrize("x", [LINE, PLANE, SPACE])
@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("op", ["MaxPool", "AveragePool", "LpPool"])
def test_pools(op: str, x: tuple[int, ...], window: str) -> None:
    if "dilations" in window and op != "MaxPool":
        return  # onnxruntime has no dilated averages of three axes
    rank = len(x) - 2
    kernel = "[" + ",".join("323"[:rank]) + "]"
    window = window.replace("pads=[{1},{2}]", "pads=[{1},{1}]")
    agree(f"y = {op}{filled(window, rank, kernel_shape=kernel)}(x)", 18, x=x)
    if op == "AveragePool":
        agree(f"y = {op}{filled(window, rank, kernel_shape=kernel, count_include_pad=1)}(x)", 18, x=x)


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize("opset", [11, 19, 22])
@pytest.mark.parametrize("size", range(3, 9))
def test_ceil_mode(op: str, opset: int, size: int) -> None:
    for kernel, stride, pad in ((2, 2, 0), (2, 3, 1), (3, 2, 1), (3, 3, 1), (1, 3, 0), (2, 2, 1)):
        parts = f"ceil_mode=1,kernel_shape=[{kernel}],strides=[{stride}],pads=[{pad},{pad}]"
        agree(f"y = {op}<{parts}>(x)", opset, x=(1, 1, size))


@pytest.mark.parametrize("op", ["GlobalMaxPool", "GlobalAveragePool", "GlobalLpPool"])
@pytest.mark.parametrize("x", [LINE, PLANE, SPACE])
def test_global_pools(op: str, x: tuple[int, ...]) -> None:
    agree(f"y = {op}(x)", 13, x=x)


@pytest.mark.parametrize("p", [1, 2, 3])
def test_norms_of_windows(p: int) -> None:
    agree(f"y = LpPool<p={p},kernel_shape=[2,2]>(x)", 18, x=PLANE)
    agree(f"y = GlobalLpPool<p={p}>(x)", 18, x=PLANE)


def test_three_axes_are_one_convolution() -> None:
    model = agree("y = Conv(x, k)", 13, x=SPACE, k=w(3, 4, 2, 2, 2))
    (conv,) = [n for n in model.graph.nodes if n.op is Op.CONV]
    assert conv.roundings == 4 * 8 + 1
    np.testing.assert_array_equal(conv.params["weight"].shape, (3, 8, 2, 2))


def test_four_axes_are_refused() -> None:
    with pytest.raises(ModelUnsupported, match="rank 6"):
        model_of("y = Conv(x, k)", 13, x=(1, 1, 2, 2, 2, 2), k=w(1, 1, 1, 1, 1, 1))
