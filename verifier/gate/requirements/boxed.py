"""Keys of requirements about a box of network inputs, and how a single question becomes a finding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from bounds.errors import BadInput
from bounds.settings import key
from verifier.gate.prove import Ask
from verifier.gate.report import Counterexample, Finding, Outcome
from verifier.gate.requirements.base import SEMANTICS, Common, Stated, worst
from verifier.gate.witness import counterexample
from verifier.spec.region import Region, box
from verifier.verdict import Witness

if TYPE_CHECKING:
    from verifier.gate.config import GateConfig
    from verifier.gate.run import Desk


@dataclass(frozen=True, slots=True)
class Boxed(Common):
    """A requirement about every input in a box."""

    model: str = key("", "name of the network", required=True)
    lower: tuple[Fraction, ...] = key(
        (), "least input: one number, or one per flat input", required=True, single=True
    )
    upper: tuple[Fraction, ...] = key(
        (), "largest input: one number, or one per flat input", required=True, single=True
    )
    semantics: str = key(
        "real", "what is proved is about: the reals, or float32 arithmetic", choices=SEMANTICS
    )


def region(settings: Boxed, inputs: int, path: str) -> Region:
    """The box.

    Raises:
        BadInput: it does not fit the network, or is empty.
    """
    ends: list[tuple[Fraction, ...]] = []
    for word, given in (("lower", settings.lower), ("upper", settings.upper)):
        if len(given) not in (1, inputs):
            raise BadInput(
                f"{settings.id}: {word} has {len(given)} numbers, {path} takes {inputs}; give one number, or "
                "one per input"
            )
        ends.append(given if len(given) == inputs else given * inputs)
    bad = next((i for i, (a, b) in enumerate(zip(*ends, strict=True)) if a > b), None)
    if bad is not None:
        raise BadInput(
            f"{settings.id}: the box is empty at input {bad} ({float(ends[0][bad]):g} > "
            f"{float(ends[1][bad]):g}); give the smaller number as lower"
        )
    return box(*ends)


def one_input(desk: Desk, name: str) -> int:
    """Flat inputs of a network."""
    return desk.network(name).model.graph.input_size


def check_box(config: GateConfig, stated: Stated) -> None:
    """Complaints about a box that need no network."""
    s: Boxed = stated.settings
    for word in ("lower", "upper"):
        if not getattr(s, word):
            raise config.fail((*stated.key, word), f"'{word}' is empty; give one number, or one per input")


def concluded(
    desk: Desk,
    stated: Stated,
    asks: Sequence[Ask],
    required: str,
    *,
    texts: Callable[[Witness], str] | None = None,
    notes: Sequence[str] = (),
) -> Finding:
    """The finding of a requirement that holds when all its questions do.

    Args:
        desk, stated: whose.
        asks: its questions.
        required: what is required, a sentence.
        texts: from an answered question's witness to the essence of a counterexample, or None.
        notes: remarks.
    """
    s = stated.settings
    answers = desk.prover.ask(s.id, asks)
    examples: list[Counterexample] = []
    for ask, answer in zip(asks, answers, strict=True):
        text = texts(answer.witness) if texts is not None and answer.witness is not None else ""
        example = counterexample(ask, answer, text)
        examples += [] if example is None else [example]
    outcome = worst(a.question.outcome for a in answers)
    undecided = [a.question for a in answers if a.question.outcome is Outcome.INCONCLUSIVE]
    message = {
        Outcome.HOLDS: f"proved: {required}",
        Outcome.VIOLATED: f"violated: {required}",
        Outcome.INCONCLUSIVE: f"not decided whether {required}: {undecided[0].message if undecided else ''}",
        Outcome.ERROR: required,
    }[outcome]
    return Finding(
        s.id, s.kind, s.about, desk.network(s.model).path, desk.file, stated.line, required, outcome, message,
        questions=tuple(a.question for a in answers), counterexamples=tuple(examples[:6]), notes=tuple(notes),
    )  # fmt: skip
