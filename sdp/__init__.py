"""Lipschitz constants of networks: proved upper bounds and sampled lower ones."""

from __future__ import annotations

from sdp.api import NAMES, Effort, lipschitz, margins
from sdp.lower import Sampling
from sdp.objective import Norm
from sdp.region import Region
from sdp.result import Certified, LipschitzBound

__all__ = [
    "NAMES",
    "Certified",
    "Effort",
    "LipschitzBound",
    "Norm",
    "Region",
    "Sampling",
    "lipschitz",
    "margins",
]
