"""The exit codes of every command."""

from __future__ import annotations

import enum


class Exit(enum.IntEnum):
    """What the exit code says."""

    ANSWERED = 0  # a verdict was printed, whichever it is
    FAILED = 2  # no verdict: bad input, or a defect
    INTERRUPTED = 130  # by SIGINT; what was known by then is printed and saved (SIGTERM: 143)
