"""From findings to alerts: what a person should look at, each with a place in the repository."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from verifier.gate.report import CACHE_RULE, RULES, Alert, Finding, Outcome, Question, Unknown

LEVELS = {Unknown.FAIL: "error", Unknown.WARN: "warning", Unknown.PASS: "note"}


def alerts(
    findings: Iterable[Finding],
    rejected: Sequence[tuple[str, str]],
    config: str,
    shown: Callable[[Path], str],
    unknown: Unknown,
) -> Iterator[Alert]:
    """All alerts, in the order of the findings.

    Args:
        findings: of the run.
        rejected: cached certificates that the checker refused, with the reason.
        config: the configuration's file, where alerts about the cache are shown.
        shown: how paths are named.
        unknown: what inconclusive requirements are treated as.
    """
    for finding in findings:
        if finding.outcome is Outcome.HOLDS:
            continue
        apart = [q for q in finding.questions if q.file and q.outcome is not Outcome.HOLDS]
        if apart:
            yield from (_about(finding, question, unknown) for question in apart)
        else:
            yield _about(finding, None, unknown)
    for file, reason in rejected:
        name = shown(Path(file))
        message = (
            f"the cached certificate {name} does not prove what it is kept for and was not used: {reason}"
        )
        yield Alert(
            CACHE_RULE,
            CACHE_RULE.level,
            message,
            config,
            1,
            "",
            _fingerprint("cache", Path(file).name),
            "",
            name,
        )


def _about(finding: Finding, question: Question | None, unknown: Unknown) -> Alert:
    examples = [c for c in finding.counterexamples if question is None or c.question == question.name]
    outcome = finding.outcome if question is None else question.outcome
    message = finding.message
    if question is not None:
        message = question.message or f"{question.name} is violated"
    if examples and outcome is Outcome.VIOLATED:
        message += f"; for one, {examples[0].text}"
    rule = RULES[outcome]
    where = (finding.file, finding.line) if question is None else (question.file, question.line)
    name = "" if question is None else question.name
    fingerprint = _fingerprint(finding.id, finding.kind, name, rule.id)
    level = LEVELS[unknown] if outcome is Outcome.INCONCLUSIVE else rule.level
    return Alert(
        rule, level, f"{finding.id}: {message}", *where, finding.model, fingerprint, finding.id, name
    )


def _fingerprint(*parts: str) -> str:
    """Of ids, not of contents: an alert keeps its identity while files change."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
