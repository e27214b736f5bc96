"""Reductions that are not affine, and running sums, against onnxruntime."""

from __future__ import annotations

import pytest
from onnx_checks import agree, ints, w

REDUCTIONS = [
    "ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSumExp", "ReduceProd", "ReduceMax", "ReduceMin",
    "ReduceMean", "ReduceSum",
]  # fmt: skip


@pytest.mark.parametrize("op", REDUCTIONS)
@pytest.mark.parametrize("keep", [0, 1])
def test_axes_as_attribute_and_as_operand(op: str, keep: int) -> None:
    for axes in ((0,), (1,), (-1,), (0, 2), (0, 1, 2)):
        listed = ",".join(map(str, axes))
        if op != "ReduceSum":
            agree(f"y = {op}<axes=[{listed}], keepdims={keep}>(x)", 13, x=(2, 3, 2))
        agree(f"y = {op}<keepdims={keep}>(x, a)", 18, x=(2, 3, 2), a=ints(*axes))
    agree(f"y = {op}<keepdims={keep}>(x)", 11, x=(2, 1, 3))
    agree(f"y = {op}<keepdims={keep}>(x)", 18, x=(2, 1, 3))


@pytest.mark.parametrize("op", ["ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceProd"])
def test_of_constants(op: str) -> None:
    agree(f"c = {op}<keepdims=0>(a) y = Add(x, c)", 13, x=(2,), a=w(3))


def test_log_sum_of_positive_numbers() -> None:
    agree("a = Abs(x) b = Add(a, c) y = ReduceLogSum<keepdims=0>(b, i)", 18, x=(2, 3), c=w(1) + 3, i=ints(1))


def test_log_sum_exp_does_not_overflow() -> None:
    agree("y = ReduceLogSumExp(x)", 18, x=(1, 4), spread=100)
    agree("y = ReduceLogSumExp(x)", 18, x=(1, 2), spread=1e3)


@pytest.mark.parametrize("reverse", [0, 1])
@pytest.mark.parametrize("exclusive", [0, 1])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_cumulative_sums(reverse: int, exclusive: int, axis: int) -> None:
    body = f"y = CumSum<reverse={reverse}, exclusive={exclusive}>(x, a)"
    agree(body, 14, x=(2, 3, 2), a=ints(axis).reshape(()))


def test_cumulative_sum_of_integers_is_folded() -> None:
    agree("c = CumSum(i, a) y = Gather<axis=0>(x, c)", 14, x=(7,), i=ints(1, 2, 3), a=ints(0).reshape(()))
