"""Formats of a gate report: one module each, one row each in :data:`EMITTERS`. Emitters compute nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from verifier.gate.emit import github, gitlab, html, json, junit, markdown, sarif, text
from verifier.gate.report import GateReport

EMITTERS: Mapping[str, Callable[[GateReport], str]] = {
    "text": text.emit,
    "json": json.emit,
    "sarif": sarif.emit,
    "junit": junit.emit,
    "github": github.emit,
    "github-output": github.outputs,
    "gitlab": gitlab.emit,
    "markdown": markdown.emit,
    "html": html.emit,
}
