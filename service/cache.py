"""The same request never costs twice: earlier answers that answer a new question."""

from __future__ import annotations

import json
from typing import Any, Final

from bounds.errors import SureboundError
from service.context import Context
from service.implied import proved_by, read, violated_by
from workers.jobs.model import Answer, Job, Kind, NewJob

# how many earlier jobs are compared, and how large a witness may be
_COMPARED: Final = 20
_WITNESS: Final = 4 << 20


def earlier_answer(here: Context, asked: NewJob) -> Job | None:
    """A finished job of the same tenant whose answer is right for the new one as well, with its evidence:
    the same question, a proof of more, or a counterexample that counts here too."""
    found = _earlier(here, asked)
    # its files get another owner: they must not be removed as old in this very moment
    if found is not None and all(here.artifacts.touch(a.sha256) for a in found.artifacts):
        return found
    return None


def _earlier(here: Context, asked: NewJob) -> Job | None:
    same = here.store.answered(asked.tenant, asked.question) if asked.question else None
    if same is not None and evidence(here, asked, same):
        return same
    if asked.kind is not Kind.VERIFY or not asked.family:
        return None
    related = here.store.related(asked.tenant, asked.family, _COMPARED)
    if not related:
        return None
    with here.reading:
        return next(
            (job for job in related if evidence(here, asked, job) and implies(here, asked, job)), None
        )


def evidence(here: Context, asked: NewJob, found: Job) -> bool:
    """Whether the earlier job left what the new one wants, and its files are still there."""
    wants = asked.kind is Kind.VERIFY and bool(asked.request["options"]["certificate"])
    if wants and found.answer is Answer.VERIFIED and found.artifact("certificate") is None:
        return False
    return all(here.artifacts.has(a.sha256) for a in found.artifacts)


def implies(here: Context, asked: NewJob, found: Job) -> bool:
    """Whether the answer to another question about the same network answers this one."""
    if found.request.get("model") != asked.request["model"] or semantics(found.request) != semantics(
        asked.request
    ):
        return False  # families are made of these; what a verdict rests on is compared all the same
    if found.answer is Answer.VERIFIED:
        if (found.request["property"]["vnnlib"] is None) != (asked.request["property"]["vnnlib"] is None):
            return False
        new, old = read(asked.request["property"]), read(found.request["property"])
        return new is not None and old is not None and proved_by(new, old)
    witness = found.artifact("witness.json")
    if found.answer is not Answer.FALSIFIED or witness is None:
        return False
    try:
        data = here.artifacts.read(witness.sha256, most=_WITNESS)
        outputs = len(json.loads(data)["values"]["output"])
    except (SureboundError, ValueError, KeyError, TypeError):
        return False  # a file that is lost or damaged answers nothing
    new = read(asked.request["property"], outputs)
    return new is not None and violated_by(new, data)


def semantics(request: dict[str, Any]) -> Any:
    """What a proof is about."""
    return request.get("options", {}).get("semantics")
