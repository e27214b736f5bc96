"""SARIF 2.1.0 (OASIS, with errata 01), within what GitHub's code scanning takes.

Only what a person should look at is a result: what holds is in the other formats.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from verifier.gate.emit.words import INFORMATION
from verifier.gate.report import CACHE_RULE, RULES, Alert, Counterexample, GateReport, Rule
from verifier.report.emit.json import dumps

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
MOST = 5000  # of the results of a run GitHub keeps so many
FINGERPRINT = "sureboundPropertyHash/v1"


def emit(report: GateReport) -> str:
    """One run."""
    rules = [*RULES.values(), CACHE_RULE]
    run = {
        "tool": {
            "driver": {
                "name": "surebound",
                "version": report.version,
                "informationUri": INFORMATION,
                "rules": [_rule(rule) for rule in rules],
            }
        },
        "originalUriBaseIds": {"%SRCROOT%": {"description": {"text": "The root of the repository."}}},
        "results": [_result(report, alert, rules) for alert in report.alerts[:MOST]],
        "columnKind": "unicodeCodePoints",
        "properties": {"outcome": report.outcome.value, "config": report.config, "seed": report.seed},
    }
    return dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]})


def _rule(rule: Rule) -> dict[str, Any]:
    return {
        "id": rule.id,
        "name": rule.name,
        "shortDescription": {"text": rule.text},
        "helpUri": INFORMATION,
        "defaultConfiguration": {"level": rule.level},
    }


def _result(report: GateReport, alert: Alert, rules: list[Rule]) -> dict[str, Any]:
    result: dict[str, Any] = {
        "ruleId": alert.rule.id,
        "ruleIndex": rules.index(alert.rule),
        "level": alert.level,
        "message": {"text": alert.message},
        "locations": [{"physicalLocation": _place(alert.file, alert.line)}],
        "partialFingerprints": {FINGERPRINT: alert.fingerprint},
        "properties": {"requirement": alert.requirement},
    }
    if alert.related:
        text = {"text": "the network that it is about"}
        result["relatedLocations"] = [{"id": 1, "physicalLocation": _place(alert.related), "message": text}]
    examples = [
        c
        for f in report.findings
        if f.id == alert.requirement
        for c in f.counterexamples
        if not alert.question or c.question == alert.question
    ]
    if examples:
        result["properties"]["counterexample"] = _example(examples[0])
    return result


def _place(file: str, line: int = 0) -> dict[str, Any]:
    place: dict[str, Any] = {"artifactLocation": {"uri": quote(file), "uriBaseId": "%SRCROOT%"}}
    if line:
        place["region"] = {"startLine": line}
    return place


def _example(c: Counterexample) -> dict[str, Any]:
    return {
        "question": c.question,
        "text": c.text,
        "confirmed": c.confirmed,
        "certificate": c.certificate,
        "inputs": list(c.inputs),
        "outputs": list(c.outputs),
    }
