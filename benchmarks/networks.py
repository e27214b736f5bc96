"""Ten small networks, made from seeds: trained on scikit-learn's digits (8 x 8), exported to ONNX.

Every network classifies ten digits; a query is a box of radius ``eps`` (pixels in [0, 1]) around the first
test image of digit ``seed mod 10`` that is classified rightly, with the nine class margins as objectives.
Radii are chosen so that margins are neither plainly positive nor hopeless. Training takes seconds; the
files are kept in a folder outside the repository, named by a digest of this file.

    .venv/bin/python benchmarks/networks.py [--cache DIR]
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import logging
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

Array = np.ndarray[Any, np.dtype[Any]]
CLASSES = 10
PIXELS = 64


class Sine(nn.Module):
    """``sin(x)``."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.sin(x)


class Residual(nn.Module):
    """``relu(x + conv(relu(conv(x))))``, with a strided projection where channels change."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inside, outside, 3, stride, 1)
        self.second = nn.Conv2d(outside, outside, 3, 1, 1)
        self.project = nn.Identity() if stride == 1 else nn.Conv2d(inside, outside, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.project(x) + self.second(torch.relu(self.first(x))))


class Attention(nn.Module):
    """Softmax attention of two heads over tokens ``(N, T, width)``."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.size = heads, width // heads
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))

    def _split(self, x: Tensor) -> Tensor:
        return x.reshape(x.shape[0], -1, self.heads, self.size).permute(0, 2, 1, 3)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self._split(self.query(x)), self._split(self.key(x)), self._split(self.value(x))
        scores = torch.softmax(torch.matmul(q, k.transpose(-1, -2)) * self.size**-0.5, dim=-1)
        mixed = torch.matmul(scores, v).permute(0, 2, 1, 3)
        return self.out(mixed.reshape(x.shape[0], -1, self.heads * self.size))


class Transformer(nn.Module):
    """A vision transformer: four 4 x 4 patches, one block with attention and a rectified MLP."""

    def __init__(self, width: int = 16, heads: int = 2) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, width, 4, 4)
        self.place = nn.Parameter(torch.randn(1, 4, width) * 0.1)
        self.attention = Attention(width, heads)
        self.inner, self.outer = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.head = nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        patches = self.patches(x.reshape(-1, 1, 8, 8))
        x = patches.reshape(patches.shape[0], patches.shape[1], 4).permute(0, 2, 1) + self.place
        x = x + self.attention(x)
        x = x + self.outer(torch.relu(self.inner(x)))
        return self.head(x.mean(1))


class Recurrent(nn.Module):
    """An LSTM over four pairs of image rows, its cell written out (gates: input, forget, cell, output)."""

    def __init__(self, width: int = 16, steps: int = 4) -> None:
        super().__init__()
        self.width, self.steps, self.span = width, steps, PIXELS // steps
        self.inputs = nn.ModuleList([nn.Linear(self.span, width) for _ in range(4)])
        self.hidden = nn.ModuleList([nn.Linear(width, width) for _ in range(4)])
        self.head = nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        h = c = None
        for t in range(self.steps):
            part = x[:, t * self.span : (t + 1) * self.span]
            gates = [m(part) for m in self.inputs]
            if h is not None:
                gates = [g + m(h) for g, m in zip(gates, self.hidden, strict=True)]
            kept, new = torch.sigmoid(gates[0]) * torch.tanh(gates[2]), torch.sigmoid(gates[1])
            c = kept if c is None else new * c + kept
            h = torch.sigmoid(gates[3]) * torch.tanh(c)
        return self.head(h)


def perceptron(activation: Callable[[], nn.Module], *widths: int) -> nn.Module:
    """Linear layers of the widths with the activation between them."""
    sizes = (PIXELS, *widths, CLASSES)
    layers: list[nn.Module] = []
    for a, b in itertools.pairwise(sizes):
        layers += [nn.Linear(a, b), activation()]
    return nn.Sequential(*layers[:-1])


def convolutional() -> nn.Module:
    """Three convolutions and two linear layers, rectified."""
    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)),
        nn.Conv2d(1, 8, 3, 1, 1), nn.ReLU(),
        nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU(),
        nn.Conv2d(16, 16, 3, 2, 1), nn.ReLU(),
        nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, CLASSES),
    )  # fmt: skip


def residual() -> nn.Module:
    """A stem, two residual blocks and a linear head."""
    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)),
        nn.Conv2d(1, 8, 3, 2, 1), nn.ReLU(),
        Residual(8, 8, 1), Residual(8, 16, 2),
        nn.Flatten(), nn.Linear(64, CLASSES),
    )  # fmt: skip


@dataclass(frozen=True)
class Recipe:
    """How a network is made: builder, box radius, seed and epochs."""

    name: str
    build: Callable[[], nn.Module]
    eps: float
    seed: int
    epochs: int = 30


RECIPES = (
    Recipe("relu_mlp", lambda: perceptron(nn.ReLU, 96, 96, 96, 96), 0.05, 1),
    Recipe("relu_cnn", convolutional, 0.06, 2),
    Recipe("relu_resnet", residual, 0.05, 3),
    Recipe("sigmoid_mlp", lambda: perceptron(nn.Sigmoid, 64, 64, 64), 0.08, 4, 120),
    Recipe("tanh_mlp", lambda: perceptron(nn.Tanh, 64, 64, 64), 0.05, 5),
    Recipe("gelu_mlp", lambda: perceptron(nn.GELU, 64, 64, 64), 0.05, 6),
    Recipe("sin_mlp", lambda: perceptron(Sine, 64, 64, 64), 0.03, 7),
    Recipe("silu_mlp", lambda: perceptron(nn.SiLU, 64, 64, 64), 0.05, 8),
    Recipe("vit", Transformer, 0.01, 9, 60),
    Recipe("lstm", Recurrent, 0.03, 10, 60),
)


@dataclass(frozen=True)
class Network:
    """A trained network and its query.

    Attributes:
        name: of its recipe.
        module: in evaluation mode; maps ``(N, 64)`` to ``(N, 10)``.
        onnx: the exported file; its input is ``(1, 64)``.
        centre: ``64`` float32; eps: box radius.
        label: the class whose margins are bounded.
        accuracy: on the test half.
    """

    name: str
    module: nn.Module
    onnx: Path
    centre: Array
    eps: float
    label: int
    accuracy: float

    @property
    def box(self) -> tuple[Array, Array]:
        """``(1, 64)`` lower and upper corners, float64, both exact in float32."""
        eps = np.float32(self.eps)
        lo, hi = self.centre - eps, self.centre + eps
        return lo[None].astype(np.float64), hi[None].astype(np.float64)

    @property
    def margins(self) -> Array:
        """``(9, 10)``: rows ``label - other``."""
        eye = np.eye(CLASSES)
        return np.stack([eye[self.label] - eye[j] for j in range(CLASSES) if j != self.label])


def default_cache() -> Path:
    """A folder of the user's cache that changes with this file."""
    root = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    digest = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:12]
    return root / "surebound" / f"networks-{digest}"


def digits() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Training images and labels, test images and labels; images ``(N, 64)`` in [0, 1]."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    images, labels = torch.tensor(x / 16.0, dtype=torch.float32), torch.tensor(y)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    train, test = order[:1300], order[1300:]
    return images[train], labels[train], images[test], labels[test]


def train(recipe: Recipe) -> nn.Module:
    """A few epochs of Adam from the recipe's seed, on one thread (so that it repeats)."""
    torch.manual_seed(recipe.seed)
    model = recipe.build()
    x, y, _, _ = digits()
    optimiser = torch.optim.Adam(model.parameters(), lr=2e-3, weight_decay=1e-4)
    for _ in range(recipe.epochs):
        for batch in torch.randperm(len(x)).split(64):
            noisy = x[batch] + recipe.eps * (2 * torch.rand_like(x[batch]) - 1)
            loss = nn.functional.cross_entropy(model(noisy), y[batch])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return model.eval()


def network(recipe: Recipe, cache: Path) -> Network:
    """The network of a recipe: read from the cache, or trained and put there."""
    cache.mkdir(parents=True, exist_ok=True)
    weights, onnx = cache / f"{recipe.name}.pt", cache / f"{recipe.name}.onnx"
    if weights.exists() and onnx.exists():
        model = recipe.build()
        model.load_state_dict(torch.load(weights, weights_only=True))
        model.eval()
    else:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        model = train(recipe)
        torch.set_num_threads(threads)
        export(model, onnx)
        torch.save(model.state_dict(), weights)
    _, _, x, y = digits()
    with torch.no_grad():
        right = model(x).argmax(1) == y
    wanted = recipe.seed % CLASSES
    index = int(torch.nonzero(right & (y == wanted))[0])
    return Network(
        recipe.name, model, onnx, x[index].numpy(), recipe.eps, wanted, float(right.float().mean())
    )


def export(model: nn.Module, path: Path) -> None:
    """Writes the ONNX file with PyTorch's current exporter, weights inside."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it misses torchvision
        torch.onnx.export(
            model, (torch.zeros(1, PIXELS),), path, dynamo=True, external_data=False, verbose=False
        )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cache", type=Path, default=default_cache())
    args = parser.parse_args()
    for recipe in RECIPES:
        made = network(recipe, args.cache)
        count = sum(p.numel() for p in made.module.parameters())
        print(f"{made.name:12} {count:7d} weights, accuracy {made.accuracy:.3f}, eps {made.eps}, {made.onnx}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
