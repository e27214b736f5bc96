"""JUnit XML as Jenkins, GitLab and others read it: a suite is a network, a case what is required of it."""

from __future__ import annotations

from xml.sax.saxutils import quoteattr

from verifier.gate.emit.words import cases, clean
from verifier.gate.report import GateReport, Outcome, Unknown

_KINDS = {Outcome.VIOLATED: "failure", Outcome.ERROR: "error"}


def emit(report: GateReport) -> str:
    """XML text."""
    suites: dict[str, list[tuple[str, str, Outcome, str, float]]] = {}
    for finding in report.findings:
        rows = suites.setdefault(finding.model or report.config, [])
        rows += [(finding.id, *case) for case in cases(finding)]
    body = "".join(_suite(report, name, rows) for name, rows in suites.items())
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<testsuites name="surebound gate">\n{body}</testsuites>\n'
    )


def _suite(report: GateReport, name: str, rows: list[tuple[str, str, Outcome, str, float]]) -> str:
    kinds = [_kind(report, outcome) for _, _, outcome, _, _ in rows]
    counts = {kind: kinds.count(kind) for kind in ("failure", "error", "skipped")}
    facts = {
        "version": report.version, "seed": str(report.seed), "config": report.config,
        "unknown": report.unknown.value, **report.versions,
    }  # fmt: skip
    properties = "".join(f"<property name={_attribute(k)} value={_attribute(v)}/>" for k, v in facts.items())
    return (
        f'<testsuite name={_attribute(name)} tests="{len(rows)}" failures="{counts["failure"]}" '
        f'errors="{counts["error"]}" skipped="{counts["skipped"]}" time="{sum(r[4] for r in rows):.3f}">'
        f"<properties>{properties}</properties>\n"
        + "".join(_case(row, kind) for row, kind in zip(rows, kinds, strict=True))
        + "</testsuite>\n"
    )


def _case(row: tuple[str, str, Outcome, str, float], kind: str) -> str:
    requirement, name, outcome, message, seconds = row
    inner = f"<{kind} type={_attribute(outcome.value)} message={_attribute(message)}/>" if kind else ""
    return (
        f"<testcase classname={_attribute(requirement)} name={_attribute(name)} "
        f'time="{seconds:.3f}">{inner}</testcase>\n'
    )


def _kind(report: GateReport, outcome: Outcome) -> str:
    """The element that tells how a case ended; an inconclusive one by the policy."""
    if outcome is Outcome.INCONCLUSIVE:
        return "failure" if report.unknown is Unknown.FAIL else "skipped"
    return _KINDS.get(outcome, "")


def _attribute(text: str) -> str:
    return quoteattr(clean(text))
