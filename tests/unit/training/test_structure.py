"""Activations and the parts around layers: constants, shapes, export."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs PyTorch: ./scripts/test installs it")
pytestmark = pytest.mark.torch

from bounds.errors import BadInput  # noqa: E402
from training import layers as parts  # noqa: E402
from training.layers.activations import make_activation, sorting_network  # noqa: E402

ACTIVATIONS = ["relu", "abs", "maxmin", "groupsort2", "groupsort3", "groupsort4", "groupsort6", "householder"]


def stretch(module: Any, shape: tuple[int, ...], *, scale: float = 1.0) -> float:
    """The largest ratio of distances over pairs, near and far."""
    generator = torch.Generator().manual_seed(1)
    x = scale * torch.randn(400, *shape, generator=generator, dtype=torch.float64)
    y = x + torch.logspace(-6, 1, 400, dtype=torch.float64).reshape(-1, *[1] * len(shape)) * torch.randn(
        x.shape, generator=generator, dtype=torch.float64
    )
    with torch.no_grad():
        after = torch.linalg.vector_norm((module(x) - module(y)).flatten(1), dim=1)
    return float((after / torch.linalg.vector_norm((x - y).flatten(1), dim=1)).max())


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("shape", [(12,), (12, 3, 2)])
def test_activations_keep_distances_and_have_a_plain_form(name: str, shape: tuple[int, ...]) -> None:
    torch.manual_seed(2)
    made = make_activation(name, 12)
    for p in made.parameters():
        with torch.no_grad():
            p.add_(torch.randn_like(p))
    plain = made.materialise()
    assert plain.lipschitz() == 1.0
    assert stretch(plain.body.double(), shape) <= 1 + 1e-9
    x = torch.randn(20, *shape, dtype=torch.float64)
    torch.testing.assert_close(plain.body(x), made.double()(x), rtol=1e-6, atol=1e-6)
    if name not in ("relu", "abs"):  # those move or reflect: norms stay
        assert stretch(plain.body.double(), shape) > 0.99


@pytest.mark.parametrize("n", range(2, 9))
def test_sorting_networks_sort(n: int) -> None:
    for values in itertools.product([0, 1], repeat=n):  # the 0-1 principle
        held = list(values)
        for i, j in sorting_network(n):
            held[i], held[j] = min(held[i], held[j]), max(held[i], held[j])
        assert held == sorted(values)


def test_groupsort_sorts_within_groups() -> None:
    # groups are channels (0, 2, 4) and (1, 3, 5): three chunks of two
    x = torch.tensor([[3.0, 0.0, 1.0, 5.0, 2.0, 4.0]])
    assert make_activation("groupsort3", 6)(x).tolist() == [[1.0, 0.0, 2.0, 4.0, 3.0, 5.0]]


@pytest.mark.parametrize(
    ("name", "channels", "words"),
    [
        ("maxmin", 5, "multiple of 2"),
        ("groupsort4", 6, "multiple of 4"),
        ("swish", 4, "unknown"),
        ("householder", 3, "pairs"),
    ],
)
def test_what_does_not_fit_is_said(name: str, channels: int, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        make_activation(name, channels)


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda: parts.Unshuffle(2), (3, 4, 6)),
        (lambda: parts.ScaledPool(2), (2, 4, 6)),
        (lambda: parts.ScaledPool(3), (2, 6, 6)),
        (lambda: parts.MaxPool(2), (2, 4, 6)),
        (lambda: parts.Width(3, 5), (3, 4, 4)),
        (lambda: parts.Width(5, 3), (5,)),
        (lambda: parts.Width(3, 5), (3,)),
        (lambda: parts.Centre(0.3), (4,)),
        (parts.Flatten, (2, 3, 3)),
        (lambda: parts.Residual(parts.Chain(parts.make_dense("bcop", 6, 6), parts.MaxMin())), (6,)),
    ],
)
def test_parts_have_constant_one(make: Any, shape: tuple[int, ...]) -> None:
    torch.manual_seed(3)
    layer = make().eval()
    made = layer.materialise()
    assert made.constant <= 1.0
    assert stretch(made.body.double(), shape) <= 1 + 1e-9
    x = torch.randn(5, *shape)
    torch.testing.assert_close(made.body.float()(x), layer(x), rtol=1e-5, atol=1e-5)


def test_unshuffle_is_invertible() -> None:
    x = torch.arange(2 * 3 * 4 * 4, dtype=torch.float32).reshape(2, 3, 4, 4)
    moved = parts.Unshuffle(2)(x)
    torch.testing.assert_close(moved, torch.nn.functional.pixel_unshuffle(x, 2))


def test_unit_rows_claim_their_whole_norm() -> None:
    """Rows of length 1 are no layer of constant 1: ten equal rows have norm sqrt(10)."""
    head = parts.UnitRows(4, 10)
    with torch.no_grad():
        head.raw.copy_(torch.ones(10, 4))
    assert head.lipschitz() == pytest.approx(np.sqrt(10), rel=1e-6)
