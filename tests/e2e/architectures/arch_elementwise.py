"""Activations, gated and sorting units, Kolmogorov-Arnold layers, quantisation, conditions."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from arch_catalogue import Lambda, Parallel, architecture, around
from torch import Tensor, nn

Function = Callable[[Tensor], Tensor]

# every elementwise activation PyTorch has a name for, a few to a network
ACTIVATIONS: dict[str, Sequence[Function]] = {
    "piecewise": (
        F.relu, lambda x: F.leaky_relu(x, 0.1), F.relu6, lambda x: F.threshold(x, 0.1, -0.2),
        lambda x: F.hardtanh(x, -0.5, 0.7), F.hardshrink, F.softshrink, torch.abs, F.hardsigmoid,
    ),
    "steps": (
        torch.sign, torch.floor, torch.ceil, torch.round, torch.trunc, torch.frac,
        lambda x: torch.heaviside(x, torch.tensor(0.5)),
    ),
    "exponential": (
        F.elu, F.selu, lambda x: F.celu(x, 2.0), F.softplus, lambda x: F.softplus(x, 3.0), F.logsigmoid,
        torch.exp, torch.expm1, torch.exp2,
    ),
    "saturating": (
        torch.sigmoid, lambda x: torch.sigmoid(2.5 * x), torch.tanh, torch.atan, torch.erf, F.softsign,
        lambda x: x / (1 + x.abs()), F.tanhshrink,
    ),
    "gates": (
        F.gelu, lambda x: F.gelu(x, approximate="tanh"), F.silu, lambda x: x * torch.sigmoid(1.7 * x), F.mish,
        F.hardswish, lambda x: x * torch.tanh(x.exp()), lambda x: x * torch.exp(-torch.exp(-x)),
        lambda x: (1 + torch.tanh(x)) * 0.5 * x,
    ),
    "periodic": (
        torch.sin, torch.cos, torch.sinc, lambda x: x + torch.sin(2 * x) ** 2 / 2,
        lambda x: torch.exp(-x * x),
    ),
    "powers": (
        torch.square, lambda x: x**3, lambda x: F.relu(x) ** 2, lambda x: 0.5 * x**2 - x + 1,
        lambda x: (x.abs() + 1) ** 2.5, lambda x: (x.abs() + 1) ** -0.5, lambda x: torch.pow(2.0, x),
    ),
    "positive": (
        lambda x: torch.log(x.abs() + 1), lambda x: torch.sqrt(x.abs() + 0.5), lambda x: torch.log1p(x.abs()),
        lambda x: 1 / (x * x + 1), lambda x: torch.rsqrt(x * x + 1), lambda x: torch.log2(x.abs() + 1),
        lambda x: torch.log10(x.abs() + 1),
    ),
    "inverse": (
        torch.asinh, torch.sinh, lambda x: torch.acosh(x.abs() + 1.5),
        lambda x: torch.asin(0.5 * torch.cos(x)),
        torch.cosh, lambda x: torch.tan(0.2 * x), lambda x: torch.atanh(0.5 * torch.sin(x)),
        lambda x: torch.acos(0.5 * torch.cos(x)),
    ),
    "expanded": (
        lambda x: x * (torch.atan(x) * (1.4 / torch.pi) + (1.4 / 2 - 0.2)),
        lambda x: x * (0.5 * (1 + torch.erf(x / 2**0.5)) * 1.4 - 0.2),
        lambda x: x * (torch.sigmoid(x) * 1.4 - 0.2),
    ),
}  # fmt: skip


class Pade(nn.Module):
    """A safe Pade unit: ``P(x) / (1 + |Q(x)|)``."""

    def forward(self, x: Tensor) -> Tensor:
        top = 0.02 + 0.5 * x + 1.1 * x**2 + 0.4 * x**3
        return top / (1 + torch.abs(0.8 * x + 0.3 * x**2))


class SafePade(nn.Module):
    """Version A: ``P(x) / (1 + sum |b_j x^j|)``."""

    def forward(self, x: Tensor) -> Tensor:
        bottom = 1 + (0.8 * x).abs() + (0.3 * x * x).abs()
        return (0.02 + x * (0.5 + x * (1.1 + 0.4 * x))) / bottom


class PolyReLU(nn.Module):
    """PolyCom: a polynomial of the rectifier with learned factors."""

    def forward(self, x: Tensor) -> Tensor:
        r = F.relu(x)
        return 0.1 + 0.4 * r + 0.3 * r**2 + 0.2 * r**3


class PolyNorm(nn.Module):
    """PolyCom: a sum of normalised powers."""

    def forward(self, x: Tensor) -> Tensor:
        powers = (x, x**2, x**3)
        normed = [p * torch.rsqrt(p.square().mean(-1, keepdim=True) + 1e-3) for p in powers]
        return 0.5 * normed[0] + 0.3 * normed[1] + 0.2 * normed[2] + 0.1


class Gated(nn.Module):
    """``gate(W x) * V x`` (or with a function of both sides)."""

    def __init__(self, gate: Function, other: Function = lambda x: x) -> None:
        super().__init__()
        self.gate, self.other = gate, other
        self.w, self.v, self.head = nn.Linear(3, 4), nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.gate(self.w(x)) * self.other(self.v(x)))


class GroupSort(nn.Module):
    """Sorts groups of ``size`` neighbours."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (-1, self.size)).sort(dim=-1).values.flatten(-2)


def max_min(x: Tensor) -> Tensor:
    """MaxMin: larger halves, smaller halves."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat([torch.maximum(a, b), torch.minimum(a, b)], dim=-1)


class Householder(nn.Module):
    """Reflects a pair of neurons where it lies on one side of a line."""

    def __init__(self) -> None:
        super().__init__()
        self.angle = nn.Parameter(torch.tensor([0.7, 2.1]))

    def forward(self, x: Tensor) -> Tensor:
        a, b = x.chunk(2, dim=-1)
        s, c = torch.sin(self.angle), torch.cos(self.angle)
        side = torch.sin(self.angle / 2) * a - torch.cos(self.angle / 2) * b
        keep = side <= 0
        return torch.cat([torch.where(keep, a, c * a + s * b), torch.where(keep, b, s * a - c * b)], dim=-1)


class SplineKan(nn.Module):
    """A Kolmogorov-Arnold layer: uniform B-splines by Cox-de Boor, and a SiLU base.

    With ``tensor`` the knots are a stored tensor along an axis of their own, as efficient implementations
    have it; without, they are numbers, and each basis function is a function of one neuron.
    """

    def __init__(self, inputs: int, outputs: int, *, order: int = 2, tensor: bool = False) -> None:
        super().__init__()
        self.knots = [(i - order) * 4 / 3 - 2 for i in range(3 + 2 * order + 1)]
        self.register_buffer("grid", torch.tensor(self.knots))
        self.order, self.tensor, self.base = order, tensor, nn.Linear(inputs, outputs, bias=False)
        self.weight = nn.Parameter(torch.randn(outputs, inputs * (3 + order)) * 0.3)

    def forward(self, x: Tensor) -> Tensor:
        basis = self.along_axis(x.unsqueeze(-1)) if self.tensor else self.one_by_one(x)
        return self.base(F.silu(x)) + F.linear(basis.flatten(1), self.weight)

    def along_axis(self, x: Tensor) -> Tensor:
        g = self.grid
        basis = ((x >= g[:-1]) & (x < g[1:])).to(x.dtype)
        for k in range(1, self.order + 1):
            left = (x - g[: -k - 1]) / (g[k:-1] - g[: -k - 1])
            right = (g[k + 1 :] - x) / (g[k + 1 :] - g[1:-k])
            basis = left * basis[..., :-1] + right * basis[..., 1:]
        return basis

    def one_by_one(self, x: Tensor) -> Tensor:
        g = self.knots
        basis = [((x >= a) & (x < b)).to(x.dtype) for a, b in itertools.pairwise(g)]
        for k in range(1, self.order + 1):
            basis = [
                (x - g[i]) / (g[i + k] - g[i]) * basis[i]
                + (g[i + k + 1] - x) / (g[i + k + 1] - g[i + 1]) * basis[i + 1]
                for i in range(len(basis) - 1)
            ]
        return torch.stack(basis, -1)


class FourierKan(nn.Module):
    """A Kolmogorov-Arnold layer with Fourier edges."""

    def __init__(self, inputs: int, outputs: int, terms: int = 2) -> None:
        super().__init__()
        self.register_buffer("k", torch.arange(1, terms + 1).float())
        self.weight = nn.Parameter(torch.randn(2, outputs, inputs, terms) * 0.3)

    def forward(self, x: Tensor) -> Tensor:
        angle = x.unsqueeze(-1) * self.k
        both = torch.stack([angle.cos(), angle.sin()])
        return torch.einsum("cbik,coik->bo", both, self.weight)


class RadialKan(nn.Module):
    """FastKAN: Gaussian bumps after LayerNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("centres", torch.linspace(-1, 1, 3))
        self.norm, self.head = nn.LayerNorm(2), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.exp(-(((self.norm(x).unsqueeze(-1) - self.centres) / 0.7) ** 2)).flatten(1))


class FakeQuantised(nn.Module):
    """Quantise-dequantise of the input, the weights and the hidden layer."""

    def __init__(self, *, per_channel: bool) -> None:
        super().__init__()
        self.first, self.last, self.per_channel = nn.Linear(3, 4), nn.Linear(4, 2), per_channel
        self.register_buffer("scales", torch.tensor([0.02, 0.03, 0.01, 0.025]))
        self.register_buffer("zeros", torch.zeros(4, dtype=torch.int32))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.fake_quantize_per_tensor_affine(x, 0.05, 3, -128, 127)
        w = self.first.weight
        if self.per_channel:
            w = torch.fake_quantize_per_channel_affine(w, self.scales, self.zeros, 0, -128, 127)
        h = F.relu(F.linear(x, w, self.first.bias))
        return self.last(torch.fake_quantize_per_tensor_affine(h, 0.02, 0, 0, 255))


class Staircase(nn.Module):
    """Quantisation written with round and clamp; binary and ternary neurons."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        a, b, c = self.first(x).chunk(3, dim=-1)
        grid = torch.clamp(torch.round(a / 0.1), -8, 7) * 0.1
        ternary = torch.where(b.abs() > 0.3, torch.sign(b), torch.zeros_like(b))
        return self.last(torch.cat([grid, ternary, torch.where(c >= 0, 1.0, -1.0)], -1))


class Conditions(nn.Module):
    """Comparisons and logic on data."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = nn.Linear(3, 4), nn.Linear(3, 4), nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.a(x), self.b(x)
        parts = (
            torch.where(a > 0, a, b),
            torch.where((a > 0.1) & (b <= 0.5) | ~(a < b), a - b, 2 * a),
            a.masked_fill(b < 0, 0.25),
            ((a >= b) ^ (a != 0)).float(),
        )
        return self.head(torch.cat(parts, -1))


class Switch(nn.Module):
    """Chooses one of two affine functions by a condition on the whole input (one row's mask)."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(3, 2), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return torch.where(x.sum(-1, keepdim=True) > 0.2, self.a(x), self.b(x))


for label, functions in ACTIVATIONS.items():
    architecture(
        f"activation_{label}",
        lambda functions=functions: nn.Sequential(
            Parallel(2, 2, functions), nn.Linear(2 * len(functions), 2)
        ),
        (1, 2),
        by="dynamo legacy" if label == "gates" else "dynamo",
    )
architecture("activation_prelu", around(2, lambda: nn.PReLU(4)), (1, 2), extra="legacy")
architecture("activation_pade", around(2, Pade), (1, 2), by="legacy", extra="dynamo")
architecture("activation_pade_a", around(2, SafePade), (1, 2), by="legacy", extra="dynamo")
architecture("activation_polyrelu", around(2, PolyReLU), (1, 2), by="legacy", extra="dynamo")
architecture("activation_polynorm", around(2, PolyNorm), (1, 2), radius=0.02, by="legacy", extra="dynamo")
architecture(
    "gated_glu", around(3, lambda: nn.GLU(-1), width=8, inside=4), (1, 3), by="legacy", extra="dynamo"
)
architecture("gated_reglu", lambda: Gated(F.relu), (1, 3), by="legacy", extra="dynamo")
architecture("gated_geglu", lambda: Gated(F.gelu), (1, 3), by="legacy", extra="dynamo")
architecture("gated_swiglu", lambda: Gated(F.silu), (1, 3))
architecture("gated_drelu", lambda: Gated(F.relu, F.relu), (1, 3), by="legacy", extra="dynamo")
architecture("sorting_maxmin", around(3, lambda: Lambda(max_min)), (1, 3), extra="legacy")
architecture("sorting_groupsort2", around(3, lambda: GroupSort(2)), (1, 3), by="legacy", extra="dynamo")
architecture("sorting_groupsort4", around(3, lambda: GroupSort(4), width=8), (1, 3), by="dynamo legacy")
architecture("householder", around(3, Householder), (1, 3), by="legacy", extra="dynamo")
# no knot lies in the boxes of the next two: where several steps meet, the first is still bounded loosely, and
# the second, whose functions are one tensor, always will be (docs/reference/operators.md)
architecture(
    "kan_spline",
    lambda: nn.Sequential(SplineKan(2, 2), SplineKan(2, 2)),
    (1, 2),
    by="legacy",
    centre=0.3,
)
architecture("kan_spline_tensor", lambda: SplineKan(2, 2, tensor=True), (1, 2), centre=0.3)
architecture("kan_fourier", lambda: nn.Sequential(FourierKan(2, 3), FourierKan(3, 2)), (1, 2), extra="legacy")
architecture("kan_radial", RadialKan, (1, 2), radius=0.02, by="legacy", extra="dynamo")
architecture("quantised", lambda: FakeQuantised(per_channel=False), (1, 3), by="dynamo legacy")
architecture(
    "quantised_per_channel", lambda: FakeQuantised(per_channel=True), (1, 3), by="legacy", extra="dynamo"
)
architecture("quantised_by_rounding", Staircase, (1, 3), radius=0.02)
architecture("conditions", Conditions, (1, 3))
architecture("conditions_switch", Switch, (1, 3), by="legacy", extra="dynamo")
architecture(
    "residual_division",
    around(3, lambda: Lambda(lambda x: x + x / (1 + x.abs().sum(-1, keepdim=True)))),
    (1, 3),
    by="legacy",
    extra="dynamo",
)
