"""Writes multipliers as a certificate that ``verify check`` re-proves without this package.

One JSON object (docs/reference/lipschitz-certificate.md); numbers are decimals that read back to the same
float64.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from bounds.errors import BadInput
from bounds.graph import Array
from sdp.result import Certified, Layout, LipschitzBound

FORMAT, VERSION = "surebound-lipschitz", 1
# the checker pays for its own rounding, and encloses slopes by other means
HEADROOM = 1e-6


def certificate_text(bound: LipschitzBound, model_sha256: str, producer: str) -> str:
    """The certificate of a global bound.

    Raises:
        BadInput: the bound is of a kind that has no certificate.
    """
    layout = bound.layout
    if bound.local or layout is None or layout.products:
        raise BadInput("only global bounds of whole outputs have certificates; leave --region out")
    if any(row.weights is None for row in bound.rows):
        raise BadInput(f"method '{bound.method}' leaves no multipliers to certify; use --method auto")
    document = {
        "format": FORMAT,
        "version": VERSION,
        "model_sha256": model_sha256,
        "producer": producer,
        "norm": bound.norm,
        "output_norm": bound.output_norm,
        "upper": bound.upper * (1 + HEADROOM),
        "problems": [_problem(row, layout) for row in bound.rows],
    }
    return json.dumps(document, allow_nan=False) + "\n"


def _problem(row: Certified, layout: Layout) -> dict[str, Any]:
    arrays = {"relus": [np.zeros(n) for n in layout.relus], "scalars": [np.zeros(n) for n in layout.scalars]}
    for lam, places in zip(row.multipliers, layout.places, strict=True):
        for value, (kind, node, element) in zip(lam, places, strict=True):
            arrays[kind][node][element] = value
    relus: list[Any] = [_numbers(a) for a in arrays["relus"]]
    for node, (like, sign) in layout.merged.items():
        relus[node] = {"like": like, "sign": sign}
    return {
        "relus": relus,
        "scalars": [_numbers(a) for a in arrays["scalars"]],
        "mu": None if row.diagonal is None else _numbers(row.diagonal),
    }


def _numbers(values: Array) -> list[float]:
    return [float(v) for v in values]
