"""The description of a training run: one table of keys, read from TOML with file and line in every complaint.

Imports nothing heavy, so that a wrong file is refused before torch is loaded. The reference page
``docs/reference/training-config.md`` is generated from here (``python docs/gen_training.py``).
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from bounds import settings
from bounds.settings import Reader, key

LAYER_NAMES: Final = ("spectral", "aol", "sll", "cpl", "cayley", "bcop", "soc", "lot", "bro", "sandwich")
MARGIN_LOSSES: Final = ("cross-entropy", "offset", "emma", "logit-annealing", "hinge")
BOUND_LOSSES: Final = ("ibp", "crown-ibp", "sabr", "mtl-ibp", "cc-ibp", "exp-ibp", "taps", "staps")


@dataclass(frozen=True, slots=True)
class DataConfig:
    """``[data]``: what is learned from."""

    source: str = key(
        "digits",
        "where examples come from",
        choices=("digits", "npz", "folder", "torchvision", "arrays"),
    )
    path: str = key("", "npz file, image folder (train/CLASS/*.png, test/...) or torchvision cache")
    name: str = key("MNIST", "torchvision data set")
    scale: float = key(0.0, "raw values are divided by it; 0: 255 for bytes, 16 for digits, else 1", least=0)
    train_limit: int = key(0, "use only so many training examples; 0: all", least=0)
    test_limit: int = key(0, "use only so many test examples; 0: all", least=0)
    flat: bool = key(False, "flatten images")
    augment: tuple[str, ...] = key((), "of 'shift' (pixels), 'flip' (horizontal), 'noise' (normal)")
    shift: int = key(1, "largest shift in pixels", least=0)
    noise: float = key(0.05, "standard deviation of the noise", least=0)


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """``[model]``: the network."""

    kind: str = key("lipschitz", "1-Lipschitz by construction, or plain", choices=("lipschitz", "plain"))
    layer: str = key("cayley", "parameterisation of every layer", choices=LAYER_NAMES)
    activation: str = key("maxmin", "relu, abs, maxmin, groupsortK, householder; plain: relu, tanh, ...")
    hidden: tuple[int, ...] = key((64, 64), "widths of dense layers", least=1)
    conv: tuple[int, ...] = key((), "channels of convolutions before them", least=1)
    stride: tuple[int, ...] = key((), "stride of each convolution; empty: all 1", least=1)
    kernel: int = key(3, "kernel size of convolutions", least=1)
    unshuffle: int = key(1, "cells of pixels that become channels first", least=1)
    head: str = key("rows", "last layer: unit rows, or one more layer", choices=("rows", "layer"))
    residual: bool = key(False, "wrap blocks that keep their shape as (1 - t) x + t f(x)")
    centre: float = key(0.0, "subtracted from inputs")
    inner: int = key(0, "rectifiers inside sll, cpl, sandwich; 0: the width", least=0)
    slack: float = key(0.0, "sll only: slack in T relative to its start, keeps deep networks alive", least=0)
    batch_norm: bool = key(False, "plain only: batch normalisation")
    init: str = key(
        "default",
        "how raw weights start; 'gaussian' makes aol and sll decay, 'ibp' is for plain networks",
        choices=("default", "orthogonal", "gaussian", "identity", "ibp"),
    )


@dataclass(frozen=True, slots=True)
class LossConfig:
    """``[loss]``: what is minimised; the first five are for 1-Lipschitz networks, the others bound boxes."""

    name: str = key("offset", "the loss", choices=MARGIN_LOSSES + BOUND_LOSSES)
    radius: float = key(0.5, "radius trained for: L2, or L-infinity for losses on bounds", least=0)
    temperature: float = key(0.25, "logits are divided by it in the margin losses", least=1e-6)
    offset: float = key(-1.0, "taken from the right logit; negative: sqrt(2) radius")
    beta: float = key(5.0, "logit annealing: the exponent", least=0)
    alpha: float = key(0.02, "share of the bound in mtl-ibp, cc-ibp, exp-ibp", least=0)
    box: float = key(0.4, "sabr, staps: size of the small box relative to the radius", least=0)
    split: int = key(0, "taps, staps: modules in the part bounded by intervals; 0: about two thirds", least=0)
    attack_steps: int = key(
        5, "steps of the attack inside sabr, mtl-ibp, cc-ibp, exp-ibp, taps, staps", least=1
    )
    warmup: float = key(0.0, "share of training at radius 0", least=0)
    ramp: float = key(0.3, "share of training over which the radius grows", least=0)
    kappa_end: float = key(0.0, "share of the clean loss at the end of the ramp (1 at its start)", least=0)
    mix_end: float = key(0.0, "crown-ibp: share of the linear bound at the end of the ramp", least=0)
    balance: float = key(
        0.0, "weight of the regularisers of tightness and ReLU balance during the ramp", least=0
    )
    l1: float = key(0.0, "weight of the sum of magnitudes of weights", least=0)


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """``[train]``: how."""

    epochs: int = key(20, "passes over the training set", least=1)
    batch: int = key(128, "examples per step", least=1)
    optimiser: str = key("adam", "the optimiser", choices=("adam", "adamw", "sgd"))
    lr: float = key(0.003, "largest learning rate", least=0)
    schedule: str = key("cosine", "of the rate", choices=("cosine", "onecycle", "constant", "steps"))
    decay_at: tuple[float, ...] = key(
        (0.7, 0.9), "schedule 'steps': shares of training where the rate falls tenfold"
    )
    weight_decay: float = key(0.0, "weight decay", least=0)
    clip: float = key(10.0, "largest gradient norm; 0: no limit", least=0)
    average: str = key("none", "weights that are evaluated", choices=("none", "ema", "swa"))
    ema_decay: float = key(0.995, "decay of the moving average per step", least=0)
    swa_start: float = key(0.75, "share of training after which weights are averaged", least=0)
    threads: int = key(1, "threads of torch; results repeat bit for bit only with the same number", least=1)
    device: str = key("cpu", "where to train")


@dataclass(frozen=True, slots=True)
class EvaluateConfig:
    """``[evaluate]``: what is measured."""

    radii: tuple[float, ...] = key(
        (0.1, 0.3, 0.5, 1.0), "radii of certified accuracy (L2; L-infinity for bounds)"
    )
    every: int = key(1, "epochs between evaluations", least=1)
    attack_steps: int = key(20, "steps of the attack that bounds accuracy from above; 0: none", least=0)
    limit: int = key(0, "test examples in evaluations during training; 0: all", least=0)


@dataclass(frozen=True, slots=True)
class LogConfig:
    """``[log]``: further places to log to, each through its own library."""

    tensorboard: bool = key(False, "needs the package tensorboard")
    mlflow: str = key("", "experiment name; needs the package mlflow")


@dataclass(frozen=True, slots=True)
class Config:
    """A whole run."""

    seed: int = key(0, "of everything random")
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    log: LogConfig = field(default_factory=LogConfig)


def read_config(path: str | Path) -> Config:
    """Reads a TOML file.

    Raises:
        SpecError: it is no TOML, or a key or value is wrong; with file and line.
        OSError: it cannot be read.
    """
    text = Path(path).read_text(encoding="utf-8")
    return parse_config(text, str(path))


def parse_config(text: str, file: str = "config") -> Config:
    """The same from text.

    Raises:
        SpecError: see :func:`read_config`.
    """
    values, places = settings.loads(text, file)
    return Reader(file, places).table(Config, values)


def from_mapping(values: Mapping[str, Any]) -> Config:
    """A configuration from nested mappings, checked like a file.

    Raises:
        SpecError: a key or value is wrong.
    """
    return Reader("config", {}).table(Config, values)


def as_mapping(config: Config) -> dict[str, Any]:
    """Nested values as JSON has them, for reports and checkpoints."""
    return json.loads(json.dumps(dataclasses.asdict(config)))
