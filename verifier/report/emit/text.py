"""The report for people: the verdict and assignment (standard output) and the talk (standard error)."""

from __future__ import annotations

from verifier.report.emit.assignment import assignment
from verifier.report.model import Region, Report
from verifier.spec.model import Property
from verifier.verdict import Status, UnknownReason


def answer(report: Report, spec: Property | None = None) -> str:
    """Standard output of a run: first line the verdict, then for ``sat`` the assignment."""
    values = assignment(report, spec)
    return f"{report.status.value}\n{values}\n" if values else f"{report.status.value}\n"


def talk(report: Report, *, explain: bool = False, profile: bool = False) -> str:
    """Standard error of a run: why, how, how much; one fact a line.

    Args:
        report: the report.
        explain: why this strategy, in several lines.
        profile: the time of every phase, a line each.
    """
    lines = list(_reasons(report))
    if report.strategy:
        lines.append(f"strategy: {report.strategy}")
    if explain:
        lines.extend(f"  {line}" for line in report.explanation)
    lines.append(_counters(report))
    if profile:
        lines.extend(f"  {name:<12}{seconds:9.3f} s" for name, seconds in report.stats.phases.items())
    if report.resumed:
        lines.append(f"resumed from: {report.resumed}")
    if report.checkpoint:
        lines.append(f"checkpoint: {report.checkpoint}")
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
    if report.hardest is not None:
        lines += _region(report.hardest)
    lines.extend(f"what would help: {line}" for line in report.advice)
    return lines


def _region(region: Region) -> list[str]:
    bound = "no bound" if region.bound is None else f"lower bound {region.bound:.6g}"
    lines = [f"hardest region: {bound}, {region.share:.3g} of the whole, in input box {region.case}"]
    lines.extend(f"  {r.name} in [{r.lower:.9g}, {r.upper:.9g}]" for r in region.ranges)
    if region.hidden:
        lines.append(f"  and {region.hidden} more inputs, which vary less")
    lines.extend(f"  {split}" for split in region.splits)
    return lines


def _counters(report: Report) -> str:
    stats = report.stats
    phases = ", ".join(f"{name} {seconds:.2f}" for name, seconds in stats.phases.items())
    return f"{stats.seconds:.2f} s, {stats.domains} domains, {stats.leaves} leaves" + (
        f" ({phases})" if phases else ""
    )
