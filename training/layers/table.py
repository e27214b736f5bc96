"""All parameterisations, one row each. Adding a layer: a file, a row here (docs/dev/add-a-layer.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from bounds.errors import BadInput
from training.layers.aol import AolConv, AolDense
from training.layers.base import LipschitzLayer
from training.layers.bcop import BcopConv
from training.layers.circular import BroConv, CayleyConv, LotConv
from training.layers.dense_orthogonal import BjorckDense, BroDense, CayleyDense, LotDense, SocDense
from training.layers.residual_relu import CplConv, CplDense, SllConv, SllDense
from training.layers.sandwich import SandwichConv, SandwichDense
from training.layers.soc import SocConv
from training.layers.spectral import SpectralConv, SpectralDense


@dataclass(frozen=True, slots=True)
class Parameterisation:
    """One row.

    Attributes:
        dense, conv: classes, called with ``(inputs, outputs)`` and ``(inputs, outputs, kernel)``.
        source: where the mathematics is from.
        own_relu: why it contains its rectifier and takes no other activation; "" where it is linear.
        residual: it keeps its width and size.
        circular: its convolution is an operator on images of one size, dense for inference.
        groups: its convolution takes groups and any padding.
    """

    dense: type[Any]
    conv: type[Any]
    source: str
    own_relu: str = ""
    residual: bool = False
    circular: bool = False
    groups: bool = False


_SLOPES = (
    "its proof needs slopes in [0, 1]: with slopes in [-1, 1], as abs, MaxMin, GroupSort and Householder"
    " have, the same layer reaches norms of {0} and more"
)

LAYERS: Final[Mapping[str, Parameterisation]] = {
    "spectral": Parameterisation(SpectralDense, SpectralConv, "Miyato et al. 2018", groups=True),
    "aol": Parameterisation(AolDense, AolConv, "Prach, Lampert 2022", groups=True),
    "sll": Parameterisation(
        SllDense, SllConv, "Araujo et al. 2023", own_relu=_SLOPES.format("2.9"), residual=True
    ),
    "cpl": Parameterisation(
        CplDense, CplConv, "Meunier et al. 2022", own_relu=_SLOPES.format("2.9"), residual=True
    ),
    "cayley": Parameterisation(CayleyDense, CayleyConv, "Trockman, Kolter 2021", circular=True),
    "bcop": Parameterisation(BjorckDense, BcopConv, "Li et al. 2019", groups=True),
    "soc": Parameterisation(SocDense, SocConv, "Singla, Feizi 2021", circular=True),
    "lot": Parameterisation(LotDense, LotConv, "Xu, Li, Li 2022", circular=True),
    "bro": Parameterisation(BroDense, BroConv, "Hu et al. 2024", circular=True),
    "sandwich": Parameterisation(
        SandwichDense,
        SandwichConv,
        "Wang, Manchester 2023",
        own_relu=_SLOPES.format("1.376"),
        circular=True,
    ),
}


def parameterisation(name: str) -> Parameterisation:
    """A row by name.

    Raises:
        BadInput: there is none.
    """
    if name not in LAYERS:
        raise BadInput(f"unknown layer '{name}'; choose one of {', '.join(LAYERS)}")
    return LAYERS[name]


def check_pair(layer: str, activation: str) -> None:
    """Refuses an activation that a layer's proof does not cover.

    Raises:
        BadInput: with the reason.
    """
    row = parameterisation(layer)
    if row.own_relu and activation != "relu":
        raise BadInput(
            f"layer '{layer}' contains its rectifier and cannot take activation '{activation}':"
            f" {row.own_relu};"
            ' write activation = "relu", or choose an orthogonal layer (cayley, bcop, lot, bro, soc)'
        )


def make_dense(name: str, inputs: int, outputs: int, **options: Any) -> LipschitzLayer:
    """A dense layer by name."""
    return parameterisation(name).dense(inputs, outputs, **options)


def make_conv(name: str, inputs: int, outputs: int, kernel: int, **options: Any) -> LipschitzLayer:
    """A convolution by name."""
    return parameterisation(name).conv(inputs, outputs, kernel, **options)
