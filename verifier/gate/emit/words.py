"""What emitters have in common: words, and texts made safe for their formats."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from verifier.gate.report import Finding, GateReport, Outcome, Question

ICONS: Mapping[Outcome, str] = {
    Outcome.HOLDS: "✅",
    Outcome.VIOLATED: "❌",
    Outcome.INCONCLUSIVE: "❔",
    Outcome.ERROR: "⛔",
}
INFORMATION = "https://pypi.org/project/surebound/"
# characters that XML 1.0 forbids, lone surrogates included
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


def clean(text: str) -> str:
    """Without characters that XML 1.0 (and HTML) forbids."""
    return _FORBIDDEN.sub("?", text)


def cases(finding: Finding) -> Iterator[tuple[str, Outcome, str, float]]:
    """The parts of a requirement that stand alone: (name, outcome, message, seconds).

    Properties in files of their own stand alone; the samples of a figure do not, as some may fail.
    """
    apart = [q for q in finding.questions if q.file]
    if not apart:
        yield finding.required or finding.kind, finding.outcome, finding.message, finding.seconds
    for q in apart:
        yield q.name, q.outcome, q.message or _essence(finding, q), q.seconds


def _essence(finding: Finding, question: Question) -> str:
    return next(
        (c.text for c in finding.counterexamples if c.question == question.name), question.outcome.value
    )


def summary(report: GateReport) -> str:
    """The run in one line."""
    counts = ", ".join(f"{report.count(o)} {o.value}" for o in Outcome if report.count(o))
    return (
        f"{len(report.findings)} requirements: {counts}; {report.reused} answers re-checked from the cache, "
        f"{report.proved} found afresh"
    )
