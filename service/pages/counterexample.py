"""A counterexample beside the input it came from: as pictures where it is one, else as numbers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from bounds.errors import SureboundError
from service.context import Context
from service.pages import image, svg, words
from service.pages.image import Comparison
from service.pages.svg import Chart
from verifier.spec import load, vnnlib2
from workers.jobs.model import Job

_MOST_BYTES: Final = 64 << 20
_MOST_PROPERTY: Final = 2 << 20  # larger properties are not read again for a picture
_ROWS: Final = 10


@dataclass(frozen=True, slots=True)
class Counterexample:
    """What to show.

    Attributes:
        pictures: original, changed, difference; None where the input is no image.
        reference: what the original is, in words.
        largest: (input's number, original, changed, difference) of the largest changes.
        changed, of: how many inputs changed, of how many.
        outputs: the network's outputs at the counterexample; label, winner: their indices or -1.
    """

    pictures: Comparison | None
    reference: str
    largest: tuple[tuple[str, str, str, str], ...]
    changed: int
    of: int
    outputs: Chart | None
    label: int
    winner: int


def of_job(here: Context, job: Job) -> Counterexample | None:
    """The counterexample that a job left; None without one."""
    found = job.artifact("witness.json")
    if found is None or found.size > _MOST_BYTES or not here.artifacts.has(found.sha256):
        return None
    try:
        told: Any = json.loads(here.artifacts.read(found.sha256, most=_MOST_BYTES))
    except ValueError:
        return None  # its file can be fetched all the same
    values: Any = told.get("values", {}) if isinstance(told, dict) else {}
    changed, outputs = image.numbers(values.get("input")), image.numbers(values.get("output"))
    if not changed:
        return None
    shapes: Any = told.get("shapes") or {}
    shape = [int(n) for n in image.numbers(shapes.get("input"))]
    original, reference = _original(here, job, len(changed))
    return describe(original, reference, changed, shape, outputs, words.robustness(job).get("label", -1))


def describe(
    original: Sequence[float],
    reference: str,
    changed: Sequence[float],
    shape: Sequence[int],
    outputs: Sequence[float],
    label: int,
) -> Counterexample:
    """Pictures and tables of two inputs; ``original`` may be empty: then there is nothing to compare with."""
    rows: list[tuple[str, str, str, str]] = []
    count = 0
    if original:
        moved = [(abs(b - a), i) for i, (a, b) in enumerate(zip(original, changed, strict=True)) if a != b]
        count = len(moved)
        for _, i in sorted(moved, reverse=True)[:_ROWS]:
            a, b = original[i], changed[i]
            sign = "+" if b > a else ""
            rows.append((str(i), svg.number(a), svg.number(b), sign + svg.number(b - a)))
    else:
        rows = [(str(i), "–", svg.number(v), "–") for i, v in enumerate(changed[:_ROWS])]
    winner = max(range(len(outputs)), key=lambda i: outputs[i]) if outputs else -1
    shown = [
        (f"output {i}", v, 2 if i == label else 3 if i == winner else 1) for i, v in enumerate(outputs[:20])
    ]
    return Counterexample(
        pictures=image.compare(original, changed, shape) if original else None,
        reference=reference,
        largest=tuple(rows),
        changed=count,
        of=len(changed),
        outputs=svg.bars("outputs", "Outputs at the counterexample", shown, svg.number),
        label=label,
        winner=winner,
    )


def _original(here: Context, job: Job, size: int) -> tuple[list[float], str]:
    """The input that the question was about: given, or the middle of the property's region."""
    if asked := words.robustness(job):
        given = image.numbers(asked.get("input") or asked.get("image"))
        return (given, "the given input") if len(given) == size else ([], "")
    prop: Any = job.request.get("property") or {}
    text = str(prop.get("vnnlib") or "")
    # the parser of the second language is native code, which is kept out of this process
    if not text or len(text) > _MOST_PROPERTY or vnnlib2.is_vnnlib2(text):
        return [], ""
    try:
        with here.reading:
            cases = load.loads(text, source="property").cases
    except SureboundError:
        return [], ""
    if not cases or len(cases[0].lower) != size:
        return [], ""
    middle = [float((lo + hi) / 2) for lo, hi in zip(cases[0].lower, cases[0].upper, strict=True)]
    return middle, "the middle of the property's region"
