"""Running the original model in onnxruntime: one thread, CPU only, loaded on first use."""

from __future__ import annotations

from typing import Any

import numpy as np

from bounds.errors import ModelInvalid
from bounds.graph import Array
from bounds.io.onnx import Model

_SEVERITY_ERROR = 3


class Session:
    """The original ONNX model as a function of one flat point.

    Args:
        model: the imported model; its bytes are run, not its graph.
        onnx_bytes: other bytes to run instead (the same inputs), such as a model that shows more outputs.
        optimise: let onnxruntime rewrite the graph; off by default, so that what runs is what is written.
    """

    def __init__(self, model: Model, *, onnx_bytes: bytes | None = None, optimise: bool = False) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = _SEVERITY_ERROR
        level = onnxruntime.GraphOptimizationLevel
        options.graph_optimization_level = level.ORT_ENABLE_ALL if optimise else level.ORT_DISABLE_ALL
        self._ports = model.graph.inputs
        self._path = model.path
        # onnxruntime derives many exceptions straight from Exception; each means the same to a user
        try:
            self._session: Any = onnxruntime.InferenceSession(
                onnx_bytes or model.onnx_bytes, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:
            raise ModelInvalid(
                f"{self._path}: onnxruntime refuses the model ({_line(error)}); check it"
            ) from None

    def run(self, x: Array) -> list[Array]:
        """Evaluates one point ``(input_size,)``; returns the outputs in their own shapes and types.

        Args:
            x: all inputs flattened and concatenated; converted to the model's element types.
        """
        size = sum(int(np.prod(port.shape, dtype=np.int64)) for port in self._ports)
        if x.shape != (size,):
            raise ValueError(f"expected a point of shape ({size},), got {x.shape}")
        feeds: dict[str, Array] = {}
        start = 0
        for port in self._ports:
            stop = start + int(np.prod(port.shape, dtype=np.int64))
            feeds[port.name] = np.asarray(x[start:stop], dtype=port.dtype).reshape(port.shape)
            start = stop
        try:
            return [np.asarray(y) for y in self._session.run(None, feeds)]
        except Exception as error:
            raise ModelInvalid(
                f"{self._path}: onnxruntime cannot run the model ({_line(error)}); check it"
            ) from None


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
