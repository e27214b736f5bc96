"""Kinds of requirements: one module each, one row each in :data:`KINDS`."""

from __future__ import annotations

from collections.abc import Mapping

from verifier.gate.requirements import (
    accuracy,
    equivalence,
    lipschitz,
    monotonicity,
    no_regression,
    output_range,
    vnnlib,
)
from verifier.gate.requirements.base import Kind

KINDS: Mapping[str, Kind] = {
    "vnnlib": vnnlib.KIND,
    "certified-accuracy": accuracy.KIND,
    "lipschitz": lipschitz.KIND,
    "output-range": output_range.KIND,
    "monotonicity": monotonicity.KIND,
    "equivalence": equivalence.KIND,
    "no-regression": no_regression.KIND,
}
