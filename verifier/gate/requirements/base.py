"""What all kinds of requirements have in common: keys, and the two steps from settings to a result."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bounds.settings import key
from verifier.gate.report import Outcome

if TYPE_CHECKING:
    from verifier.gate.config import GateConfig
    from verifier.gate.report import Finding
    from verifier.gate.run import Desk

SEMANTICS = ("real", "float32")


@dataclass(frozen=True, slots=True)
class Common:
    """Keys of every requirement."""

    id: str = key("", "its name: alerts and cached proofs are followed by it", required=True)
    kind: str = key("", "what is required", required=True)
    about: str = key("", "a sentence for people: why it is required")


@dataclass(frozen=True, slots=True)
class Stated:
    """A requirement as it stands in the file.

    Attributes:
        settings: an instance of its kind's class.
        index: place in the file, from 0. line: of its table, from 1.
    """

    settings: Any
    index: int
    line: int

    @property
    def key(self) -> tuple[str, int]:
        """Path of the table, for messages about its keys."""
        return ("requirement", self.index)


def _nothing(_config: GateConfig, _stated: Stated) -> None:
    """No checks beyond those of the keys."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One row of the table of kinds.

    Attributes:
        settings: its keys.
        decide: looks at one requirement.
        models: keys that name models. data: whether the key ``data`` names samples.
        check: complaints that need no network.
    """

    settings: type[Any]
    decide: Callable[[Desk, Stated], Finding]
    models: tuple[str, ...] = ("model",)
    data: bool = False
    check: Callable[[GateConfig, Stated], None] = field(default=_nothing)


_ORDER = (Outcome.ERROR, Outcome.VIOLATED, Outcome.INCONCLUSIVE)


def worst(outcomes: Iterable[Outcome]) -> Outcome:
    """The outcome that counts for all of them.

    Raises:
        AssertionError: there are none; what was not asked does not hold.
    """
    found = set(outcomes)
    if not found:
        raise AssertionError("nothing was asked, so nothing is proved")
    return next((o for o in _ORDER if o in found), Outcome.HOLDS)
