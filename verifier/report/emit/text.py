"""The report for people: the verdict and assignment (standard output) and the talk (standard error)."""

from __future__ import annotations

from verifier.report.emit.assignment import assignment
from verifier.report.model import Report
from verifier.spec.model import Property
from verifier.verdict import Status, UnknownReason


def answer(report: Report, spec: Property | None = None) -> str:
    """Standard output of a run: first line the verdict, then for ``sat`` the assignment."""
    values = assignment(report, spec)
    return f"{report.status.value}\n{values}\n" if values else f"{report.status.value}\n"


def talk(report: Report) -> str:
    """Standard error of a run: why, how, how much; one fact a line."""
    lines = list(_reasons(report))
    if report.strategy:
        lines.append(f"strategy: {report.strategy}")
    lines.append(_counters(report))
    if report.certificate:
        lines.append(f"certificate: {report.certificate}")
    lines.extend(f"note: {note}" for note in report.notes)
    return "\n".join(lines) + "\n"


def _reasons(report: Report) -> list[str]:
    if report.status is Status.UNSAT:
        return [f"proved at level {report.semantics.value}"]
    if report.witness is not None:
        by = ", ".join(f"{name} {version}" for name, version in report.witness.versions)
        return [f"counterexample {report.witness.kind}" + (f" ({by})" if by else "")]
    lines: list[str] = []
    if report.reason is not UnknownReason.NONE:
        lines.append(f"undecided: {report.reason.value}")
    bound = "" if report.lower_bound is None else f", worst open lower bound {report.lower_bound:.6g}"
    lines.append(f"proved so far: {report.closed_fraction:.2%} of the search{bound}")
    return lines


def _counters(report: Report) -> str:
    stats = report.stats
    phases = ", ".join(f"{name} {seconds:.2f}" for name, seconds in stats.phases.items())
    return f"{stats.seconds:.2f} s, {stats.domains} domains, {stats.leaves} leaves" + (
        f" ({phases})" if phases else ""
    )
