"""The report as JSON; the shape is documented in ``verifier/report/schema.json``."""

from __future__ import annotations

import json
import math
from typing import Any

from verifier.report.emit.assignment import input_values
from verifier.report.emit.decimals import decimal
from verifier.report.model import Region, Report
from verifier.spec.model import Property
from verifier.verdict import UnknownReason, Witness

FORMAT_VERSION = 1


def as_dict(report: Report, spec: Property | None = None) -> dict[str, Any]:
    """The report as plain values, keys in a fixed order."""
    return {
        "format": "surebound-report",
        "format_version": FORMAT_VERSION,
        "version": report.version,
        "verdict": report.status.value,
        "reason": _reason(report.reason),
        "semantics": report.semantics.value,
        "model": {"path": report.model, "sha256": report.model_sha256},
        "property": {"path": report.property, "sha256": report.property_sha256},
        "seed": report.seed,
        "witness": None if report.witness is None else _witness(report, report.witness, spec),
        "certificate": report.certificate or None,
        "lower_bound": _finite(report.lower_bound),
        "closed_fraction": report.closed_fraction,
        "hardest_region": None if report.hardest is None else _region(report.hardest),
        "advice": list(report.advice),
        "strategy": report.strategy,
        "explanation": list(report.explanation),
        "resumed": report.resumed or None,
        "checkpoint": report.checkpoint or None,
        "stats": {
            "seconds": report.stats.seconds,
            "domains": report.stats.domains,
            "leaves": report.stats.leaves,
            "settled_float64": report.stats.settled_float64,
            "settled_exact": report.stats.settled_exact,
            "phases": dict(report.stats.phases),
        },
        "notes": list(report.notes),
    }


def dumps(document: dict[str, Any]) -> str:
    """Text of a JSON document: indented, key order kept, no NaN, one newline at the end."""
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _reason(reason: UnknownReason) -> dict[str, str] | None:
    if reason is UnknownReason.NONE:
        return None
    return {"code": reason.name.lower(), "text": reason.value}


def _witness(report: Report, witness: Witness, spec: Property | None) -> dict[str, Any]:
    # numbers are strings, because many JSON readers would round them
    return {
        "kind": witness.kind,
        "case": witness.case,
        "disjunct": witness.disjunct,
        "inputs": _named(report.input_names, "X", input_values(witness, spec)),
        "outputs": _named(report.output_names, "Y", [decimal(v) for v in witness.y]),
        "versions": dict(witness.versions),
    }


def _region(region: Region) -> dict[str, Any]:
    return {
        "case": region.case,
        "lower_bound": _finite(region.bound),
        "share": region.share,
        "ranges": [
            {"name": r.name, "lower": _finite(r.lower), "upper": _finite(r.upper)} for r in region.ranges
        ],
        "more_inputs": region.hidden,
        "splits": list(region.splits),
    }


def _named(names: tuple[str, ...], letter: str, values: list[str]) -> list[dict[str, str]]:
    if len(names) != len(values):
        names = tuple(f"{letter}_{i}" for i in range(len(values)))
    return [{"name": name, "value": value} for name, value in zip(names, values, strict=True)]


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
