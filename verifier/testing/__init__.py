"""Assertions about neural networks for test suites; ``pytest`` finds the plugin by itself.

Importing this package loads nothing heavy; the names below load what they need on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from verifier.testing.certified import assert_certified
    from verifier.testing.errors import (
        Counterexample,
        NotCertified,
        NotLipschitz,
        Undecided,
        UndecidedWarning,
    )
    from verifier.testing.stretch import assert_lipschitz

__all__ = [
    "Counterexample",
    "NotCertified",
    "NotLipschitz",
    "Undecided",
    "UndecidedWarning",
    "assert_certified",
    "assert_lipschitz",
]

_HOMES = {
    "assert_certified": "verifier.testing.certified",
    "assert_lipschitz": "verifier.testing.stretch",
    **dict.fromkeys(
        ("Counterexample", "NotCertified", "NotLipschitz", "Undecided", "UndecidedWarning"),
        "verifier.testing.errors",
    ),
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
