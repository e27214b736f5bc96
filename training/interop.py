"""Networks of other libraries of 1-Lipschitz layers, as ordinary modules.

Such layers (deel-torchlip, orthogonium) are linear or convolutional layers of PyTorch whose weight is
computed from others at every call. For bounds only the weight counts: :func:`plain` evaluates it once and
puts an ordinary layer in its place. Nothing is taken from the library's promise; the constant is then
proved of the float32 weights by ``sdp.lipschitz(from_torch(plain(...)))``.
"""

from __future__ import annotations

import copy
from typing import Any, Final

import torch
from torch import Tensor, nn

from bounds.errors import BadInput

_SAME: Final = 1e-4


def plain(module: nn.Module, example: Tensor) -> nn.Module:
    """A copy in inference mode whose linear and convolutional layers are PyTorch's own, with fixed weights.

    Args:
        module: the network; layers are recognised by their base classes ``Linear`` and ``Conv2d``.
        example: inputs ``B *x`` on which both must agree.

    Raises:
        BadInput: the copy computes something else, so a layer does more than multiply with its ``weight``.
    """
    held = copy.deepcopy(module).eval()
    made = _ordinary(held) or held
    for owner in list(made.modules()):
        for name, part in list(owner.named_children()):
            replacement = _ordinary(part)
            if replacement is not None:
                setattr(owner, name, replacement)
    made = made.eval()
    with torch.no_grad():
        expected, found = held_output(module, example), made(example)
    size = float(expected.abs().max())
    if not float((found - expected).abs().max()) <= _SAME * max(size, 1e-30):
        raise BadInput(
            "the network computes something else with its layers' weights held fixed, so a layer does more"
            " than its 'weight' says; export it by its library's own means"
        )
    return made


def held_output(module: nn.Module, example: Tensor) -> Tensor:
    """Outputs in inference mode; the mode is put back."""
    training = module.training
    try:
        return module.eval()(example)
    finally:
        module.train(training)


def _ordinary(part: nn.Module) -> nn.Module | None:
    """PyTorch's own layer with the part's present weight, or None for parts of another kind."""
    if type(part) in (nn.Linear, nn.Conv2d) and not hasattr(part, "parametrizations"):
        return None
    bias: Any = getattr(part, "bias", None)
    layer: Any
    with torch.no_grad():
        if isinstance(part, nn.Linear):
            weight = part.weight.detach()
            layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
        elif isinstance(part, nn.Conv2d):
            weight = part.weight.detach()
            outputs, inputs, *kernel = weight.shape
            layer = nn.Conv2d(
                inputs * part.groups,
                outputs,
                (kernel[0], kernel[1]),
                stride=(part.stride[0], part.stride[-1]),
                padding=part.padding
                if isinstance(part.padding, str)
                else (part.padding[0], part.padding[-1]),
                dilation=(part.dilation[0], part.dilation[-1]),
                groups=part.groups,
                bias=bias is not None,
                padding_mode=part.padding_mode,
            )
        else:
            return None
        layer.weight.copy_(weight)
        if bias is not None:
            layer.bias.copy_(bias)
    return layer
