"""Activations of plain networks: every row of the verifier's catalogue, as modules."""

from __future__ import annotations

from typing import Final

from torch import Tensor, nn

from bounds.errors import BadInput
from bounds.expression import Expr, Fn, nodes
from bounds.methods.nominal import value_at
from bounds.methods.torch_graph import FUNCTIONS, evaluate_expression
from bounds.relax.catalogue import CATALOGUE, activation
from bounds.relax.scalar import scalar_function

_WRITTEN: Final = (Fn.X, Fn.CONST, Fn.POW)


class ScalarActivation(nn.Module):
    """A function of the catalogue, elementwise.

    Where PyTorch has no counterpart for a part of it, values come from the verifier's own evaluation and
    gradients from its first derivative.

    Args:
        name: its row.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.expression: Expr = activation(name).expression
        self.native = all(n.fn in FUNCTIONS or n.fn in _WRITTEN for n in nodes(self.expression))

    def forward(self, x: Tensor) -> Tensor:
        """Same shape."""
        if self.native:
            return evaluate_expression(self.expression, x)
        return value_at(scalar_function(self.expression), x)

    def extra_repr(self) -> str:
        """Its name."""
        return self.name


def make_plain_activation(name: str) -> nn.Module:
    """A module by name: ``relu`` or any row of the catalogue.

    Raises:
        BadInput: there is none of that name.
    """
    if name == "relu":
        return nn.ReLU()
    known = [a.name for a in CATALOGUE]
    if name not in known:
        raise BadInput(f"unknown activation '{name}' for a plain network; choose one of {', '.join(known)}")
    return ScalarActivation(name)
