"""Re-proves a certified radius: within it the class of one point cannot change.

The checker encloses the scores at the point x, bounds every operand on the ball, and from the multipliers
proves per other class j that the margin ``m = y_label - y_j`` changes by at most ``L |y - x|`` from x to any
y in the ball; the claim follows if ``L r < m(x)``. The file's form: docs/reference/lipschitz-certificate.md.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from bounds.errors import CertificateInvalid, CertificateRejected
from verifier.check.importer import whole
from verifier.check.lipschitz import NORMS, Prover, check_problems, numbers, read_object
from verifier.check.local import Where, values_at
from verifier.check.main import load_model
from verifier.check.network import Array, Kind
from verifier.spec.model import Ball

FORMAT, VERSION = "surebound-radius", 1
KEYS = {
    "format": str, "version": int, "model_sha256": str, "producer": str, "norm": str, "centre": list,
    "radius": float, "label": int, "problems": list,
}  # fmt: skip
DOWN = 1 - 2.0**-48


@dataclass(frozen=True, slots=True)
class RadiusCheck:
    """An accepted certificate: the score ``label`` is the largest at every point of the ball, strictly.

    ``far``: as in :class:`verifier.check.lipschitz.LipschitzCheck`.
    """

    radius: float
    norm: str
    label: int
    problems: int
    seconds: float
    far: bool


def check_radius(path: Path, model: Path) -> RadiusCheck:
    """Checks a certificate file against a model.

    Raises:
        CertificateInvalid, BadInput, LimitExceeded: it cannot be read.
        CertificateRejected: it does not prove its radius.
    """
    start = time.monotonic()
    document = validated_radius(read_object(path))
    file = load_model(model)
    if file.digest != document["model_sha256"]:
        raise CertificateRejected("model", "it speaks about another file")
    return check_radius_document(document, file.data, start)


def validated_radius(document: Any) -> dict[str, Any]:
    """The object, if it has the shape of a radius certificate."""
    if not isinstance(document, dict) or set(document) != set(KEYS):
        raise CertificateInvalid("certificate: its keys are not those of a radius; create it again")
    if any(type(document[key]) is not kind for key, kind in KEYS.items()):
        raise CertificateInvalid("certificate: a value has the wrong type; create it again")
    if document["format"] != FORMAT or document["version"] != VERSION or document["norm"] not in NORMS:
        raise CertificateInvalid(f"certificate: it is no {FORMAT} of version {VERSION}; create it again")
    if not 0 < document["radius"] < math.inf:
        raise CertificateInvalid("certificate: its radius is no number above 0; create it again")
    check_problems(document["problems"])
    return document


def check_radius_document(document: Mapping[str, Any], data: bytes, start: float = 0.0) -> RadiusCheck:
    """As :func:`check_radius`, from a validated object and the model's bytes."""
    network = whole(data)
    outputs, label = network.nodes[network.output].size, document["label"]
    if not 0 <= label < outputs or outputs < 2:
        raise CertificateRejected("label", f"the model has no score {label}, or no other")
    if len(document["problems"]) != outputs - 1:
        raise CertificateRejected("problems", "there is not one for every other class")
    centre = numbers(document["centre"], network.nodes[0].size, "the centre")
    margins = _margins(*values_at(network, centre)[1], label)
    prover = Prover(network, around(centre, document["radius"], document["norm"]))
    others = [j for j in range(outputs) if j != label]
    for j, problem in zip(others, document["problems"], strict=True):
        row = np.zeros((1, outputs))
        row[0, label], row[0, j] = 1.0, -1.0
        if not margins[j] > 0:
            raise CertificateRejected("margin", f"score {label} is not proved above score {j} at the centre")
        allowed = float(margins[j]) / document["radius"] * DOWN
        found = prover.bound(problem, row, np.ones(1), document["norm"], allowed)
        if not found <= allowed:
            raise CertificateRejected(
                "bound", f"its multipliers prove {found:.9g} for class {j}, not {allowed:.9g}"
            )
    seconds = time.monotonic() - start if start else 0.0
    far = bool(network.of(Kind.SCALAR))
    return RadiusCheck(document["radius"], document["norm"], label, len(others), seconds, far)


def around(centre: Array, radius: float, norm: str) -> Where:
    """The ball, for pairs of which one point is its centre."""
    # two roundings: of the sum, and one more step for good measure
    low, high = (
        np.nextafter(np.nextafter(centre + sign * radius, sign * np.inf), sign * np.inf) for sign in (-1, 1)
    )
    if norm == "inf":
        return Where(low, high, None, centre)
    ball = Ball(tuple(Fraction(float(c)) for c in centre), Fraction(radius), int(norm))
    return Where(low, high, ball, centre)


def _margins(low: Array, high: Array, label: int) -> Array:
    """Lower bounds of ``y_label - y_j``."""
    found = low[label] - high
    return found - 2.0**-51 * np.abs(found)
