"""What a check finds. Imports nothing heavy: packages that add checks import it."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable
from dataclasses import dataclass


class Level(enum.Enum):
    """How much a finding matters; only a problem makes the command fail."""

    OK = "ok"
    NOTE = "note"  # optional and missing, or worth knowing
    PROBLEM = "problem"  # something that verify relies on does not hold


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report.

    Attributes:
        subject: what was looked at.
        level: how it is.
        found: what was seen.
        advice: what to do about it, or "".
    """

    subject: str
    level: Level
    found: str
    advice: str = ""


Check = Callable[[], Iterable[Finding]]
