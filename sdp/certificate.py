"""Writes multipliers as certificates that ``verify check`` re-proves without this package.

One JSON object (docs/reference/lipschitz-certificate.md); numbers are decimals that read back to the same
float64.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from bounds.errors import BadInput
from bounds.graph import Array
from sdp.radius import Local
from sdp.region import Region
from sdp.result import Certified, Layout, LipschitzBound

FORMAT, VERSION = "surebound-lipschitz", 2
RADIUS_FORMAT, RADIUS_VERSION = "surebound-radius", 1
# the checker pays for its own rounding, and encloses slopes and ranges by other means
HEADROOM = 1e-6
# share of the usual multiplier for elements of one slope, which may have a range for the checker
SPARE = 1e-7


def certificate_text(
    bound: LipschitzBound, model_sha256: str, producer: str, headroom: float = HEADROOM
) -> str:
    """The certificate of a bound.

    Raises:
        BadInput: the bound is of a kind that has no certificate.
    """
    if any(row.weights is None for row in bound.rows):
        raise BadInput(f"method '{bound.method}' leaves no multipliers to certify; use --method auto")
    layout = _layout(bound.layout)
    document = {
        "format": FORMAT,
        "version": VERSION,
        "model_sha256": model_sha256,
        "producer": producer,
        "norm": bound.norm,
        "output_norm": bound.output_norm,
        "upper": bound.upper * (1 + headroom),
        "region": None if bound.region is None else _region(bound.region),
        "rows": None if bound.combinations is None else [_numbers(row) for row in bound.combinations],
        "problems": [_problem(row, layout, headroom) for row in bound.rows],
    }
    return json.dumps(document, allow_nan=False) + "\n"


def radius_text(found: Local, model_sha256: str, producer: str, headroom: float = HEADROOM) -> str:
    """The certificate of a certified radius; it claims a little less than was found.

    Raises:
        BadInput: nothing was found, or it has no certificate.
    """
    if found.centre is None or not found.radius > 0:
        raise BadInput("no radius was certified; there is nothing to write")
    layout = _layout(found.layout)
    document = {
        "format": RADIUS_FORMAT,
        "version": RADIUS_VERSION,
        "model_sha256": model_sha256,
        "producer": producer,
        "norm": found.norm,
        "centre": _numbers(found.centre),
        "radius": found.radius * (1 - headroom),
        "label": found.label,
        "problems": [_problem(row, layout, headroom / 2) for row in found.pairs],
    }
    return json.dumps(document, allow_nan=False) + "\n"


def _layout(layout: Layout | None) -> Layout:
    if layout is None or layout.products:
        raise BadInput("only bounds from multipliers of rectifiers and scalar functions have certificates")
    return layout


def _region(region: Region) -> dict[str, Any]:
    ball = region.ball
    return {
        "lo": _numbers(region.lo),
        "hi": _numbers(region.hi),
        "ball": None
        if ball is None
        else {"centre": _numbers(ball.centre), "radius": float(ball.radius), "norm": ball.norm},
    }


def _problem(row: Certified, layout: Layout, headroom: float) -> dict[str, Any]:
    known = np.concatenate([np.zeros(0), *row.multipliers])
    spare = SPARE * float(np.median(known)) if len(known) else 0.0
    arrays = {
        "relus": [np.full(n, spare) for n in layout.relus],
        "scalars": [np.full(n, spare) for n in layout.scalars],
    }
    for lam, places in zip(row.multipliers, layout.places, strict=True):
        for value, (kind, node, element) in zip(lam, places, strict=True):
            arrays[kind][node][element] = value * (1 + headroom)
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
