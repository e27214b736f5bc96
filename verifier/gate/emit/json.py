"""The report as JSON; the shape is documented in ``verifier/gate/report.schema.json``."""

from __future__ import annotations

from typing import Any

from verifier.gate.report import Alert, Counterexample, Finding, GateReport, Question
from verifier.report.emit.json import dumps

FORMAT_VERSION = 1


def emit(report: GateReport) -> str:
    """JSON text; times are under keys named "seconds" only, so that the rest can be compared."""
    return dumps(as_dict(report))


def as_dict(report: GateReport) -> dict[str, Any]:
    """Plain values, keys in a fixed order."""
    return {
        "format": "surebound-gate",
        "format_version": FORMAT_VERSION,
        "version": report.version,
        "versions": dict(report.versions),
        "config": report.config,
        "outcome": report.outcome.value,
        "exit_code": int(report.exit_code),
        "unknown": report.unknown.value,
        "seed": report.seed,
        "models": [{"name": m.name, "path": m.path, "sha256": m.sha256} for m in report.models],
        "cache": {"reused": report.reused, "proved": report.proved, "rejected": report.rejected},
        "requirements": [_finding(f) for f in report.findings],
        "alerts": [_alert(a) for a in report.alerts],
        "notes": list(report.notes),
        "seconds": report.seconds,
    }


def _finding(f: Finding) -> dict[str, Any]:
    return {
        "id": f.id,
        "kind": f.kind,
        "about": f.about,
        "model": f.model,
        "file": f.file,
        "line": f.line,
        "required": f.required,
        "outcome": f.outcome.value,
        "message": f.message,
        "value": f.value,
        "at_most": f.upper,
        "measured": dict(f.measured),
        "settings": dict(f.settings),
        "questions": [_question(q) for q in f.questions],
        "counterexamples": [_counterexample(c) for c in f.counterexamples],
        "curve": [
            {
                "radius": p.radius, "value": p.value, "lower": p.lower, "upper": p.upper,
                "certified": p.certified, "broken": p.broken, "open": p.open,
            }
            for p in f.curve
        ],
        "classes": [
            {
                "label": c.label, "samples": c.samples, "correct": c.correct, "certified": c.certified,
                "broken": c.broken, "open": c.open,
            }
            for c in f.classes
        ],
        "hardest": [
            {"name": h.name, "label": h.label, "outcome": h.outcome.value, "text": h.text} for h in f.hardest
        ],
        "notes": list(f.notes),
        "seconds": f.seconds,
    }  # fmt: skip


def _question(q: Question) -> dict[str, Any]:
    return {
        "name": q.name,
        "outcome": q.outcome.value,
        "message": q.message,
        "source": q.source,
        "domains": q.domains,
        "certificate": q.certificate or None,
        "file": q.file or None,
        "line": q.line or None,
        "seconds": q.seconds,
    }


def _counterexample(c: Counterexample) -> dict[str, Any]:
    return {
        "question": c.question,
        "text": c.text,
        "confirmed": c.confirmed,
        "certificate": c.certificate or None,
        "shape": list(c.shape),
        "inputs": list(c.inputs),
        "original": list(c.original),
        "outputs": list(c.outputs),
        "label": None if c.label < 0 else c.label,
        "winner": None if c.winner < 0 else c.winner,
    }


def _alert(a: Alert) -> dict[str, Any]:
    return {
        "rule": a.rule.id,
        "level": a.level,
        "message": a.message,
        "file": a.file,
        "line": a.line,
        "requirement": a.requirement or None,
        "question": a.question or None,
        "fingerprint": a.fingerprint,
    }
