"""PyTorch modules as models, by way of an ONNX export (one importer, one set of tests for it)."""

from __future__ import annotations

import io
import warnings
from typing import Any

from bounds.errors import ModelUnsupported
from bounds.io.limits import Limits
from bounds.io.onnx import Model, load_bytes


def from_torch(module: Any, example_input: Any, *, limits: Limits | None = None) -> Model:
    """Imports a ``torch.nn.Module`` in inference mode.

    Args:
        module: the module; its training flags are restored afterwards.
        example_input: a tensor (or tuple of tensors) of the shapes to verify, batch size 1.
        limits: as for files.

    Raises:
        ModelUnsupported: PyTorch cannot export the module, or it uses an operator that is not analysed.
    """
    import torch

    buffer = io.BytesIO()
    flags = [(m, m.training) for m in module.modules()]
    example = example_input if isinstance(example_input, tuple) else (example_input,)
    module.eval()
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # the exporter's own deprecations
            # the TorchScript exporter: needs no further package and keeps module structure readable
            torch.onnx.export(module, example, buffer, dynamo=False, do_constant_folding=False)  # pyright: ignore
    except (torch.onnx.errors.OnnxExporterError, RuntimeError, TypeError) as error:
        reason = " ".join(str(error).split())[:200]
        name = type(module).__name__
        raise ModelUnsupported(
            "Module", name, f"PyTorch cannot export it ({reason}); rewrite that layer"
        ) from None
    finally:
        for part, flag in flags:
            part.training = flag
    return load_bytes(buffer.getvalue(), type(module).__name__, limits=limits)
