"""``torch.nn`` modules as networks to bound; PyTorch is imported only where one is given."""

from __future__ import annotations

import copy
from typing import Any

from bounds.errors import BadInput
from bounds.io.onnx import Model
from bounds.io.torch_module import from_torch


def is_module(value: object) -> bool:
    """Whether a value is a ``torch.nn.Module`` (without importing PyTorch)."""
    return any(base.__module__.startswith("torch.nn.modules") for base in type(value).__mro__)


def model_of(module: Any, example: Any = None) -> Model:
    """The network of a module in inference mode.

    Parametrised weights (orthogonal ones, spectral norms, layers that compute their weight from free
    parameters with ``torch.nn.utils.parametrize``) are fixed at their present value in a copy, so that the
    bound is about the numbers that the layer multiplies with, rounded as they are stored.

    Args:
        module: the module; it is not changed.
        example: a tensor of the input's shape, or the shape; None: from the first linear layer.

    Raises:
        BadInput: the shape of the input is not known.
        ModelUnsupported: the module cannot be exported, or uses an operator that is not analysed.
    """
    import torch
    from torch.nn.utils import parametrize

    fixed = copy.deepcopy(module).eval()
    for part in list(fixed.modules()):
        if parametrize.is_parametrized(part):
            names: Any = part.parametrizations
            for name in list(names):
                parametrize.remove_parametrizations(part, name, leave_parametrized=True)
    if example is None:
        linear = next((m for m in fixed.modules() if isinstance(m, torch.nn.Linear | torch.nn.Conv2d)), None)
        if not isinstance(linear, torch.nn.Linear):
            raise BadInput(
                "the input's shape is not known; give example=, a tensor or a shape such as (1, 3, 32, 32)"
            )
        example = (1, linear.in_features)
    if isinstance(example, list | tuple) and all(isinstance(n, int) for n in example):
        example = torch.zeros(*example)
    return from_torch(fixed, example)
