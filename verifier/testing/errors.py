"""How an assertion fails: broken, with the input that breaks it; or undecided, with what would help."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bounds.errors import BadInput
from bounds.graph import Array
from verifier.testing.settings import UNDECIDED


@dataclass(frozen=True, slots=True)
class Counterexample:
    """A confirmed input near a sample, of another class.

    Attributes:
        sample: index of the sample in the batch.
        label: the class that was to hold.
        predicted: the class there.
        x: the input, in the network's shape.
        scores: the outputs that onnxruntime computes there.
        distance: from the sample, in the norm asked about.
    """

    sample: int
    label: int
    predicted: int
    x: Array
    scores: Array
    distance: float


class NotCertified(AssertionError):
    """Some samples have a confirmed counterexample.

    Attributes:
        counterexamples: one for each falsified sample, in the samples' order.
        reports: the report of every sample.
    """

    def __init__(
        self, message: str, counterexamples: Sequence[Counterexample], reports: Sequence[Any]
    ) -> None:
        super().__init__(message)
        self.counterexamples = tuple(counterexamples)
        self.reports = tuple(reports)


class NotLipschitz(AssertionError):
    """A pair of inputs is stretched more than the constant allows (computed in floating point)."""


class Undecided(AssertionError):
    """Neither proved nor broken within the limits: nothing is claimed. The message says what would help."""


class UndecidedWarning(UserWarning):
    """The same as a warning, where the test asked for one."""


def undecided(message: str, policy: str) -> None:
    """Fails, skips or warns, as the policy says.

    Raises:
        Undecided: with "fail".
        BadInput: the policy is none of ``UNDECIDED``.
    """
    __tracebackhide__ = True
    check_policy(policy)
    if policy == "skip":
        import pytest

        pytest.skip(message)
    if policy == "warn":
        warnings.warn(message, UndecidedWarning, stacklevel=3)
        return
    raise Undecided(message)


def check_policy(policy: object) -> None:
    """Raises :class:`BadInput` unless the policy is known."""
    if policy not in UNDECIDED:
        raise BadInput(f"undecided={policy!r} is not known; choose one of {', '.join(UNDECIDED)}")
