"""Markdown for merge requests and step summaries, kept below GitHub's limit of 1 MiB."""

from __future__ import annotations

import re
from collections.abc import Sequence

from verifier.gate.emit.words import ICONS, clean, summary
from verifier.gate.report import Finding, GateReport, Outcome

MOST = 900_000  # bytes
_ROWS = 20


def emit(report: GateReport) -> str:
    """A table of all requirements, then the details of each."""
    lines = [
        f"## {ICONS[report.outcome]} surebound gate: {report.outcome.value}",
        "",
        summary(report),
        "",
        *_table(("", "requirement", "network", "found"), [_row(f) for f in report.findings]),
    ]
    if report.outcome is Outcome.INCONCLUSIVE:
        lines += ["", f"Inconclusive requirements are treated as: {report.unknown.value}."]
    lines += [f"\n> **Warning** {_text(a.message)}" for a in report.alerts if not a.requirement]
    lines += [f"\n> {_text(note)}" for note in report.notes]
    head = "\n".join(lines) + "\n"
    size, parts = len(head.encode()), [head]
    for finding in report.findings:
        part = "\n".join(_details(finding)) + "\n"
        size += len(part.encode())
        if size > MOST:
            parts.append("\nDetails are cut off here; the other formats have all of them.\n")
            break
        parts.append(part)
    return "".join(parts)


def _row(f: Finding) -> tuple[str, ...]:
    return f"{ICONS[f.outcome]} {f.outcome.value}", f"`{f.id}`", _text(f.model), _text(f.message)


def _details(f: Finding) -> list[str]:
    open_ = " open" if f.outcome is not Outcome.HOLDS else ""
    lines = [
        "",
        f"<details{open_}><summary>{ICONS[f.outcome]} {_text(f.id)}: {_text(f.message)}</summary>",
        "",
    ]
    if f.about:
        lines += [_text(f.about), ""]
    if f.required:
        lines += [f"Required: {_text(f.required)} (`{f.file}:{f.line}`).", ""]
    if f.curve:
        rows = [
            (p.radius, f"{p.lower:.4f}", f"{p.upper:.4f}", str(p.certified), str(p.broken), str(p.open))
            for p in f.curve
        ]
        lines += [*_table(("radius", "certified", "at most", "proved", "broken", "open"), rows), ""]
    bad = [q for q in f.questions if q.outcome is not Outcome.HOLDS and (q.file or q.message)]
    if bad:
        rows = [(q.outcome.value, _text(q.name), _text(q.message)) for q in bad[:_ROWS]]
        lines += [*_table(("", "question", "why"), rows), ""]
        lines += [f"and {len(bad) - _ROWS} more", ""] if len(bad) > _ROWS else []
    for c in f.counterexamples:
        kept = f", `{c.certificate}`" if c.certificate else ""
        lines.append(f"- counterexample ({c.confirmed}{kept}): {_text(c.text)}")
    lines += [f"- {_text(note)}" for note in f.notes]
    return [*lines, "", "</details>"]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return [*lines, *(f"| {' | '.join(row)} |" for row in rows)]


def _text(text: str) -> str:
    """One line that Markdown shows as it is."""
    line = " ".join(clean(text).split()).replace("&", "&amp;").replace("<", "&lt;")
    return re.sub(r"([\\`*_\[\]|#])", r"\\\1", line)
