"""The table of architectures: what is made, with which inputs. The files beside this one fill it."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Architecture:
    """One tiny network.

    Attributes:
        name: what the test is called.
        make: builds the module; the caller seeds torch first.
        shapes: shape of each input, batch axis included.
        exports: the ways it is exported, by name (see :data:`EXPORTS`).
        extra: further ways, tried only on request.
        radius: half-width of the input box of the property.
        centre: added to the standard normal point at the box's centre.
        slack: of the limits that must be proved, as a share of the sampled range of each output.
    """

    name: str
    make: Callable[[], nn.Module]
    shapes: tuple[Shape, ...]
    exports: tuple[str, ...]
    extra: tuple[str, ...]
    radius: float
    centre: float
    slack: float

    def module(self) -> nn.Module:
        """The seeded module in inference mode."""
        torch.manual_seed(0)
        module = self.make()
        _lively_statistics(module)
        return module.eval()

    def export(self, how: str, path: Path) -> None:
        """Writes the ONNX file that PyTorch makes of it."""
        _keep_registries()
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # the exporters' own deprecations
            torch.onnx.export(self.module(), self.example(), path, **EXPORTS[how])

    def example(self) -> tuple[Tensor, ...]:
        """The seeded inputs at the box's centre."""
        generator = torch.Generator().manual_seed(1)
        return tuple(torch.randn(s, generator=generator) + self.centre for s in self.shapes)


# name of a way of exporting -> arguments of torch.onnx.export
EXPORTS: dict[str, dict[str, Any]] = {
    "dynamo": {"dynamo": True, "external_data": False, "verbose": False},
    "opset23": {"dynamo": True, "external_data": False, "verbose": False, "opset_version": 23},
    "legacy": {"dynamo": False},
}

ARCHITECTURES: dict[str, Architecture] = {}


def architecture(
    name: str,
    make: Callable[[], nn.Module],
    *shapes: Shape,
    by: str = "dynamo",
    extra: str = "",
    radius: float = 0.05,
    centre: float = 0.0,
    slack: float = 1.0,
) -> None:
    """Adds a row to the table; ``by`` and ``extra`` name its exports, separated by spaces.

    The TorchScript exporter takes hundredths of a second, the current one a second, so variants of an
    architecture go by the former, and by the latter on request.
    """
    assert name not in ARCHITECTURES
    ARCHITECTURES[name] = Architecture(
        name, make, shapes, tuple(by.split()), tuple(extra.split()), radius, centre, slack
    )


@functools.cache
def _keep_registries() -> None:
    """Makes PyTorch keep its tables of operators: rebuilding them is half of the time of every small export.

    This reaches into PyTorch; where it has changed, exports are only slower.
    """
    try:
        from torch.onnx._internal.exporter._registration import ONNXRegistry
    except ImportError:
        return
    made = ONNXRegistry.from_torchlib
    ONNXRegistry.from_torchlib = staticmethod(functools.cache(made))  # type: ignore[assignment,method-assign]


class Lambda(nn.Module):
    """A function of tensors as a module."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Tensor) -> Any:
        return self.function(*inputs)


class Parallel(nn.Module):
    """Applies every branch to its own affine image of the input and concatenates what they give."""

    def __init__(self, inputs: int, width: int, branches: Sequence[Callable[[Tensor], Tensor]]) -> None:
        super().__init__()
        self.before = nn.ModuleList(nn.Linear(inputs, width) for _ in branches)
        self.branches = list(branches)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([f(layer(x)) for f, layer in zip(self.branches, self.before, strict=True)], dim=-1)


def around(
    inputs: int,
    inner: Callable[[], nn.Module],
    *,
    width: int = 4,
    inside: int | None = None,
    outputs: int = 2,
) -> Callable[[], nn.Module]:
    """``Linear -> inner -> Linear``; ``inside`` is the width that ``inner`` gives."""
    return lambda: nn.Sequential(
        nn.Linear(inputs, width), inner(), nn.Linear(width if inside is None else inside, outputs)
    )


def _lively_statistics(module: nn.Module) -> None:
    """Norm layers get statistics and factors other than 0 and 1, so that none can be left out unnoticed."""
    for part in module.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            part.running_mean = torch.randn_like(part.running_mean) * 0.2  # type: ignore[arg-type]
            part.running_var = torch.rand_like(part.running_var) + 0.5  # type: ignore[arg-type]
        norm = isinstance(part, nn.modules.batchnorm._NormBase | nn.LayerNorm | nn.GroupNorm | nn.RMSNorm)
        if norm and part.weight is not None:
            nn.init.uniform_(part.weight, 0.5, 1.5)
            if getattr(part, "bias", None) is not None:
                nn.init.uniform_(part.bias, -0.5, 0.5)
