"""Networks for the branching benchmark: perceptrons with smooth activations, an LSTM, a vision transformer.

The sizes are those of GenBaB (Shi et al., arXiv 2405.21063): 4x100, 4x200 and 6x100 neurons with sigmoid,
tanh, sine and GELU. Training is short and adversarial (one signed gradient step), so that a network is robust
around most images and a verifier has something to prove. Batch normalisation, without which deep sigmoid
networks do not learn in so few steps, is folded into the linear layers afterwards. Networks are kept in a
folder outside the repository, named by a digest of the code and the data.
"""

from __future__ import annotations

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
from networks import Attention, Sine
from torch import Tensor, nn

Array = np.ndarray[Any, np.dtype[Any]]
CLASSES = 10
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "sigmoid": nn.Sigmoid, "tanh": nn.Tanh, "sin": Sine, "gelu": nn.GELU,
}  # fmt: skip
SIZES = {"4x100": (100,) * 4, "4x200": (200,) * 4, "6x100": (100,) * 6}
BATCH = 128
_STEPS = {"lstm": 2000, "vit": 1500}  # of the optimiser
_PERCEPTRON_STEPS = 1000
# the data an architecture is trained on, where not on all
_ONLY = {"lstm": ("mnist", "digits"), "vit": ("cifar10", "digits")}


@dataclass(frozen=True)
class Data:
    """Images ``(N, pixels)`` in [0, 1], channels first, and labels ``(N,)``; ``shape`` is ``(C, H, W)``."""

    name: str
    shape: tuple[int, int, int]
    x: Tensor
    y: Tensor
    test_x: Tensor
    test_y: Tensor

    @property
    def pixels(self) -> int:
        return int(np.prod(self.shape))

    @property
    def digest(self) -> str:
        """Of the images: another data folder trains other networks."""
        made = hashlib.sha256(self.x.numpy().tobytes())
        made.update(self.test_x.numpy().tobytes())
        return made.hexdigest()[:12]


@dataclass(frozen=True)
class Recipe:
    """How a network is made. ``attack`` is the radius of the training's adversary; ``seed`` of all chance."""

    data: str
    kind: str
    size: str
    attack: float
    seed: int

    @property
    def name(self) -> str:
        return "_".join(word for word in (self.data, self.kind, self.size) if word)


def recipes(data: str) -> list[Recipe]:
    """All networks on one set of images."""
    attack = {"mnist": 0.04, "cifar10": 1 / 255, "digits": 0.04}[data]
    pairs = list(itertools.product(ACTIVATIONS, SIZES))
    found = [Recipe(data, kind, size, attack, 100 + i) for i, (kind, size) in enumerate(pairs)]
    others = [Recipe(data, "lstm", "", attack, 200), Recipe(data, "vit", "", attack, 201)]
    return [*found, *(r for r in others if data in _ONLY[r.kind])]


class Recurrent(nn.Module):
    """An LSTM over bands of image rows, its cell written out (gates: input, forget, cell, output)."""

    def __init__(self, pixels: int, width: int, steps: int) -> None:
        super().__init__()
        self.width, self.steps, self.span = width, steps, pixels // steps
        self.inputs = nn.Linear(self.span, 4 * width)
        self.hidden = nn.Linear(width, 4 * width, bias=False)
        self.head = nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        h = c = None
        for t in range(self.steps):
            gates = self.inputs(x[:, t * self.span : (t + 1) * self.span])
            if h is not None:
                gates = gates + self.hidden(h)
            into, kept, cell, out = gates.split(self.width, dim=1)
            new = torch.sigmoid(into) * torch.tanh(cell)
            c = new if c is None else torch.sigmoid(kept) * c + new
            h = torch.sigmoid(out) * torch.tanh(c)
        return self.head(h)


class Transformer(nn.Module):
    """A vision transformer of one block, rectified MLP, without normalisation, mean over tokens."""

    def __init__(self, shape: tuple[int, int, int], patch: int, width: int, heads: int) -> None:
        super().__init__()
        self.shape, self.tokens = shape, (shape[1] // patch) * (shape[2] // patch)
        self.patches = nn.Conv2d(shape[0], width, patch, patch)
        self.place = nn.Parameter(torch.randn(1, self.tokens, width) * 0.1)
        self.attention = Attention(width, heads)
        self.inner, self.outer = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.head = nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        patches = self.patches(x.reshape(-1, *self.shape))
        x = patches.reshape(patches.shape[0], patches.shape[1], self.tokens).permute(0, 2, 1) + self.place
        x = x + self.attention(x)
        x = x + self.outer(torch.relu(self.inner(x)))
        return self.head(x.mean(1))


def build(recipe: Recipe, shape: tuple[int, int, int]) -> nn.Module:
    """The network before training; perceptrons have batch normalisation, which :func:`folded` removes."""
    pixels = int(np.prod(shape))
    if recipe.kind == "lstm":
        return Recurrent(pixels, 32, 4 if shape[1] % 7 else 7)
    if recipe.kind == "vit":
        return Transformer(shape, 4 if shape[1] < 16 else shape[1] // 4, 32, 2)
    layers: list[nn.Module] = []
    for a, b in itertools.pairwise((pixels, *SIZES[recipe.size])):
        layers += [nn.Linear(a, b), nn.BatchNorm1d(b), ACTIVATIONS[recipe.kind]()]
    return nn.Sequential(*layers, nn.Linear(SIZES[recipe.size][-1], CLASSES))


def folded(model: nn.Module) -> nn.Module:
    """A perceptron with each normalisation merged into the linear layer before it; others unchanged."""
    if not isinstance(model, nn.Sequential):
        return model
    layers: list[nn.Module] = []
    for layer in model:
        if isinstance(layer, nn.BatchNorm1d):
            before = layers.pop()
            assert isinstance(before, nn.Linear) and layer.running_var is not None
            assert layer.running_mean is not None
            scale = layer.weight / torch.sqrt(layer.running_var + layer.eps)
            merged = nn.Linear(before.in_features, before.out_features)
            merged.weight.data = (before.weight * scale[:, None]).detach()
            merged.bias.data = ((before.bias - layer.running_mean) * scale + layer.bias).detach()
            layers.append(merged)
        else:
            layers.append(layer)
    return nn.Sequential(*layers)


def train(recipe: Recipe, data: Data) -> nn.Module:
    """Adam with a falling rate on images moved by one signed gradient step; on one thread."""
    torch.manual_seed(recipe.seed)
    model = build(recipe, data.shape)
    steps = _STEPS.get(recipe.kind, _PERCEPTRON_STEPS)
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3, weight_decay=1e-5)
    plan = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=5e-3, total_steps=steps)
    for _ in range(steps):
        pick = torch.randint(len(data.x), (BATCH,))
        x, y = data.x[pick], data.y[pick]
        moved = _attacked(model, x, y, recipe.attack)
        loss = nn.functional.cross_entropy(model(moved), y)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        plan.step()
    return folded(model.eval())


def _attacked(model: nn.Module, x: Tensor, y: Tensor, eps: float) -> Tensor:
    """A random start in the ball and one step to its border, cut to valid pixels."""
    start = (x + eps * (2 * torch.rand_like(x) - 1)).clamp(0, 1).requires_grad_()
    slope = torch.autograd.grad(nn.functional.cross_entropy(model(start), y), start)[0]
    moved = start.detach() + 1.25 * eps * slope.sign()
    return torch.minimum(torch.maximum(moved, x - eps), x + eps).clamp(0, 1)


@dataclass(frozen=True)
class Trained:
    """A network in evaluation mode, ``(N, pixels) -> (N, 10)``; the file's input is ``(1, pixels)``."""

    recipe: Recipe
    module: nn.Module
    onnx: Path
    accuracy: float


def trained(recipe: Recipe, data: Data, folder: Path) -> Trained:
    """The network of a recipe: read from the folder, or trained and put there."""
    folder.mkdir(parents=True, exist_ok=True)
    weights, onnx = folder / f"{recipe.name}.pt", folder / f"{recipe.name}.onnx"
    if weights.exists() and onnx.exists():
        module = folded(build(recipe, data.shape))
        module.load_state_dict(torch.load(weights, weights_only=True))
    else:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        module = train(recipe, data)
        torch.set_num_threads(threads)
        export(module, data.pixels, onnx)
        torch.save(module.state_dict(), weights)
    module = module.eval()
    with torch.no_grad():
        accuracy = float((module(data.test_x).argmax(1) == data.test_y).float().mean())
    return Trained(recipe, module, onnx, accuracy)


def export(module: nn.Module, pixels: int, path: Path) -> None:
    """Writes the ONNX file with PyTorch's current exporter, weights inside."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it misses torchvision
        example = (torch.zeros(1, pixels),)
        torch.onnx.export(module, example, path, dynamo=True, external_data=False, verbose=False)


def load_data(folder: Path | None) -> list[Data]:
    """MNIST and CIFAR-10 from a folder of ``.npz`` files (``mnist.npz``, ``cifar10*.npz`` with ``x_train,
    y_train, x_test, y_test``, images uint8, channels last); without a folder scikit-learn's digits.

    Raises:
        SystemExit: the folder holds neither.
    """
    if folder is None:
        return [_digits()]
    found: list[Data] = []
    for name, pattern in (("mnist", "mnist.npz"), ("cifar10", "cifar10*.npz")):
        for path in sorted(folder.glob(pattern)):
            with np.load(path) as file:
                if "x_train" in file.files:
                    found.append(_from_arrays(name, {k: file[k] for k in file.files}))
                    break
    if not found:
        raise SystemExit(f"{folder} holds neither mnist.npz nor cifar10*.npz with training images")
    return found


def _from_arrays(name: str, arrays: dict[str, Array]) -> Data:
    def images(key: str) -> Tensor:
        raw = arrays[key]
        raw = raw[..., None] if raw.ndim == 3 else raw
        flat = np.ascontiguousarray(raw.transpose(0, 3, 1, 2)).reshape(len(raw), -1)
        return torch.tensor(flat, dtype=torch.float32) / 255

    height, width = arrays["x_train"].shape[1:3]
    channels = 1 if arrays["x_train"].ndim == 3 else arrays["x_train"].shape[3]
    labels = [torch.tensor(arrays[key].astype(np.int64)) for key in ("y_train", "y_test")]
    return Data(name, (channels, height, width), images("x_train"), labels[0], images("x_test"), labels[1])


def _digits() -> Data:
    from networks import digits

    x, y, test_x, test_y = digits()
    return Data("digits", (1, 8, 8), x, y, test_x, test_y)


def default_cache() -> Path:
    """A folder of the user's cache that changes with the code that trains."""
    root = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    here = Path(__file__).resolve().parent
    code = b"".join((here / name).read_bytes() for name in (Path(__file__).name, "networks.py"))
    return root / "surebound" / f"genbab-{hashlib.sha256(code).hexdigest()[:12]}"
