"""Workflow commands that GitHub shows beside the files, and outputs of a step."""

from __future__ import annotations

from verifier.gate.emit.words import clean, summary
from verifier.gate.report import Alert, GateReport, Outcome

SHOWN = 10  # of each level in one step; GitHub drops the rest without a word
_COMMANDS = {"error": "error", "warning": "warning", "note": "notice"}


def emit(report: GateReport) -> str:
    """``::error file=...::message`` lines."""
    lines: list[str] = []
    for level, command in _COMMANDS.items():
        mine = [a for a in report.alerts if a.level == level]
        told = mine if len(mine) <= SHOWN else mine[: SHOWN - 1]
        lines += [_command(command, alert) for alert in told]
        if len(told) < len(mine):
            lines.append(
                f"::{command} title=surebound::and {len(mine) - len(told)} more; see the other reports"
            )
    lines.append(f"::notice title=surebound::{_message(summary(report))}")
    return "\n".join(lines) + "\n"


def outputs(report: GateReport) -> str:
    """``name=value`` lines for the file ``$GITHUB_OUTPUT``."""
    facts = {
        "verdict": report.outcome.value,
        "exit-code": int(report.exit_code),
        "violated": report.count(Outcome.VIOLATED),
        "inconclusive": report.count(Outcome.INCONCLUSIVE),
        "errors": report.count(Outcome.ERROR),
        "reused": report.reused,
    }
    return "".join(f"{name}={value}\n" for name, value in facts.items())


def _command(command: str, alert: Alert) -> str:
    title = f"surebound: {alert.rule.name}"
    return (
        f"::{command} file={_property(alert.file)},line={alert.line},title={_property(title)}"
        f"::{_message(alert.message)}"
    )


def _message(text: str) -> str:
    return clean(text).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _message(text).replace(":", "%3A").replace(",", "%2C")
