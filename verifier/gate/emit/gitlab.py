"""GitLab's code quality report: a JSON list of findings."""

from __future__ import annotations

import json
from typing import Any

from verifier.gate.report import Alert, GateReport

_SEVERITIES = {"error": "blocker", "warning": "major", "note": "info"}


def emit(report: GateReport) -> str:
    """The list; empty when everything holds."""
    return json.dumps([_finding(a) for a in report.alerts], indent=2, ensure_ascii=False) + "\n"


def _finding(alert: Alert) -> dict[str, Any]:
    return {
        "description": alert.message,
        "check_name": f"surebound/{alert.rule.id}",
        "fingerprint": alert.fingerprint,
        "severity": _SEVERITIES[alert.level],
        "location": {"path": alert.file, "lines": {"begin": alert.line}},
    }
