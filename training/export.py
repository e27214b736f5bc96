"""ONNX export of materialised networks; metadata carries the claim."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from bounds.errors import ModelUnsupported


def onnx_bytes(module: nn.Module, shape: tuple[int, ...], metadata: Mapping[str, str]) -> bytes:
    """A self-contained ONNX file of a module on one input of ``shape``.

    Raises:
        ModelUnsupported: PyTorch cannot export it.
    """
    import onnx

    buffer = io.BytesIO()
    module = module.eval()
    example = torch.zeros(1, *shape)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # the exporter's own deprecations
            write: Any = torch.onnx.export  # its stubs lack the stream that it takes
            write(
                module,
                (example,),
                buffer,
                dynamo=False,
                input_names=["x"],
                output_names=["y"],
                opset_version=17,
            )
    except (torch.onnx.errors.OnnxExporterError, RuntimeError, TypeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelUnsupported(
            "Module", type(module).__name__, f"PyTorch cannot export it ({reason})"
        ) from None
    proto = onnx.load_model_from_string(buffer.getvalue())
    for node in proto.graph.node:
        node.ClearField("doc_string")  # source paths of this machine
    proto.graph.name = "surebound"
    for name, value in metadata.items():
        entry = proto.metadata_props.add()
        entry.key, entry.value = name, value
    onnx.checker.check_model(proto, full_check=True)
    return proto.SerializeToString()


def export(module: nn.Module, shape: tuple[int, ...], path: Path, metadata: Mapping[str, str]) -> None:
    """Writes :func:`onnx_bytes` to a file.

    Raises:
        ModelUnsupported: PyTorch cannot export it.
    """
    path.write_bytes(onnx_bytes(module, shape, metadata))


def differences(path: Path, module: nn.Module, x: Any) -> float:
    """The largest difference between onnxruntime on the file and the module, relative to the outputs'
    size."""
    import onnxruntime as ort

    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    with torch.no_grad():
        expected = module(x).numpy()
    found = np.concatenate([np.asarray(session.run(None, {name: row[None]})[0]) for row in x.numpy()])
    return float(np.abs(found - expected).max() / max(float(np.abs(expected).max()), 1e-30))
