"""Kinds of requirements: one module each, one row each in :data:`KINDS`."""

from __future__ import annotations

from collections.abc import Mapping

from verifier.gate.requirements import accuracy, vnnlib
from verifier.gate.requirements.base import Kind

KINDS: Mapping[str, Kind] = {
    "vnnlib": vnnlib.KIND,
    "certified-accuracy": accuracy.KIND,
}
