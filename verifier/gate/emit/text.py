"""For terminals: one line a requirement, what is wrong below it, and the sum at the end."""

from __future__ import annotations

from verifier.gate.emit.words import clean
from verifier.gate.report import Finding, GateReport, Outcome

_WORDS = {
    Outcome.HOLDS: "holds",
    Outcome.VIOLATED: "VIOLATED",
    Outcome.INCONCLUSIVE: "INCONCLUSIVE",
    Outcome.ERROR: "ERROR",
}
_SHOWN = 10


def emit(report: GateReport) -> str:
    """Text; the first line is the outcome."""
    lines = [report.outcome.value]
    for finding in report.findings:
        lines += _finding(finding)
    lines += [f"warning: {a.message}" for a in report.alerts if not a.requirement]
    lines += [f"note: {note}" for note in report.notes]
    counts = ", ".join(f"{report.count(o)} {o.value}" for o in Outcome if report.count(o))
    lines.append(
        f"{len(report.findings)} requirements: {counts}; {report.reused} answers re-checked from the cache, "
        f"{report.proved} found afresh, {report.seconds:.1f} s"
    )
    if report.outcome is Outcome.INCONCLUSIVE:
        lines.append(f"inconclusive requirements are treated as: {report.unknown.value}")
    return "\n".join(clean(line) for line in lines) + "\n"


def _finding(finding: Finding) -> list[str]:
    lines = [f"{_WORDS[finding.outcome]:<13} {finding.id}: {finding.message}  ({finding.seconds:.1f} s)"]
    if finding.outcome is not Outcome.HOLDS:
        lines.append(f"              stated at {finding.file}:{finding.line}")
        bad = [q for q in finding.questions if q.outcome not in (Outcome.HOLDS, finding.outcome) or q.message]
        lines += [f"              {q.name}: {q.message or q.outcome.value}" for q in bad[:_SHOWN]]
        if len(bad) > _SHOWN:
            lines.append(f"              and {len(bad) - _SHOWN} more")
        for example in finding.counterexamples[:3]:
            kept = f" ({example.certificate})" if example.certificate else ""
            lines.append(f"              counterexample: {example.text}{kept}")
    lines += [f"              note: {note}" for note in finding.notes]
    return lines
