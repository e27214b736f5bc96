"""Reports of one job, made of its row: JSON, SARIF 2.1.0, JUnit XML, HTML. Nothing is computed."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable
from typing import Any, Final
from xml.sax.saxutils import quoteattr

from service.views import job_json
from verifier.version import VERSION
from workers.jobs.model import Answer, Job, State

_CONTROL: Final = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_SCHEMA: Final = "https://json.schemastore.org/sarif-2.1.0.json"
_INFORMATION: Final = "https://pypi.org/project/surebound/"

# verdict (or None: the job failed) -> rule, level, sentence; a proof is no finding
_FINDINGS: Final[dict[Answer | None, tuple[str, str, str]]] = {
    Answer.FALSIFIED: ("SB001", "error", "The property is violated; the job's witness shows where"),
    Answer.UNKNOWN: ("SB002", "warning", "The property was not decided"),
    None: ("SB003", "error", "The job did not end with a verdict"),
}


def sentence(job: Job) -> str:
    """The end of a job in words."""
    match job.state, job.answer:
        case State.FINISHED, Answer.VERIFIED:
            return "Proved: what was asked holds."
        case State.FINISHED, Answer.FALSIFIED:
            return "Violated: there is a counterexample."
        case State.FINISHED, _:
            return f"Not decided ({job.reason or 'no reason given'})."
        case State.FAILED, _:
            return f"Failed ({job.reason or 'no reason given'}): {job.error}"
        case state, _:
            return f"{state.value.capitalize()}."


def as_json(job: Job) -> bytes:
    """The row."""
    return (json.dumps(job_json(job), indent=2, allow_nan=False) + "\n").encode()


def as_sarif(job: Job) -> bytes:
    """One run; results only where there is something to look at."""
    rules = [
        {"id": rule, "name": name, "shortDescription": {"text": text}}
        for (rule, _, text), name in zip(_FINDINGS.values(), ("Falsified", "Unknown", "Error"), strict=True)
    ]
    results: list[dict[str, Any]] = []
    if job.answer in _FINDINGS:
        rule, level, _ = _FINDINGS[job.answer]
        results.append(
            {
                "ruleId": rule,
                "level": level,
                "message": {"text": clean(sentence(job))},
                "locations": [
                    {
                        "physicalLocation": {
                            "artifactLocation": {"uri": "property.vnnlib"},
                            "region": {"startLine": 1},
                        }
                    }
                ],
                "partialFingerprints": {"sureboundQuestion/v1": job.question or job.id},
                "properties": {"job": job.id, "model": job.request.get("model")},
            }
        )
    run = {
        "tool": {
            "driver": {
                "name": "surebound",
                "version": VERSION,
                "informationUri": _INFORMATION,
                "rules": rules,
            }
        },
        "results": results,
    }
    document = {"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}
    return (json.dumps(document, indent=2, allow_nan=False) + "\n").encode()


def as_junit(job: Job) -> bytes:
    """One suite with one case."""
    seconds = (job.finished or job.created) - (job.started or job.finished or job.created)
    text = clean(sentence(job))
    inner, failures, errors, skipped = "", 0, 0, 0
    if job.state is not State.FINISHED:
        inner, errors = f"<error message={quoteattr(text)}/>", 1
    elif job.answer is Answer.FALSIFIED:
        inner, failures = f'<failure type="falsified" message={quoteattr(text)}/>', 1
    elif job.answer is not Answer.VERIFIED:
        inner, skipped = f"<skipped message={quoteattr(text)}/>", 1
    model = quoteattr(str(job.request.get("model", job.kind.value)))
    counts = f'tests="1" failures="{failures}" errors="{errors}" skipped="{skipped}"'
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<testsuites {counts}><testsuite name={model} {counts} time="{seconds:.3f}">'
        f'<properties><property name="version" value={quoteattr(VERSION)}/>'
        f'<property name="job" value={quoteattr(job.id)}/></properties>'
        f'<testcase classname={model} name={quoteattr(job.kind.value)} time="{seconds:.3f}">{inner}'
        "</testcase></testsuite></testsuites>\n"
    ).encode()


def as_html(job: Job) -> bytes:
    """A page that stands alone: no script, no style from elsewhere."""
    rows = "".join(
        f"<tr><th scope=row>{html.escape(name)}</th><td>{html.escape(clean(_cell(value)))}</td></tr>"
        for name, value in job_json(job).items()
        if value not in (None, "", [], {}) and name not in ("links", "artifacts")
    )
    title = f"surebound: job {job.id}"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>{html.escape(title)}</title></head>"
        f"<body><main><h1>{html.escape(title)}</h1><p>{html.escape(clean(sentence(job)))}</p>"
        f"<table><caption>What was asked and found</caption><tbody>{rows}</tbody></table>"
        "</main></body></html>\n"
    ).encode()


def _cell(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, indent=1)


def clean(text: str) -> str:
    """Without characters that XML 1.0 (and HTML) forbids."""
    return _CONTROL.sub("?", text)


RENDERERS: Final[dict[str, Callable[[Job], bytes]]] = {
    "json": as_json,
    "sarif": as_sarif,
    "xml": as_junit,
    "html": as_html,
}
