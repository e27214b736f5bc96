"""What changes over training, as functions of the share of training done (0 to 1)."""

from __future__ import annotations

import math

from training.config import LossConfig, TrainConfig


def rate(config: TrainConfig, share: float) -> float:
    """The learning rate."""
    if config.schedule == "constant":
        return config.lr
    if config.schedule == "steps":
        return config.lr * 0.1 ** sum(share >= at for at in config.decay_at)
    if config.schedule == "onecycle":  # up over a fifth, then down to nothing
        return config.lr * (0.1 + 0.9 * share / 0.2 if share < 0.2 else (1 - share) / 0.8)
    return config.lr * 0.5 * (1 + math.cos(math.pi * share))


def ramp(config: LossConfig, share: float) -> float:
    """How far the radius has grown, 0 to 1: nothing during the warm-up, then a straight line."""
    if share < config.warmup:
        return 0.0
    return 1.0 if config.ramp <= 0 else min(1.0, (share - config.warmup) / config.ramp)


def kappa(config: LossConfig, share: float) -> float:
    """The share of the clean loss: 1 before the ramp, ``kappa_end`` after it."""
    return 1.0 + (config.kappa_end - 1.0) * ramp(config, share)


def mix(config: LossConfig, share: float) -> float:
    """crown-ibp: the share of the linear bound, from 1 to ``mix_end``."""
    return 1.0 + (config.mix_end - 1.0) * ramp(config, share)
