"""Softmax, LogSoftmax and ReduceLogSumExp against onnxruntime."""

from __future__ import annotations

import numpy as np
import pytest
from onnx_checks import agree, model_of

from bounds.evaluate import evaluate
from bounds.expression import Fn


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax"])
@pytest.mark.parametrize("opset", [7, 11, 13, 21])
@pytest.mark.parametrize("shape", [(2, 3), (1, 2), (3, 1), (2, 3, 2), (2, 2, 2, 2)])
def test_every_axis(op: str, opset: int, shape: tuple[int, ...]) -> None:
    agree(f"y = {op}(x)", opset, x=shape)
    for axis in range(-len(shape) if opset > 9 else 0, len(shape)):
        agree(f"y = {op}<axis={axis}>(x)", opset, x=shape)


def test_large_inputs_do_not_overflow() -> None:
    agree("y = Softmax(x)", x=(1, 5), spread=1e3)
    agree("y = Softmax(x)", x=(1, 2), spread=1e3)
    agree("y = LogSoftmax(x)", x=(1, 2), spread=1e3)


def test_two_elements_sum_to_one() -> None:
    model = model_of("y = Softmax(x)", x=(1, 2))
    (node,) = model.graph.scalars
    assert node.size == 1
    assert node.params["function"].fn is Fn.SIGMOID
    y = evaluate(model.graph, np.array([[0.3, -7.0], [900.0, -900.0]]))
    np.testing.assert_array_equal(y.sum(axis=1), 1.0)
