"""The closed list of errors surebound raises on purpose.

Every message says *what* is wrong, *where*, and *what to do next*, in one line. The command line
prints ``str(error)`` and exits 2; anything that is not a :class:`SureboundError` is a defect.
This module imports nothing, so that every package (the checker included) may use it.
"""

from __future__ import annotations


class SureboundError(Exception):
    """Root of all deliberate errors; ``str()`` is a complete one-line message for a user."""


class ModelInvalid(SureboundError):
    """The model file cannot be read, is malformed, or holds values nobody can reason about."""


class ModelUnsupported(SureboundError):
    """The model is valid but uses an operator or form that surebound does not analyse."""

    def __init__(self, op: str, node: str, detail: str) -> None:
        self.op = op
        self.node = node
        super().__init__(f"unsupported operator {op} at node '{node}': {detail}")


class LimitExceeded(SureboundError):
    """An input is larger than a stated safety limit (nodes, bytes, decompressed size)."""


class SpecError(SureboundError):
    """A property cannot be read; carries file, line and column (1-based, 0 when unknown)."""

    def __init__(self, message: str, *, file: str = "", line: int = 0, column: int = 0) -> None:
        self.file = file
        self.line = line
        self.column = column
        where = f"{file}:{line}:{column}: " if line else (f"{file}: " if file else "")
        super().__init__(where + message)


class QueryMismatch(SureboundError):
    """Model and property do not fit together (arity, names, element types)."""


class CertificateRejected(SureboundError):
    """A certificate does not prove what it claims; ``step`` names the check that failed."""

    def __init__(self, step: str, detail: str) -> None:
        self.step = step
        super().__init__(f"certificate rejected at step '{step}': {detail}")


class CertificateInvalid(SureboundError):
    """A certificate file cannot be read, or has an unknown format or version."""


class BadInput(SureboundError):
    """Any other input a user gave that cannot be used (file unreadable, option out of range)."""
