"""1-Lipschitz activations and what their slopes may be.

Sorting activations are written for inference with one rectifier per comparison,
``(a, b) -> (a - r, b + r)`` with ``r = relu(a - b)``: exactly 1-Lipschitz, and the form in which ``verify
lipschitz`` loses nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from bounds.errors import BadInput
from training.layers.base import LipschitzLayer, Materialised


class Activation(LipschitzLayer):
    """Base: a 1-Lipschitz map of channels (axis 1) or elements.

    Attributes:
        slopes: lowest and highest slope of an increment, for elementwise functions; None where it is none.
        group: channels must be a multiple of it.
    """

    slopes: tuple[float, float] | None = None
    group = 1

    def materialise(self) -> Materialised:
        """The function in ordinary operators."""
        return Materialised(self, 1.0)


class ReLU(Activation):
    """``max(x, 0)``: loses half the signal a layer."""

    slopes = (0.0, 1.0)

    def forward(self, x: Tensor) -> Tensor:
        """Same shape."""
        return torch.relu(x)


class Abs(Activation):
    """``|x|``: keeps norms."""

    slopes = (-1.0, 1.0)

    def forward(self, x: Tensor) -> Tensor:
        """Same shape."""
        return x.abs()


class Identity(Activation):
    """Nothing."""

    slopes = (1.0, 1.0)

    def forward(self, x: Tensor) -> Tensor:
        """Same."""
        return x


def _check_groups(x: Tensor, group: int, name: str) -> None:
    if x.shape[1] % group:
        raise BadInput(f"{name} sorts groups of {group}, which do not divide {x.shape[1]} channels")


def compare(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """``(min, max)`` with one rectifier."""
    r = torch.relu(a - b)
    return a - r, b + r


class MaxMin(Activation):
    """Channel i of the first half against channel i of the second: (min, max) (Anil et al. 2019)."""

    group = 2

    def forward(self, x: Tensor) -> Tensor:
        """Same shape."""
        _check_groups(x, 2, "MaxMin")
        a, b = x.chunk(2, dim=1)
        return torch.cat(compare(a, b), dim=1)


class GroupSort(Activation):
    """Sorts groups of k channels: members of group i are channels ``i, i + C/k, i + 2 C/k, ...``."""

    def __init__(self, group: int = 4) -> None:
        super().__init__()
        if group < 2:
            raise BadInput(f"GroupSort needs groups of at least 2, not {group}")
        self.group = group

    def forward(self, x: Tensor) -> Tensor:
        """Same shape."""
        _check_groups(x, self.group, "GroupSort")
        parts = torch.stack(x.chunk(self.group, dim=1), dim=1)
        return parts.sort(dim=1).values.flatten(1, 2)

    def materialise(self) -> Materialised:
        """A sorting network of comparisons."""
        return Materialised(SortingNetwork(self.group), 1.0)


class SortingNetwork(nn.Module):
    """The same function by comparisons (odd-even merge sort), each a rectifier: a composition of isometries
    piece by piece, so 1-Lipschitz."""

    def __init__(self, group: int) -> None:
        super().__init__()
        self.group = group
        self.comparisons = sorting_network(group)

    def forward(self, x: Tensor) -> Tensor:
        """Same shape."""
        parts = list(x.chunk(self.group, dim=1))
        for i, j in self.comparisons:
            parts[i], parts[j] = compare(parts[i], parts[j])
        return torch.cat(parts, dim=1)


def sorting_network(n: int) -> Sequence[tuple[int, int]]:
    """Batcher's comparisons for n elements."""
    out: list[tuple[int, int]] = []
    p = 1
    while p < n:
        k = p
        while k >= 1:
            for j in range(k % p, n - k, 2 * k):
                out += [
                    (i + j, i + j + k)
                    for i in range(min(k, n - j - k))
                    if (i + j) // (2 * p) == (i + j + k) // (2 * p)
                ]
            k //= 2
        p *= 2
    return out


class Householder(Activation):
    """Learnable reflection of channel pairs: ``z -> z`` where ``u'z > 0``, else ``(I - 2 u u') z`` (Singla
    2021).

    Args:
        channels: even; pair i is channels i and ``channels / 2 + i``.
    """

    group = 2

    def __init__(self, channels: int) -> None:
        super().__init__()
        if channels % 2:
            raise BadInput(f"Householder reflects pairs, which do not divide {channels} channels")
        # u = (1, -1) / sqrt(2) is MaxMin with its outputs exchanged
        self.angle = nn.Parameter(torch.full((channels // 2,), -math.pi / 4))

    def forward(self, x: Tensor) -> Tensor:
        """Same shape."""
        _check_groups(x, 2, "Householder")
        return reflect(x, torch.cos(self.angle), torch.sin(self.angle))

    def materialise(self) -> Materialised:
        """The reflection with fixed directions of at most unit length.

        Soundness: on one side of each hyperplane the map is the identity, on the other ``I - 2 u u'`` with
        eigenvalues 1 and ``1 - 2 |u|^2``, in [-1, 1] where ``|u| <= 1``; it is continuous, so the largest
        norm of its pieces is its constant.
        """
        angle = self.angle.detach().double().numpy()
        u, v = np.cos(angle), np.sin(angle)
        directions = [(w * (1 - 2.0**-22)).astype(np.float32) for w in (u, v)]
        lengths = sum(w.astype(np.float64) ** 2 for w in directions)
        if not np.all(lengths < 1 - 2.0**-40):  # rounding of this sum is below 2^-51
            raise ValueError("directions are no numbers")
        return Materialised(FixedHouseholder(*(torch.from_numpy(w) for w in directions)), 1.0)


class FixedHouseholder(nn.Module):
    """:class:`Householder` with constants."""

    def __init__(self, u: Tensor, v: Tensor) -> None:
        super().__init__()
        self.register_buffer("u", u)
        self.register_buffer("v", v)

    def forward(self, x: Tensor) -> Tensor:
        """Same shape."""
        return reflect(x, self.get_buffer("u"), self.get_buffer("v"))


def reflect(x: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """``x + 2 u relu(-u'x)`` per pair, with one rectifier."""
    tail = (1,) * (x.dim() - 2)
    u, v = u.reshape(-1, *tail), v.reshape(-1, *tail)
    a, b = x.chunk(2, dim=1)
    r = torch.relu(-(a * u) - b * v)
    return torch.cat([a + (2 * u) * r, b + (2 * v) * r], dim=1)


def make_activation(name: str, channels: int) -> Activation:
    """An activation by name: relu, abs, identity, maxmin, groupsort, groupsortK, householder.

    Raises:
        BadInput: unknown, or it does not fit the channels.
    """
    simple = {"relu": ReLU, "abs": Abs, "identity": Identity, "maxmin": MaxMin}
    if name in simple:
        made: Activation = simple[name]()
    elif name == "householder":
        made = Householder(channels)
    elif name.startswith("groupsort") and (name[9:].isdigit() or name == "groupsort"):
        made = GroupSort(int(name[9:] or 4))
    else:
        known = ", ".join([*simple, "householder", "groupsortK"])
        raise BadInput(f"unknown activation '{name}'; choose one of {known}")
    if channels % made.group:
        raise BadInput(f"{name} needs a multiple of {made.group} channels, not {channels}")
    return made
