"""Certified-robust training: 1-Lipschitz layers, losses on bounds, a trainer, export with a proved constant.

Importing this package loads no torch; what needs it is loaded on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from training.api import Outcome, train
    from training.config import Config, read_config

__all__ = ["Config", "Outcome", "read_config", "train"]

_HOMES = {
    "train": "training.api",
    "Outcome": "training.api",
    "Config": "training.config",
    "read_config": "training.config",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'training' has no attribute '{name}'")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
