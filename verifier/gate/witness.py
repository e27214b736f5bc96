"""Witnesses as reports show them."""

from __future__ import annotations

from verifier.gate.prove import Answer, Ask
from verifier.gate.report import Counterexample
from verifier.verdict import Witness

_NAMED = 4


def outputs_of(witness: Witness) -> tuple[float, ...]:
    """Flat outputs, as the nearest floats."""
    return tuple(map(float, witness.y))


def counterexample(ask: Ask, answer: Answer, text: str = "") -> Counterexample | None:
    """The counterexample of an answer about network inputs; None without one."""
    witness = answer.witness
    if witness is None:
        return None
    inputs = ask.property.inputs
    shape = inputs[0].shape if len(inputs) == 1 else ()
    x, y = tuple(map(float, witness.x)), outputs_of(witness)
    told = text or f"the outputs are {_few(y)} at the input {_few(x)}"
    return Counterexample(ask.name, x, (), shape, y, -1, -1, witness.kind, answer.question.certificate, told)


def _few(values: tuple[float, ...]) -> str:
    shown = ", ".join(f"{v:.6g}" for v in values[:_NAMED])
    return f"({shown}, ... {len(values)} numbers)" if len(values) > _NAMED else f"({shown})"
