"""A page that stands alone: no script, nothing fetched, light and dark, readable by screen readers."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from importlib import resources

from verifier.gate.emit import plot
from verifier.gate.emit.words import clean, summary
from verifier.gate.report import Counterexample, Finding, GateReport, Outcome
from verifier.report import image

_ROWS, _LARGEST = 50, 12
_SIDE = 112  # pixels that small pictures are enlarged to, by whole factors


def emit(report: GateReport) -> str:
    """HTML text."""
    style = resources.files("verifier.gate.emit").joinpath("report.css").read_text(encoding="utf-8")
    title = f"surebound gate: {report.outcome.value}"
    times = sorted(((f.id, f.seconds) for f in report.findings), key=lambda t: -t[1])[:_LARGEST]
    body = [
        f'<header><p class="brand">surebound gate</p><h1 class="{report.outcome.value}">'
        f"{_badge(report.outcome)} {_text(_HEADINGS[report.outcome])}</h1>",
        f"<p>{_text(summary(report))}, {report.seconds:.1f} s.</p>{_remarks(report)}</header><main>",
        _overview(report),
        *(_finding(f, i) for i, f in enumerate(report.findings)),
        f"<section><h2>Time spent</h2>{plot.bars(times, 'times', 'Seconds by requirement')}</section>",
        _facts(report),
        "</main>",
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'\">"
        f"<title>{_text(title)}</title><style>\n{style}</style></head><body>{''.join(body)}</body></html>\n"
    )


_HEADINGS = {
    Outcome.HOLDS: "Every requirement holds",
    Outcome.VIOLATED: "A requirement is violated",
    Outcome.INCONCLUSIVE: "A requirement is inconclusive",
    Outcome.ERROR: "A requirement could not be looked at",
}


# emoji are missing on many machines
_MARKS = {Outcome.HOLDS: "✓", Outcome.VIOLATED: "✗", Outcome.INCONCLUSIVE: "?", Outcome.ERROR: "!"}


def _text(text: str) -> str:
    return escape(clean(text))


def _badge(outcome: Outcome) -> str:
    return f'<span aria-hidden="true">{_MARKS[outcome]}</span>'


def _remarks(report: GateReport) -> str:
    lines = [f"<p class=warning>{_text(a.message)}</p>" for a in report.alerts if not a.requirement]
    lines += [f"<p class=note>{_text(note)}</p>" for note in report.notes]
    if report.outcome is Outcome.INCONCLUSIVE:
        lines.append(f"<p>Inconclusive requirements are treated as: {report.unknown.value}.</p>")
    return "".join(lines)


def _overview(report: GateReport) -> str:
    rows = [
        (
            f'{_badge(f.outcome)} <span class="{f.outcome.value}">{f.outcome.value}</span>',
            f'<a href="#r{i}">{_text(f.id)}</a>',
            _text(f.model),
            _text(f.message),
        )
        for i, f in enumerate(report.findings)
    ]
    return _table("Requirements", ("outcome", "requirement", "network", "found"), rows)


def _finding(f: Finding, number: int) -> str:
    parts = [
        f'<section id="r{number}"><h2>{_badge(f.outcome)} {_text(f.id)}: {f.outcome.value}</h2>',
        f"<p class=lead>{_text(f.message)}</p>",
    ]
    if f.about:
        parts.append(f"<p>{_text(f.about)}</p>")
    parts.append(f"<p class=soft>Required: {_text(f.required)}; stated at {_text(f.file)}:{f.line}.</p>")
    if f.curve:
        parts += [_curve(f, number), _classes(f), _hardest(f)]
    parts.append(_questions(f))
    if f.counterexamples:
        parts.append("<h3>Counterexamples</h3><div class=examples>")
        parts += [_example(c) for c in f.counterexamples]
        parts.append("</div>")
    parts += [f"<p class=note>{_text(note)}</p>" for note in f.notes]
    return "".join(parts) + "</section>"


def _curve(f: Finding, number: int) -> str:
    rows = [
        (_text(p.radius), f"{p.lower:.4f}", f"{p.upper:.4f}", str(p.certified), str(p.broken), str(p.open))
        for p in f.curve
    ]
    head = ("radius", "certified", "at most", "proved", "broken", "open")
    picture, table = plot.curve(f.curve, f"curve{number}"), _table("By radius", head, rows)
    return (
        f"<figure>{picture}<figcaption>Certified accuracy by radius: the lower line is proved, the upper is "
        f"what it can at most be.</figcaption></figure>{table}"
    )


def _classes(f: Finding) -> str:
    rows = [
        tuple(str(n) for n in (c.label, c.samples, c.correct, c.certified, c.broken, c.open))
        for c in f.classes
    ]
    return _table("By class", ("class", "samples", "correct", "certified", "broken", "open"), rows)


def _hardest(f: Finding) -> str:
    if not f.hardest:
        return ""
    rows = [(_text(h.name), str(h.label), h.outcome.value, _text(h.text)) for h in f.hardest]
    return _table("Hardest samples", ("sample", "class", "outcome", "why"), rows)


def _questions(f: Finding) -> str:
    """Every question that stands alone; of the others those that tell why they are open."""
    shown = [q for q in f.questions if q.file or q.message]
    rows = [
        (
            q.outcome.value, _text(q.name), _text(q.message), _text(q.source), f"{q.seconds:.2f}",
            _text(q.certificate),
        )
        for q in shown[:_ROWS]
    ]  # fmt: skip
    if not rows:
        return ""
    more = f"<p>and {len(shown) - _ROWS} more</p>" if len(shown) > _ROWS else ""
    head = ("outcome", "question", "why", "answered by", "seconds", "certificate")
    return (
        f"<details><summary>{len(shown)} questions</summary>{_table('Questions', head, rows)}{more}</details>"
    )


def _example(c: Counterexample) -> str:
    parts = [
        f"<article><h4>{_text(c.question)}</h4><p>{_text(c.text)} (confirmed: {_text(c.confirmed)}).</p>"
    ]
    pictures = image.compare(c.original, c.inputs, c.shape) if c.original else None
    if pictures is not None:
        size = f"width={pictures.width * max(1, _SIDE // pictures.width)}"
        for name, source in (
            ("sample", pictures.original),
            ("counterexample", pictures.changed),
            (f"difference, {pictures.amplified:.3g} times", pictures.difference),
        ):
            parts.append(
                f'<figure class=pixels><img src="{source}" {size} alt="{_text(name)} of {_text(c.question)}">'
                f"<figcaption>{_text(name)}</figcaption></figure>"
            )
    parts.append(_numbers(c))
    if c.certificate:
        parts.append(f"<p class=soft>Witness: <code>{_text(c.certificate)}</code></p>")
    return "".join(parts) + "</article>"


def _numbers(c: Counterexample) -> str:
    rows = [
        (f"output {i}", f"{v:.6g}", "right" if i == c.label else "found" if i == c.winner else "")
        for i, v in enumerate(c.outputs[:_LARGEST])
    ]
    if not c.original:
        rows = [(f"input {i}", f"{v:.9g}", "") for i, v in enumerate(c.inputs[:_LARGEST])] + rows
    return _table(f"Numbers of {c.question}", ("", "value", "class"), [tuple(map(_text, r)) for r in rows])


def _facts(report: GateReport) -> str:
    rows = [("configuration", _text(report.config)), ("seed", str(report.seed))]
    rows += [(f"network {_text(m.name)}", f"{_text(m.path)} <code>{m.sha256}</code>") for m in report.models]
    rows += [("surebound", _text(report.version))]
    rows += [(_text(name), _text(version)) for name, version in report.versions.items()]
    return f"<section><h2>To repeat it</h2>{_table('Inputs and versions', ('what', 'value'), rows)}</section>"


def _table(caption: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Cells are HTML already; the first of a row is its heading."""
    top = "".join(f"<th scope=col>{name}</th>" if name else "<td></td>" for name in head)
    body = "".join(
        "<tr>"
        + "".join(f"<th scope=row>{c}</th>" if i == 0 else f"<td>{c}</td>" for i, c in enumerate(row))
        + "</tr>"
        for row in rows
    )
    return (
        f'<div class=scroll tabindex=0 role=region aria-label="{_text(caption)}"><table>'
        f"<caption>{_text(caption)}</caption><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"
    )
