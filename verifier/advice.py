"""What would help an undecided run: one table of rules, tried in order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from verifier.verdict import Semantics, UnknownReason

# share of the search that counts as nearly all, and as hardly any
_NEARLY, _HARDLY = 0.5, 0.01
_MANY = 3  # pieces of advice


@dataclass(frozen=True, slots=True)
class Facts:
    """What the rules look at.

    Attributes:
        reason: why the run is undecided.
        semantics: the level asked about.
        closed: share proved; seconds: spent.
        inputs: whether input ranges were split (else operands of nonlinear steps).
        loosest, width: see :class:`verifier.search.region.RootFacts`.
        checkpoint: path of the checkpoint left, or "".
        certificate: whether one was asked for.
    """

    reason: UnknownReason
    semantics: Semantics
    closed: float
    seconds: float
    inputs: bool
    loosest: str
    width: float
    checkpoint: str
    certificate: bool


_LIMITS = (UnknownReason.TIMEOUT, UnknownReason.DOMAINS, UnknownReason.CANCELLED)
_Rule = tuple[Callable[[Facts], bool], Callable[[Facts], str]]

RULES: Final[tuple[_Rule, ...]] = (
    (
        lambda f: f.reason in _LIMITS and f.checkpoint != "",
        lambda f: f"continue with --resume {f.checkpoint}: nothing that is closed is done again",
    ),
    (
        lambda f: f.reason in _LIMITS and f.closed >= _NEARLY,
        lambda f: f"more time: {f.closed:.0%} is closed after {f.seconds:.0f} s",
    ),
    (
        lambda f: f.reason is UnknownReason.PART,
        lambda _: "the other parts: all of them together decide",
    ),
    (
        lambda f: f.reason is UnknownReason.MEMORY,
        lambda _: "more memory (--memory): the open subproblems filled what was allowed",
    ),
    (
        lambda f: f.reason is UnknownReason.PRECISION,
        lambda _: "limits with some room: the property holds or fails within rounding of its limits",
    ),
    (
        lambda f: f.reason is UnknownReason.UNBOUNDED,
        lambda _: "bounds on every input: nothing can be proved without them",
    ),
    (
        lambda f: f.semantics is Semantics.FLOAT32,
        lambda _: "--semantics real: the network's own rounding then costs nothing",
    ),
    (
        lambda f: f.reason in _LIMITS and f.closed < _HARDLY and not f.inputs,
        lambda _: "a smaller radius: hardly any of the search is closed",
    ),
    (
        lambda f: f.reason in _LIMITS and f.closed < _HARDLY and f.inputs,
        lambda _: "a smaller input box, or several properties that share it out",
    ),
    (
        lambda f: f.reason in _LIMITS and f.loosest != "",
        lambda f: (
            f"tighter values at node '{f.loosest}': bounds are loosest there (mean width {f.width:.3g})"
        ),
    ),
    (
        lambda f: f.reason in _LIMITS and f.certificate,
        lambda _: "a run without --certificate: its bounds need not clear zero twice",
    ),
    (lambda f: f.reason in _LIMITS, lambda f: f"more time: {f.closed:.0%} is closed after {f.seconds:.0f} s"),
)


def advice(facts: Facts) -> tuple[str, ...]:
    """The first few pieces of advice that apply, each once."""
    found = dict.fromkeys(say(facts) for applies, say in RULES if applies(facts))
    return tuple(found)[:_MANY]
