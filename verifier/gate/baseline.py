"""The lock file of figures: what a branch must not fall behind."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from bounds.errors import BadInput
from bounds.settings import fraction
from verifier.files import replacing
from verifier.gate.report import Finding, ModelFact
from verifier.version import VERSION

FORMAT, FORMAT_VERSION = "surebound-baseline", 1
FREE = ("model",)  # settings that may change: what the figure is compared for


@dataclass(frozen=True, slots=True)
class Baseline:
    """The figures of one requirement, and what they depend on."""

    settings: Mapping[str, Any]
    measured: Mapping[str, Fraction]


def read_baseline(path: Path) -> dict[str, Baseline]:
    """Figures by requirement.

    Raises:
        BadInput: the file is missing or is no such file.
    """
    try:
        document: Any = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadInput(
            f"{path}: there is no baseline; make one with 'verify gate --update-baseline'"
        ) from None
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror}); check the path") from None
    except (ValueError, RecursionError):
        raise BadInput(f"{path}: is no JSON; make it again with 'verify gate --update-baseline'") from None
    again = "make it again with 'verify gate --update-baseline'"
    try:
        if document["format"] != FORMAT or document["format_version"] != FORMAT_VERSION:
            raise BadInput(f"{path}: is no {FORMAT} of version {FORMAT_VERSION}; {again}")
        return {str(name): _entry(one) for name, one in document["requirements"].items()}
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise BadInput(f"{path}: is damaged ({type(error).__name__}: {error}); {again}") from None


def _entry(one: Mapping[str, Any]) -> Baseline:
    measured: dict[str, Fraction] = {}
    for name, text in one["measured"].items():
        number = fraction(text)
        if number is None:
            raise ValueError(f"'{text}' is no number")
        measured[str(name)] = number
    return Baseline(dict(one["settings"]), measured)


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """In what two figures' settings differ, other than the network."""
    names = [n for n in dict.fromkeys((*before, *now)) if n not in FREE]
    return [
        f"{n} is {now.get(n, 'not given')}, in the baseline {before.get(n, 'not given')}"
        for n in names
        if before.get(n) != now.get(n)
    ]


def write_baseline(path: Path, findings: Iterable[Finding], models: Iterable[ModelFact]) -> None:
    """Writes the figures of all findings that have some.

    Raises:
        BadInput: it cannot be written.
    """
    document = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "version": VERSION,
        "models": {m.name: m.sha256 for m in models},
        "requirements": {
            f.id: {"kind": f.kind, "settings": dict(f.settings), "measured": dict(f.measured)}
            for f in findings
            if f.measured
        },
    }
    with replacing(path) as file:
        file.write((json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode())
