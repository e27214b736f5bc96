"""The same request never costs twice: earlier answers that answer a new question."""

from __future__ import annotations

from service.context import Context
from workers.jobs.model import Answer, Job, Kind, NewJob


def earlier_answer(here: Context, asked: NewJob) -> Job | None:
    """A finished job of the same tenant whose answer is right for the new one as well, with its evidence."""
    found = here.store.answered(asked.tenant, asked.question) if asked.question else None
    return found if found is not None and evidence(here, asked, found) else None


def evidence(here: Context, asked: NewJob, found: Job) -> bool:
    """Whether the earlier job left what the new one wants, and its files are still there."""
    wants = asked.kind is Kind.VERIFY and bool(asked.request["options"]["certificate"])
    if wants and found.answer is Answer.VERIFIED and found.artifact("certificate") is None:
        return False
    return all(here.artifacts.has(a.sha256) for a in found.artifacts)
