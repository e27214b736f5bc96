"""All checks in order: ours, then those of other installed packages (entry points ``surebound.checks``)."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import entry_points
from typing import Any, Final

from verifier.doctor import machine, numerics, packages, selftest
from verifier.doctor.model import Check, Finding, Level

GROUP: Final = "surebound.checks"
# numerics come after packages: these have then loaded everything that could change the arithmetic
CHECKS: Final[tuple[tuple[str, Check], ...]] = (
    ("python", machine.check_python),
    ("packages", packages.check_required),
    ("extras", packages.check_extras),
    ("threads", machine.check_threads),
    ("memory", machine.check_memory),
    ("temporary files", machine.check_temporary),
    ("runtime", machine.check_runtime),
    ("torch", numerics.check_torch),
    ("floats", numerics.check_float),
    ("rounding", numerics.check_rounding),
    ("subnormals", numerics.check_subnormals),
    ("products", numerics.check_products),
    ("engine", selftest.check_engine),
)


def diagnose() -> list[Finding]:
    """Runs every check; one that fails itself is a problem, not an end."""
    found: list[Finding] = []
    for name, check in CHECKS:
        found += _guarded(name, check)
    for entry in entry_points(group=GROUP):
        found += _guarded(entry.name, lambda entry=entry: entry.load()())
    return found


def _guarded(name: str, check: Check) -> Iterator[Finding]:
    try:
        yield from check()
    except Exception as error:  # nothing that a check meets may keep the others from running
        text = " ".join(f"the check failed: {type(error).__name__}: {error}".split())
        yield Finding(name, Level.PROBLEM, text, "please report it if the message does not help")


def as_json(found: list[Finding]) -> dict[str, Any]:
    """The report as plain values."""
    return {
        "format": "surebound-doctor",
        "format_version": 1,
        "healthy": not any(f.level is Level.PROBLEM for f in found),
        "findings": [
            {"subject": f.subject, "level": f.level.value, "found": f.found, "advice": f.advice}
            for f in found
        ],
    }
